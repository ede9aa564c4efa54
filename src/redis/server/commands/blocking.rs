//! Commands that wait for elements: what they have in common, and those of lists.
//!
//! Such a command tries its keys in order. Where it finds nothing it leaves a [`Wait`] with its client and is run again when
//! one of its keys got elements; then it looks at that key alone, as Redis does, even if another one is ready, too.

use crate::args::{Refusal, float, refusal, syntax};
use crate::blocked::Wait;
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::list::pop_some;
use crate::commands::list_move::{PopFirst, end, move_one};
use crate::reply::Reply;
use crate::value::End;

/// These wait, and scripts are better told so.
const WAITS: u32 = WRITE | NOSCRIPT | BLOCKING;

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "blpop", arity: -3, flags: WAITS, keys: (1, -2, 1), group: "list", run: blpop },
    Command { name: "brpop", arity: -3, flags: WAITS, keys: (1, -2, 1), group: "list", run: brpop },
    Command { name: "blmove", arity: 6, flags: WAITS | DENYOOM, keys: (1, 2, 1), group: "list", run: blmove },
    Command { name: "brpoplpush", arity: 4, flags: WAITS | DENYOOM, keys: (1, 2, 1), group: "list", run: brpoplpush },
    Command {
        name: "blmpop",
        arity: -5,
        flags: WRITE | BLOCKING | MOVABLEKEYS,
        keys: (0, 0, 0),
        group: "list",
        run: blmpop,
    },
];

/// How long a command waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout {
    /// For ever, at 0.
    ms: i64,
}

impl Timeout {
    /// Seconds, as BLPOP and its like take them.
    pub(crate) fn parse(arg: &[u8]) -> Result<Timeout, Refusal> {
        let seconds = float(arg).ok_or_else(|| refusal("ERR timeout is not a float or out of range"))?;
        let ms = (seconds * 1000.0).ceil();
        // What Redis cannot hold comes out as negative there.
        if ms < 0.0 || ms >= i64::MAX as f64 {
            return Err(refusal("ERR timeout is negative"));
        }
        Ok(Timeout { ms: ms as i64 })
    }
}

/// The first that `keys` grant, in order; where they grant nothing, the client waits.
pub(crate) fn first_or_wait(
    context: &mut Context<'_>,
    args: Args<'_>,
    keys: &[&[u8]],
    timeout: Timeout,
    mut grant: impl FnMut(&mut Context<'_>, &[u8]) -> Result<Option<Reply>, Reply>,
) -> Result<Reply, Reply> {
    let offered = context.client.offered.take();
    let offered = offered.as_deref();
    let tried = offered.as_ref().map_or(keys, std::slice::from_ref);
    for key in tried {
        if let Some(reply) = grant(context, key)? {
            return Ok(reply);
        }
    }
    let may_wait = !context.client.in_script && !context.client.in_exec;
    if may_wait {
        let until_ms = (timeout.ms > 0).then(|| context.now_ms().saturating_add(timeout.ms));
        let keys = keys.iter().map(|key| (*key).into()).collect();
        let args = args.iter().map(|arg| arg.to_vec()).collect();
        context.client.wait = Some(Wait { keys, until_ms, args, otherwise: Reply::NullArray });
    }
    Ok(if may_wait { Reply::Silent } else { Reply::NullArray })
}

fn blpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop_one_or_wait(context, args, End::Left)
}

fn brpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop_one_or_wait(context, args, End::Right)
}

fn pop_one_or_wait(context: &mut Context<'_>, args: Args<'_>, end: End) -> Result<Reply, Reply> {
    let [_, keys @ .., timeout] = args else { return Err(syntax()) };
    let timeout = Timeout::parse(timeout)?;
    first_or_wait(context, args, keys, timeout, |context, key| {
        let popped = pop_some(context, key, end, 1)?.and_then(|popped| popped.into_iter().next());
        Ok(popped.map(|element| Reply::Array(vec![Reply::bulk(key), Reply::Bulk(element)])))
    })
}

fn blmpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let pop = PopFirst::parse(&args[2..])?;
    let timeout = Timeout::parse(args[1])?;
    first_or_wait(context, args, pop.keys, timeout, |context, key| pop.run(context, key))
}

fn blmove(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (from_end, to_end) = (end(args[3])?, end(args[4])?);
    move_or_wait(context, args, from_end, to_end, Timeout::parse(args[5])?)
}

fn brpoplpush(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    move_or_wait(context, args, End::Right, End::Left, Timeout::parse(args[3])?)
}

fn move_or_wait(
    context: &mut Context<'_>,
    args: Args<'_>,
    from_end: End,
    to_end: End,
    timeout: Timeout,
) -> Result<Reply, Reply> {
    let to = args[2];
    let moved = first_or_wait(context, args, &args[1..2], timeout, |context, from| {
        Ok(move_one(context, from, to, from_end, to_end)?.map(Reply::Bulk))
    })?;
    // Who may not wait is told that there is no element, not that there is no list of them.
    Ok(if moved == Reply::NullArray { Reply::Null } else { moved })
}
