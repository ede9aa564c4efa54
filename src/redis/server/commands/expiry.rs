//! When keys expire.

use crate::args::{Refusal, integer, is, refusal, shown_text};
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::strings::invalid_expiry;
use crate::reply::Reply;

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "expire", arity: -3, flags: WRITE | FAST, keys: (1, 1, 1), group: "generic", run: expire },
    Command { name: "pexpire", arity: -3, flags: WRITE | FAST, keys: (1, 1, 1), group: "generic", run: pexpire },
    Command { name: "expireat", arity: -3, flags: WRITE | FAST, keys: (1, 1, 1), group: "generic", run: expireat },
    Command { name: "pexpireat", arity: -3, flags: WRITE | FAST, keys: (1, 1, 1), group: "generic", run: pexpireat },
    Command { name: "ttl", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "generic", run: ttl },
    Command { name: "pttl", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "generic", run: pttl },
    Command {
        name: "expiretime",
        arity: 2,
        flags: READONLY | FAST,
        keys: (1, 1, 1),
        group: "generic",
        run: expiretime,
    },
    Command {
        name: "pexpiretime",
        arity: 2,
        flags: READONLY | FAST,
        keys: (1, 1, 1),
        group: "generic",
        run: pexpiretime,
    },
    Command { name: "persist", arity: 2, flags: WRITE | FAST, keys: (1, 1, 1), group: "generic", run: persist },
];

fn expire(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let now = context.now_ms();
    expire_from(context, args, now, 1000)
}

fn pexpire(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let now = context.now_ms();
    expire_from(context, args, now, 1)
}

fn expireat(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    expire_from(context, args, 0, 1000)
}

fn pexpireat(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    expire_from(context, args, 0, 1)
}

fn expire_from(context: &mut Context<'_>, args: Args<'_>, from_ms: i64, unit_ms: i64) -> Result<Reply, Reply> {
    let condition = Condition::parse(&args[3..])?;
    let at = integer(args[2])?.checked_mul(unit_ms).and_then(|ms| ms.checked_add(from_ms));
    let at = at.ok_or_else(|| invalid_expiry(&String::from_utf8_lossy(args[0]).to_ascii_lowercase()))?;
    let Some(entry) = context.get(args[1]) else { return Ok(Reply::Int(0)) };
    if !condition.allows(entry.expires_ms, at) {
        return Ok(Reply::Int(0));
    }
    context.expire_at(args[1], at);
    Ok(Reply::Int(1))
}

/// Which expiry may be replaced.
#[derive(Default)]
struct Condition {
    /// NX: none.
    none: bool,
    /// XX: one.
    some: bool,
    /// GT: an earlier one; never is the latest of all.
    earlier: bool,
    /// LT: a later one.
    later: bool,
}

impl Condition {
    fn parse(args: Args<'_>) -> Result<Condition, Refusal> {
        let mut condition = Condition::default();
        for arg in args {
            match () {
                () if is(arg, "nx") => condition.none = true,
                () if is(arg, "xx") => condition.some = true,
                () if is(arg, "gt") => condition.earlier = true,
                () if is(arg, "lt") => condition.later = true,
                () => return Err(refusal(format!("ERR Unsupported option {}", shown_text(arg)))),
            }
        }
        let Condition { none, some, earlier, later } = condition;
        if none && (some || earlier || later) {
            return Err(refusal("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if earlier && later {
            return Err(refusal("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    fn allows(&self, old: Option<i64>, new: i64) -> bool {
        match old {
            None => !self.some && !self.earlier,
            Some(old) => !self.none && (!self.earlier || new > old) && (!self.later || new < old),
        }
    }
}

fn ttl(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(left(context, args[1], true, 1000))
}

fn pttl(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(left(context, args[1], true, 1))
}

fn expiretime(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(left(context, args[1], false, 1000))
}

fn pexpiretime(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(left(context, args[1], false, 1))
}

/// -2 without the key, -1 without an expiry; rounded to the nearest unit.
fn left(context: &mut Context<'_>, key: &[u8], is_relative: bool, unit_ms: i64) -> Reply {
    let from = if is_relative { context.now_ms() } else { 0 };
    Reply::Int(match context.peek(key).map(|entry| entry.expires_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => (at - from).saturating_add(unit_ms / 2) / unit_ms,
    })
}

fn persist(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let had_expiry = context.get(args[1]).is_some_and(|entry| entry.expires_ms.is_some());
    if had_expiry {
        context.persist(args[1]);
    }
    Ok(had_expiry.into())
}
