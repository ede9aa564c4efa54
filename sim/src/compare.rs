//! The same arrivals under several policies, loads and seeds.
//!
//! When requests come, what they ask for and how long they take on the way is drawn from streams that no policy touches,
//! so that two policies differ by what they decide and nothing else. The figures of two seeds differ far more than the
//! ratios between two policies under one.

mod require;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::bad::BadValue;
use crate::config::Config;
use crate::law;
use crate::measure::measure;
use crate::plan::{LONGEST_MS, Plan};
use crate::policy::Policy;
use crate::report::Row;
use crate::scenario::{self, UnknownScenario};
use crate::world::Failure;

pub use require::{Requirement, Unclear};

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The fleets; their policies, loads and seeds are overridden.
    pub worlds: Vec<Config>,
    /// Who picks.
    pub policies: Vec<Policy>,
    /// At which loads.
    pub loads: Vec<f64>,
    /// Under which seeds.
    pub seeds: Vec<u64>,
    /// How long clients ask.
    pub length: Length,
    /// What goes wrong, by the name of a [`scenario`].
    pub scenario: String,
}

/// What cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Impossible {
    /// A value makes no world: change it.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// A law is out of range, or its file cannot be used.
    #[error(transparent)]
    Law(#[from] law::Error),
    /// There is no such scenario.
    #[error(transparent)]
    Scenario(#[from] UnknownScenario),
    /// What a scenario does cannot happen under a policy: leave out the one or the other.
    #[error("scenario {scenario}, policy {policy}: {fault}: {problem}")]
    Fault {
        /// The scenario.
        scenario: String,
        /// The policy.
        policy: Policy,
        /// What cannot happen.
        fault: &'static str,
        /// Why not.
        problem: String,
    },
}

/// How long clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In virtual time.
    Seconds(u64),
    /// For about so many requests, the warm-up's tenth included, at any load.
    Requests(u64),
}

impl Comparison {
    /// A plan for each fleet, load, policy and seed, in that order.
    ///
    /// # Errors
    /// [`Impossible`]: the first thing that makes no world.
    pub fn plans(&self) -> Result<Vec<Plan>, Impossible> {
        let mut plans = Vec::new();
        for world in &self.worlds {
            for load in &self.loads {
                for policy in &self.policies {
                    let seeds = self.seeds.iter();
                    let worlds = seeds.map(|seed| Config {
                        load: *load,
                        policy: *policy,
                        gossip: policy.gossips(),
                        seed: *seed,
                        ..world.clone()
                    });
                    for world in worlds {
                        plans.push(self.plan(world)?);
                    }
                }
            }
        }
        Ok(plans)
    }

    fn plan(&self, world: Config) -> Result<Plan, Impossible> {
        world.check()?;
        let ask_ms = self.length.ask_ms(&world)?;
        let mut plan = scenario::plan_for_ms(&self.scenario, world, ask_ms)?;
        // Whoever measures lets requests end, and no longer.
        (plan.ending.live_ms, plan.ending.quiet_ms) = (0, 0);
        for planned in &plan.faults {
            if let Some(problem) = planned.fault.problem(&plan.world) {
                let (scenario, fault) = (self.scenario.clone(), planned.fault.kind());
                let policy = plan.world.policy;
                return Err(Impossible::Fault { scenario, policy, fault, problem });
            }
        }
        Ok(plan)
    }
}

impl Length {
    fn ask_ms(self, world: &Config) -> Result<u64, Impossible> {
        let ms = match self {
            Length::Seconds(seconds) => seconds.saturating_mul(1000),
            Length::Requests(requests) => {
                let slots = world.pods as f64 * f64::from(world.server.slots);
                let gap_ms = world.law.load()?.mean().as_secs_f64() * 1e3 / (world.load * slots);
                (requests as f64 * gap_ms / world.arrivals.mean_rate()).ceil() as u64
            }
        };
        if (1..=LONGEST_MS).contains(&ms) {
            return Ok(ms);
        }
        let (field, remedy) = ("length", "at least a request, and at most a day");
        Err(BadValue::new(field, format!("{self:?} at load {}", world.load), "cannot be played", remedy).into())
    }
}

/// What came of one plan.
#[derive(Clone, Debug)]
pub struct Played {
    /// Its figures.
    pub row: Row,
    /// What must never be and was.
    pub failures: Vec<Failure>,
}

/// Plays `plans` on as many threads as `jobs` says, and tells `watch` of each as it is done; the results are in the
/// plans' order, whoever was done first.
pub fn play(plans: &[Plan], jobs: usize, watch: &(dyn Fn(&Plan) + Sync)) -> Vec<Played> {
    let (next, played) = (AtomicUsize::new(0), Mutex::new(vec![None; plans.len()]));
    let work = || {
        while let Some((place, plan)) = take(plans, &next) {
            let result = play_one(plan);
            played.lock().expect("nobody panics while holding this")[place] = Some(result);
            watch(plan);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, plans.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let played = played.into_inner().expect("nobody panics while holding this");
    played.into_iter().map(|played| played.expect("all plans were taken")).collect()
}

fn take<'a>(plans: &'a [Plan], next: &AtomicUsize) -> Option<(usize, &'a Plan)> {
    let place = next.fetch_add(1, Relaxed);
    plans.get(place).map(|plan| (place, plan))
}

/// Plays one plan.
pub fn play_one(plan: &Plan) -> Played {
    let (measured, world) = measure(plan);
    Played { row: measured.row(plan), failures: world.failures }
}
