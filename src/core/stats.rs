//! What gossip counts.

use std::collections::BTreeMap;

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
    /// Messages refused or not used, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Changes that were told at once.
    pub at_once: u64,
    /// Changes that waited for a flush.
    pub waited: u64,
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
    /// Strict mode.
    pub strict: StrictStats,
}

impl Stats {
    pub(super) fn refuse(&mut self, why: &'static str) {
        *self.refused.entry(why).or_default() += 1;
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
