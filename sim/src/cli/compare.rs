//! `cargo sim compare`: the same arrivals under several policies.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use plimsoll_sim::Policy;
use plimsoll_sim::compare::{Comparison, Length, Played, play};
use plimsoll_sim::plan::Plan;

use super::output::Output;
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
        let progress = bar(plans.len());
        let played = play(&plans, jobs, &|plan: &Plan| {
            progress
                .set_message(format!("{} at load {}, seed {}", plan.world.policy, plan.world.load, plan.world.seed));
            progress.inc(1);
        });
        progress.finish_and_clear();
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

/// A bar on a terminal, nothing elsewhere.
fn bar(runs: usize) -> ProgressBar {
    let bar = ProgressBar::new(runs as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {elapsed} of about {duration}, last: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
