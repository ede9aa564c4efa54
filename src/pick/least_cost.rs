//! The pod with the least estimated work in flight, as far as known, per unit of its capacity.
//!
//! What a Redis sorted set of costs does, without the Redis. On a stale view everybody goes to the same pod: this is a
//! baseline, not the default.

use super::candidates::{Candidate, Candidates};
use super::policy::{Context, Policy, PolicyKind, least};

pub(super) struct LeastCost;

impl Policy for LeastCost {
    fn name(&self) -> &'static str {
        PolicyKind::LeastCost.name()
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        least(pods, &context.draw, |pod| Candidate::cost_per_capacity_ms(&pod))
    }
}
