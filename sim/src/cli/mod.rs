//! The command line: one file for each command.

mod compare;
mod output;
mod run;
mod seeds;
mod shape;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command ends with.
pub(crate) mod exit {
    /// Options, or a file, that make no sense.
    pub(crate) const USAGE: u8 = 2;
    /// Something was that must never be.
    pub(crate) const FAILED: u8 = 1;
}

/// Plimsoll's core under a virtual clock: what a fleet of your shape would see. The same seed gives the same run.
#[derive(Parser)]
#[command(name = "cargo sim", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play one fleet, and say what its callers saw
    Run(Box<run::Run>),
    /// Play the same arrivals under several policies, loads and seeds, and set them side by side
    Compare(Box<compare::Compare>),
}

/// Runs what the command line says.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => run.main(),
        Command::Compare(compare) => compare.main(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cargo sim: {error}");
        ExitCode::from(exit::USAGE)
    })
}

/// What went wrong before anything ran: one line.
pub(crate) type Result = std::result::Result<ExitCode, Box<dyn std::error::Error>>;
