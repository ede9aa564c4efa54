//! How busy each pod was, window by window.
//!
//! A herd shows here before it shows in a mean: all pods may be busy 80 % of a minute while in each second one half idles
//! and the other queues. So each pod's busy share is kept by windows, and the spread over the pods is taken inside them.

use std::time::Duration;

use plimsoll::time::Time;

use super::Row;

/// The busy slot time of every pod, in windows of equal length from the start to the end of what is measured.
#[derive(Clone, Debug)]
pub struct Windows {
    from: u64,
    to: u64,
    window: u64,
    slots: Vec<u32>,
    /// By pod, then by window: nanoseconds of busy slots.
    busy: Vec<Vec<u64>>,
}

impl Windows {
    /// The window of a report's spread.
    pub const SECOND: Duration = Duration::from_secs(1);

    /// Pods with so many slots each, measured between two times. A last window that is cut short counts as what it is.
    ///
    /// Panics when the window is zero or nothing lies between the times.
    pub fn new(from: Time, to: Time, window: Duration, slots: &[u32]) -> Windows {
        let (from, to, window) = (from.as_nanos(), to.as_nanos(), window.as_nanos() as u64);
        assert!(window > 0 && from < to, "nothing to measure from {from} to {to} ns in windows of {window} ns");
        let windows = (to - from).div_ceil(window) as usize;
        Windows { from, to, window, slots: slots.to_vec(), busy: vec![vec![0; windows]; slots.len()] }
    }

    /// One slot of a pod served between two times; what lies outside the measured time does not count. A batch is one
    /// service however many requests it holds.
    pub fn served(&mut self, pod: usize, from: Time, to: Time) {
        let (mut at, to) = (from.as_nanos().max(self.from), to.as_nanos().min(self.to));
        while at < to {
            let window = (at - self.from) / self.window;
            let end = (self.from + (window + 1) * self.window).min(to);
            self.busy[pod][window as usize] += end - at;
            at = end;
        }
    }

    /// Mean busy share of all slots.
    pub fn utilisation(&self) -> f64 {
        let busy: u64 = self.busy.iter().flatten().sum();
        let slots: u32 = self.slots.iter().sum();
        busy as f64 / (self.to - self.from) as f64 / f64::from(slots)
    }

    /// The coefficient of variation of the busy share over the pods, its mean over the windows in which any was busy;
    /// NaN when none was.
    pub fn spread(&self) -> f64 {
        let windows = self.busy.first().map_or(0, Vec::len);
        let of_window = |window| variation((0..self.busy.len()).map(|pod| self.share(pod, window)));
        let (sum, count) = (0..windows).filter_map(of_window).fold((0.0, 0), |(sum, count), cv| (sum + cv, count + 1));
        sum / f64::from(count)
    }

    /// How many pods.
    pub fn pods(&self) -> usize {
        self.busy.len()
    }

    /// Where the first window begins, in seconds of the run.
    pub fn from_s(&self) -> f64 {
        self.from as f64 / 1e9
    }

    /// How long a window is, in seconds.
    pub fn window_s(&self) -> f64 {
        self.window as f64 / 1e9
    }

    /// A pod's busy share in each window.
    pub fn shares(&self, pod: usize) -> Vec<f64> {
        (0..self.busy[pod].len()).map(|window| self.share(pod, window)).collect()
    }

    /// Writes utilisation and its spread into a row.
    pub fn fill(&self, row: &mut Row) {
        row.utilisation = self.utilisation();
        row.utilisation_cv = self.spread();
    }

    fn share(&self, pod: usize, window: usize) -> f64 {
        let start = self.from + window as u64 * self.window;
        let length = self.window.min(self.to - start);
        self.busy[pod][window] as f64 / length as f64 / f64::from(self.slots[pod])
    }
}

/// Standard deviation over mean, of all there are (not of a sample); none when all are zero.
fn variation(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
    (mean > 0.0).then(|| variance.sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// Two pods take turns, a second each: over both seconds each is busy half the time, and an average over the whole
    /// run would call that even. In each window one is at 1 and the other at 0: mean 0.5, deviation 0.5, so 1.
    #[test]
    fn pods_that_take_turns_are_not_even() {
        let mut windows = Windows::new(at_ms(0), at_ms(2000), Windows::SECOND, &[1, 1]);
        windows.served(0, at_ms(0), at_ms(1000));
        windows.served(1, at_ms(1000), at_ms(2000));
        assert_eq!((windows.utilisation(), windows.spread()), (0.5, 1.0));
        assert_eq!((windows.shares(0), windows.shares(1)), (vec![1.0, 0.0], vec![0.0, 1.0]));
    }

    /// A service that spans the ends and the windows is cut at each: 0.5 s before the start and 1 s after the end do not
    /// count. Two slots, one busy for all 2.5 s: a half, in the cut last window too.
    #[test]
    fn a_service_is_cut_at_the_ends_and_at_each_window() {
        let mut windows = Windows::new(at_ms(500), at_ms(3000), Windows::SECOND, &[2]);
        windows.served(0, at_ms(0), at_ms(4000));
        assert_eq!((windows.utilisation(), windows.spread()), (0.5, 0.0));
        assert_eq!(windows.shares(0), [0.5, 0.5, 0.5]);
        windows.served(0, at_ms(1000), at_ms(1100));
        assert_eq!(windows.shares(0), [0.55, 0.5, 0.5]);
    }

    /// A second in which nothing ran has no spread; it must not count as perfectly even.
    #[test]
    fn an_idle_window_says_nothing_of_evenness() {
        let mut windows = Windows::new(at_ms(0), at_ms(2000), Windows::SECOND, &[1, 1]);
        assert!(windows.spread().is_nan());
        windows.served(0, at_ms(0), at_ms(300));
        windows.served(1, at_ms(0), at_ms(100));
        assert!((windows.spread() - 0.5).abs() < 1e-12, "{}", windows.spread());
    }
}
