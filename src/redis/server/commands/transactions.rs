//! Transactions: commands that are queued and then run as one step, unless a key that was watched has changed.

use std::sync::atomic::Ordering::Relaxed;

use crate::args::refusal;
use crate::client::{Client, Transaction};
use crate::clock::unix_us;
use crate::command::{Args, Command, Context, flag::*, resolve, run};
use crate::reply::Reply;
use crate::slowlog;

const NO_KEYS: (i32, i32, i32) = (0, 0, 0);
const GROUP: &str = "transactions";

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "multi", arity: 1, flags: NOSCRIPT | FAST | ALLOW_BUSY, keys: NO_KEYS, group: GROUP, run: multi },
    Command { name: "exec", arity: 1, flags: NOSCRIPT, keys: NO_KEYS, group: GROUP, run: exec },
    Command {
        name: "discard",
        arity: 1,
        flags: NOSCRIPT | FAST | ALLOW_BUSY,
        keys: NO_KEYS,
        group: GROUP,
        run: discard,
    },
    Command {
        name: "watch",
        arity: -2,
        flags: NOSCRIPT | FAST | ALLOW_BUSY,
        keys: (1, -1, 1),
        group: GROUP,
        run: watch,
    },
    Command {
        name: "unwatch",
        arity: 1,
        flags: NOSCRIPT | FAST | ALLOW_BUSY,
        keys: NO_KEYS,
        group: GROUP,
        run: unwatch,
    },
];

fn multi(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    if context.client.transaction.is_some() {
        return Err(refusal("ERR MULTI calls can not be nested"));
    }
    context.client.transaction = Some(Transaction::default());
    Ok(Reply::OK)
}

fn exec(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    if context.client.transaction.is_none() {
        return Err(refusal("ERR EXEC without MULTI"));
    }
    let is_stale = is_stale(context);
    let Some(transaction) = end(context) else { return Ok(Reply::NullArray) };
    if transaction.is_spoiled {
        return Err(refusal("EXECABORT Transaction discarded because of previous errors."));
    }
    if is_stale {
        return Ok(Reply::NullArray);
    }
    context.client.in_exec = true;
    let replies = transaction.commands.into_iter().map(|args| one(context, &args)).collect();
    context.client.in_exec = false;
    Ok(Reply::Array(replies))
}

fn one(context: &mut Context<'_>, args: &[Vec<u8>]) -> Reply {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let command = match resolve(&args) {
        Ok(command) => command,
        Err(refusal) => return refusal,
    };
    let begun_us = unix_us();
    let reply = run(context, command, &args);
    context.client.command = command.name;
    slowlog::took(context, &args, unix_us() - begun_us);
    context.client.command = "exec";
    reply
}

/// Whether a key that the client watches has changed, or expired.
fn is_stale(context: &mut Context<'_>) -> bool {
    let Context { engine, client } = context;
    for (db, key) in &client.watching {
        // Expiry is a change, and is noticed by looking.
        engine.peek(*db, key);
    }
    client.is_stale.load(Relaxed)
}

fn discard(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    end(context).ok_or_else(|| refusal("ERR DISCARD without MULTI"))?;
    Ok(Reply::OK)
}

/// The transaction ends, and all watching with it.
pub(crate) fn end(context: &mut Context<'_>) -> Option<Transaction> {
    let transaction = context.client.transaction.take()?;
    stop_watching(context);
    Some(transaction)
}

fn watch(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if context.client.transaction.is_some() {
        return Err(refusal("ERR WATCH inside MULTI is not allowed"));
    }
    let Context { engine, client } = context;
    let db = client.db;
    for key in &args[1..] {
        // What has expired already is gone before it is watched, and its end is no change.
        engine.peek(db, key);
        if client.watching.insert((db, (*key).into())) {
            engine.watch(db, key, &client.is_stale);
        }
    }
    Ok(Reply::OK)
}

fn unwatch(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    stop_watching(context);
    Ok(Reply::OK)
}

/// Forgets what is watched and what became of it.
pub(crate) fn stop_watching(context: &mut Context<'_>) {
    let Context { engine, client } = context;
    for (db, key) in client.watching.drain() {
        engine.unwatch(db, &key, &client.is_stale);
    }
    client.is_stale.store(false, Relaxed);
    client.stops_watching = false;
}

/// A command was refused before it ran: the transaction in which it stands will not happen. What the client is told; of EXEC it
/// is that, whether there was a transaction or not.
pub(crate) fn refused(client: &mut Client, command: Option<&Command>, reply: Reply) -> Reply {
    if let Some(transaction) = &mut client.transaction {
        transaction.is_spoiled = true;
    }
    match reply {
        Reply::Error(text) if command.is_some_and(|command| command.name == "exec") => {
            // The engine may be out of reach.
            client.stops_watching |= client.transaction.take().is_some();
            let why = text.strip_prefix("ERR ").unwrap_or(&text);
            refusal(format!("EXECABORT Transaction discarded because of: {why}"))
        }
        other => other,
    }
}
