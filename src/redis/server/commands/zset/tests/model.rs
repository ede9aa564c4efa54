//! The structure against a sorted vector, and the cost of a rank.

use std::cell::Cell;
use std::cmp::Ordering;

use indexset::BTreeSet;
use proptest::prelude::*;

use super::super::bounds::{By, Span};
use super::super::set::{Limits, SortedSet};
use super::super::view::View;
use crate::settings::Settings;

/// One change or question.
#[derive(Clone, Debug)]
enum Step {
    Insert(u16, i8),
    Remove(u16),
    RemoveRanks(usize, usize),
    Clone,
    Scores(i8, bool, i8, bool),
    Ranks(i64, i64),
}

/// The same as plainly as can be.
#[derive(Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let old = self.remove(member);
        self.0.push((score, member.to_vec()));
        self.0.sort_by(|one, other| one.partial_cmp(other).unwrap());
        old
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let index = self.0.iter().position(|(_, other)| other == member)?;
        Some(self.0.remove(index).0)
    }

    fn members(&self, is_in: impl Fn(usize, f64) -> bool) -> Vec<Vec<u8>> {
        let all = self.0.iter().enumerate();
        all.filter(|(rank, (score, _))| is_in(*rank, *score)).map(|(_, (_, member))| member.clone()).collect()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..900u16, any::<i8>()).prop_map(|(member, score)| Step::Insert(member, score)),
        4 => (0..900u16).prop_map(Step::Remove),
        1 => (0..40usize, 0..200usize).prop_map(|(start, count)| Step::RemoveRanks(start, count)),
        1 => Just(Step::Clone),
        2 => any::<(i8, bool, i8, bool)>().prop_map(|(min, min_open, max, max_open)| Step::Scores(min, min_open, max, max_open)),
        2 => (-20..20i64, -20..20i64).prop_map(|(first, last)| Step::Ranks(first, last)),
    ];
    prop::collection::vec(step, 1..1500)
}

fn name(member: u16) -> Vec<u8> {
    format!("member-{member}").into_bytes()
}

fn found(set: &SortedSet, span: &Span<'_>) -> Vec<Vec<u8>> {
    let view = View::Stored(set);
    let ranks = span.ranks(&view);
    let forwards: Vec<Vec<u8>> = view.ranks(ranks.clone()).map(|(member, _)| member.to_vec()).collect();
    let mut backwards: Vec<Vec<u8>> = view.ranks(ranks).rev().map(|(member, _)| member.to_vec()).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    forwards
}

