//! What the prelude is given of Rust.

use std::sync::Arc;

use mlua::{Lua, LuaString, MultiValue, Table, Value};

use super::call::{self, Shared};
use super::raised::{self, Raised};
use super::watch::Watch;
use super::{Limits, bits, digest_of_text, hex_of_digest, json, msgpack, pattern, random};

/// Redis's version, as scripts ask for it.
const VERSION: (&str, u32) = ("7.0.15", 0x0007_000f);

pub(super) fn functions(
    lua: &Lua,
    shared: &Shared,
    watch: &Arc<Watch>,
    limits: Limits,
    seed: u64,
) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    let run = shared.clone();
    native.set("call", lua.create_function(move |lua, args: MultiValue| call::call(lua, &args, &run, true))?)?;
    let run = shared.clone();
    native.set("pcall", lua.create_function(move |lua, args: MultiValue| call::call(lua, &args, &run, false))?)?;
    let run = shared.clone();
    native.set("setresp", lua.create_function(move |_, args: MultiValue| run.run().set_protocol(&args))?)?;
    native.set("acl_check_cmd", lua.create_function(|_, args: MultiValue| call::may(&args))?)?;
    native.set("sha1hex", lua.create_function(sha1hex)?)?;
    native.set("log", lua.create_function(log)?)?;
    native.set("version", VERSION.0)?;
    native.set("version_number", VERSION.1)?;

    let over = watch.clone();
    native.set("is_over", lua.create_function(move |_, ()| Ok(over.end().is_some()))?)?;
    native.set("position", lua.create_function(|lua, ()| Ok(position(lua)))?)?;
    native.set("unwrapped", lua.create_function(raised::unwrapped)?)?;

    let watched = watch.clone();
    native.set("find", lua.create_function(move |lua, args| pattern::find(lua, args, &watched))?)?;
    native.set("find_plain", lua.create_function(pattern::find_plain)?)?;
    native.set("math", random::functions(lua, seed)?)?;
    let libraries = lua.create_table()?;
    libraries.set("bit", bits::library(lua)?)?;
    libraries.set("cjson", json::library(lua, limits.memory_bytes, watch)?)?;
    libraries.set("cmsgpack", msgpack::library(lua, limits.memory_bytes, watch)?)?;
    native.set("libraries", libraries)?;
    Ok(native)
}

fn sha1hex(lua: &Lua, args: MultiValue) -> mlua::Result<String> {
    let text = match (args.len(), args.front()) {
        (1, Some(value)) => lua.coerce_string(value.clone())?,
        _ => None,
    };
    let text = text.ok_or_else(|| Raised::reply("ERR wrong number of arguments".into()))?;
    Ok(hex_of_digest(&digest_of_text(&text.as_bytes())))
}

fn log(_: &Lua, (level, text): (Value, LuaString)) -> mlua::Result<()> {
    let text = text.to_string_lossy();
    match level.as_i64() {
        Some(0) => tracing::debug!(text, "a script says"),
        Some(1 | 2) => tracing::info!(text, "a script says"),
        _ => tracing::warn!(text, "a script says"),
    }
    Ok(())
}

/// Where the script is: the innermost function that is its own.
fn position(lua: &Lua) -> (Option<String>, Option<usize>) {
    for level in 1..64 {
        let place = lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let is_other =
                source.what != "Lua" && source.what != "main" || source.source.as_deref() == Some("=sandbox");
            (!is_other).then(|| (source.source.map(std::borrow::Cow::into_owned), debug.current_line()))
        });
        match place {
            None => break,
            Some(Some(place)) => return place,
            Some(None) => {}
        }
    }
    (None, None)
}
