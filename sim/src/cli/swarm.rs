//! `cargo sim swarm`: many seeds, each a fleet of its own, until the budget is spent.

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::report;
use plimsoll_sim::scenario::UnknownScenario;
use plimsoll_sim::swarm::{self, Found, Marks, hunt};

use super::pace::{Pace, fresh_base};
use super::{Result, fail};

#[derive(Args)]
pub(crate) struct Swarm {
    /// Which seeds: 0..2000 (without 2000), or a single one
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with = "base")]
    seeds: Option<Range<u64>>,
    /// The first seed, where the budget decides how many; fresh ones, if neither is given
    #[arg(long)]
    base: Option<u64>,
    /// Stop after this long: 60s, 10m, 1h [default: 60s, unless --seeds is given]
    #[arg(long, value_parser = budget)]
    budget: Option<Duration>,
    /// Threads [default: as many as there are processors]
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the plans of failures go
    #[arg(long, default_value = "target/sim-fail")]
    fail_dir: PathBuf,
    /// swarm (any fault), lite (crashes and restarts only), or what `cargo sim scenarios` lists; in any fleet
    #[arg(long, default_value = "swarm", value_name = "NAME")]
    scenario: String,
    /// Stop after so many failures
    #[arg(long, default_value_t = 10)]
    most: usize,
}

/// What all seeds together came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    failed: usize,
    inputs: u64,
    requests: u64,
    node_time: Duration,
    marks: Marks,
    code: Option<u8>,
}

impl Swarm {
    pub(crate) fn main(&self) -> Result {
        let seeds = self.seeds();
        let budget = self.budget.or(self.seeds.is_none().then_some(Duration::from_secs(60)));
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let commit = report::commit();
        self.plan(0)?;
        // Before hours are spent on what goes there.
        std::fs::create_dir_all(&self.fail_dir).map_err(|error| {
            format!("--fail-dir `{}`: {error}: name one that can be written", self.fail_dir.display())
        })?;
        let make = |seed| {
            let mut plan = self.plan(seed).expect("the name was tried before");
            plan.commit.clone_from(&commit);
            plan
        };
        let mut pace = Pace::start(self.seeds.as_ref().map(|seeds| seeds.end - seeds.start));
        let (mut sum, mut unwritten) = (Sum::default(), None);
        hunt(seeds, jobs, make, |found| {
            sum.add(&found);
            if let Err(error) = self.tell(&pace, &mut sum, &found) {
                unwritten = Some(error);
                return ControlFlow::Break(());
            }
            pace.step(sum.seeds, &format!("seeds, {} failed", sum.failed));
            let over = budget.is_some_and(|budget| pace.wall() >= budget) || sum.failed >= self.most;
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        pace.clear();
        if let Some(error) = unwritten {
            return Err(error.into());
        }
        sum.print(&pace);
        Ok(sum.code.map_or(ExitCode::SUCCESS, ExitCode::from))
    }

    fn seeds(&self) -> Range<u64> {
        self.seeds.clone().unwrap_or_else(|| {
            let base = self.base.unwrap_or_else(fresh_base);
            say!("seeds from {base}: --base {base} plays them again");
            base..u64::MAX
        })
    }

    fn plan(&self, seed: u64) -> std::result::Result<Plan, UnknownScenario> {
        match &self.scenario[..] {
            "swarm" => Ok(swarm::plan(seed)),
            "lite" => Ok(swarm::lite(seed)),
            name => swarm::named(name, seed),
        }
    }

    /// One line for a failure, and its plan beside it.
    fn tell(&self, pace: &Pace, sum: &mut Sum, found: &Found) -> std::result::Result<(), String> {
        let Some(failure) = &found.played.failure else { return Ok(()) };
        sum.failed += 1;
        sum.code.get_or_insert(fail::code(failure));
        let written = fail::write(&self.fail_dir, found.seed, &found.plan)?;
        pace.say(&fail::line(found.seed, &found.plan, failure, &written));
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, found: &Found) {
        self.seeds += 1;
        self.inputs += found.played.inputs;
        self.requests += found.played.requests;
        self.node_time += found.played.node_time;
        self.marks.add(&found.played.marks);
    }

    fn print(&self, pace: &Pace) {
        let (wall, cpu) = (pace.wall().as_secs_f64().max(1e-3), pace.cpu().as_secs_f64().max(1e-3));
        let (seeds, inputs, hours) = (self.seeds as f64, self.inputs as f64, self.node_time.as_secs_f64() / 3600.0);
        say!(
            "{} seeds in {wall:.1} s, {} failed: {hours:.2} node-hours, {} requests, {:.2} M inputs",
            self.seeds,
            self.failed,
            self.requests,
            inputs / 1e6
        );
        say!(
            "{:.1} seeds/s; for each CPU-second: {:.1} seeds, {:.2} node-hours, {:.2} M inputs",
            seeds / wall,
            seeds / cpu,
            hours / cpu,
            inputs / 1e6 / cpu
        );
        fail::print_marks(&self.marks);
    }
}

/// `7..9`, or `7`.
pub(crate) fn seeds(text: &str) -> std::result::Result<Range<u64>, String> {
    let number =
        |text: &str| text.trim().parse::<u64>().map_err(|_| format!("`{text}` is no seed: write 0..2000, or 7"));
    let (start, end) = match text.split_once("..") {
        Some((start, end)) => (number(start)?, number(end)?),
        None => (number(text)?, number(text)?.saturating_add(1)),
    };
    if start < end { Ok(start..end) } else { Err(format!("`{text}` holds no seed: the second number is not included")) }
}

/// `90s`, `10m`, `1h`.
fn budget(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write 60s, 10m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.checked_mul(unit).ok_or_else(wrong)?))
}
