//! The child processes of a demo: found ports, kept stderr, ended before the demo ends.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdout, Command};

/// Nodes say goodbye to their peers when asked to end; whoever needs longer than this is ended all the same.
const GRACE: Duration = Duration::from_secs(3);

/// Lines of a child's stderr that an error quotes.
const TAIL_LINES: usize = 8;

/// Below the range that systems take ports of outgoing connections from (32768 on Linux): a port found here is not
/// taken by somebody's connection before the child listens on it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A child did not do what it was started for. It has been ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// A program, its own for the most part, could not be started.
    #[error("cannot start `{name}`: {source}")]
    Start {
        /// What the child was to be called.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended by itself.
    #[error("`{name}` ended early ({status}); its last words:\n{tail}")]
    Ended {
        /// The child.
        name: String,
        /// How it ended.
        status: String,
        /// The end of its stderr.
        tail: String,
    },
    /// It runs, and does not get ready.
    #[error("`{name}` was not ready within {seconds} s ({waiting_for}); its last words:\n{tail}")]
    NotReady {
        /// The child.
        name: String,
        /// How long the demo waited.
        seconds: u64,
        /// What it waited for.
        waiting_for: String,
        /// The end of its stderr.
        tail: String,
    },
    /// No port is free for the children.
    #[error("no free port between {from} and {to} on 127.0.0.1", from = PORTS.start, to = PORTS.end)]
    NoPort,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    child: Child,
    stderr: PathBuf,
}

impl Process {
    /// Starts this program again with `args`; its stderr goes to a file under `logs`. Its stdin stays open as long as
    /// this process lives.
    pub(super) fn start(name: &str, args: &[String], logs: &Path) -> Result<Self, ProcessError> {
        let started = |source| ProcessError::Start { name: name.to_owned(), source };
        Self::start_other(name, &std::env::current_exe().map_err(started)?, args, logs)
    }

    /// The same of another program.
    pub(super) fn start_other(name: &str, program: &Path, args: &[String], logs: &Path) -> Result<Self, ProcessError> {
        let stderr = logs.join(format!("{name}.stderr"));
        let spawn = || {
            Command::new(program)
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(File::create(&stderr)?)
                .kill_on_drop(true)
                .spawn()
        };
        let child = spawn().map_err(|source| ProcessError::Start { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), child, stderr })
    }

    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// An error when the child has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status.to_string())),
            Err(error) => Err(self.ended(error.to_string())),
        }
    }

    fn ended(&self, status: String) -> ProcessError {
        ProcessError::Ended { name: self.name.clone(), status, tail: self.tail() }
    }

    pub(super) fn not_ready(&self, waited: Duration, waiting_for: String) -> ProcessError {
        ProcessError::NotReady { name: self.name.clone(), seconds: waited.as_secs(), waiting_for, tail: self.tail() }
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        if last.is_empty() { "  (it said nothing)".to_owned() } else { format!("  {}", last.join("\n  ")) }
    }

    /// Asks the child to end.
    fn terminate(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::debug!(%error, name = self.name, "cannot signal");
        }
    }
}

/// Asks all of them to end, waits a little, and kills whoever is left.
pub(super) async fn stop_all(mut processes: Vec<Process>) {
    processes.iter().for_each(Process::terminate);
    let all_ended = async {
        for process in &mut processes {
            let _ = process.child.wait().await;
        }
    };
    if tokio::time::timeout(GRACE, all_ended).await.is_err() {
        tracing::debug!("killing children that did not end when asked");
    }
}

/// Ports on loopback that nobody listens on, neither TCP nor UDP. All are found together, so that they differ.
pub(super) fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, ProcessError> {
    let start = rand::random_range(PORTS);
    let candidates = (start..PORTS.end).chain(PORTS.start..start);
    let held: Vec<_> = candidates.filter_map(hold).take(count).collect();
    if held.len() < count {
        return Err(ProcessError::NoPort);
    }
    Ok(held.into_iter().map(|(address, _, _)| address).collect())
}

fn hold(port: u16) -> Option<(SocketAddr, TcpListener, UdpSocket)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Some((address, TcpListener::bind(address).ok()?, UdpSocket::bind(address).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_ports_are_free_and_differ() {
        let mut found = free_addresses(12).expect("a machine has twelve free ports");
        for address in &found {
            assert!(TcpListener::bind(address).is_ok(), "{address}");
        }
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 12);
    }
}
