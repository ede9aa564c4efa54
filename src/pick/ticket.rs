//! One request in flight, as a guard: made by a pick, it holds the very counters it charged, and gives back what it took
//! exactly once, whatever happens to its holder.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Remainder;
use super::places::Account;
use crate::mutant::{self, Mutant};
use crate::observe::{By, Change, Cost, Lane, Model, Pod, Rank, SizeClass, average};
use crate::time::Time;

/// Weight of a new sample in the running means of cost and sojourn: about the last hundred requests.
pub(super) const MEAN: f32 = 0.02;
/// Work below this is not worth a remainder: it is over before anyone hears of it.
const LEAST_REMAINDER_MS: f64 = 1.0;

/// How a ticket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The pod answered.
    Served,
    /// The pod failed, or could not be reached. Its cost stays charged as if it had been cancelled: the pod may run it all the
    /// same, and one that fails what it is sent at once must not look emptier than one that works.
    Failed,
    /// The pod refused before it began: nothing runs there.
    Refused,
    /// The caller gave up (cancel, deadline). The pod may run it all the same: Triton does, so its cost stays charged
    /// as a remainder until its predicted end.
    Cancelled,
}

/// One request in flight on one pod. Ends by [`Ticket::finish`]; dropping it ends it as [`Outcome::Cancelled`].
#[derive(Debug)]
#[must_use = "dropping a ticket cancels it"]
pub struct Ticket {
    account: Arc<Account>,
    class: SizeClass,
    cost: Cost,
    bytes: u64,
    started: Time,
    predicted_end: Time,
    /// The pick's.
    number: u64,
    /// Nobody is told of it before; none where nothing is held back.
    held_until: Option<Time>,
    /// Where it found the pod idle: how many surprises there had been.
    idle_since: Option<u32>,
    /// Whether its length says anything about the cost of its kind.
    teaches: bool,
    /// Whether its failure is one of its pod's.
    blames: bool,
    /// When the work was over, where that is not the ticket's end.
    worked_until: Option<Time>,
    ended: bool,
}

/// What the pick saw of the pod that it charges.
pub(super) struct Expected {
    /// How long the request should take there, with what stands before it, ms.
    pub(super) takes_ms: f32,
    /// Whether nothing was in flight there.
    pub(super) found_idle: bool,
}

impl Ticket {
    /// Charges `account` and hands out the proof.
    pub(super) fn charge(
        account: Arc<Account>,
        bytes: u64,
        cost: Cost,
        number: u64,
        now: Time,
        expected: Expected,
    ) -> Ticket {
        let class = SizeClass::of(cost);
        let Account { pod, lane, hub } = &*account;
        pod.gauge.charge(cost);
        lane.add(class);
        // A call without work takes no slot, and no place in a batch.
        if cost > Cost::ZERO {
            let cost_ms = cost.as_ms() as f32;
            if hub.plays {
                lane.tell(pod, Change::Sent { by: By::Own(number), class, cost_ms, at: now }, 1, now);
            }
            hub.saw_cost(cost_ms);
        }
        let held_until = hub.charged(now, pod, lane, cost, class);
        Ticket {
            class,
            cost,
            bytes,
            started: now,
            predicted_end: now + Duration::from_nanos((expected.takes_ms * 1e6) as u64),
            number,
            held_until,
            idle_since: pod.time(now, expected.found_idle),
            teaches: true,
            blames: true,
            worked_until: None,
            ended: false,
            account,
        }
    }

