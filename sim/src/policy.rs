//! How picks are made in a world, by name: the product's policies, baselines in the product's core, and those that need
//! no node's view because they know everything, or ask one place that does.
//!
//! | policy | who decides | what it knows |
//! |---|---|---|
//! | the product's | each node's own core | its own tickets, and the gossiped rows of its peers |
//! | `strict` | the same, and in it the owner of a shard of the pods | the same, and what owners granted |
//! | `p2c_cost`, `water_fill` | the same | the same |
//! | `round_robin`, `random`, `own_*`, `peak_ewma` | the same | its own tickets only: nodes do not join, nothing is gossiped |
//! | `redis` | one store that all ask | all tickets, exactly |
//! | `least_work`, `least_count`, `central_queue` | an oracle | the pods themselves |

use std::fmt;
use std::str::FromStr;

use plimsoll::pick::PolicyKind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A policy that a world knows, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One of the product's.
    Product(PolicyKind),
    /// The product's default in strict mode: owners of shards reserve pods, a round trip away.
    Strict,
    /// One that the product does not ship, in the product's core.
    Baseline(Baseline),
    /// One that stands outside the nodes.
    Exact(ExactKind),
}

/// What others do, and what was tried and is worse, on a node's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The better of two random pods, by work in flight.
    P2cCost,
    /// Water-filling without a residual clock, a wider spread of heavy requests or an even draw.
    WaterFill,
    /// The pod with the fewest of the node's own requests.
    OwnLeastInFlight,
    /// The better of two random pods, by the node's own requests: what most proxies do.
    OwnP2c,
    /// The better of two random pods, by a peak-sensitive mean latency times the node's own requests: Finagle's.
    PeakEwma,
}

/// Who decides for all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExactKind {
    /// A store that keeps the work in flight of every pod: exact, one at a time, and a round trip away.
    Redis,
    /// Knows the work that is left at every pod, and on the way there.
    LeastWork,
    /// Knows how many requests are at every pod, and on the way there.
    LeastCount,
    /// One queue before all slots: no policy can be better without knowing the sizes and changing their order.
    CentralQueue,
}

impl Policy {
    /// All of them, the default first, and what each does.
    pub const ALL: [(Policy, &str); 16] = {
        use {Baseline as B, ExactKind as E, PolicyKind as K};
        [
            (Policy::Product(K::Plimsoll), "the default: water-filling that knows how old its view is"),
            (Policy::Strict, "the default in strict mode: owners of shards reserve pods, a round trip away"),
            (Policy::Product(K::LeastCost), "the pod with the least work in flight, on the gossiped view"),
            (Policy::Product(K::LeastInFlight), "the pod with the fewest requests, on the gossiped view"),
            (Policy::Product(K::P2c), "the better of two random pods by requests, on the gossiped view"),
            (Policy::Baseline(B::P2cCost), "the better of two random pods by work, on the gossiped view"),
            (Policy::Baseline(B::WaterFill), "plain water-filling by work, on the gossiped view"),
            (Policy::Product(K::RoundRobin), "one after the other; no gossip"),
            (Policy::Product(K::Random), "any; no gossip"),
            (Policy::Baseline(B::OwnLeastInFlight), "the pod with the fewest own requests; no gossip"),
            (Policy::Baseline(B::OwnP2c), "the better of two random pods by own requests; no gossip"),
            (Policy::Baseline(B::PeakEwma), "Finagle's peak EWMA of latencies, two choices; no gossip"),
            (Policy::Exact(E::Redis), "least work in flight by an exact store, a round trip away"),
            (Policy::Exact(E::LeastWork), "an oracle: the least work left, what is on the way included"),
            (Policy::Exact(E::LeastCount), "an oracle: the fewest requests, what is on the way included"),
            (Policy::Exact(E::CentralQueue), "one queue before all slots: the physical limit"),
        ]
    };

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Product(kind) => kind.name(),
            Policy::Strict => "strict",
            Policy::Baseline(Baseline::P2cCost) => "p2c_cost",
            Policy::Baseline(Baseline::WaterFill) => "water_fill",
            Policy::Baseline(Baseline::OwnLeastInFlight) => "own_least_in_flight",
            Policy::Baseline(Baseline::OwnP2c) => "own_p2c",
            Policy::Baseline(Baseline::PeakEwma) => "peak_ewma",
            Policy::Exact(ExactKind::Redis) => "redis",
            Policy::Exact(ExactKind::LeastWork) => "least_work",
            Policy::Exact(ExactKind::LeastCount) => "least_count",
            Policy::Exact(ExactKind::CentralQueue) => "central_queue",
        }
    }

    /// Whether nodes gossip under it: what looks at nothing but a node's own tickets would decide the same with news from
    /// everybody, and would pay for them.
    pub fn gossips(self) -> bool {
        match self {
            Policy::Product(kind) => !matches!(kind, PolicyKind::RoundRobin | PolicyKind::Random),
            Policy::Strict => true,
            Policy::Baseline(baseline) => matches!(baseline, Baseline::P2cCost | Baseline::WaterFill),
            Policy::Exact(_) => false,
        }
    }
}

impl Policy {
    /// Whether nodes must not gossip under it, because news would make it another policy, or nobody asks their cores.
    pub(crate) fn is_deaf(self) -> bool {
        match self {
            Policy::Product(_) | Policy::Strict => false,
            Policy::Baseline(baseline) => matches!(baseline, Baseline::OwnLeastInFlight | Baseline::OwnP2c),
            Policy::Exact(_) => true,
        }
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::Product(PolicyKind::default())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no policy of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no policy; take one of {names}", names = names())]
pub struct UnknownPolicy(String);

fn names() -> String {
    Policy::ALL.map(|(policy, _)| policy.name()).join(", ")
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Policy, UnknownPolicy> {
        let mut all = Policy::ALL.into_iter().map(|(policy, _)| policy);
        all.find(|policy| policy.name() == name).ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Policy, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy that the list misses could be run by nobody; whoever misspells one is shown all.
    #[test]
    fn every_policy_is_found_by_its_name_and_a_wrong_name_shows_all() {
        for (policy, _) in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        for kind in PolicyKind::ALL {
            assert_eq!(kind.name().parse(), Ok(Policy::Product(kind)));
        }
        let error = "rediss".parse::<Policy>().unwrap_err().to_string();
        assert!(error.starts_with("`rediss`") && error.contains("central_queue") && !error.contains('\n'), "{error}");
    }
}
