//! Gossip: what it costs, what it keeps, and that nothing in it fails.

use std::time::Duration;

use plimsoll::core::Stats;
use plimsoll::observe::{Footprint, SizeClass};

use super::{Family, Found, Look, Rule};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::run::Phase;
use crate::world::World;

/// Nodes' counters are read every second.
const EVERY: u64 = 10;
/// Turns by timers in one second: 500 flushes 2 ms apart, 500 moments at which a budget is out of debt, some forty of
/// SWIM's, ten ticks; and as much again.
const MOST_TURNS: u64 = 2000;
/// What changes and remainders wait in.
const QUEUE: u64 = 4096;
/// Bounds of what a node keeps: members, entries of a row, names of a table, lanes of models.
const MOST_MEMBERS: usize = 4096;
const MOST_ENTRIES: usize = 4096;
const MOST_NAMES: usize = 16_384;
const MOST_MODELS: usize = 1024;
/// Changes that wait to be told again: so many, and those that were told last, at most all classes of all lanes.
const MOST_REPEATED: usize = 16;
/// SWIM forgets the dead after an hour, each by a timer of its own: one for every time that a member went down.
const MOST_TIMERS: usize = 10_000;
/// Reasons of one member's to be refused that are kept.
const MOST_REFUSALS: usize = 8;
/// Picks of strict mode that wait for owners, and what an owner keeps of others'.
const MOST_ASKED: usize = 1024;
const MOST_RESERVATIONS: usize = 65_536;
/// Entries of others that a relay holds.
const MOST_HELD: usize = 2048;
/// Reasons for which messages are not used though they are in order: overtaken, from somebody not known yet.
const IN_ORDER: [&str; 3] = ["old", "stranger", "too_many_members"];

pub(super) struct Gossip {
    /// What each node had sent at the last look, and in which life, and how often it was turned.
    before: Vec<Sent>,
}

#[derive(Clone, Copy, Default)]
struct Sent {
    life: u32,
    messages: u64,
    bytes: u64,
    turns: u64,
    /// What all nodes had picked.
    picks: u64,
}

impl Gossip {
    pub(super) fn new(plan: &Plan) -> Gossip {
        Gossip { before: vec![Sent::default(); plan.world.nodes] }
    }
}

impl Family for Gossip {
    fn look(&mut self, look: &Look, world: &World, found: &mut Found) {
        if !look.number.is_multiple_of(EVERY) {
            return;
        }
        for n in world.live() {
            let (stats, footprint) = (world.core(n).stats(), world.core(n).footprint());
            self.look_at_rates(look, world, n, &stats, found);
            sound(look, world, n, &stats, found);
            bounded(world, n, &footprint, found);
            if look.phase == Phase::Quiet && look.over {
                baseline(look, world, n, &footprint, found);
            }
        }
    }
}

impl Gossip {
    fn look_at_rates(&mut self, look: &Look, world: &World, n: usize, stats: &Stats, found: &mut Found) {
        let (messages, bytes) = stats.sent.values().fold((0, 0), |sum, sent| (sum.0 + sent.0, sum.1 + sent.1));
        let picks = world.tally().picks.iter().sum();
        let now = Sent { life: world.life(n), messages, bytes, turns: world.tally().turns[n], picks };
        let before = std::mem::replace(&mut self.before[n], now);
        if before.life != now.life {
            return;
        }
        let turns = now.turns - before.turns;
        found.judge(Rule::NoSpin, Some(n), None, turns <= MOST_TURNS, || {
            format!("expected at most {MOST_TURNS} turns by timers in a second; got {turns}")
        });
        let hostile = look.weather.hostile_at.is_some();
        if !hostile {
            let (most, most_bytes) = most_sent(world, now.picks - before.picks);
            let (messages, bytes) = (now.messages - before.messages, now.bytes - before.bytes);
            found.judge(Rule::NoStorm, Some(n), None, messages <= most && bytes <= most_bytes, || {
                format!(
                    "expected at most {most} messages, {most_bytes} bytes in a second; got {messages}, {bytes}: {:?}",
                    stats.sent
                )
            });
        }
    }
}

