//! Finagle's peak EWMA over two choices (`P2CPeakEwma`): a node's own latencies, jumping up at once and coming down slowly,
//! times its own requests in flight.
//!
//! `load = cost x (pending + 1)`, where cost is the last latency if that is above it, and else moves towards it by
//! `1 - e^(-dt / tau)`; reading it decays it towards zero in the same way, and a pod that has requests but no latency yet
//! is put behind all others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll::pick::{Candidates, Context, Policy};
use plimsoll::time::Time;

use super::better_of_two;
use crate::rng::decay;

/// Finagle's default decay time.
const TAU: Duration = Duration::from_secs(10);
/// What is not known yet stands behind all that is: Finagle's `Long.MaxValue >> 16` nanoseconds, a day and a half.
const PENALTY: f64 = (i64::MAX >> 16) as f64;

/// The latencies that a node saw of each pod. The world tells it the time before each pick, and what was seen after.
#[derive(Clone, Default)]
pub(crate) struct Latencies(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Time,
    /// By place in the picker's table.
    pods: Vec<(PodLife, Latency)>,
}

/// Which pod, and which incarnation of it.
pub(crate) type PodLife = (usize, u32);

#[derive(Clone, Copy, Default)]
struct Latency {
    at: Time,
    nanos: f64,
}

impl Latencies {
    /// The node's pods, in the order of its picker's table. What stays keeps its latency.
    pub(crate) fn set_pods(&self, pods: impl Iterator<Item = PodLife>) {
        let mut state = self.state();
        let old = std::mem::take(&mut state.pods);
        let kept =
            |pod: PodLife| old.iter().find(|(known, _)| *known == pod).map_or_else(Latency::default, |(_, l)| *l);
        state.pods = pods.map(|pod| (pod, kept(pod))).collect();
    }

    /// It is `now`.
    pub(crate) fn tell(&self, now: Time) {
        self.state().now = now;
    }

    /// A request to `pod` took `rtt`.
    pub(crate) fn saw(&self, now: Time, pod: PodLife, rtt: Duration) {
        if let Some((_, latency)) = self.state().pods.iter_mut().find(|(known, _)| *known == pod) {
            latency.observe(now, rtt.as_nanos() as f64);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latency {
    fn observe(&mut self, now: Time, rtt: f64) {
        let kept = decay(now.since(self.at), TAU);
        self.nanos = if rtt > self.nanos { rtt } else { self.nanos * kept + rtt * (1.0 - kept) };
        self.at = now;
    }

    fn load(&mut self, now: Time, pending: u32) -> f64 {
        self.observe(now, 0.0);
        if self.nanos == 0.0 && pending > 0 {
            PENALTY + f64::from(pending)
        } else {
            self.nanos * f64::from(pending + 1)
        }
    }
}

pub(super) struct PeakEwma(Latencies);

impl PeakEwma {
    pub(super) fn new(latencies: Latencies) -> PeakEwma {
        PeakEwma(latencies)
    }
}

impl Policy for PeakEwma {
    fn name(&self) -> &'static str {
        "peak_ewma"
    }

    fn choose(&self, candidates: &Candidates<'_>, context: &Context) -> usize {
        let mut state = self.0.state();
        let State { now, pods } = &mut *state;
        better_of_two(candidates, context, |load| {
            pods.get_mut(load.index).map_or(0.0, |(_, latency)| latency.load(*now, load.own_in_flight))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    /// The three rules of the formula: up at once, down by e^-1 in ten seconds, and what is unknown and has something in
    /// flight is behind everything.
    #[test]
    fn it_peaks_at_once_decays_slowly_and_fears_the_unknown() {
        let mut latency = Latency::default();
        assert_eq!(latency.load(at(0), 0), 0.0);
        assert!(latency.load(at(0), 2) >= PENALTY);
        latency.observe(at(0), 100.0 * MS);
        assert_eq!(latency.load(at(0), 0), 100.0 * MS);
        assert_eq!(latency.load(at(0), 3), 400.0 * MS);
        latency.observe(at(10), 10.0 * MS);
        let expected = (100.0 - 10.0) / std::f64::consts::E + 10.0;
        assert!((latency.nanos / MS - expected).abs() < 1e-9, "{}", latency.nanos / MS);
        latency.observe(at(10), 300.0 * MS);
        assert_eq!(latency.nanos, 300.0 * MS);
    }
}
