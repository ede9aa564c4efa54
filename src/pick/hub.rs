//! Where picks and tickets meet the core: what they tell it, and what it publishes for them.
//!
//! Nobody waits here. What is told goes through bounded queues of which each lane stands in one at most once; what does not
//! fit is counted, and the core then looks everywhere.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::ticket::MEAN;
use super::{Context, Draw, Picker, Rung, Shared};
use crate::observe::{By, Cost, Lane, Model, Out, Pod, SizeClass, average};
use crate::sync::Queue;
use crate::time::Time;

/// Changes the core has not seen yet; more than this and it looks at every lane instead.
const CHANGES: usize = 4096;
/// While pods refuse and gossip is short of budget, news of a pick is held back this many times as long as a refusal takes:
/// what a pod turns down at once is then never told. Each refused request costs two datagrams to everybody otherwise: at
/// the default budget, 50 nodes and a load of 0.9, offering refused requests elsewhere made news three to six times as old
/// and requests wait twice as long.
const HOLD: u32 = 2;
/// And no longer than this: a slow pod's refusal must not make everybody's news old.
const HOLD_AT_MOST: Duration = Duration::from_millis(5);
/// Pods refuse if one did so lately.
const LATELY: Duration = Duration::from_secs(10);
/// Remainders waiting for the core; over this they are not charged, and counted.
const REMAINDERS: usize = 4096;
/// Words of pods about what waits there that the core has not seen yet; over this they are dropped, and asked for again.
const WAITING: usize = 1024;

/// Told when the core has something to look at; the driver's way to be woken. Called from the picking thread.
pub trait Wake: Send + Sync {
    /// There are changes. May be called more often than needed.
    fn wake(&self);
}

/// See the module's description.
pub(crate) struct Hub {
    /// Whether the policy wants what is known played through.
    pub(crate) plays: bool,
    pub(super) out: Arc<Out>,
    /// What every pick writes.
    busy: CachePadded<Busy>,
    pub(crate) changes: Queue<(Arc<Pod>, Arc<Lane>)>,
    pub(crate) remainders: Queue<Remainder>,
    pub(crate) waiting: Queue<Waiting>,
    /// Picks that nobody is told of before their time, by that.
    pub(crate) held: Queue<(Time, Arc<Pod>, Arc<Lane>, SizeClass)>,
    wake: Box<dyn Wake>,
    pub(crate) published: Published,
    /// Running mean sojourn in ms as `f32` bits by size class; 0 where none ended yet.
    pub(crate) sojourn_ms: [AtomicU32; SizeClass::COUNT],
    /// When a pod refused a request last, in nanoseconds of [`Time`], and how long refusals take, ns: a running mean.
    refused_at: AtomicU64,
    refusal_ns: AtomicU64,
    /// Changes that did not fit the queue: the core must look at every lane.
    pub(crate) missed_changes: AtomicU64,
    /// Remainders that were not charged because too many wait.
    pub(crate) missed_remainders: AtomicU64,
    /// For what is rare: a mark that an answer refutes (and a mutant).
    pub(super) picker: Weak<Shared>,
}

/// What every pick writes, on one cache line: threads that pick at the same time hand it to each other once, not thrice.
#[derive(Debug, Default)]
struct Busy {
    /// Picks so far: their numbers.
    picks: AtomicU64,
    /// When somebody picked last: what a ticket that is dropped instead of finished goes by.
    last_seen: AtomicU64,
    /// Running mean cost, ms, as `f32` bits.
    mean_cost_ms: AtomicU32,
}

/// What the core publishes for picks.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Unseen work of the others, ms, as `f32` bits.
    pub(crate) unseen_ms: AtomicU32,
    /// The others' share of all work, as `f32` bits.
    pub(crate) others: AtomicU32,
    pub(crate) rung: AtomicU8,
    /// Changes that cost less than this many µs need not wake the core: it looks soon anyway. A wake costs the picking
    /// thread a system call, ten times the pick.
    pub(crate) quiet_below_us: AtomicU64,
    /// Whether gossip has to choose what it tells.
    pub(crate) scarce: AtomicBool,
    /// From so many failures in a row on the core is told; 0: never.
    pub(crate) in_a_row: AtomicU32,
    /// Whether there is such a row, or somebody asked to be left alone.
    pub(crate) sick: AtomicBool,
}

/// What a cancelled request still costs its pod.
#[derive(Debug)]
pub(crate) struct Remainder {
    pub(crate) by: By,
    pub(crate) pod: Arc<Pod>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) class: SizeClass,
    pub(crate) cost: Cost,
    pub(crate) ends: Time,
    /// When it was cancelled; none where the pod failed it, and may say of itself what it likes.
    pub(crate) cancelled: Option<Time>,
}

