//! A command from a socket: what holds for these alone stands here. Transactions are filled here; their commands, and those
//! of scripts, run past it.

use crate::args::{refusal, wrong_arity};
use crate::client::Transaction;
use crate::command::{Args, Command, Context, flag, resolve, run};
use crate::commands::transactions;
use crate::reply::Reply;

/// What an argument takes in a transaction beside its bytes.
const PER_ARGUMENT: usize = 40;

/// Runs one command of the client, or queues it, or refuses it.
pub(crate) fn dispatch(context: &mut Context<'_>, args: Args<'_>) -> Reply {
    if context.client.stops_watching {
        transactions::stop_watching(context);
    }
    if is_http(args[0]) {
        context.client.is_leaving = true;
        return Reply::Silent;
    }
    let found = resolve(args);
    let known = found.as_ref().ok().copied();
    let allowed = found.and_then(|command| is_allowed(context, command, args).map(|()| command));
    match allowed {
        Ok(command) => {
            context.client.command = command.name;
            match &mut context.client.transaction {
                Some(transaction) if !runs_at_once(command) => queue(transaction, command, args),
                _ => run(context, command, args),
            }
        }
        Err(refusal) => {
            let refusal = transactions::refused(context.client, known, refusal);
            context.engine.stats.refused(known, &refusal);
            refusal
        }
    }
}

/// A page in a browser can have it send a request to any port, and put commands into its body: Redis ends a connection that
/// speaks so, and says nothing.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

fn is_allowed(context: &mut Context<'_>, command: &Command, args: Args<'_>) -> Result<(), Reply> {
    if !command.takes(args.len()) {
        return Err(wrong_arity(command.name));
    }
    if !context.client.is_authenticated && !command.has(flag::NO_AUTH) {
        return Err(refusal("NOAUTH Authentication required."));
    }
    if context.client.transaction.is_some() && command.has(flag::NO_MULTI) {
        return Err(refusal("ERR Command not allowed inside a transaction"));
    }
    if context.engine.is_full() && takes_memory(context, command) {
        return Err(out_of_memory());
    }
    Ok(())
}

/// As Redis says that `maxmemory` is reached.
pub(crate) fn out_of_memory() -> Reply {
    refusal("OOM command not allowed when used memory > 'maxmemory'.")
}

/// A transaction takes memory by being queued, whatever it consists of.
fn takes_memory(context: &Context<'_>, command: &Command) -> bool {
    match &context.client.transaction {
        Some(transaction) if command.name == "exec" => transaction.flags & flag::DENYOOM != 0,
        Some(_) => !runs_at_once(command) && command.name != "unwatch",
        None => command.has(flag::DENYOOM),
    }
}

fn runs_at_once(command: &Command) -> bool {
    matches!(command.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

fn queue(transaction: &mut Transaction, command: &Command, args: Args<'_>) -> Reply {
    // What will not be executed need not be kept.
    if !transaction.is_spoiled {
        transaction.flags |= command.flags;
        transaction.bytes += args.iter().map(|arg| arg.len() + PER_ARGUMENT).sum::<usize>();
        transaction.commands.push(args.iter().map(|arg| arg.to_vec()).collect());
    }
    Reply::Status("QUEUED".into())
}
