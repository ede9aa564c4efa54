//! Elements of lists that go elsewhere: to another list, or to whoever asks for those of the first list that has some.
//! What waits for elements is made of the same pieces.

use crate::args::{Refusal, at_least, is, syntax};
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
    Ok(pop.run(context)?.unwrap_or(Reply::NullArray))
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
        let [numkeys, rest @ ..] = args else { return Err(syntax()) };
        let numkeys = at_least(numkeys, 1, "ERR numkeys should be greater than 0")?;
        let (keys, [where_from, options @ ..]) = rest.split_at_checked(numkeys).ok_or_else(syntax)? else {
            return Err(syntax());
        };
        let end = end(where_from)?;
        let count = match *options {
            [] => 1,
            [name, count] if is(name, "count") => at_least(count, 1, "ERR count should be greater than 0")?,
            [name, count, ..] if is(name, "count") => {
                at_least(count, 1, "ERR count should be greater than 0")?;
                return Err(syntax());
            }
            _ => return Err(syntax()),
        };
        Ok(PopFirst { keys, end, count })
    }

    /// The key and the elements of the first list that has some.
    pub(crate) fn run(&self, context: &mut Context<'_>) -> Result<Option<Reply>, Refusal> {
        for key in self.keys {
            if let Some(popped) = pop_some(context, key, self.end, self.count)? {
                let popped = Reply::Array(popped.into_iter().map(Reply::Bulk).collect());
                return Ok(Some(Reply::Array(vec![Reply::bulk(key), popped])));
            }
        }
        Ok(None)
    }
}
