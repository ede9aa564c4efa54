//! How wrong learned costs are, over time, and what that costs callers.
//!
//! The truth that an estimate is held against is the best that anybody could say from a request's bytes: the mean of its
//! kind, and the round trip to the pod, which is in everything that a node can see of a request. What the requests
//! themselves vary beyond that is nobody's error.

use std::time::Duration;

use plimsoll::time::Time;

use crate::config::{Config, Costs};
use crate::fault::Fault;
use crate::measure::measure;
use crate::plan::Plan;
use crate::rng::Share;
use crate::world::{Done, End};

/// What puts costs to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// No node has seen a request.
    ColdStart,
    /// All requests take three times as long from one moment to the next, and come as often as before: the load is that
    /// of the world afterwards.
    ModelChange,
    /// One node of many starts, while the others have long learned.
    FreshNode,
    /// Bytes say nothing of the time.
    BlindSizes,
}

impl Trial {
    /// All of them.
    pub const ALL: [Trial; 4] = [Trial::ColdStart, Trial::FreshNode, Trial::ModelChange, Trial::BlindSizes];

    /// What it is.
    pub const fn name(self) -> &'static str {
        match self {
            Trial::ColdStart => "cold-start",
            Trial::ModelChange => "model-change",
            Trial::FreshNode => "fresh-node",
            Trial::BlindSizes => "blind-sizes",
        }
    }
}

/// Where a pick's cost comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// It is told: the least error there can be.
    Given,
    /// Each node learns for itself.
    Alone,
    /// Nodes learn, and tell each other.
    Told,
}

impl From {
    /// All of them.
    pub const ALL: [From; 3] = [From::Given, From::Alone, From::Told];

    /// What it is.
    pub const fn name(self) -> &'static str {
        match self {
            From::Given => "given",
            From::Alone => "alone",
            From::Told => "told",
        }
    }
}

/// How long a change of the model, or the start of the fresh node, comes after the first request.
pub const SETTLED: Duration = Duration::from_secs(20);
/// The moments between which figures are taken, after the one that matters, ms.
pub const EDGES_MS: [u64; 10] = [0, 100, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000];

/// What came of the requests of one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From, after the moment that matters.
    pub from: Duration,
    /// Requests.
    pub requests: usize,
    /// Median of the relative error of what small requests were charged, above or below.
    pub small: f64,
    /// Of heavy ones: those that take more than the mean.
    pub heavy: f64,
    /// Mean latency, ms.
    pub mean_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
}

/// The plan of a trial in a world like `world`.
pub fn plan(trial: Trial, from: From, world: &Config) -> Plan {
    let mut world = world.clone();
    world.clients.costs = if from == From::Given { Costs::Given } else { Costs::Learned };
    world.clients.tell_costs = from == From::Told;
    let after = *EDGES_MS.last().expect("there are edges");
    let settled = SETTLED.as_millis() as u64;
    let mut plan = match trial {
        Trial::ColdStart => Plan::new(trial.name(), world, after),
        Trial::BlindSizes => {
            world.clients.bytes_tell = Share::NEVER;
            Plan::new(trial.name(), world, after)
        }
        Trial::ModelChange => {
            world.load /= 3.0;
            let change = Fault::ModelChange { percent: 300, for_ms: after };
            Plan::new(trial.name(), world, settled + after).with(settled, change)
        }
        Trial::FreshNode => {
            // Once it is known to be dead, it comes back as one that never was.
            let dies = settled - 8000;
            let crash = Fault::NodeCrash { node: 0, for_ms: settled - dies, clock_back: false };
            Plan::new(trial.name(), world, settled + after).with(dies, crash)
        }
    };
    plan.ending.quiet_ms = 0;
    plan
}

/// Plays a trial, and says what came of it in each stretch of time.
pub fn play(trial: Trial, from: From, world: &Config) -> Vec<Window> {
    let plan = plan(trial, from, world);
    let (_, world) = measure(&plan);
    let settled = if matches!(trial, Trial::ColdStart | Trial::BlindSizes) { Duration::ZERO } else { SETTLED };
    let start = Time::ZERO + Duration::from_millis(plan.form_ms) + settled;
    let mean = plan.world.law.load().map_or(Duration::MAX, |sizes| sizes.mean());
    let mean = if trial == Trial::ModelChange { mean * 3 } else { mean };
    let counts = |done: &&Done| trial != Trial::FreshNode || done.node == 0;
    let done: Vec<Done> = world.done.iter().filter(counts).copied().collect();
    let hop = Duration::from_micros(2 * plan.world.hop_us + plan.world.hop_jitter_us);
    EDGES_MS
        .windows(2)
        .map(|edges| {
            let [from, to] = [edges[0], edges[1]].map(Duration::from_millis);
            let within = |done: &&Done| done.asked_at >= start + from && done.asked_at < start + to;
            window(from, done.iter().filter(within), mean, hop)
        })
        .collect()
}

fn window<'a>(from: Duration, done: impl Iterator<Item = &'a Done>, mean: Duration, round_trip: Duration) -> Window {
    let (mut small, mut heavy, mut took, mut requests) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for one in done {
        requests += 1;
        if let Some(charged) = one.charged {
            let truth = (one.kind + round_trip).as_secs_f64();
            let error = (charged.as_secs_f64() / truth - 1.0).abs();
            if one.kind <= mean { small.push(error) } else { heavy.push(error) }
        }
        if one.end == End::Served {
            took.push(one.took.as_secs_f64() * 1e3);
        }
    }
    let mean_ms = took.iter().sum::<f64>() / took.len().max(1) as f64;
    Window {
        from,
        requests,
        small: rank(&mut small, 0.5),
        heavy: rank(&mut heavy, 0.5),
        mean_ms,
        p99_ms: rank(&mut took, 0.99),
    }
}

/// The value that this share does not exceed (nearest rank); not a number where there is none.
fn rank(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that starts among others must not guess what they know: from its first half second on it charges what its
    /// requests cost; and after a change of the model a fleet must find the new costs within eight seconds.
    #[test]
    fn a_fresh_node_knows_at_once_and_a_fleet_follows_a_change() {
        let world = Config { seed: 11, nodes: 6, pods: 6, load: 0.6, ..Config::default() };
        let fresh = play(Trial::FreshNode, From::Told, &world);
        for window in &fresh[1..] {
            assert!(window.requests == 0 || !(window.small > 0.3 || window.heavy > 0.3), "{window:?}");
        }
        let changed = play(Trial::ModelChange, From::Told, &world);
        let after = |ms| changed.iter().find(|window| window.from == Duration::from_millis(ms)).expect("it is an edge");
        assert!(after(0).heavy > 0.5, "nobody noticed that anything changed: {:?}", after(0));
        assert!(after(8000).small < 0.2 && after(8000).heavy < 0.25, "{:?}", after(8000));
    }
}
