//! Policies that the product does not ship, in the product's core: what others do, and what was tried and lost.
//!
//! They see what the product's see, loads and a context, and nothing else; only peak EWMA goes by what it was told of
//! latencies, which the world feeds it.

mod peak_ewma;
mod water_fill;

use plimsoll::observe::PodLoad;
use plimsoll::pick::{Candidates, Context, Policy, PolicyKind};

pub(crate) use self::peak_ewma::Latencies;
use self::peak_ewma::PeakEwma;
use self::water_fill::WaterFill;
use crate::policy::Baseline;

/// The policy for a node's core; `latencies` are the node's.
pub(crate) fn of(baseline: Baseline, latencies: &Latencies) -> Box<dyn Policy> {
    match baseline {
        Baseline::P2cCost => Box::new(P2cCost),
        Baseline::WaterFill => Box::new(WaterFill),
        // On their own tickets, because nodes that do not join hear of no others.
        Baseline::OwnLeastInFlight => Box::new(Called("own_least_in_flight", PolicyKind::LeastInFlight.policy())),
        Baseline::OwnP2c => Box::new(Called("own_p2c", PolicyKind::P2c.policy())),
        Baseline::PeakEwma => Box::new(PeakEwma::new(latencies.clone())),
    }
}

/// A policy of the product's under another name.
struct Called(&'static str, Box<dyn Policy>);

impl Policy for Called {
    fn name(&self) -> &'static str {
        self.0
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        self.1.choose(pods, context)
    }
}

/// The better of two random pods by work in flight.
struct P2cCost;

impl Policy for P2cCost {
    fn name(&self) -> &'static str {
        "p2c_cost"
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        better_of_two(pods, context, |load| f64::from(load.cost_ms) / f64::from(load.weight * load.slots as f32))
    }
}

/// Of two different random candidates, the one with the smaller key; a tie goes to the first drawn.
fn better_of_two(pods: &Candidates<'_>, context: &Context, mut key: impl FnMut(&PodLoad) -> f64) -> usize {
    if pods.len() < 2 {
        return 0;
    }
    let a = context.draw.below(0, pods.len());
    let b = (a + 1 + context.draw.below(1, pods.len() - 1)) % pods.len();
    if key(&pods.load(b)) < key(&pods.load(a)) { b } else { a }
}
