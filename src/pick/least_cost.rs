//! The pod with the least estimated work in flight, as far as known, per unit of its capacity.
//!
//! What a Redis sorted set of costs does, without the Redis. On a stale view everybody goes to the same pod: this is a
//! baseline, not the default.

use super::policy::{Context, Policy, PolicyKind, least};
use crate::observe::PodLoad;

pub(super) struct LeastCost;

impl Policy for LeastCost {
    fn name(&self) -> &'static str {
        PolicyKind::LeastCost.name()
    }

    fn choose(&self, loads: &[PodLoad], context: &Context<'_>) -> usize {
        least(loads, &context.draw, |load| load.cost_ms / (load.weight * load.slots as f32))
    }
}
