//! `cargo sim`: plimsoll's core under a virtual clock.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
