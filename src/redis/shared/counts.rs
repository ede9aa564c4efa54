//! How asking the shared Redis goes, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::spread::Spread;
use super::super::state::{Missed, StateView};

/// Counters since the node started, and how long answers took.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) asked: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) unasked: AtomicU64,
    pub(super) registrations: AtomicU64,
    pub(super) reclaimed: AtomicU64,
    pub(super) corrected: AtomicU64,
    pub(super) ask: Spread,
    late: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    unfit: AtomicU64,
}

/// Why a pick that Redis was asked for went by the view: see [`Missed`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    Late,
    Failed,
    Unknown,
    Unfit,
}

impl Counts {
    pub(super) fn missed(&self, why: Why) {
        let count = match why {
            Why::Late => &self.late,
            Why::Failed => &self.failed,
            Why::Unknown => &self.unknown,
            Why::Unfit => &self.unfit,
        };
        count.fetch_add(1, Relaxed);
    }

    /// What they say; the rest is empty.
    pub(super) fn view(&self) -> StateView {
        let of = |count: &AtomicU64| count.load(Relaxed);
        StateView {
            asked: of(&self.asked),
            answered: of(&self.answered),
            unasked: of(&self.unasked),
            missed: Missed {
                late: of(&self.late),
                failed: of(&self.failed),
                unknown: of(&self.unknown),
                unfit: of(&self.unfit),
            },
            registrations: of(&self.registrations),
            reclaimed: of(&self.reclaimed),
            corrected: of(&self.corrected),
            ask_ms: self.ask.quantiles(),
            ..StateView::default()
        }
    }
}
