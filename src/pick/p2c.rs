//! The better of two random pods, by requests in flight (Mitzenmacher 2001): what most proxies do.

use super::candidates::Candidates;
use super::policy::{Context, Policy, PolicyKind};

pub(super) struct P2c;

impl Policy for P2c {
    fn name(&self) -> &'static str {
        PolicyKind::P2c.name()
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        better_of_two(pods.len(), context, |k| pods.load(k).in_flight_per_slot())
    }
}

/// Of two different random positions below `n`, the one with the smaller `key`; a tie goes to the first drawn.
pub(super) fn better_of_two(n: usize, context: &Context, key: impl Fn(usize) -> f32) -> usize {
    if n < 2 {
        return 0;
    }
    let a = context.draw.below(0, n);
    // Without replacement: with it, one of four picks among four pods is blind.
    let b = (a + 1 + context.draw.below(1, n - 1)) % n;
    if key(b) < key(a) { b } else { a }
}
