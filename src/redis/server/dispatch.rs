//! A command from a socket: what holds for these alone stands here (transactions are filled and scripts run past it).

use crate::args::{refusal, wrong_arity};
use crate::command::{Args, Context, flag, lookup, run, unknown};
use crate::reply::Reply;

/// Runs one command of the client, or queues it, or refuses it.
pub(crate) fn dispatch(context: &mut Context<'_>, args: Args<'_>) -> Reply {
    let reply = match lookup(args[0]) {
        None => Err(unknown(args)),
        Some(command) if !command.takes(args.len()) => Err(wrong_arity(command.name)),
        Some(command) if !context.client.is_authenticated && !command.has(flag::NO_AUTH) => {
            Err(refusal("NOAUTH Authentication required."))
        }
        Some(command) => Ok(command),
    };
    match reply {
        Ok(command) => run(context, command, args),
        Err(refusal) => {
            context.client.is_spoiled = true;
            refusal
        }
    }
}
