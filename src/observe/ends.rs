//! How requests of one model ended on one pod: what tells a pod that fails from one that works.
//!
//! What was served is not counted, because every request would pay for that: it is what was picked and is there no more, but
//! for what is counted here. Calls without work count as nothing: a model's metadata may be served while all else fails.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::time::Time;

/// See the module's description. All counts are modulo 2^32.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Requests that the pod failed.
    failed: AtomicU32,
    /// Ends that say nothing of the pod: refused before anything ran, cancelled, or no work.
    neutral: AtomicU32,
    /// Failures since one was served.
    streak: AtomicU32,
    /// Whether the core was told of the streak since it looked.
    told: AtomicBool,
    /// Whether it is tried with one request at a time, until one is answered.
    on_trial: AtomicBool,
    /// It asked to be left alone until then, in nanoseconds of [`Time`].
    held_until: AtomicU64,
}

impl Ends {
    /// The pod failed one; how many that makes in a row.
    pub(crate) fn fail(&self) -> u32 {
        self.failed.fetch_add(1, Relaxed);
        self.streak.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// The pod served one.
    #[inline]
    pub(crate) fn serve(&self) {
        // Mostly there is nothing to be changed, and then nothing is written.
        if self.streak.load(Relaxed) > 0 {
            self.streak.store(0, Relaxed);
        }
    }

    /// One ended and says nothing of the pod.
    pub(crate) fn pass(&self) {
        self.neutral.fetch_add(1, Relaxed);
    }

    /// Failed so far.
    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Relaxed)
    }

    /// Served so far, of `all` that ended.
    pub(crate) fn served(&self, all: u32) -> u32 {
        all.wrapping_sub(self.failed()).wrapping_sub(self.neutral.load(Relaxed))
    }

    /// Failures since one was served.
    pub(crate) fn streak(&self) -> u32 {
        self.streak.load(Relaxed)
    }

    /// It failed so many in a row, from now on.
    pub(crate) fn count_from(&self, streak: u32) {
        self.streak.store(streak, Relaxed);
    }

    /// Whether the core is to be told of the streak: once until it looks.
    pub(crate) fn tell(&self) -> bool {
        !self.told.swap(true, Relaxed)
    }

    /// The core looks.
    pub(crate) fn look(&self) {
        if self.told.load(Relaxed) {
            self.told.store(false, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn is_on_trial(&self) -> bool {
        self.on_trial.load(Relaxed)
    }

    /// From now on it is tried; whether it was not before.
    pub(super) fn begin_trial(&self) -> bool {
        !self.on_trial.swap(true, Relaxed)
    }

    /// It is tried no more; whether it was.
    pub(super) fn end_trial(&self) -> bool {
        self.on_trial.swap(false, Relaxed)
    }

    /// It asks to be left alone until then.
    pub(crate) fn hold_until(&self, until: Time) {
        self.held_until.fetch_max(until.as_nanos(), Relaxed);
    }

    /// Until when it asked to be left alone.
    pub(crate) fn held_until(&self) -> Time {
        Time::from_nanos(self.held_until.load(Relaxed))
    }
}
