//! The latencies of one run.
//!
//! They are kept one by one and sorted at the end, not sketched: a run has some hundred thousand, ten million take
//! 160 MB, and against a closed form or a second policy within a percent the 0.1 % of a histogram's buckets is an error
//! that we would have to explain. Percentiles are by nearest rank: the smallest latency that at least that share of all
//! do not exceed, so always one that occurred. The mean is exact.

use std::time::Duration;

use super::Row;

/// Shares, in millionths, at which a row keeps its latencies for a plot: dense where policies differ, which is from the
/// ninth tenth on.
pub const CURVE_AT: [u32; 32] = [
    0, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 750_000, 800_000, 830_000, 850_000,
    870_000, 890_000, 900_000, 920_000, 940_000, 950_000, 960_000, 970_000, 980_000, 985_000, 990_000, 993_000,
    995_000, 997_000, 998_000, 999_000, 999_500, 999_800, 999_900,
];

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Nanoseconds, in the order they came.
    all: Vec<u64>,
    small: Vec<u64>,
    waited: u128,
    errors: u64,
}

impl Samples {
    /// A served request: how long its caller waited for it, how long it was being served, and whether it is a small one
    /// (its true cost is not above the mean).
    pub fn served(&mut self, latency: Duration, service: Duration, small: bool) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.all.push(nanos);
        if small {
            self.small.push(nanos);
        }
        self.waited += latency.saturating_sub(service).as_nanos();
    }

    /// A request that failed, or that was refused to its caller. It has no latency.
    pub fn failed(&mut self) {
        self.errors += 1;
    }

    /// Requests seen, errors among them.
    pub fn requests(&self) -> u64 {
        self.all.len() as u64 + self.errors
    }

    /// Writes all that is known of latencies into a row.
    pub fn fill(mut self, row: &mut Row) {
        self.all.sort_unstable();
        self.small.sort_unstable();
        row.requests = self.requests();
        row.errors = self.errors;
        row.mean_ms = self.mean_ms(self.all.iter().map(|nanos| u128::from(*nanos)).sum());
        row.wait_ms = self.mean_ms(self.waited);
        row.p50_ms = percentile_ms(&self.all, 500_000);
        row.p99_ms = percentile_ms(&self.all, 990_000);
        row.p999_ms = percentile_ms(&self.all, 999_000);
        row.small_p99_ms = percentile_ms(&self.small, 990_000);
        if !self.all.is_empty() {
            row.curve_ms = CURVE_AT.iter().map(|share| percentile_ms(&self.all, *share)).collect();
        }
    }

    fn mean_ms(&self, sum: u128) -> f64 {
        sum as f64 / self.all.len() as f64 / 1e6
    }
}

/// Nearest rank in integers: 0.07 x 100 is not 7 in floating point. NaN of nothing.
fn percentile_ms(sorted: &[u64], millionths: u32) -> f64 {
    let rank = (sorted.len() as u64 * u64::from(millionths)).div_ceil(1_000_000);
    sorted.get((rank as usize).saturating_sub(1)).map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn filled(samples: Samples) -> Row {
        let mut row = Row::new("p2c", 0.5, 1, 1, Some(7));
        samples.fill(&mut row);
        row
    }

    /// Off by one in the rank would show in every table. Of 1 to 1000 ms, in any order, the p-th percentile is p x 10 ms;
    /// every request is served for 1 ms; the small ones are those up to 200 ms.
    #[test]
    fn percentiles_are_by_nearest_rank_and_the_mean_is_exact() {
        let mut samples = Samples::default();
        for k in (1..=1000).rev() {
            samples.served(k * MS, MS, k <= 200);
        }
        let row = filled(samples);
        assert_eq!((row.p50_ms, row.p99_ms, row.p999_ms), (500.0, 990.0, 999.0));
        assert_eq!((row.mean_ms, row.wait_ms, row.small_p99_ms), (500.5, 499.5, 198.0));
        assert_eq!((row.requests, row.errors), (1000, 0));
        assert_eq!((row.curve_ms[0], row.curve_ms[1], row.curve_ms[31]), (1.0, 50.0, 1000.0));
    }

    /// With floating point 0.07 x 100 is a hair above 7, and the 7th percentile of a hundred would be the eighth value.
    #[test]
    fn a_rank_that_is_whole_stays_so() {
        let hundred: Vec<u64> = (1..=100).map(|k| k * 1_000_000).collect();
        for percent in 1..=100 {
            assert_eq!(percentile_ms(&hundred, percent * 10_000), f64::from(percent));
        }
    }

    /// An error has no latency: were it counted as zero, a policy that fails fast would look fast.
    #[test]
    fn errors_count_as_requests_and_have_no_latency() {
        let mut samples = Samples::default();
        samples.served(10 * MS, 4 * MS, true);
        samples.failed();
        let row = filled(samples);
        assert_eq!((row.requests, row.errors, row.mean_ms, row.wait_ms), (2, 1, 10.0, 6.0));
        let mut samples = Samples::default();
        samples.failed();
        let row = filled(samples);
        assert!(row.mean_ms.is_nan() && row.p99_ms.is_nan() && row.curve_ms.is_empty(), "{row:?}");
    }
}
