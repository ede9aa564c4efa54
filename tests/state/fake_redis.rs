//! A Redis that does what a test tells it: answers, says nothing, says half, closes, refuses. It knows the scripts by what they say
//! of themselves, keeps no data, and remembers what it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of the calls of a script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Does {
    /// The usual answer: a pick takes the candidate at this position.
    Answers(usize),
    /// It answers after so long.
    Dawdles(Duration),
    /// It never answers, and nothing that is asked on the same connection afterwards.
    SaysNothing,
    /// It sends so much of the answer, and closes.
    BreaksOff(&'static str),
    /// It answers with this error.
    Refuses(&'static str),
}

/// One call: the script's name and its arguments, the client first.
pub(crate) type Call = (&'static str, Vec<String>);

#[derive(Default)]
struct State {
    does: BTreeMap<&'static str, Does>,
    names: BTreeMap<String, &'static str>,
    calls: Vec<Call>,
    connections: usize,
}

#[derive(Clone, Default)]
pub(crate) struct FakeRedis(Arc<Mutex<State>>);

/// A server; its port is closed when it is dropped, and its connections with it.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeRedis {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on calls of `script` end so.
    pub(crate) fn let_it(&self, script: &'static str, does: Does) {
        self.state().does.insert(script, does);
    }

    /// It forgets its scripts.
    pub(crate) fn forget_scripts(&self) {
        self.state().names.clear();
    }

    /// The calls of `script` so far: their arguments.
    pub(crate) fn calls(&self, script: &str) -> Vec<Vec<String>> {
        self.state().calls.iter().filter(|(name, _)| *name == script).map(|(_, args)| args.clone()).collect()
    }

    /// What was told: `+`, number, pod, cost and `-`, number; all calls in a row.
    pub(crate) fn told(&self) -> Vec<String> {
        self.calls("tell").into_iter().flat_map(|args| args.into_iter().skip(1)).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state().connections
    }

    pub(crate) async fn serve(&self, addr: SocketAddr) -> Serving {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let fake = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                fake.state().connections += 1;
                connections.spawn(fake.clone().talk(stream));
            }
        });
        Serving { addr, task }
    }

    async fn talk(self, stream: TcpStream) {
        let mut stream = BufStream::new(stream);
        while let Some(command) = read(&mut stream).await {
            let Some(answer) = self.answer(&command).await else { return };
            if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            if !answer.ends_with("\r\n") {
                return;
            }
        }
    }

    /// None: nothing more is said on this connection.
    async fn answer(&self, command: &[String]) -> Option<String> {
        match command[0].as_str() {
            "SCRIPT" => {
                let hash = redis::Script::new(&command[2]).get_hash().to_owned();
                self.state().names.insert(hash.clone(), name_of(&command[2]));
                Some(format!("${}\r\n{hash}\r\n", hash.len()))
            }
            "EVALSHA" => {
                let Some(name) = self.state().names.get(&command[1]).copied() else {
                    return Some("-NOSCRIPT No matching script.\r\n".to_owned());
                };
                self.state().calls.push((name, command[5..].to_vec()));
                self.done(name).await
            }
            _ => Some("+OK\r\n".to_owned()),
        }
    }

    async fn done(&self, name: &'static str) -> Option<String> {
        let does = self.state().does.get(name).cloned().unwrap_or(Does::Answers(1));
        let usual = if name == "heartbeat" || name == "reconcile" { 0 } else { 1 };
        match does {
            Does::Answers(position) if name == "pick" => Some(format!(":{position}\r\n")),
            Does::Answers(_) => Some(format!(":{usual}\r\n")),
            Does::Dawdles(long) => {
                tokio::time::sleep(long).await;
                Some(format!(":{usual}\r\n"))
            }
            Does::SaysNothing => std::future::pending().await,
            Does::BreaksOff(part) => Some(part.to_owned()),
            Does::Refuses(error) => Some(format!("-{error}\r\n")),
        }
    }
}

fn name_of(script: &str) -> &'static str {
    let known = [
        ("Picks, charges", "pick"),
        ("What changed", "tell"),
        ("A client tells all", "register"),
        ("A client lives", "heartbeat"),
        ("Makes scores", "reconcile"),
        ("A client goes", "leave"),
    ];
    known.iter().find(|(begins, _)| script.contains(&format!("\n-- {begins}"))).unwrap().1
}

/// One command: an array of bulk strings.
async fn read(stream: &mut BufStream<TcpStream>) -> Option<Vec<String>> {
    let count = number(stream).await?;
    let mut command = Vec::new();
    for _ in 0..count {
        let mut text = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut text).await.ok()?;
        text.truncate(text.len() - 2);
        command.push(String::from_utf8(text).unwrap());
    }
    Some(command)
}

async fn number(stream: &mut BufStream<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim().parse().ok()
}
