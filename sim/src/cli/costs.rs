//! `cargo sim costs`: how wrong learned costs are, over time.

use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::costs::{EDGES_MS, From, Trial, Window, play};

use super::Result;
use super::seeds::Seeds;
use super::shape::Shape;

#[derive(Args)]
pub(crate) struct CostErrors {
    #[command(flatten)]
    shape: Shape,
    /// Seeds to play and average over: 11, or 11,12,13, or 11..13 with both ends; instead of --seed
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<Seeds>,
    /// Which trials: cold-start, fresh-node, model-change, blind-sizes [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = trial)]
    trials: Vec<Trial>,
}

fn trial(text: &str) -> std::result::Result<Trial, String> {
    let names = Trial::ALL.map(Trial::name).join(", ");
    Trial::ALL.into_iter().find(|trial| trial.name() == text).ok_or(format!("take {names}"))
}

impl CostErrors {
    pub(crate) fn main(&self) -> Result {
        let world = self.shape.config()?;
        let seeds = self.seeds.as_ref().map_or_else(|| vec![world.seed], |seeds| seeds.0.clone());
        let trials = if self.trials.is_empty() { Trial::ALL.to_vec() } else { self.trials.clone() };
        for trial in trials {
            let of = |from| -> Vec<Window> {
                let of_seed = |seed: &u64| play(trial, from, &plimsoll_sim::Config { seed: *seed, ..world.clone() });
                average(&seeds.iter().map(of_seed).collect::<Vec<_>>())
            };
            show(trial, &From::ALL.map(of));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Window by window, over the seeds; a figure that a seed does not have is left out.
fn average(runs: &[Vec<Window>]) -> Vec<Window> {
    let over = |k: usize, of: fn(&Window) -> f64| {
        let values: Vec<f64> = runs.iter().map(|run| of(&run[k])).filter(|value| !value.is_nan()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let window = |k: usize| Window {
        from: runs[0][k].from,
        requests: runs.iter().map(|run| run[k].requests).sum(),
        small: over(k, |window| window.small),
        heavy: over(k, |window| window.heavy),
        mean_ms: over(k, |window| window.mean_ms),
        p99_ms: over(k, |window| window.p99_ms),
    };
    (0..runs[0].len()).map(window).collect()
}

fn show(trial: Trial, [given, alone, told]: &[Vec<Window>; 3]) {
    say!("{}: median error of what requests were charged; mean and p99 latency, ms", trial.name());
    say!("{:>12}{:>9}{:>18}{:>18}{:>24}{:>24}", "", "", "small", "heavy", "mean ms", "p99 ms");
    let pair = format!("{:>9}{:>9}", "alone", "told");
    let triple = format!("{:>8}{:>8}{:>8}", "given", "alone", "told");
    say!("{:>12}{:>9}{pair}{pair}{triple}{triple}", "s", "requests");
    for (k, window) in given.iter().enumerate() {
        let percent = |of: fn(&Window) -> f64| {
            let one = |value: f64| if value.is_nan() { "-".into() } else { format!("{:.0} %", 100.0 * value) };
            format!("{:>9}{:>9}", one(of(&alone[k])), one(of(&told[k])))
        };
        let ms = |of: fn(&Window) -> f64| {
            let one = |value: f64| if value.is_nan() { "-".into() } else { format!("{value:.1}") };
            format!("{:>8}{:>8}{:>8}", one(of(window)), one(of(&alone[k])), one(of(&told[k])))
        };
        say!(
            "{:>12}{:>9}{}{}{}{}",
            format!("{}..{}", window.from.as_secs_f64(), EDGES_MS[k + 1] as f64 / 1e3),
            told[k].requests,
            percent(|window| window.small),
            percent(|window| window.heavy),
            ms(|window| window.mean_ms),
            ms(|window| window.p99_ms),
        );
    }
    say!("");
}
