//! Checkers: what must hold in every run, whatever goes wrong in it.
//!
//! A [`Rule`] is judged either where it happens (every pick, every end of a request, every message: see the world's
//! tally) or by [`Checks`], which look at the world ten times a second: O(1) at most looks, everything that goes over
//! nodes and pods twice a second, over pairs of nodes once a second. Beliefs may be wrong while a fault excuses them, and
//! each rule says for how long; [`Marks`] count how often each was really judged, because a rule that is always excused
//! catches nothing.

mod bounds;
mod counts;
mod gossip;
mod guard;
mod health;
mod members;
mod picks;
mod requests;
mod rules;
mod weather;

use plimsoll::time::Time;

pub use self::guard::{Passed, guarded, guarded_in, guarded_with};
pub use self::rules::{Marks, Rule};
use self::weather::{Look, Weather};
use crate::plan::Plan;
use crate::run::{Phase, Watch};
use crate::world::World;

/// All checkers of one run.
pub struct Checks {
    weather: Weather,
    families: Vec<Box<dyn Family>>,
    looks: u64,
}

/// Rules that look at the same things.
trait Family {
    /// Looks at the world, ten times a second.
    fn look(&mut self, look: &Look, world: &World, found: &mut Found);
}

/// What a look found.
#[derive(Default)]
struct Found {
    marks: Marks,
    failures: Vec<(Rule, Option<usize>, Option<usize>, String)>,
}

impl Found {
    /// `rule` was looked at, and broken where `holds` is false.
    fn judge(
        &mut self,
        rule: Rule,
        node: Option<usize>,
        pod: Option<usize>,
        holds: bool,
        what: impl FnOnce() -> String,
    ) {
        self.mark(rule, 1);
        if !holds {
            self.fail(rule, node, pod, what());
        }
    }

    fn mark(&mut self, rule: Rule, times: u64) {
        self.marks.add(rule, times);
    }

    fn fail(&mut self, rule: Rule, node: Option<usize>, pod: Option<usize>, what: String) {
        self.failures.push((rule, node, pod, what));
    }
}

impl Checks {
    /// The checkers of a run of `plan`.
    pub fn new(plan: &Plan) -> Checks {
        let families: Vec<Box<dyn Family>> = vec![
            Box::new(requests::Requests::new(plan)),
            Box::new(counts::Counts::new(plan)),
            Box::new(members::Members::new(plan)),
            Box::new(picks::Picks::new(plan)),
            Box::new(gossip::Gossip::new(plan)),
            Box::new(health::Looks::new(plan)),
        ];
        Checks { weather: Weather::new(plan), families, looks: 0 }
    }
}

impl Watch for Checks {
    fn look(&mut self, world: &mut World, phase: Phase, since: Time, over: bool) {
        self.weather.look(world);
        let look = Look { now: world.now(), phase, since, over, number: self.looks, weather: &self.weather };
        let mut found = Found::default();
        self.families.iter_mut().for_each(|family| family.look(&look, world, &mut found));
        self.looks += 1;
        world.marks.merge(&found.marks);
        for (rule, node, pod, what) in found.failures {
            world.fail(rule.id(), node, pod, what);
        }
    }
}
