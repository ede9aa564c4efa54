//! The command line: one file for each command.

/// Prints a line, as `println!`, but ends quietly where nobody reads any more: `cargo sim scenarios | head -1`.
macro_rules! say {
    ($($what:tt)*) => { $crate::cli::say(format_args!($($what)*)) };
}

mod bench;
mod check_determinism;
mod compare;
mod costs;
mod detect;
mod diff;
mod fail;
mod mutants;
mod output;
mod pace;
mod plot;
mod record;
mod replay;
mod run;
mod scenarios;
mod seeds;
mod shape;
mod shrink;
mod sustain;
mod swarm;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::error::ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, ValueValidation};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

/// What a command ends with.
pub(crate) mod exit {
    /// Options, or a file, that make no sense.
    pub(crate) const USAGE: u8 = 2;
    /// Something happened that must not.
    pub(crate) const SAFETY: u8 = 10;
    /// Something did not happen that must.
    pub(crate) const LIVENESS: u8 = 11;
    /// Two runs that should be one are two.
    pub(crate) const DIFFERENT: u8 = 12;
    /// The product panicked.
    pub(crate) const PANIC: u8 = 13;
    /// A bound that was asked for does not hold.
    pub(crate) const BOUND: u8 = 14;
    /// A deliberate bug that nobody saw.
    #[cfg(feature = "mutants")]
    pub(crate) const SURVIVED: u8 = 15;
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
    /// Measure how fast the simulator is
    Bench(bench::Bench),
    /// List the days that have a name: what goes wrong in them
    Scenarios(scenarios::Scenarios),
    /// See how wrong learned costs are, over time: after a cold start, after a change of the model, where sizes tell nothing
    Costs(Box<costs::CostErrors>),
    /// Kill a node, and see how long the others take to notice; how often they are wrong about healthy ones
    Detect(detect::Detect),
    /// Play fleets that nobody would have thought of, one for each seed, and look for broken rules
    Swarm(swarm::Swarm),
    /// Play a plan again, as a failure left it behind
    Replay(replay::Replay),
    /// Take away from a failing plan what has no part in the failure
    Shrink(shrink::Shrink),
    /// Find where two runs part
    Diff(diff::Diff),
    /// Play the same seeds again, elsewhere, beside others and built otherwise: it must be the same to the byte
    CheckDeterminism(check_determinism::CheckDeterminism),
    /// Break the core on purpose, in many ways, and see whether the checkers notice
    Mutants(mutants::Mutants),
    /// Play the same arrivals under several policies, loads and seeds, and set them side by side
    Compare(Box<compare::Compare>),
    /// Find the highest load that each policy carries with a p99 below a bound
    Sustain(Box<sustain::Sustain>),
    /// Draw the figures of an earlier comparison
    Plot(plot::Plot),
}

/// Runs what the command line says.
pub(crate) fn main() -> ExitCode {
    log();
    let done = match parse().command {
        Command::Run(run) => run.main(),
        Command::Bench(bench) => bench.main(),
        Command::Costs(costs) => costs.main(),
        Command::Detect(detect) => detect.main(),
        Command::Swarm(swarm) => swarm.main(),
        Command::Replay(replay) => replay.main(),
        Command::Scenarios(scenarios) => scenarios.main(),
        Command::Diff(diff) => diff.main(),
        Command::Shrink(shrink) => shrink.main(),
        Command::CheckDeterminism(check) => check.main(),
        Command::Mutants(mutants) => mutants.main(),
        Command::Compare(compare) => compare.main(),
        Command::Sustain(sustain) => sustain.main(),
        Command::Plot(plot) => plot.main(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cargo sim: {error}");
        ExitCode::from(exit::USAGE)
    })
}

/// What the command line says; where it makes no sense, the process ends with a line that says so.
fn parse() -> Cli {
    // `--slots -1` is a wrong number, not an unknown option.
    let command = Cli::command().mut_subcommands(|command| command.allow_negative_numbers(true));
    let read = command.try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    read.unwrap_or_else(|error| {
        if !error.use_stderr() || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
            error.exit()
        }
        // One line, like all other errors: what is wrong stands first, or in a list below a first line.
        let text = error.to_string();
        let told = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        eprintln!("cargo sim: {told}; {}", remedy(&error).unwrap_or("see --help"));
        std::process::exit(exit::USAGE.into())
    })
}

/// What to write instead of a word that the standard library would not read as a number.
fn remedy(error: &clap::Error) -> Option<&'static str> {
    let source = std::error::Error::source(error).filter(|_| error.kind() == ValueValidation)?;
    if source.is::<std::num::ParseIntError>() {
        return Some("write a whole number, such as 4");
    }
    source.is::<std::num::ParseFloatError>().then_some("write a number, such as 0.5")
}

/// See [`say!`].
fn say(what: std::fmt::Arguments) {
    // What a shell reports of a program that SIGPIPE ended, which Rust ignores.
    const PIPE: i32 = 141;
    match writeln!(std::io::stdout().lock(), "{what}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(PIPE),
        Err(error) => {
            eprintln!("cargo sim: cannot write to standard output: {error}");
            std::process::exit(exit::USAGE.into())
        }
        Ok(()) => {}
    }
}

/// What the core says goes to stderr, where `RUST_LOG` names a level: `RUST_LOG=debug cargo sim replay plan.toml`.
fn log() {
    let level = std::env::var("RUST_LOG").ok().and_then(|level| level.parse::<LevelFilter>().ok());
    if let Some(level) = level {
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).without_time().init();
    }
}

/// What went wrong before anything ran: one line.
pub(crate) type Result = std::result::Result<ExitCode, Box<dyn std::error::Error>>;
