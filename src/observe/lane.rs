//! The requests of one model on one pod: by size class, which is what this node's row says of them, and played through,
//! which is what picks go by.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::ends::Ends;
use super::heights::Heights;
use super::schedule::{Change, MOST_LISTED, Plan, Schedule};
use super::{Model, ModelShape, Pod, SizeClass};
use crate::sync::{AtomicU32, AtomicU64, Queue, Turn, fence_of_model};
use crate::time::Time;

/// Changes that wait while another thread plays one through; it takes them in before it goes.
const LATE: usize = 256;

/// A change, how often it happened, and when it was heard of.
type Told = (Change, u64, Time);

/// Of one size class, requests in flight in the lower half of a word, requests picked so far in the upper, which wraps: one
/// step changes both.
const PICKED: u64 = 1 << 32;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What picks read.
    pub(crate) heights: Heights,
    pub(crate) model: Arc<Model>,
    /// How its requests ended here.
    pub(crate) ends: Ends,
    /// Classes that were ever entered, as bits: few of the forty, so that the core need not read all of them.
    used: AtomicU64,
    /// The classes that changed since the core looked, as bits; who sets the first tells the core.
    dirty: AtomicU64,
    classes: [AtomicU64; SizeClass::COUNT],
    /// When the first such change of each class was, in nanoseconds of [`Time`]: the start of its news age. By class,
    /// because a small change may wait long where a heavy one does not.
    changed_at: [AtomicU64; SizeClass::COUNT],
    /// What the model's configuration says of it here, once it was read; and how often it was.
    shape_read: ArcSwapOption<ModelShape>,
    shapes_read: AtomicU32,
    /// Only ever tried, never waited for: whoever comes late leaves what it has to say in `late`.
    played: Turn<Played>,
    late: OnceLock<Queue<Told>>,
}

/// What is played through, and the shape by which it is.
#[derive(Debug, Default)]
struct Played {
    schedule: Schedule,
    shape: Option<(ModelShape, u32)>,
}

impl Lane {
    pub(super) fn new(model: Arc<Model>) -> Lane {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Lane {
            heights: Heights::default(),
            model,
            ends: Ends::default(),
            used: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            classes: zeros(),
            changed_at: zeros(),
            shape_read: ArcSwapOption::empty(),
            shapes_read: AtomicU32::new(0),
            played: Turn::default(),
            late: OnceLock::new(),
        }
    }

    /// What the model's configuration says of it here, if it was read.
    pub(super) fn shape_read(&self) -> Option<Arc<ModelShape>> {
        self.shape_read.load_full()
    }

    pub(super) fn set_shape(&self, shape: ModelShape) {
        self.shape_read.store(Some(Arc::new(shape)));
        self.shapes_read.fetch_add(1, Release);
    }

    /// `class` changed at `now`; whether the core is to look here already.
    ///
    /// No change may be missed: the count was changed before this looks at the mark, and the core clears the mark before it
    /// looks at the count, all four in one order that everybody sees (`SeqCst`). So either the mark is seen cleared here,
    /// and set again, or the core sees the count.
    pub(crate) fn mark(&self, now: Time, class: SizeClass) -> bool {
        let bit = 1 << class.index();
        fence_of_model();
        if self.dirty.load(SeqCst) & bit != 0 {
            return true;
        }
        self.changed_at[class.index()].store(now.as_nanos(), Relaxed);
        self.dirty.fetch_or(bit, SeqCst) != 0
    }

    /// The core does not look after all.
    pub(crate) fn unmark(&self) {
        self.dirty.store(0, Relaxed);
    }

    /// The core looks: the classes that changed since it last did, and when each did first.
    pub(crate) fn take_marks(&self) -> impl Iterator<Item = (SizeClass, Time)> + '_ {
        let at = |class: SizeClass| Time::from_nanos(self.changed_at[class.index()].load(Relaxed));
        let dirty = self.dirty.swap(0, SeqCst);
        fence_of_model();
        SizeClass::in_bits(dirty).map(move |class| (class, at(class)))
    }

    pub(crate) fn add(&self, class: SizeClass) {
        let bit = 1 << class.index();
        if self.used.load(Relaxed) & bit == 0 {
            self.used.fetch_or(bit, Relaxed);
        }
        self.classes[class.index()].fetch_add(PICKED + 1, SeqCst);
    }

    pub(crate) fn remove(&self, class: SizeClass) {
        let before = self.classes[class.index()].fetch_sub(1, SeqCst);
        debug_assert!(before as u32 > 0, "a class is left only by who entered it");
    }

    /// Requests of `class` in flight.
    pub(crate) fn count(&self, class: SizeClass) -> u32 {
        self.classes[class.index()].load(SeqCst) as u32
    }

    /// Requests of `class` that were picked so far, modulo 2^32.
    pub(crate) fn picked(&self, class: SizeClass) -> u32 {
        (self.classes[class.index()].load(Relaxed) / PICKED) as u32
    }

    /// Requests that were served here so far, modulo 2^32. Those of which nothing is said but that they took no work are not
    /// among them.
    pub(crate) fn served(&self) -> u32 {
        let ended = self.used().map(|class| {
            let word = self.classes[class.index()].load(Relaxed);
            ((word / PICKED) as u32).wrapping_sub(word as u32)
        });
        self.ends.served(ended.fold(0, u32::wrapping_add))
    }

    /// Whether any request was ever in flight here.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Relaxed) != 0
    }

    /// Whether any request is in flight here.
    pub(crate) fn is_busy(&self) -> bool {
        self.used().any(|class| self.count(class) > 0)
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
            let Some(mut played) = self.played.take() else {
                // Whoever has it may be about to go: tried once more when it is in the queue.
                let Some(mine) = mine.take() else { return };
                // Where that is full the change is not listed: it stands in the counters, and so behind the rest.
                let _full = self.late.get_or_init(|| Queue::new(LATE)).push(mine);
                continue;
            };
            let Played { schedule, shape } = &mut *played;
            let plan = self.plan(pod, shape);
            let late = || self.late.get().and_then(Queue::pop);
            let (mut changed, mut latest) = (false, now);
            while let Some((change, times, now)) = late().or_else(|| mine.take()) {
                // The first that changes nothing has no room, or nothing to take out; the others would not either.
                let applied = (0..times).take_while(|_| schedule.apply(change, &plan)).count();
                changed |= applied > 0;
                latest = latest.max(now);
            }
            if changed {
                self.heights.publish(&schedule.summary(latest, &plan));
            }
            drop(played);
            // Someone may have come late after the queue was empty and before the turn was over.
            if self.late.get().is_none_or(Queue::is_empty) {
                return;
            }
        }
    }

    /// Makes what the first that comes late would make.
    #[cfg(all(test, feature = "loom"))]
    pub(crate) fn make_room(&self) {
        self.late.get_or_init(|| Queue::new(LATE));
    }

    /// `known` is the shape that was gone by last, and the how manyeth it was.
    fn plan(&self, pod: &Pod, known: &mut Option<(ModelShape, u32)>) -> Plan<'_> {
        let read = self.shapes_read.load(Acquire);
        let shape = match *known {
            Some((shape, then)) if then == read => shape,
            _ => known.insert((pod.shape_with(self.shape_read.load().as_deref()), read)).0,
        };
        if let Some(batching) = &shape.batch {
            self.model.batches.configure(batching);
        }
        Plan { shape, batches: &self.model.batches, speed: pod.gauge.weight() }
    }
}
