//! Time as the core knows it: nanoseconds since an arbitrary start, monotonic on one node.
//!
//! There is no `now()` here. Whoever drives the core (the driver with a real clock, the simulator with a virtual one)
//! passes the time in, so a run can be repeated to the byte. Two nodes' times are never compared.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in one node's monotonic time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(0);

    /// The point `nanos` after the start.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same in milliseconds, for what picks compute of every pod.
    pub(crate) const fn ms_since(self, earlier: Time) -> f32 {
        // Signed, because processors convert that in one step.
        self.0.saturating_sub(earlier.0).cast_signed() as f32 * 1e-6
    }
}

/// `d` in nanoseconds; the most there are where it is longer.
const fn nanos(d: Duration) -> u64 {
    d.as_secs().saturating_mul(1_000_000_000).saturating_add(d.subsec_nanos() as u64)
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a node that runs for 584 years has other problems.
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(nanos(d)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::ZERO`].
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(d)))
    }
}
