//! What others may know of a connection, and how they reach it: shared between its task and the engine.

use std::net::SocketAddr;
use std::task::Waker;

use parking_lot::Mutex;

use crate::reply::Reply;

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

/// What it did last, as CLIENT LIST tells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) name: Vec<u8>,
    pub(crate) db: usize,
    pub(crate) protocol: u8,
    /// Commands queued in its transaction; -1 outside of one.
    pub(crate) queued: i64,
    pub(crate) watching: usize,
    /// The command, `client|list` where it has a second word.
    pub(crate) command: String,
    /// When it was last heard, or took bytes, unix ms.
    pub(crate) last_ms: i64,
    pub(crate) inbox_bytes: usize,
    pub(crate) inbox_capacity: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) is_blocked: bool,
    pub(crate) is_authenticated: bool,
    pub(crate) may_be_evicted: bool,
}

/// What waits for its task.
#[derive(Debug, Default)]
struct Mail {
    waker: Option<Waker>,
    is_killed: bool,
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
}

impl Peer {
    pub(crate) fn new(id: u64, addr: SocketAddr, local: SocketAddr, now_ms: i64) -> Peer {
        let seen = Seen { protocol: 2, queued: -1, last_ms: now_ms, may_be_evicted: true, ..Seen::default() };
        Peer { id, addr, local, since_ms: now_ms, seen: Mutex::new(seen), mail: Mutex::default() }
    }

    /// Whether it was last heard of before `ms`. Who waits for elements is not idle.
    pub(crate) fn is_idle(&self, ms: i64) -> bool {
        let seen = self.seen.lock();
        seen.last_ms < ms && !seen.is_blocked
    }

    /// Ends the connection.
    pub(crate) fn kill(&self) {
        self.send(|mail| mail.is_killed = true);
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
        if !mail.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            mail.waker = Some(waker.clone());
        }
        News::Nothing
    }
}
