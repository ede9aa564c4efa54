//! What a command leaves behind: a table on the terminal, and the files that were asked for.

use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll_sim::report::{Document, Row, command_line, commit, plot_all};

/// Where figures go beside the terminal.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Output {
    /// Write all figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write all figures to this file, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw plots of the figures into this directory, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

impl Output {
    /// Prints the rows as a table with ratios to `base`, and writes the files.
    pub(crate) fn write(&self, seeds: Vec<u64>, rows: Vec<Row>, base: Option<&str>) -> Result<(), Box<dyn Error>> {
        let document = Document::new(command_line(), commit(), seeds, rows);
        print!("{}", document.to_table(base));
        let files = [(&self.json, document.to_json()), (&self.csv, document.to_csv())];
        for (path, text) in files.iter().filter_map(|(path, text)| Some((path.as_deref()?, text))) {
            save(path, text)?;
        }
        if let Some(directory) = &self.plots {
            draw(&document, directory)?;
        }
        Ok(())
    }

    /// Whether the files can be written, before hours are spent on what goes into them.
    pub(crate) fn check(&self) -> Result<(), Box<dyn Error>> {
        for path in [&self.json, &self.csv].into_iter().flatten() {
            can_write(path).map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        }
        if let Some(directory) = &self.plots {
            std::fs::create_dir_all(directory)
                .map_err(|error| format!("cannot draw into `{}`: {error}", directory.display()))?;
        }
        Ok(())
    }
}

/// Draws all plots, and says where they are.
pub(crate) fn draw(document: &Document, directory: &Path) -> Result<(), Box<dyn Error>> {
    let cannot = |error| format!("cannot draw into `{}`: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(cannot)?;
    for path in plot_all(document, directory).map_err(cannot)? {
        say!("{}", path.display());
    }
    Ok(())
}

/// Tries without leaving a trace: what is there stays as it is, and what is not there is not made.
fn can_write(path: &Path) -> io::Result<()> {
    let new = !path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if new { std::fs::remove_file(path) } else { Ok(()) }
}

fn save(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    std::fs::write(path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()).into())
}
