//! How often a node tells each peer its whole row: changed or not, it repairs what got lost, and says "I am here".

use std::time::Duration;

use super::wire::OVERHEAD;

/// As often as this where the budget has room for it ...
pub(crate) const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// ... and at least as often as this.
pub(crate) const MOST_REFRESH: Duration = Duration::from_secs(8);
/// Whole rows take this share of the budget: every second to each of a thousand peers is 100 kB, most of the default
/// budget, and what changed could not be told. With 1,000 nodes that share 79 pods the mean was 115 ms then.
const SHARE: f64 = 0.1;
/// Bytes of a row with a few entries.
const ROW: u64 = 30;

/// How often each of `listeners` is told, as the budget has it: in whole tenths of a second.
pub fn refresh_every(listeners: usize, bytes_per_s: f64) -> Duration {
    let seconds = listeners as f64 * (ROW + OVERHEAD) as f64 / (SHARE * bytes_per_s.max(1.0));
    let tenths = (seconds.min(MOST_REFRESH.as_secs_f64()) * 10.0).ceil() as u32;
    (Duration::from_millis(100) * tenths).clamp(LEAST_REFRESH, MOST_REFRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 1,000 rows of 103 bytes are 103 kB, of which 12.5 kB go each second.
    #[test]
    fn whole_rows_take_a_tenth_of_the_budget() {
        assert_eq!(refresh_every(99, 125e3), LEAST_REFRESH);
        assert_eq!(refresh_every(1000, 125e3), Duration::from_millis(8000));
        assert_eq!(refresh_every(500, 125e3), Duration::from_millis(4200));
        assert_eq!(refresh_every(10_000, 125e3), MOST_REFRESH);
        assert_eq!((refresh_every(0, 0.0), refresh_every(1, 0.0)), (LEAST_REFRESH, MOST_REFRESH));
    }
}
