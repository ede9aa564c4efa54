//! One plan under all checkers: what came of it. A panic of the product is a failure like any other.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use plimsoll::time::Time;

use super::Marks;
use crate::plan::Plan;
use crate::run::{Phase, Watch, run_in};
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

/// The name that a panic goes by among the checkers.
const PANIC: &str = "panic";

/// What kind of failure it is.
pub fn class(failure: &Failure) -> Class {
    match failure.checker {
        PANIC => Class::Panic,
        name if name.starts_with("live") => Class::Liveness,
        _ => Class::Safety,
    }
}

/// Carries out `plan` under all checkers.
pub fn play(plan: &Plan) -> Played {
    play_in(&mut World::new(plan.world.clone()), plan)
}

/// The same in a world that was made before, so that somebody can listen to its trace.
pub fn play_in(world: &mut World, plan: &Plan) -> Played {
    let mut watch = Seen { checks: Vec::new(), marks: Marks::default() };
    guarded(world, plan, &mut watch);
    let mut marks = watch.marks;
    marks.of_world(world);
    Played {
        failure: world.failures.first().cloned(),
        trace: world.trace.hash(),
        checkpoints: world.trace.checkpoints().to_vec(),
        inputs: world.inputs,
        requests: world.done.len() as u64,
        node_time: world.now().since(Time::ZERO) * world.config().nodes as u32,
        marks,
    }
}

/// The checkers, and which phases they saw.
struct Seen {
    checks: Vec<Box<dyn Watch>>,
    marks: Marks,
}

impl Watch for Seen {
    fn look(&mut self, world: &mut World, phase: Phase, since: Time, over: bool) {
        if over {
            self.marks.of_phase(phase);
        }
        self.checks.look(world, phase, since, over);
    }
}

/// Carries out `plan`; a panic becomes a failure of the world.
fn guarded(world: &mut World, plan: &Plan, watch: &mut dyn Watch) {
    keep_panics_quiet();
    QUIET.set(Some(String::new()));
    let done = catch_unwind(AssertUnwindSafe(|| run_in(world, plan, watch)));
    let said = QUIET.take().unwrap_or_default();
    if done.is_err() {
        // What it had found before does not matter: a panic is the worst.
        world.failures.clear();
        world.fail(PANIC, None, None, said);
    }
}

thread_local! {
    /// What the panic on this thread said, while panics on it are caught.
    static QUIET: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics on threads that catch them tell their words instead of the terminal.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let caught = QUIET.with_borrow_mut(|said| {
                let words = panic.payload_as_str().unwrap_or("no words").replace('\n', ", ");
                let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
                said.as_mut().map(|said| *said = words + &place).is_some()
            });
            if !caught {
                usual(panic);
            }
        }));
    });
}
