//! The clock: the one place that reads it.

use std::sync::LazyLock;
use std::time::Instant;

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
    #[expect(clippy::disallowed_methods, reason = "the wall clock orders starts of a node, which nothing else can")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
