//! What a peer's row adds to each pod: sums by pod, kept as the row changes, so that a datagram costs what it changed and
//! not the whole row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use smallvec::SmallVec;

use super::wire::MAX_COUNT;
use crate::id::PodId;
use crate::mutant::{self, Mutant};
use crate::observe::{Pod, SizeClass};
use crate::time::Time;

/// Work on one pod that one peer is believed to have there, at most, µs: 2.4 hours. Pods add up what all peers have in a word
/// that holds 12 days ([`crate::observe::Pod`]); where claims made it wrap, a pod said to have most would seem to have none.
const MOST_US: u64 = 1 << 33;

/// A part of a pod's load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) count_x256: u64,
    pub(crate) cost_us: u64,
}

/// What a row says of one pod, and what of it is on the pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    said: Share,
    applied: Share,
}

#[derive(Debug, Default)]
pub(super) struct Sums {
    by_pod: BTreeMap<PodId, Sum>,
    /// Pods whose sum changed since it was applied; one may be named twice.
    changed: SmallVec<[PodId; 4]>,
    /// The weight that all were applied with; none where all must be looked at again.
    weight_x256: Option<u64>,
    /// Whether the sums must be made anew, from all entries.
    stale: bool,
    /// When the next remainder ends that is in a sum; may be too early, never too late.
    expires: Option<Time>,
}

impl Share {
    pub(super) fn of(count: u64, class: SizeClass) -> Share {
        Share { count_x256: count * 256, cost_us: count * class.typical().as_us() }
    }

    pub(super) fn add(&mut self, other: Share) {
        self.count_x256 += other.count_x256;
        self.cost_us += other.cost_us;
    }

    fn take(&mut self, other: Share) {
        self.count_x256 -= other.count_x256;
        self.cost_us -= other.cost_us;
    }

    fn weighed(self, weight_x256: u64) -> Share {
        let cost_us = (self.cost_us * weight_x256 / 256).min(MOST_US);
        let count_x256 = (self.count_x256 * weight_x256 / 256).min(u64::from(MAX_COUNT) * 256);
        Share { count_x256, cost_us }
    }

    /// Whether no node can have so much on one pod.
    fn is_absurd(self) -> bool {
        self.count_x256 > u64::from(MAX_COUNT) * 256 || self.cost_us > MOST_US
    }
}

impl Sum {
    /// Makes what is on the pod what is said at this weight; says whether anything is left of either.
    fn apply(&mut self, weight_x256: u64, pod: Option<&Pod>) -> bool {
        let (old, new) = (self.applied, self.said.weighed(weight_x256));
        self.applied = Share::default();
        if let Some(pod) = pod {
            // Differences of what this very peer put there: the sum never goes below zero.
            pod.adjust_peers(new.count_x256.wrapping_sub(old.count_x256), new.cost_us.wrapping_sub(old.cost_us));
            let again = new == Share::default() && mutant::is(Mutant::WithdrawAgain);
            self.applied = if again { old } else { new };
        }
        *self != Sum::default()
    }
}

impl Sums {
    /// Whether [`Sums::start_over`] and a [`Sums::change`] for every entry must come before [`Sums::apply`].
    pub(super) fn are_stale(&self, now: Time) -> bool {
        self.stale || self.expires.is_some_and(|at| at <= now)
    }

    /// Entries change in more than what is told of them one by one.
    pub(super) fn outdate(&mut self) {
        self.stale = true;
    }

    /// Nothing is said of any pod.
    pub(super) fn start_over(&mut self) {
        self.by_pod.values_mut().for_each(|sum| sum.said = Share::default());
        self.changed.clear();
        (self.weight_x256, self.stale, self.expires) = (None, false, None);
    }

    /// An entry that said `before` requests of `class` says `after`.
    pub(super) fn change(&mut self, pod: PodId, class: SizeClass, before: u32, after: u32) {
        if before == after || self.stale {
            return;
        }
        let sum = self.by_pod.entry(pod).or_default();
        sum.said.add(Share::of(u64::from(after), class));
        sum.said.take(Share::of(u64::from(before), class));
        if self.weight_x256.is_some() {
            self.changed.push(pod);
        }
    }

    /// A remainder ends at `end`: what is said until then is not true any more.
    pub(super) fn expire_at(&mut self, end: Time) {
        self.expires = Some(self.expires.map_or(end, |at| at.min(end)));
    }

    /// There are other pods: all are looked at again.
    pub(super) fn look_again(&mut self) {
        self.weight_x256 = None;
    }

    /// Makes the pods' peer parts say what the sums say now, at `weight_x256`. Says whether more is claimed of any pod that was
    /// looked at than is believed.
    pub(super) fn apply<'a>(&mut self, weight_x256: u64, pod: impl Fn(PodId) -> Option<&'a Pod>) -> bool {
        let mut absurd = false;
        if self.weight_x256 != Some(weight_x256) || mutant::is(Mutant::WithdrawAgain) {
            self.weight_x256 = Some(weight_x256);
            self.changed.clear();
            self.by_pod.retain(|id, sum| {
                absurd |= sum.said.is_absurd();
                sum.apply(weight_x256, pod(*id))
            });
        }
        for id in self.changed.drain(..) {
            let Entry::Occupied(mut sum) = self.by_pod.entry(id) else { continue };
            absurd |= sum.get().said.is_absurd();
            if !sum.get_mut().apply(weight_x256, pod(id)) {
                sum.remove();
            }
        }
        absurd
    }

    /// Takes back what was put on a pod that picks no longer go to.
    pub(super) fn withdraw(&mut self, pod: &Pod) {
        if let Some(sum) = self.by_pod.get_mut(&pod.id()) {
            let applied = std::mem::take(&mut sum.applied);
            pod.adjust_peers(applied.count_x256.wrapping_neg(), applied.cost_us.wrapping_neg());
        }
    }

    /// What is on each pod now, weighted.
    pub(super) fn applied(&self) -> impl Iterator<Item = (PodId, Share)> {
        let some = self.by_pod.iter().filter(|(_, sum)| sum.applied != Share::default());
        some.map(|(pod, sum)| (*pod, sum.applied))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::PodSpec;

    /// However much work peers claim, the pod that has most by their word must not seem to have little: it would draw everybody.
    #[test]
    fn absurd_claims_never_make_a_pod_seem_idle() {
        let pod = Pod::new(PodSpec::new("p", "p:1"), 1, Arc::default());
        let heaviest = SizeClass::all().last().unwrap();
        let mut before = 0.0;
        let mut peers: Vec<Sums> = (0..100).map(|_| Sums::default()).collect();
        for peer in &mut peers {
            peer.change(pod.id(), heaviest, 0, 65_535);
            peer.apply(256, |_| Some(&pod));
            assert!(pod.load(0).cost_ms > before, "{} after {before}", pod.load(0).cost_ms);
            before = pod.load(0).cost_ms;
        }
        for peer in &mut peers {
            peer.apply(0, |_| Some(&pod));
        }
        assert_eq!((pod.load(0).cost_ms, pod.load(0).in_flight), (0.0, 0.0));
    }
}
