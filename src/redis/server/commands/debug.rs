//! DEBUG, of which there is what tests ask of a server that they did not start. Off unless its owner switches it on.

use std::time::Duration;

use crate::args::{float, refusal};
use crate::clock;
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::Reply;

pub(crate) const COMMANDS: &[Command] =
    &[Command { name: "debug", arity: -2, flags: ADMIN | NOSCRIPT, keys: (0, 0, 0), group: "server", run: debug }];

/// DEBUG SLEEP holds everybody up for so long at most, s.
const LONGEST_S: f64 = 10.0;

fn debug(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if !context.engine.settings.has_debug {
        return Err(refusal(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
             local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        ));
    }
    match (args[1].to_ascii_lowercase().as_slice(), &args[2..]) {
        (b"set-active-expire", [is_on]) => context.engine.expires_actively = *is_on != b"0",
        (b"sleep", [seconds]) => {
            let seconds = float(seconds).unwrap_or(0.0).clamp(0.0, LONGEST_S);
            clock::hold(Duration::from_secs_f64(seconds));
        }
        (b"object", [key]) => return object(context, key),
        (b"protocol", [kind]) => return protocol(kind),
        _ => {
            let what = String::from_utf8_lossy(args[1]);
            let text = format!("ERR unknown subcommand or wrong number of arguments for '{what}'. Try DEBUG HELP.");
            return Err(refusal(text));
        }
    }
    Ok(Reply::OK)
}

fn object(context: &mut Context<'_>, key: &[u8]) -> Result<Reply, Reply> {
    let (db, now_ms) = (context.client.db, context.now_ms());
    let entry = context.engine.peek(db, key).ok_or_else(|| refusal("ERR no such key"))?;
    let idle_s = (now_ms - entry.used_ms).max(0) / 1000;
    let (encoding, bytes, used_s) = (entry.value.encoding(), entry.counted_bytes, entry.used_ms / 1000);
    let text = format!(
        "Value at:{entry:p} refcount:1 encoding:{encoding} serializedlength:{bytes} lru:{used_s} lru_seconds_idle:{idle_s}"
    );
    Ok(Reply::Status(text.into()))
}

/// One reply of each kind.
fn protocol(kind: &[u8]) -> Result<Reply, Reply> {
    Ok(match kind.to_ascii_lowercase().as_slice() {
        b"string" => Reply::bulk("Hello World"),
        b"integer" => Reply::Int(12345),
        b"double" => Reply::Double(f64::from(3141) / 1000.0),
        b"null" => Reply::Null,
        b"array" => Reply::Array((0..3).map(Reply::Int).collect()),
        b"set" => Reply::Set((0..3).map(Reply::Int).collect()),
        b"map" => Reply::Map((0..3).map(|index| (Reply::Int(index), Reply::Bool(index == 1))).collect()),
        b"verbatim" => Reply::Verbatim("txt", b"This is a verbatim\nstring".to_vec()),
        b"true" => Reply::Bool(true),
        b"false" => Reply::Bool(false),
        _ => {
            return Err(refusal(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|null|array|set|map|verbatim|true|false",
            ));
        }
    })
}
