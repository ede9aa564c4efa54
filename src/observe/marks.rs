//! One mark for each model that a node keeps apart: which of them a pod lacks, or fails.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::MAX_MODELS;

const WORDS: usize = MAX_MODELS / 64;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    words: [AtomicU64; WORDS],
}

impl Marks {
    /// Marks the model of that index, or takes the mark away; says whether that changed anything.
    pub(crate) fn set(&self, model: usize, on: bool) -> bool {
        let (word, bit) = (&self.words[model / 64], 1 << (model % 64));
        let before = if on { word.fetch_or(bit, Relaxed) } else { word.fetch_and(!bit, Relaxed) };
        (before & bit != 0) != on
    }

    #[inline]
    pub(crate) fn has(&self, model: usize) -> bool {
        self.words[model / 64].load(Relaxed) & (1 << (model % 64)) != 0
    }

    /// Whether any is marked.
    pub(crate) fn is_any(&self) -> bool {
        self.words.iter().any(|word| word.load(Relaxed) != 0)
    }

    /// The marked ones, by index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = self.words.iter().enumerate().map(|(k, word)| (k, word.load(Relaxed)));
        bits.flat_map(|(k, word)| (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| 64 * k + bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mark that hit its neighbour would take a healthy model out; one that is set twice must go by being taken once.
    #[test]
    fn each_model_has_a_mark_of_its_own() {
        let marks = Marks::default();
        let some = [0, 1, 63, 64, 65, 1000, MAX_MODELS - 1];
        assert!(some.iter().all(|k| marks.set(*k, true)) && !marks.set(64, true) && marks.is_any());
        assert_eq!(marks.iter().collect::<Vec<_>>(), some);
        assert!((0..MAX_MODELS).all(|k| marks.has(k) == some.contains(&k)));
        assert!(some.iter().all(|k| marks.set(*k, false)) && !marks.set(64, false));
        assert!(!marks.is_any() && marks.iter().count() == 0);
    }
}
