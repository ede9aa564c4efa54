//! What cancelled requests still cost their pods, and until when: to their predicted end, or to the pod's own word.

use std::time::Duration;

use super::{OwnLane, OwnRow};
use crate::mutant::{self, Mutant};
use crate::observe::Change;
use crate::pick::{Remainder, Waiting};
use crate::time::Time;

/// What was cancelled so shortly before a pod was asked may not have come there when it looked.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

impl OwnRow {
    /// Takes back remainders that ended by `now`, and forgets lanes of pods that are gone and have nothing left.
    pub(crate) fn expire(&mut self, now: Time, plays: bool) {
        let before = self.lanes.len();
        let mut left = 0;
        self.lanes.retain(|key, own| {
            if !own.gone && own.remainders.is_empty() {
                return true;
            }
            // Peers know when each ends.
            let told = own.new_remainders;
            own.take_back(now, plays, |remainder| remainder.ends <= now && !mutant::is(Mutant::RemainderForEver));
            own.new_remainders = told;
            left += own.remainders.len();
            let idle = own.remainders.is_empty() && own.told.iter().all(|n| *n == 0) && own.changed().next().is_none();
            !own.gone || !idle || self.dirty.contains(key)
        });
        self.live.1 = left;
        if self.lanes.len() < before {
            let lanes = &self.lanes;
            self.repeats.retain(|(key, ..)| lanes.contains_key(&(key.pod, key.model)));
        }
    }

    /// Takes back remainders that a pod says it cannot have any more: of those that it must have had when it was asked, it keeps
    /// the ones that were cancelled last, because a Triton runs requests as they came.
    pub(super) fn correct(&mut self, waiting: &Waiting, plays: bool) {
        let key = self.lane(&waiting.pod, &waiting.lane);
        let Some(own) = self.lanes.get_mut(&key) else { return };
        let was_there = |r: &Remainder| r.cancelled.is_some_and(|cancelled| cancelled + ON_ITS_WAY <= waiting.asked);
        let mut known = own.remainders.iter().filter(|r| was_there(r)).count();
        let most = waiting.most as usize;
        let before = own.remainders.len();
        own.take_back(waiting.answered, plays, |remainder| {
            // They stand in the order in which they were cancelled.
            let gone = known > most && was_there(remainder);
            known -= usize::from(gone);
            gone
        });
        let gone = before - own.remainders.len();
        if gone > 0 {
            self.live.1 -= gone;
            self.corrected += gone as u64;
            self.dirty.insert(key);
        }
    }

    /// How many remainders were taken back before their predicted end, by their pods' word.
    pub(crate) fn corrected(&self) -> u64 {
        self.corrected
    }
}

impl OwnLane {
    /// Ends the remainders that are `over` at `now`, and notes that peers are to hear of it.
    fn take_back(&mut self, now: Time, plays: bool, mut over: impl FnMut(&Remainder) -> bool) {
        let OwnLane { pod, lane, new_remainders, .. } = self;
        self.remainders.retain(|remainder| {
            let over = over(remainder);
            if over {
                *new_remainders |= 1 << remainder.class.index();
                pod.remove_remainder(remainder.cost);
                if plays {
                    let ended = Change::Ended { by: remainder.by, class: remainder.class, at: now };
                    lane.tell(pod, ended, 1, now);
                }
            }
            !over
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gossip::Interest;
    use crate::observe::{Cost, Formulas, Pod, PodSpec};
    use crate::pick::{Outcome, Picker, PolicyKind, Request, Wake};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A picker of one pod, and a row with what happened there: requests of 10 s that were ended so, 100 ms apart.
    fn ended(outcomes: &[Outcome]) -> (Picker, Arc<Pod>, OwnRow) {
        let picker = Picker::new(PolicyKind::Plimsoll.policy(), 1, Formulas::new(), Box::new(NoWake));
        let pod = Arc::new(Pod::new(PodSpec::new("pod", "http://127.0.0.1:1"), 0, picker.out().clone()));
        picker.set_pods(Arc::new(vec![pod.clone()]), Interest::All);
        let mut row = OwnRow::new();
        row.learn_pods(&picker.pods());
        for (k, outcome) in outcomes.iter().enumerate() {
            let request = Request::new("m").cost(Cost::from_ms(10_000.0).unwrap());
            picker.pick(at(100 * k as u64), &request).unwrap().finish(at(100 * k as u64 + 1), *outcome);
        }
        row.collect(&picker);
        (picker, pod, row)
    }

    fn told(row: &mut OwnRow, now: Time) -> Vec<usize> {
        row.take_changes(now, |_| true).iter().map(|entry| entry.remainders_ms.len()).collect()
    }

    /// A prediction that was far too long, or a Triton that dropped what was cancelled: the pod must not stand there as loaded
    /// for all that time when it says itself that it is not, here or at the peers.
    #[test]
    fn what_a_pod_cannot_have_any_more_is_charged_no_longer() {
        let (picker, pod, mut row) = ended(&[Outcome::Cancelled; 4]);
        assert_eq!((pod.own_remainders(), told(&mut row, at(400))), (4, vec![4]));
        picker.bound_remainders(pod.id(), "m", (at(400), at(401)), 3);
        row.collect(&picker);
        assert_eq!((pod.own_remainders(), told(&mut row, at(401)), row.corrected()), (3, vec![3], 1));
        // The last was cancelled so shortly before that it may be on its way.
        picker.bound_remainders(pod.id(), "m", (at(340), at(402)), 0);
        row.collect(&picker);
        assert_eq!((pod.own_remainders(), told(&mut row, at(402))), (1, vec![1]));
        picker.bound_remainders(pod.id(), "m", (at(500), at(501)), 0);
        row.collect(&picker);
        assert_eq!((pod.own_remainders(), told(&mut row, at(501))), (0, vec![0]));
        assert_eq!((pod.load(0).cost_ms, pod.load(0).in_flight), (0.0, 0.0));
        row.expire(at(60_000), true);
        assert_eq!(pod.load(0).cost_ms, 0.0, "nothing is taken back twice");
    }

    /// A dead model fails what it gets and has nothing waiting: were that held against what it failed, it would look emptiest of all.
    #[test]
    fn what_failed_stays_charged_whatever_its_pod_says() {
        let (picker, pod, mut row) = ended(&[Outcome::Failed, Outcome::Cancelled, Outcome::Failed]);
        picker.bound_remainders(pod.id(), "m", (at(900), at(901)), 0);
        row.collect(&picker);
        assert_eq!(pod.own_remainders(), 2);
    }

    /// What is said of another model, of a model that nobody asked for or of a pod that is gone says nothing.
    #[test]
    fn a_word_counts_for_its_own_pod_and_model() {
        let (picker, pod, mut row) = ended(&[Outcome::Cancelled]);
        picker.bound_remainders(pod.id(), "other", (at(900), at(901)), 0);
        picker.bound_remainders(crate::id::PodId::of("gone"), "m", (at(900), at(901)), 0);
        row.collect(&picker);
        assert_eq!((pod.own_remainders(), picker.hub().waiting.len()), (1, 0));
    }
}
