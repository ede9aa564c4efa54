//! The server as a whole: databases, the clock, what keys take, and what took long.

use crate::args::{Refusal, integer, is, refusal, syntax};
use crate::command::{Args, Command, Context, contained, flag::*};
use crate::commands::connection::database;
use crate::commands::docs;
use crate::engine::DATABASES;
use crate::reply::Reply;

const NO_KEYS: (i32, i32, i32) = (0, 0, 0);

const fn part(
    name: &'static str,
    arity: i32,
    flags: u32,
    run: fn(&mut Context<'_>, Args<'_>) -> Result<Reply, Reply>,
) -> Command {
    Command { name, arity, flags, keys: NO_KEYS, group: "server", run }
}

pub(crate) const COMMANDS: &[Command] = &[
    part("time", 1, FAST, time),
    part("dbsize", 1, READONLY | FAST, db_size),
    part("flushdb", -1, WRITE, flush_db),
    part("flushall", -1, WRITE, flush_all),
    part("swapdb", 3, WRITE | FAST, swap_db),
    part("memory", -2, CONTAINER, contained),
    Command { name: "memory|usage", arity: -3, flags: READONLY, keys: (2, 2, 1), group: "server", run: memory_usage },
    part("memory|help", 2, 0, memory_help),
    part("slowlog", -2, CONTAINER | ADMIN, contained),
    part("slowlog|get", -2, ADMIN, slowlog_get),
    part("slowlog|len", 2, ADMIN, slowlog_len),
    part("slowlog|reset", 2, ADMIN, slowlog_reset),
    part("slowlog|help", 2, 0, slowlog_help),
];

fn time(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    let us = context.engine.now_us;
    Ok(Reply::Array(vec![Reply::bulk((us / 1_000_000).to_string()), Reply::bulk((us % 1_000_000).to_string())]))
}

fn db_size(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    let db = context.client.db;
    Ok(Reply::count(context.engine.dbs[db].len()))
}

/// `ASYNC` and `SYNC` are both taken; nobody waits for memory to be given back here.
fn check_flush_options(args: Args<'_>) -> Result<(), Reply> {
    match args {
        [_] => Ok(()),
        [_, how] if is(how, "SYNC") || is(how, "ASYNC") => Ok(()),
        _ => Err(syntax()),
    }
}

fn flush_db(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    check_flush_options(args)?;
    let db = context.client.db;
    context.engine.flush(db);
    Ok(Reply::OK)
}

fn flush_all(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    check_flush_options(args)?;
    (0..DATABASES).for_each(|db| context.engine.flush(db));
    Ok(Reply::OK)
}

fn swap_db(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let index = |arg, which| integer(arg).map_err(|_| refusal(format!("ERR invalid {which} DB index")));
    let (first, second) = (index(args[1], "first")?, index(args[2], "second")?);
    let (first, second) = (database(first)?, database(second)?);
    context.engine.swap(first, second);
    Ok(Reply::OK)
}

/// What is counted for a key, with its place in the table. `SAMPLES` is taken and not needed.
fn memory_usage(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    match &args[3..] {
        [] => {}
        [option, count] if is(option, "SAMPLES") => {
            if integer(count)? < 0 {
                return Err(syntax());
            }
        }
        _ => return Err(syntax()),
    }
    let db = context.client.db;
    let bytes = context.engine.peek(db, args[2]).map(|entry| entry.counted_bytes + size_of_val(entry));
    Ok(bytes.map_or(Reply::Null, Reply::count))
}

fn memory_help(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(docs::help("memory"))
}

fn slowlog_get(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let most = match &args[2..] {
        [] => 10,
        [count] => match integer(count).map_err(|_| too_few())? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| too_few())?,
        },
        _ => return Err(docs::unknown_part("slowlog", args[1])),
    };
    let slow = context.engine.slowlog.entries.iter().take(most).map(|slow| {
        Reply::Array(vec![
            Reply::Int(slow.id as i64),
            Reply::Int(slow.at_s),
            Reply::Int(slow.us),
            Reply::Array(slow.args.iter().map(Reply::bulk).collect()),
            Reply::bulk(slow.addr.map(|addr| addr.to_string()).unwrap_or_default()),
            Reply::bulk(&slow.name),
        ])
    });
    Ok(Reply::Array(slow.collect()))
}

fn too_few() -> Refusal {
    refusal("ERR count should be greater than or equal to -1")
}

fn slowlog_len(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(context.engine.slowlog.entries.len()))
}

fn slowlog_reset(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    context.engine.slowlog.entries.clear();
    Ok(Reply::OK)
}

fn slowlog_help(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(docs::help("slowlog"))
}
