//! Any pod: what a balancer without knowledge does.

use super::candidates::Candidates;
use super::policy::{Context, Policy, PolicyKind};

pub(super) struct Random;

impl Policy for Random {
    fn name(&self) -> &'static str {
        PolicyKind::Random.name()
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        context.draw.below(0, pods.len())
    }
}
