//! The structure of a sorted set: an index by name and a tree by (score, member), which share the members' bytes.
//!
//! Everything that sorted sets are asked comes down to three questions: what score has this member (the index, constant
//! time), at which rank does this score begin, and who stands at this rank (the tree, both logarithmic, because each of its
//! few wide nodes is counted). A range, by whatever it was asked for, is then a range of ranks.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use indexset::BTreeSet;

use crate::settings::Settings;
use crate::value::Shared;

/// Members of one node of the tree while the set is small. The tree asks for a node's memory at once: with its own default of
/// 1024 each set of one member would take 24 KiB.
const SMALL_NODE: usize = 16;
/// The same for a large set. Twice as many move twice the bytes with each insertion, half as many split twice as often.
const LARGE_NODE: usize = 512;

/// What a member takes beside its bytes: an entry and a slot of the index (44), a place in the tree (24, nodes three
/// quarters full), and the counts and allocation of the shared bytes (32).
const PER_MEMBER: usize = 112;
/// What an empty set takes.
const PER_SET: usize = 512;

/// Members with scores, found by name in constant time, and by score or rank in logarithmic.
#[derive(Clone, Debug)]
pub(crate) struct SortedSet {
    scores: IndexMap<Shared, f64, DefaultHashBuilder>,
    order: BTreeSet<(Score, Shared)>,
    /// Whether it outgrew what Redis keeps in a listpack. Never goes back.
    pub(crate) is_large: bool,
    /// Of all members together.
    member_bytes: usize,
}

/// A score as the tree compares it: never NaN, and -0 stands where 0 does.
#[derive(Clone, Copy, Debug)]
struct Score(f64);

impl Ord for Score {
    fn cmp(&self, other: &Score) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Score) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

/// Up to what Redis keeps a sorted set in a listpack.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    entries: usize,
    member: usize,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Limits {
        Limits { entries: settings.zset_max_listpack_entries, member: settings.zset_max_listpack_value }
    }
}

impl Default for SortedSet {
    fn default() -> SortedSet {
        SortedSet {
            scores: IndexMap::default(),
            order: BTreeSet::with_maximum_node_size(SMALL_NODE),
            is_large: false,
            member_bytes: 0,
        }
    }
}

impl SortedSet {
    /// A set of `pairs`, each member once.
    pub(crate) fn of(pairs: impl ExactSizeIterator<Item = (Shared, f64)> + Clone, limits: Limits) -> SortedSet {
        let longest = pairs.clone().map(|(member, _)| member.len()).max().unwrap_or_default();
        let mut set = SortedSet::outline(pairs.len(), longest, limits);
        if set.is_large {
            set.rebuild();
        }
        for (member, score) in pairs {
            set.add(member, score);
        }
        set
    }

    /// What is seen from outside of a set of `len` members, the longest of which has `longest` bytes: an empty one.
    pub(crate) fn outline(len: usize, longest: usize, limits: Limits) -> SortedSet {
        SortedSet { is_large: len > limits.entries || longest > limits.member, ..SortedSet::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// What it takes, bytes, as far as is counted. Constant time.
    pub(crate) fn bytes(&self) -> usize {
        PER_SET + self.member_bytes + self.len() * PER_MEMBER
    }

    pub(crate) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// Gives `member` this score, which is not NaN; the one that it had before.
    pub(crate) fn insert(&mut self, member: &[u8], score: f64, limits: Limits) -> Option<f64> {
        if let Some((index, shared, old)) = self.scores.get_full(member) {
            let (shared, old) = (shared.clone(), *old);
            if old != score {
                let score = self.kept(score);
                self.order.remove(&(Score(old), shared.clone()));
                self.order.insert((Score(score), shared));
                self.scores[index] = score;
            }
            return Some(old);
        }
        if !self.is_large && (self.len() >= limits.entries || member.len() > limits.member) {
            self.enlarge();
        }
        self.add(member.into(), score);
        None
    }

    fn add(&mut self, member: Shared, score: f64) {
        let score = self.kept(score);
        self.member_bytes += member.len();
        self.scores.insert(member.clone(), score);
        self.order.insert((Score(score), member));
    }

    /// A listpack keeps whole numbers as such, so that a small set of Redis forgets the sign of -0 and a large one does not.
    fn kept(&self, score: f64) -> f64 {
        if self.is_large { score } else { score + 0.0 }
    }

    fn enlarge(&mut self) {
        self.is_large = true;
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let node = if self.is_large { LARGE_NODE } else { SMALL_NODE };
        let old = std::mem::replace(&mut self.order, BTreeSet::with_maximum_node_size(node));
        for item in old {
            self.order.insert(item);
        }
    }

    /// A set that was large once does not hold its room for ever; nor does the tree, whose nodes are never joined.
    fn shrink(&mut self) {
        if self.scores.capacity() > 64 && self.len() < self.scores.capacity() / 4 {
            self.scores.shrink_to(self.len() * 2);
            self.rebuild();
        }
    }

    /// Takes `member` out; its score.
    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let (shared, score) = self.scores.swap_remove_entry(member)?;
        self.member_bytes -= shared.len();
        self.order.remove(&(Score(score), shared));
        self.shrink();
        Some(score)
    }

    /// Takes out those at these ranks, which exist.
    pub(crate) fn remove_ranks(&mut self, ranks: Range<usize>) {
        for _ in ranks.clone() {
            let (_, member) = self.order.pop_index(ranks.start);
            self.scores.swap_remove(&member);
            self.member_bytes -= member.len();
        }
        self.shrink();
    }

    /// How many stand before `member`.
    pub(crate) fn rank(&self, member: &[u8]) -> Option<usize> {
        let (shared, score) = self.scores.get_key_value(member)?;
        Some(self.order.rank(&(Score(*score), shared.clone())))
    }

    /// How many have a score below this one.
    pub(crate) fn below(&self, score: f64) -> usize {
        static FIRST: LazyLock<Shared> = LazyLock::new(|| Arc::new([]));
        self.order.rank(&(Score(score), FIRST.clone()))
    }

    /// Who stands at `rank`.
    pub(crate) fn at(&self, rank: usize) -> Option<(&Shared, f64)> {
        self.order.get_index(rank).map(|(score, member)| (member, score.0))
    }

    /// Those who stand at `ranks`, lowest first.
    pub(crate) fn ranks(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = (&Shared, f64)> {
        self.order.range_idx(ranks).map(|(score, member)| (member, score.0))
    }

    /// The one at `index` in no order that means anything: for chance, and for scans, which walk from the end to the start.
    /// Whoever moves to fill a gap comes from the end, and has been seen already.
    pub(crate) fn nth(&self, index: usize) -> Option<(&Shared, f64)> {
        self.scores.get_index(index).map(|(member, score)| (member, *score))
    }
}
