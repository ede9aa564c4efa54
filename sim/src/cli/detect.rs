//! `cargo sim detect`: how long a fleet takes to notice a death, and how often it is wrong.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use plimsoll::gossip::{PROBE_PERIOD, SUSPECT_FOR};
use plimsoll_sim::detect::{Death, Mistaken, Noticed, Stalls, rounds_to_first_probe};
use plimsoll_sim::{BadValue, MOST, Share};

use super::Result;

#[derive(Args)]
pub(crate) struct Detect {
    /// Sizes of fleets
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "16,64")]
    nodes: Vec<usize>,
    /// Shares of datagrams that get lost
    #[arg(long, value_name = "SHARE,...", value_delimiter = ',', default_value = "0,0.05,0.1")]
    loss: Vec<Share>,
    /// One death for each: its first seed and the one after its last
    #[arg(long, value_name = "FROM..TO", default_value = "0..20", value_parser = seeds)]
    seeds: Range<u64>,
    /// How long a fleet is watched, in virtual time [default: 60 after a death, 120 with --paused]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Instead of a death: so many nodes stop again and again, and mistakes about healthy ones are counted
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    paused: Vec<usize>,
    /// With --paused: how long they stop each time, ms
    #[arg(long, value_name = "MS,...", value_delimiter = ',', default_value = "2048,8192,16384", requires = "paused",
        value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    for_ms: Vec<u64>,
}

impl Detect {
    pub(crate) fn main(&self) -> Result {
        self.check()?;
        if self.paused.is_empty() {
            self.deaths()
        } else {
            self.stalls()
        }
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self) -> std::result::Result<(), BadValue> {
        if let Some(n) = self.nodes.iter().find(|n| !(2..=MOST).contains(*n)) {
            return Err(BadValue::new("--nodes", n, "makes no fleet in which anybody is missed", "2 to 2000"));
        }
        if let Some(loss) = self.loss.iter().find(|loss| **loss == Share::ALWAYS) {
            return Err(BadValue::new("--loss", loss, "lets nothing through, ever", "below 1"));
        }
        let fewest = self.nodes.iter().min().copied().unwrap_or(2);
        if let Some(n) = self.paused.iter().find(|n| **n >= fewest) {
            return Err(BadValue::new("--paused", n, "leaves nobody healthy", "less than the smallest of --nodes"));
        }
        Ok(())
    }

    fn deaths(&self) {
        say!("From a death, s. Probes go out every {} ms.", PROBE_PERIOD.as_millis());
        say!(
            "{:>6}{:>6}{:>7}  {:<26}{:<26}{:<26}{:>9}{:>11}{:>13}",
            "nodes",
            "loss",
            "deaths",
            "first suspicion",
            "first down",
            "all know",
            "ignorant",
            "in theory",
            "false downs"
        );
        let percentiles = format!("{:>6}{:>6}{:>6}{:>6}", "mean", "p50", "p99", "max");
        say!("{:19}  {percentiles:<26}{percentiles:<26}{percentiles:<26}{:>9}{:>11}{:>13}", "", "", "", "a node-hour");
        for nodes in &self.nodes {
            for loss in &self.loss {
                let watch = Duration::from_secs(self.seconds.unwrap_or(60));
                let death = |seed| Death { nodes: *nodes, loss: *loss, seed, watch };
                print_deaths(*nodes, *loss, &each(self.seeds.clone(), |seed| death(seed).play()));
            }
        }
        say!(
            "In theory: without loss, the first suspicion comes half a probe period after e / (e - 1) of them (a little"
        );
        say!("later where nodes are few), the first down {} s after it.", SUSPECT_FOR.as_secs());
    }

