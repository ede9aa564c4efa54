//! `cargo sim compare`: the same arrivals under several policies.

use std::process::ExitCode;
use std::sync::Mutex;

use clap::Args;
use plimsoll_sim::compare::{Comparison, Length, Played, play};
use plimsoll_sim::plan::Plan;
use plimsoll_sim::{Config, Policy};

use super::output::Output;
use super::pace::Pace;
use super::seeds::Seeds;
use super::shape::Shape;
use super::{Result, exit};

#[derive(Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    shape: Shape,
    /// Who picks, by name, in the order of the table; ratios are to the first
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = DEFAULT, long_help = names())]
    policies: Vec<Policy>,
    /// Loads to play, such as .5,.7,.85,.95, instead of --load
    #[arg(long, value_name = "LOADS", value_delimiter = ',', conflicts_with = "load")]
    loads: Vec<f64>,
    /// Seeds to play and average over: 11, or 11,12,13, or 11..13 with both ends; instead of --seed
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<Seeds>,
    /// Let clients ask for about so many requests at every load, instead of for --seconds
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(10..))]
    requests: Option<u64>,
    /// Runs at a time [default: as many as there are processors]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
    /// The policy that ratios are to [default: the first]
    #[arg(long, value_name = "NAME")]
    base: Option<Policy>,
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
        let plans = self.comparison()?.plans()?;
        if let Some(base) = self.base.filter(|base| !self.policies.contains(base)) {
            return Err(format!("--base `{base}` is not among --policies: add it there").into());
        }
        self.output.check()?;
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let pace = Mutex::new((0, Pace::start(Some(plans.len() as u64))));
        let played = play(&plans, jobs, &|plan: &Plan| {
            let mut pace = pace.lock().expect("nobody panics while holding this");
            let Config { policy, load, seed, .. } = &plan.world;
            pace.0 += 1;
            let done = pace.0;
            pace.1.step(done, &format!("runs, last {policy} at load {load}, seed {seed}"));
        });
        pace.lock().expect("nobody panics while holding this").1.clear();
        let sound = tell_failures(&plans, &played);
        let rows = played.into_iter().map(|played| played.row).collect();
        self.output.write(self.seeds(), rows, self.base.map(Policy::name))?;
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(exit::SAFETY) })
    }

    fn comparison(&self) -> std::result::Result<Comparison, Box<dyn std::error::Error>> {
        let world = self.shape.config()?;
        Ok(Comparison {
            loads: if self.loads.is_empty() { vec![world.load] } else { self.loads.clone() },
            policies: self.policies.clone(),
            seeds: self.seeds(),
            length: self.requests.map_or(Length::Seconds(self.shape.seconds), Length::Requests),
            world,
        })
    }

    fn seeds(&self) -> Vec<u64> {
        self.seeds.as_ref().map_or_else(|| vec![self.shape.seed.unwrap_or(7)], |seeds| seeds.0.clone())
    }
}

/// Says what must never be and was; whether nothing was.
fn tell_failures(plans: &[Plan], played: &[Played]) -> bool {
    for (plan, played) in plans.iter().zip(played) {
        for failure in &played.failures {
            eprintln!("{} at load {}, seed {}: {failure:?}", plan.world.policy, plan.world.load, plan.world.seed);
        }
    }
    played.iter().all(|played| played.failures.is_empty())
}
