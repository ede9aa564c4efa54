//! `cjson`, as Redis has it: version 2.1 of lua-cjson with its settings, rules and texts of errors.
//!
//! Not serde's, because scripts see the rules: a table is a list where its keys are whole and positive and not too sparse,
//! an empty one is an object, numbers have fourteen digits, `null` is a value of its own, and what a text is refused for is
//! said in cjson's words.

mod decode;
mod encode;

use std::sync::Arc;

use mlua::{LightUserData, Lua, MultiValue, Table, Value};
use parking_lot::Mutex;

use super::Watch;
use super::raised::Raised;

/// Nested deeper, neither side goes, whatever a script sets: this thread's stack has an end, and a level takes up to 3 KiB
/// of it. JSON of people is nested ten deep; cjson's own limit is 1000.
const DEEPEST: usize = 256;

/// How invalid numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

/// What scripts can set. It stays as they leave it, as in Redis.
#[derive(Clone, Copy, Debug)]
struct Settings {
    sparse_converts: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth: i64,
    decode_depth: i64,
    precision: i64,
    keeps_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_converts: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            keeps_buffer: true,
            encode_invalid: Invalid::Refused,
            decode_invalid: true,
        }
    }
}

/// A module `cjson` with settings of its own. It writes no more than `most_bytes`.
pub(super) fn library(lua: &Lua, most_bytes: usize, watch: &Arc<Watch>) -> mlua::Result<Table> {
    let settings = Arc::new(Mutex::new(Settings::default()));
    let library = lua.create_table()?;
    let (set, watched) = (settings.clone(), watch.clone());
    library.set(
        "encode",
        lua.create_function(move |lua, args: MultiValue| {
            let [value] = args.as_slices().0 else {
                return Err(Raised::argument(lua, 1, "encode", "expected 1 argument"));
            };
            let text = encode::encode(value, *set.lock(), most_bytes, &watched)
                .map_err(|problem| Raised::text(lua, &problem))?;
            lua.create_string(text)
        })?,
    )?;
    let set = settings.clone();
    library.set(
        "decode",
        lua.create_function(move |lua, args: MultiValue| {
            let [value] = args.as_slices().0 else {
                return Err(Raised::argument(lua, 1, "decode", "expected 1 argument"));
            };
            let Some(text) = lua.coerce_string(value.clone())? else {
                let got = format!("string expected, got {}", value.type_name());
                return Err(Raised::argument(lua, 1, "decode", &got));
            };
            decode::decode(lua, &text.as_bytes(), *set.lock())
        })?,
    )?;
    configure(lua, &library, &settings)?;
    let watch = watch.clone();
    library.set("new", lua.create_function(move |lua, ()| self::library(lua, most_bytes, &watch))?)?;
    library.set("null", LightUserData(std::ptr::null_mut()))?;
    library.set("_NAME", "cjson")?;
    library.set("_VERSION", "2.1.0")?;
    Ok(library)
}

type Shared = Arc<Mutex<Settings>>;
type Field<T> = fn(&mut Settings) -> &mut T;

/// Functions that set one thing, and answer what it is.
fn configure(lua: &Lua, library: &Table, settings: &Shared) -> mlua::Result<()> {
    let numbers: [(&'static str, i64, Field<i64>); 3] = [
        ("encode_max_depth", i32::MAX.into(), |settings| &mut settings.encode_depth),
        ("decode_max_depth", i32::MAX.into(), |settings| &mut settings.decode_depth),
        ("encode_number_precision", 14, |settings| &mut settings.precision),
    ];
    for (name, most, field) in numbers {
        let settings = settings.clone();
        let set = move |lua: &Lua, value: Value| number(lua, name, &value, 1, most, field(&mut settings.lock()));
        library.set(name, lua.create_function(set)?)?;
    }
    let switches: [(&'static str, Field<bool>); 2] = [
        ("encode_keep_buffer", |settings| &mut settings.keeps_buffer),
        ("decode_invalid_numbers", |settings| &mut settings.decode_invalid),
    ];
    for (name, field) in switches {
        let settings = settings.clone();
        let set = move |lua: &Lua, value: Value| switch(lua, name, &value, field(&mut settings.lock()));
        library.set(name, lua.create_function(set)?)?;
    }
    let shared = settings.clone();
    let sparse = move |lua: &Lua, (converts, ratio, safe): (Value, Value, Value)| {
        let (settings, name) = (&mut *shared.lock(), "encode_sparse_array");
        let most = i32::MAX.into();
        Ok((
            switch(lua, name, &converts, &mut settings.sparse_converts)?,
            number(lua, name, &ratio, 0, most, &mut settings.sparse_ratio)?,
            number(lua, name, &safe, 0, most, &mut settings.sparse_safe)?,
        ))
    };
    library.set("encode_sparse_array", lua.create_function(sparse)?)?;
    let shared = settings.clone();
    let invalid = move |lua: &Lua, value: Value| invalid(lua, &value, &mut shared.lock().encode_invalid);
    library.set("encode_invalid_numbers", lua.create_function(invalid)?)
}

fn number(lua: &Lua, function: &str, value: &Value, least: i64, most: i64, field: &mut i64) -> mlua::Result<i64> {
    if !value.is_nil() {
        let number = lua.coerce_number(value.clone())?.map(|number| number as i64);
        *field = number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            Raised::argument(lua, 1, function, &format!("expected integer between {least} and {most}"))
        })?;
    }
    Ok(*field)
}

fn switch(lua: &Lua, function: &str, value: &Value, field: &mut bool) -> mlua::Result<bool> {
    match value {
        Value::Nil => {}
        Value::Boolean(truth) => *field = *truth,
        Value::String(text) if &*text.as_bytes() == b"on" => *field = true,
        Value::String(text) if &*text.as_bytes() == b"off" => *field = false,
        _ => return Err(bad_option(lua, function, value)),
    }
    Ok(*field)
}

fn invalid(lua: &Lua, value: &Value, field: &mut Invalid) -> mlua::Result<Value> {
    match value {
        Value::String(text) if &*text.as_bytes() == b"null" => *field = Invalid::Null,
        _ => {
            let mut is_written = *field == Invalid::Written;
            if !value.is_nil() {
                switch(lua, "encode_invalid_numbers", value, &mut is_written)?;
                *field = if is_written { Invalid::Written } else { Invalid::Refused };
            }
        }
    }
    match *field {
        Invalid::Null => Ok(Value::String(lua.create_string("null")?)),
        other => Ok(Value::Boolean(other == Invalid::Written)),
    }
}

fn bad_option(lua: &Lua, function: &str, value: &Value) -> mlua::Error {
    let problem = match value {
        Value::String(text) => format!("invalid option '{}'", text.to_string_lossy()),
        other => format!("string expected, got {}", other.type_name()),
    };
    Raised::argument(lua, 1, function, &problem)
}

#[cfg(test)]
mod tests;
