//! What the system says of this process, for INFO; zero where it does not say it.

use std::time::Duration;

/// Linux counts a process's time in hundredths of a second, whatever its own clock is.
const TICKS_PER_S: u64 = 100;
const PAGE_BYTES: usize = 4096;

/// Time in user mode and in the kernel.
pub(crate) fn cpu() -> (Duration, Duration) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may have any byte in it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(11).map(|ticks| ticks.parse().unwrap_or(0));
    let mut next = || Duration::from_millis(ticks.next().unwrap_or(0) * 1000 / TICKS_PER_S);
    (next(), next())
}

/// What it holds of the machine's memory.
pub(crate) fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * PAGE_BYTES
}
