//! The pod with the fewest requests in flight, as far as known, per slot.

use super::candidates::Candidates;
use super::policy::{Context, Policy, PolicyKind, least};

pub(super) struct LeastInFlight;

impl Policy for LeastInFlight {
    fn name(&self) -> &'static str {
        PolicyKind::LeastInFlight.name()
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        least(pods, &context.draw, |pod| pod.load().in_flight_per_slot())
    }
}