fn check(set: &SortedSet, model: &Model) {
    let all: Vec<(f64, Vec<u8>)> = set.ranks(0..set.len()).map(|(member, score)| (score, member.to_vec())).collect();
    assert_eq!(all, model.0);
    for (rank, (score, member)) in model.0.iter().enumerate() {
        assert_eq!(set.rank(member), Some(rank));
        assert_eq!(set.score(member), Some(*score));
        assert_eq!(set.at(rank).map(|(member, score)| (score, member.to_vec())), Some((*score, member.clone())));
    }
    assert!(set.at(set.len()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Index and tree are two pictures of one set: whatever is done, in whatever sizes of its nodes, both must agree with
    /// what a sorted vector says.
    #[test]
    fn a_sorted_set_is_a_sorted_vector(steps in steps(), entries in prop_oneof![Just(0usize), Just(128), Just(5000)]) {
        let limits = Limits::from(&Settings { zset_max_listpack_entries: entries, ..Settings::default() });
        let (mut set, mut model) = (SortedSet::default(), Model::default());
        for step in steps {
            match step {
                Step::Insert(member, score) => {
                    let (member, score) = (name(member), f64::from(score));
                    prop_assert_eq!(set.insert(&member, score, limits), model.insert(&member, score));
                }
                Step::Remove(member) => prop_assert_eq!(set.remove(&name(member)), model.remove(&name(member))),
                Step::RemoveRanks(start, count) => {
                    let ranks = start.min(set.len())..(start + count).min(set.len());
                    set.remove_ranks(ranks.clone());
                    model.0.drain(ranks);
                }
                Step::Clone => set = set.clone(),
                Step::Scores(min, min_open, max, max_open) => {
                    let shown = |bound: i8, is_open: bool| format!("{}{bound}", if is_open { "(" } else { "" });
                    let (from, to) = (shown(min, min_open), shown(max, max_open));
                    let span = Span::parse(By::Score, from.as_bytes(), to.as_bytes()).unwrap();
                    let (min, max) = (f64::from(min), f64::from(max));
                    let is_above = |score: f64| if min_open { score > min } else { score >= min };
                    let is_below = |score: f64| if max_open { score < max } else { score <= max };
                    prop_assert_eq!(found(&set, &span), model.members(|_, score| is_above(score) && is_below(score)));
                }
                Step::Ranks(first, last) => {
                    let (from, to) = (first.to_string(), last.to_string());
                    let span = Span::parse(By::Rank, from.as_bytes(), to.as_bytes()).unwrap();
                    let len = model.0.len() as i64;
                    let from_start = |rank: i64| if rank < 0 { rank + len } else { rank };
                    let is_in = |rank: usize, _| (from_start(first)..=from_start(last)).contains(&(rank as i64));
                    prop_assert_eq!(found(&set, &span), model.members(is_in));
                }
            }
        }
        check(&set, &model);
    }

    /// In a set of equal scores, members are found by their names' order.
    #[test]
    fn a_range_of_members_is_what_lies_between_them(
        members in prop::collection::btree_set("[a-d]{0,3}", 0..300),
        (min, max) in ("[-+(\\[][a-d]{0,2}", "[-+(\\[][a-d]{0,2}"),
    ) {
        let limits = Limits::from(&Settings { zset_max_listpack_entries: 20, ..Settings::default() });
        let mut set = SortedSet::default();
        for member in &members {
            set.insert(member.as_bytes(), 1.0, limits);
        }
        let Ok(span) = Span::parse(By::Lex, min.as_bytes(), max.as_bytes()) else {
            prop_assert!(min.len() > 1 && !min.starts_with(['(', '[']) || max.len() > 1 && !max.starts_with(['(', '[']));
            return Ok(());
        };
        let is_above = |member: &str| match min.split_at(1) {
            ("-", _) => true,
            ("+", _) => false,
            ("(", edge) => member > edge,
            (_, edge) => member >= edge,
        };
        let is_below = |member: &str| match max.split_at(1) {
            ("-", _) => false,
            ("+", _) => true,
            ("(", edge) => member < edge,
            (_, edge) => member <= edge,
        };
        let expected: Vec<Vec<u8>> =
            members.iter().filter(|member| is_above(member) && is_below(member)).map(|member| member.clone().into_bytes()).collect();
        prop_assert_eq!(found(&set, &span), expected);
    }
}

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// Counts how often it is compared.
#[derive(Clone, PartialEq, Eq)]
struct Counted(u32);

impl Ord for Counted {
    fn cmp(&self, other: &Counted) -> Ordering {
        COMPARED.set(COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Counted) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// ZRANK is what makes a sorted set more than a tree: were the tree to count its way there, a million pods' log would take
/// a millisecond for each rank. 2^17 members have 17 steps of halving, and one or two more where two levels are halved.
#[test]
fn a_rank_takes_as_many_comparisons_as_the_length_has_bits() {
    let mut tree: BTreeSet<Counted> = BTreeSet::with_maximum_node_size(512);
    let len = 1 << 17;
    // A stride that is coprime to the length visits all, in no order that a tree would like.
    for number in 0..len {
        tree.insert(Counted((number * 7_919) % len));
    }
    for number in (0..len).step_by(977) {
        COMPARED.set(0);
        assert_eq!(tree.rank(&Counted(number)), number as usize);
        assert!(COMPARED.get() <= 20, "{} comparisons", COMPARED.get());
        COMPARED.set(0);
        assert_eq!(tree.get_index(number as usize).map(|item| item.0), Some(number));
        assert_eq!(COMPARED.get(), 0);
    }
}
