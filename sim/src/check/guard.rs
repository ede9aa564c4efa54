//! A run that cannot take its caller down: a panic anywhere in it is one more failure.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::Duration;

use plimsoll::time::Time;

use super::{Checks, Marks, Rule};
use crate::plan::Plan;
use crate::run::{Watch, run_in};
use crate::world::{Failure, World};

/// What a run without failures leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// The hash of all that happened.
    pub trace: u64,
    /// Inputs that cores were turned by.
    pub inputs: u64,
    /// Requests that ended.
    pub requests: usize,
    /// How long it lasted, in virtual time.
    pub lasted: Duration,
    /// How often each rule was judged.
    pub marks: Marks,
}

/// Carries out `plan` under all checkers.
///
/// # Errors
/// The first failure; a panic is one of [`Rule::NoPanic`].
pub fn guarded(plan: &Plan) -> Result<Passed, Failure> {
    guarded_with(plan, &mut Vec::new()).0
}

/// The same with another watcher beside the checkers, and the world as it was left.
pub fn guarded_with(plan: &Plan, watch: &mut dyn Watch) -> (Result<Passed, Failure>, World) {
    let mut world = World::new(plan.world.clone());
    (guarded_in(&mut world, plan, watch), world)
}

/// The same in a world that was made before, so that somebody can listen to its trace.
///
/// # Errors
/// As [`guarded`].
pub fn guarded_in(world: &mut World, plan: &Plan, watch: &mut dyn Watch) -> Result<Passed, Failure> {
    let mut both = Both(Checks::new(plan), watch);
    listen_for_panics();
    PANIC.with(|panic| *panic.borrow_mut() = Some(String::new()));
    let ran = catch_unwind(AssertUnwindSafe(|| run_in(world, plan, &mut both)));
    let said = PANIC.with(|panic| panic.borrow_mut().take());
    if ran.is_err() {
        let what = format!("expected no panic; got {}", said.unwrap_or_default());
        return Err(Failure { checker: Rule::NoPanic.id(), at: world.now(), node: None, pod: None, what });
    }
    world.marks.add(Rule::NoPanic, 1);
    let passed = Passed {
        trace: world.trace.hash(),
        inputs: world.inputs,
        requests: world.done.len(),
        lasted: world.now().since(Time::ZERO),
        marks: world.marks.clone(),
    };
    world.failures.first().cloned().map_or(Ok(passed), Err)
}

struct Both<'a>(Checks, &'a mut dyn Watch);

impl Watch for Both<'_> {
    fn look(&mut self, world: &mut World, phase: crate::run::Phase, since: Time, over: bool) {
        self.0.look(world, phase, since, over);
        self.1.look(world, phase, since, over);
    }
}

thread_local! {
    /// What the panic of a guarded run said; none outside of one.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics of guarded runs from the terminal; all others go there as ever.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let guarded = PANIC.with(|panic| match &mut *panic.borrow_mut() {
                Some(said) => {
                    *said = info.to_string().replace('\n', " ");
                    true
                }
                None => false,
            });
            if !guarded {
                before(info);
            }
        }));
    });
}
