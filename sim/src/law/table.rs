//! Measured service times: bins, each as likely as what was counted in it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ALIKE_BYTES, Ask, bytes_of};
use crate::files::{Histogram, Trace};
use crate::rng::Rng;

#[derive(Debug)]
pub(super) struct Table {
    mean: Duration,
    /// In order of `upto`.
    bins: Vec<Bin>,
}

#[derive(Debug)]
struct Bin {
    /// This bin and all before it hold so much of 2^53.
    upto: u64,
    low: Duration,
    high: Duration,
    bytes: u64,
    kind: Duration,
}

/// As many numbers as a draw can tell apart.
const DRAWS: f64 = (1_u64 << 53) as f64;

impl Table {
    pub(super) fn of_histogram(histogram: &Histogram, predictable: bool) -> Table {
        let total = histogram.bins.last().map_or(1.0, |bin| bin.upto);
        let mut mean = 0.0;
        let (mut low, mut before) = (Duration::ZERO, 0.0);
        let mut bins = Vec::with_capacity(histogram.bins.len());
        for bin in &histogram.bins {
            let middle = (low + bin.le) / 2;
            mean += middle.as_nanos() as f64 * ((bin.upto - before) / total);
            // A bin that holds nothing is one that no draw falls into, and its edge is where the next begins.
            let upto = (bin.upto / total * DRAWS) as u64;
            bins.push(Bin { upto, low, high: bin.le, bytes: bytes_of(middle), kind: middle });
            (low, before) = (bin.le, bin.upto);
        }
        let mean = Duration::from_nanos(mean as u64);
        if !predictable {
            bins.iter_mut().for_each(|bin| (bin.bytes, bin.kind) = (ALIKE_BYTES, mean));
        }
        Table { mean, bins }
    }

    /// None if nothing in it takes any time.
    pub(super) fn of_trace(trace: &Trace) -> Option<Table> {
        // What one size tells: the mean of all requests in the same half power of two of bytes, as finely as the product
        // tells sizes apart.
        let mut kinds = BTreeMap::<u32, (Duration, u32)>::new();
        for arrival in &trace.arrivals {
            let (sum, count) = kinds.entry(half_power(arrival.bytes)).or_default();
            *sum += arrival.service;
            *count += 1;
        }
        let total = trace.arrivals.len() as f64;
        let sum: Duration = kinds.values().map(|(sum, _)| *sum).sum();
        let mean = Duration::from_nanos((sum.as_nanos() as f64 / total) as u64);
        let bin = |(i, arrival): (usize, &crate::files::TraceArrival)| {
            let (sum, count) = kinds[&half_power(arrival.bytes)];
            let upto = ((i + 1) as f64 / total * DRAWS) as u64;
            Bin { upto, low: arrival.service, high: arrival.service, bytes: arrival.bytes, kind: sum / count }
        };
        (!mean.is_zero()).then(|| Table { mean, bins: trace.arrivals.iter().enumerate().map(bin).collect() })
    }

    pub(super) fn mean(&self) -> Duration {
        self.mean
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> Ask {
        let drawn = rng.bits() >> 11;
        let bin = self.bins.partition_point(|bin| bin.upto <= drawn);
        let Bin { low, high, bytes, kind, .. } = self.bins[bin.min(self.bins.len() - 1)];
        Ask { bytes, kind, service: rng.between(low, high) }
    }
}

/// `floor(2 log2 bytes)`.
fn half_power(bytes: u64) -> u32 {
    let bytes = bytes.max(1);
    let power = bytes.ilog2();
    2 * power + u32::from(u128::from(bytes).pow(2) >= 1 << (2 * power + 1))
}
