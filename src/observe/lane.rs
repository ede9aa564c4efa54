//! The requests of one model on one pod: by size class, which is what this node's row says of them, and played through,
//! which is what picks go by.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};

use arc_swap::ArcSwapOption;
use crossbeam::queue::ArrayQueue;

use super::schedule::{Change, MOST_LISTED, Open, Plan, STEPS, Schedule, Step, Summary};
use super::{Model, ModelShape, Pod, SizeClass};
use crate::time::Time;

/// Changes that wait while another thread plays one through; it takes them in before it goes.
const LATE: usize = 256;

/// A change, how often it happened, and when it was heard of.
type Told = (Change, u64, Time);

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) model: Arc<Model>,
    classes: [AtomicU32; SizeClass::COUNT],
    /// Classes that were ever entered, as bits: few of the forty, so that the core need not read all of them.
    used: AtomicU64,
    /// The classes that changed since the core looked, as bits; who sets the first tells the core.
    dirty: AtomicU64,
    /// When the first such change of each class was, in nanoseconds of [`Time`]: the start of its news age. By class,
    /// because a small change may wait long where a heavy one does not.
    changed_at: [AtomicU64; SizeClass::COUNT],
    /// What the model's configuration says of it here, once it was read.
    pub(super) shape_read: ArcSwapOption<ModelShape>,
    /// Only ever tried, never waited for: whoever comes late leaves what it has to say in `late`.
    schedule: Mutex<Schedule>,
    late: OnceLock<ArrayQueue<Told>>,
    published: Published,
}

/// A schedule's summary in atomics. A reader may meet it half written: then it sees two neighbouring states of one pod
/// mixed, each of which was true within the microsecond.
#[derive(Debug, Default)]
struct Published {
    len: AtomicU32,
    listed_ms: AtomicU32,
    /// Requests in the open batch (negative where there are no batches), and how long, as two `f32`.
    open: AtomicU64,
    steps: [PublishedStep; STEPS],
}

#[derive(Debug, Default)]
struct PublishedStep {
    free_at: AtomicU64,
    /// The least wait, and what stands behind it, as two `f32`.
    waits: AtomicU64,
    slots: AtomicU32,
}

/// A part of a pod as a pick sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// How long a new request waits before it begins, or before the batch begins that it joins, ms.
    pub wait_ms: f32,
    /// Slots that are alike.
    pub slots: f32,
    /// The batch that it joins, where the pod batches.
    pub open: Option<Open>,
}

impl Lane {
    pub(super) fn new(model: Arc<Model>) -> Lane {
        Lane {
            model,
            classes: std::array::from_fn(|_| AtomicU32::new(0)),
            used: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            changed_at: std::array::from_fn(|_| AtomicU64::new(0)),
            shape_read: ArcSwapOption::empty(),
            schedule: Mutex::default(),
            late: OnceLock::new(),
            published: Published::default(),
        }
    }

    /// `class` changed at `now`; whether the core is to look here for something else already.
    pub(crate) fn mark(&self, now: Time, class: SizeClass) -> bool {
        let bit = 1 << class.index();
        if self.dirty.load(Relaxed) & bit == 0 {
            self.changed_at[class.index()].store(now.as_nanos(), Relaxed);
        }
        self.dirty.fetch_or(bit, AcqRel) != 0
    }

    /// The core does not look after all.
    pub(crate) fn unmark(&self) {
        self.dirty.store(0, Relaxed);
    }

