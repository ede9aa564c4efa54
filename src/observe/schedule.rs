//! The requests that are known to be at a pod for one model, played through as the pod would: which run, which wait, and
//! so when a new one would start.
//!
//! Counts alone cannot say it. With four slots and three long requests a pod is free; with one batch running a request
//! waits for all of it. So each known request has a place: in order of dispatch, on the slots, or in batches (list
//! scheduling with known starts). An end that is heard of corrects what was believed. What is not listed here because the
//! list is full, or news came in another way, is in the pod's counters all the same, and stands behind the rest.
//!
//! Formulas and what they gain: ARCHITECTURE.md, "Heights".

use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::batches::Batches;
use super::{Batching, ModelShape, SizeClass};
use crate::id::NodeId;
use crate::time::Time;

/// Requests that are listed; more stand behind them as a sum. A pod that has so many waiting is not chosen by the order of
/// the last ones.
pub(crate) const MOST_LISTED: u64 = 256;
/// Room from the start; a pick that is one more makes more. Most pods never have so many, and it takes less than a kilobyte.
const ROOM: usize = 16;
/// What runs never has less left than this share of its estimate. Without a floor, requests that overrun their estimate
/// make a pod look idle: wait 3.2 ms became 16.6 ms.
const RESIDUAL_FLOOR: f32 = 0.3;
/// Parts of a pod that are told apart: a level rarely reaches beyond the lowest few slots of a pod.
pub(crate) const STEPS: usize = 8;
/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// This node's ticket of that number.
    Own(u64),
    /// A peer's, whose requests of one size are alike.
    Peer(NodeId),
}

/// What happened to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// It was sent to the pod.
    Sent { by: By, class: SizeClass, cost_ms: f32, at: Time },
    /// It ended, or its remainder did.
    Ended { by: By, class: SizeClass, at: Time },
    /// All requests of a peer are forgotten.
    Gone { peer: NodeId, at: Time },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    /// Since then; what began together is one batch.
    Runs(Time),
    /// It was in a batch that is over; its own end was not heard yet.
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    by: By,
    class: SizeClass,
    /// What it counts in the pod's counters, ms.
    cost_ms: f32,
    /// Estimated length on this pod alone, ms.
    ms: f32,
    sent: Time,
    state: State,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// In order of dispatch.
    known: Vec<Known>,
    /// When a slot was last left by a batch, as far as heard.
    free_since: Time,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule { known: Vec::with_capacity(ROOM), free_since: Time::ZERO }
    }
}

/// A part of a pod that takes a request by itself: a slot, or several alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// When it is free.
    pub(crate) free_at: Time,
    /// It is not free earlier than that from now, ms: what runs may overrun.
    pub(crate) at_least_ms: f32,
    /// Then so much work stands before it, ms.
    pub(crate) then_ms: f32,
    /// Slots.
    pub(crate) slots: f32,
}

/// The batch that a new request would join.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Open {
    /// Requests in it.
    pub requests: f32,
    /// The longest of them where batches are padded, else all of them, ms.
    pub ms: f32,
}

/// What picks read of a schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) steps: SmallVec<[Step; STEPS]>,
    pub(crate) open: Option<Open>,
    /// Work of all that is listed, ms of pod time: the rest of what the counters say is not here.
    pub(crate) listed_ms: f32,
}

/// Requests that run together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    began: Time,
    pub(super) n: u32,
    pub(super) longest_ms: f32,
    /// The second longest.
    pub(super) second_ms: f32,
    pub(super) sum_ms: f32,
}

/// How the pod runs the model, and what was learned of its batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) shape: ModelShape,
    pub(crate) batches: &'a Batches,
    /// Relative to the others.
    pub(crate) speed: f32,
}

impl Plan<'_> {
    /// How long a request takes here alone. In a batch only differences count, and the peers' sizes are rounded: own ones
    /// that were not would always look the longest (mean 68 for 73 ms where 15 % are long, at load 1.5).
    fn length_ms(&self, class: SizeClass, cost_ms: f32) -> f32 {
        let cost_ms = if self.shape.batch.is_some() { class.typical().as_ms() as f32 } else { cost_ms };
        cost_ms / self.speed
    }
}

