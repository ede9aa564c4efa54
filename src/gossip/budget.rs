//! The byte budget: how much gossip a node may send, as a bucket that fills with time.

use std::time::Duration;

use super::wire::OVERHEAD;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// Bursts up to this much of a second's budget pass at once.
const BURST: f64 = 0.25;
/// Bytes of a typical datagram of changes.
const TYPICAL: u64 = 100;

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_per_s: f64,
    left: f64,
    filled_at: Time,
}

impl Budget {
    pub(crate) fn new(bits_per_s: u64, now: Time) -> Budget {
        let bytes_per_s = bits_per_s.max(1) as f64 / 8.0;
        Budget { bytes_per_s, left: bytes_per_s * BURST, filled_at: now }
    }

    /// Pays for `copies` datagrams of `payload` bytes. May go into debt: what has to be said is said, and what can wait
    /// waits longer.
    pub(crate) fn spend(&mut self, now: Time, payload: usize, copies: usize) {
        self.fill(now);
        if mutant::is(Mutant::IgnoreBudget) {
            return;
        }
        self.left -= ((payload as u64 + OVERHEAD) * copies as u64) as f64;
        // No more debt than a burst: a hundred nodes that meet spend ten seconds' worth on introductions, and must not be
        // blind for as long after it.
        self.left = self.left.max(-self.bytes_per_s * BURST);
    }

    /// Whether something that matters may go now.
    pub(crate) fn allows_heavy(&mut self, now: Time) -> bool {
        self.heavy_at(now) <= now
    }

    /// Whether even what could wait may go now, to `peers` peers: while half of a burst is left, and room for what matters.
    pub(crate) fn allows_all(&mut self, now: Time, peers: usize) -> bool {
        self.fill(now);
        self.left > 0.5 * BURST * self.bytes_per_s && self.flush_at(now, peers) <= now
    }

    /// How far apart flushes to `peers` peers should be, so that they take half the budget: 2 to 50 ms.
    pub(crate) fn flush_interval(&self, peers: usize) -> Duration {
        Duration::from_secs_f64((2.0 * Self::push(peers) / self.bytes_per_s).clamp(0.002, 0.050))
    }

    /// When the budget is out of debt: something that matters waits no longer than that.
    pub(crate) fn heavy_at(&mut self, now: Time) -> Time {
        self.reaches(now, 0.0)
    }

    /// When a flush of what does not matter much leaves enough for something that does, to `peers` peers.
    pub(crate) fn flush_at(&mut self, now: Time, peers: usize) -> Time {
        self.reaches(now, (2.0 * Self::push(peers)).min(0.9 * BURST * self.bytes_per_s))
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

    /// Bytes of one push to `peers` peers.
    fn push(peers: usize) -> f64 {
        peers as f64 * (TYPICAL + OVERHEAD) as f64
    }

    fn fill(&mut self, now: Time) {
        if now == self.filled_at {
            return;
        }
        let gained = now.since(self.filled_at).as_secs_f64() * self.bytes_per_s;
        self.left = (self.left + gained).min(self.bytes_per_s * BURST);
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
        assert!(budget.allows_all(at(0), 3));
        budget.spend(at(0), 927, 16);
        assert!(budget.allows_heavy(at(0)) && !budget.allows_all(at(0), 3));
        budget.spend(at(0), 927, 24);
        assert!(!budget.allows_heavy(at(0)));
        assert!(budget.allows_heavy(at(100)));
        assert!(budget.allows_all(at(1000), 3));
    }

    /// Small changes must not eat what a heavy one will need, and who waits must be told a time at which it is true.
    #[test]
    fn a_flush_leaves_room_for_something_heavy() {
        let mut budget = Budget::new(1_000_000, at(0));
        assert_eq!(budget.flush_at(at(0), 50), at(0));
        budget.spend(at(0), 927, 20);
        assert!(budget.allows_heavy(at(0)));
        let later = budget.flush_at(at(0), 50);
        assert!(later > at(0) && later < at(50));
        assert_eq!(budget.flush_at(later, 50), later);
        budget.spend(later, 927, 40);
        let later = budget.heavy_at(later);
        assert!(budget.allows_heavy(later));
        // More peers than a burst can pay for must not wait for ever.
        assert!(budget.flush_at(later, 10_000) < later + Duration::from_secs(1));
    }

    #[test]
    fn flushes_spread_with_the_number_of_peers() {
        let budget = Budget::new(1_000_000, at(0));
        assert_eq!(budget.flush_interval(1), Duration::from_secs_f64(2.0 * 173.0 / 125_000.0));
        assert_eq!(budget.flush_interval(1000), Duration::from_millis(50));
    }
}
