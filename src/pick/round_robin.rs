//! One after the other, from a starting point of the node's own.

use super::candidates::Candidates;
use super::policy::{Context, Policy, PolicyKind};

pub(super) struct RoundRobin;

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        PolicyKind::RoundRobin.name()
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        (context.draw.phase().wrapping_add(context.draw.turn()) % pods.len() as u64) as usize
    }
}

/// Round robin in an order of the node's own: a stride that visits every pod, so that nodes that lost each other do not
/// walk in step.
pub(super) fn shuffled(n: usize, context: &Context) -> usize {
    let n = n as u64;
    let mut stride = context.draw.phase() % n;
    while gcd(stride, n) != 1 {
        stride += 1;
    }
    let turn = context.draw.turn() % n;
    ((context.draw.phase() % n + turn * stride) % n) as usize
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
