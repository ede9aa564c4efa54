//! How long a request would wait at the parts of a pod, as atomics: written by whoever played a change through, read by
//! every pick.
//!
//! What is written are instants, floors and what stands behind them, so that a height is current whenever it is read: it
//! is computed anew when something happens at the pod, not when somebody picks. The lowest part, all that there is where
//! a pod has one slot or batches, stands on one cache line.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::schedule::{Open, STEPS, Step, Summary};
use crate::sync::{AtomicU32, AtomicU64};
use crate::time::Time;

/// A part of a pod as a pick sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// How long a new request waits before it begins, or before the batch begins that it joins, ms.
    pub wait_ms: f32,
    /// Slots that are alike.
    pub slots: f32,
    /// The batch that it joins, where the pod batches.
    pub open: Option<Open>,
}

impl Part {
    /// The same, that much higher.
    #[inline]
    pub(crate) fn raised(self, by_ms: f32) -> Part {
        Part { wait_ms: self.wait_ms + by_ms, ..self }
    }
}

/// A schedule's summary. A reader may meet it half written: then it sees two neighbouring states of one pod mixed, each of
/// which was true within the microsecond.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Heights {
    len: AtomicU32,
    /// Work of all that is listed, µs, as `f32` bits.
    listed_us: AtomicU32,
    /// Requests in the open batch (negative where there are no batches), and how long, as two `f32`.
    open: AtomicU64,
    steps: [HeightOf; STEPS],
}

/// One part's.
#[derive(Debug)]
#[repr(C)]
struct HeightOf {
    free_at: AtomicU64,
    /// The least wait, and what stands behind it, as two `f32`.
    waits: AtomicU64,
    slots: AtomicU32,
}

impl Default for Heights {
    fn default() -> Heights {
        let step = || HeightOf { free_at: AtomicU64::new(0), waits: AtomicU64::new(0), slots: AtomicU32::new(0) };
        Heights {
            len: AtomicU32::new(0),
            listed_us: AtomicU32::new(0),
            open: AtomicU64::new(pair(-1.0, 0.0)),
            steps: std::array::from_fn(|_| step()),
        }
    }
}

impl Heights {
    pub(super) fn publish(&self, summary: &Summary) {
        for (step, published) in summary.steps.iter().zip(&self.steps) {
            published.free_at.store(step.free_at.as_nanos(), Relaxed);
            published.waits.store(pair(step.at_least_ms, step.then_ms), Relaxed);
            published.slots.store(step.slots.to_bits(), Relaxed);
        }
        let open = summary.open.unwrap_or(Open { requests: -1.0, ms: 0.0 });
        self.open.store(pair(open.requests, open.ms), Relaxed);
        self.listed_us.store((summary.listed_ms * 1e3).to_bits(), Relaxed);
        self.len.store(summary.steps.len() as u32, Release);
    }

    /// Work of all that is listed, µs.
    #[inline]
    pub(crate) fn listed_us(&self) -> f32 {
        f32::from_bits(self.listed_us.load(Relaxed))
    }

    /// How many parts there are; none where nothing was ever listed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        (self.len.load(Acquire) as usize).min(STEPS)
    }

    /// What a new request would meet at the `k`-th part at `now`; the first is the lowest.
    #[inline]
    pub(crate) fn part(&self, k: usize, now: Time) -> Part {
        let (requests, ms) = unpair(self.open.load(Relaxed));
        let open = (requests >= 0.0).then_some(Open { requests, ms });
        let step = &self.steps[k];
        let (at_least_ms, then_ms) = unpair(step.waits.load(Relaxed));
        let free_at = Time::from_nanos(step.free_at.load(Relaxed));
        let slots = f32::from_bits(step.slots.load(Relaxed));
        Part { wait_ms: Step { free_at, at_least_ms, then_ms, slots }.wait_ms(now), slots, open }
    }
}

fn pair(a: f32, b: f32) -> u64 {
    u64::from(a.to_bits()) << 32 | u64::from(b.to_bits())
}

fn unpair(bits: u64) -> (f32, f32) {
    (f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32))
}
