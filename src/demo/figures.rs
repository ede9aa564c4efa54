//! From single latencies to the figures of a phase. Percentiles are exact, by nearest rank over all measured
//! latencies: a run has some thousands, which is no reason for a sketch.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::model::SMALL;
use super::plan::{PLIMSOLL, Plan};
use super::play::Played;
use super::trace::Trace;

/// The generator's own lateness beyond which figures are not to be trusted: the service time of a small request.
const LATE: Duration = SMALL.1;

/// What one policy made of the trace.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    pub(super) policy: &'static str,
    pub(super) summary: Summary,
    pub(super) pods: Vec<PodShare>,
    /// Measured latencies, ascending.
    pub(super) latencies: Vec<Duration>,
    /// The p99 of the requests that arrived in each second of the trace; none where none was measured.
    pub(super) seconds: Vec<Option<f64>>,
    /// The p99 of how far the generator was behind the trace.
    pub(super) late_p99: Duration,
    /// One of the errors, in words.
    pub(super) example_error: Option<String>,
}

/// The figures of one phase; latencies in milliseconds from the scheduled arrival, errors not among them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Summary {
    pub(super) requests: usize,
    pub(super) errors: usize,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    /// p99 of the small requests alone: over all, p99 cannot be less than the service time of a large one.
    pub(super) small_p99_ms: f64,
}

/// How much of its time a pod was serving.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PodShare {
    pub(super) name: String,
    pub(super) busy_share: f64,
}

impl Phase {
    pub(super) fn new(policy: &'static str, trace: &Trace, played: &[Played], pods: Vec<PodShare>) -> Self {
        let measured: Vec<_> = played.iter().filter(|one| trace.is_measured(trace.arrivals[one.index])).collect();
        let answered = |keep: &dyn Fn(usize) -> bool| {
            let kept = measured.iter().filter(|one| keep(one.index));
            sorted(kept.filter_map(|one| one.answer.as_ref().ok().copied()))
        };
        let latencies = answered(&|_| true);
        let small = answered(&|index| trace.is_small(trace.arrivals[index]));
        let summary = Summary {
            requests: measured.len(),
            errors: measured.len() - latencies.len(),
            mean_ms: mean_ms(&latencies),
            p50_ms: quantile_ms(&latencies, 0.5),
            p99_ms: quantile_ms(&latencies, 0.99),
            p999_ms: quantile_ms(&latencies, 0.999),
            small_p99_ms: quantile_ms(&small, 0.99),
        };
        let per_second = |second| {
            let here = answered(&|index| trace.arrivals[index].at.as_secs() == second);
            (!here.is_empty()).then(|| quantile_ms(&here, 0.99))
        };
        Self {
            policy,
            summary,
            pods,
            seconds: (0..trace.length.as_secs()).map(per_second).collect(),
            late_p99: quantile(&sorted(measured.iter().map(|one| one.late)), 0.99).unwrap_or_default(),
            example_error: measured.iter().find_map(|one| one.answer.clone().err()),
            latencies,
        }
    }

    /// Whether the machine was too busy to play the trace on time.
    pub(super) fn is_late(&self) -> bool {
        self.late_p99 > LATE
    }
}

/// Plimsoll's figures as a share of another policy's: below 1 is better.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ratio {
    pub(super) mean: f64,
    pub(super) p99: f64,
    /// The other policy.
    pub(super) over: &'static str,
}

impl Ratio {
    /// Plimsoll over the first other policy, when both were played.
    pub(super) fn of(phases: &[Phase]) -> Option<Self> {
        let ours = phases.iter().find(|phase| phase.policy == PLIMSOLL)?;
        let other = phases.iter().find(|phase| phase.policy != PLIMSOLL)?;
        Some(Self {
            mean: rounded(ours.summary.mean_ms / other.summary.mean_ms),
            p99: rounded(ours.summary.p99_ms / other.summary.p99_ms),
            over: other.policy,
        })
    }
}

