//! Hashes.

use crate::args::{Refusal, integer, is, not_a_float, not_an_integer, refusal, syntax, wrong_arity};
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::counters::{sum, sum_float};
use crate::commands::sample::picks;
use crate::commands::scan::{self, Scan};
use crate::extended::Extended;
use crate::reply::Reply;
use crate::value::{Hash, Kind};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "hset", arity: -4, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "hash", run: hset },
    Command { name: "hmset", arity: -4, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "hash", run: hmset },
    Command { name: "hsetnx", arity: 4, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "hash", run: hsetnx },
    Command { name: "hget", arity: 3, flags: READONLY | FAST, keys: (1, 1, 1), group: "hash", run: hget },
    Command { name: "hmget", arity: -3, flags: READONLY | FAST, keys: (1, 1, 1), group: "hash", run: hmget },
    Command { name: "hgetall", arity: 2, flags: READONLY, keys: (1, 1, 1), group: "hash", run: hgetall },
    Command { name: "hkeys", arity: 2, flags: READONLY, keys: (1, 1, 1), group: "hash", run: hkeys },
    Command { name: "hvals", arity: 2, flags: READONLY, keys: (1, 1, 1), group: "hash", run: hvals },
    Command { name: "hlen", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "hash", run: hlen },
    Command { name: "hstrlen", arity: 3, flags: READONLY | FAST, keys: (1, 1, 1), group: "hash", run: hstrlen },
    Command { name: "hexists", arity: 3, flags: READONLY | FAST, keys: (1, 1, 1), group: "hash", run: hexists },
    Command { name: "hdel", arity: -3, flags: WRITE | FAST, keys: (1, 1, 1), group: "hash", run: hdel },
    Command { name: "hincrby", arity: 4, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "hash", run: hincrby },
    Command {
        name: "hincrbyfloat",
        arity: 4,
        flags: WRITE | DENYOOM | FAST,
        keys: (1, 1, 1),
        group: "hash",
        run: hincrbyfloat,
    },
    Command { name: "hrandfield", arity: -2, flags: READONLY, keys: (1, 1, 1), group: "hash", run: hrandfield },
    Command { name: "hscan", arity: -3, flags: READONLY, keys: (1, 1, 1), group: "hash", run: hscan },
];

/// Changes the hash at `key`, which is made where there is none.
fn change<T>(context: &mut Context<'_>, key: &[u8], change: impl FnOnce(&mut Hash) -> T) -> Result<T, Refusal> {
    if let Some(hash) = context.find_mut::<Hash>(key)? {
        let result = change(hash);
        context.changed(key);
        return Ok(result);
    }
    let mut hash = Hash::default();
    let result = change(&mut hash);
    context.put(key, hash, None);
    Ok(result)
}

fn hset(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(set_all(context, args, "hset")?))
}

fn hmset(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    set_all(context, args, "hmset")?;
    Ok(Reply::OK)
}

/// Sets pairs; how many fields are new.
fn set_all(context: &mut Context<'_>, args: Args<'_>, command: &str) -> Result<usize, Refusal> {
    let (pairs, rest) = args[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong_arity(command));
    }
    let limits = context.engine.settings.hash_limits();
    change(context, args[1], |hash| pairs.iter().filter(|[field, value]| hash.set(field, value, limits)).count())
}

fn hsetnx(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if context.find::<Hash>(args[1])?.is_some_and(|hash| hash.get(args[2]).is_some()) {
        return Ok(Reply::Int(0));
    }
    set_all(context, args, "hsetnx")?;
    Ok(Reply::Int(1))
}

fn hget(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::maybe(context.find::<Hash>(args[1])?.and_then(|hash| hash.get(args[2]))))
}

fn hmget(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let mut room = context.room();
    let hash = context.find::<Hash>(args[1])?;
    let values = args[2..].iter().map(|field| hash.and_then(|hash| hash.get(field)));
    let values = values.map(|value| room.take(value.map_or(0, <[u8]>::len)).map(|()| Reply::maybe(value)));
    Ok(Reply::Array(values.collect::<Result<_, _>>()?))
}

fn hgetall(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let fields = context.find::<Hash>(args[1])?.into_iter().flat_map(Hash::iter);
    Ok(Reply::Map(fields.map(|(field, value)| (Reply::bulk(field), Reply::bulk(value))).collect()))
}

fn hkeys(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let fields = context.find::<Hash>(args[1])?.into_iter().flat_map(Hash::iter);
    Ok(Reply::Array(fields.map(|(field, _)| Reply::bulk(field)).collect()))
}

fn hvals(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let fields = context.find::<Hash>(args[1])?.into_iter().flat_map(Hash::iter);
    Ok(Reply::Array(fields.map(|(_, value)| Reply::bulk(value)).collect()))
}