impl Schedule {
    /// Takes in a change; says whether it changed anything.
    pub(crate) fn apply(&mut self, change: Change, plan: &Plan<'_>) -> bool {
        match change {
            Change::Sent { by, class, cost_ms, at } => {
                let ms = plan.length_ms(class, cost_ms);
                let place = self.insert(Known { by, class, cost_ms, ms, sent: at, state: State::Waits });
                if let Some(place) = place {
                    self.begin(at, Some(place), plan);
                }
                place.is_some()
            }
            Change::Ended { by, class, at } => {
                let Some((place, ended)) = self.remove(by, class) else { return false };
                if let Some(batching) = &plan.shape.batch {
                    self.end_batch(&ended, place, at, batching, plan);
                }
                self.begin(at, None, plan);
                true
            }
            Change::Gone { peer, at } => {
                let before = self.known.len();
                self.known.retain(|known| known.by != By::Peer(peer));
                let any = self.known.len() < before;
                if any {
                    // What waited behind them waits for nothing now.
                    self.free_since = self.free_since.max(at);
                    self.begin(at, None, plan);
                }
                any
            }
        }
    }

    /// Where it is now, unless the list is full. News of peers may be older than what is known: it goes before that.
    fn insert(&mut self, fresh: Known) -> Option<usize> {
        if self.known.len() as u64 >= MOST_LISTED {
            return None;
        }
        let later = self.known.iter().rev().take_while(|known| known.sent > fresh.sent).count();
        let place = self.known.len() - later;
        self.known.insert(place, fresh);
        Some(place)
    }

    /// Takes out the request that ended, and says where it stood. Of a peer's that are alike it is the one that is over
    /// already, else the first.
    fn remove(&mut self, by: By, class: SizeClass) -> Option<(usize, Known)> {
        let ours = |known: &Known| known.by == by && (matches!(by, By::Own(_)) || known.class == class);
        let over = self.known.iter().position(|known| ours(known) && known.state == State::Over);
        let place = over.or_else(|| self.known.iter().position(ours))?;
        Some((place, self.known.remove(place)))
    }

    /// Lets begin what can by `now`; `fresh` is where a request was just put.
    fn begin(&mut self, now: Time, fresh: Option<usize>, plan: &Plan<'_>) {
        match &plan.shape.batch {
            None => self.fill_slots(now, plan.shape.slots),
            Some(batching) => {
                if let Some(place) = fresh {
                    self.join_late(place, batching.max);
                }
                while self.start_batch(now, batching, plan) {}
            }
        }
    }

    /// Requests start on free slots in the order in which they came.
    fn fill_slots(&mut self, now: Time, slots: u32) {
        let runs = self.known.iter().filter(|known| matches!(known.state, State::Runs(_))).count();
        let free = (slots.max(1) as usize).saturating_sub(runs);
        for known in self.known.iter_mut().filter(|known| known.state == State::Waits).take(free) {
            known.state = State::Runs(now.max(known.sent));
        }
    }

    /// The request at `place` was sent before a running batch began, and that one was not full: it is in it.
    fn join_late(&mut self, place: usize, max: u32) {
        let sent = self.known[place].sent;
        let batch = self.batches().into_iter().find(|batch| sent < batch.began && batch.n < max);
        if let Some(batch) = batch {
            self.known[place].state = State::Runs(batch.began);
        }
    }

    /// The batches that run.
    fn batches(&self) -> SmallVec<[Batch; 4]> {
        let mut batches: SmallVec<[Batch; 4]> = SmallVec::new();
        for known in &self.known {
            let State::Runs(began) = known.state else { continue };
            match batches.iter_mut().find(|batch| batch.began == began) {
                Some(batch) => batch.add(known.ms),
                None => batches.push(Batch { began, n: 1, longest_ms: known.ms, second_ms: 0.0, sum_ms: known.ms }),
            }
        }
        batches
    }

    /// Lets the next batch begin if a slot is free and it is ready by `now`; says whether it did.
    fn start_batch(&mut self, now: Time, batching: &Batching, plan: &Plan<'_>) -> bool {
        let running = self.batches();
        let slots = plan.shape.slots.max(1) as usize;
        let max = batching.max.max(1) as usize;
        let mut waiting = self.known.iter().filter(|known| known.state == State::Waits).map(|known| known.sent);
        let Some(first) = waiting.next().filter(|_| running.len() < slots) else { return false };
        let full = if max == 1 { Some(first) } else { waiting.nth(max - 2) };
        let patience = first + batching.delay;
        let ready = full.map_or(patience, |full| full.min(patience));
        // Only the last slot that is free was left just now.
        let begins = if running.len() + 1 == slots { ready.max(self.free_since) } else { ready };
        // Batches are told apart by when they began.
        let taken = running.iter().any(|batch| batch.began == begins);
        let begins = begins + Duration::from_nanos(u64::from(taken));
        if begins > now {
            return false;
        }
        let joins = |known: &&mut Known| known.state == State::Waits && known.sent <= begins;
        let mut batch = Batch { began: begins, n: 0, longest_ms: 0.0, second_ms: 0.0, sum_ms: 0.0 };
        for known in self.known.iter_mut().filter(joins).take(max) {
            known.state = State::Runs(begins);
            batch.add(known.ms);
        }
        plan.batches.form(batching, batch.n, batch.sum_ms, batch.longest_ms);
        true
    }

