//! `cargo sim run`: one fleet, one run.

use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::{Policy, run};

use super::Result;
use super::shape::Shape;

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    shape: Shape,
    /// How picks are made
    #[arg(long, default_value = "plimsoll")]
    policy: Policy,
}

impl Run {
    pub(crate) fn main(&self) -> Result {
        let plan = Plan::new("steady", self.shape.with_policy(self.policy)?, self.shape.seconds * 1000);
        let world = run::run(&plan, &mut Vec::new());
        let hash = world.trace.hash();
        println!("{} requests, {} inputs, trace {hash:016x}", world.done.len(), world.inputs);
        Ok(ExitCode::SUCCESS)
    }
}
