//! `cargo sim mutants`: deliberate bugs in the core, and how soon the checkers see them. A checker that never fires may
//! be right about a sound product, or blind: this tells which.

#[cfg(not(feature = "mutants"))]
use std::process::ExitCode;

use clap::Args;

#[cfg(not(feature = "mutants"))]
use super::Result;

#[derive(Args)]
pub(crate) struct Mutants {
    /// Only these
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Seeds of the swarm that each is given to be caught
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    base: u64,
    /// Threads [default: as many as there are processors]
    #[arg(long)]
    jobs: Option<usize>,
    /// Only the canary: one gross bug, which 20 seeds must find. If this fails, the alarm is broken
    #[arg(long, conflicts_with_all = ["names", "seeds"])]
    canary: bool,
    /// List them, and play nothing
    #[arg(long)]
    list: bool,
}

/// Without the bugs built in: the same command with them.
#[cfg(not(feature = "mutants"))]
impl Mutants {
    pub(crate) fn main(&self) -> Result {
        use std::process::Command;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["run", "--release", "--quiet", "--package", "plimsoll-sim", "--features", "mutants"]);
        cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--"]);
        cargo.args(std::env::args_os().skip(1));
        let ended = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
        Ok(ended.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

#[cfg(feature = "mutants")]
mod hunted {
    use std::ops::ControlFlow;
    use std::process::ExitCode;

    use comfy_table::Table;
    use plimsoll::mutant::{Mutant, set};
    use plimsoll_sim::Failure;
    use plimsoll_sim::swarm::{self, hunt};

    use super::super::pace::Pace;
    use super::super::{Result, exit};
    use super::Mutants;

    /// The bug that CI must see red: the plainest of all.
    const CANARY: Mutant = Mutant::DropReleaseOnCancel;
    const CANARY_SEEDS: u64 = 20;

    impl Mutants {
        pub(crate) fn main(&self) -> Result {
            let named = self.names.iter().map(|name| name.parse()).collect::<std::result::Result<Vec<Mutant>, _>>()?;
            let mutants = match &named[..] {
                _ if self.canary => vec![CANARY],
                [] => Mutant::ALL.to_vec(),
                named => named.to_vec(),
            };
            if self.list {
                mutants.iter().for_each(|mutant| say!("{:24}{}", mutant.name(), mutant.story()));
                return Ok(ExitCode::SUCCESS);
            }
            let seeds = if self.canary { CANARY_SEEDS } else { self.seeds };
            let mut table = Table::new();
            table.load_style(comfy_table::presets::NOTHING);
            table.set_header(["mutant", "caught by", "after seeds", "at", "meant for"]);
            let (mut survivors, mut after, mut pace) =
                (Vec::new(), Vec::new(), Pace::start(Some(mutants.len() as u64)));
            for (done, mutant) in mutants.iter().enumerate() {
                pace.step(done as u64, mutant.name());
                let mut row = vec![mutant.name().to_owned()];
                match self.catch(*mutant, seeds) {
                    Some((count, failure)) => {
                        after.push(count);
                        let at = format!("{:.1} s", failure.at.as_nanos() as f64 / 1e9);
                        row.extend([failure.checker.to_owned(), count.to_string(), at]);
                    }
                    None => {
                        survivors.push(mutant.name());
                        row.extend(["nobody".to_owned(), format!("over {seeds}"), String::new()]);
                    }
                }
                row.push(mutant.caught_by().to_owned());
                table.add_row(row);
            }
            pace.clear();
            say!("{table}");
            after.sort_unstable();
            let median = after.get(after.len() / 2).map_or("none".to_owned(), u64::to_string);
            say!("{} of {} caught, the median after {median} seeds", after.len(), mutants.len());
            if survivors.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            say!("nobody saw {}", survivors.join(", "));
            Ok(ExitCode::from(exit::SURVIVED))
        }

        /// After how many seeds the mutant is caught, and how: of the first seed that sees it, whoever was done first.
        fn catch(&self, mutant: Mutant, seeds: u64) -> Option<(u64, Failure)> {
            set(Some(mutant));
            let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            let (mut first, mut before): (Option<(u64, Failure)>, Vec<u64>) = (None, Vec::new());
            hunt(self.base..self.base.saturating_add(seeds), jobs, swarm::plan, |found| {
                if let Some(failure) = found.played.failure
                    && first.as_ref().is_none_or(|(seed, _)| found.seed < *seed)
                {
                    first = Some((found.seed, failure));
                }
                before.push(found.seed);
                let Some((seed, _)) = &first else { return ControlFlow::Continue(()) };
                let earlier = before.iter().filter(|before| *before < seed).count() as u64;
                if earlier == seed - self.base { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            set(None);
            first.map(|(seed, failure)| (seed - self.base + 1, failure))
        }
    }
}
