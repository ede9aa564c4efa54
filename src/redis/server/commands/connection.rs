//! Greetings, passwords, the database, and goodbyes.

use std::hint::black_box;

use crate::args::{int, integer, is, refusal, syntax, wrong_arity};
use crate::client::Wants;
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::clients::{call, checked_name};
use crate::commands::transactions;
use crate::engine::DATABASES;
use crate::reply::Reply;

const NO_KEYS: (i32, i32, i32) = (0, 0, 0);
const GROUP: &str = "connection";
/// What may be sent before AUTH.
const FIRST: u32 = NOSCRIPT | FAST | NO_AUTH | ALLOW_BUSY;

/// The Redis whose commands, replies and errors these are; clients decide by it what they may use.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "ping", arity: -1, flags: FAST, keys: NO_KEYS, group: GROUP, run: ping },
    Command { name: "echo", arity: 2, flags: FAST, keys: NO_KEYS, group: GROUP, run: echo },
    Command { name: "hello", arity: -1, flags: FIRST, keys: NO_KEYS, group: GROUP, run: hello },
    Command { name: "auth", arity: -2, flags: FIRST, keys: NO_KEYS, group: GROUP, run: auth },
    Command { name: "select", arity: 2, flags: FAST, keys: NO_KEYS, group: GROUP, run: select },
    Command { name: "quit", arity: -1, flags: FIRST, keys: NO_KEYS, group: GROUP, run: quit },
    Command { name: "reset", arity: 1, flags: FIRST, keys: NO_KEYS, group: GROUP, run: reset },
];

fn ping(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    match args {
        [_] => Ok(Reply::Status("PONG".into())),
        [_, text] => Ok(Reply::bulk(text)),
        _ => Err(wrong_arity("ping")),
    }
}

fn echo(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::bulk(args[1]))
}

fn hello(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let protocol = match args.get(1) {
        None => context.client.protocol,
        Some(arg) => match int(arg) {
            Some(2) => 2,
            Some(3) => 3,
            Some(_) => return Err(refusal("NOPROTO unsupported protocol version")),
            None => return Err(refusal("ERR Protocol version is not an integer or out of range")),
        },
    };
    let mut name = None;
    let mut rest = args.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            [] => break,
            [option, user, password, rest @ ..] if is(option, "AUTH") => {
                log_in(context, user, password)?;
                rest
            }
            [option, said, rest @ ..] if is(option, "SETNAME") => {
                name = Some(checked_name("Client names", said)?);
                rest
            }
            [option, ..] => {
                let option = String::from_utf8_lossy(option);
                return Err(refusal(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        };
    }
    if !context.client.is_authenticated {
        return Err(refusal(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call(context, name);
    }
    context.client.protocol = protocol;
    Ok(greeting(context))
}

fn greeting(context: &Context<'_>) -> Reply {
    let pair = |name: &str, value| (Reply::bulk(name), value);
    Reply::Map(vec![
        pair("server", Reply::bulk("redis")),
        pair("version", Reply::bulk(REDIS_VERSION)),
        pair("proto", Reply::Int(context.client.protocol.into())),
        pair("id", Reply::Int(context.client.id as i64)),
        pair("mode", Reply::bulk("standalone")),
        pair("role", Reply::bulk("master")),
        pair("modules", Reply::Array(Vec::new())),
    ])
}

fn auth(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    match args {
        [_, _] if context.engine.settings.requirepass.is_empty() => Err(refusal(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        [_, password] => log_in(context, b"default", password),
        [_, user, password] => log_in(context, user, password),
        _ => Err(syntax()),
    }
}

/// There is one user, called `default`; without a password set, any will do, as in Redis.
fn log_in(context: &mut Context<'_>, user: &[u8], password: &[u8]) -> Result<Reply, Reply> {
    let secret = &context.engine.settings.requirepass;
    if user != b"default" || !(secret.is_empty() || is_same(secret, password)) {
        return Err(refusal("WRONGPASS invalid username-password pair or user is disabled."));
    }
    context.client.is_authenticated = true;
    Ok(Reply::OK)
}

/// Takes a time that depends on what was said alone, so that nobody finds out letter by letter how the secret begins.
fn is_same(secret: &[u8], said: &[u8]) -> bool {
    let differs = said.iter().enumerate().fold(0, |differs, (index, byte)| {
        let at = index % secret.len();
        black_box(differs | (byte ^ secret[at]))
    });
    differs == 0 && secret.len() == said.len()
}

fn select(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let index = integer(args[1])?;
    context.client.db = database(index)?;
    Ok(Reply::OK)
}

/// The number of a database, if there is such a one.
pub(crate) fn database(index: i64) -> Result<usize, Reply> {
    let index = usize::try_from(index).ok().filter(|index| *index < DATABASES);
    index.ok_or_else(|| refusal("ERR DB index is out of range"))
}

fn quit(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    context.client.is_leaving = true;
    Ok(Reply::OK)
}

/// As if the connection were new.
fn reset(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    transactions::end(context);
    transactions::stop_watching(context);
    call(context, Vec::new());
    let client = &mut *context.client;
    (client.db, client.protocol, client.wants) = (0, 2, Wants::All);
    client.is_authenticated = context.engine.settings.requirepass.is_empty();
    Ok(Reply::Status("RESET".into()))
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn a_password_is_right_only_as_a_whole() {
        // Story: the comparison walks around the secret, so what repeats it, or is a part of it, must not pass for it.
        assert!(is_same(b"secret", b"secret"));
        for said in [&b""[..], b"s", b"secre", b"secretsecret", b"secrets", b"Secret"] {
            assert!(!is_same(b"secret", said), "{said:?}");
        }
    }
}
