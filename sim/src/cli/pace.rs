//! How long things take on this machine, and how far they are: the only place of the simulator that looks at a clock.
//! Nothing that it says reaches a run.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::time::{ClockId, clock_gettime};

/// Between two lines where there is no terminal to draw a bar on.
const EVERY: Duration = Duration::from_secs(5);

/// Wall clock and CPU time since it was made.
pub(crate) struct Pace {
    since: Instant,
    cpu_since: Duration,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Pace {
    /// Starts; `total` steps are to come, where that is known.
    pub(crate) fn start(total: Option<u64>) -> Pace {
        let now = now();
        let bar = stderr().is_terminal().then(|| bar(total));
        Pace { since: now, cpu_since: cpu(), told: now, bar }
    }

    /// Time that went by.
    pub(crate) fn wall(&self) -> Duration {
        now().duration_since(self.since)
    }

    /// CPU time that all threads of this process took.
    pub(crate) fn cpu(&self) -> Duration {
        cpu().saturating_sub(self.cpu_since)
    }

    /// `done` steps are done: moves the bar, or says so every few seconds.
    pub(crate) fn step(&mut self, done: u64, what: &str) {
        let rate = done as f64 / self.wall().as_secs_f64().max(1e-3);
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(format!("{what}, {rate:.1}/s"));
            }
            None if now().duration_since(self.told) >= EVERY => {
                self.told = now();
                eprintln!("{:.0} s: {done} {what}, {rate:.1}/s", self.wall().as_secs_f64());
            }
            None => {}
        }
    }

    /// Prints a line of the result above the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {pos}/{len} {msg} {elapsed}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} {msg} {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("both templates are well formed"))
}

#[expect(clippy::disallowed_methods, reason = "how long a command took is for people, and reaches no run")]
fn now() -> Instant {
    Instant::now()
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// A number that nobody has seen before, to take fresh seeds from: printed, so that the seeds can be had again.
pub(crate) fn fresh_base() -> u64 {
    // The standard library seeds its hashers from the system. Seeds that differ in front read well.
    RandomState::new().build_hasher().finish() % 1_000_000 * 1_000_000
}