/// What a pod said of the requests for a model that wait there.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) pod: Arc<Pod>,
    pub(crate) lane: Arc<Lane>,
    /// When it was asked, and when it had answered.
    pub(crate) asked: Time,
    pub(crate) answered: Time,
    /// No more requests than this can have been there, waiting or running.
    pub(crate) most: u32,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    pub(super) fn new(plays: bool, wake: Box<dyn Wake>, picker: Weak<Shared>) -> Hub {
        Hub {
            plays,
            out: Arc::default(),
            busy: CachePadded::default(),
            changes: Queue::new(CHANGES),
            remainders: Queue::new(REMAINDERS),
            waiting: Queue::new(WAITING),
            held: Queue::new(CHANGES),
            wake,
            published: Published::default(),
            sojourn_ms: std::array::from_fn(|_| AtomicU32::default()),
            refused_at: AtomicU64::default(),
            refusal_ns: AtomicU64::default(),
            missed_changes: AtomicU64::default(),
            missed_remainders: AtomicU64::default(),
            picker,
        }
    }

    /// The number of a pick: what chance and tickets go by.
    pub(super) fn next_number(&self) -> u64 {
        self.busy.picks.fetch_add(1, Relaxed)
    }

    /// Somebody picks at `now`.
    pub(super) fn saw(&self, now: Time) {
        self.busy.last_seen.store(now.as_nanos(), Relaxed);
    }

    pub(super) fn last_seen(&self) -> Time {
        Time::from_nanos(self.busy.last_seen.load(Relaxed))
    }

    /// A request of that cost was picked for.
    pub(super) fn saw_cost(&self, cost_ms: f32) {
        average(&self.busy.mean_cost_ms, cost_ms, MEAN);
    }

    pub(super) fn mean_cost_ms(&self) -> f32 {
        f32::from_bits(self.busy.mean_cost_ms.load(Relaxed))
    }

    pub(super) fn rung(&self) -> Rung {
        Rung::from_u8(self.published.rung.load(Relaxed))
    }

    /// What a policy is told beside the candidates.
    pub(super) fn context(&self, model: &Model, cost: Cost, draw: Draw) -> Context {
        let (cost_ms, mean_ms) = (cost.as_ms() as f32, self.mean_cost_ms());
        Context {
            heavy: cost_ms > mean_ms,
            alike: if cost_ms.min(mean_ms) > 0.0 { cost_ms.min(mean_ms) / cost_ms.max(mean_ms) } else { 0.0 },
            unseen_ms: f32::from_bits(self.published.unseen_ms.load(Relaxed)),
            others: f32::from_bits(self.published.others.load(Relaxed)),
            rung: self.rung(),
            batches: model.batches.law(),
            ..Context::alone(cost_ms, draw)
        }
    }

    /// Tells the core of a pick, at once or in a while; says until when that is held back.
    pub(super) fn charged(
        &self,
        now: Time,
        pod: &Arc<Pod>,
        lane: &Arc<Lane>,
        cost: Cost,
        class: SizeClass,
    ) -> Option<Time> {
        let held = self.hold(now).and_then(|hold| {
            let first = self.held.is_empty();
            self.held.push((now + hold, pod.clone(), lane.clone(), class)).ok()?;
            if first {
                self.wake.wake();
            }
            Some(now + hold)
        });
        if held.is_none() {
            self.changed(now, pod, lane, cost, class);
        }
        held
    }

    /// How long news of a pick is held back, if it is.
    fn hold(&self, now: Time) -> Option<Duration> {
        let refused_at = self.refused_at.load(Relaxed);
        let holds = refused_at > 0 && self.published.scarce.load(Relaxed);
        let lately = holds && now.since(Time::from_nanos(refused_at)) < LATELY;
        lately.then(|| (Duration::from_nanos(self.refusal_ns.load(Relaxed)) * HOLD).min(HOLD_AT_MOST))
    }

    /// A pod refused a request after `took`.
    pub(super) fn refused(&self, now: Time, took: Duration) {
        let took = u64::try_from(took.min(HOLD_AT_MOST).as_nanos()).unwrap_or(u64::MAX);
        let old = self.refusal_ns.load(Relaxed);
        // Two at once may lose one: it is a mean.
        self.refusal_ns.store(if old == 0 { took } else { (7 * old + took) / 8 }, Relaxed);
        self.refused_at.fetch_max(now.as_nanos().max(1), Relaxed);
    }

    /// See [`Picker::shows`].
    pub(super) fn shows(&self, now: Time, pod: &Pod, model: &Model) {
        if let Some(shared) = self.picker.upgrade() {
            Picker { shared }.shows(now, pod, model.name());
        }
    }

    /// A request of `lane` failed.
    pub(super) fn failed(&self, lane: &Lane) {
        let (streak, most) = (lane.ends.fail(), self.published.in_a_row.load(Relaxed));
        if most > 0 && streak >= most {
            self.looks_sick(lane);
        }
    }

    /// Has the core look whether `lane` is to be left alone, at once unless it did just now.
    pub(super) fn looks_sick(&self, lane: &Lane) {
        if lane.ends.tell() {
            self.published.sick.store(true, SeqCst);
            self.wake.wake();
        }
    }

    /// What was held back until `until` is news now: of the moment of the pick.
    pub(crate) fn release(&self, until: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, class: SizeClass) {
        self.queue(until - self.hold(until).unwrap_or_default(), pod, lane, class);
    }

    /// Has the core look at `lane` for a change of `class` at `at`; whether it was to look there already.
    fn queue(&self, at: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, class: SizeClass) -> bool {
        let known = lane.mark(at, class);
        if !known && self.changes.push((pod.clone(), lane.clone())).is_err() {
            lane.unmark();
            self.missed_changes.fetch_add(1, Relaxed);
        }
        known
    }

    /// Tells the core that `lane` changed by `cost`, of `class`, at `now`, once until it looked; wakes it if it would not
    /// look soon.
    pub(super) fn changed(&self, now: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, cost: Cost, class: SizeClass) {
        let known = self.queue(now, pod, lane, class);
        let quiet_below = self.published.quiet_below_us.load(SeqCst);
        // What is known already woke the core, unless it was too small to.
        if cost.as_us() >= quiet_below && (!known || quiet_below > 0) {
            self.wake.wake();
        }
    }
}
