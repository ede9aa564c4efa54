//! Sets, one at a time; what is made of several is `set_algebra`.

use crate::args::{positive, syntax};
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::hash::random_count;
use crate::commands::sample::picks;
use crate::commands::scan::{self, Scan};
use crate::reply::Reply;
use crate::value::{Kind, Set, Value};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "sadd", arity: -3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "set", run: sadd },
    Command { name: "srem", arity: -3, flags: WRITE | FAST, keys: (1, 1, 1), group: "set", run: srem },
    Command { name: "sismember", arity: 3, flags: READONLY | FAST, keys: (1, 1, 1), group: "set", run: sismember },
    Command { name: "smismember", arity: -3, flags: READONLY | FAST, keys: (1, 1, 1), group: "set", run: smismember },
    Command { name: "smembers", arity: 2, flags: READONLY, keys: (1, 1, 1), group: "set", run: smembers },
    Command { name: "scard", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "set", run: scard },
    Command { name: "spop", arity: -2, flags: WRITE | FAST, keys: (1, 1, 1), group: "set", run: spop },
    Command { name: "srandmember", arity: -2, flags: READONLY, keys: (1, 1, 1), group: "set", run: srandmember },
    Command { name: "smove", arity: 4, flags: WRITE | FAST, keys: (1, 2, 1), group: "set", run: smove },
    Command { name: "sscan", arity: -3, flags: READONLY, keys: (1, 1, 1), group: "set", run: sscan },
];

fn sadd(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, members) = (args[1], &args[2..]);
    let max_ints = context.engine.settings.set_max_intset_entries;
    let Some(set) = context.find_mut::<Set>(key)? else {
        let mut set = Set::default();
        let added = members.iter().filter(|member| set.insert(member, max_ints)).count();
        context.put(key, set, None);
        return Ok(Reply::count(added));
    };
    let added = members.iter().filter(|member| set.insert(member, max_ints)).count();
    if added > 0 {
        context.changed(key);
    }
    Ok(Reply::count(added))
}

fn srem(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let Some(set) = context.find_mut::<Set>(args[1])? else { return Ok(Reply::Int(0)) };
    let removed = args[2..].iter().filter(|member| set.remove(member)).count();
    if removed > 0 {
        context.changed(args[1]);
    }
    Ok(Reply::count(removed))
}

fn smove(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (from, to, member) = (args[1], args[2], args[3]);
    if context.get(from).is_none() {
        return Ok(Reply::Int(0));
    }
    let is_there = context.find::<Set>(from)?.is_some_and(|set| set.contains(member));
    context.find::<Set>(to)?;
    if is_there && from != to {
        srem(context, &[b"srem", from, member])?;
        sadd(context, &[b"sadd", to, member])?;
    }
    Ok(is_there.into())
}

fn sismember(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(context.find::<Set>(args[1])?.is_some_and(|set| set.contains(args[2])).into())
}

fn smismember(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let set = context.find::<Set>(args[1])?;
    Ok(Reply::Array(args[2..].iter().map(|member| set.is_some_and(|set| set.contains(member)).into()).collect()))
}

fn smembers(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let members = context.find::<Set>(args[1])?.into_iter().flat_map(Set::iter);
    Ok(Reply::Set(members.map(Reply::bulk).collect()))
}

fn scard(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(context.find::<Set>(args[1])?.map_or(0, Set::len)))
}

fn spop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let count = match args[2..] {
        [] => None,
        [count] => Some(positive(count)?),
        _ => return Err(syntax()),
    };
    let (key, db) = (args[1], context.client.db);
    context.find::<Set>(key)?;
    let mut room = context.room();
    let engine = &mut *context.engine;
    let none = if count.is_some() { Reply::Set(Vec::new()) } else { Reply::Null };
    let Some(Value::Set(set)) = engine.dbs[db].held_mut(key) else { return Ok(none) };
    let wanted = i64::try_from(count.unwrap_or(1)).unwrap_or(i64::MAX);
    let found = picks(&mut engine.rng, set.len(), wanted, 0, &mut room)?;
    let members: Vec<Vec<u8>> = found.into_iter().filter_map(|index| set.at(index)).map(Into::into).collect();
    if members.is_empty() {
        return Ok(none);
    }
    for member in &members {
        set.remove(member);
    }
    context.changed(key);
    let mut members = members.into_iter().map(Reply::Bulk);
    Ok(if count.is_some() { Reply::Set(members.collect()) } else { members.next().unwrap_or(none) })
}

fn srandmember(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let count = match args[2..] {
        [] => None,
        [count] => Some(random_count(count)?),
        _ => return Err(syntax()),
    };
    let (key, db) = (args[1], context.client.db);
    context.find::<Set>(key)?;
    let mut room = context.room();
    let engine = &mut *context.engine;
    let Some(set) = engine.dbs[db].held(key).and_then(Set::of) else {
        return Ok(if count.is_some() { Reply::Array(Vec::new()) } else { Reply::Null });
    };
    let average = set.bytes() / set.len().max(1);
    let found = picks(&mut engine.rng, set.len(), count.unwrap_or(1), average, &mut room)?;
    let mut members = found.into_iter().filter_map(|index| set.at(index)).map(Reply::bulk);
    Ok(if count.is_some() { Reply::Array(members.collect()) } else { members.next().unwrap_or(Reply::Null) })
}

fn sscan(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let cursor = scan::cursor(args[2])?;
    let Some(set) = context.find::<Set>(args[1])? else { return Ok(scan::reply(0, Vec::new())) };
    let scan = Scan::parse(&args[3..], false)?;
    let (range, next) = if set.is_large() { scan.walk(cursor, set.len()) } else { (0..set.len(), 0) };
    let members = range.filter_map(|index| set.at(index)).filter(|member| scan.takes(member));
    Ok(scan::reply(next, members.map(Reply::bulk).collect()))
}
