//! Whether a pod owes answers: what tells one that hangs from one that is idle.
//!
//! A process that is stopped keeps its connections, takes new ones, and answers nothing: no error ever says so. What it owes does.
//! A request that its caller cancelled is owed all the same, or callers with short deadlines would never find out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::time::Time;

/// Less is no silence: a pod that is up answers something within a second, or has reason not to.
const LEAST: Duration = Duration::from_secs(1);

/// See the module's description. Times are in nanoseconds of [`Time`]; two threads at once may lose one of what they say, which
/// the next request makes good.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Since when it owes an answer and gave none; 0 where it owes nothing.
    owes_since: AtomicU64,
    heard_at: AtomicU64,
}

impl Silence {
    /// A request was sent.
    #[inline]
    pub(super) fn sent(&self, now: Time) {
        if self.owes_since.load(Relaxed) == 0 {
            self.owes_since.store(now.as_nanos().max(1), Relaxed);
        }
    }

    /// Something came from the pod, which owes more or does not.
    #[inline]
    pub(super) fn heard(&self, now: Time, owes_more: bool) {
        self.heard_at.store(now.as_nanos(), Relaxed);
        self.owes_since.store(if owes_more { now.as_nanos().max(1) } else { 0 }, Relaxed);
    }

    /// When anything was heard of it last.
    pub(super) fn heard_at(&self) -> Time {
        Time::from_nanos(self.heard_at.load(Relaxed))
    }

    /// Whether it has been silent for longer than all that is known to be there takes it.
    pub(super) fn is_overdue(&self, now: Time, all: Duration) -> bool {
        let since = self.owes_since.load(Relaxed);
        since > 0 && now.since(Time::from_nanos(since)) > all.max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A pod that answers is never asked whether it lives, however much waits there; one that answers nothing is, even where each
    /// of its callers gives up before a second is over; an idle one is not.
    #[test]
    fn who_owes_an_answer_and_gives_none_is_overdue() {
        let overdue = |silence: &Silence, ms| silence.is_overdue(at(ms), Duration::ZERO);
        let idle = Silence::default();
        assert!(!overdue(&idle, 1_000_000));

        let busy = Silence::default();
        (0..100).for_each(|k| {
            busy.sent(at(100 * k));
            busy.heard(at(100 * k + 50), true);
            assert!(!overdue(&busy, 100 * k + 1000));
        });
        assert!(overdue(&busy, 100 * 99 + 1051));
        assert!(!busy.is_overdue(at(100 * 99 + 1051), Duration::from_secs(2)), "so much is known to be there");

        let hung = Silence::default();
        (0..4).for_each(|k| hung.sent(at(300 * k)));
        assert!(!overdue(&hung, 900) && overdue(&hung, 1100));
        hung.heard(at(1200), false);
        assert!(!overdue(&hung, 100_000));
    }
}
