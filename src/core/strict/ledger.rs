//! What an owner promised and cannot see yet: a reservation counts from the grant until the asker's row tells of it, and
//! no longer than [`HOLD`] whatever becomes of the asker. It is never the truth about a request, which is the ticket, at
//! its own node.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::id::{Epoch, NodeId, PodId, Seq};
use crate::mutant::{self, Mutant};
use crate::observe::{PodLoad, SizeClass};
use crate::time::Time;

/// A reservation that no row has told of by now has come to nothing: the asker picked elsewhere, or died. A grant, and
/// the asker's row after it, take a round trip; a row that got lost is repeated within 50 ms.
const HOLD: Duration = Duration::from_millis(100);
/// Reservations of one asker: 40,000 picks a second.
pub(super) const MOST_OF_ONE: usize = 4096;
/// And of all of them: a few megabytes.
pub(super) const MOST: usize = 65_536;

/// A promise to one asker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) pod: PodId,
    pub(super) class: SizeClass,
    /// Which start of the asker, and its last report when it asked.
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    /// Whether it counts still. Kept for its number after that: a datagram that comes twice must not reserve twice.
    counts: bool,
}

impl Reservation {
    pub(super) fn new(pod: PodId, class: SizeClass, epoch: Epoch, seq: Seq) -> Reservation {
        Reservation { pod, class, epoch, seq, counts: true }
    }
}

/// What is reserved on one pod.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u32,
    cost_us: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    askers: BTreeMap<NodeId, BTreeMap<u64, Reservation>>,
    by_pod: BTreeMap<PodId, Sum>,
    /// In the order in which they end, which is that in which they were made.
    ends: VecDeque<(Time, NodeId, u64)>,
}

impl Ledger {
    /// Those that count.
    pub(super) fn counting(&self) -> u64 {
        self.by_pod.values().map(|sum| u64::from(sum.count)).sum()
    }

    /// All that are kept.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How old the oldest is that counts.
    pub(super) fn oldest(&self, now: Time) -> Option<Duration> {
        let counts =
            |asker, nonce| self.askers.get(asker)?.get(nonce).map(|reservation: &Reservation| reservation.counts);
        let oldest = self.ends.iter().find(|(_, asker, nonce)| counts(asker, nonce) == Some(true));
        oldest.map(|(ends, ..)| (now + HOLD).since(*ends))
    }

    /// Whether another of `asker`'s may be kept.
    pub(super) fn has_room(&self, asker: NodeId) -> bool {
        let its = self.askers.get(&asker).map_or(0, BTreeMap::len);
        its < MOST_OF_ONE && self.ends.len() < MOST
    }

    /// What was promised under this number before.
    pub(super) fn known(&self, asker: NodeId, nonce: u64) -> Option<PodId> {
        Some(self.askers.get(&asker)?.get(&nonce)?.pod)
    }

    pub(super) fn hold(&mut self, now: Time, asker: NodeId, nonce: u64, reservation: Reservation) {
        let Entry::Vacant(place) = self.askers.entry(asker).or_default().entry(nonce) else { return };
        place.insert(reservation);
        self.ends.push_back((now + HOLD, asker, nonce));
        let sum = self.by_pod.entry(reservation.pod).or_default();
        sum.count += 1;
        sum.cost_us += reservation.class.typical().as_us();
    }

    /// The asker does not need it.
    pub(super) fn give_back(&mut self, asker: NodeId, nonce: u64) {
        let its = self.askers.get_mut(&asker);
        if let Some(reservation) = its.and_then(|its| its.get_mut(&nonce)) {
            settle(&mut self.by_pod, reservation);
        }
    }

    /// The asker's row was heard: what `told` says it tells of counts there from now on, and not here.
    pub(super) fn settle(&mut self, asker: NodeId, told: impl Fn(&Reservation) -> bool) {
        if mutant::is(Mutant::CountGrantsTwice) {
            return;
        }
        for reservation in self.askers.get_mut(&asker).into_iter().flat_map(BTreeMap::values_mut) {
            if reservation.counts && told(reservation) {
                settle(&mut self.by_pod, reservation);
            }
        }
    }

    /// Nothing counts any more of askers that `stays` does not name.
    pub(super) fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        for (_, its) in self.askers.iter_mut().filter(|(asker, _)| !stays(**asker)) {
            its.values_mut().for_each(|reservation| settle(&mut self.by_pod, reservation));
        }
    }

    /// Forgets what ended by `now`.
    pub(super) fn expire(&mut self, now: Time) {
        if mutant::is(Mutant::ReservationForEver) {
            return;
        }
        while let Some((_, asker, nonce)) = self.ends.pop_front_if(|(ends, ..)| *ends <= now) {
            let Entry::Occupied(mut its) = self.askers.entry(asker) else { continue };
            if let Some(mut reservation) = its.get_mut().remove(&nonce) {
                settle(&mut self.by_pod, &mut reservation);
            }
            if its.get().is_empty() {
                its.remove();
            }
        }
    }

    /// The load of `pod` with what is reserved there.
    pub(super) fn add_to(&self, pod: PodId, mut load: PodLoad) -> PodLoad {
        if let Some(sum) = self.by_pod.get(&pod) {
            load.in_flight += sum.count as f32;
            load.cost_ms += sum.cost_us as f32 / 1e3;
        }
        load
    }
}

