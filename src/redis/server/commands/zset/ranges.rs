//! Reading ranges: ZRANGE, what it took the place of, and ZRANGESTORE.

use std::ops::Range;
use std::sync::Arc;

use super::bounds::{By, Span};
use super::listed;
use super::read::view_for;
use super::set::{Limits, SortedSet};
use crate::args::{Refusal, integer, is, refusal, syntax};
use crate::command::{Args, Context};
use crate::reply::Reply;
use crate::value::Shared;

/// What is asked of a sorted set. Commands of old say in their names what ZRANGE takes as options.
#[derive(Clone, Copy)]
struct Query<'a> {
    by: Option<By>,
    is_reverse: Option<bool>,
    with_scores: bool,
    limit: Limit,
    key: &'a [u8],
    from: &'a [u8],
    to: &'a [u8],
}

/// LIMIT: how many to skip, how many to show.
#[derive(Clone, Copy, PartialEq)]
struct Limit {
    skip: i64,
    /// All, where negative.
    show: i64,
}

const NO_LIMIT: Limit = Limit { skip: 0, show: -1 };

pub(super) fn zrange(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, None, None)
}

pub(super) fn zrevrange(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Some(By::Rank), Some(true))
}

pub(super) fn zrangebyscore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Some(By::Score), Some(false))
}

pub(super) fn zrevrangebyscore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Some(By::Score), Some(true))
}

pub(super) fn zrangebylex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Some(By::Lex), Some(false))
}

pub(super) fn zrevrangebylex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, Some(By::Lex), Some(true))
}

fn show(context: &mut Context<'_>, args: Args<'_>, by: Option<By>, is_reverse: Option<bool>) -> Result<Reply, Reply> {
    let query = Query::parse(&args[1..], by, is_reverse, false)?;
    let (span, is_reverse) = query.span()?;
    let protocol = context.client.protocol;
    let is_one = query.limit == Limit { skip: 0, show: 1 };
    let Some(view) = view_for(context, query.key, span.lone_end(is_reverse, is_one))? else {
        return Ok(Reply::Array(Vec::new()));
    };
    let ranks = query.limit.of(span.ranks_from(&view, is_reverse), is_reverse);
    let pairs = view.into_ranks(ranks);
    Ok(match is_reverse {
        true => listed(pairs.rev(), query.with_scores, protocol),
        false => listed(pairs, query.with_scores, protocol),
    })
}

pub(super) fn zrangestore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let query = Query::parse(&args[2..], None, None, true)?;
    let (span, is_reverse) = query.span()?;
    let limits = Limits::from(&context.engine.settings);
    let pairs: Vec<(Shared, f64)> = match view_for(context, query.key, None)? {
        None => Vec::new(),
        Some(view) => {
            let ranks = query.limit.of(span.ranks_from(&view, is_reverse), is_reverse);
            view.ranks(ranks).map(|(member, score)| (Arc::from(member), score)).collect()
        }
    };
    Ok(store(context, args[1], SortedSet::of(pairs.into_iter(), limits)))
}

/// Puts `set` under `key`, or removes what is there where it is empty; how many it has.
pub(super) fn store(context: &mut Context<'_>, key: &[u8], set: SortedSet) -> Reply {
    let stored = set.len();
    if stored == 0 {
        context.take(key);
    } else {
        context.put(key, set, None);
        context.ready(key);
    }
    Reply::count(stored)
}

impl<'a> Query<'a> {
    /// `args` from the key on.
    fn parse(
        args: &'a [&'a [u8]],
        by: Option<By>,
        is_reverse: Option<bool>,
        is_store: bool,
    ) -> Result<Query<'a>, Refusal> {
        let [key, from, to, options @ ..] = args else { return Err(syntax()) };
        let mut query = Query { by, is_reverse, with_scores: false, limit: NO_LIMIT, key, from, to };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match option {
                option if is(option, "withscores") && !is_store => query.with_scores = true,
                option if is(option, "limit") && options.len() >= 2 => {
                    let mut number = || options.next().map_or_else(|| Err(syntax()), |arg| integer(arg));
                    query.limit = Limit { skip: number()?, show: number()? };
                }
                option if is(option, "rev") && query.is_reverse.is_none() => query.is_reverse = Some(true),
                option if is(option, "bylex") && query.by.is_none() => query.by = Some(By::Lex),
                option if is(option, "byscore") && query.by.is_none() => query.by = Some(By::Score),
                _ => return Err(syntax()),
            }
        }
        let by = query.by.unwrap_or(By::Rank);
        if query.limit.show != -1 && by == By::Rank {
            let text = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
            return Err(refusal(text));
        }
        if query.with_scores && by == By::Lex {
            return Err(refusal("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        if by == By::Rank {
            query.limit = NO_LIMIT;
        }
        Ok(query)
    }

    /// The range, and whether it is read from its upper end on.
    fn span(&self) -> Result<(Span<'a>, bool), Refusal> {
        let by = self.by.unwrap_or(By::Rank);
        let is_reverse = self.is_reverse.unwrap_or(false);
        // Read backwards, ranges of scores and members are given upper end first.
        let (min, max) = if is_reverse && by != By::Rank { (self.to, self.from) } else { (self.from, self.to) };
        Ok((Span::parse(by, min, max)?, is_reverse))
    }
}

impl Limit {
    /// What it leaves of `ranks`.
    fn of(self, ranks: Range<usize>, is_reverse: bool) -> Range<usize> {
        if self == NO_LIMIT {
            return ranks;
        }
        let Range { start, end } = ranks;
        // A negative number to skip skips all.
        let skip = usize::try_from(self.skip).map_or(end - start, |skip| skip.min(end - start));
        let show = usize::try_from(self.show).map_or(end - start - skip, |show| show.min(end - start - skip));
        if is_reverse { end - skip - show..end - skip } else { start + skip..start + skip + show }
    }
}
