//! `cargo sim scenarios`: the days that have a name.

use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::scenario;

use super::Result;

#[derive(Args)]
pub(crate) struct Scenarios {}

impl Scenarios {
    pub(crate) fn main(&self) -> Result {
        let width = scenario::all().map(|scenario| scenario.name.len()).max().unwrap_or(0);
        for scenario in scenario::all() {
            say!("{:width$}  {}", scenario.name, scenario.help);
        }
        say!("\ncargo sim run --scenario NAME plays one of them, and cargo sim swarm --scenario NAME in many fleets.");
        Ok(ExitCode::SUCCESS)
    }
}