/// Everything that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Figures<'a> {
    /// Of a trace that was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Of a trace that was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a Path>,
    load: f64,
    seconds: u64,
    nodes: usize,
    policies: BTreeMap<&'a str, PolicyFigures<'a>>,
    ratio: Option<Ratio>,
    /// Under plimsoll, or under the last policy when plimsoll was not played.
    pods: &'a [PodShare],
}

#[derive(Debug, Serialize)]
struct PolicyFigures<'a> {
    #[serde(flatten)]
    summary: Summary,
    pods: &'a [PodShare],
    late_p99_ms: f64,
}

impl<'a> Figures<'a> {
    pub(super) fn new(plan: &'a Plan, phases: &'a [Phase]) -> Self {
        let shown = phases.iter().find(|phase| phase.policy == PLIMSOLL).or(phases.last());
        let policy = |phase: &'a Phase| {
            let late_p99_ms = ms(phase.late_p99);
            (phase.policy, PolicyFigures { summary: phase.summary, pods: &phase.pods, late_p99_ms })
        };
        Self {
            seed: plan.source.seed(),
            trace: plan.source.file(),
            load: plan.load(),
            seconds: plan.length.as_secs(),
            nodes: plan.nodes,
            policies: phases.iter().map(policy).collect(),
            ratio: Ratio::of(phases),
            pods: shown.map_or(&[], |phase| &phase.pods),
        }
    }
}

/// The smallest value that at least a share `q` of all do not exceed.
pub(super) fn quantile(sorted: &[Duration], q: f64) -> Option<Duration> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn quantile_ms(sorted: &[Duration], q: f64) -> f64 {
    quantile(sorted, q).map_or(f64::NAN, ms)
}

fn mean_ms(latencies: &[Duration]) -> f64 {
    let sum: Duration = latencies.iter().sum();
    rounded(sum.as_secs_f64() * 1e3 / latencies.len() as f64)
}

pub(super) fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// To three decimals: microseconds are the most that a latency over sockets can mean.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn sorted(durations: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut all: Vec<_> = durations.collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ms(range: std::ops::RangeInclusive<u64>) -> Vec<Duration> {
        range.map(Duration::from_millis).collect()
    }

    #[test]
    fn a_percentile_is_a_value_that_occurred() {
        let hundred = of_ms(1..=100);
        assert_eq!(quantile(&hundred, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile(&hundred, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&hundred, 0.999), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&hundred, 0.0), Some(Duration::from_millis(1)));
        assert_eq!(quantile(&of_ms(3..=3), 0.5), Some(Duration::from_millis(3)));
        assert_eq!(quantile(&[], 0.5), None);
    }

    /// The first tenth of ten seconds is played and not measured; an error counts, and has no latency.
    #[test]
    fn the_warm_up_and_errors_stay_out_of_the_latencies() {
        let arrival = |second, service_ms| plimsoll_files::TraceArrival {
            at: Duration::from_secs(second),
            node: 0,
            model: "model".to_owned(),
            bytes: 1,
            service: Duration::from_millis(service_ms),
        };
        let arrivals = vec![arrival(0, 5), arrival(1, 5), arrival(2, 120), arrival(3, 5)];
        let trace = Trace::recorded(&plimsoll_files::Trace { arrivals }, Duration::from_secs(10), 1);
        let answers = [Ok(900), Ok(10), Ok(200), Err("refused".to_owned())];
        let played: Vec<_> = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| Played { index, answer: answer.map(Duration::from_millis), late: Duration::ZERO })
            .collect();
        let phase = Phase::new("p2c", &trace, &played, Vec::new());
        assert_eq!((phase.summary.requests, phase.summary.errors), (3, 1));
        assert_eq!((phase.summary.mean_ms, phase.summary.p99_ms, phase.summary.small_p99_ms), (105.0, 200.0, 10.0));
        assert_eq!(phase.seconds[..4], [None, Some(10.0), Some(200.0), None]);
        assert_eq!(phase.example_error.as_deref(), Some("refused"));
    }
}
