//! EVAL and its kin, and SCRIPT. What they mean stands in [`crate::lua`].

use crate::args::{integer, is, refusal};
use crate::command::{Args, Command, Context, flag::*};
use crate::lua::{self, Call, Script, Unkilled, digest_of_hex, hex_of_digest};
use crate::reply::Reply;

const EVAL: u32 = NOSCRIPT | MOVABLEKEYS;

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "eval", arity: -3, flags: EVAL, keys: (0, 0, 0), group: "scripting", run: eval },
    Command { name: "eval_ro", arity: -3, flags: EVAL | READONLY, keys: (0, 0, 0), group: "scripting", run: eval_ro },
    Command { name: "evalsha", arity: -3, flags: EVAL, keys: (0, 0, 0), group: "scripting", run: evalsha },
    Command {
        name: "evalsha_ro",
        arity: -3,
        flags: EVAL | READONLY,
        keys: (0, 0, 0),
        group: "scripting",
        run: evalsha_ro,
    },
    Command {
        name: "script",
        arity: -2,
        flags: NOSCRIPT | ALLOW_BUSY,
        keys: (0, 0, 0),
        group: "scripting",
        run: script,
    },
];

fn eval(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    run(context, args, Script::Text(args[1]), false)
}

fn eval_ro(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    run(context, args, Script::Text(args[1]), true)
}

fn evalsha(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    run(context, args, by_digest(args)?, false)
}

fn evalsha_ro(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    run(context, args, by_digest(args)?, true)
}

fn by_digest<'a>(args: Args<'a>) -> Result<Script<'a>, Reply> {
    let digest = digest_of_hex(args[1]);
    digest.map(Script::Digest).ok_or_else(|| refusal("NOSCRIPT No matching script. Please use EVAL."))
}

fn run(context: &mut Context<'_>, args: Args<'_>, script: Script<'_>, is_readonly: bool) -> Result<Reply, Reply> {
    let count = integer(args[2])?;
    let rest = &args[3..];
    if count < 0 {
        return Err(refusal("ERR Number of keys can't be negative"));
    }
    let too_many = || refusal("ERR Number of keys can't be greater than number of args");
    let count = usize::try_from(count).map_err(|_| too_many())?;
    let (keys, args) = rest.split_at_checked(count).ok_or_else(too_many)?;
    lua::run(context, &Call { script, keys, args, is_readonly })
}

fn script(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let what = args[1];
    match args.len() {
        2 if is(what, "help") => Ok(Reply::Array(HELP.iter().map(|line| Reply::Status((*line).into())).collect())),
        2 if is(what, "kill") => kill(context.engine.scripts.watch()),
        2 if is(what, "flush") => flush(context),
        3 if is(what, "flush") && (is(args[2], "sync") || is(args[2], "async")) => flush(context),
        _ if is(what, "flush") => Err(refusal("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
        3 if is(what, "load") => Ok(Reply::bulk(hex_of_digest(&lua::load(context, args[2])?))),
        3.. if is(what, "exists") => {
            let has = |hex: &&[u8]| digest_of_hex(hex).is_some_and(|digest| context.engine.scripts.has(&digest));
            Ok(Reply::Array(args[2..].iter().map(|hex| Reply::from(has(hex))).collect()))
        }
        3 if is(what, "debug") => Err(refusal("ERR SCRIPT DEBUG is not supported")),
        _ => Err(refusal(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try SCRIPT HELP.",
            String::from_utf8_lossy(&what[..what.len().min(128)]).replace(['\r', '\n'], " ")
        ))),
    }
}

fn flush(context: &mut Context<'_>) -> Result<Reply, Reply> {
    context.engine.scripts.flush();
    Ok(Reply::OK)
}

/// SCRIPT KILL, which needs no lock: the script that it is about has it.
pub(crate) fn kill(watch: &lua::Watch) -> Result<Reply, Reply> {
    match watch.kill() {
        Ok(()) => Ok(Reply::OK),
        Err(Unkilled::NoneRuns) => Err(refusal("NOTBUSY No scripts in execution right now.")),
        Err(Unkilled::HasWritten) => Err(refusal(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        )),
    }
}

const HELP: &[&str] = &[
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache. Both modes do the same here.",
    "KILL",
    "    Kill the currently executing Lua script.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "HELP",
    "    Print this help.",
];
