//! `cargo sim compare`: the same arrivals under several policies.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use plimsoll_sim::arrivals::Arrivals;
use plimsoll_sim::compare::{Comparison, Length, Played, Requirement, play};
use plimsoll_sim::plan::Plan;
use plimsoll_sim::report::{Row, mean_of};
use plimsoll_sim::{Config, Policy};

use super::output::Output;
use super::pace::Pace;
use super::seeds::Seeds;
use super::shape::{self, Shape};
use super::{Result, exit, fail};

#[derive(Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    shape: Shape,
    /// Who picks, by name, in the order of the table; ratios are to the first
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = DEFAULT, long_help = names())]
    policies: Vec<Policy>,
    /// Loads to play, such as .5,.7,.85,.95, instead of --load
    #[arg(long, value_name = "LOADS", value_delimiter = ',', conflicts_with = "load", value_parser = shape::load)]
    loads: Vec<f64>,
    /// Fleets to play, nodes x pods, such as 10x16,100x64, instead of --nodes and --pods
    #[arg(long, value_name = "SIZES", value_delimiter = ',', conflicts_with_all = ["nodes", "pods"], value_parser = fleet)]
    fleets: Vec<(usize, usize)>,
    /// Seeds to play and average over: 11, or 11,12,13, or 11..13 with both ends; instead of --seed
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<Seeds>,
    /// Let clients ask for about so many requests at every load, instead of for --seconds
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(10..))]
    requests: Option<u64>,
    /// Runs at a time [default: as many as there are processors]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
    /// The policy that ratios are to [default: the first]
    #[arg(long, value_name = "NAME")]
    base: Option<Policy>,
    /// What goes wrong: `cargo sim scenarios` lists the names
    #[arg(long, default_value = "steady", value_name = "NAME")]
    scenario: String,
    /// Fail with exit code 14 where this does not hold, at any load: 'plimsoll.p99 <= 1.1 * redis.p99', or a number of ms
    /// on the right; may be given more than once
    #[arg(long, value_name = "BOUND")]
    require: Vec<Requirement>,
    #[command(flatten)]
    output: Output,
}

/// What everybody knows, what is shipped, what it is to replace, and how well anything could do.
const DEFAULT: &str = "round_robin,own_p2c,plimsoll,redis,least_work";

fn names() -> String {
    let lines = Policy::ALL.map(|(policy, what)| format!("  {:<20} {what}\n", policy.name()));
    format!("Who picks, in the order of the table; ratios are to the first:\n\n{}", lines.concat())
}

impl Compare {
    pub(crate) fn main(&self) -> Result {
        self.check()?;
        let plans = self.comparison()?.plans()?;
        let jobs = self.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
        let played = with_progress(&plans, jobs);
        let failure = first_failure(&plans, &played);
        let rows: Vec<Row> = played.into_iter().map(|played| played.row).collect();
        self.output.write(self.seeds(), rows.clone(), self.base.map(Policy::name))?;
        let broken: Vec<String> = self.require.iter().flat_map(|bound| bound.broken(&mean_of(&rows))).collect();
        broken.iter().for_each(|line| eprintln!("cargo sim: {line}"));
        Ok(match failure {
            Some(code) => ExitCode::from(code),
            None if broken.is_empty() => ExitCode::SUCCESS,
            None => ExitCode::from(exit::BOUND),
        })
    }

    /// What makes no sense, before hours are spent on it.
    fn check(&self) -> std::result::Result<(), Box<dyn std::error::Error>> {
        once("--policies", &self.policies)?;
        once("--loads", &self.loads)?;
        once("--seeds", &self.seeds())?;
        once("--fleets", &self.fleets.iter().map(|(nodes, pods)| format!("{nodes}x{pods}")).collect::<Vec<_>>())?;
        if let Some(base) = self.base.filter(|base| !self.policies.contains(base)) {
            return Err(format!("--base `{base}` is not among --policies: add it there").into());
        }
        for bound in &self.require {
            if let Some(absent) = bound.policies().find(|policy| !self.policies.contains(policy)) {
                return Err(format!("--require `{bound}`: `{absent}` is not among --policies: add it there").into());
            }
        }
        self.output.check()
    }

    fn comparison(&self) -> std::result::Result<Comparison, Box<dyn std::error::Error>> {
        let worlds = match &self.fleets[..] {
            [] => vec![self.shape.config()?],
            fleets => {
                let worlds = fleets.iter().map(|(nodes, pods)| self.shape.sized(*nodes, *pods).config());
                worlds.collect::<std::result::Result<_, _>>()?
            }
        };
        let recorded = worlds.iter().any(|world| matches!(world.arrivals, Arrivals::Recorded { .. }));
        if recorded && !self.loads.is_empty() {
            return Err("--loads: recorded arrivals come at a load of their own: leave it out".into());
        }
        if recorded && worlds.len() > 1 {
            return Err("--fleets: a recording loads each fleet differently: compare one at a time".into());
        }
        Ok(Comparison {
            loads: if self.loads.is_empty() { vec![worlds[0].load] } else { self.loads.clone() },
            policies: self.policies.clone(),
            seeds: self.seeds(),
            scenario: self.scenario.clone(),
            length: self.requests.map_or(Length::Seconds(self.shape.seconds), Length::Requests),
            worlds,
        })
    }

    fn seeds(&self) -> Vec<u64> {
        self.seeds.as_ref().map_or_else(|| vec![self.shape.seed.unwrap_or(7)], |seeds| seeds.0.clone())
    }
}

/// What is named twice would count twice in averages.
fn once<T: PartialEq + Display>(flag: &str, values: &[T]) -> std::result::Result<(), String> {
    let twice = values.iter().enumerate().find(|(k, value)| values[..*k].contains(value));
    twice.map_or(Ok(()), |(_, value)| Err(format!("{flag} names `{value}` twice: once is enough")))
}

/// `100x64`.
fn fleet(text: &str) -> std::result::Result<(usize, usize), String> {
    let sizes = text.split_once('x').and_then(|(nodes, pods)| Some((nodes.parse().ok()?, pods.parse().ok()?)));
    sizes.ok_or_else(|| format!("`{text}` is no fleet: write nodes x pods, such as 100x64"))
}

/// Plays all of it, and says how far it is.
fn with_progress(plans: &[Plan], jobs: usize) -> Vec<Played> {
    let pace = Mutex::new((0, Pace::start(Some(plans.len() as u64))));
    let played = play(plans, jobs, &|plan: &Plan| {
        let mut pace = pace.lock().expect("nobody panics while holding this");
        let Config { policy, load, seed, .. } = &plan.world;
        pace.0 += 1;
        let done = pace.0;
        pace.1.step(done, &format!("runs, last {policy} at load {load}, seed {seed}"));
    });
    pace.lock().expect("nobody panics while holding this").1.clear();
    played
}

/// Says what must never be and was, and how the command ends for the first of it.
fn first_failure(plans: &[Plan], played: &[Played]) -> Option<u8> {
    let all = plans.iter().zip(played).flat_map(|(plan, played)| played.failures.iter().map(move |one| (plan, one)));
    let codes = all.map(|(plan, failure)| {
        let Config { policy, load, seed, .. } = &plan.world;
        eprintln!("broken: {policy} at load {load}, seed {seed}: {}", fail::words(failure));
        fail::code(failure)
    });
    codes.reduce(|first, _| first)
}
