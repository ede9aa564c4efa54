//! `cargo sim diff`: where two runs part.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::swarm;
use plimsoll_sim::trace::{files_part, runs_part};

use super::{Result, exit};

#[derive(Args)]
pub(crate) struct Diff {
    /// Two files that --trace wrote
    #[arg(num_args = 2, value_names = ["ONE", "OTHER"], conflicts_with_all = ["plan", "seed"],
        required_unless_present_any = ["plan", "seed"])]
    files: Vec<PathBuf>,
    /// Or two plans: give this twice
    #[arg(long, value_name = "FILE")]
    plan: Vec<PathBuf>,
    /// Or seeds of the swarm
    #[arg(long)]
    seed: Vec<u64>,
}

impl Diff {
    pub(crate) fn main(&self) -> Result {
        let parted = if let [one, other] = &self.files[..] { diff_files(one, other)? } else { self.diff_runs()? };
        Ok(if parted { ExitCode::from(exit::DIFFERENT) } else { ExitCode::SUCCESS })
    }

    fn diff_runs(&self) -> std::result::Result<bool, Box<dyn Error>> {
        let read = self.plan.iter().map(|path| Plan::read(path));
        let mut plans = read.collect::<std::result::Result<Vec<_>, _>>()?;
        plans.extend(self.seed.iter().map(|seed| swarm::plan(*seed)));
        let [one, other] = &plans[..] else {
            return Err(format!("{} plans and seeds: two make a difference", plans.len()).into());
        };
        let Some(part) = runs_part(one, other) else {
            say!("they are equal");
            return Ok(false);
        };
        let said = |record: Option<_>| record.map_or("    (it is over)".to_owned(), |r| format!("{r}"));
        say!("both     {}", said(part.before));
        say!("the one  {}", said(part.one));
        say!("other    {}", said(part.other));
        Ok(true)
    }
}

fn diff_files(one: &Path, other: &Path) -> std::result::Result<bool, Box<dyn Error>> {
    let open =
        |path: &Path| File::open(path).map(BufReader::new).map_err(|error| format!("{}: {error}", path.display()));
    let part = files_part(open(one)?, open(other)?).map_err(|error| format!("cannot read both: {error}"))?;
    let Some(part) = part else {
        say!("they are equal");
        return Ok(false);
    };
    let said = |line: Option<String>| line.unwrap_or("(it is over)".to_owned());
    say!("line {}", part.line);
    say!("both     {}", said(part.before));
    say!("the one  {}", said(part.one));
    say!("other    {}", said(part.other));
    Ok(true)
}
