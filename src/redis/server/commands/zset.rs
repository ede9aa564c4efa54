//! Sorted sets.

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use indexset::BTreeSet;

use crate::command::Command;
use crate::value::Shared;

pub(crate) const COMMANDS: &[Command] = &[];

/// Members with scores, found by name in constant time, and by score or rank in logarithmic.
#[derive(Clone, Debug, Default)]
pub(crate) struct SortedSet {
    scores: IndexMap<Shared, f64, DefaultHashBuilder>,
    order: BTreeSet<(Score, Shared)>,
    /// Whether it outgrew what Redis keeps in a listpack. Never goes back.
    pub(crate) is_large: bool,
}

/// A score: never NaN, and -0 is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score(f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Score) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl SortedSet {
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }
}
