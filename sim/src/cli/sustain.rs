//! `cargo sim sustain`: the highest load that each policy carries.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::Policy;
use plimsoll_sim::compare::{Comparison, Length, play};
use plimsoll_sim::plan::Plan;
use plimsoll_sim::report::{Row, mean_of};

use super::pace::Pace;
use super::seeds::Seeds;
use super::shape::{self, Shape};
use super::{Result, fail};

#[derive(Args)]
pub(crate) struct Sustain {
    #[command(flatten)]
    shape: Shape,
    /// Who picks, by name; ratios are to the first
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "redis,round_robin,plimsoll")]
    policies: Vec<Policy>,
    /// Seeds to play and average over: 11, or 11,12,13, or 11..13 with both ends; instead of --seed
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<Seeds>,
    /// A load is sustained where the p99 of the whole is at most this, ms, and no request fails
    #[arg(long, value_name = "MS")]
    p99_ms: f64,
    /// Where to look
    #[arg(long, value_name = "LOADS", value_delimiter = ',', default_value = "0.1,4", value_parser = shape::load)]
    between: Vec<f64>,
    /// How closely, as a share of the load
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    within: f64,
    /// Let clients ask for about so many requests at every load, instead of for --seconds
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(10..))]
    requests: Option<u64>,
    /// Runs at a time [default: as many as there are processors]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
}

/// What is known of one policy.
struct Search {
    policy: Policy,
    /// Sustained, with its figures; and not. None: not even the lowest load was, or the highest was, too.
    highest: Option<(f64, Row)>,
    failed: Option<f64>,
}

impl Search {
    /// The load to try next; none where it is settled.
    fn next(&self, [low, high]: [f64; 2], within: f64) -> Option<f64> {
        match (&self.highest, self.failed) {
            (None, None) => Some(low),
            (Some((load, _)), None) => (*load < high).then_some(high),
            (None, Some(_)) => None,
            (Some((load, _)), Some(failed)) => (failed > load * (1.0 + within)).then(|| f64::midpoint(*load, failed)),
        }
    }
}

impl Sustain {
    pub(crate) fn main(&self) -> Result {
        let [low, high] = self.check()?;
        let world = self.shape.config()?;
        let seeds = self.seeds.as_ref().map_or_else(|| vec![world.seed], |seeds| seeds.0.clone());
        let plans_for = |policy, load| {
            let (worlds, policies, loads, seeds) = (vec![world.clone()], vec![policy], vec![load], seeds.clone());
            let length = self.requests.map_or(Length::Seconds(self.shape.seconds), Length::Requests);
            Comparison { worlds, policies, loads, seeds, length, scenario: "steady".into() }.plans()
        };
        let jobs = self.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
        let new = |policy: &Policy| Search { policy: *policy, highest: None, failed: None };
        let mut searches: Vec<Search> = self.policies.iter().map(new).collect();
        let mut pace = Pace::start(None);
        let mut rounds = 0;
        loop {
            let loads: Vec<Option<f64>> = searches.iter().map(|one| one.next([low, high], self.within)).collect();
            let tried = searches.iter_mut().zip(loads).filter_map(|(search, load)| Some((search, load?)));
            let tried: Vec<(&mut Search, f64)> = tried.collect();
            if tried.is_empty() {
                break;
            }
            let plans: Vec<Vec<Plan>> = tried
                .iter()
                .map(|(search, load)| plans_for(search.policy, *load))
                .collect::<std::result::Result<_, _>>()?;
            let mut played = play(&plans.concat(), jobs, &|_| {}).into_iter();
            for (search, load) in tried {
                let played: Vec<_> = played.by_ref().take(seeds.len()).collect();
                if let Some(failure) = played.iter().find_map(|one| one.failures.first()) {
                    eprintln!("broken: {} at load {load}: {}", search.policy, fail::words(failure));
                    return Ok(ExitCode::from(fail::code(failure)));
                }
                let rows: Vec<Row> = played.into_iter().map(|one| one.row).collect();
                let row = mean_of(&rows).remove(0);
                if row.p99_ms <= self.p99_ms && row.errors == 0 {
                    search.highest = Some((load, row));
                } else {
                    search.failed = Some(load);
                }
            }
            rounds += 1;
            pace.step(rounds, "rounds");
        }
        pace.clear();
        self.show(&searches, [low, high]);
        Ok(ExitCode::SUCCESS)
    }

    /// What makes no sense, before hours are spent on it. Returns where to look.
    fn check(&self) -> std::result::Result<[f64; 2], String> {
        let Sustain { p99_ms, within, between, .. } = self;
        if !(0.0..=3.6e6).contains(p99_ms) || *p99_ms == 0.0 {
            return Err(format!("--p99-ms `{p99_ms:e}` bounds nothing: write milliseconds above 0, an hour at most"));
        }
        if !(1e-3..=1.0).contains(within) {
            return Err(format!("--within `{within:e}` cannot be reached: write a share from 0.001 to 1"));
        }
        match between[..] {
            [low, high] if low < high => Ok([low, high]),
            _ => {
                let loads: Vec<String> = between.iter().map(f64::to_string).collect();
                Err(format!("--between `{}`: write a lower and a higher load, such as 0.1,4", loads.join(",")))
            }
        }
    }

    fn show(&self, searches: &[Search], [low, high]: [f64; 2]) {
        say!("highest load with a p99 of at most {} ms, within {} %", self.p99_ms, self.within * 100.0);
        let first = searches.first().and_then(|search| Some(search.highest.as_ref()?.0));
        for Search { policy, highest, failed } in searches {
            let name = policy.name();
            let Some((load, row)) = highest else {
                say!("  {name:<20} below {low}");
                continue;
            };
            let more = if failed.is_none() && *load >= high { "at least " } else { "" };
            let ratio = first.map_or_else(String::new, |first| format!("  x {:.2}", load / first));
            say!("  {name:<20} {more}{load:.2}{ratio}  (there: mean {:.1} ms, p99 {:.0} ms)", row.mean_ms, row.p99_ms);
        }
    }
}
