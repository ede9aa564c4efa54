//! Scenarios: what goes wrong on a bad day, by names that speak.
//!
//! A scenario takes a fleet of any shape and adds what its name says: to the world (links that lose, callers that cancel)
//! or to the schedule (a deploy, a pod that hangs). Faults scale with the fleet and with the time it is played, so that
//! the same name means the same day for four nodes and for four hundred.

mod callers;
mod network;
mod pods;
mod stores;

use crate::config::Config;
use crate::fault::Fault;
use crate::plan::Plan;

/// A day with a name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// As it is asked for.
    pub name: &'static str,
    /// What happens, in one line.
    pub help: &'static str,
    make: fn(&mut Day),
}

/// There is no scenario of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scenario; take one of {names}", names = names())]
pub struct UnknownScenario(pub String);

fn names() -> String {
    all().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}

/// All of them: what callers do, what happens to nodes, to pods, to the network, to a store.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    callers::LOADS.iter().chain(&callers::NODES).chain(&pods::ALL).chain(&network::ALL).chain(&stores::ALL)
}

/// The scenario called `name` in a fleet of `world`, of which clients ask for `seconds`.
///
/// # Errors
/// [`UnknownScenario`], which lists those there are.
pub fn plan(name: &str, world: Config, seconds: u64) -> Result<Plan, UnknownScenario> {
    plan_for_ms(name, world, seconds * 1000)
}

/// The same in milliseconds.
pub(crate) fn plan_for_ms(name: &str, world: Config, ask_ms: u64) -> Result<Plan, UnknownScenario> {
    let scenario = all().find(|scenario| scenario.name == name).ok_or_else(|| UnknownScenario(name.to_owned()))?;
    let mut day = Day { plan: Plan::new(name, world, ask_ms) };
    // Whoever is still ill when the day is over gets well, and has time to show it.
    day.plan.ending.live_ms = 15_000;
    (scenario.make)(&mut day);
    Ok(day.plan)
}

/// A plan in the making.
struct Day {
    plan: Plan,
}

impl Day {
    fn world(&mut self) -> &mut Config {
        &mut self.plan.world
    }

    fn nodes(&self) -> usize {
        self.plan.world.nodes
    }

    fn pods(&self) -> usize {
        self.plan.world.pods
    }

    /// So many percent of the day, ms.
    fn percent(&self, percent: u64) -> u64 {
        self.plan.ask_ms * percent / 100
    }

    /// `fault` strikes when so many percent of the day are over.
    fn at(&mut self, percent: u64, fault: Fault) {
        self.at_ms(self.percent(percent), fault);
    }

    fn at_ms(&mut self, at_ms: u64, fault: Fault) {
        self.plan.add(at_ms, fault);
    }

    /// One after the other between a tenth and nine tenths of the day, `count` times.
    fn one_by_one(&mut self, count: usize, fault: impl Fn(usize, u64) -> Fault) {
        let step = self.percent(80) / count.max(1) as u64;
        (0..count).for_each(|k| self.at_ms(self.percent(10) + k as u64 * step, fault(k, step)));
    }

    /// So many percent of `of`, at least one.
    fn share(of: usize, percent: usize) -> usize {
        (of * percent / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// A name that gives a plan that cannot be read back, or strikes at nodes that are not there, helps nobody; the
    /// smallest fleet is the likeliest to be forgotten.
    #[test]
    fn every_scenario_makes_a_plan_for_every_fleet() {
        let names: BTreeSet<&str> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count(), "two scenarios share a name");
        for scenario in all() {
            assert!(scenario.help.len() <= 100 && !scenario.help.ends_with('.'), "{}", scenario.name);
            for (nodes, pods, seconds) in [(1, 1, 1), (2, 1, 10), (3, 2, 60), (16, 32, 20), (100, 64, 60)] {
                let world = Config { nodes, pods, ..Config::default() };
                let plan = plan(scenario.name, world, seconds).unwrap();
                let again = Plan::parse(Path::new(scenario.name), &plan.to_toml());
                assert_eq!(again.map_err(|error| error.to_string()).as_ref(), Ok(&plan), "{nodes} nodes, {pods} pods");
            }
        }
        let error = plan("steddy", Config::default(), 1).unwrap_err().to_string();
        assert!(error.starts_with("`steddy` is no scenario; take one of steady, "), "{error}");
    }
}