fn settle(by_pod: &mut BTreeMap<PodId, Sum>, reservation: &mut Reservation) {
    if !std::mem::replace(&mut reservation.counts, false) {
        return;
    }
    let Entry::Occupied(mut sum) = by_pod.entry(reservation.pod) else { return };
    sum.get_mut().count -= 1;
    sum.get_mut().cost_us -= reservation.class.typical().as_us();
    if sum.get().count == 0 {
        sum.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Cost;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn reservation(pod: u64, seq: u64) -> Reservation {
        Reservation::new(PodId(pod), SizeClass::of(Cost::from_ms(20.0).unwrap()), Epoch(1), Seq(seq))
    }

    const ASKER: NodeId = NodeId(7);

    /// A reservation is the only load that no counter of any node stands behind: it must end by itself, whoever dies.
    #[test]
    fn a_reservation_ends_by_itself() {
        let mut ledger = Ledger::default();
        ledger.hold(at(0), ASKER, 1, reservation(1, 0));
        ledger.hold(at(60), ASKER, 2, reservation(1, 0));
        ledger.expire(at(99));
        assert_eq!(ledger.counting(), 2);
        ledger.expire(at(100));
        assert_eq!((ledger.counting(), ledger.len()), (1, 1));
        ledger.expire(at(160));
        assert_eq!((ledger.counting(), ledger.len(), ledger.askers.len()), (0, 0, 0));
    }

    /// Counted here and in the asker's row a request would stand before its pod twice.
    #[test]
    fn what_the_askers_row_tells_of_counts_there() {
        let mut ledger = Ledger::default();
        ledger.hold(at(0), ASKER, 1, reservation(1, 4));
        ledger.hold(at(0), ASKER, 2, reservation(2, 6));
        ledger.hold(at(0), NodeId(8), 1, reservation(1, 0));
        ledger.settle(ASKER, |reservation| reservation.seq < Seq(5));
        assert_eq!(ledger.counting(), 2);
        // A second row, its end, and the time take nothing away twice.
        ledger.settle(ASKER, |_| true);
        ledger.give_back(ASKER, 1);
        ledger.retain(|asker| asker != ASKER);
        ledger.expire(at(100));
        assert_eq!(ledger.counting(), 0);
    }

    /// Datagrams come twice: the second one is answered as the first was, and reserves nothing.
    #[test]
    fn a_question_that_comes_twice_reserves_once() {
        let mut ledger = Ledger::default();
        ledger.hold(at(0), ASKER, 1, reservation(1, 0));
        ledger.hold(at(1), ASKER, 1, reservation(2, 0));
        assert_eq!((ledger.counting(), ledger.known(ASKER, 1)), (1, Some(PodId(1))));
        // Even when it counts no more.
        ledger.give_back(ASKER, 1);
        assert_eq!((ledger.counting(), ledger.known(ASKER, 1)), (0, Some(PodId(1))));
        assert_eq!(ledger.known(NodeId(8), 1), None);
    }

    /// A member may ask as often as it likes: what is kept for it is bounded, and others still get theirs.
    #[test]
    fn an_asker_without_measure_fills_its_own_part_only() {
        let mut ledger = Ledger::default();
        for nonce in 0..MOST_OF_ONE as u64 {
            assert!(ledger.has_room(ASKER));
            ledger.hold(at(0), ASKER, nonce, reservation(1, 0));
        }
        assert!(!ledger.has_room(ASKER) && ledger.has_room(NodeId(8)));
        ledger.expire(at(100));
        assert!(ledger.has_room(ASKER));
    }

    /// What is reserved stands before a pod as tickets do.
    #[test]
    fn what_is_reserved_is_load() {
        let mut ledger = Ledger::default();
        ledger.hold(at(0), ASKER, 1, reservation(1, 0));
        let idle = PodLoad::idle(0);
        let typical = SizeClass::of(Cost::from_ms(20.0).unwrap()).typical().as_us() as f32 / 1e3;
        let loaded = ledger.add_to(PodId(1), idle);
        assert_eq!((loaded.in_flight, loaded.cost_ms), (1.0, typical));
        assert_eq!(ledger.add_to(PodId(2), idle), idle);
    }
}
