//! `cargo sim run`: one fleet, one run.

use std::process::ExitCode;

use std::path::PathBuf;

use clap::Args;
use plimsoll_sim::measure::{measure_checked_in, measure_in};
use plimsoll_sim::{Policy, World, scenario};

use super::output::Output;
use super::record::Recorder;
use super::shape::Shape;
use super::{Result, fail};

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    shape: Shape,
    /// How picks are made: `cargo sim compare --help` lists the names
    #[arg(long, default_value = "plimsoll")]
    policy: Policy,
    /// What goes wrong: `cargo sim scenarios` lists the names
    #[arg(long, default_value = "steady", value_name = "NAME")]
    scenario: String,
    /// Write everything that happens to this file, one line of JSON each
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the plan to this file too, as `cargo sim replay` takes it
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Look for no broken rules, and end with the last request: several times as fast in fleets of hundreds
    #[arg(long, conflicts_with = "plan")]
    unchecked: bool,
    #[command(flatten)]
    output: Output,
}

impl Run {
    pub(crate) fn main(&self) -> Result {
        let world = self.shape.with_policy(self.policy)?;
        let seed = world.seed;
        let mut plan = scenario::plan(&self.scenario, world, self.shape.seconds)?;
        if self.unchecked {
            (plan.ending.live_ms, plan.ending.quiet_ms) = (0, 0);
        }
        self.output.check()?;
        if let Some(path) = &self.plan {
            std::fs::write(path, plan.to_toml())
                .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        }
        let mut world = World::new(plan.world.clone());
        let recorder = Recorder::start(&mut world, self.trace.as_deref())?;
        let (measured, failure) = if self.unchecked {
            let measured = measure_in(&mut world, &plan);
            (measured, world.failures.first().cloned())
        } else {
            measure_checked_in(&mut world, &plan)
        };
        recorder.finish(&mut world)?;
        // What is measured is the time in which callers ask, before anything is healed.
        self.output.write(vec![seed], vec![measured.row(&plan)], None)?;
        let Some(failure) = failure else { return Ok(ExitCode::SUCCESS) };
        eprintln!("broken: {}", fail::words(&failure));
        Ok(ExitCode::from(fail::code(&failure)))
    }
}
