//! Small news that goes by relays, between cores, by hand: it reaches every user once, a relay that dies loses little, and
//! one that lies is believed little, and not for long.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "fleet/mod.rs"]
mod fleet;

use std::time::Duration;

use fleet::{Fleet, ms};
use plimsoll::core::RelayStats;
use plimsoll::gossip::wire::{Entry, Key, Kind, Message, Pass, Passed, Relayed, Rows, epoch_mark, id_mark};
use plimsoll::id::{Epoch, NodeId, Seq};
use plimsoll::observe::{Cost, SizeClass};
use plimsoll::pick::{Outcome, Request, Ticket};
use plimsoll::time::Time;

impl Fleet {
    /// Nodes that relay from two users on.
    fn new(nodes: usize) -> Fleet {
        Fleet::form(nodes, 4, (Duration::from_micros(500), ms(3000)), |config| {
            config.budget_bits = 300_000;
            (config.direct, config.always_relay) = (2, true);
        })
    }

    fn stats(&mut self, n: usize) -> RelayStats {
        self.core(n).stats().relay
    }

    /// Every piece that was passed on: by whom, to whom.
    fn passed_on(&self) -> Vec<(usize, usize, &Passed)> {
        let relayed = self.sent.iter().filter_map(|(from, to, message)| match message {
            Message::Relayed(Relayed { news }) => Some(news.iter().map(|piece| (*from, *to, piece))),
            _ => None,
        });
        relayed.flatten().collect()
    }

    fn pick(&mut self, n: usize, cost_ms: f64) -> Ticket {
        let now = self.now;
        let request = Request::new("m").cost(Cost::from_ms(cost_ms).unwrap());
        self.core(n).picker().pick(now, &request).unwrap()
    }

    /// Node `n` picks for 50 requests of 2 ms and for one of 200 ms a second: more than its budget can tell at once.
    fn keep_busy(&mut self, n: usize, span: Duration) {
        let end = self.now + span;
        let mut heavy: Option<(Time, Ticket)> = None;
        while self.now < end {
            if heavy.as_ref().is_none_or(|(at, _)| *at + ms(1000) <= self.now) {
                let (now, ticket) = (self.now, self.pick(n, 200.0));
                if let Some((_, ended)) = heavy.replace((now, ticket)) {
                    ended.finish(now, Outcome::Served);
                }
            }
            let small = self.pick(n, 2.0);
            self.run(ms(2));
            small.finish(self.now, Outcome::Served);
            self.run(ms(18));
        }
        if let Some((_, ended)) = heavy {
            ended.finish(self.now, Outcome::Served);
        }
    }

    /// What node `n` believes to be in flight in all.
    fn in_flight(&mut self, n: usize) -> f64 {
        let now = self.now;
        self.core(n).view(now).pods.iter().map(|pod| pod.in_flight).sum()
    }
}

fn entry(count: u32) -> Entry {
    let class = SizeClass::of(Cost::from_ms(2.0).unwrap());
    Entry { key: Key { pod: 0, model: 0, class }, count, age_100us: 0, remainders_ms: vec![] }
}

fn passed(of: NodeId, seq: u64, count: u32) -> Message {
    let (origin, epoch) = (id_mark(of), epoch_mark(Epoch(1)));
    let entries = vec![entry(count)];
    Message::Relayed(Relayed { news: vec![Passed { origin, epoch, seq: Seq(seq), table: 0, age_100us: 0, entries }] })
}

/// Small news of a busy node must reach everybody, though none of its own rows does any more: each piece once, from
/// somebody that it was given to, and older by as long as it was held there.
#[test]
fn small_news_reaches_every_user_by_relays_once() {
    let mut fleet = Fleet::new(12);
    fleet.keep_busy(0, ms(3000));
    fleet.run(ms(1200));
    fleet.sent.clear();
    fleet.lost.push((0, Kind::Rows));
    let held = fleet.pick(0, 2.0);
    fleet.run(ms(1200));
    assert!(!fleet.passed_on().is_empty());
    let mark = id_mark(fleet.ids[0]);
    let mut told: Vec<(usize, Seq)> = Vec::new();
    for (relay, to, piece) in fleet.passed_on() {
        assert!(piece.origin == mark && relay != 0 && to != 0 && relay != to);
        assert!(!told.contains(&(to, piece.seq)), "{to} was told {:?} twice", piece.seq);
        // Thirty milliseconds and the way.
        assert!((303..=320).contains(&piece.age_100us), "{}", piece.age_100us);
        told.push((to, piece.seq));
    }
    // Those that were given it pass it on and need not be told; a group of one is told directly, which gets lost here.
    let relays: Vec<usize> = (1..12).filter(|n| fleet.passed_on().iter().any(|(relay, ..)| relay == n)).collect();
    let heard: Vec<usize> = (1..12).filter(|n| relays.contains(n) || told.iter().any(|(to, _)| to == n)).collect();
    assert!(relays.len() >= 2 && heard.len() >= 9, "{relays:?} {heard:?}");
    for n in heard {
        assert_eq!(fleet.in_flight(n), 1.0, "node {n}");
    }
    held.finish(fleet.now, Outcome::Served);
}

