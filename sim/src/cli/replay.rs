//! `cargo sim replay`: a plan again, as a failure left it behind.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::swarm::play;

use super::{Result, fail};

#[derive(Args)]
pub(crate) struct Replay {
    /// The plan
    plan: PathBuf,
}

impl Replay {
    pub(crate) fn main(&self) -> Result {
        let plan = Plan::read(&self.plan)?;
        let played = play(&plan);
        println!("{} requests, {} inputs, trace {:016x}", played.requests, played.inputs, played.trace);
        let Some(failure) = &played.failure else {
            println!("no rule was broken");
            return Ok(ExitCode::SUCCESS);
        };
        println!("{}", fail::line(plan.world.seed, &plan, failure, &self.plan));
        Ok(ExitCode::from(fail::code(failure)))
    }
}