    fn stalls(&self) {
        say!("Members declared down while --paused nodes stop for --for-ms, run 64 ms, and stop again; mean of a run.");
        say!(
            "{:>6}{:>8}{:>9}{:>6}{:>20}{:>20}{:>20}{:>20}",
            "nodes",
            "paused",
            "for, ms",
            "runs",
            "healthy by healthy",
            "a node-hour",
            "paused by healthy",
            "any by paused"
        );
        for nodes in &self.nodes {
            for paused in &self.paused {
                for pause_ms in &self.for_ms {
                    let (watch, pause) =
                        (Duration::from_secs(self.seconds.unwrap_or(120)), Duration::from_millis(*pause_ms));
                    let stalls = |seed| Stalls { nodes: *nodes, paused: *paused, pause, seed, watch };
                    let runs = each(self.seeds.clone(), |seed| stalls(seed).play());
                    print_stalls(*nodes, *paused, *pause_ms, &runs);
                }
            }
        }
    }
}

fn print_deaths(nodes: usize, loss: Share, deaths: &[Noticed]) {
    let hours: f64 = deaths.iter().map(|one| one.node_hours).sum();
    let wrong: usize = deaths.iter().map(|one| one.false_downs).sum();
    let rounds = deaths.iter().map(|one| rounds_to_first_probe(nodes, one.probes_before)).sum::<f64>();
    let theory = (rounds / deaths.len() as f64 + 0.5) * PROBE_PERIOD.as_secs_f64();
    let ignorant = deaths.iter().filter(|one| one.known.is_none()).count();
    say!(
        "{nodes:>6}{loss:>6}{:>7}  {:<26}{:<26}{:<26}{ignorant:>9}{theory:>11.2}{:>13.2}",
        deaths.len(),
        spread(deaths.iter().filter_map(|one| one.suspected)),
        spread(deaths.iter().filter_map(|one| one.down)),
        spread(deaths.iter().filter_map(|one| one.known)),
        wrong as f64 / hours,
    );
}

fn print_stalls(nodes: usize, paused: usize, pause_ms: u64, runs: &[Mistaken]) {
    let mean = |count: fn(&Mistaken) -> usize| runs.iter().map(count).sum::<usize>() as f64 / runs.len() as f64;
    let hours = runs.iter().map(|run| run.node_hours).sum::<f64>() / runs.len() as f64;
    let healthy = mean(|run| run.healthy);
    say!(
        "{nodes:>6}{paused:>8}{pause_ms:>9}{:>6}{healthy:>20.1}{:>20.2}{:>20.1}{:>20.1}",
        runs.len(),
        healthy / hours,
        mean(|run| run.stalled),
        mean(|run| run.by_stalled),
    );
}

/// Mean, p50, p99 and the longest, s.
fn spread(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let rank = |share: f64| times.get(((share * times.len() as f64).ceil() as usize).max(1) - 1);
    match (rank(0.5), rank(0.99), times.last()) {
        (Some(p50), Some(p99), Some(max)) => {
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            format!("{mean:>6.2}{p50:>6.2}{p99:>6.2}{max:>6.2}")
        }
        _ => format!("{:>6}{:>6}{:>6}{:>6}", "-", "-", "-", "-"),
    }
}

/// Plays every seed, on all cores; the results are in the order of the seeds.
fn each<T: Send>(seeds: Range<u64>, play: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let play = &play;
    let mut parts: Vec<Vec<(u64, T)>> = Vec::new();
    std::thread::scope(|scope| {
        let share = |k| seeds.clone().skip(k as usize).step_by(threads as usize);
        let run = |k| scope.spawn(move || share(k).map(|seed| (seed, play(seed))).collect());
        let running: Vec<_> = (0..threads).map(run).collect();
        parts.extend(running.into_iter().map(|thread| thread.join().expect("a panic has been told by its thread")));
    });
    let mut all: Vec<(u64, T)> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, result)| result).collect()
}

fn seeds(text: &str) -> std::result::Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range
        .filter(|seeds| !seeds.is_empty())
        .ok_or_else(|| "write two numbers, the second larger, as in 0..20".to_owned())
}