    /// The pod that was picked.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.account.pod
    }

    /// The model that it was picked for; the nameless one for names that are not kept apart.
    pub fn model(&self) -> &Arc<Model> {
        &self.account.lane.model
    }

    /// Where it is counted in its node's row.
    pub(crate) fn counted(&self) -> (&Arc<Pod>, &Arc<Lane>, SizeClass) {
        (&self.account.pod, &self.account.lane, self.class)
    }

    /// What it was charged.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// When it should end, by what was known at the pick.
    pub fn predicted_end(&self) -> Time {
        self.predicted_end
    }

    /// When it was picked.
    pub fn started(&self) -> Time {
        self.started
    }

    /// The work was over at `at`, whenever the ticket ends: a stream may stand open long after its last answer.
    pub fn worked_until(&mut self, at: Time) {
        self.worked_until = Some(at);
        self.account.pod.heard(at);
        self.account.pod.end_trial(&self.account.lane);
    }

    /// Its length says nothing about the cost of its kind: the pod answered with an error, or several requests shared it.
    pub fn teaches_nothing(&mut self) {
        self.teaches = false;
    }

    /// Its failure says nothing about its pod's health: somebody wanted this pod and no other, to see what is wrong there.
    pub fn blames_nobody(&mut self) {
        self.blames = false;
    }

    /// Ends the ticket at `now`. A served request that found its pod idle teaches the cost model how long its kind takes.
    pub fn finish(mut self, now: Time, outcome: Outcome) {
        self.end(now, outcome);
    }

    /// Ends it at `now` where it stood for a request that others sent: its charge is given back, and nobody says how it went.
    #[cfg(feature = "redis")]
    pub(crate) fn release(mut self, now: Time) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let Account { pod, lane, hub } = &*self.account;
        pod.gauge.release(self.cost);
        lane.remove(self.class);
        lane.ends.pass();
        if hub.plays && self.cost > Cost::ZERO {
            lane.tell(pod, Change::Ended { by: By::Own(self.number), class: self.class, at: now }, 1, now);
        }
        hub.changed(now, pod, lane, self.cost, self.class);
    }

    fn end(&mut self, now: Time, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) && !mutant::is(Mutant::DoubleRelease) {
            return;
        }
        if mutant::is(Mutant::DropReleaseOnCancel) && outcome == Outcome::Cancelled {
            return;
        }
        let Account { pod, lane, hub } = &*self.account;
        if mutant::is(Mutant::ReleaseByPlace) {
            self.pod_at_its_place().gauge.release(self.cost);
        } else {
            pod.gauge.release(self.cost);
        }
        if !(mutant::is(Mutant::RowKeepsFailed) && outcome == Outcome::Failed) {
            lane.remove(self.class);
        }
        let stats = pod.stats();
        match outcome {
            Outcome::Served => &stats.served,
            Outcome::Failed => &stats.failed,
            Outcome::Refused => &stats.refused,
            Outcome::Cancelled => &stats.cancelled,
        }
        .fetch_add(1, Relaxed);
        // A refusal may be its holder's own, who sent nothing.
        let heard = matches!(outcome, Outcome::Served | Outcome::Failed);
        if heard || outcome == Outcome::Cancelled && mutant::is(Mutant::CancelAnswers) {
            pod.heard(now);
        }
        match outcome {
            Outcome::Failed if self.cost > Cost::ZERO && self.blames => hub.failed(lane),
            Outcome::Served if self.cost > Cost::ZERO => {
                self.show_that_it_has(now);
                lane.ends.serve();
                pod.end_trial(lane);
            }
            _ => lane.ends.pass(),
        }
        let left = match outcome {
            // Who fails at once would look emptier than who works.
            Outcome::Failed if mutant::is(Mutant::FailForFree) => false,
            Outcome::Failed | Outcome::Cancelled => self.leave_remainder(now, outcome),
            Outcome::Served | Outcome::Refused => false,
        };
        if outcome == Outcome::Served {
            self.learn(now);
        }
        if !left && hub.plays && self.cost > Cost::ZERO {
            lane.tell(pod, Change::Ended { by: By::Own(self.number), class: self.class, at: now }, 1, now);
        }
        if outcome == Outcome::Refused {
            hub.refused(now, now.since(self.started));
            if self.held_until.is_some_and(|until| now < until) {
                // It came and went before anybody was told: there is nothing to tell.
                return;
            }
        }
        hub.changed(now, pod, lane, self.cost, self.class);
    }

    /// For a mutant: what stands in the table where the pod was put when all were first.
    fn pod_at_its_place(&self) -> Arc<Pod> {
        let pod = &self.account.pod;
        let place = (pod.life as usize).wrapping_sub(1);
        let picker = self.account.hub.picker.upgrade();
        picker.and_then(|picker| picker.table.load().pods.get(place).cloned()).unwrap_or_else(|| pod.clone())
    }

    /// Who served the model has it, whatever is thought; unless that was begun before the model came or went.
    fn show_that_it_has(&self, now: Time) {
        let Account { pod, lane, hub } = &*self.account;
        let model = &lane.model;
        if self.teaches && pod.rank(model) == Rank::Lacking && !model.moved_within(now.since(self.started), now) {
            hub.shows(now, pod, model);
        }
    }

    fn learn(&self, now: Time) {
        if self.cost == Cost::ZERO || !self.teaches {
            return;
        }
        let Account { pod, lane, hub } = &*self.account;
        let sojourn_ms = self.worked_until.unwrap_or(now).since(self.started).as_secs_f64() * 1e3;
        average(&hub.sojourn_ms[self.class.index()], sojourn_ms as f32, MEAN);
        if self.idle_since.is_some_and(|surprises| pod.pace.was_idle(surprises)) {
            let usual_ms = lane.model.cost.learn(self.bytes, sojourn_ms * pod.speed(), now);
            if let Some(usual_ms) = usual_ms.filter(|ms| *ms > 0.0) {
                pod.pace.saw(sojourn_ms * pod.spec().weight / usual_ms);
            }
        }
    }

    /// Until when its pod works on it if it ends so at `now`, as far as anybody knows.
    pub fn remains(&self, now: Time, outcome: Outcome) -> Option<Time> {
        let runs_on = matches!(outcome, Outcome::Failed | Outcome::Cancelled);
        let matters = self.cost.as_ms() >= LEAST_REMAINDER_MS && self.predicted_end > now;
        (runs_on && matters).then_some(self.predicted_end)
    }

    /// Keeps the cost charged until the predicted end, under the remainders' name; says whether it did.
    fn leave_remainder(&self, now: Time, outcome: Outcome) -> bool {
        if self.remains(now, outcome).is_none() || mutant::is(Mutant::NoRemainder) {
            return false;
        }
        let Account { pod, lane, hub } = &*self.account;
        let remainder = Remainder {
            by: By::Own(self.number),
            pod: pod.clone(),
            lane: lane.clone(),
            class: self.class,
            cost: self.cost,
            ends: self.predicted_end,
            cancelled: (outcome == Outcome::Cancelled).then_some(now),
        };
        // Charged before it is handed over, so that the core can never take back what is not there yet.
        pod.add_remainder(self.cost);
        let charged = hub.remainders.push(remainder).is_ok();
        if !charged {
            pod.remove_remainder(self.cost);
            hub.missed_remainders.fetch_add(1, Relaxed);
        }
        charged
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // No clock here: the time of the last pick is near enough for a ticket nobody finished.
        self.end(self.account.hub.last_seen().max(self.started), Outcome::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::gossip::Interest;
    use crate::observe::{Formulas, PodSpec};
    use crate::pick::{PickError, Picker, PolicyKind, Request, Wake};

    #[derive(Clone, Default)]
    struct Wakes(Arc<AtomicUsize>);

    impl Wake for Wakes {
        fn wake(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn picker(pods: usize) -> (Picker, Wakes) {
        let wakes = Wakes::default();
        let picker = Picker::new(PolicyKind::Plimsoll.policy(), 1, Formulas::new(), Box::new(wakes.clone()));
        let spec = |k| PodSpec::new(format!("pod-{k}"), format!("http://127.0.0.1:{k}"));
        picker.set_pods(
            Arc::new((0..pods).map(|k| Arc::new(Pod::new(spec(k), 0, picker.out().clone()))).collect()),
            Interest::All,
        );
        (picker, wakes)
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn in_flight(picker: &Picker) -> u32 {
        picker.pods().iter().map(|pod| pod.own_in_flight()).sum()
    }

    /// Counts that leak when a caller cancels were the top defect of every peer: each way out must give back once.
    #[test]
    fn every_end_of_a_ticket_returns_its_charge_once() {
        let (picker, _) = picker(3);
        for outcome in [Outcome::Served, Outcome::Failed, Outcome::Refused, Outcome::Cancelled] {
            let ticket = picker.pick(at(1), &Request::new("m")).unwrap();
            assert_eq!(in_flight(&picker), 1);
            ticket.finish(at(2), outcome);
            assert_eq!(in_flight(&picker), 0);
        }
        drop(picker.pick(at(3), &Request::new("m")).unwrap());
        let ticket = picker.pick(at(4), &Request::new("m")).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = ticket;
            panic!("the caller's bug");
        }));
        assert!(panicked.is_err());
        assert_eq!(in_flight(&picker), 0);
        let lanes: u32 = picker
            .pods()
            .iter()
            .flat_map(|p| p.lanes())
            .map(|l| l.count(SizeClass::of(Cost::from_ms(10.0).unwrap())))
            .sum();
        assert_eq!(lanes, 0);
    }

    /// A cancelled Triton request runs on: its pod must not look free before the predicted end.
    #[test]
    fn a_cancelled_ticket_leaves_a_remainder() {
        let (picker, _) = picker(1);
        let cost = Cost::from_ms(100.0).unwrap();
        drop(picker.pick(at(1), &Request::new("m").cost(cost)).unwrap());
        let remainder = picker.hub().remainders.pop().unwrap();
        assert_eq!(remainder.ends, at(101));
        assert_eq!(picker.pods()[0].load(0).in_flight, 1.0);
        assert_eq!(picker.pods()[0].own_in_flight(), 0);
    }

    /// A pod replaced while a ticket is out must not be charged by it, nor released by it.
    #[test]
    fn a_ticket_holds_its_counter_not_its_name() {
        let (picker, _) = picker(1);
        let ticket = picker.pick(at(1), &Request::new("m")).unwrap();
        let old = ticket.pod().clone();
        let pod = Arc::new(Pod::new(PodSpec::new("pod-0", "http://127.0.0.1:0"), 1, Arc::default()));
        picker.set_pods(Arc::new(vec![pod]), Interest::All);
        assert_eq!(in_flight(&picker), 0);
        ticket.finish(at(2), Outcome::Served);
        assert_eq!(old.own_in_flight(), 0);
        assert_eq!(in_flight(&picker), 0);
    }

    /// The core is told of a change once until it looks: a thousand picks must not fill its queue.
    #[test]
    fn changes_are_queued_once_and_wake_the_core() {
        let (picker, wakes) = picker(1);
        let tickets: Vec<Ticket> = (0..10).map(|k| picker.pick(at(k), &Request::new("m")).unwrap()).collect();
        assert_eq!(picker.hub().changes.len(), 1);
        assert_eq!(wakes.0.load(Relaxed), 1);
        drop(tickets);
    }

    /// Where pods refuse and gossip is short, each bounced request would cost everybody two datagrams and say nothing: what
    /// came and went before its time is never told, what stays is, and nothing is held back before anybody refused.
    #[test]
    fn a_pick_that_is_refused_before_it_is_told_is_never_told() {
        let (picker, _) = picker(1);
        let hub = picker.hub();
        hub.published.scarce.store(true, Relaxed);
        let ended = |ms, outcome| picker.pick(at(ms), &Request::new("m")).unwrap().finish(at(ms + 1), outcome);
        ended(0, Outcome::Refused);
        assert_eq!((hub.changes.len(), hub.held.len()), (1, 0));
        while let Some((_, lane)) = hub.changes.pop() {
            lane.unmark();
        }
        ended(10, Outcome::Refused);
        assert_eq!((hub.changes.len(), hub.held.len()), (0, 1));
        ended(20, Outcome::Served);
        assert_eq!((hub.changes.len(), hub.held.len()), (1, 2));
        let (until, pod, lane, class) = hub.held.pop().unwrap();
        assert_eq!(until, at(12));
        hub.release(until, &pod, &lane, class);
        // Long after the last refusal, nothing is held back any more.
        let _ticket = picker.pick(at(20_000), &Request::new("m")).unwrap();
        assert_eq!(hub.held.len(), 1);
    }

    /// A request whose pod turns out to have been busy, or was slow by itself, must not teach the wrong thing.
    #[test]
    fn news_of_an_earlier_request_spoils_a_sample() {
        let (picker, _) = picker(1);
        let request = Request::new("m").bytes(5000);
        let cost = || picker.models().last().unwrap().cost.estimate(5000).as_ms();
        let behind = picker.pick(at(10), &request).unwrap();
        behind.pod().heard_of(at(9));
        behind.finish(at(500), Outcome::Served);
        assert_eq!(cost(), 10.0);
        let first = picker.pick(at(1000), &request).unwrap();
        first.pod().heard_of(at(1001));
        first.finish(at(1120), Outcome::Served);
        assert_eq!(cost(), 120.0);
    }

    /// Own picks must be seen by the next pick at once: ten requests over ten pods take one each.
    #[test]
    fn the_next_pick_sees_the_charge() {
        let (picker, _) = picker(10);
        let tickets: Vec<Ticket> = (0..10).map(|_| picker.pick(at(1), &Request::new("m")).unwrap()).collect();
        assert!(picker.pods().iter().all(|pod| pod.own_in_flight() == 1));
        drop(tickets);
    }

    /// A metadata call is in flight like any other, and no work: it must not take a slot or a place in a batch.
    #[test]
    fn a_call_without_work_stands_before_nothing() {
        let (picker, _) = picker(1);
        let batching = Some(crate::observe::Batching::padded(8));
        let pod = Arc::new(Pod::new(PodSpec { batching, ..PodSpec::new("p", "p:1") }, 0, Arc::default()));
        picker.set_pods(Arc::new(vec![pod.clone()]), Interest::All);
        let call = picker.pick(at(1), &Request::new("m").cost(Cost::ZERO)).unwrap();
        assert_eq!((pod.own_in_flight(), pod.longest_wait_ms(at(1))), (1, 0.0));
        let work = picker.pick(at(2), &Request::new("m").cost(Cost::from_ms(50.0).unwrap())).unwrap();
        let waits = pod.longest_wait_ms(at(2));
        assert!(waits > 40.0);
        call.finish(at(2), Outcome::Served);
        assert_eq!(pod.longest_wait_ms(at(2)), waits);
        work.finish(at(60), Outcome::Served);
        assert_eq!(pod.longest_wait_ms(at(60)), 0.0);
    }

    /// Threads that pick and drop as fast as they can must leave nothing behind.
    #[test]
    fn threads_leave_nothing_behind() {
        let (picker, _) = picker(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for k in 0..2_000 {
                        picker.pick(at(k), &Request::new("m").bytes(k)).unwrap().finish(at(k + 1), Outcome::Served);
                    }
                });
            }
        });
        assert_eq!(in_flight(&picker), 0);
        assert!(picker.pods().iter().all(|pod| pod.load(0).cost_ms == 0.0));
    }

    /// Ejected pods are avoided, but a pod that may answer beats a certain error.
    #[test]
    fn picks_avoid_ejected_pods_while_others_are_left() {
        let (picker, _) = picker(2);
        let pods = picker.pods();
        pods[0].eject();
        for _ in 0..8 {
            assert_eq!(picker.pick(at(1), &Request::new("m")).unwrap().pod().name(), "pod-1");
        }
        pods[1].eject();
        assert!(picker.pick(at(1), &Request::new("m")).is_ok());
        let both = [pods[0].id(), pods[1].id()];
        let none = picker.pick(at(1), &Request::new("m").exclude(&both)).unwrap_err();
        assert_eq!(none, PickError::NoneLeft { model: "m".into(), known: 2 });
    }

    /// Only requests that found their pod idle teach: a queue in the sample would teach that everything is slow.
    #[test]
    fn costs_are_learned_from_requests_that_found_their_pod_idle() {
        let (picker, _) = picker(1);
        let request = Request::new("m").bytes(5000);
        let first = picker.pick(at(0), &request).unwrap();
        let queued = picker.pick(at(0), &request).unwrap();
        first.finish(at(120), Outcome::Served);
        queued.finish(at(240), Outcome::Served);
        assert_eq!(picker.pick(at(300), &request).unwrap().cost().as_ms(), 120.0);
    }

    /// A request that its pod turned down at once must not teach that its kind is free, nor a stream that stood open for
    /// an hour after its one answer that it takes an hour.
    #[test]
    fn refusals_and_idle_streams_teach_no_cost() {
        let (picker, _) = picker(1);
        let request = Request::new("m").bytes(5000);
        let mut turned_down = picker.pick(at(0), &request).unwrap();
        turned_down.teaches_nothing();
        turned_down.finish(at(1), Outcome::Served);
        let mut stream = picker.pick(at(10), &request).unwrap();
        stream.worked_until(at(130));
        stream.finish(at(3_600_000), Outcome::Served);
        assert_eq!(picker.pick(at(3_700_000), &request).unwrap().cost().as_ms(), 120.0);
    }
}
