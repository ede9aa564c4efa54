//! Keys, whatever they hold.

use crate::args::{Refusal, integer, is, refusal, syntax};
use crate::command::{Args, Command, Context, contained, flag::*};
use crate::commands::docs;
use crate::engine::Entry;
use crate::glob;
use crate::reply::Reply;
use crate::value::Value;

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "del", arity: -2, flags: WRITE, keys: (1, -1, 1), group: "generic", run: del },
    Command { name: "unlink", arity: -2, flags: WRITE | FAST, keys: (1, -1, 1), group: "generic", run: del },
    Command { name: "exists", arity: -2, flags: READONLY | FAST, keys: (1, -1, 1), group: "generic", run: exists },
    Command { name: "type", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "generic", run: kind },
    Command { name: "keys", arity: 2, flags: READONLY, keys: (0, 0, 0), group: "generic", run: keys },
    Command { name: "randomkey", arity: 1, flags: READONLY, keys: (0, 0, 0), group: "generic", run: randomkey },
    Command { name: "rename", arity: 3, flags: WRITE, keys: (1, 2, 1), group: "generic", run: rename },
    Command { name: "renamenx", arity: 3, flags: WRITE | FAST, keys: (1, 2, 1), group: "generic", run: renamenx },
    Command { name: "copy", arity: -3, flags: WRITE | DENYOOM, keys: (1, 2, 1), group: "generic", run: copy },
    Command { name: "move", arity: 3, flags: WRITE | FAST, keys: (1, 1, 1), group: "generic", run: move_key },
    Command { name: "touch", arity: -2, flags: READONLY | FAST, keys: (1, -1, 1), group: "generic", run: touch },
    Command { name: "object", arity: -2, flags: CONTAINER, keys: (0, 0, 0), group: "generic", run: contained },
    object("object|encoding", encoding),
    object("object|freq", freq),
    object("object|idletime", idletime),
    object("object|refcount", refcount),
    Command { name: "object|help", arity: 2, flags: 0, keys: (0, 0, 0), group: "generic", run: help },
];

fn del(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(args[1..].iter().filter(|key| context.take(key).is_some()).count()))
}

fn exists(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(args[1..].iter().filter(|key| context.peek(key).is_some()).count()))
}

fn touch(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(args[1..].iter().filter(|key| context.get(key).is_some()).count()))
}

fn kind(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::Status(context.peek(args[1]).map_or("none", |entry| entry.value.kind()).into()))
}

fn keys(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (pattern, now) = (args[1], context.now_ms());
    let found = context.engine.dbs[context.client.db].iter().filter(|(key, entry)| {
        entry.expires_ms.is_none_or(|at| at > now) && (pattern == b"*" || glob::matches(pattern, key))
    });
    Ok(Reply::Array(found.map(|(key, _)| Reply::bulk(key)).collect()))
}

fn randomkey(context: &mut Context<'_>, _args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::maybe(context.engine.random_key(context.client.db)))
}

fn rename(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (from, to) = (args[1], args[2]);
    context.get(from).ok_or_else(no_such_key)?;
    if from != to
        && let Some(entry) = context.take(from)
    {
        place(context, context.client.db, to, entry);
    }
    Ok(Reply::OK)
}

fn renamenx(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    context.get(args[1]).ok_or_else(no_such_key)?;
    if context.get(args[2]).is_some() {
        return Ok(Reply::Int(0));
    }
    rename(context, args)?;
    Ok(Reply::Int(1))
}

pub(crate) fn no_such_key() -> Refusal {
    refusal("ERR no such key")
}

/// Puts what another key had at `key`. Clients that wait for it there are woken.
fn place(context: &mut Context<'_>, db: usize, key: &[u8], entry: Entry) {
    let may_be_waited_for = matches!(entry.value, Value::List(_) | Value::ZSet(_));
    context.engine.put(db, key, entry.value, entry.expires_ms);
    if may_be_waited_for {
        context.engine.ready.push((db, key.into()));
    }
}

fn copy(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (from, to) = (args[1], args[2]);
    let (mut db, mut replaces) = (context.client.db, false);
    let mut rest = args[3..].iter();
    while let Some(arg) = rest.next() {
        if is(arg, "replace") {
            replaces = true;
        } else if is(arg, "db") {
            db = database(context, rest.next().ok_or_else(syntax)?)?;
        } else {
            return Err(syntax());
        }
    }
    if db == context.client.db && from == to {
        return Err(same_object());
    }
    let Some(entry) = context.get(from).cloned() else { return Ok(Reply::Int(0)) };
    if !replaces && context.engine.get(db, to).is_some() {
        return Ok(Reply::Int(0));
    }
    place(context, db, to, entry);
    Ok(Reply::Int(1))
}

fn move_key(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, db) = (args[1], database(context, args[2])?);
    if db == context.client.db {
        return Err(same_object());
    }
    if context.get(key).is_none() || context.engine.get(db, key).is_some() {
        return Ok(Reply::Int(0));
    }
    if let Some(entry) = context.take(key) {
        place(context, db, key, entry);
    }
    Ok(Reply::Int(1))
}

/// The number of a database.
fn database(context: &Context<'_>, arg: &[u8]) -> Result<usize, Refusal> {
    let number = i32::try_from(integer(arg)?)
        .map_err(|_| refusal(format!("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX)))?;
    let db = usize::try_from(number).ok().filter(|db| *db < context.engine.dbs.len());
    db.ok_or_else(|| refusal("ERR DB index is out of range"))
}

fn same_object() -> Refusal {
    refusal("ERR source and destination objects are the same")
}

/// A part of OBJECT, all of which ask about one key.
const fn object(name: &'static str, run: fn(&mut Context<'_>, Args<'_>) -> Result<Reply, Reply>) -> Command {
    Command { name, arity: 3, flags: READONLY, keys: (2, 2, 1), group: "generic", run }
}

fn help(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(docs::help("object"))
}

fn encoding(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::maybe(context.peek(args[2]).map(|entry| entry.value.encoding())))
}

fn refcount(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let is_small = |int: i64| (0..10_000).contains(&int);
    Ok(context.peek(args[2]).map_or(Reply::Null, |entry| match &entry.value {
        // Redis shares the small integers among all who have them.
        Value::Str(text) if text.as_int().is_some_and(is_small) => Reply::Int(i32::MAX.into()),
        _ => Reply::Int(1),
    }))
}

fn idletime(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let now = context.now_ms();
    Ok(context.peek(args[2]).map_or(Reply::Null, |entry| Reply::Int((now - entry.used_ms).max(0) / 1000)))
}

fn freq(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    context.peek(args[2]).map_or(Ok(Reply::Null), |_| Err(refusal(NOT_LFU)))
}

const NOT_LFU: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                       switching between policies at runtime LRU and LFU data will take some time to adjust.";
