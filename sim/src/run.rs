//! A plan, carried out: nodes form, clients ask while faults strike, what must work in the end is healed, silence falls.

use std::time::Duration;

use plimsoll::time::Time;

use crate::fault::Fault;
use crate::plan::Plan;
use crate::world::World;

/// How often watchers look.
pub const LOOK: Duration = Duration::from_millis(100);

/// Where in its plan a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nodes get to know each other.
    Forming,
    /// Clients ask, faults strike.
    Asking,
    /// The chosen nodes and pods are healed for good, all else is dead for good, and clients ask.
    Living,
    /// Clients are silent.
    Quiet,
}

/// Looks at a world ten times a second, and when a phase is over.
pub trait Watch {
    /// The world as it stands, `since` when the phase lasts; `over` at its end.
    fn look(&mut self, world: &mut World, phase: Phase, since: Time, over: bool);
}

/// Watchers one after the other.
impl Watch for Vec<Box<dyn Watch + '_>> {
    fn look(&mut self, world: &mut World, phase: Phase, since: Time, over: bool) {
        self.iter_mut().for_each(|watch| watch.look(world, phase, since, over));
    }
}

/// Carries out `plan` under the eyes of `watch`; ends early at the first failure.
pub fn run(plan: &Plan, watch: &mut dyn Watch) -> World {
    let mut world = World::new(plan.world.clone());
    run_in(&mut world, plan, watch);
    world
}

/// The same in a world that was made before, so that somebody can listen to its trace.
pub fn run_in(world: &mut World, plan: &Plan, watch: &mut dyn Watch) {
    let ms = Duration::from_millis;
    world.keep_datagrams(plan.faults.iter().any(|planned| matches!(planned.fault, Fault::Replay { .. })));
    for planned in &plan.faults {
        world.plan(ms(plan.form_ms + planned.at_ms), planned.fault.clone());
    }
    let steps: [(Phase, u64); 4] = [
        (Phase::Forming, plan.form_ms),
        (Phase::Asking, plan.ask_ms),
        (Phase::Living, plan.ending.live_ms),
        (Phase::Quiet, plan.ending.quiet_ms),
    ];
    for (phase, lasts_ms) in steps.into_iter().filter(|(_, lasts_ms)| *lasts_ms > 0) {
        match phase {
            Phase::Forming => {}
            Phase::Asking => world.set_load(plan.world.load),
            Phase::Living => world.settle(&plan.ending),
            Phase::Quiet => world.set_load(0.0),
        }
        if !last(world, phase, ms(lasts_ms), watch) {
            return;
        }
    }
}

/// Lets a phase last; false where something failed in it.
fn last(world: &mut World, phase: Phase, lasts: Duration, watch: &mut dyn Watch) -> bool {
    let since = world.now();
    let end = since + lasts;
    while world.now() < end && world.failures.is_empty() {
        world.run_for(LOOK.min(end.since(world.now())));
        watch.look(world, phase, since, world.now() >= end);
    }
    world.failures.is_empty()
}