/// What a node may send in a second in which so many picks were made: see the constants.
fn most_sent(world: &World, picks: u64) -> (u64, u64) {
    let config = world.config();
    let (peers, pods) = (config.nodes as u64, config.pods as u64);
    let budget = config.budget_bits / 8;
    // In strict mode each pick is a question, an answer, and an owner told of its begin and its end; some come twice.
    let strict = if config.policy == Policy::Strict { 8 * picks + 100 } else { 0 };
    // A second's budget may have been saved up; no message takes less of it than 90 bytes.
    let (messages, bytes) =
        (2 * budget / 90 + 200 + 40 * peers, 2 * budget + 200 * 1200 + peers * (20_000 + 100 * pods));
    (messages + strict, bytes + 120 * strict)
}

fn sound(look: &Look, world: &World, n: usize, stats: &Stats, found: &mut Found) {
    let errors = stats.swim_internal_errors;
    found.judge(Rule::SwimSound, Some(n), None, errors == 0, || {
        format!("expected no error of SWIM's own; got {errors}")
    });
    let tally = world.tally();
    let few = (tally.cancels.iter().sum::<u64>() < QUEUE, world.lanes() < QUEUE);
    let missed = (stats.missed_remainders, stats.missed_changes);
    let right = !(few.0 && missed.0 > 0 || few.1 && missed.1 > 0);
    found.judge(Rule::NothingMissed, Some(n), None, right, || {
        format!("expected no change and no remainder to be missed; got {} and {}", missed.1, missed.0)
    });
    if look.weather.hostile_at.is_none() {
        let unread = stats.refused.iter().find(|(why, _)| !IN_ORDER.contains(why));
        found.judge(Rule::Readable, Some(n), None, unread.is_none(), || {
            format!("expected every message of honest nodes to be of use; got {unread:?}")
        });
    }
}

fn bounded(world: &World, n: usize, kept: &Footprint, found: &mut Found) {
    let within = [
        (kept.peers, MOST_MEMBERS),
        (kept.members, MOST_MEMBERS + 1000),
        (kept.peer_entries, kept.peers * MOST_ENTRIES),
        (kept.peer_names, kept.peers * MOST_NAMES),
        (kept.own_names, MOST_NAMES / 2 + MOST_MODELS),
        (kept.repeats, MOST_REPEATED + SizeClass::COUNT * kept.own_lanes),
        (kept.timers, MOST_TIMERS + 10 * kept.members),
        (kept.refusals, kept.peers * MOST_REFUSALS),
        (kept.asked, MOST_ASKED),
        (kept.reservations, MOST_RESERVATIONS),
        (kept.told_models, MOST_MODELS),
        (kept.relayed, MOST_HELD),
    ];
    let over = within.iter().any(|(is, most)| is > most);
    let inbox = world.inbox(n);
    found.judge(Rule::Bounded, Some(n), None, !over, || format!("expected less; got {kept:?}, {inbox} inputs waiting"));
}

fn baseline(look: &Look, world: &World, n: usize, kept: &Footprint, found: &mut Found) {
    // What was cancelled at a pod that is gone is kept until its predicted end.
    if look.now < world.tally().remains_until + Duration::from_secs(1) {
        return;
    }
    // Members that were invented take the budget, and what waits to be told again waits.
    if look.weather.ghosts {
        return;
    }
    // A pod that was replaced ends what it began, which takes it long where it was cold.
    let (nodes, lanes) = (world.config().nodes, world.lanes() as usize + world.under_way());
    let ghosts = if look.weather.hostile_at.is_some() { MOST_MEMBERS } else { 0 };
    let strict = kept.asked == 0 && kept.relayed == 0 && (kept.reservations == 0 || look.weather.hostile_at.is_some());
    let within = strict && kept.own_lanes <= lanes && kept.peers <= nodes + ghosts && kept.members <= nodes + ghosts;
    found.judge(Rule::Baseline, Some(n), None, within, || {
        format!("expected at most {lanes} lanes, {nodes} members and no reservations in the end; got {kept:?}")
    });
}