    /// `ended`, which stood at `place`, is over: so is the batch it was in, or all before it.
    fn end_batch(&mut self, ended: &Known, place: usize, at: Time, batching: &Batching, plan: &Plan<'_>) {
        match ended.state {
            State::Over => return,
            State::Runs(began) => {
                let others = self.batches().into_iter().find(|batch| batch.began == began);
                let mut batch = others.unwrap_or(Batch { began, n: 0, longest_ms: 0.0, second_ms: 0.0, sum_ms: 0.0 });
                batch.add(ended.ms);
                plan.batches.fit(batching, &batch, at.since(began));
                self.known.iter_mut().filter(|known| known.state == State::Runs(began)).for_each(Known::end);
            }
            State::Waits => self.known[..place].iter_mut().for_each(Known::end),
        }
        self.free_since = at;
    }

    /// What a new request would meet, as picks read it. It says instants; `now` orders what waits.
    pub(crate) fn summary(&self, now: Time, plan: &Plan<'_>) -> Summary {
        let listed_ms = self.known.iter().map(|known| known.cost_ms).sum();
        match &plan.shape.batch {
            None => Summary { steps: self.slots(now, plan.shape.slots), open: None, listed_ms },
            Some(batching) => {
                let (step, open) = self.open_batch(now, batching, plan);
                Summary { steps: smallvec![step], open: Some(open), listed_ms }
            }
        }
    }

    fn slots(&self, now: Time, slots: u32) -> SmallVec<[Step; STEPS]> {
        let slots = slots.max(1) as usize;
        let mut busy: SmallVec<[Step; STEPS]> = SmallVec::new();
        for known in &self.known {
            if let State::Runs(began) = known.state
                && busy.len() < slots
            {
                let free_at = began + span(known.ms);
                busy.push(Step { free_at, at_least_ms: RESIDUAL_FLOOR * known.ms, then_ms: 0.0, slots: 1.0 });
            }
        }
        let waits = self.known.iter().filter(|known| known.state == State::Waits);
        for known in waits {
            if let Some(next) = earliest(&mut busy, now) {
                next.then_ms += known.ms;
            }
        }
        steps(busy, slots, now)
    }

    fn open_batch(&self, now: Time, batching: &Batching, plan: &Plan<'_>) -> (Step, Open) {
        let slots = plan.shape.slots.max(1);
        let mut busy: SmallVec<[Step; STEPS]> = SmallVec::new();
        for batch in self.batches() {
            let length = plan.batches.length(batching, batch.n as f32, batch.longest_ms, batch.sum_ms);
            let free_at = batch.began + span(length);
            busy.push(Step { free_at, at_least_ms: RESIDUAL_FLOOR * length, then_ms: 0.0, slots: 1.0 });
        }
        if busy.len() < slots as usize {
            // One stands for all that are free: what is ready does not wait while any is.
            busy.push(Step::default());
        }
        let mut batch = Batch { began: now, n: 0, longest_ms: 0.0, second_ms: 0.0, sum_ms: 0.0 };
        for known in self.known.iter().filter(|known| known.state == State::Waits) {
            if batch.n == 0 {
                batch.began = known.sent;
            }
            batch.add(known.ms);
            if batch.n == batching.max.max(1) {
                if let Some(next) = earliest(&mut busy, now) {
                    next.then_ms += plan.batches.length(batching, batch.n as f32, batch.longest_ms, batch.sum_ms);
                }
                batch = Batch { began: now, n: 0, longest_ms: 0.0, second_ms: 0.0, sum_ms: 0.0 };
            }
        }
        let mut step = earliest(&mut busy, now).map_or_else(Step::default, |step| *step);
        step.slots = slots as f32;
        if batch.n == 0 {
            return (step, Open::default());
        }
        if step.then_ms == 0.0 {
            step.free_at = step.free_at.max(batch.began + batching.delay);
        }
        let ms = if batching.padded { batch.longest_ms } else { batch.sum_ms };
        (step, Open { requests: batch.n as f32, ms })
    }
}

impl Known {
    fn end(&mut self) {
        self.state = State::Over;
    }
}

