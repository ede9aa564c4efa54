//! `cargo sim run`: one fleet, one run.

use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::Policy;
use plimsoll_sim::compare::play_one;
use plimsoll_sim::plan::Plan;

use super::output::Output;
use super::shape::Shape;
use super::{Result, exit};

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    shape: Shape,
    /// How picks are made: `cargo sim compare --help` lists the names
    #[arg(long, default_value = "plimsoll")]
    policy: Policy,
    #[command(flatten)]
    output: Output,
}

impl Run {
    pub(crate) fn main(&self) -> Result {
        let world = self.shape.with_policy(self.policy)?;
        let seed = world.seed;
        let mut plan = Plan::new("steady", world, self.shape.seconds * 1000);
        plan.ending.quiet_ms = 0;
        self.output.check()?;
        let played = play_one(&plan);
        for failure in &played.failures {
            eprintln!("{failure:?}");
        }
        self.output.write(vec![seed], vec![played.row], None)?;
        Ok(if played.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::SAFETY) })
    }
}
