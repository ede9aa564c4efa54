//! The command line: one file for each command.

mod detect;
mod run;
mod shape;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command ends with.
pub(crate) mod exit {
    /// Options, or a file, that make no sense.
    pub(crate) const USAGE: u8 = 2;
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
    Run(run::Run),
    /// Kill a node, and see how long the others take to notice; how often they are wrong about healthy ones
    Detect(detect::Detect),
}

/// Runs what the command line says.
pub(crate) fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => run.main(),
        Command::Detect(detect) => detect.main(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cargo sim: {error}");
        ExitCode::from(exit::USAGE)
    })
}

/// What went wrong before anything ran: one line.
pub(crate) type Result = std::result::Result<ExitCode, Box<dyn std::error::Error>>;
