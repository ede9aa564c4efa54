//! Elements of lists that go elsewhere: to another list, or to whoever asks for those of the first list that has some.
//! What waits for elements is made of the same pieces.

use crate::args::{Refusal, counted_keys, is, most, syntax};
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::list::pop_some;
use crate::reply::Reply;
use crate::value::{End, List};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "lmove", arity: 5, flags: WRITE | DENYOOM, keys: (1, 2, 1), group: "list", run: lmove },
    Command { name: "rpoplpush", arity: 3, flags: WRITE | DENYOOM, keys: (1, 2, 1), group: "list", run: rpoplpush },
    Command { name: "lmpop", arity: -4, flags: WRITE | MOVABLEKEYS, keys: (0, 0, 0), group: "list", run: lmpop },
];

fn lmove(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (from_end, to_end) = (end(args[3])?, end(args[4])?);
    move_one(context, args[1], args[2], from_end, to_end).map(Reply::maybe)
}

fn rpoplpush(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    move_one(context, args[1], args[2], End::Right, End::Left).map(Reply::maybe)
}

/// `LEFT` or `RIGHT`.
pub(crate) fn end(arg: &[u8]) -> Result<End, Refusal> {
    if is(arg, "left") {
        Ok(End::Left)
    } else if is(arg, "right") {
        Ok(End::Right)
    } else {
        Err(syntax())
    }
}

/// Takes an element off one list and puts it on the other, which may be the same; none where there is none.
pub(crate) fn move_one(
    context: &mut Context<'_>,
    from: &[u8],
    to: &[u8],
    from_end: End,
    to_end: End,
) -> Result<Option<Vec<u8>>, Refusal> {
    if context.get(from).is_none() {
        return Ok(None);
    }
    context.find::<List>(from)?;
    context.find::<List>(to)?;
    let Some(element) = context.find_mut::<List>(from)?.and_then(|list| list.pop(from_end)) else { return Ok(None) };
    // Before the key is told that it changed: it may be the same one, and must not go when it is empty for a moment.
    if let Some(list) = context.find_mut::<List>(to)? {
        list.push(to_end, &element);
        context.changed(to);
    } else {
        let mut list = List::default();
        list.push(to_end, &element);
        context.put(to, list, None);
    }
    if from != to {
        context.changed(from);
    }
    context.ready(to);
    Ok(Some(element.into()))
}

fn lmpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let pop = PopFirst::parse(&args[1..])?;
    for key in pop.keys {
        if let Some(reply) = pop.run(context, key)? {
            return Ok(reply);
        }
    }
    Ok(Reply::NullArray)
}

/// What LMPOP and BLMPOP are told: which keys, which end, how many.
pub(crate) struct PopFirst<'a> {
    pub(crate) keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> PopFirst<'a> {
    /// From `numkeys key ... LEFT|RIGHT [COUNT count]`.
    pub(crate) fn parse(args: Args<'a>) -> Result<PopFirst<'a>, Refusal> {
        let (keys, rest) = counted_keys(args)?;
        let (where_from, options) = rest.split_first().ok_or_else(syntax)?;
        let (end, count) = (end(where_from)?, most(options)?);
        Ok(PopFirst { keys, end, count })
    }

    /// `key` and its elements, where it has some.
    pub(crate) fn run(&self, context: &mut Context<'_>, key: &[u8]) -> Result<Option<Reply>, Refusal> {
        Ok(pop_some(context, key, self.end, self.count)?.map(|popped| {
            let popped = Reply::Array(popped.into_iter().map(Reply::Bulk).collect());
            Reply::Array(vec![Reply::bulk(key), popped])
        }))
    }
}
