//! What is answered while a script runs for too long: it has the engine's lock, so what is here does without.

use crate::args::{refusal, wrong_arity};
use crate::client::{Client, Transaction};
use crate::command::{Args, flag, resolve};
use crate::commands::{scripting, transactions};
use crate::lua::Watch;
use crate::reply::Reply;

/// The answer to `args`; none where the command is to wait for the end of the script.
pub(crate) fn answer(client: &mut Client, args: Args<'_>, watch: &Watch) -> Option<Reply> {
    let found = resolve(args);
    let known = found.as_ref().ok().copied();
    let refused = match found {
        Err(unknown) => unknown,
        Ok(command) if !command.takes(args.len()) => wrong_arity(command.name),
        Ok(command) if !client.is_authenticated && !command.has(flag::NO_AUTH) => {
            refusal("NOAUTH Authentication required.")
        }
        Ok(command) if command.has(flag::ALLOW_BUSY) => return allowed(client, command.name, args, watch),
        Ok(_) => refusal("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
    };
    Some(transactions::refused(client, known, refused))
}

fn allowed(client: &mut Client, name: &str, args: Args<'_>, watch: &Watch) -> Option<Reply> {
    match name {
        "script" if args[1].eq_ignore_ascii_case(b"kill") => {
            Some(scripting::kill(watch).unwrap_or_else(|refused| refused))
        }
        "quit" => {
            client.is_leaving = true;
            Some(Reply::OK)
        }
        "multi" if client.transaction.is_none() => {
            client.transaction = Some(Transaction::default());
            Some(Reply::OK)
        }
        _ => None,
    }
}
