//! Models whose process on one pod is known to be dead.
//!
//! A Triton (2.51) gives the request that killed such a process the same answer as those that come after: only of one that was sent
//! when the process was known to be dead is it certain that nothing ran.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::Time;

/// Models that are remembered: as many as a node keeps apart.
const MOST: usize = 1024;

/// See the module's description.
#[derive(Default)]
pub(in crate::forward) struct Stubs {
    dead: Mutex<BTreeMap<Box<str>, Time>>,
    any: AtomicBool,
}

impl Stubs {
    /// The pod said at `now` that the process of `model` is dead, to a request that was sent at `sent`: whether that was known then.
    pub(in crate::forward) fn was_dead(&self, model: &str, sent: Time, now: Time) -> bool {
        let mut dead = self.lock();
        match dead.get(model) {
            Some(since) => *since < sent,
            None => {
                if dead.len() < MOST {
                    dead.insert(model.into(), now);
                    self.any.store(true, Relaxed);
                }
                false
            }
        }
    }

    /// It served a request for `model`: another process runs it.
    pub(in crate::forward) fn serves(&self, model: &str) {
        // Mostly nothing is known to be dead.
        if self.any.load(Relaxed) {
            let mut dead = self.lock();
            dead.remove(model);
            self.any.store(!dead.is_empty(), Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Time>> {
        // Each change is one insertion or removal.
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn what_was_sent_before_the_death_was_known_may_have_run() {
        let stubs = Stubs::default();
        assert!(!stubs.was_dead("m", at(10), at(20)), "this one may have killed it");
        assert!(!stubs.was_dead("m", at(15), at(25)), "and this one may have run beside it");
        assert!(stubs.was_dead("m", at(30), at(40)));
        assert!(!stubs.was_dead("n", at(30), at(40)), "another model's process");
        stubs.serves("m");
        assert!(!stubs.was_dead("m", at(50), at(60)), "a new process died anew");
    }
}
