//! What reading a member, a count or a few by chance comes to.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bounds::{By, Span};
use super::listed;
use super::set::SortedSet;
use super::view::{Lone, Pairs, View};
use crate::args::{integer, is, refusal, shown, syntax};
use crate::command::{Args, Context};
use crate::commands::scan::{self, Scan};
use crate::reply::Reply;

/// More members than this are not drawn with repetition at once: the answer is put together in memory before it is sent.
const MOST_DRAWN: usize = 1 << 20;

/// The sorted set under `key`, live or stored; none where there is no such key.
pub(super) fn view<'a>(context: &'a mut Context<'_>, key: &[u8]) -> Result<Option<View<'a>>, Reply> {
    view_for(context, key, None)
}

/// The same, where the one at one of its ends is all that is going to be looked at, if it is given.
pub(super) fn view_for<'a>(
    context: &'a mut Context<'_>,
    key: &[u8],
    lone: Option<Lone>,
) -> Result<Option<View<'a>>, Reply> {
    if let Some(live) = context.engine.live_at(context.client.db, key) {
        return Ok(View::live(live, lone));
    }
    Ok(context.find::<SortedSet>(key)?.map(View::Stored))
}

pub(super) fn zcard(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if let Some(live) = context.engine.live_at(context.client.db, args[1]) {
        return Ok(Reply::count(live.count()));
    }
    Ok(Reply::count(context.find::<SortedSet>(args[1])?.map_or(0, SortedSet::len)))
}

pub(super) fn zscore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let score = match context.engine.live_at(context.client.db, args[1]) {
        Some(live) => live.score(args[2]),
        None => context.find::<SortedSet>(args[1])?.and_then(|set| set.score(args[2])),
    };
    Ok(score.map_or(Reply::Null, Reply::Double))
}

pub(super) fn zmscore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let view = view(context, args[1])?;
    let scores = args[2..].iter().map(|member| view.as_ref().and_then(|view| view.score(member)));
    Ok(Reply::Array(scores.map(|score| score.map_or(Reply::Null, Reply::Double)).collect()))
}

pub(super) fn zrank(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let rank = view(context, args[1])?.and_then(|view| view.rank(args[2]));
    Ok(rank.map_or(Reply::Null, Reply::count))
}

pub(super) fn zrevrank(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let rank = view(context, args[1])?.and_then(|view| Some(view.len() - 1 - view.rank(args[2])?));
    Ok(rank.map_or(Reply::Null, Reply::count))
}

pub(super) fn zcount(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    count(context, args, By::Score)
}

pub(super) fn zlexcount(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    count(context, args, By::Lex)
}

fn count(context: &mut Context<'_>, args: Args<'_>, by: By) -> Result<Reply, Reply> {
    let span = Span::parse(by, args[2], args[3])?;
    Ok(Reply::count(view(context, args[1])?.map_or(0, |view| span.ranks(&view).len())))
}

pub(super) fn zrandmember(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let Some(drawn) = args.get(2) else { return draw_one(context, args[1]) };
    let drawn = integer(drawn)?;
    if drawn == i64::MIN {
        let (min, max) = (-i64::MAX, i64::MAX);
        return Err(refusal(format!("ERR value is out of range, value must between {min} and {max}")));
    }
    let with_scores = match &args[3..] {
        [] => false,
        [option] if is(option, "withscores") => true,
        _ => return Err(syntax()),
    };
    let most = if with_scores { i64::MAX / 2 } else { i64::MAX };
    if drawn.abs() > most {
        return Err(refusal("ERR value is out of range"));
    }
    draw(context, args[1], drawn, with_scores)
}

fn draw_one(context: &mut Context<'_>, key: &[u8]) -> Result<Reply, Reply> {
    let mut rng = StdRng::from_rng(&mut context.engine.rng);
    let view = view(context, key)?;
    let member = view.as_ref().and_then(|view| view.nth(rng.random_range(0..view.len())));
    Ok(Reply::maybe(member.map(|(member, _)| member)))
}

/// Draws so many that are all different, or where negative so many whatever they are.
fn draw(context: &mut Context<'_>, key: &[u8], drawn: i64, with_scores: bool) -> Result<Reply, Reply> {
    let mut rng = StdRng::from_rng(&mut context.engine.rng);
    let protocol = context.client.protocol;
    let Some(view) = view(context, key)? else { return Ok(Reply::Array(Vec::new())) };
    let count = usize::try_from(drawn.unsigned_abs()).unwrap_or(usize::MAX);
    if drawn >= 0 && count >= view.len() {
        let all = 0..view.len();
        return Ok(listed(view.into_ranks(all).rev(), with_scores, protocol));
    }
    if count > MOST_DRAWN {
        return Err(refusal("ERR value is out of range"));
    }
    let indices: Vec<usize> = if drawn < 0 {
        (0..count).map(|_| rng.random_range(0..view.len())).collect()
    } else {
        rand::seq::index::sample(&mut rng, view.len(), count).into_vec()
    };
    let drawn = indices.into_iter().filter_map(|index| view.nth(index)).map(|(member, score)| (member.to_vec(), score));
    Ok(listed(drawn, with_scores, protocol))
}

pub(super) fn zscan(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let cursor = scan::cursor(args[2])?;
    let Some(view) = view(context, args[1])? else { return Ok(scan::reply(0, Vec::new())) };
    let scan = Scan::parse(&args[3..], false)?;
    let is_large = matches!(view, View::Stored(set) if set.is_large);
    // As in Redis, what would be a listpack is shown whole and in its order.
    let (next, pairs): (usize, Pairs<'_>) = if is_large {
        let (range, next) = scan.walk(cursor, view.len());
        (next, Box::new(range.rev().filter_map(|index| view.nth(index))))
    } else {
        (0, Box::new(view.ranks(0..view.len())))
    };
    let pairs = pairs.filter(|(member, _)| scan.takes(member));
    let elements = pairs.flat_map(|(member, score)| [Reply::bulk(member), Reply::bulk(scanned(score, is_large))]);
    Ok(scan::reply(next, elements.collect()))
}

/// A score as a scan shows it: as text in RESP3 too, and where Redis keeps it in a listpack, whole numbers as integers up to
/// 2^62.
fn scanned(score: f64, is_large: bool) -> String {
    let is_integer = !is_large && score.fract() == 0.0 && score.abs() < (1u64 << 62) as f64;
    if is_integer { (score as i64).to_string() } else { shown(score) }
}
