//! One plan under all checkers: what came of it, and what it came across.

use std::time::Duration;

use plimsoll::time::Time;

use super::Marks;
use crate::check::{Rule, guarded_in};
use crate::plan::Plan;
use crate::run::{Phase, Watch};
use crate::world::{Failure, World};

/// What came of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// The first rule that was broken, if any was.
    pub failure: Option<Failure>,
    /// The hash of all that happened.
    pub trace: u64,
    /// The hash after every [`crate::trace::STRETCH`] records.
    pub checkpoints: Vec<u64>,
    /// Inputs that cores were turned by.
    pub inputs: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Virtual time, times the nodes.
    pub node_time: Duration,
    /// What occurred, how often.
    pub marks: Marks,
}

/// What kind of failure it is: what a script goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something happened that must not.
    Safety,
    /// Something did not happen that must.
    Liveness,
    /// The product panicked.
    Panic,
}

/// The rules that ask for something to happen.
const LIVENESS: [Rule; 6] =
    [Rule::InTime, Rule::NoneLost, Rule::Progress, Rule::Counted, Rule::OneComponent, Rule::Readmitted];

/// What kind of failure it is.
pub fn class(failure: &Failure) -> Class {
    if failure.checker == Rule::NoPanic.id() {
        Class::Panic
    } else if LIVENESS.iter().any(|rule| rule.id() == failure.checker) {
        Class::Liveness
    } else {
        Class::Safety
    }
}

/// Carries out `plan` under all checkers.
pub fn play(plan: &Plan) -> Played {
    play_in(&mut World::new(plan.world.clone()), plan)
}

/// The same in a world that was made before, so that somebody can listen to its trace.
pub fn play_in(world: &mut World, plan: &Plan) -> Played {
    let mut marks = Marks::default();
    let failure = guarded_in(world, plan, &mut Phases(&mut marks)).err();
    marks.of_world(world);
    Played {
        failure,
        trace: world.trace.hash(),
        checkpoints: world.trace.checkpoints().to_vec(),
        inputs: world.inputs,
        requests: world.done.len() as u64,
        node_time: world.now().since(Time::ZERO) * world.config().nodes as u32,
        marks,
    }
}

/// Marks the phases that came to their end.
struct Phases<'a>(&'a mut Marks);

impl Watch for Phases<'_> {
    fn look(&mut self, _: &mut World, phase: Phase, _: Time, over: bool) {
        if over {
            self.0.of_phase(phase);
        }
    }
}
