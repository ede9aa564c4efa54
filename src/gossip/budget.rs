//! The byte budget: how much gossip a node may send, as a bucket that fills with time.

use std::time::Duration;

use super::wire::OVERHEAD;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// Bursts up to what so many seconds allow pass at once. A node of a hundred tells of seven heavy changes a second where
/// twelve would fit; with a quarter of a second a fifth of the nodes were in debt at any time, and the wait was 11.0
/// instead of 7.3 ms.
const BURST: f64 = 1.0;
/// Or so many pushes, if that is more: where one push to a thousand peers takes most of a second, two heavy requests in a
/// row must not wait for a second ...
const BURST_PUSHES: f64 = 12.0;
/// ... but never what more than so many seconds allow.
const LONGEST: f64 = 10.0;
/// What is not heavy leaves so many pushes for what is. With two, of 300 nodes that share 150 pods at 1 Mbit/s, heavy news
/// was 68 ms old at its 99th percentile and the mean was 33.5 ms; with five 23 ms and 30.0, with eight 0.8 ms and 29.7.
const RESERVE: f64 = 8.0;
/// No more debt than this many seconds and one push: a hundred nodes that meet spend ten seconds' worth on introductions,
/// and must not be blind for as long after it. With the larger of the two, what membership sends while a push is paid off
/// was forgiven: a hundred nodes on an eighth of a Mbit/s sent 9 % more than that.
const DEBT: f64 = 0.25;

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_per_s: f64,
    left: f64,
    filled_at: Time,
    /// Bytes of a push to all whom it concerns.
    push: f64,
}

impl Budget {
    pub(crate) fn new(bits_per_s: u64, now: Time) -> Budget {
        let bytes_per_s = bits_per_s.max(1) as f64 / 8.0;
        Budget { bytes_per_s, left: bytes_per_s * BURST, filled_at: now, push: 0.0 }
    }

    /// A push to all whom it concerns takes about so many bytes from now on.
    pub(crate) fn reckon_with(&mut self, push: f64) {
        self.push = push;
    }

    /// The most that can be saved up, bytes.
    fn room(&self) -> f64 {
        (BURST * self.bytes_per_s).max(BURST_PUSHES * self.push).min(LONGEST * self.bytes_per_s)
    }

    /// Pays for `copies` datagrams of `payload` bytes. May go into debt: what has to be said is said, and what can wait
    /// waits longer.
    pub(crate) fn spend(&mut self, now: Time, payload: usize, copies: usize) {
        self.fill(now);
        if mutant::is(Mutant::IgnoreBudget) {
            return;
        }
        self.left -= ((payload as u64 + OVERHEAD) * copies as u64) as f64;
        self.left = self.left.max(-(DEBT * self.bytes_per_s + self.push));
    }

    /// What it is, bytes per second.
    pub(crate) fn bytes_per_s(&self) -> f64 {
        self.bytes_per_s
    }

    /// Whether there is plenty: half of a burst is left, and room for what matters.
    pub(crate) fn is_ample(&mut self, now: Time) -> bool {
        self.fill(now);
        self.left > 0.5 * self.room() && self.flush_at(now) <= now
    }

    /// When the budget is out of debt: something that matters waits no longer than that.
    pub(crate) fn heavy_at(&mut self, now: Time) -> Time {
        self.reaches(now, 0.0)
    }

    /// When a flush of what does not matter much leaves enough for something that does.
    pub(crate) fn flush_at(&mut self, now: Time) -> Time {
        self.reaches(now, (RESERVE * self.push).min(0.9 * self.room()))
    }

    /// When more than `level` bytes are left.
    fn reaches(&mut self, now: Time, level: f64) -> Time {
        self.fill(now);
        let missing = level - self.left;
        if missing < 0.0 {
            return now;
        }
        // A little later than exactly, so that it is true then.
        now + Duration::from_secs_f64(missing / self.bytes_per_s) + Duration::from_micros(10)
    }

    fn fill(&mut self, now: Time) {
        if now == self.filled_at {
            return;
        }
        let gained = now.since(self.filled_at).as_secs_f64() * self.bytes_per_s;
        self.left = (self.left + gained).min(self.room());
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A caller with a burst must neither flood the network nor lose the heavy news for long.
    #[test]
    fn a_spent_budget_fills_again_with_time() {
        let mut budget = Budget::new(1_000_000, at(0));
        budget.reckon_with(519.0);
        assert!(budget.is_ample(at(0)));
        budget.spend(at(0), 927, 64);
        assert!(budget.heavy_at(at(0)) == at(0) && !budget.is_ample(at(0)));
        budget.spend(at(0), 927, 64);
        assert!(budget.heavy_at(at(0)) > at(0));
        assert_eq!(budget.heavy_at(at(100)), at(100));
        assert!(budget.is_ample(at(1000)));
    }

    /// Whatever must be said beside the changes is said, and must not make a node dumb for long.
    #[test]
    fn debts_are_forgiven_beyond_a_quarter_of_a_second() {
        let mut budget = Budget::new(1_000_000, at(0));
        budget.spend(at(0), 927, 10_000);
        assert!(budget.heavy_at(at(0)) <= at(251));
    }

    /// Small changes must not eat what a heavy one will need, and who waits must be told a time at which it is true.
    #[test]
    fn a_flush_leaves_room_for_something_heavy() {
        let mut budget = Budget::new(1_000_000, at(0));
        budget.reckon_with(7_500.0);
        assert_eq!(budget.flush_at(at(0)), at(0));
        budget.spend(at(0), 927, 80);
        assert_eq!(budget.heavy_at(at(0)), at(0));
        let later = budget.flush_at(at(0));
        assert!(later > at(0) && later < at(200));
        assert_eq!(budget.flush_at(later), later);
        budget.spend(later, 927, 100);
        let later = budget.heavy_at(later);
        assert_eq!(budget.heavy_at(later), later);
    }

    /// Where one push takes most of a second's budget, a few of them in a row must not wait for each other, on the average
    /// no more may be sent than the budget says, and pushes that nothing can pay for must not wait for ever.
    #[test]
    fn room_for_pushes_is_saved_up_where_they_are_large() {
        let mut budget = Budget::new(1_000_000, at(0));
        budget.reckon_with(100_000.0);
        budget.spend(at(20_000), 927, 1_199);
        assert_eq!(budget.heavy_at(at(20_000)), at(20_000));
        budget.spend(at(20_000), 927, 100);
        assert!(budget.heavy_at(at(20_000)) > at(20_300));
        budget.reckon_with(1.73e6);
        assert!(budget.flush_at(at(30_000)) < at(40_000));
    }
}
