//! Errors that functions in Rust raise in Lua.
//!
//! `mlua` raises a value of its own kind. Whoever catches it (`plain` in the prelude) turns it into what Redis would have
//! raised: a table with `err` for what commands refuse, text for what libraries do.

use mlua::{Lua, Value};

/// What is raised.
#[derive(Debug)]
pub(super) enum Raised {
    /// An error reply.
    Reply(String),
    /// A library's complaint.
    Text(String),
}

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Raised::Reply(text) | Raised::Text(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Raised {}

impl Raised {
    pub(super) fn reply(text: String) -> mlua::Error {
        mlua::Error::external(Raised::Reply(text))
    }

    /// With the place of whoever called the function that raises it, as Lua's own libraries have it.
    pub(super) fn text(lua: &Lua, text: &str) -> mlua::Error {
        let place =
            lua.inspect_stack(1, |debug| Some(format!("{}:{}: ", debug.source().short_src?, debug.current_line()?)));
        mlua::Error::external(Raised::Text(place.flatten().unwrap_or_default() + text))
    }

    /// A wrong argument, the `at`-th one of `function`.
    pub(super) fn argument(lua: &Lua, at: usize, function: &str, problem: &str) -> mlua::Error {
        Raised::text(lua, &format!("bad argument #{at} to '{function}' ({problem})"))
    }
}

/// A caught value, as Redis would have raised it.
pub(super) fn unwrapped(lua: &Lua, value: Value) -> mlua::Result<Value> {
    let Value::Error(error) = &value else { return Ok(value) };
    match error.downcast_ref::<Raised>() {
        Some(Raised::Reply(text)) => super::convert::error(lua, text),
        Some(Raised::Text(text)) => Ok(Value::String(lua.create_string(text)?)),
        None => Ok(Value::String(lua.create_string(plain(error))?)),
    }
}

/// The first line, without what `mlua` says of the stack.
fn plain(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => plain(cause),
        mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => text.clone(),
        other => other.to_string(),
    }
}
