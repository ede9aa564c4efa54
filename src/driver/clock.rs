//! The clock: the one place that reads it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::time::Time;

static START: LazyLock<Instant> = LazyLock::new(instant);

/// The time of this process: nanoseconds since its clock was first read.
pub fn now() -> Time {
    let since = instant().saturating_duration_since(*START);
    Time::ZERO + since
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
fn instant() -> Instant {
    Instant::now()
}

/// Seconds since 1970 by the wall clock: a hint for the order of starts, and nothing else.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970 by the wall clock: for logs, and nothing else.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the wall clock orders starts of a node and dates its log lines")]
fn since_1970() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
