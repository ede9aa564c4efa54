//! What a demo shows while it plays: on a terminal one live line for each phase, elsewhere a line every few seconds.
//! All of it goes to standard error, so that standard output holds results only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::play::Live;

/// A log should not scroll: on anything but a terminal one line in this time is enough.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The live line of one phase.
#[derive(Debug)]
pub(super) struct Progress {
    policy: &'static str,
    total: u64,
    bar: ProgressBar,
    plain: bool,
    printed: Instant,
}

impl Progress {
    /// Shows that a phase is about to start.
    pub(super) fn start(policy: &'static str, total: usize) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let total = total as u64;
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style()).with_prefix(policy);
        bar.set_message("starting nodes");
        if plain {
            eprintln!("{policy}: starting nodes");
        }
        Self { policy, total, bar, plain, printed: Instant::now() }
    }

    pub(super) fn show(&mut self, live: &Live) {
        self.bar.set_position(live.done());
        self.bar.set_message(line(live));
        if self.plain && self.printed.elapsed() >= PLAIN_EVERY {
            self.printed = Instant::now();
            eprintln!("{}: {} of {}, {}", self.policy, live.done(), self.total, line(live));
        }
    }

    pub(super) fn finish(&self, live: &Live) {
        self.bar.set_position(live.done());
        self.bar.finish_with_message(line(live));
        if self.plain {
            eprintln!("{}: done, {}", self.policy, line(live));
        }
    }
}

fn line(live: &Live) -> String {
    let errors = live.errors.load(std::sync::atomic::Ordering::Relaxed);
    format!("{:>3} in flight  {errors} errors  mean {:.1} ms", live.in_flight(), live.mean_ms())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:>15} {bar:32.cyan/dim} {pos:>6}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}
