//! `cargo sim check-determinism`: the same seeds in five ways, which must be one.

use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use comfy_table::Table;
use plimsoll_sim::determinism::{Print, differs, print, prints_in_parallel};

use super::pace::Pace;
use super::swarm::seeds;
use super::{Result, exit};

#[derive(Args)]
pub(crate) struct CheckDeterminism {
    /// Which seeds: 0..50 is without 50
    #[arg(long, value_name = "A..B", default_value = "0..50", value_parser = seeds)]
    seeds: Range<u64>,
    /// This program, built otherwise; if none is named, it is built in the other profile
    #[arg(long, value_name = "PATH")]
    other_binary: Option<PathBuf>,
    /// Print what is compared, a line of JSON for each seed, and compare nothing
    #[arg(long, hide = true)]
    prints: bool,
}

/// The profile that this was built in, and the other.
const PROFILES: (&str, &str) = if cfg!(debug_assertions) { ("debug", "release") } else { ("release", "debug") };

type Prints = std::result::Result<Vec<Print>, Box<dyn Error>>;

impl CheckDeterminism {
    pub(crate) fn main(&self) -> Result {
        if self.prints {
            for seed in self.seeds.clone() {
                say!("{}", serde_json::to_string(&print(seed))?);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let other = match &self.other_binary {
            Some(path) => path.clone(),
            None => build_other()?,
        };
        let this = std::env::current_exe()?;
        let pace = Pace::start(None);
        let serial = self.seeds.clone().map(print).collect::<Vec<_>>();
        let jobs = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let ways: [(&str, &dyn Fn() -> Prints); 5] = [
            ("again, in this process", &|| Ok(self.seeds.clone().map(print).collect())),
            ("beside others, on threads", &|| Ok(prints_in_parallel(self.seeds.clone(), jobs))),
            ("elsewhere: another directory, another environment", &|| self.ask(&this, elsewhere)),
            ("with every word logged", &|| self.ask(&this, |child| child.env("RUST_LOG", "trace"))),
            (if self.other_binary.is_some() { "another binary" } else { PROFILES.1 }, &|| {
                self.ask(&other, |child| child)
            }),
        ];
        let (mut table, mut parted, mut before) = (Table::new(), Vec::new(), pace.wall());
        table.load_style(comfy_table::presets::NOTHING).set_header(["way", "seeds", "differ", "s"]);
        for (way, play) in ways {
            let prints = play()?;
            let count = serial.iter().zip(&prints).filter(|(one, other)| one != other).count();
            let seconds = format!("{:.1}", (pace.wall() - before).as_secs_f64());
            before = pace.wall();
            table.add_row([way.to_owned(), prints.len().to_string(), count.to_string(), seconds]);
            parted.extend(differs(&serial, &prints).map(|differs| (way, count.max(1), differs)));
        }
        say!("{table}");
        let count: usize = parted.iter().map(|(_, count, _)| count).sum();
        say!("{} seeds x {} ways: {count} differ", serial.len(), ways.len());
        for (way, _, differs) in &parted {
            let records = differs.records.map(|(from, to)| format!(", first in the records {from} to {to}"));
            say!("seed {}, {way}, is not what it was{}", differs.seed, records.unwrap_or_default());
        }
        Ok(if parted.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::DIFFERENT) })
    }

    /// The prints of another process.
    fn ask(&self, program: &Path, with: impl Fn(&mut Command) -> &mut Command) -> Prints {
        let mut child = Command::new(program);
        let Range { start, end } = self.seeds;
        child.args(["check-determinism", "--prints", "--seeds", &format!("{start}..{end}")]).stderr(Stdio::null());
        let output =
            with(&mut child).output().map_err(|error| format!("cannot run `{}`: {error}", program.display()))?;
        if !output.status.success() {
            return Err(format!("`{}` prints nothing: {}", program.display(), output.status).into());
        }
        let lines = str::from_utf8(&output.stdout)?.lines();
        lines.map(|line| serde_json::from_str(line).map_err(Into::into)).collect()
    }
}

/// Nothing of our environment, a great deal of another, and a directory of no use.
fn elsewhere(child: &mut Command) -> &mut Command {
    child.env_clear().envs((0..200).map(|k| (format!("VARIABLE_{k}"), "x".repeat(k)))).current_dir("/")
}

/// Builds this program in the other profile, beside this one.
fn build_other() -> std::result::Result<PathBuf, Box<dyn Error>> {
    let this = std::env::current_exe()?;
    let name = this.file_name().ok_or("this program has no name")?;
    let target = this.ancestors().nth(2).ok_or("this program is in no target directory: name --other-binary")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--package", "plimsoll-sim", "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).arg("--target-dir").arg(target);
    if PROFILES.1 == "release" {
        cargo.arg("--release");
    }
    eprintln!("building the {} profile", PROFILES.1);
    let built = cargo.status().map_err(|error| format!("cannot run cargo: {error}; name --other-binary"))?;
    if !built.success() {
        return Err(format!("the {} profile cannot be built: name --other-binary", PROFILES.1).into());
    }
    Ok(target.join(PROFILES.1).join(name))
}
