//! What a policy is, and which there are.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use super::candidates::{Candidate, Candidates};
use super::scratch::Scratch;
use super::{Draw, least_cost, least_in_flight, p2c, plimsoll, random, round_robin};
use crate::observe::{BatchLaw, Cost, SizeClass};

thread_local! {
    static KEYS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// How to pick: a function of the candidates' loads and one pick's context, and of nothing else.
pub trait Policy: Send + Sync {
    /// What views call it; the product's own are called as [`PolicyKind::name`] says.
    fn name(&self) -> &'static str;

    /// The position in `pods` (never empty) of the pod to take.
    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize;

    /// Whether it looks at the parts of pods. If not, nothing is played through, and a pick costs a third.
    fn reads_parts(&self) -> bool {
        false
    }
}

/// What a policy knows beside the loads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Context {
    /// The request's cost, ms.
    pub cost_ms: f32,
    /// The same, rounded to its size class as the peers' requests are.
    pub class_ms: f32,
    /// Whether it costs more than the mean request.
    pub heavy: bool,
    /// How like the mean request it is in cost: the smaller of the two over the larger.
    pub alike: f32,
    /// Work of the other nodes that lands before this node hears of it, ms.
    pub unseen_ms: f32,
    /// The share of all work that the other nodes pick for: 0 where this node is alone, near 1 in a crowd.
    pub others: f32,
    /// How far the view can be trusted.
    pub rung: Rung,
    /// Chance.
    pub draw: Draw,
    /// What batches of the model are like.
    pub batches: BatchLaw,
}

impl Context {
    /// A context without news from anyone, for benchmarks and tests of policies.
    pub fn alone(cost_ms: f32, draw: Draw) -> Context {
        let batches = BatchLaw::UNKNOWN;
        Context {
            cost_ms,
            class_ms: class_ms(cost_ms),
            heavy: false,
            alike: 0.0,
            unseen_ms: 0.0,
            others: 0.0,
            rung: Rung::Fill,
            draw,
            batches,
        }
    }
}

/// What peers are told of a cost.
fn class_ms(cost_ms: f32) -> f32 {
    Cost::from_ms(f64::from(cost_ms)).map_or(0.0, |cost| SizeClass::of(cost).typical().as_ms() as f32)
}

/// The ladder that the default policy steps down when knowledge fails, by row age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// At most half of the peers are older than 2 s: fill by the view.
    #[default]
    Fill,
    /// More than half are: the better of two random pods, by what is known.
    TwoChoices,
    /// None is fresh: round robin, in an order of the node's own.
    Shuffled,
}

impl Rung {
    pub(crate) fn from_u8(rung: u8) -> Rung {
        match rung {
            0 => Rung::Fill,
            1 => Rung::TwoChoices,
            _ => Rung::Shuffled,
        }
    }

    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Fill => "fill",
            Rung::TwoChoices => "two_choices",
            Rung::Shuffled => "shuffled_round_robin",
        }
    }
}

/// The policies of the product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyKind {
    /// Staleness-aware water-filling: the default.
    #[default]
    Plimsoll,
    /// The pod with the least estimated work in flight.
    LeastCost,
    /// The pod with the fewest requests in flight.
    LeastInFlight,
    /// The better of two random pods, by requests in flight.
    P2c,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
}

impl PolicyKind {
    /// All of them, the default first.
    pub const ALL: [PolicyKind; 6] = [
        PolicyKind::Plimsoll,
        PolicyKind::LeastCost,
        PolicyKind::LeastInFlight,
        PolicyKind::P2c,
        PolicyKind::RoundRobin,
        PolicyKind::Random,
    ];

    /// Its name in configuration, flags and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            PolicyKind::Plimsoll => "plimsoll",
            PolicyKind::LeastCost => "least_cost",
            PolicyKind::LeastInFlight => "least_in_flight",
            PolicyKind::P2c => "p2c",
            PolicyKind::RoundRobin => "round_robin",
            PolicyKind::Random => "random",
        }
    }

    /// The policy itself.
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            PolicyKind::Plimsoll => Box::new(plimsoll::Plimsoll),
            PolicyKind::LeastCost => Box::new(least_cost::LeastCost),
            PolicyKind::LeastInFlight => Box::new(least_in_flight::LeastInFlight),
            PolicyKind::P2c => Box::new(p2c::P2c),
            PolicyKind::RoundRobin => Box::new(round_robin::RoundRobin),
            PolicyKind::Random => Box::new(random::Random),
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no policy of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no policy; take one of plimsoll, least_cost, least_in_flight, p2c, round_robin, random")]
pub struct UnknownPolicy(pub String);

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<PolicyKind, UnknownPolicy> {
        PolicyKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

/// The position of the smallest of what `key` says of each, none of them below zero; equal ones are decided by the draw,
/// because "the first of equals" on every node at once is a herd.
#[inline]
pub(super) fn least<'a>(pods: &Candidates<'a>, draw: &Draw, key: impl Fn(Candidate<'a>) -> f32) -> usize {
    let mut keys = Scratch::of(&KEYS);
    // As bits: of numbers that are not negative these have the same order, and the least of many is vector code.
    pods.collect(&mut keys, |pod| key(pod).to_bits());
    let least = keys.iter().copied().fold(u32::MAX, u32::min);
    let equals = keys.iter().map(|key| u32::from(*key == least)).sum::<u32>() as usize;
    let which = if equals > 1 { draw.below(0, equals) } else { 0 };
    let mut positions = (0..keys.len()).filter(|k| keys[*k] == least);
    positions.nth(which).unwrap_or(0)
}
