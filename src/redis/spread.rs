//! How long something takes: counts by size, from ten microseconds to ten seconds, that threads add to without waiting.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::state::Quantiles;

/// Each is a quarter of an octave wide: a quantile is right to a tenth.
const PER_OCTAVE: f64 = 4.0;
const BUCKETS: usize = 82;
const LEAST_MS: f64 = 0.01;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Spread {
    /// The last one takes what is larger than all bounds.
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Spread {
    fn default() -> Spread {
        Spread { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

/// What the bucket at `k` holds at most, ms.
fn bound_ms(k: usize) -> f64 {
    LEAST_MS * (k as f64 / PER_OCTAVE).exp2()
}

impl Spread {
    /// Takes one in.
    pub(crate) fn add(&self, ms: f64) {
        let ms = ms.max(0.0);
        let place = ((ms / LEAST_MS).log2() * PER_OCTAVE).ceil().max(0.0) as usize;
        self.counts[place.min(BUCKETS - 1)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add((ms * 1e3) as u64, Relaxed);
    }

    /// What they come to.
    pub(crate) fn quantiles(&self) -> Quantiles {
        let counts = self.counts();
        let count: u64 = counts.iter().sum();
        let at = |share: f64| {
            let wanted = (share * count as f64).ceil().max(1.0) as u64;
            let mut below = 0;
            let place = counts.iter().position(|n| {
                below += n;
                below >= wanted
            });
            place.map_or(0.0, bound_ms)
        };
        let mean = self.sum_ms() / count.max(1) as f64;
        Quantiles { count, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) }
    }

    /// Writes it as Prometheus reads a histogram: one bound for each octave, in seconds.
    pub(crate) fn write(&self, text: &mut String, name: &str, help: &str) {
        let counts = self.counts();
        let mut below = 0;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (k, count) in counts.iter().enumerate().take(BUCKETS - 1) {
            below += count;
            if k % PER_OCTAVE as usize == 0 {
                let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {below}", (bound_ms(k) * 1e6).round() / 1e9);
            }
        }
        let all = below + counts[BUCKETS - 1];
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {sum}\n{name}_count {all}");
    }

    fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|k| self.counts[k].load(Relaxed))
    }

    fn sum_ms(&self) -> f64 {
        self.sum_us.load(Relaxed) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A team decides by these numbers: they must be right to a tenth, and nothing may fall out at the ends.
    #[test]
    fn quantiles_are_right_to_a_fifth_and_never_too_low() {
        let spread = Spread::default();
        assert_eq!(spread.quantiles(), Quantiles::default());
        (1..=1000).for_each(|k| spread.add(f64::from(k) / 100.0));
        let Quantiles { count, mean, p50, p90, p99, .. } = spread.quantiles();
        assert_eq!((count, (mean * 1e3).round()), (1000, 5005.0));
        for (is, right) in [(p50, 5.0), (p90, 9.0), (p99, 9.9)] {
            assert!(is >= right * 0.999 && is < right * 1.2, "{is} for {right}");
        }
        for odd in [-1.0, 0.0, f64::NAN, 1e12] {
            spread.add(odd);
        }
        assert_eq!(spread.quantiles().count, 1004);
    }

    /// Prometheus refuses a scrape with a histogram that is none.
    #[test]
    fn it_is_written_as_a_histogram() {
        let spread = Spread::default();
        [0.005, 0.3, 0.3, 1e9].into_iter().for_each(|ms| spread.add(ms));
        let mut text = String::new();
        spread.write(&mut text, "x_seconds", "How long.");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("# HELP x_seconds How long."));
        assert_eq!(lines.next(), Some("# TYPE x_seconds histogram"));
        assert_eq!(lines.next(), Some("x_seconds_bucket{le=\"0.00001\"} 1"));
        assert!(text.contains("x_seconds_bucket{le=\"0.00032\"} 3\n"), "{text}");
        assert!(
            text.ends_with("x_seconds_bucket{le=\"+Inf\"} 4\nx_seconds_sum 1000000.000605\nx_seconds_count 4\n"),
            "{text}"
        );
    }
}
