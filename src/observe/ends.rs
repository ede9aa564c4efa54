//! How requests of one model ended on one pod: what tells a pod that fails from one that works.
//!
//! What was served is not counted, because every request would pay for that: it is what was picked and is there no more, but
//! for what is counted here.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// See the module's description. All counts are modulo 2^32.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Requests that the pod failed.
    failed: AtomicU32,
    /// Ends that say nothing of the pod: refused before anything ran, cancelled, or no work.
    neutral: AtomicU32,
}

impl Ends {
    /// The pod failed one.
    pub(crate) fn fail(&self) {
        self.failed.fetch_add(1, Relaxed);
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
}
