//! Taking members out by name or range: ZREM and the ZREMRANGE commands.

use super::bounds::{By, Span};
use super::read::view;
use super::set::SortedSet;
use super::view::View;
use crate::command::{Args, Context};
use crate::reply::Reply;

pub(super) fn zrem(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let key = args[1];
    if context.engine.live_at(context.client.db, key).is_some() {
        return remove_live(context, key, args[2..].iter().copied()).map(Reply::count);
    }
    let Some(set) = context.find_mut::<SortedSet>(key)? else { return Ok(Reply::Int(0)) };
    let removed = args[2..].iter().filter(|member| set.remove(member).is_some()).count();
    if removed > 0 {
        context.changed(key);
    }
    Ok(Reply::count(removed))
}

pub(super) fn zremrangebyrank(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    remove_range(context, args, By::Rank)
}

pub(super) fn zremrangebyscore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    remove_range(context, args, By::Score)
}

pub(super) fn zremrangebylex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    remove_range(context, args, By::Lex)
}

fn remove_range(context: &mut Context<'_>, args: Args<'_>, by: By) -> Result<Reply, Reply> {
    let key = args[1];
    let span = Span::parse(by, args[2], args[3])?;
    let Some(view) = view(context, key)? else { return Ok(Reply::Int(0)) };
    let ranks = span.ranks(&view);
    if let View::Live(mut pairs) = view {
        return remove_live(context, key, pairs.drain(ranks).map(|(member, _)| member)).map(Reply::count);
    }
    let removed = ranks.len();
    if removed > 0
        && let Some(set) = context.find_mut::<SortedSet>(key)?
    {
        set.remove_ranks(ranks);
        context.changed(key);
    }
    Ok(Reply::count(removed))
}

/// Takes `members` out of the live set; how many were there. Those before one that it does not give up are gone.
pub(crate) fn remove_live<M: AsRef<[u8]>>(
    context: &mut Context<'_>,
    key: &[u8],
    members: impl Iterator<Item = M>,
) -> Result<usize, Reply> {
    let client = context.client.id;
    let Some(live) = context.engine.live_at(context.client.db, key) else { return Ok(0) };
    let mut removed = 0;
    let mut done = Ok(());
    for member in members {
        match live.remove(client, member.as_ref()) {
            Ok(was_there) => removed += usize::from(was_there),
            Err(error) => {
                done = Err(error.into());
                break;
            }
        }
    }
    if removed > 0 {
        context.changed(key);
    }
    done.map(|()| removed)
}
