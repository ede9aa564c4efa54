//! Replies as values of Lua, and values of Lua as replies.
//!
//! Both ways follow the protocol that the script chose (`redis.setresp`), not the one that its caller speaks: in RESP2 a
//! script sees `false` where there is nothing and flat lists for maps; in RESP3 `nil`, and tables that name their kind
//! (`{map = ..}`, `{double = ..}`). A number that a script returns loses its fraction; a list ends at its first `nil`.

use mlua::{Either, IntoLua, Lua, LuaString, Table, Value};

use crate::args;
use crate::reply::Reply;

/// Replies that a script returns are nested no deeper: this thread's stack has an end, here and where they are encoded.
const DEEPEST: usize = 256;

/// What `reply` takes inside Lua, bytes, about.
pub(super) fn weight(reply: &Reply) -> usize {
    const VALUE: usize = 40;
    VALUE
        + match reply {
            Reply::Bulk(bytes) | Reply::Verbatim(_, bytes) | Reply::BigNumber(bytes) => bytes.len(),
            Reply::Status(text) | Reply::Error(text) => text.len(),
            Reply::Array(replies) | Reply::Set(replies) => replies.iter().map(weight).sum(),
            Reply::Map(pairs) => pairs.iter().map(|(key, value)| weight(key) + weight(value)).sum(),
            Reply::Int(_) | Reply::Null | Reply::NullArray | Reply::Double(_) | Reply::Bool(_) | Reply::Silent => 0,
        }
}

/// A value on its way to Lua. Text goes there directly, where it is UTF-8 as it nearly always is: `mlua` keeps no reference
/// for that, which costs as much as the string itself.
pub(super) type Answer = Either<String, Either<i64, Value>>;

/// `bytes` on their way to Lua.
pub(super) fn text<'a>(lua: &Lua, bytes: &'a [u8]) -> mlua::Result<Either<&'a str, Value>> {
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => Either::Left(text),
        Err(_) => Either::Right(Value::String(lua.create_string(bytes)?)),
    })
}

/// A list of `items` in Lua.
pub(super) fn list<T: IntoLua>(lua: &Lua, items: impl Iterator<Item = mlua::Result<T>>) -> mlua::Result<Table> {
    let mut problem = None;
    // Not a `map_while`: the table is made for as many items as the iterator says that it has.
    let items = items.map(|item| item.map_err(|error| problem = Some(error)).ok());
    let table = lua.create_sequence_from(items)?;
    problem.map_or(Ok(table), Err)
}

/// `reply` as a script sees it.
pub(super) fn to_lua(lua: &Lua, reply: Reply, protocol: u8) -> mlua::Result<Answer> {
    Ok(match reply {
        Reply::Int(number) => Either::Right(Either::Left(number)),
        Reply::Bulk(bytes) => bytes_to_lua(lua, bytes)?,
        Reply::Array(replies) => value(Value::Table(array(lua, replies, protocol)?)),
        reply if protocol >= 3 => to_lua_3(lua, reply)?,
        Reply::Status(text) => value(named(lua, "ok", text.as_ref())?),
        Reply::Error(text) => value(error(lua, &text)?),
        Reply::Null | Reply::NullArray | Reply::Silent => value(Value::Boolean(false)),
        Reply::Map(pairs) => {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]).collect();
            value(Value::Table(array(lua, flat, protocol)?))
        }
        Reply::Set(members) => value(Value::Table(array(lua, members, protocol)?)),
        Reply::Double(number) => Either::Left(args::shown(number)),
        Reply::Bool(truth) => Either::Right(Either::Left(truth.into())),
        Reply::BigNumber(bytes) | Reply::Verbatim(_, bytes) => bytes_to_lua(lua, bytes)?,
    })
}

/// The same for what RESP3 tells apart.
fn to_lua_3(lua: &Lua, reply: Reply) -> mlua::Result<Answer> {
    Ok(value(match reply {
        Reply::Null | Reply::NullArray | Reply::Silent => Value::Nil,
        Reply::Map(pairs) => {
            let table = lua.create_table_with_capacity(0, pairs.len())?;
            for (key, value) in pairs {
                table.raw_set(to_lua(lua, key, 3)?, to_lua(lua, value, 3)?)?;
            }
            named(lua, "map", table)?
        }
        Reply::Set(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for member in members {
                table.raw_set(to_lua(lua, member, 3)?, true)?;
            }
            named(lua, "set", table)?
        }
        Reply::Double(number) => named(lua, "double", number)?,
        Reply::Bool(truth) => Value::Boolean(truth),
        Reply::BigNumber(digits) => named(lua, "big_number", bytes_to_lua(lua, digits)?)?,
        Reply::Verbatim(format, bytes) => {
            let table = lua.create_table_with_capacity(0, 2)?;
            table.raw_set("format", format)?;
            table.raw_set("string", bytes_to_lua(lua, bytes)?)?;
            named(lua, "verbatim_string", table)?
        }
        other => return to_lua(lua, other, 2),
    }))
}

fn value(value: Value) -> Answer {
    Either::Right(Either::Right(value))
}

