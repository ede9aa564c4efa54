//! Sleeping to the point. A runtime's timer ticks every millisecond, so that a service of 5 ms would last 5 to 6: a
//! fifth more load than the trace says. Whoever keeps time here is an OS thread of its own that waits for an absolute
//! deadline; it never accumulates a delay, because the next deadline does not depend on when the last one was met.

use std::time::{Duration, Instant};

/// Asks the kernel to wake this thread on time: the default slack of 50 µs is 1 % of the shortest service.
/// Where it cannot be asked, waits are a little late and nothing else changes.
pub(super) fn sharpen_timer() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        tracing::debug!(%error, "timer slack stays as it is");
    }
}

/// Blocks this thread until `deadline`, or not at all when that has passed.
pub(super) fn sleep_until(deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        std::thread::sleep(left);
    }
}
