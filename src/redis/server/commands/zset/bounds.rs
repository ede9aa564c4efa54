//! What a range is asked for by (rank, score, or member in a set of equal scores), and which ranks it comes to.

use std::ops::Range;

use super::view::{Lone, View};
use crate::args::{self, Refusal, any_float, integer, refusal};

/// A range as the client gave it.
pub(crate) enum Span<'a> {
    /// Counted from the end where negative.
    Ranks(i64, i64),
    Scores(Bound<f64>, Bound<f64>),
    Members(Bound<Edge<'a>>, Bound<Edge<'a>>),
}

/// What a range is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Rank,
    Score,
    Lex,
}

/// One end of a range.
#[derive(Clone, Copy)]
pub(crate) struct Bound<T> {
    at: T,
    /// Whether what is exactly there is left out.
    is_open: bool,
}

/// One end of a range of members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge<'a> {
    First,
    At(&'a [u8]),
    Last,
}

impl<'a> Span<'a> {
    pub(crate) fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Span<'a>, Refusal> {
        match by {
            By::Rank => Ok(Span::Ranks(integer(min)?, integer(max)?)),
            By::Score => match (score_bound(min), score_bound(max)) {
                (Some(min), Some(max)) => Ok(Span::Scores(min, max)),
                _ => Err(refusal("ERR min or max is not a float")),
            },
            By::Lex => match (member_bound(min), member_bound(max)) {
                (Some(min), Some(max)) => Ok(Span::Members(min, max)),
                _ => Err(refusal("ERR min or max not valid string range item")),
            },
        }
    }

    /// The end of the set at which alone is looked, if it is so: the idiom of who wants the least loaded.
    pub(crate) fn lone_end(&self, is_reverse: bool, is_one: bool) -> Option<Lone> {
        let is_end = match *self {
            Span::Ranks(first, last) => first == 0 && last == 0,
            Span::Scores(min, max) => {
                is_one && min.at == f64::NEG_INFINITY && max.at == f64::INFINITY && !min.is_open && !max.is_open
            }
            Span::Members(..) => false,
        };
        is_end.then_some(if is_reverse { Lone::Highest } else { Lone::Lowest })
    }

    /// As [`Span::ranks`], where ranks are counted from the upper end if `is_reverse`.
    pub(crate) fn ranks_from(&self, view: &View<'_>, is_reverse: bool) -> Range<usize> {
        let ranks = self.ranks(view);
        match self {
            Span::Ranks(..) if is_reverse => view.len() - ranks.end..view.len() - ranks.start,
            _ => ranks,
        }
    }

    /// The ranks that it comes to, none of which is beyond the end.
    pub(crate) fn ranks(&self, view: &View<'_>) -> Range<usize> {
        let (start, end) = match *self {
            Span::Ranks(first, last) => return args::span(first, last, view.len()),
            Span::Scores(min, max) => {
                (view.split_at_score(min.at, min.is_open), view.split_at_score(max.at, !max.is_open))
            }
            Span::Members(min, max) => {
                (split_at_member(view, min.at, min.is_open), split_at_member(view, max.at, !max.is_open))
            }
        };
        start..end.max(start)
    }
}

/// How many stand before `edge`, those that are it among them where `is_after`.
fn split_at_member(view: &View<'_>, edge: Edge<'_>, is_after: bool) -> usize {
    match edge {
        Edge::First => 0,
        Edge::Last => view.len(),
        Edge::At(member) if is_after => view.split_by(|other| other <= member),
        Edge::At(member) => view.split_by(|other| other < member),
    }
}

fn score_bound(arg: &[u8]) -> Option<Bound<f64>> {
    let (number, is_open) = arg.strip_prefix(b"(").map_or((arg, false), |rest| (rest, true));
    Some(Bound { at: lenient_float(number)?, is_open })
}

/// A number as `strtod` alone takes it, without what Redis checks elsewhere: nothing is zero, too large is infinite, spaces may
/// stand before it and anything behind a NUL.
fn lenient_float(arg: &[u8]) -> Option<f64> {
    let text = arg.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let text = std::str::from_utf8(text).ok()?.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    any_float(text)
}

fn member_bound(arg: &[u8]) -> Option<Bound<Edge<'_>>> {
    match arg {
        b"-" => Some(Bound { at: Edge::First, is_open: true }),
        b"+" => Some(Bound { at: Edge::Last, is_open: true }),
        [b'(', member @ ..] => Some(Bound { at: Edge::At(member), is_open: true }),
        [b'[', member @ ..] => Some(Bound { at: Edge::At(member), is_open: false }),
        _ => None,
    }
}
