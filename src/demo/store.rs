//! The Redis of a phase whose picks ask one: the machine's own `redis-server`, started for the phase on a free port and with
//! nothing on disk, or one that runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fleet::FleetError;
use super::process::{Process, ProcessError, free_addresses, stop_all};
use crate::redis::RedisAddress;

/// A server without data answers within a few milliseconds of its start.
const READY_WITHIN: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Runs what it is given until its own standard input ends, so that no server outlives a demo that was killed. A server knows
/// nothing of that by itself.
const UNTIL_STDIN_ENDS: &str = r#"exec 3<&0
"$@" </dev/null & server=$!
trap 'kill $server 2>/dev/null' TERM
{ cat >/dev/null; kill $server 2>/dev/null; } <&3 & watch=$!
wait $server; code=$?
wait $server 2>/dev/null
kill $watch 2>/dev/null
exit $code"#;

/// Where the Redis of a demo comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Redis {
    /// This program, `redis-server`.
    Start(PathBuf),
    /// One that runs.
    Running(RedisAddress),
}

impl Redis {
    /// `redis-server`, where the system would find it.
    pub(super) fn on_path() -> Option<Redis> {
        let path = std::env::var_os("PATH")?;
        let mut found = std::env::split_paths(&path).map(|folder| folder.join("redis-server"));
        found.find(|program| program.is_file()).map(Redis::Start)
    }
}

/// The Redis of one phase. Dropping it ends it, if the demo started it.
#[derive(Debug)]
pub(super) struct Store {
    address: String,
    process: Option<Process>,
}

impl Store {
    pub(super) async fn start(redis: &Redis, files: &Path) -> Result<Store, FleetError> {
        let program = match redis {
            Redis::Running(address) => return Ok(Store { address: address.to_string(), process: None }),
            Redis::Start(program) => program.to_string_lossy().into_owned(),
        };
        let addr = free_addresses(1)?[0];
        let (ip, port, folder) = (addr.ip().to_string(), addr.port().to_string(), files.to_string_lossy().into_owned());
        let mut args = vec!["-c", UNTIL_STDIN_ENDS, "redis-server", &program, "--bind", &ip, "--port", &port];
        args.extend(["--save", "", "--appendonly", "no", "--dir", &folder]);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let mut process = Process::start_other("redis-server", Path::new("sh"), &args, files)?;
        let deadline = Instant::now() + READY_WITHIN;
        while !answers(addr).await {
            process.check()?;
            if Instant::now() > deadline {
                return Err(process.not_ready(READY_WITHIN, "does not answer PING".to_owned()).into());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(Store { address: format!("redis://{addr}"), process: Some(process) })
    }

    /// What the nodes of the phase are configured by. Keys of their own, so that no phase finds what another one left.
    pub(super) fn config(&self) -> String {
        let run: u64 = rand::random();
        format!("[state]\nmode = 'redis'\nredis = '{}'\nprefix = '{{plimsoll-demo-{run:016x}}}:'\n", self.address)
    }

    pub(super) fn check(&mut self) -> Result<(), ProcessError> {
        self.process.iter_mut().try_for_each(Process::check)
    }

    pub(super) async fn stop(self) {
        stop_all(self.process.into_iter().collect()).await;
    }
}

async fn answers(addr: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"+PONG\r\n")
    };
    matches!(tokio::time::timeout(READY_WITHIN / 10, ask).await, Ok(Ok(true)))
}