    /// The core looks: the classes that changed since it last did, and when each did first.
    pub(crate) fn take_marks(&self) -> impl Iterator<Item = (SizeClass, Time)> + '_ {
        let at = |class: SizeClass| Time::from_nanos(self.changed_at[class.index()].load(Relaxed));
        SizeClass::in_bits(self.dirty.swap(0, AcqRel)).map(move |class| (class, at(class)))
    }

    pub(crate) fn add(&self, class: SizeClass) {
        let bit = 1 << class.index();
        if self.used.load(Relaxed) & bit == 0 {
            self.used.fetch_or(bit, Relaxed);
        }
        self.classes[class.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn remove(&self, class: SizeClass) {
        let before = self.classes[class.index()].fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a class is left only by who entered it");
    }

    pub(crate) fn count(&self, class: SizeClass) -> u32 {
        self.classes[class.index()].load(Relaxed)
    }

    /// Classes that may count more than nothing, in order.
    pub(crate) fn used(&self) -> impl Iterator<Item = SizeClass> + use<> {
        SizeClass::in_bits(self.used.load(Relaxed))
    }

    /// Plays through that `change` happened so many `times`, heard of at `now`. Never waits: where another thread is at it,
    /// that one does it.
    pub(crate) fn tell(&self, pod: &Pod, change: Change, times: u64, now: Time) {
        // More than are listed are not listed anyway.
        let mut mine = Some((change, times.min(MOST_LISTED), now));
        loop {
            let mut schedule = match self.schedule.try_lock() {
                Ok(schedule) => schedule,
                // What a thread that panicked left behind is a list of requests like any other.
                Err(TryLockError::Poisoned(left)) => PoisonError::into_inner(left),
                Err(TryLockError::WouldBlock) => {
                    // Whoever has it may be about to go: tried once more when it is in the queue.
                    let Some(mine) = mine.take() else { return };
                    // Where that is full the change is not listed: it stands in the counters, and so behind the rest.
                    let _full = self.late.get_or_init(|| ArrayQueue::new(LATE)).push(mine);
                    continue;
                }
            };
            let plan = self.plan(pod);
            let late = || self.late.get().and_then(ArrayQueue::pop);
            let (mut changed, mut latest) = (false, now);
            while let Some((change, times, now)) = late().or_else(|| mine.take()) {
                // The first that changes nothing has no room, or nothing to take out; the others would not either.
                let applied = (0..times).take_while(|_| schedule.apply(change, &plan)).count();
                changed |= applied > 0;
                latest = latest.max(now);
            }
            if changed {
                self.publish(&schedule.summary(latest, &plan));
            }
            drop(schedule);
            // Someone may have come late after the queue was empty and before the lock was free.
            if self.late.get().is_none_or(ArrayQueue::is_empty) {
                return;
            }
        }
    }

    fn plan(&self, pod: &Pod) -> Plan<'_> {
        let shape = pod.shape_with(self.shape_read.load().as_deref());
        if let Some(batching) = &shape.batch {
            self.model.batches.configure(batching);
        }
        Plan { shape, batches: &self.model.batches, speed: pod.speed() as f32 }
    }

    fn publish(&self, summary: &Summary) {
        let p = &self.published;
        for (step, published) in summary.steps.iter().zip(&p.steps) {
            published.free_at.store(step.free_at.as_nanos(), Relaxed);
            published.waits.store(pair(step.at_least_ms, step.then_ms), Relaxed);
            published.slots.store(step.slots.to_bits(), Relaxed);
        }
        let open = summary.open.unwrap_or(Open { requests: -1.0, ms: 0.0 });
        p.open.store(pair(open.requests, open.ms), Relaxed);
        p.listed_ms.store(summary.listed_ms.to_bits(), Relaxed);
        p.len.store(summary.steps.len() as u32, Release);
    }

    /// Work of all that is listed, ms.
    pub(crate) fn listed_ms(&self) -> f32 {
        f32::from_bits(self.published.listed_ms.load(Relaxed))
    }

    /// What a new request would meet at `now`, lowest first; nothing where nothing was ever listed.
    pub(crate) fn parts(&self, now: Time) -> impl Iterator<Item = Part> {
        let p = &self.published;
        let len = p.len.load(Acquire) as usize;
        let (requests, ms) = unpair(p.open.load(Relaxed));
        let open = (requests >= 0.0).then_some(Open { requests, ms });
        p.steps[..len.min(STEPS)].iter().map(move |step| {
            let (at_least_ms, then_ms) = unpair(step.waits.load(Relaxed));
            let free_at = Time::from_nanos(step.free_at.load(Relaxed));
            let slots = f32::from_bits(step.slots.load(Relaxed));
            Part { wait_ms: Step { free_at, at_least_ms, then_ms, slots }.wait_ms(now), slots, open }
        })
    }
}

fn pair(a: f32, b: f32) -> u64 {
    u64::from(a.to_bits()) << 32 | u64::from(b.to_bits())
}

fn unpair(bits: u64) -> (f32, f32) {
    (f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32))
}
