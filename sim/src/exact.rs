//! Policies that stand outside the nodes: one place decides for all, and what it decides it knows at once.
//!
//! They are what a balancer without such a place is measured against: a store that is exact and a round trip away, and
//! oracles that no network could have. A node's core is not asked under them; it only says which pods it knows and which
//! it has taken out.

mod oracle;
mod redis;

use std::time::Duration;

use plimsoll::time::Time;
use smallvec::SmallVec;

use crate::config::Config;
use crate::policy::ExactKind;
use crate::server::Server;

pub use redis::{Fallback, Redis};

/// Pods by number.
pub(crate) type Candidates = SmallVec<[usize; 64]>;

/// Shows a pod as it truly is; none while it is dead or hangs. Stores must not look.
pub(crate) type Look<'a> = &'a dyn Fn(usize) -> Option<&'a Server>;

/// Decides for all nodes.
pub(crate) trait Exact: Send {
    /// From a node to whoever decides, one way.
    fn way(&self) -> Duration {
        Duration::ZERO
    }

    /// One of `candidates` (never empty), which is charged with the request's cost in µs.
    fn place(&mut self, now: Time, cost_us: u64, candidates: &[usize], look: Look<'_>) -> usize;

    /// A placed request is on its way to `pod`, and will be there at `arrives`.
    fn sent(&mut self, _pod: usize, _arrives: Time, _service: Duration) {}

    /// A placed request is over.
    fn give_back(&mut self, _pod: usize, _cost_us: u64) {}

    /// It died and came back empty.
    fn forget(&mut self) {}
}

/// Who decides for all nodes of a world of `config`.
pub(crate) fn of(kind: ExactKind, config: &Config) -> Box<dyn Exact> {
    match kind {
        ExactKind::Redis => Box::new(redis::Store::new(&config.redis, config.pods)),
        ExactKind::LeastWork => Box::new(oracle::LeastWork::new(config)),
        ExactKind::LeastCount => Box::new(oracle::LeastCount::new(config)),
        ExactKind::CentralQueue => Box::new(oracle::OnePod),
    }
}

/// The world as `config` has it; under a central queue, one with a single pod that has all slots.
pub(crate) fn fleet_of(kind: ExactKind, mut config: Config) -> Config {
    if kind == ExactKind::CentralQueue {
        config.server.slots *= config.pods as u32;
        config.pods = 1;
    }
    config
}

/// The candidate with the smallest key. Looking begins with another one at each `turn`, so that equals take turns.
fn least<K: Ord>(candidates: &[usize], turn: usize, mut key: impl FnMut(usize) -> K) -> usize {
    let (before, after) = candidates.split_at(turn % candidates.len());
    let mut pods = after.iter().chain(before).copied();
    let first = pods.next().expect("there are candidates");
    let mut best = (key(first), first);
    for pod in pods {
        let key = key(pod);
        if key < best.0 {
            best = (key, pod);
        }
    }
    best.1
}
