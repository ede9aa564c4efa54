//! `cargo sim shrink`: from a failing plan to a small one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::shrink::{shrink, size};
use plimsoll_sim::swarm::play;

use super::{Result, fail};

#[derive(Args)]
pub(crate) struct Shrink {
    /// The plan that fails
    plan: PathBuf,
    /// Where the small one goes
    #[arg(short, long, value_name = "FILE", default_value = "min.toml")]
    output: PathBuf,
    /// Play at most so many plans
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

impl Shrink {
    pub(crate) fn main(&self) -> Result {
        let plan = Plan::read(&self.plan)?;
        say!("{}", size(&plan));
        let mut step = |what: &str, plan: &Plan, runs: usize| say!("run {runs:>4}: without {what}: {}", size(plan));
        let shrunk = shrink(&plan, self.runs as usize, &mut |plan| play(plan).failure, &mut step);
        let Some(shrunk) = shrunk else {
            return Err(format!("`{}` breaks no rule: there is nothing to shrink", self.plan.display()).into());
        };
        let path = self.output.display();
        std::fs::write(&self.output, shrunk.plan.to_toml())
            .map_err(|error| format!("cannot write `{path}`: {error}"))?;
        say!("{} after {} runs", size(&shrunk.plan), shrunk.runs);
        say!("{}", fail::line(shrunk.plan.world.seed, &shrunk.plan, &shrunk.failure, &self.output));
        Ok(ExitCode::SUCCESS)
    }
}
