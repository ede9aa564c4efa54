//! Any pod: what a balancer without knowledge does.

use super::policy::{Context, Policy, PolicyKind};
use crate::observe::PodLoad;

pub(super) struct Random;

impl Policy for Random {
    fn name(&self) -> &'static str {
        PolicyKind::Random.name()
    }

    fn choose(&self, loads: &[PodLoad], context: &Context<'_>) -> usize {
        context.draw.below(0, loads.len())
    }
}
