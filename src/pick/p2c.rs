//! The better of two random pods, by requests in flight (Mitzenmacher 2001): what most proxies do.

use super::policy::{Context, Policy, PolicyKind};
use crate::observe::PodLoad;

pub(super) struct P2c;

impl Policy for P2c {
    fn name(&self) -> &'static str {
        PolicyKind::P2c.name()
    }

    fn choose(&self, loads: &[PodLoad], context: &Context<'_>) -> usize {
        better_of_two(loads, context, |load| load.in_flight / load.slots as f32)
    }
}

/// Of two different random candidates, the one with the smaller `key`; a tie goes to the first drawn.
pub(super) fn better_of_two(loads: &[PodLoad], context: &Context<'_>, key: impl Fn(&PodLoad) -> f32) -> usize {
    if loads.len() < 2 {
        return 0;
    }
    let a = context.draw.below(0, loads.len());
    // Without replacement: with it, one of four picks among four pods is blind.
    let b = (a + 1 + context.draw.below(1, loads.len() - 1)) % loads.len();
    if key(&loads[b]) < key(&loads[a]) { b } else { a }
}
