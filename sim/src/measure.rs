//! What a run's callers and operators would have measured: latencies, how busy the pods were, what gossip cost.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll::core::Ages;
use plimsoll::gossip::wire::{Kind, OVERHEAD};
use plimsoll::time::Time;

use crate::check::guarded_in;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::report::{Row, Samples};
use crate::run::{LOOK, Phase, Watch, run_in};
use crate::world::{Done, End, Failure, World};

/// The busy share of a pod is taken over windows this long.
const WINDOW: Duration = Duration::from_secs(1);
/// Of the time in which clients ask, this part warms up.
const WARM: u32 = 10;

/// Looks at a run, and says at its end what came of it. Of the time in which clients ask, the first tenth warms up.
#[derive(Debug)]
pub struct Measure {
    warm: Time,
    end: Time,
    /// At the end of the warm-up.
    sent: Option<Sent>,
    sampled_at: Time,
    busy: Vec<Duration>,
    /// Busy shares, by window and pod.
    shares: Vec<Vec<f64>>,
    ages_ms: Vec<f64>,
    /// News age over the critical one: each look's mean over the nodes.
    age_ratios: Vec<f64>,
    gossip: Gossip,
}

/// What gossip cost, and how fresh it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gossip {
    /// Bytes each node sent per second, with all overhead.
    pub bytes_per_node_s: f64,
    /// Messages each node sent per second.
    pub messages_per_node_s: f64,
    /// The same by what they were: kinds of messages, rows by why they were sent.
    pub bytes_by_kind: BTreeMap<&'static str, f64>,
    /// News by relays, pieces of each node per second, by what became of them.
    pub relayed: BTreeMap<&'static str, f64>,
    /// Share of changes that went at once.
    pub at_once: f64,
    /// Share of the work whose changes went at once.
    pub work_at_once: f64,
    /// Running mean age of small and heavy news at the end, ms, mean over the nodes.
    pub news_age_ms: [f64; 2],
    /// In strict mode: the share of picks that no owner made.
    pub local: Option<f64>,
    /// The ages that 99 % of small and heavy news did not exceed when it arrived, ms.
    pub news_age_p99_ms: [f64; 2],
    /// The same of all news: half of it, 99 %.
    pub news_ages_ms: [f64; 2],
}

/// What all nodes sent so far.
#[derive(Clone, Debug)]
struct Sent {
    at: Time,
    messages: u64,
    bytes: u64,
    by_kind: BTreeMap<&'static str, u64>,
    relayed: BTreeMap<&'static str, u64>,
    news_ages: [Ages; 2],
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Requests that were asked for after the warm-up, in order of their ends.
    pub done: Vec<Done>,
    /// Requests that had no end when everything else had.
    pub unanswered: usize,
    /// Busy share of each pod in each second.
    pub shares: Vec<Vec<f64>>,
    /// The mean age of the work that picks did not know of, ms: each look's mean over the nodes.
    pub ages_ms: Vec<f64>,
    /// The same over the age at which it would fill the idle slots.
    pub age_ratios: Vec<f64>,
    /// Gossip.
    pub gossip: Gossip,
    /// Inputs that cores were turned by.
    pub inputs: u64,
    /// The hash of all that happened.
    pub trace: u64,
}

/// Carries out `plan`, waits for what is still being served then, and measures it.
pub fn measure(plan: &Plan) -> (Measured, World) {
    let mut world = World::new(plan.world.clone());
    (measure_in(&mut world, plan), world)
}

/// The same in a world that was made before, so that somebody can listen to its trace.
pub fn measure_in(world: &mut World, plan: &Plan) -> Measured {
    let mut watch = Measure::of(plan);
    run_in(world, plan, &mut watch);
    drain(world, Duration::from_millis(plan.ask_ms));
    watch.finish(world)
}

/// The same under all checkers, to the end of the plan; with the first rule that was broken, if one was.
pub fn measure_checked_in(world: &mut World, plan: &Plan) -> (Measured, Option<Failure>) {
    let mut watch = Measure::of(plan);
    let failure = guarded_in(world, plan, &mut watch).err();
    if failure.is_none() && world.under_way() > 0 {
        drain(world, Duration::from_millis(plan.ask_ms));
    }
    (watch.finish(world), failure)
}

/// Lets what was asked for be answered, so that the slowest requests count too. A fleet that was overloaded gets four
/// times as long as it was asked for; what has no answer then, has none.
fn drain(world: &mut World, asked_for: Duration) {
    world.set_load(0.0);
    let patience = world.now() + 4 * asked_for + Duration::from_secs(60);
    while world.under_way() > 0 && world.now() < patience && world.failures.is_empty() {
        world.run_for(LOOK);
    }
}

impl Watch for Measure {
    fn look(&mut self, world: &mut World, phase: Phase, _: Time, over: bool) {
        if phase != Phase::Asking || world.now() < self.warm {
            return;
        }
        self.end = world.now();
        let sent = self.sent.get_or_insert_with(|| Sent::of(world)).clone();
        if self.busy.is_empty() || self.sampled_at + WINDOW <= world.now() {
            self.sample(world);
        }
        if over {
            self.gossip = gossip(world, &sent);
        }
    }
}

