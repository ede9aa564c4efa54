//! Commands that wait for elements: what they have in common, and those of lists.
//!
//! Such a command tries its keys in order. Where it finds nothing it leaves a [`Wait`] with its client and is run again when
//! one of its keys got elements; then it looks at that key alone, as Redis does, even if another one is ready, too.

use crate::args::{Refusal, float, int, is, refusal, syntax};
use crate::blocked::Wait;
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::Reply;

pub(crate) const COMMANDS: &[Command] = &[];

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

/// The keys that the first of `args` counts, and what stands behind them.
pub(crate) fn counted_keys(args: Args<'_>) -> Result<(Args<'_>, Args<'_>), Refusal> {
    let (count, rest) = args.split_first().ok_or_else(syntax)?;
    let count = int(count).filter(|count| *count > 0);
    let count = count.ok_or_else(|| refusal("ERR numkeys should be greater than 0"))?;
    usize::try_from(count).ok().and_then(|count| rest.split_at_checked(count)).ok_or_else(syntax)
}

/// How many elements are wanted at most: one, unless `options` say it.
pub(crate) fn most(options: Args<'_>) -> Result<usize, Refusal> {
    match options {
        [] => Ok(1),
        [option, count, rest @ ..] if is(option, "count") => {
            let count = int(count).and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
            let count = count.ok_or_else(|| refusal("ERR count should be greater than 0"))?;
            if rest.is_empty() { Ok(count) } else { Err(syntax()) }
        }
        _ => Err(syntax()),
    }
}
