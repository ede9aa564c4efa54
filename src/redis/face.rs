//! A node that speaks Redis: callers that balance over a sorted set of pods by load point their client at it and keep their
//! code.
//!
//! Its threads are its own: a script that takes long holds up other clients of the face, and nothing else of the node.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use plimsoll_redis::{Options, Server};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, error};

use super::FaceOptions;
use super::load_view::LoadView;
use crate::driver::door::{Door, Room};
use crate::driver::tls::ServerTls;
use crate::driver::tls::listen::{NoTls, Spoken};
use crate::driver::watched::Text;
use crate::node::Node;

/// Connections beside those that are served, which are told that there are too many.
const TOLD_NO: usize = 64;
/// A password that is shorter can be tried out.
const PASSWORD_AT_LEAST: usize = 8;

/// Why a node cannot speak Redis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaceError {
    /// The file of the password cannot be read.
    #[error("cannot read the Redis password `{}`: {reason}; make one with: plimsoll secret > {}", path.display(), path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It can be guessed, or no client can send it.
    #[error("the Redis password in `{}` {problem}; make one with: plimsoll secret > {}", path.display(), path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gave no thread, entropy, or listener.
    #[error("cannot start the Redis face: {0}")]
    Start(#[from] io::Error),
}

/// A running face. Ends by [`Face::close`], or when it is dropped.
#[derive(Debug)]
pub struct Face {
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Face {
    /// Serves `listener` for `node` by `options`; with `tls` where they want it.
    ///
    /// # Errors
    /// [`FaceError`]; nothing is served then.
    pub fn start(
        node: &Node,
        options: &FaceOptions,
        tls: Option<ServerTls>,
        listener: TcpListener,
    ) -> Result<Face, FaceError> {
        // What callers are shown are pods that are well.
        node.look_after_pods();
        let mut of_server = Options::default();
        of_server.password = options.password_file.as_deref().map(password).transpose()?;
        of_server.max_clients = options.maxclients;
        of_server.idle = options.timeout;
        of_server.memory_bytes = options.maxmemory;
        of_server.request_bytes = options.query_limit;
        of_server.string_bytes = options.query_limit;
        of_server.reply_bytes = options.output_limit;
        of_server.script_limit = options.script_limit;
        of_server.script_bytes = options.script_memory;
        of_server.seed = SysRng.try_next_u64().map_err(io::Error::other)?;
        let server = Server::new(&of_server, Some(Box::new(LoadView::new(node.picker().clone(), options.set.clone()))));
        let listener = listener.into_std()?;
        let room = Room::new(options.maxclients.saturating_add(TOLD_NO));
        let tls = tls.filter(|_| options.tls);
        let runtime =
            Builder::new_multi_thread().worker_threads(options.threads).thread_name("redis").enable_all().build()?;
        let (end, ended) = watch::channel(false);
        let serving = move || {
            let served = runtime.block_on(async {
                let door = Door::new(TcpListener::from_std(listener)?, "redis", room);
                serve(door, server, tls, ended).await;
                Ok::<(), io::Error>(())
            });
            if let Err(error) = served {
                error!(%error, "the Redis face ended");
            }
            // A script may still run, for as long as it may.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("redis-face".into()).spawn(serving)?;
        Ok(Face { end, thread: Some(thread) })
    }

    /// Closes all connections, and gives back what their callers charged.
    pub async fn close(mut self) {
        self.end.send_replace(true);
        let Some(thread) = self.thread.take() else { return };
        // A thread that panicked is over too.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.end.send_replace(true);
    }
}

async fn serve(mut door: Door, server: Server, tls: Option<ServerTls>, mut ended: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let housekeeper = server.clone();
    let housekeeping = tokio::spawn(async move { housekeeper.housekeeping().await });
    loop {
        tokio::select! {
            biased;
            // An error: its handle was dropped.
            _ = ended.wait_for(|end| *end) => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = door.accept() => {
                let (server, tls) = (server.clone(), tls.clone());
                connections.spawn(async move {
                    connection(&server, tls, stream).await;
                    drop(place);
                });
            }
        }
    }
    drop(door);
    housekeeping.abort();
    server.shutdown();
    while connections.join_next().await.is_some() {}
}

async fn connection(server: &Server, tls: Option<ServerTls>, stream: TcpStream) {
    let (Ok(addr), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let Some(tls) = tls else { return server.serve(stream, addr, local).await };
    match tls.accept(stream, Spoken::Front).await {
        Ok(stream) => server.serve(stream, addr, local).await,
        Err(NoTls::Plain(_)) => debug!("somebody spoke to the Redis face without TLS"),
        Err(NoTls::Failed(error)) => debug!(%error, "no TLS with a client of the Redis face"),
    }
}

fn password(path: &Path) -> Result<String, FaceError> {
    let text = Text::read(path)
        .map_err(|unreadable| FaceError::Unreadable { path: unreadable.path, reason: unreadable.reason })?;
    let wrong = |problem: String| FaceError::Password { path: path.to_owned(), problem };
    let text = String::from_utf8(text.bytes).map_err(|_| wrong("is no UTF-8".into()))?;
    match text.trim() {
        short if short.len() < PASSWORD_AT_LEAST => {
            Err(wrong(format!("has {} bytes: it needs at least {PASSWORD_AT_LEAST}", short.len())))
        }
        password => Ok(password.into()),
    }
}