fn hlen(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(context.find::<Hash>(args[1])?.map_or(0, Hash::len)))
}

fn hstrlen(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let value = context.find::<Hash>(args[1])?.and_then(|hash| hash.get(args[2]));
    Ok(Reply::count(value.map_or(0, <[u8]>::len)))
}

fn hexists(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(context.find::<Hash>(args[1])?.is_some_and(|hash| hash.get(args[2]).is_some()).into())
}

fn hdel(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let Some(hash) = context.find_mut::<Hash>(args[1])? else { return Ok(Reply::Int(0)) };
    let removed = args[2..].iter().filter(|field| hash.remove(field)).count();
    if removed > 0 {
        context.changed(args[1]);
    }
    Ok(Reply::count(removed))
}

fn hincrby(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, field, by) = (args[1], args[2], integer(args[3])?);
    let value = context.find::<Hash>(key)?.and_then(|hash| hash.get(field));
    let sum = sum(value.unwrap_or(b"0"), by, || refusal("ERR hash value is not an integer"))?;
    let limits = context.engine.settings.hash_limits();
    change(context, key, |hash| hash.set(field, itoa::Buffer::new().format(sum).as_bytes(), limits))?;
    Ok(Reply::Int(sum))
}

fn hincrbyfloat(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, field, by) = (args[1], args[2], args[3]);
    if Extended::parse(by).ok_or_else(not_a_float)? == Extended::Infinite {
        return Err(refusal("ERR value is NaN or Infinity"));
    }
    let value = context.find::<Hash>(key)?.and_then(|hash| hash.get(field));
    let sum = sum_float(value.unwrap_or(b"0"), by, || refusal("ERR hash value is not a float"))?;
    let limits = context.engine.settings.hash_limits();
    change(context, key, |hash| hash.set(field, &sum, limits))?;
    Ok(Reply::Bulk(sum))
}

fn hrandfield(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (count, with_values) = match args[2..] {
        [] => (None, false),
        [count] => (Some(random_count(count)?), false),
        [count, option] => {
            let count = random_count(count)?;
            if !is(option, "withvalues") {
                return Err(syntax());
            }
            // Twice as many are sent, and Redis counts them in a long.
            if count.unsigned_abs() > i64::MAX as u64 / 2 {
                return Err(refusal("ERR value is out of range"));
            }
            (Some(count), true)
        }
        [count, ..] => return random_count(count).and(Err(syntax())),
    };
    let is_nested = context.client.protocol > 2;
    let db = context.client.db;
    context.find::<Hash>(args[1])?;
    let mut room = context.room();
    let engine = &mut *context.engine;
    let Some(hash) = engine.dbs[db].held(args[1]).and_then(Hash::of) else {
        return Ok(if count.is_some() { Reply::Array(Vec::new()) } else { Reply::Null });
    };
    let average = hash.bytes() / hash.len().max(1);
    let found = picks(&mut engine.rng, hash.len(), count.unwrap_or(1), average, &mut room)?;
    let mut found = found.into_iter().filter_map(|index| hash.at(index));
    if count.is_none() {
        return Ok(Reply::maybe(found.next().map(|(field, _)| field)));
    }
    Ok(Reply::Array(match (with_values, is_nested) {
        (false, _) => found.map(|(field, _)| Reply::bulk(field)).collect(),
        (true, false) => found.flat_map(|(field, value)| [Reply::bulk(field), Reply::bulk(value)]).collect(),
        (true, true) => {
            found.map(|(field, value)| Reply::Array(vec![Reply::bulk(field), Reply::bulk(value)])).collect()
        }
    }))
}

/// A count of random elements: any but the one that has no positive twin.
pub(crate) fn random_count(arg: &[u8]) -> Result<i64, Refusal> {
    let count = crate::args::int(arg).ok_or_else(not_an_integer)?;
    if count == i64::MIN {
        let text = format!("ERR value is out of range, value must between {} and {}", -i64::MAX, i64::MAX);
        return Err(refusal(text));
    }
    Ok(count)
}

fn hscan(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let cursor = scan::cursor(args[2])?;
    let Some(hash) = context.find::<Hash>(args[1])? else { return Ok(scan::reply(0, Vec::new())) };
    let scan = Scan::parse(&args[3..], false)?;
    let (range, next) = if hash.is_large() { scan.walk(cursor, hash.len()) } else { (0..hash.len(), 0) };
    let fields = range.filter_map(|index| hash.at(index)).filter(|(field, _)| scan.takes(field));
    Ok(scan::reply(next, fields.flat_map(|(field, value)| [Reply::bulk(field), Reply::bulk(value)]).collect()))
}