fn bytes_to_lua(lua: &Lua, bytes: Vec<u8>) -> mlua::Result<Answer> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Either::Left(text)),
        Err(error) => Ok(value(Value::String(lua.create_string(error.as_bytes())?))),
    }
}

fn named(lua: &Lua, name: &str, value: impl IntoLua) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(name, value)?;
    Ok(Value::Table(table))
}

fn array(lua: &Lua, replies: Vec<Reply>, protocol: u8) -> mlua::Result<Table> {
    list(lua, replies.into_iter().map(|reply| to_lua(lua, reply, protocol)))
}

/// An error as scripts see it, with a code whatever it says.
pub(super) fn error(lua: &Lua, text: &str) -> mlua::Result<Value> {
    let text = text.trim_matches(['\r', '\n']);
    let table = lua.create_table_with_capacity(0, 4)?;
    if text.contains(' ') {
        table.raw_set("err", text)?;
    } else {
        table.raw_set("err", format!("ERR {text}"))?;
    }
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// Values of Lua as replies. It holds the names by which tables tell their kind, so that asking for them makes no strings.
pub(super) struct Replies {
    err: LuaString,
    ok: LuaString,
    double: LuaString,
    big_number: LuaString,
    verbatim: LuaString,
    map: LuaString,
    set: LuaString,
}

impl Replies {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Replies> {
        Ok(Replies {
            err: lua.create_string("err")?,
            ok: lua.create_string("ok")?,
            double: lua.create_string("double")?,
            big_number: lua.create_string("big_number")?,
            verbatim: lua.create_string("verbatim_string")?,
            map: lua.create_string("map")?,
            set: lua.create_string("set")?,
        })
    }

    /// What a script returned, as its caller gets it.
    pub(super) fn of(&self, value: &Value, protocol: u8) -> Reply {
        self.at(value, protocol, 0)
    }

    fn at(&self, value: &Value, protocol: u8, depth: usize) -> Reply {
        match value {
            Value::String(text) => Reply::bulk(text.as_bytes()),
            Value::Integer(number) => Reply::Int(*number),
            Value::Number(number) => Reply::Int(truncated(*number)),
            Value::Boolean(truth) if protocol >= 3 => Reply::Bool(*truth),
            Value::Boolean(true) => Reply::Int(1),
            Value::Table(_) if depth >= DEEPEST => Reply::error("ERR reached lua stack limit"),
            Value::Table(table) => {
                let answer = self.table(table, protocol, depth + 1);
                answer.unwrap_or_else(|error| Reply::error(format!("ERR {}", line(error.to_string().as_bytes()))))
            }
            _ => Reply::Null,
        }
    }

    /// A table: of a kind that it names, else a list. Asked for in Redis's order.
    fn table(&self, table: &Table, protocol: u8, depth: usize) -> mlua::Result<Reply> {
        if let Value::String(text) = table.raw_get(&self.err)? {
            return Ok(Reply::error(line(&text.as_bytes())));
        }
        if let Value::String(text) = table.raw_get(&self.ok)? {
            return Ok(Reply::Status(line(&text.as_bytes()).into()));
        }
        if let Some(number) = number(&table.raw_get(&self.double)?) {
            return Ok(Reply::Double(number));
        }
        if let Value::String(digits) = table.raw_get(&self.big_number)? {
            return Ok(Reply::BigNumber(line(&digits.as_bytes()).into_bytes()));
        }
        if let Value::Table(verbatim) = table.raw_get(&self.verbatim)?
            && let Value::String(format) = verbatim.raw_get("format")?
            && let Value::String(text) = verbatim.raw_get("string")?
        {
            let format = if &*format.as_bytes() == b"mkd" { "mkd" } else { "txt" };
            return Ok(Reply::Verbatim(format, text.as_bytes().to_vec()));
        }
        if let Value::Table(map) = table.raw_get(&self.map)? {
            let pairs = map.pairs::<Value, Value>().map(|pair| {
                let (key, value) = pair?;
                Ok((self.at(&key, protocol, depth), self.at(&value, protocol, depth)))
            });
            return Ok(Reply::Map(pairs.collect::<mlua::Result<_>>()?));
        }
        if let Value::Table(set) = table.raw_get(&self.set)? {
            let members = set.pairs::<Value, Value>().map(|pair| Ok(self.at(&pair?.0, protocol, depth)));
            return Ok(Reply::Set(members.collect::<mlua::Result<_>>()?));
        }
        self.list(table, protocol, depth)
    }

    fn list(&self, table: &Table, protocol: u8, depth: usize) -> mlua::Result<Reply> {
        let mut replies = Vec::new();
        for index in 1i64.. {
            match table.raw_get(index)? {
                Value::Nil => break,
                value => replies.push(self.at(&value, protocol, depth)),
            }
        }
        Ok(Reply::Array(replies))
    }
}

/// A number that is one, and no text that reads like one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// As a cast does it in C on the machines that Redis runs on.
fn truncated(number: f64) -> i64 {
    let is_in_range = (-9223372036854775808.0..9223372036854775808.0).contains(&number);
    if is_in_range { number as i64 } else { i64::MIN }
}

/// Text that stands on one line of the protocol.
pub(super) fn line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
}
