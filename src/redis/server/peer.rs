//! What others may know of a connection, and how they reach it: shared between its task and the engine.

use std::net::SocketAddr;
use std::task::Waker;

use parking_lot::Mutex;

use crate::reply::Reply;

/// A connection that has been silent for so long gives back its buffers, so that thousands of idle ones cost little; as Redis.
const REST_MS: i64 = 2000;
/// A connection that takes nothing of its replies for so long is closed: nobody reads there any more. TCP alone would keep
/// one open for ever whose process is stopped. Ten times as long as the slowest link needs for its buffers.
const DEAF_MS: i64 = 60_000;

/// One connection as others see it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) local: SocketAddr,
    /// When it came, unix ms.
    pub(crate) since_ms: i64,
    pub(crate) seen: Mutex<Seen>,
    mail: Mutex<Mail>,
}

/// How it stands and what it did last, as CLIENT LIST tells it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As it calls itself, and the library that it uses; empty until it does.
    pub(crate) name: Vec<u8>,
    pub(crate) library: Vec<u8>,
    pub(crate) library_version: Vec<u8>,
    /// Whether it asked never to be closed to free memory, which never happens here.
    pub(crate) is_spared: bool,
    pub(crate) db: usize,
    pub(crate) protocol: u8,
    /// Commands queued in its transaction; -1 outside of one.
    pub(crate) queued: i64,
    pub(crate) queued_bytes: usize,
    pub(crate) watching: usize,
    /// Whether a key that it watches changed.
    pub(crate) is_stale: bool,
    /// The command, `client|list` where it has a second word.
    pub(crate) command: &'static str,
    /// When it was last heard, or took bytes, unix ms.
    pub(crate) last_ms: i64,
    pub(crate) inbox_bytes: usize,
    pub(crate) inbox_capacity: usize,
    pub(crate) outbox_bytes: usize,
    /// When it last took some of it, or had none to take, unix ms.
    pub(crate) took_ms: i64,
    pub(crate) outbox_capacity: usize,
    pub(crate) is_blocked: bool,
    pub(crate) is_authenticated: bool,
}

/// What waits for its task.
#[derive(Debug, Default)]
struct Mail {
    waker: Option<Waker>,
    is_killed: bool,
    may_rest: bool,
    answer: Option<Reply>,
}

/// What came for the task.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    Nothing,
    /// The connection is to end, without another word.
    Killed,
    /// What it was blocked for.
    Answer(Reply),
    /// It has been idle: its buffers may go.
    Rest,
}

impl Seen {
    fn new(now_ms: i64) -> Seen {
        Seen {
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
            is_spared: false,
            db: 0,
            protocol: 2,
            queued: -1,
            queued_bytes: 0,
            watching: 0,
            is_stale: false,
            command: "NULL",
            last_ms: now_ms,
            inbox_bytes: 0,
            inbox_capacity: 0,
            outbox_bytes: 0,
            took_ms: now_ms,
            outbox_capacity: 0,
            is_blocked: false,
            is_authenticated: false,
        }
    }
}

impl Peer {
    pub(crate) fn new(id: u64, addr: SocketAddr, local: SocketAddr, now_ms: i64) -> Peer {
        let seen = Mutex::new(Seen::new(now_ms));
        Peer { id, addr, local, since_ms: now_ms, seen, mail: Mutex::default() }
    }

    /// Looks whether it has been silent for too long (`idle_ms`; 0: it may be), or does not read what it asked for.
    pub(crate) fn look(&self, now_ms: i64, idle_ms: i64) {
        let seen = self.seen.lock();
        let silent_ms = now_ms - seen.last_ms;
        // Who waits for elements is not idle.
        let is_idle = idle_ms > 0 && silent_ms > idle_ms && !seen.is_blocked;
        let is_deaf = seen.outbox_bytes > 0 && now_ms - seen.took_ms > DEAF_MS;
        let may_rest = silent_ms > REST_MS && seen.inbox_capacity > 0;
        drop(seen);
        if is_idle || is_deaf {
            self.kill();
        } else if may_rest {
            self.rest();
        }
    }

    /// Ends the connection.
    pub(crate) fn kill(&self) {
        self.send(|mail| mail.is_killed = true);
    }

    /// Lets it give back its buffers.
    pub(crate) fn rest(&self) {
        self.send(|mail| mail.may_rest = true);
    }

    /// Answers the command that it is blocked in.
    pub(crate) fn answer(&self, reply: Reply) {
        self.send(|mail| mail.answer = Some(reply));
    }

    fn send(&self, put: impl FnOnce(&mut Mail)) {
        let waker = {
            let mut mail = self.mail.lock();
            put(&mut mail);
            mail.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What came; `waker` is woken when more does.
    pub(crate) fn news(&self, waker: &Waker) -> News {
        let mut mail = self.mail.lock();
        if mail.is_killed {
            return News::Killed;
        }
        if let Some(reply) = mail.answer.take() {
            return News::Answer(reply);
        }
        // It rests and waits on, in one step: what comes then must find the waker.
        if !mail.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            mail.waker = Some(waker.clone());
        }
        if std::mem::take(&mut mail.may_rest) { News::Rest } else { News::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::{Wake, Waker};

    use super::{News, Peer};
    use crate::reply::Reply;

    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Bell>) {
            self.0.store(true, Relaxed);
        }
    }

    /// A client waits in BLPOP. After two silent seconds its connection is told to give back its buffers, and sleeps on. The
    /// element that comes then must wake it.
    #[test]
    fn who_rests_is_woken_by_what_comes_later() {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let peer = Peer::new(1, addr, addr, 0);
        let bell = Arc::new(Bell(AtomicBool::new(false)));
        let waker = Waker::from(bell.clone());
        assert_eq!(peer.news(&waker), News::Nothing);
        peer.rest();
        assert_eq!(peer.news(&waker), News::Rest);
        bell.0.store(false, Relaxed);
        peer.answer(Reply::OK);
        assert!(bell.0.load(Relaxed));
        assert_eq!(peer.news(&waker), News::Answer(Reply::OK));
    }
}
