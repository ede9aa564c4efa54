//! What is known of one client between its commands.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::blocked::Wait;
use crate::engine::Key;

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
    /// As it calls itself; empty until it does.
    pub(crate) name: Vec<u8>,
    /// The commands of its transaction, once it began one.
    pub(crate) queued: Option<Vec<Vec<Vec<u8>>>>,
    /// Whether a command of its transaction could not be queued.
    pub(crate) is_spoiled: bool,
    /// The keys that it watches, and whether one of them changed.
    pub(crate) watching: Vec<(usize, Key)>,
    pub(crate) is_stale: Arc<AtomicBool>,
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
            name: Vec::new(),
            queued: None,
            is_spoiled: false,
            watching: Vec::new(),
            is_stale: Arc::default(),
            in_script: false,
            in_exec: false,
            wait: None,
            offered: None,
            is_leaving: false,
            wants: Wants::All,
        }
    }
}
