//! Greetings, names and goodbyes.

use crate::args::{integer, refusal};
use crate::command::{Args, Command, Context, flag::*};
use crate::engine::DATABASES;
use crate::reply::Reply;

const NO_KEYS: (i32, i32, i32) = (0, 0, 0);

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "ping", arity: -1, flags: FAST, keys: NO_KEYS, group: "connection", run: ping },
    Command { name: "echo", arity: 2, flags: FAST, keys: NO_KEYS, group: "connection", run: echo },
    Command { name: "select", arity: 2, flags: FAST, keys: NO_KEYS, group: "connection", run: select },
    Command {
        name: "quit",
        arity: -1,
        flags: ALLOW_BUSY | NOSCRIPT | FAST | NO_AUTH,
        keys: NO_KEYS,
        group: "connection",
        run: quit,
    },
];

fn ping(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    match args {
        [_] => Ok(Reply::Status("PONG".into())),
        [_, text] => Ok(Reply::bulk(text)),
        _ => Err(refusal("ERR wrong number of arguments for 'ping' command")),
    }
}

fn echo(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::bulk(args[1]))
}

fn select(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let index = integer(args[1]).map_err(|_| refusal("ERR invalid DB index"))?;
    context.client.db = usize::try_from(index)
        .ok()
        .filter(|index| *index < DATABASES)
        .ok_or_else(|| refusal("ERR DB index is out of range"))?;
    Ok(Reply::OK)
}

fn quit(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    context.client.is_leaving = true;
    Ok(Reply::OK)
}
