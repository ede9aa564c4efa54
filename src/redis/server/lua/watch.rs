//! What the rest of the server knows of a script that runs, without the engine's lock, which the script holds: since when,
//! whether it has written, and the wish to end it. It owns the clock that scripts are measured by.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// It has called a command that writes: it cannot be killed any more.
const WROTE: u8 = 1;
/// Somebody asked for its end.
const KILLED: u8 = 1 << 1;
/// It has been told that it must end: by whom or by what stands in the other bits.
const OVER: u8 = 1 << 2;
/// It has been said that it takes long.
const LONG: u8 = 1 << 3;

/// What a script that takes so long keeps a thread from is seen to, ms.
const LONG_MS: u64 = 5;

/// One engine's running script, if any.
#[derive(Debug)]
pub(crate) struct Watch {
    base: Instant,
    /// Milliseconds from `base` to its start, plus one; 0 while none runs.
    started_ms: AtomicU64,
    slow_ms: AtomicU64,
    most_ms: AtomicU64,
    /// In one word, so that a script that begins to write and somebody who kills it cannot miss each other.
    bits: AtomicU8,
    /// Told once of each script that takes long, on its thread.
    when_long: OnceLock<fn()>,
}

/// Why SCRIPT KILL did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkilled {
    NoneRuns,
    HasWritten,
}

/// Why a script was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    TooLong,
}

impl Watch {
    pub(crate) fn new() -> Watch {
        Watch {
            base: now(),
            started_ms: AtomicU64::new(0),
            slow_ms: AtomicU64::new(0),
            most_ms: AtomicU64::new(0),
            bits: AtomicU8::new(0),
            when_long: OnceLock::new(),
        }
    }

    /// A script starts. It is called slow after `slow_ms` (never, where 0), as Redis has it, and ended after `most`.
    pub(super) fn start(&self, slow_ms: u64, most: Duration) {
        self.bits.store(0, SeqCst);
        self.slow_ms.store(if slow_ms == 0 { u64::MAX } else { slow_ms }, Relaxed);
        self.most_ms.store(u64::try_from(most.as_millis()).unwrap_or(u64::MAX), Relaxed);
        self.started_ms.store(self.now_ms() + 1, SeqCst);
    }

    /// It ended.
    pub(super) fn stop(&self) {
        self.started_ms.store(0, SeqCst);
    }

    /// `tell` is called, on the thread that a script runs on, when it takes long.
    pub(crate) fn when_long(&self, tell: fn()) {
        self.when_long.get_or_init(|| tell);
    }

    /// Whether a script runs for so long that others are to be answered BUSY.
    pub(crate) fn is_slow(&self) -> bool {
        self.ran_ms().is_some_and(|ran| ran >= self.slow_ms.load(Relaxed))
    }

    /// SCRIPT KILL.
    pub(crate) fn kill(&self) -> Result<(), Unkilled> {
        if self.ran_ms().is_none() {
            return Err(Unkilled::NoneRuns);
        }
        let killed = self.bits.fetch_update(SeqCst, SeqCst, |bits| (bits & WROTE == 0).then_some(bits | KILLED));
        killed.map(drop).map_err(|_| Unkilled::HasWritten)
    }

    /// It is about to write; from then on it is not killed. False where it was killed before.
    pub(super) fn writes(&self) -> bool {
        self.bits.fetch_or(WROTE, SeqCst) & (WROTE | KILLED) != KILLED
    }

    pub(super) fn has_written(&self) -> bool {
        self.bits.load(Relaxed) & WROTE != 0
    }

    /// Asked from time to time while it runs: whether it must end, and why.
    pub(super) fn must_end(&self) -> Option<End> {
        let bits = self.bits.load(SeqCst);
        if bits & KILLED != 0 {
            self.bits.fetch_or(OVER, SeqCst);
            return Some(End::Killed);
        }
        let ran_ms = self.ran_ms().unwrap_or(0);
        if ran_ms >= LONG_MS && bits & LONG == 0 {
            self.bits.fetch_or(LONG, SeqCst);
            self.when_long.get().inspect(|tell| tell());
        }
        if bits & OVER != 0 || ran_ms >= self.most_ms.load(Relaxed) {
            self.bits.fetch_or(OVER, SeqCst);
            return Some(End::TooLong);
        }
        None
    }

    /// Whether it has been told to end, and why.
    pub(super) fn end(&self) -> Option<End> {
        let bits = self.bits.load(SeqCst);
        match (bits & OVER != 0, bits & KILLED != 0) {
            (false, _) => None,
            (true, true) => Some(End::Killed),
            (true, false) => Some(End::TooLong),
        }
    }

    fn ran_ms(&self) -> Option<u64> {
        let started = self.started_ms.load(SeqCst).checked_sub(1)?;
        Some(self.now_ms().saturating_sub(started))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from((now() - self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a script runs is no part of the data: time stands still for it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A script that has written must not be ended half-way; one that has not may. Somebody who kills it just when it
    /// begins to write would have the server hold half of what the script does. This would catch a lost race: whoever
    /// comes first wins, and the other one is told.
    #[test]
    fn who_kills_and_who_writes_agree_on_who_was_first() {
        let watch = Watch::new();
        assert_eq!(watch.kill(), Err(Unkilled::NoneRuns));

        watch.start(5000, Duration::from_secs(30));
        assert!(watch.writes());
        assert_eq!(watch.kill(), Err(Unkilled::HasWritten));
        assert!(watch.writes(), "it may go on");
        assert_eq!(watch.must_end(), None);

        watch.start(5000, Duration::from_secs(30));
        assert_eq!(watch.kill(), Ok(()));
        assert!(!watch.writes(), "it may not begin to");
        assert_eq!((watch.must_end(), watch.end()), (Some(End::Killed), Some(End::Killed)));

        watch.start(5000, Duration::ZERO);
        assert_eq!(watch.must_end(), Some(End::TooLong));
        watch.stop();
        assert_eq!(watch.kill(), Err(Unkilled::NoneRuns));
    }
}
