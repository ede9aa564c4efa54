//! The one place of this crate that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time, microseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "expiry is told in unix time, and this is where a command's time is read"
)]
pub(crate) fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(i64::MAX)
}

/// Unix time, milliseconds.
pub(crate) fn unix_ms() -> i64 {
    unix_us() / 1000
}

/// Does nothing for so long, and lets nobody else do anything (DEBUG SLEEP).
#[expect(clippy::disallowed_methods, reason = "to be in everybody's way is what it is for")]
pub(crate) fn hold(time: std::time::Duration) {
    std::thread::sleep(time);
}
