//! Clients that wait for elements: BLPOP and its like.
//!
//! Such a command that finds nothing leaves a [`Wait`] with its client and answers [`Reply::Silent`]. When one of the keys
//! gets elements the command is run again, for who waited longest first, and what it answers then goes to the connection;
//! nobody who came later can be served before. A waiter costs nothing until then.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::client::Client;
use crate::command::{Context, lookup, run};
use crate::engine::{Engine, Key};
use crate::reply::Reply;

/// What a command waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wait {
    /// Keys of the client's database; elements in any of them end the wait.
    pub(crate) keys: Vec<Key>,
    /// Until when, unix ms; for ever without one.
    pub(crate) until_ms: Option<i64>,
    /// The command, to be run again.
    pub(crate) args: Vec<Vec<u8>>,
    /// What is answered when the time is over.
    pub(crate) otherwise: Reply,
}

/// All who wait, in the order in which they began to.
#[derive(Debug, Default)]
pub(crate) struct Blocked {
    waiters: BTreeMap<u64, Waiter>,
    by_key: HashMap<(usize, Key), BTreeSet<u64>>,
    by_client: HashMap<u64, u64>,
    begun: u64,
}

#[derive(Debug)]
struct Waiter {
    client: u64,
    db: usize,
    protocol: u8,
    wait: Wait,
}

impl Blocked {
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// `client` waits from now on.
    pub(crate) fn add(&mut self, client: &Client, wait: Wait) {
        self.begun += 1;
        for key in &wait.keys {
            self.by_key.entry((client.db, key.clone())).or_default().insert(self.begun);
        }
        self.by_client.insert(client.id, self.begun);
        self.waiters.insert(self.begun, Waiter { client: client.id, db: client.db, protocol: client.protocol, wait });
    }

    /// The client waits no more; what it is to be told if its time is over.
    pub(crate) fn give_up(&mut self, client: u64) -> Option<Reply> {
        let turn = *self.by_client.get(&client)?;
        self.remove(turn).map(|waiter| waiter.wait.otherwise)
    }

    /// The keys of the databases `dbs` that somebody waits for.
    pub(crate) fn keys_of(&self, dbs: &[usize]) -> Vec<(usize, Key)> {
        let mut keys: Vec<_> = self.by_key.keys().filter(|(db, _)| dbs.contains(db)).cloned().collect();
        keys.sort_unstable();
        keys
    }

    fn remove(&mut self, turn: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&turn)?;
        self.by_client.remove(&waiter.client);
        for key in &waiter.wait.keys {
            let at = (waiter.db, key.clone());
            if let Some(turns) = self.by_key.get_mut(&at) {
                turns.remove(&turn);
                if turns.is_empty() {
                    self.by_key.remove(&at);
                }
            }
        }
        Some(waiter)
    }

    fn next(&self, at: &(usize, Key), after: u64) -> Option<u64> {
        self.by_key.get(at)?.range(after + 1..).next().copied()
    }
}

/// Serves those who wait for keys that got elements. Called after each command, transaction or script.
pub(crate) fn serve(engine: &mut Engine) {
    // Who is served may fill another key (BLMOVE), so this goes on until nothing is ready.
    while !engine.ready.is_empty() {
        for at in std::mem::take(&mut engine.ready) {
            let mut last = 0;
            while let Some(turn) = engine.blocked.next(&at, last)
                && let Some(entry) = engine.get(at.0, &at.1)
            {
                let kind = entry.value.kind();
                last = turn;
                try_again(engine, turn, &at.1, kind);
            }
        }
    }
}

/// Runs the waiter's command for `key`, which holds a value of this `kind`.
fn try_again(engine: &mut Engine, turn: u64, key: &Key, kind: &str) {
    let Some(waiter) = engine.blocked.waiters.get(&turn) else { return };
    let args = waiter.wait.args.clone();
    let mut client = Client::new(waiter.client);
    (client.db, client.protocol) = (waiter.db, waiter.protocol);
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let Some(command) = lookup(args[0]) else { return };
    // A value of another kind is not what it waits for.
    if kind != if command.group == "list" { "list" } else { "zset" } {
        return;
    }
    client.offered = Some(key.clone());
    let reply = run(&mut Context { engine, client: &mut client }, command, &args);
    if client.wait.is_some() {
        return;
    }
    engine.blocked.remove(turn);
    if let Some(peer) = engine.clients.get(client.id) {
        peer.answer(reply);
    }
}