impl Batch {
    fn add(&mut self, ms: f32) {
        self.n += 1;
        self.second_ms = self.second_ms.max(ms.min(self.longest_ms));
        self.longest_ms = self.longest_ms.max(ms);
        self.sum_ms += ms;
    }
}

impl Step {
    /// How long a new request waits for it at `now`, ms.
    pub(crate) fn wait_ms(&self, now: Time) -> f32 {
        let left = self.free_at.ms_since(now);
        left.max(self.at_least_ms) + self.then_ms
    }
}

fn earliest(steps: &mut [Step], now: Time) -> Option<&mut Step> {
    steps.iter_mut().min_by(|a, b| a.wait_ms(now).total_cmp(&b.wait_ms(now)))
}

/// The parts of `slots` slots of which these are busy, lowest first: the free ones as one, and the highest of many too.
fn steps(mut busy: SmallVec<[Step; STEPS]>, slots: usize, now: Time) -> SmallVec<[Step; STEPS]> {
    busy.sort_by(|a, b| a.wait_ms(now).total_cmp(&b.wait_ms(now)));
    let mut steps = SmallVec::new();
    let free = slots - busy.len();
    if free > 0 {
        steps.push(Step { slots: free as f32, ..Step::default() });
    }
    let room = STEPS - steps.len();
    let alone = if busy.len() > room { room - 1 } else { busy.len() };
    let (low, high) = busy.split_at(alone);
    steps.extend_from_slice(low);
    if let Some(lowest) = high.first() {
        let n = high.len();
        let mean = |f: fn(&Step) -> f32| high.iter().map(f).sum::<f32>() / n as f32;
        let later = high.iter().map(|step| step.free_at.since(lowest.free_at)).sum::<Duration>();
        steps.push(Step {
            free_at: lowest.free_at + later / n as u32,
            at_least_ms: mean(|step| step.at_least_ms),
            then_ms: mean(|step| step.then_ms),
            slots: n as f32,
        });
    }
    steps
}

