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
