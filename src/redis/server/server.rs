//! The server as its owner holds it: it is given connections and served time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;

use crate::clock::unix_ms;
use crate::connection::Connection;
use crate::engine::Engine;
use crate::live::LiveSet;
use crate::lua::{Scripts, Watch};
use crate::options::Options;
use crate::peer::Peer;
use crate::registry::Registry;

/// How often expired keys are looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// Keys that one look under the lock removes at most.
const EXPIRED_AT_ONCE: usize = 200;
/// So long a thread waits for the lock before it lets others have the thread. Commands take microseconds; what holds the
/// lock for longer is a script or one command over very much.
const PATIENCE: Duration = Duration::from_micros(500);

/// And then it asks again.
const AGAIN: Duration = Duration::from_millis(1);

/// A script holds the lock for too long.
pub(crate) struct Busy;

/// A keyspace and those who talk to it. Clones are the same server. Whoever owns it accepts connections and hands them to
/// [`Server::serve`]; it opens nothing by itself. A script that takes long keeps a thread: where it is to be possible to end
/// one (SCRIPT KILL), the runtime needs two threads, and a runtime of its own is best.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Mutex<Engine>,
    next_client: AtomicU64,
    is_closing: AtomicBool,
    registry: Arc<Registry>,
    /// What is known of a script that runs.
    watch: Arc<Watch>,
    /// What the buffers of all connections take.
    buffer_bytes: AtomicUsize,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// An empty keyspace. One key may be kept by `live`.
    pub fn new(options: &Options, live: Option<Box<dyn LiveSet>>) -> Server {
        let mut engine = Engine::new(options.seed, live);
        engine.scripts = Scripts::new(options.limits());
        engine.settings = options.settings();
        engine.now_ms = unix_ms();
        engine.began_ms = engine.now_ms;
        engine.clients.set(&engine.settings);
        engine.scripts.watch().when_long(wake_a_thread);
        let shared = Shared {
            watch: engine.scripts.watch().clone(),
            registry: engine.clients.clone(),
            engine: Mutex::new(engine),
            next_client: AtomicU64::new(1),
            is_closing: AtomicBool::new(false),
            buffer_bytes: AtomicUsize::new(0),
        };
        Server { shared: Arc::new(shared) }
    }

    /// Serves one connection to its end, which may be up to the client, to a bound, or to [`Server::shutdown`].
    pub async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, addr: SocketAddr, local: SocketAddr) {
        let id = self.shared.next_client.fetch_add(1, Relaxed);
        let peer = Arc::new(Peer::new(id, addr, local, unix_ms()));
        let Some(settings) = self.shared.registry.admit(&peer) else {
            // It may be gone already, and it is of no matter.
            let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
            return;
        };
        if self.shared.is_closing.load(Relaxed) {
            peer.kill();
        }
        Connection::new(self.clone(), stream, peer, &settings).run().await;
    }

    /// Removes expired keys and idle connections, ten times a second, for as long as it is polled.
    pub async fn housekeeping(&self) {
        loop {
            tokio::time::sleep(HOUSEKEEPING).await;
            while self.enter(|engine| engine.tidy(unix_ms(), EXPIRED_AT_ONCE)).await {}
        }
    }

    /// Closes all connections, and those that come from now on.
    pub fn shutdown(&self) {
        self.shared.is_closing.store(true, Relaxed);
        self.shared.registry.all().iter().for_each(|peer| peer.kill());
    }

    /// Who is connected.
    pub(crate) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// The buffers of a connection took `before` and take `after`; what those of all take now.
    pub(crate) fn weigh(&self, before: usize, after: usize) -> usize {
        let more = after.wrapping_sub(before);
        self.shared.buffer_bytes.fetch_add(more, Relaxed).wrapping_add(more)
    }

    /// Does `step` under the lock.
    pub(crate) async fn enter<R>(&self, step: impl FnOnce(&mut Engine) -> R) -> R {
        let mut step = step;
        loop {
            match self.try_enter(step) {
                Ok(result) => return result,
                Err(back) => step = back,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Does `step` under the lock, or gives it back where a script takes too long.
    pub(crate) async fn enter_unless_busy<F: FnOnce(&mut Engine) -> R, R>(&self, step: F) -> Result<R, Busy> {
        let mut step = step;
        loop {
            match self.try_enter(step) {
                Ok(result) => return Ok(result),
                Err(_) if self.shared.watch.is_slow() => return Err(Busy),
                Err(back) => step = back,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn try_enter<F: FnOnce(&mut Engine) -> R, R>(&self, step: F) -> Result<R, F> {
        match self.shared.engine.try_lock_for(PATIENCE) {
            Some(mut engine) => Ok(step(&mut engine)),
            None => Err(step),
        }
    }

    /// What is known of a script that runs, without the lock.
    pub(crate) fn watch(&self) -> &Watch {
        &self.shared.watch
    }

    /// Does `step` under the lock, and blocks the thread for it.
    pub(crate) fn enter_now<R>(&self, step: impl FnOnce(&mut Engine) -> R) -> R {
        step(&mut self.shared.engine.lock())
    }
}

/// A script keeps this thread. It may be the one of the runtime that waited for sockets and timers, and the others sleep
/// until one of them is needed: so one is. It finds nothing to do, and waits for sockets in this one's place.
fn wake_a_thread() {
    if let Ok(runtime) = Handle::try_current() {
        // The first only takes the place of the task that runs next on this thread; the second makes others look.
        runtime.spawn(std::future::ready(()));
        runtime.spawn(std::future::ready(()));
    }
}

impl Engine {
    /// What is to be done from time to time; whether there is more of it.
    fn tidy(&mut self, now_ms: i64, most: usize) -> bool {
        self.now_ms = now_ms;
        let idle_ms = self.settings.timeout_s as i64 * 1000;
        self.clients.all().iter().for_each(|peer| peer.look(now_ms, idle_ms));
        self.stats.tick(now_ms);
        self.expires_actively && self.expire_some(most) == most
    }
}
