//! The arrivals of one run: when each request comes, how large it is, and which node it comes to. The seed decides
//! all of it before anything starts, or a recording does, so that every policy meets the same requests at the same
//! moments, and none can slow the callers down: the loop is open.

use std::time::Duration;

use plimsoll_files as files;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::model::{LARGE, Model, SMALL};

/// Large requests: few, and four fifths of the work (0.15 x 120 ms against 0.85 x 5 ms). That is what makes counting
/// requests a poor guess at load.
pub(super) const LARGE_SHARE: f64 = 0.15;

/// The part of a trace that is played and not measured: pods start empty, and nodes have yet to learn costs.
const WARM_UP: f64 = 0.1;

/// One request to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arrival {
    /// Since the start of the run.
    pub(super) at: Duration,
    pub(super) bytes: usize,
    pub(super) node: usize,
    /// How long it holds a slot.
    pub(super) service: Duration,
}

/// All requests of one run, in the order they come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trace {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) length: Duration,
    /// The mean service time: what takes less is small.
    mean: Duration,
    /// Whether requests must say how long they take, because their payloads do not.
    pub(super) tells_service: bool,
}

impl Trace {
    /// Poisson arrivals at `rate` a second, spread evenly over the nodes.
    pub(super) fn new(seed: u64, rate: f64, length: Duration, nodes: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut at = 0.0;
        let arrivals = std::iter::from_fn(|| {
            // 1 - u is in (0, 1], so that the logarithm is finite.
            at -= (1.0 - rng.random::<f64>()).ln() / rate;
            let bytes = if rng.random_bool(LARGE_SHARE) { LARGE.0 } else { SMALL.0 };
            let (node, service) = (rng.random_range(0..nodes), Model::Gpu.service(bytes));
            Some(Arrival { at: Duration::from_secs_f64(at), bytes, node, service })
        });
        let arrivals = arrivals.take_while(|arrival| arrival.at < length).collect();
        Self { arrivals, length, mean: mean_service(), tells_service: false }
    }

    /// The first `length` of a recording; of more nodes than there are, each plays the part of several.
    pub(super) fn recorded(recording: &files::Trace, length: Duration, nodes: usize) -> Self {
        let arrival = |one: &files::TraceArrival| Arrival {
            at: one.at,
            // Whoever plans has looked: no payload is larger than memory.
            bytes: usize::try_from(one.bytes).unwrap_or(usize::MAX),
            node: one.node % nodes,
            service: one.service,
        };
        let arrivals: Vec<_> = recording.arrivals.iter().map(arrival).take_while(|one| one.at < length).collect();
        let work: Duration = arrivals.iter().map(|one| one.service).sum();
        let mean = work / u32::try_from(arrivals.len()).unwrap_or(u32::MAX).max(1);
        Self { arrivals, length, mean, tells_service: true }
    }

    /// Whether it takes less than the mean: what waits behind the others suffers most.
    pub(super) fn is_small(&self, arrival: Arrival) -> bool {
        arrival.service < self.mean
    }

    /// The work that was drawn, as a share of what `slots` can do in its length. It differs from the load that was
    /// asked for as chance has it, and the same for every policy.
    pub(super) fn load(&self, slots: usize) -> f64 {
        let work: Duration = self.arrivals.iter().map(|arrival| arrival.service).sum();
        work.as_secs_f64() / (self.length.as_secs_f64() * slots as f64)
    }

    pub(super) fn is_measured(&self, arrival: Arrival) -> bool {
        arrival.at >= self.length.mul_f64(WARM_UP)
    }
}

/// The mean service time of the mix.
pub(super) fn mean_service() -> Duration {
    let of = |bytes| Model::Gpu.service(bytes);
    of(SMALL.0).mul_f64(1.0 - LARGE_SHARE) + of(LARGE.0).mul_f64(LARGE_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(seed: u64) -> Trace {
        Trace::new(seed, 1000.0, Duration::from_secs(10), 4)
    }

    #[test]
    fn the_same_seed_plays_the_same_trace() {
        assert_eq!(trace(7), trace(7));
        assert_ne!(trace(7), trace(8));
    }

    /// Of 10,000 arrivals expected, sd 100; large 1,500, sd 36; for each of four nodes 2,500, sd 43. Four sd each.
    #[test]
    fn shares_are_those_that_were_asked_for() {
        let trace = trace(7);
        let large = trace.arrivals.iter().filter(|arrival| !trace.is_small(**arrival)).count();
        let arrivals = trace.arrivals;
        assert!(arrivals.len().abs_diff(10_000) < 400, "{}", arrivals.len());
        assert!(large.abs_diff(1_500) < 144, "{large}");
        for node in 0..4 {
            let here = arrivals.iter().filter(|arrival| arrival.node == node).count();
            assert!(here.abs_diff(2_500) < 172, "node {node}: {here}");
        }
    }

    /// 1000 a second of 22.25 ms each are 22.25 slots' worth. Of 10,000 services of sd 41 ms and a count of sd 100 the
    /// work has an sd of 2.1 %; four of them.
    #[test]
    fn the_work_drawn_is_the_work_asked_for() {
        let load = trace(7).load(25);
        assert!((load - 0.89).abs() < 0.89 * 4.0 * 0.021, "{load}");
    }

    #[test]
    fn arrivals_are_in_order_and_the_first_tenth_warms_up() {
        let trace = trace(7);
        assert!(trace.arrivals.is_sorted_by_key(|arrival| arrival.at));
        let first = trace.arrivals.iter().find(|arrival| trace.is_measured(**arrival)).expect("nine tenths are");
        assert!(first.at >= Duration::from_secs(1) && first.at < Duration::from_millis(1_020), "{first:?}");
    }

    /// A recording is played as it was made: to the microsecond, in its order, with its own service times.
    #[test]
    fn a_recording_is_played_as_it_was_made() {
        let one = |at_ms, node, bytes, service_ms| files::TraceArrival {
            at: Duration::from_millis(at_ms),
            node,
            model: "model".to_owned(),
            bytes,
            service: Duration::from_millis(service_ms),
        };
        let recording = files::Trace { arrivals: vec![one(0, 0, 9, 3), one(500, 5, 90, 30), one(3000, 1, 9, 3)] };
        let trace = Trace::recorded(&recording, Duration::from_secs(3), 4);
        let seen: Vec<_> = trace.arrivals.iter().map(|one| (one.at.as_millis(), one.node, one.bytes)).collect();
        assert_eq!(seen, [(0, 0, 9), (500, 1, 90)], "the third comes after the end");
        assert!(trace.is_small(trace.arrivals[0]) && !trace.is_small(trace.arrivals[1]));
        assert!((trace.load(1) - 0.011).abs() < 1e-12, "33 ms of 3 s");
    }
}
