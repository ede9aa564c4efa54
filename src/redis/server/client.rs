//! What is known of one client between its commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::HashSet;

use crate::blocked::Wait;
use crate::engine::Key;
use crate::peer::Seen;

/// One connection's state.
pub(crate) struct Client {
    /// Never used twice.
    pub(crate) id: u64,
    /// The database that it selected.
    pub(crate) db: usize,
    /// 2 or 3: which RESP it speaks.
    pub(crate) protocol: u8,
    /// Whether it may do more than authenticate.
    pub(crate) is_authenticated: bool,
    /// Its transaction, once it began one.
    pub(crate) transaction: Option<Transaction>,
    /// The keys that it watches, and whether one of them changed.
    pub(crate) watching: HashSet<(usize, Key)>,
    pub(crate) is_stale: Arc<AtomicBool>,
    /// Whether all that is to be forgotten before the next command.
    pub(crate) stops_watching: bool,
    /// Whether what runs is called by a script: `blocking` commands do not wait then.
    pub(crate) in_script: bool,
    /// Whether what runs is part of a transaction that is being executed.
    pub(crate) in_exec: bool,
    /// Left by a command that has to wait ([`crate::blocked`]).
    pub(crate) wait: Option<Wait>,
    /// The key that got elements, where what runs is run again for them.
    pub(crate) offered: Option<Key>,
    /// Whether the connection ends once it has its replies.
    pub(crate) is_leaving: bool,
    /// Which replies it wants (CLIENT REPLY).
    pub(crate) wants: Wants,
    /// The command that runs, as CLIENT LIST tells it.
    pub(crate) command: &'static str,
    /// Bytes that it sent and that are not used up, the command that runs among them.
    pub(crate) inbox_bytes: usize,
    /// The room that they are in.
    pub(crate) inbox_capacity: usize,
}

/// What a client queued between MULTI and EXEC.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) commands: Vec<Vec<Vec<u8>>>,
    /// What they take.
    pub(crate) bytes: usize,
    /// The flags of all of them.
    pub(crate) flags: u32,
    /// Whether one could not be queued: EXEC will refuse.
    pub(crate) is_spoiled: bool,
}

/// Which replies a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    All,
    /// None to the command that runs, and then all again.
    AllButThis,
    /// None to the next command.
    AllButNext,
    Nothing,
}

impl Client {
    pub(crate) fn new(id: u64) -> Client {
        Client {
            id,
            db: 0,
            protocol: 2,
            is_authenticated: true,
            transaction: None,
            watching: HashSet::new(),
            is_stale: Arc::default(),
            stops_watching: false,
            in_script: false,
            in_exec: false,
            wait: None,
            offered: None,
            is_leaving: false,
            wants: Wants::All,
            command: "NULL",
            inbox_bytes: 0,
            inbox_capacity: 0,
        }
    }

    /// Tells others how it stands.
    pub(crate) fn note(&self, seen: &mut Seen) {
        seen.db = self.db;
        seen.protocol = self.protocol;
        seen.queued = self.transaction.as_ref().map_or(-1, |transaction| transaction.commands.len() as i64);
        seen.queued_bytes = self.transaction.as_ref().map_or(0, |transaction| transaction.bytes);
        seen.watching = self.watching.len();
        seen.is_stale = self.is_stale.load(Relaxed);
        seen.command = self.command;
        seen.inbox_bytes = self.inbox_bytes;
        seen.inbox_capacity = self.inbox_capacity;
        seen.is_authenticated = self.is_authenticated;
    }
}