impl Measure {
    /// Of a run of `plan`.
    pub fn of(plan: &Plan) -> Measure {
        Measure {
            warm: Time::ZERO + Duration::from_millis(plan.form_ms) + Duration::from_millis(plan.ask_ms) / WARM,
            end: Time::ZERO,
            sent: None,
            sampled_at: Time::ZERO,
            busy: Vec::new(),
            shares: Vec::new(),
            ages_ms: Vec::new(),
            age_ratios: Vec::new(),
            gossip: Gossip::default(),
        }
    }

    fn sample(&mut self, world: &World) {
        let busy = world.busy();
        let since = world.now().since(self.sampled_at).as_secs_f64();
        let slots = f64::from(world.config().server.slots) * since;
        if self.busy.len() == busy.len() {
            let spent = busy.iter().zip(&self.busy).map(|(now, before)| now.saturating_sub(*before));
            self.shares.push(spent.map(|spent| spent.as_secs_f64() / slots).collect());
        }
        (self.busy, self.sampled_at) = (busy, world.now());
        if world.config().gossip && world.config().policy.gossips() {
            let live = world.live();
            let ages = live.iter().map(|n| unseen_age_ms(world, *n));
            self.ages_ms.push(ages.sum::<f64>() / live.len().max(1) as f64);
            let views = live.iter().map(|n| world.core(*n).view(world.local(*n)));
            let ratios = views.filter_map(|view| Some(view.news_age_ms / view.critical_age_ms?.max(1e-3)));
            self.age_ratios.push(mean(ratios));
        }
    }

    /// What came of it.
    pub fn finish(self, world: &World) -> Measured {
        let asked = |done: &&Done| done.asked_at >= self.warm && done.asked_at <= self.end;
        Measured {
            done: world.done.iter().filter(asked).copied().collect(),
            unanswered: world.under_way(),
            shares: self.shares,
            ages_ms: self.ages_ms,
            age_ratios: self.age_ratios,
            gossip: self.gossip,
            inputs: world.inputs,
            trace: world.trace.hash(),
        }
    }
}

impl Sent {
    fn of(world: &World) -> Sent {
        let (by_kind, relayed) = (BTreeMap::new(), BTreeMap::new());
        let mut sent = Sent { at: world.now(), messages: 0, bytes: 0, by_kind, relayed, news_ages: Default::default() };
        for n in world.live() {
            let stats = world.core(n).stats();
            for (kind, (messages, bytes)) in &stats.sent {
                let all = bytes + messages * OVERHEAD;
                sent.messages += messages;
                sent.bytes += all;
                if *kind != Kind::Rows {
                    *sent.by_kind.entry(kind.name()).or_default() += all;
                }
            }
            for (what, pieces) in stats.relay.pieces() {
                *sent.relayed.entry(what).or_default() += pieces;
            }
            sent.news_ages.iter_mut().zip(&stats.news_ages).for_each(|(all, ages)| all.merge(ages));
            for (why, (messages, bytes)) in &stats.rows {
                *sent.by_kind.entry(why.name()).or_default() += bytes + messages * OVERHEAD;
            }
        }
        sent
    }
}

/// The others' work that node `n` reckons with without having heard of it, over the rate at which they pick for work.
fn unseen_age_ms(world: &World, n: usize) -> f64 {
    let config = world.config();
    let others = (config.nodes - 1) as f64 / config.nodes as f64;
    let rate = config.load * config.pods as f64 * f64::from(config.server.slots) * others;
    let view = world.core(n).view(world.local(n));
    if rate > 0.0 { view.unseen_ms / rate } else { 0.0 }
}

