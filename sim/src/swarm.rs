//! The swarm: a seed gives a fleet nobody would have thought of, and what goes wrong in it.
//!
//! Everything is drawn before anything runs, from streams of its own, and written down as a plan. Each kind of fault, and
//! each trouble of links and clients, is left out of half the plans and wildly more or less frequent in the others: a
//! plan with everything in it hides what needs one thing alone (Groce et al., "Swarm testing", ISSTA 2012). In the end a
//! random part of the fleet is healed and all else is dead for good, so that a node that waits for a dead one is seen.

mod ending;
mod faults;
mod hunt;
mod marks;
mod play;
mod shape;

pub use hunt::{Found, hunt};
pub use marks::Marks;
pub use play::{Class, Played, class, play, play_in};

use crate::link::Link;
use crate::plan::Plan;
use crate::rng::{Rng, Share};
use crate::scenario::{self, UnknownScenario};

/// The plan of `seed`: any fault, any fleet. Every fourth is a day with a name instead, in that fleet, in half of the cases
/// with links on which nothing is lost: where less goes wrong at once, more is promised, and more can be judged.
pub fn plan(seed: u64) -> Plan {
    let mut draw = Draw::new(seed, "plan/day", 0);
    if draw.range(0, 3) > 0 {
        return planned(seed, "swarm", &faults::ALL);
    }
    let days: Vec<_> = scenario::all().collect();
    let mut shape = shape::draw(seed, false);
    if draw.coin() {
        shape.world.link = Link { delay_us: shape.world.link.delay_us, ..Link::default() };
    }
    day(draw.0.pick(&days).name, shape).expect("it has that name")
}

/// The plan of `seed` with crashes and restarts only, in a small fleet: what must never fail, and runs fast.
pub fn lite(seed: u64) -> Plan {
    planned(seed, "lite", &faults::LITE)
}

/// A [scenario] in the fleet of `seed`.
///
/// # Errors
/// [`UnknownScenario`].
pub fn named(name: &str, seed: u64) -> Result<Plan, UnknownScenario> {
    day(name, shape::draw(seed, false))
}

fn day(name: &str, shape: shape::Shape) -> Result<Plan, UnknownScenario> {
    scenario::plan(name, shape.world, (shape.ask_ms / 1000).max(20))
}

fn planned(seed: u64, name: &str, kinds: &[faults::Kind]) -> Plan {
    let shape = shape::draw(seed, name == "lite");
    let mut plan = Plan::new(name, shape.world, shape.ask_ms);
    plan.form_ms = shape.form_ms;
    let schedule = faults::draw(seed, &plan, kinds);
    schedule.faults.into_iter().for_each(|(at_ms, fault)| plan.add(at_ms, fault));
    plan.ending = ending::draw(seed, &plan, &schedule.hostile);
    plan
}

const HALF: Share = Share::millionths(500_000);

/// What a plan is drawn with.
struct Draw(Rng);

impl Draw {
    /// The stream of one part of a plan.
    fn new(seed: u64, part: &str, index: u64) -> Draw {
        Draw(Rng::new(seed, part, index))
    }

    /// From `low` to `high`, both included.
    fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    /// The same, where twice as much is as likely as half: sizes whose order of magnitude is open.
    fn scale(&mut self, low: u64, high: u64) -> u64 {
        let mut top = high;
        let halvings = (high / low.max(1)).max(1).ilog2();
        for _ in 0..self.0.below(u64::from(halvings) + 1) {
            top /= 2;
        }
        let bottom = (top / 2 + 1).max(low).min(top.max(low));
        self.range(bottom, top.max(bottom))
    }

    fn share(&mut self, low: u32, high: u32) -> Share {
        Share::millionths(self.scale(u64::from(low), u64::from(high)) as u32)
    }

    /// Whether, as a coin falls.
    fn coin(&mut self) -> bool {
        self.0.hits(HALF)
    }

    /// What `draw` says in half of the cases; the draw is made in any case, so that nothing behind it moves.
    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Draw) -> T) -> Option<T> {
        let mut part = Draw(Rng::from_hash(self.0.bits()));
        let on = self.coin();
        on.then(|| draw(&mut part))
    }

    /// `count` different ones of `0..of`, in a random order.
    fn some_of(&mut self, of: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..of).collect();
        for k in 0..count.min(of) {
            let other = k + self.0.below((of - k) as u64) as usize;
            all.swap(k, other);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests;
