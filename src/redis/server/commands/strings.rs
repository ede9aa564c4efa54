//! Strings and counters.

use crate::args::{syntax, wrong_type};
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::Reply;
use crate::value::Value;

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "get", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "string", run: get },
    Command { name: "set", arity: -3, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "string", run: set },
];

fn get(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    match context.get(args[1]).map(|entry| &entry.value) {
        None => Ok(Reply::Null),
        Some(Value::Str(text)) => Ok(Reply::bulk(&text.bytes)),
        Some(_) => Err(wrong_type()),
    }
}

fn set(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if args.len() > 3 {
        return Err(syntax());
    }
    context.put(args[1], args[2].to_vec(), None);
    Ok(Reply::OK)
}
