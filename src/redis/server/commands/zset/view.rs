//! What a reading command sees of a sorted set: one that is stored here, or the live one as it is at this moment.

use std::cmp::Ordering;
use std::ops::Range;

use super::set::SortedSet;
use crate::live::LiveSet;

/// A sorted set to read.
pub(crate) enum View<'a> {
    Stored(&'a SortedSet),
    /// Lowest first.
    Live(Vec<(Vec<u8>, f64)>),
}

/// Members with their scores.
pub(super) type Pairs<'a> = Box<dyn DoubleEndedIterator<Item = (&'a [u8], f64)> + 'a>;

/// One end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lone {
    Lowest,
    Highest,
}

/// The order of a sorted set.
pub(super) fn order(one: (&[u8], f64), other: (&[u8], f64)) -> Ordering {
    one.1.partial_cmp(&other.1).unwrap_or(Ordering::Equal).then_with(|| one.0.cmp(other.0))
}

impl<'a> View<'a> {
    /// The live set as it is now; only the one at `lone` of it, where that is given. None where it is empty.
    pub(crate) fn live(live: &mut dyn LiveSet, lone: Option<Lone>) -> Option<Self> {
        let pairs = match lone {
            None => {
                let mut pairs = live.members();
                pairs.sort_unstable_by(|one, other| order((&one.0, one.1), (&other.0, other.1)));
                pairs
            }
            Some(lone) => {
                let mut found: Option<(Vec<u8>, f64)> = None;
                live.visit(&mut |member, score| match &mut found {
                    None => found = Some((member.to_vec(), score)),
                    Some(best) => {
                        let is_lower = order((member, score), (&best.0, best.1)).is_lt();
                        if is_lower == (lone == Lone::Lowest) {
                            best.0.clear();
                            best.0.extend_from_slice(member);
                            best.1 = score;
                        }
                    }
                });
                found.into_iter().collect()
            }
        };
        (!pairs.is_empty()).then_some(View::Live(pairs))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            View::Stored(set) => set.len(),
            View::Live(pairs) => pairs.len(),
        }
    }

    pub(crate) fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            View::Stored(set) => set.score(member),
            View::Live(pairs) => pairs.iter().find(|(other, _)| other == member).map(|(_, score)| *score),
        }
    }

    pub(crate) fn rank(&self, member: &[u8]) -> Option<usize> {
        match self {
            View::Stored(set) => set.rank(member),
            View::Live(pairs) => pairs.iter().position(|(other, _)| other == member),
        }
    }

    /// The same for good: what was made for this view is not copied again.
    pub(crate) fn into_ranks(self, ranks: Range<usize>) -> Box<dyn DoubleEndedIterator<Item = (Vec<u8>, f64)> + 'a> {
        match self {
            View::Stored(set) => Box::new(set.ranks(ranks).map(|(member, score)| (member.to_vec(), score))),
            View::Live(mut pairs) => {
                pairs.truncate(ranks.end);
                Box::new(pairs.into_iter().skip(ranks.start))
            }
        }
    }

    /// Those who stand at `ranks`, lowest first.
    pub(crate) fn ranks(&self, ranks: Range<usize>) -> Pairs<'_> {
        match self {
            View::Stored(set) => Box::new(set.ranks(ranks).map(|(member, score)| (&**member, score))),
            View::Live(pairs) => Box::new(pairs[ranks].iter().map(|(member, score)| (&**member, *score))),
        }
    }

    /// The one at `index`, which is its rank or not: see [`SortedSet::nth`].
    pub(crate) fn nth(&self, index: usize) -> Option<(&[u8], f64)> {
        match self {
            View::Stored(set) => set.nth(index).map(|(member, score)| (&**member, score)),
            View::Live(pairs) => pairs.get(index).map(|(member, score)| (&**member, *score)),
        }
    }

    /// How many have a score below `score`, those that have it among them where `is_after`.
    pub(crate) fn split_at_score(&self, score: f64, is_after: bool) -> usize {
        match self {
            View::Stored(_) if is_after && score == f64::INFINITY => self.len(),
            View::Stored(set) => set.below(if is_after { score.next_up() } else { score }),
            View::Live(pairs) => pairs.partition_point(|(_, other)| *other < score || is_after && *other == score),
        }
    }

    /// How many stand before the first whose member is not `before`: for sets whose scores are all the same.
    pub(crate) fn split_by(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle).is_some_and(&before) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn at(&self, rank: usize) -> Option<&[u8]> {
        match self {
            View::Stored(set) => set.at(rank).map(|(member, _)| &**member),
            View::Live(pairs) => pairs.get(rank).map(|(member, _)| &**member),
        }
    }
}
