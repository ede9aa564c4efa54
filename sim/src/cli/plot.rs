//! `cargo sim plot`: figures that were measured before, drawn.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::report::{Document, ReadError};

use super::{Result, output};

#[derive(Args)]
pub(crate) struct Plot {
    /// What `cargo sim compare --json FILE` wrote
    results: PathBuf,
    /// Where the plots go
    #[arg(short, long, value_name = "DIR", default_value = "target/sim-plots")]
    output: PathBuf,
}

impl Plot {
    pub(crate) fn main(&self) -> Result {
        let named = |error| match error {
            ReadError::Field { .. } => format!("{}: {error}", self.results.display()),
            _ => error.to_string(),
        };
        let document = Document::read(&self.results).map_err(named)?;
        output::draw(&document, &self.output)?;
        Ok(ExitCode::SUCCESS)
    }
}
