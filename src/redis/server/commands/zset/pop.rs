//! Taking the lowest or highest out: ZPOPMIN, ZPOPMAX, ZMPOP, and the same with waiting.

use super::listed;
use super::remove::remove_live;
use super::set::SortedSet;
use super::view::{Lone, View};
use crate::args::{Refusal, at_least, counted_keys, is, most, syntax};
use crate::command::{Args, Context};
use crate::commands::blocking::{Timeout, first_or_wait};
use crate::live::LiveSet;
use crate::reply::Reply;

pub(super) fn zpopmin(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop_some(context, args, Lone::Lowest)
}

pub(super) fn zpopmax(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop_some(context, args, Lone::Highest)
}

fn pop_some(context: &mut Context<'_>, args: Args<'_>, end: Lone) -> Result<Reply, Reply> {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(at_least(count, 0, "ERR value is out of range, must be positive")?),
        _ => return Err(syntax()),
    };
    let popped = pop(context, args[1], end, count.unwrap_or(1))?.unwrap_or_default();
    // One alone, not asked for by a count, is no list of pairs in RESP3 either.
    let protocol = if count.is_some() { context.client.protocol } else { 2 };
    Ok(listed(popped.into_iter(), true, protocol))
}

pub(super) fn zmpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let wish = Wish::parse(&args[1..])?;
    for key in wish.keys {
        if let Some(reply) = wish.grant(context, key)? {
            return Ok(reply);
        }
    }
    Ok(Reply::NullArray)
}

pub(super) fn bzmpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let wish = Wish::parse(&args[2..])?;
    let timeout = Timeout::parse(args[1])?;
    first_or_wait(context, args, wish.keys, timeout, |context, key| wish.grant(context, key))
}

pub(super) fn bzpopmin(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop_one_or_wait(context, args, Lone::Lowest)
}

pub(super) fn bzpopmax(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop_one_or_wait(context, args, Lone::Highest)
}

fn pop_one_or_wait(context: &mut Context<'_>, args: Args<'_>, end: Lone) -> Result<Reply, Reply> {
    let [_, keys @ .., timeout] = args else { return Err(syntax()) };
    let timeout = Timeout::parse(timeout)?;
    first_or_wait(context, args, keys, timeout, |context, key| {
        let Some(popped) = pop(context, key, end, 1)? else { return Ok(None) };
        let pairs = popped.into_iter().flat_map(|(member, score)| [Reply::Bulk(member), Reply::Double(score)]);
        Ok(Some(Reply::Array([Reply::bulk(key)].into_iter().chain(pairs).collect())))
    })
}

/// What ZMPOP asks for behind a timeout, if there is one.
struct Wish<'a> {
    keys: Args<'a>,
    end: Lone,
    most: usize,
}

impl<'a> Wish<'a> {
    /// `args` from the number of keys on.
    fn parse(args: Args<'a>) -> Result<Wish<'a>, Refusal> {
        let (keys, rest) = counted_keys(args)?;
        let (end, options) = match rest {
            [end, options @ ..] if is(end, "min") => (Lone::Lowest, options),
            [end, options @ ..] if is(end, "max") => (Lone::Highest, options),
            _ => return Err(syntax()),
        };
        Ok(Wish { keys, end, most: most(options)? })
    }

    fn grant(&self, context: &mut Context<'_>, key: &[u8]) -> Result<Option<Reply>, Reply> {
        let popped = pop(context, key, self.end, self.most)?;
        // A list of pairs in RESP2 too.
        Ok(popped.map(|popped| Reply::Array(vec![Reply::bulk(key), listed(popped.into_iter(), true, 3)])))
    }
}

type Popped = Vec<(Vec<u8>, f64)>;

/// Takes up to `most` out at `end`; none where there is no such key.
fn pop(context: &mut Context<'_>, key: &[u8], end: Lone, most: usize) -> Result<Option<Popped>, Reply> {
    if let Some(live) = context.engine.live_at(context.client.db, key) {
        let popped = last_of_live(live, end, most);
        if popped.is_empty() {
            return Ok(None);
        }
        remove_live(context, key, popped.iter().map(|(member, _)| member))?;
        return Ok(Some(popped));
    }
    let Some(set) = context.find_mut::<SortedSet>(key)? else { return Ok(None) };
    let count = most.min(set.len());
    let ranks = match end {
        Lone::Lowest => 0..count,
        Lone::Highest => set.len() - count..set.len(),
    };
    let mut popped: Popped = set.ranks(ranks.clone()).map(|(member, score)| (member.to_vec(), score)).collect();
    if end == Lone::Highest {
        popped.reverse();
    }
    set.remove_ranks(ranks);
    if count > 0 {
        context.changed(key);
    }
    Ok(Some(popped))
}

fn last_of_live(live: &mut dyn LiveSet, end: Lone, most: usize) -> Popped {
    let Some(View::Live(mut pairs)) = View::live(live, (most == 1).then_some(end)) else { return Popped::new() };
    if end == Lone::Highest {
        pairs.reverse();
    }
    pairs.truncate(most);
    pairs
}
