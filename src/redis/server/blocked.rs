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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::peer::{News, Peer};
    use crate::testing::{Bench, text};

    /// Several clients of one engine.
    struct Story(Bench);

    impl Story {
        fn new() -> Story {
            Story(Bench::new(None))
        }

        /// The client `id` comes, and finds nothing to be answered with.
        fn waits(&mut self, id: u64, line: &str) {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let settings = self.0.engine.settings.clone();
            self.0.engine.clients.set(&settings);
            self.0.engine.clients.admit(&Arc::new(Peer::new(id, addr, addr, 0)));
            self.0.client = Client::new(id);
            assert_eq!(self.0.run(line), Reply::Silent, "{line}");
            let wait = self.0.client.wait.take().expect("a command that waits");
            self.0.engine.blocked.add(&self.0.client, wait);
        }

        /// Another client does one thing after the other, as one step.
        fn does(&mut self, lines: &[&str]) {
            self.0.client = Client::new(99);
            lines.iter().for_each(|line| drop(self.0.run(line)));
            serve(&mut self.0.engine);
        }

        fn told(&self, id: u64) -> Option<String> {
            match self.0.engine.clients.get(id)?.news(Waker::noop()) {
                News::Answer(reply) => Some(text(&reply)),
                _ => None,
            }
        }
    }

    /// Two workers wait for one queue. Jobs must go to who waited longest, and one job to one worker.
    #[test]
    fn who_waited_longest_is_served_first() {
        let mut story = Story::new();
        story.waits(1, "blpop jobs 0");
        story.waits(2, "blpop other jobs 0");
        story.does(&["rpush jobs a"]);
        assert_eq!((story.told(1), story.told(2)), (Some("jobs a".into()), None));
        story.does(&["rpush jobs b c"]);
        assert_eq!(story.told(2), Some("jobs b".into()));
        assert_eq!(story.0.ask("lrange jobs 0 -1"), "c");
        assert_eq!(story.0.engine.blocked.len(), 0);
    }

    /// An element that is moved on must wake who waits behind: a chain of workers is one step, however long.
    #[test]
    fn a_chain_of_moves_runs_to_its_end() {
        let mut story = Story::new();
        story.waits(1, "blmove a b left right 0");
        story.waits(2, "blmove b c left right 0");
        story.waits(3, "brpop c 0");
        story.does(&["rpush a job"]);
        assert_eq!(story.told(1), Some("job".into()));
        assert_eq!(story.told(2), Some("job".into()));
        assert_eq!(story.told(3), Some("c job".into()));
        assert_eq!(story.0.ask("exists a b c"), "0");
    }

    /// A transaction is one step: what it filled and emptied again was never there for who waits.
    #[test]
    fn what_is_gone_when_the_step_ends_wakes_nobody() {
        let mut story = Story::new();
        story.waits(1, "bzpopmin loads 0");
        story.does(&["zadd loads 1 a", "del loads"]);
        story.does(&["rpush loads x"]);
        story.does(&["del loads", "set loads x"]);
        assert_eq!(story.told(1), None);
        story.does(&["del loads", "zadd loads 2 b 1 a"]);
        assert_eq!(story.told(1), Some("loads a 1".into()));
    }

    /// Every way in which a list or a sorted set may come to a key is one in which elements come.
    #[test]
    fn a_key_may_be_filled_by_a_store_or_a_rename() {
        let mut story = Story::new();
        story.waits(1, "bzmpop 0 1 loads max count 2");
        story.does(&["zadd other 1 a 2 b 3 c", "zunionstore loads 1 other"]);
        assert_eq!(story.told(1), Some("loads [[c 3] [b 2]]".into()));
        story.waits(2, "blpop jobs 0");
        story.does(&["rpush others x", "rename others jobs"]);
        assert_eq!(story.told(2), Some("jobs x".into()));
    }

    /// The destination turned out to be no list: that is an answer, the element stays, and the next is served.
    #[test]
    fn a_wrong_destination_is_an_answer() {
        let mut story = Story::new();
        story.does(&["set taken x"]);
        story.waits(1, "brpoplpush jobs taken 0");
        story.waits(2, "brpoplpush jobs free 0");
        story.does(&["rpush jobs a"]);
        assert_eq!(story.told(1), Some("WRONGTYPE Operation against a key holding the wrong kind of value".into()));
        assert_eq!(story.told(2), Some("a".into()));
    }

    /// A client went away while it waited: what comes must not be popped for nobody.
    #[test]
    fn who_gave_up_is_served_no_more() {
        let mut story = Story::new();
        story.waits(1, "blpop jobs 0");
        assert_eq!(story.0.engine.blocked.give_up(1), Some(Reply::NullArray));
        story.does(&["rpush jobs a"]);
        assert_eq!(story.0.ask("llen jobs"), "1");
        assert_eq!(story.0.engine.blocked.give_up(1), None);
    }

    /// Timeouts come as text from the client: what Redis refuses is refused with its words.
    #[test]
    fn timeouts_are_read_as_redis_reads_them() {
        let mut story = Story::new();
        for (line, words) in [
            ("blpop jobs x", "ERR timeout is not a float or out of range"),
            ("blpop jobs -0.1", "ERR timeout is negative"),
            ("bzpopmin loads 1e30", "ERR timeout is negative"),
            ("blmpop -1 1 jobs left", "ERR timeout is negative"),
            ("blmpop 0 0 jobs left", "ERR numkeys should be greater than 0"),
            ("bzmpop 0 1 loads min count 0", "ERR count should be greater than 0"),
            ("blmove a b up left 0", "ERR syntax error"),
        ] {
            assert_eq!(story.0.ask(line), words, "{line}");
            assert!(story.0.client.wait.is_none());
        }
        story.0.engine.now_ms = 1000;
        story.0.run("blpop jobs 0.0001");
        assert_eq!(story.0.client.wait.take().and_then(|wait| wait.until_ms), Some(1001));
    }
}