fn span(ms: f32) -> Duration {
    Duration::from_nanos((f64::from(ms.max(0.0)) * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Cost;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn class(ms: f64) -> SizeClass {
        SizeClass::of(Cost::from_ms(ms).unwrap())
    }

    fn sent(n: u64, ms: f32, when: u64) -> Change {
        Change::Sent { by: By::Own(n), class: class(f64::from(ms)), cost_ms: ms, at: at(when) }
    }

    fn ended(n: u64, when: u64) -> Change {
        Change::Ended { by: By::Own(n), class: class(1.0), at: at(when) }
    }

    /// A schedule of `slots` slots, or of batches, to which `changes` happened.
    fn play(slots: u32, batch: Option<Batching>, changes: &[Change]) -> impl Fn(u64) -> Summary + use<> {
        let batches = Batches::default();
        batch.iter().for_each(|batching| batches.configure(batching));
        let shape = ModelShape { slots, batch, max_queue: None };
        let mut schedule = Schedule::default();
        for change in changes {
            schedule.apply(*change, &Plan { shape, batches: &batches, speed: 1.0 });
        }
        move |when| schedule.summary(at(when), &Plan { shape, batches: &batches, speed: 1.0 })
    }

    fn waits(summary: &Summary, when: u64) -> Vec<f32> {
        summary.steps.iter().map(|step| step.wait_ms(at(when))).collect()
    }

    /// One slot is a clock: it stacks work, runs down with time, and starts the next request when the last one ended, early
    /// or late.
    #[test]
    fn one_slot_runs_down_and_follows_what_ended() {
        let two = [sent(0, 10.0, 100), sent(1, 10.0, 100)];
        let after = play(1, None, &two);
        assert_eq!([100, 105].map(|when| waits(&after(when), when)), [[20.0], [15.0]]);
        let early = play(1, None, &[two[0], two[1], ended(0, 106)]);
        assert_eq!(waits(&early(106), 106), [10.0]);
        let late = play(1, None, &[two[0], two[1], ended(0, 120)]);
        assert_eq!(waits(&late(120), 120), [10.0]);
        let none = play(1, None, &[two[0], two[1], ended(0, 106), ended(1, 107)]);
        assert_eq!(waits(&none(107), 107), [0.0]);
    }

    /// What runs longer than it was believed to must not make its pod look idle.
    #[test]
    fn an_overrun_keeps_a_floor() {
        let overrun = play(1, None, &[sent(0, 100.0, 0)]);
        assert!((waits(&overrun(500), 500)[0] - 30.0).abs() < 1e-3);
    }

    /// Three long requests on four slots leave one that starts a request at once; a fifth waits for the first to end.
    #[test]
    fn a_free_slot_takes_a_request_at_once() {
        let busy: Vec<Change> = (0..3).map(|n| sent(n, 100.0 + n as f32, 0)).collect();
        let three = play(4, None, &busy)(10);
        assert_eq!(waits(&three, 10), [0.0, 90.0, 91.0, 92.0]);
        assert_eq!(three.steps[0].slots, 1.0);
        let five: Vec<Change> = busy.into_iter().chain([sent(3, 100.0, 0), sent(4, 5.0, 0)]).collect();
        let five = play(4, None, &five)(10);
        assert_eq!(waits(&five, 10)[0], 90.0);
        assert_eq!(five.listed_ms, 408.0);
    }

    /// Many slots are told apart only as far as a level reaches; none of them may get lost.
    #[test]
    fn the_high_slots_of_many_are_one_step() {
        let all: Vec<Change> = (0..40).map(|n| sent(n, 10.0 + n as f32, 0)).collect();
        let many = play(48, None, &all)(0);
        assert_eq!(many.steps.len(), STEPS);
        assert_eq!(many.steps.iter().map(|step| step.slots).sum::<f32>(), 48.0);
        assert!(waits(&many, 0).is_sorted());
    }

    /// A batch ends as a whole with the first of its requests that is heard of, and what waits runs together.
    #[test]
    fn a_batch_is_over_when_any_of_it_is() {
        let first = [sent(0, 20.0, 0), sent(1, 20.0, 1), sent(2, 20.0, 2)];
        let waiting = play(1, Some(Batching::padded(8)), &first)(5);
        let long = class(20.0).typical().as_ms() as f32;
        assert_eq!(waiting.open.map(|open| open.requests), Some(2.0));
        assert!((waits(&waiting, 5)[0] - (long - 5.0)).abs() < 1e-3);
        let next = play(1, Some(Batching::padded(8)), &[first[0], first[1], first[2], ended(0, 20)])(20);
        assert_eq!(next.open.map(|open| open.requests), Some(0.0));
        assert!((waits(&next, 20)[0] - long * 1.15).abs() < 1e-3);
        // The second of them ends: the third is over, too, though that is not heard yet.
        let over = [first[0], first[1], first[2], ended(0, 20), ended(1, 43)];
        let over = play(1, Some(Batching::padded(8)), &over)(43);
        assert_eq!((waits(&over, 43)[0], over.listed_ms), (0.0, 20.0));
    }

    /// A list without a bound would let a pod that hangs slow every pick down.
    #[test]
    fn no_more_than_so_many_are_listed() {
        let all: Vec<Change> = (0..1000).map(|n| sent(n, 1.0, n)).collect();
        assert_eq!(play(1, None, &all)(0).listed_ms, MOST_LISTED as f32);
    }

    /// A peer that is gone takes its requests with it, and nobody else's.
    #[test]
    fn a_peer_that_is_gone_is_forgotten() {
        let peer = |n| By::Peer(NodeId(n));
        let of = |n| Change::Sent { by: peer(n), class: class(50.0), cost_ms: 50.0, at: at(0) };
        let gone = [of(1), of(2), sent(0, 5.0, 0), Change::Gone { peer: NodeId(1), at: at(0) }];
        assert_eq!(play(1, None, &gone)(0).listed_ms, 55.0);
    }

    /// A caller dies whose request runs while ours wait: the pod must not look idle until something else happens there.
    #[test]
    fn what_waited_behind_a_peer_that_is_gone_runs() {
        let theirs = Change::Sent { by: By::Peer(NodeId(1)), class: class(50.0), cost_ms: 50.0, at: at(0) };
        let died = [theirs, sent(0, 20.0, 1), sent(1, 20.0, 2), Change::Gone { peer: NodeId(1), at: at(10) }];
        assert_eq!(waits(&play(1, None, &died)(10), 10), [40.0]);
        let batches = play(1, Some(Batching::padded(8)), &died)(10);
        let long = class(20.0).typical().as_ms() as f32;
        assert!((waits(&batches, 10)[0] - long * 1.15).abs() < 1e-3);
    }

    /// A program may set any number of slots: a batch must not make a list as long.
    #[test]
    fn slots_without_number_cost_no_room() {
        let many = play(u32::MAX, Some(Batching::padded(8)), &[sent(0, 20.0, 0)])(1);
        assert_eq!((waits(&many, 1), many.open.map(|open| open.requests)), (vec![0.0], Some(0.0)));
    }
}
