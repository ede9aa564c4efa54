//! The command line: what a person types, what comes back.
//!
//! Answers go to stdout, everything else to stderr. Exit codes: 0 it went well, 1 something failed at run time, 2 the
//! input was bad (arguments, configuration, an address in use). An error is one line that says what to do.

mod ask;
mod check;
mod drain;
mod flags;
mod node;
mod view;

use std::fmt::Display;
use std::io::Write;
use std::num::{ParseFloatError, ParseIntError};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Config, pods_from_file, random_secret};
use crate::demo::pod::PodArgs;
use crate::demo::{self, DemoArgs};

/// The load balancer for GPU fleets: every caller knows how busy every Triton pod is.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, disable_help_subcommand = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: a front that callers point at, by gRPC or HTTP, and the admin API
    #[command(after_help = flags::AFTER_HELP)]
    Node(node::NodeArgs),
    /// Show what a running node believes about every pod
    View(ask::AskArgs),
    /// Show what a running node believes about the members of its cluster
    Members(ask::AskArgs),
    /// Ask a running node to take no more requests, and wait until it has none
    Drain(drain::DrainArgs),
    /// Print the configuration a node would run with, and where each value came from
    #[command(after_help = flags::AFTER_HELP)]
    Check(check::CheckArgs),
    /// Print a new cluster secret: 32 random bytes, as hex
    Secret,
    /// Show the difference on this machine: pods, nodes and load, nothing to install
    Demo(DemoArgs),
    /// Run test pods: KServe v2 servers that take as long as real ones and compute nothing
    Pod(PodArgs),
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // `--slots -1` is a wrong number, not an unknown option.
    let command = Cli::command().mut_subcommands(|command| command.allow_negative_numbers(true));
    let cli = match command.try_get_matches().and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let done = match cli.command {
        Command::Node(args) => node::run(args),
        Command::View(args) => ask::view(&args),
        Command::Members(args) => ask::members(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Secret => random_secret().map(|secret| print(&secret)).map_err(Failure::at_run_time),
        Command::Demo(args) => return on_runtime(demo::run(args)),
        Command::Pod(args) => return on_runtime(demo::pod::run(args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// What arguments that cannot be read come to: the help where it was asked for, else one line like all other errors.
fn misread(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A reader that went away is no error.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.to_string();
    let told = text.trim_start_matches("error: ").split("\n\n");
    let told = told.filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"));
    let told: Vec<String> = told.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let remedy = remedy(error).unwrap_or("see --help");
    Failure::bad_input(format!("{}; {remedy}", told.join("; "))).tell()
}

/// What to write instead of a word that the standard library would not read as a number.
fn remedy(error: &clap::Error) -> Option<&'static str> {
    match std::error::Error::source(error)? {
        source if source.is::<ParseIntError>() => Some("write a whole number, such as 4"),
        source if source.is::<ParseFloatError>() => Some("write a number, such as 0.5"),
        _ => None,
    }
}

/// Runs a command that reports its own errors.
fn on_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Failure::at_run_time(error).tell(),
    }
}

/// Why a command did not do what it was asked, and the exit code that says so.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// Something failed that may work another time.
    fn at_run_time(error: impl Display) -> Failure {
        Failure { code: 1, line: error.to_string() }
    }

    /// What was asked for cannot work.
    fn bad_input(error: impl Display) -> Failure {
        Failure { code: 2, line: error.to_string() }
    }

    fn tell(self) -> ExitCode {
        // Nobody is left to tell where stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", self.line);
        ExitCode::from(self.code)
    }
}

/// Prints an answer. A reader that went away (`plimsoll view | head`) is no error.
fn print(answer: &str) {
    let _ = writeln!(std::io::stdout(), "{}", answer.trim_end());
}

/// Says how it goes, to people and not to what reads the answer.
fn say(progress: &str) {
    let _ = writeln!(std::io::stderr(), "{progress}");
}

/// Refuses a configuration that could never serve anything.
///
/// The watched file must be right at the start, as all input must; what is wrong in it later changes nothing.
fn require_pods(config: &Config) -> Result<(), Failure> {
    if !config.has_pods() {
        return Err(Failure::bad_input(
            "no pods: give some by --pod NAME=http://HOST:8001, [[pods]], discovery.file, discovery.dns or discovery.kubernetes",
        ));
    }
    match &config.discovery.file {
        Some(file) => pods_from_file(file).map(drop).map_err(Failure::bad_input),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two arguments of one name panic only when that command is used; this asks all of them.
    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