fn gossip(world: &World, before: &Sent) -> Gossip {
    let live = world.live();
    let (nodes, sent) = (live.len().max(1) as f64, Sent::of(world));
    let node_seconds = sent.at.since(before.at).as_secs_f64().max(1e-3) * nodes;
    let since = |now: &BTreeMap<&'static str, u64>, before: &BTreeMap<&'static str, u64>| {
        let more = |(what, count): (&&'static str, &u64)| (*what, count - before.get(*what).unwrap_or(&0).min(count));
        now.iter().map(more).map(|(what, more)| (what, more as f64 / node_seconds)).collect()
    };
    // A node that was started anew counts from zero again.
    let mut gossip = Gossip {
        bytes_per_node_s: sent.bytes.saturating_sub(before.bytes) as f64 / node_seconds,
        bytes_by_kind: since(&sent.by_kind, &before.by_kind),
        relayed: since(&sent.relayed, &before.relayed),
        messages_per_node_s: sent.messages.saturating_sub(before.messages) as f64 / node_seconds,
        ..Gossip::default()
    };
    let picks = live.iter().map(|n| world.core(*n).stats().strict.picks());
    let (all, local) = picks.fold((0, 0), |sum, (all, local)| (sum.0 + all, sum.1 + local));
    gossip.local = (all > 0).then(|| local as f64 / all as f64);
    let ms = |ages: &Ages, share| ages.quantile(share).map_or(f64::NAN, |age| age.as_secs_f64() * 1e3);
    let ages = [0, 1].map(|class| sent.news_ages[class].since(&before.news_ages[class]));
    gossip.news_age_p99_ms = [0, 1].map(|class| ms(&ages[class], 0.99));
    let mut all = ages[0].clone();
    all.merge(&ages[1]);
    gossip.news_ages_ms = [ms(&all, 0.5), ms(&all, 0.99)];
    for n in live {
        let (stats, view) = (world.core(n).stats(), world.core(n).view(world.local(n)));
        gossip.news_age_ms[0] += view.news_age_small_ms / nodes;
        gossip.news_age_ms[1] += view.news_age_heavy_ms / nodes;
        gossip.at_once += stats.at_once as f64 / (stats.at_once + stats.waited).max(1) as f64 / nodes;
        let (at_once, waited) = (stats.work_at_once_ms, stats.work_waited_ms);
        gossip.work_at_once += at_once as f64 / (at_once + waited).max(1) as f64 / nodes;
    }
    gossip
}

impl Measured {
    /// Mean latency, ms.
    pub fn mean_ms(&self) -> f64 {
        self.done.iter().map(|done| done.took.as_secs_f64() * 1e3).sum::<f64>() / self.done.len().max(1) as f64
    }

    /// The latency that this share of the requests does not exceed (nearest rank), ms.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let mut took: Vec<Duration> = self.done.iter().map(|done| done.took).collect();
        took.sort_unstable();
        let rank = (share * took.len() as f64).ceil().max(1.0) as usize;
        took.get(rank - 1).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }

    /// As a row of a report on `plan`.
    pub fn row(&self, plan: &Plan) -> Row {
        let world = &plan.world;
        let mut row = Row::new(world.policy.name(), world.load, world.nodes, world.pods, Some(world.seed));
        self.samples(plan).fill(&mut row);
        row.utilisation = mean(self.shares.iter().flatten().copied());
        row.utilisation_cv = mean(self.shares.iter().filter_map(|window| variation(window)));
        row.bytes_per_node_s = match world.policy {
            Policy::Exact(_) => f64::NAN,
            _ => self.gossip.bytes_per_node_s,
        };
        if world.gossip && world.policy.gossips() {
            row.age_ms = mean(self.ages_ms.iter().copied());
            let [small, heavy] = self.gossip.news_age_ms;
            let named = [
                ("messages_per_node_s", self.gossip.messages_per_node_s),
                ("at_once", self.gossip.at_once),
                ("work_at_once", self.gossip.work_at_once),
                ("news_age_small_ms", small),
                ("news_age_heavy_ms", heavy),
                ("news_age_small_p99_ms", self.gossip.news_age_p99_ms[0]),
                ("news_age_heavy_p99_ms", self.gossip.news_age_p99_ms[1]),
                ("news_age_p50_ms", self.gossip.news_ages_ms[0]),
                ("news_age_p99_ms", self.gossip.news_ages_ms[1]),
                ("age_ratio", mean(self.age_ratios.iter().copied())),
            ];
            row.more.extend(named.map(|(name, figure)| (name.to_owned(), figure)));
            row.more.extend(self.gossip.relayed.iter().map(|(what, pieces)| (format!("relay_{what}"), *pieces)));
            row.more.extend(self.gossip.bytes_by_kind.iter().map(|(kind, bytes)| (format!("bytes_{kind}"), *bytes)));
        }
        if let Some(local) = self.gossip.local {
            row.more.insert("local_share".to_owned(), local);
        }
        row.trace = Some(format!("{:016x}", self.trace));
        row
    }

    fn samples(&self, plan: &Plan) -> Samples {
        let mean = plan.world.law.load().map_or(Duration::MAX, |sizes| sizes.mean());
        let deadline = plan.world.clients.deadline_ms.map_or(Duration::MAX, Duration::from_millis);
        let mut samples = Samples::default();
        for done in &self.done {
            match done.end {
                End::Served => samples.served(done.took, done.served, done.kind <= mean),
                End::Failed | End::Refused => samples.failed(),
                // A caller that left because it waited too long was failed; one that would have left anyway was not.
                End::Cancelled if done.took >= deadline => samples.failed(),
                End::Cancelled => {}
            }
        }
        (0..self.unanswered).for_each(|_| samples.failed());
        samples
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// Standard deviation over mean; none of a single pod, or where nothing ran.
fn variation(shares: &[f64]) -> Option<f64> {
    let mean = mean(shares.iter().copied());
    let variance = shares.iter().map(|share| (share - mean) * (share - mean)).sum::<f64>() / shares.len() as f64;
    (shares.len() > 1 && mean > 0.0).then(|| variance.sqrt() / mean)
}
