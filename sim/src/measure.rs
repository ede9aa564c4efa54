//! What a run's callers and operators would have measured: latencies, how busy the pods were, what gossip cost.

use std::time::Duration;

use plimsoll::time::Time;

use crate::plan::Plan;
use crate::run::{LOOK, Phase, Watch, run};
use crate::world::{Done, World};

/// What a datagram costs beside its payload: QUIC's part, IP and UDP, its share of acknowledgements. As the product's
/// budget counts it.
const OVERHEAD: u64 = 38 + 28 + 7;
/// The busy share of a pod is taken over windows this long.
const WINDOW: Duration = Duration::from_secs(1);

/// Looks at a run, and says at its end what came of it. Of the time in which clients ask, the first tenth warms up.
#[derive(Debug, Default)]
pub struct Measure {
    warm: Time,
    end: Time,
    looks: u64,
    busy: Vec<Duration>,
    /// Busy shares, by window and pod.
    shares: Vec<Vec<f64>>,
    ages_ms: Vec<f64>,
    gossip: Gossip,
}

/// What gossip cost, and how fresh it was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gossip {
    /// Bytes each node sent per second, with all overhead.
    pub bytes_per_node_s: f64,
    /// Messages each node sent per second.
    pub messages_per_node_s: f64,
    /// Share of changes that went at once.
    pub at_once: f64,
    /// Running mean age of small and heavy news at the end, ms, mean over the nodes.
    pub news_age_ms: [f64; 2],
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Requests that were asked for after the warm-up, in order of their ends.
    pub done: Vec<Done>,
    /// Busy share of each pod in each second.
    pub shares: Vec<Vec<f64>>,
    /// The mean age of the work that picks did not know of, ms: each look's mean over the nodes.
    pub ages_ms: Vec<f64>,
    /// Gossip.
    pub gossip: Gossip,
    /// Inputs that cores were turned by.
    pub inputs: u64,
    /// The hash of all that happened.
    pub trace: u64,
}

/// Carries out `plan` and measures it.
pub fn measure(plan: &Plan) -> (Measured, World) {
    let mut watch = Measure::default();
    let world = run(plan, &mut watch);
    (watch.finish(&world), world)
}

impl Watch for Measure {
    fn look(&mut self, world: &mut World, phase: Phase, since: Time, over: bool) {
        if phase != Phase::Asking {
            return;
        }
        self.looks += 1;
        self.end = world.now();
        if self.looks.is_multiple_of(WINDOW.as_nanos() as u64 / LOOK.as_nanos() as u64) {
            self.sample(world);
        }
        if over {
            self.warm = since + world.now().since(since) / 10;
            self.gossip = gossip(world, world.now());
        }
    }
}

impl Measure {
    fn sample(&mut self, world: &World) {
        let busy = world.busy();
        let slots = f64::from(world.config().server.slots) * WINDOW.as_secs_f64();
        if self.busy.len() == busy.len() {
            let spent = busy.iter().zip(&self.busy).map(|(now, before)| now.saturating_sub(*before));
            self.shares.push(spent.map(|spent| spent.as_secs_f64() / slots).collect());
        }
        self.busy = busy;
        let live = world.live();
        let ages = live.iter().map(|n| unseen_age_ms(world, *n));
        self.ages_ms.push(ages.sum::<f64>() / live.len().max(1) as f64);
    }

    /// What came of it.
    pub fn finish(self, world: &World) -> Measured {
        let asked = |done: &&Done| done.asked_at >= self.warm && done.asked_at <= self.end;
        let warm_windows = self.shares.len() / 10;
        Measured {
            done: world.done.iter().filter(asked).copied().collect(),
            shares: self.shares.into_iter().skip(warm_windows).collect(),
            ages_ms: self.ages_ms.into_iter().skip(warm_windows).collect(),
            gossip: self.gossip,
            inputs: world.inputs,
            trace: world.trace.hash(),
        }
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

fn gossip(world: &World, now: Time) -> Gossip {
    let live = world.live();
    let (nodes, seconds) = (live.len().max(1) as f64, now.since(Time::ZERO).as_secs_f64());
    let mut gossip = Gossip::default();
    for n in live {
        let (stats, view) = (world.core(n).stats(), world.core(n).view(world.local(n)));
        for (messages, bytes) in stats.sent.values() {
            gossip.messages_per_node_s += *messages as f64 / seconds / nodes;
            gossip.bytes_per_node_s += (bytes + messages * OVERHEAD) as f64 / seconds / nodes;
        }
        gossip.news_age_ms[0] += view.news_age_small_ms / nodes;
        gossip.news_age_ms[1] += view.news_age_heavy_ms / nodes;
        gossip.at_once += stats.at_once as f64 / (stats.at_once + stats.waited).max(1) as f64 / nodes;
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
}
