//! What gossip counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::StrictStats;
use crate::gossip::wire::Kind;

/// Counters of one node's gossip since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages and bytes sent, by kind.
    pub sent: BTreeMap<Kind, (u64, u64)>,
    /// Messages and bytes received, by kind.
    pub received: BTreeMap<Kind, (u64, u64)>,
    /// Rows sent, by why they were: messages and bytes.
    pub rows: BTreeMap<Why, (u64, u64)>,
    /// Messages refused or not used, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Changes that were told at once.
    pub at_once: u64,
    /// Changes that were told later.
    pub waited: u64,
    /// The work of the requests whose changes were told at once, and later, ms.
    pub work_at_once_ms: u64,
    /// See above.
    pub work_waited_ms: u64,
    /// News that arrived, by how old it was: of small changes, and of heavy ones.
    pub news_ages: [Ages; 2],
    /// SWIM identities taken to win against what the cluster knew.
    pub renewals: u64,
    /// Packets foca refused.
    pub swim_packet_errors: u64,
    /// Errors of foca's that no packet caused: a defect.
    pub swim_internal_errors: u64,
    /// Steps on the ladder.
    pub rung_steps: u64,
    /// Changes that did not fit the queue from picks; made good by looking at every lane.
    pub missed_changes: u64,
    /// Remainders that were not charged because too many waited.
    pub missed_remainders: u64,
    /// Remainders that were taken back before their predicted end, because their pod had nothing more waiting.
    pub corrected_remainders: u64,
    /// Strict mode.
    pub strict: StrictStats,
    /// News that goes by relays.
    pub relay: RelayStats,
}

/// Counters of news that goes by relays. What it takes is in [`Stats::sent`]: kind `pass` for what this node gave to
/// relays, `relayed` for what it passed on for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Pieces of others' news (one origin's report each) that this node passed on, for each receiver.
    pub passed_on: u64,
    /// Pieces that it was given to pass on and did not: the budget left no room in time.
    pub late: u64,
    /// The same: too much waited.
    pub crowded: u64,
    /// The same: what groups the origin goes by, or its place among the members, is another than this node believes.
    pub strange: u64,
    /// Pieces that came by a relay and were used.
    pub used: u64,
    /// Pieces that came by a relay and were not: the origin had spoken itself meanwhile, or is not known as it was told of.
    pub unused: u64,
}

impl RelayStats {
    /// Each of them, and its name in metrics.
    pub fn pieces(&self) -> [(&'static str, u64); 6] {
        [
            ("passed_on", self.passed_on),
            ("late", self.late),
            ("crowded", self.crowded),
            ("strange", self.strange),
            ("used", self.used),
            ("unused", self.unused),
        ]
    }
}

impl Stats {
    pub(super) fn refuse(&mut self, why: &'static str) {
        *self.refused.entry(why).or_default() += 1;
    }
}

/// A count by age, in half powers of two of 0.1 ms: the last is for everything from 4.6 s up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages([u64; 32]);

impl Ages {
    pub(super) fn add(&mut self, age: Duration) {
        let bounds = (1..self.0.len()).take_while(|k| age >= Ages::least(*k));
        self.0[bounds.last().unwrap_or(0)] += 1;
    }

    /// The shortest age that the `k`-th count is for.
    fn least(k: usize) -> Duration {
        Duration::from_secs_f64(1e-4 * 2_f64.powf(k as f64 / 2.0))
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Ages) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Ages) -> Ages {
        Ages(std::array::from_fn(|k| self.0[k].saturating_sub(before.0[k])))
    }

    /// The age that this share of them does not exceed, to within a count's width; none where nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        let mut left = share * all as f64;
        for (k, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            if left <= *count as f64 {
                // Within a count, ages are taken to lie evenly by their logarithm.
                return Some(Ages::least(k).mul_f64(2_f64.powf(0.5 * left / *count as f64)));
            }
            left -= *count as f64;
        }
        None
    }
}

/// Why rows were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Something that matters changed.
    AtOnce,
    /// What changed had waited long enough.
    Flush,
    /// Nothing was told for a second, or a peer is new.
    Refresh,
}

impl Why {
    /// All of them.
    pub const ALL: [Why; 3] = [Why::AtOnce, Why::Flush, Why::Refresh];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Why::AtOnce => "at_once",
            Why::Flush => "flush",
            Why::Refresh => "refresh",
        }
    }
}

/// Rows sent, by why.
#[derive(Debug, Default)]
pub(super) struct RowsSent([(u64, u64); Why::ALL.len()]);

impl RowsSent {
    pub(super) fn add(&mut self, why: Why, copies: usize, bytes: usize) {
        let (messages, total) = &mut self.0[why as usize];
        *messages += copies as u64;
        *total += (copies * bytes) as u64;
    }

    pub(super) fn by_why(&self) -> BTreeMap<Why, (u64, u64)> {
        Why::ALL.into_iter().zip(self.0).filter(|(_, (messages, _))| *messages > 0).collect()
    }
}

/// Messages and bytes one way, by kind.
#[derive(Debug, Default)]
pub(super) struct Traffic([(u64, u64); Kind::ALL.len()]);

impl Traffic {
    pub(super) fn add(&mut self, kind: Kind, bytes: usize) {
        let (messages, total) = &mut self.0[kind as usize];
        *messages += 1;
        *total += bytes as u64;
    }

    /// The kinds of which there were any.
    pub(super) fn by_kind(&self) -> BTreeMap<Kind, (u64, u64)> {
        Kind::ALL.into_iter().zip(self.0).filter(|(_, (messages, _))| *messages > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand ages from 1 to 100 ms: a quantile is right to within the width of a count, and empty counts have none.
    #[test]
    fn quantiles_of_ages_are_right_to_a_count() {
        let mut ages = Ages::default();
        assert_eq!(ages.quantile(0.5), None);
        (0..10_000_u64).for_each(|k| ages.add(Duration::from_micros(1000 + k * 99 / 10)));
        for share in [0.1, 0.5, 0.9, 0.99] {
            let (found, right) = (ages.quantile(share).unwrap().as_secs_f64(), 1e-3 + share * 0.099);
            assert!((found / right).log2().abs() < 0.5, "{share}: {found} and {right}");
        }
        let before = ages.clone();
        ages.add(Duration::from_secs(3600));
        ages.add(Duration::ZERO);
        let new = ages.since(&before);
        assert!(new.quantile(0.9).unwrap() > Duration::from_secs(4));
        assert!(new.quantile(0.5).unwrap() < Duration::from_micros(150));
        let mut both = before.clone();
        both.merge(&new);
        assert_eq!(both, ages);
    }
}
