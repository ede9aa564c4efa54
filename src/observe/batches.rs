//! What a model's batches are like, on all pods together: how many run in one, what that gains, and what each other request
//! adds to its length. Learned from the batches that this node's view shows; read by every pick.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Batching;
use super::schedule::Batch;

/// Weight of one batch in the running means: about the last hundred.
const MEAN: f32 = 0.01;
/// Weight of one batch in the slope: a batch whose members are only inferred says little.
const FIT: f32 = 0.005;
/// What a batch of requests that look alike says of the slope, next to one with a single long request.
const UNCLEAR: f32 = 0.01;
/// What is configured counts as so much spread of the batches seen.
const PRIOR: f32 = 0.2;
/// No batch is believed to take more than twice as long for each other request.
const STEEPEST: f32 = 1.0;
/// The price of a ms of pod time for those who come later, per other request in the mean batch, and at most: without the
/// bound it is better for mixed sizes at very high load and worse for one size near saturation.
const PRICE: f32 = 0.5;
const HIGHEST_PRICE: f32 = 1.5;

/// Something was configured.
const GIVEN: u64 = 2;

/// Running means as `f32` bits; zero means that nothing was learned.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// Requests in a batch.
    n: AtomicU32,
    /// Work done per ms that a batch runs.
    gain: AtomicU32,
    /// Work of one request, ms.
    size_ms: AtomicU32,
    /// Means of weight, x, y, x^2 and xy for a line through (x, y) = (other requests, length by the longest).
    line: [AtomicU32; 5],
    /// The configured slope, and whether batches are padded; 0 where nothing was.
    given: AtomicU64,
}

/// What a pick needs of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchLaw {
    /// Whether batches are padded to their longest.
    pub padded: bool,
    /// What each other request adds, as a share.
    pub slope: f32,
    /// The fixed part of a batch that is not padded, ms.
    pub fixed_ms: f32,
    /// What a ms of pod time is worth to those who come later.
    pub price: f32,
    /// Work done per ms that a batch runs, at least 1.
    pub gain: f32,
}

impl Batches {
    /// How long a batch of `n` requests takes, the longest of which takes `longest_ms` alone and all together `sum_ms`.
    pub(crate) fn length(&self, batching: &Batching, n: f32, longest_ms: f32, sum_ms: f32) -> f32 {
        self.law().length(n, if batching.padded { longest_ms } else { sum_ms })
    }

    /// Remembers how the model is configured; where its pods differ, the last one.
    pub(crate) fn configure(&self, batching: &Batching) {
        let given = u64::from(batching.slope.to_bits()) << 2 | GIVEN | u64::from(!batching.padded);
        if self.given.load(Relaxed) != given {
            self.given.store(given, Relaxed);
        }
    }

    pub(crate) fn law(&self) -> BatchLaw {
        let read = |mean: &AtomicU32| f32::from_bits(mean.load(Relaxed));
        let given = self.given.load(Relaxed);
        if given == 0 {
            return BatchLaw::UNKNOWN;
        }
        let slope = self.slope(f32::from_bits((given >> 2) as u32));
        BatchLaw {
            padded: given & 1 == 0,
            slope,
            fixed_ms: read(&self.size_ms) * (1.0 - slope).max(0.0),
            price: (PRICE * (read(&self.n) - 1.0)).clamp(0.0, HIGHEST_PRICE),
            gain: read(&self.gain).max(1.0),
        }
    }

    /// A batch of `n` requests begins.
    pub(crate) fn form(&self, batching: &Batching, n: u32, sum_ms: f32, longest_ms: f32) {
        average(&self.size_ms, sum_ms / n as f32, MEAN);
        average(&self.n, n as f32, MEAN);
        let length = self.length(batching, n as f32, longest_ms, sum_ms);
        if length > 0.0 {
            average(&self.gain, sum_ms / length, MEAN);
        }
    }

    /// A batch ended: how long it took says how much each other request of it added.
    pub(super) fn fit(&self, batching: &Batching, batch: &Batch, took: Duration) {
        let unit = if batching.padded { batch.longest_ms } else { f32::from_bits(self.size_ms.load(Relaxed)) };
        if unit <= 0.0 {
            return;
        }
        let x = if batching.padded { (batch.n - 1) as f32 } else { batch.sum_ms / unit - 1.0 };
        let y = (took.as_secs_f32() * 1e3 / unit).min(1.0 + STEEPEST * x.max(1.0));
        // Requests that look alike differ all the same, and the longest of several takes longer than any is believed to:
        // that is not what another one adds. Where one is clearly the longest, it says the truth; and the longer it is, the
        // less of it is the network's.
        let clear = if batching.padded { (1.0 - batch.second_ms / batch.longest_ms).max(UNCLEAR) } else { 1.0 };
        let size_ms = f32::from_bits(self.size_ms.load(Relaxed));
        let weight = clear * (unit / size_ms).min(1.0);
        for (mean, value) in self.line.iter().zip([1.0, x, y, x * x, x * y]) {
            let old = f32::from_bits(mean.load(Relaxed));
            mean.store((old + FIT * weight * (value - old)).to_bits(), Relaxed);
        }
    }

    /// The slope of the line by its height at zero: what is wrong with all lengths alike (sizes are rounded, the network
    /// has its share) cancels out. As if what is configured had been seen, too: batches that are all alike say nothing.
    fn slope(&self, given: f32) -> f32 {
        let [seen, x, y, xx, xy] = std::array::from_fn(|k| f32::from_bits(self.line[k].load(Relaxed)));
        if seen <= 0.0 {
            return given;
        }
        let (x, y, xx, xy) = (x / seen, y / seen, xx / seen, xy / seen);
        let (spread, together) = ((xx - x * x).max(0.0), xy - x * y);
        let prior = PRIOR / seen;
        // As a share of y at x = 0: y = top (1 + slope x).
        let rise = (together + prior * given * y) / (spread + prior);
        let top = (y - rise * x).max(0.1 * y).max(f32::MIN_POSITIVE);
        (rise / top).clamp(0.0, STEEPEST)
    }
}

impl BatchLaw {
    /// Nothing is known of batches.
    pub const UNKNOWN: BatchLaw =
        BatchLaw { padded: true, slope: Batching::SLOPE, fixed_ms: 0.0, price: 0.0, gain: 1.0 };

    /// How long a batch of `n` requests takes; `ms` is the longest where it is padded, else the sum.
    pub(crate) fn length(&self, n: f32, ms: f32) -> f32 {
        match (n > 0.0, self.padded) {
            (false, _) => 0.0,
            (true, true) => ms * (1.0 + self.slope * (n - 1.0)),
            (true, false) => self.fixed_ms + self.slope * ms,
        }
    }

    /// What a request of `cost_ms` that joins an open batch of `n` (as long, or together, `ms`) is charged with: its own
    /// batch to the end, the delay of those in it, and the price of the pod's time.
    pub(crate) fn marginal(&self, n: f32, ms: f32, cost_ms: f32) -> f32 {
        let before = self.length(n, ms);
        let after = self.length(n + 1.0, if self.padded { ms.max(cost_ms) } else { ms + cost_ms });
        after + (n + self.price) * (after - before)
    }
}

/// Moves a running mean (`f32` bits) towards `sample`; the first sample sets it. Two at once may lose one: it is a mean.
pub(crate) fn average(mean: &AtomicU32, sample: f32, weight: f32) {
    let old = f32::from_bits(mean.load(Relaxed));
    let new = if old == 0.0 { sample } else { old + weight * (sample - old) };
    mean.store(new.to_bits(), Relaxed);
}
