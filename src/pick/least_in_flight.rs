//! The pod with the fewest requests in flight, as far as known, per slot.

use super::policy::{Context, Policy, PolicyKind, least};
use crate::observe::PodLoad;

pub(super) struct LeastInFlight;

impl Policy for LeastInFlight {
    fn name(&self) -> &'static str {
        PolicyKind::LeastInFlight.name()
    }

    fn choose(&self, loads: &[PodLoad], context: &Context<'_>) -> usize {
        least(loads, &context.draw, |load| load.in_flight / load.slots as f32)
    }
}