/// A relay that dies with what it holds must cost no more than a second: the whole row comes directly.
#[test]
fn what_a_relay_takes_to_its_grave_is_told_again_within_a_second() {
    let mut fleet = Fleet::new(12);
    fleet.keep_busy(0, ms(3000));
    fleet.run(ms(1200));
    (1..12).for_each(|n| fleet.lost.push((n, Kind::Relayed)));
    let held = fleet.pick(0, 2.0);
    fleet.run(ms(1250));
    for n in 0..12 {
        assert_eq!(fleet.in_flight(n), 1.0, "node {n}");
    }
    assert!(!fleet.passed_on().is_empty(), "nothing was passed on, let alone lost");
    held.finish(fleet.now, Outcome::Served);
}

/// A member that says what it likes of others: it moves a pod by sixteen requests, for a second; it makes nobody's row
/// younger, and has no say of who is not a member.
#[test]
fn a_relay_that_lies_is_believed_little_and_not_for_long() {
    let mut fleet = Fleet::new(6);
    fleet.keep_busy(1, ms(500));
    fleet.run(ms(1500));
    assert_eq!(fleet.in_flight(0), 0.0);
    // With six members everybody is of one group, or of a neighbouring one.
    let of = fleet.ids[1];
    fleet.say(2, 0, &passed(of, u64::MAX, 60_000));
    assert_eq!(fleet.in_flight(0), 16.0);
    fleet.run(ms(1200));
    assert_eq!(fleet.in_flight(0), 0.0);
    let before = fleet.stats(0);
    // Nobody, another life, the receiver itself.
    let mut another = passed(of, u64::MAX, 5);
    if let Message::Relayed(relayed) = &mut another {
        relayed.news[0].epoch = 2;
    }
    for lie in [passed(NodeId(7), u64::MAX, 5), another, passed(fleet.ids[0], u64::MAX, 5)] {
        fleet.say(2, 0, &lie);
    }
    assert_eq!((fleet.in_flight(0), fleet.stats(0).unused - before.unused), (0.0, 3));
    // Its origin falls silent: what is said in its name does not keep its row alive.
    fleet.cores[1] = None;
    for seq in 0..35 {
        fleet.say(2, 0, &passed(of, 1 << 40 | seq, 3));
        fleet.run(ms(100));
    }
    assert_eq!(fleet.in_flight(0), 0.0);
}

/// What is asked of a relay is bounded: nothing is passed on twice, nor to a whole cluster, nor of a life that is over.
#[test]
fn a_relay_passes_on_what_is_right_and_once() {
    let mut fleet = Fleet::new(12);
    fleet.keep_busy(1, ms(500));
    fleet.run(ms(1500));
    let rows = |epoch: u64, seq: u64| Rows {
        epoch: Epoch(epoch),
        seq: Seq(seq),
        table: 0,
        leaving: false,
        rates: (0, 0),
        part: None,
        entries: vec![entry(2)],
    };
    let before = fleet.stats(0);
    fleet.sent.clear();
    for _ in 0..3 {
        fleet.say(1, 0, &Message::Pass(Pass { bits: 0, rows: rows(1, 5000) }));
    }
    // Groups that are nothing like what the relay makes of twelve nodes; an old life; a node that nobody knows.
    fleet.say(1, 0, &Message::Pass(Pass { bits: 9, rows: rows(1, 5001) }));
    fleet.say(1, 0, &Message::Pass(Pass { bits: 0, rows: rows(0, 5002) }));
    fleet.run(ms(28));
    assert!(fleet.passed_on().is_empty(), "it was not held");
    fleet.run(ms(5));
    let mut to: Vec<usize> = fleet.passed_on().iter().map(|(_, to, _)| *to).collect();
    to.sort_unstable();
    assert_eq!(to, (2..12).collect::<Vec<_>>(), "one group of all, without the relay and the origin");
    let after = fleet.stats(0);
    assert_eq!((after.passed_on - before.passed_on, after.strange - before.strange), (10, 2));
}
