//! `cmsgpack`, as Redis has it: lua-cmsgpack 0.4. The format itself is `rmp`'s.

use mlua::{Lua, LuaString, MultiValue, Table, Value};
use rmp::Marker;
use rmp::encode::{self, ByteBuf};

use super::Watch;
use super::raised::Raised;

/// Tables nested deeper are written as nil, as cmsgpack does it to survive tables that hold themselves.
const DEEPEST_WRITTEN: usize = 16;
/// Read no deeper: this thread's stack has an end.
const DEEPEST_READ: usize = 256;
/// Tables between two looks at whether the script must end.
const EVERY: u64 = 1000;

/// Why a text is no values.
#[derive(Clone, Copy, Debug)]
enum Broken {
    TooShort,
    NoSuchFormat,
    Lua,
}

/// The module. It writes no more than `most_bytes`.
pub(super) fn library(lua: &Lua, most_bytes: usize, watch: &std::sync::Arc<Watch>) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let watch = watch.clone();
    library.set(
        "pack",
        lua.create_function(move |lua, args: MultiValue| {
            if args.is_empty() {
                return Err(Raised::argument(lua, 0, "pack", "MessagePack pack needs input."));
            }
            let mut packer = Packer { out: ByteBuf::new(), most_bytes, watch: &watch, tables: 0 };
            for value in &args {
                packer.value(value, 0).map_err(|problem| Raised::text(lua, &problem))?;
            }
            lua.create_string(packer.out.into_vec())
        })?,
    )?;
    library.set("unpack", lua.create_function(|lua, text: LuaString| unpack(lua, &text.as_bytes(), 0, 0))?)?;
    library.set(
        "unpack_one",
        lua.create_function(|lua, (text, offset): (LuaString, Option<i64>)| {
            unpack(lua, &text.as_bytes(), 1, offset.unwrap_or(0))
        })?,
    )?;
    library.set(
        "unpack_limit",
        lua.create_function(|lua, (text, limit, offset): (LuaString, i64, Option<i64>)| {
            unpack(lua, &text.as_bytes(), limit, offset.unwrap_or(0))
        })?,
    )?;
    library.set("_NAME", "cmsgpack")?;
    library.set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(library)
}

struct Packer<'a> {
    out: ByteBuf,
    most_bytes: usize,
    watch: &'a Watch,
    tables: u64,
}

impl Packer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if self.out.as_slice().len() > self.most_bytes {
            return Err("not enough memory".into());
        }
        match value {
            Value::String(text) => {
                let bytes = text.as_bytes();
                written(encode::write_str_len(&mut self.out, u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
                self.out.as_mut_vec().extend_from_slice(&bytes);
            }
            Value::Boolean(truth) => written(encode::write_bool(&mut self.out, *truth)),
            Value::Integer(number) => written(encode::write_sint(&mut self.out, *number)),
            Value::Number(number) => self.number(*number),
            Value::Table(table) if depth < DEEPEST_WRITTEN => {
                self.tables += 1;
                if self.tables.is_multiple_of(EVERY) && self.watch.must_end().is_some() {
                    return Err("the script must end".into());
                }
                return self.table(table, depth + 1).map_err(|error| error.to_string());
            }
            _ => written(encode::write_nil(&mut self.out)),
        }
        Ok(())
    }

    fn number(&mut self, number: f64) {
        if number == 0.0 {
            written(encode::write_sint(&mut self.out, 0));
        } else if f64::from(number as f32) == number {
            written(encode::write_f32(&mut self.out, number as f32));
        } else {
            written(encode::write_f64(&mut self.out, number));
        }
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let (mut most, mut items, mut is_list) = (0i64, 0i64, true);
        for pair in table.pairs::<Value, Value>() {
            items += 1;
            match pair?.0 {
                Value::Integer(index @ 1..) => most = most.max(index),
                _ => is_list = false,
            }
        }
        let count = u32::try_from(items).unwrap_or(u32::MAX);
        if is_list && most == items {
            written(encode::write_array_len(&mut self.out, count));
            for index in 1..=items {
                self.value(&table.raw_get(index)?, depth).map_err(mlua::Error::runtime)?;
            }
            return Ok(());
        }
        written(encode::write_map_len(&mut self.out, count));
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.value(&key, depth).map_err(mlua::Error::runtime)?;
            self.value(&value, depth).map_err(mlua::Error::runtime)?;
        }
        Ok(())
    }
}

fn written<T, E>(result: Result<T, E>) {
    debug_assert!(result.is_ok(), "writing to memory does not fail");
}

/// All values of `text`, or, where a limit or an offset is given, so many from there with the next offset before them.
fn unpack(lua: &Lua, text: &[u8], limit: i64, offset: i64) -> mlua::Result<MultiValue> {
    let takes_all = limit == 0 && offset == 0;
    let length = text.len();
    let (Ok(limit), Ok(from)) = (usize::try_from(limit), usize::try_from(offset)) else {
        let problem = format!("Invalid request to unpack with offset of {offset} and limit of {length}.");
        return Err(Raised::text(lua, &problem));
    };
    let Some(mut rest) = text.get(from..) else {
        return Err(Raised::text(lua, &format!("Start offset {offset} greater than input length {length}.")));
    };
    let mut values = Vec::new();
    while !rest.is_empty() && (takes_all || values.len() < limit) {
        // As many as Lua lets a function return.
        if values.len() >= 7900 {
            let problem = "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)";
            return Err(Raised::text(lua, problem));
        }
        match read(lua, &mut rest, 0) {
            Ok(value) => values.push(value),
            Err(Broken::TooShort) => return Err(Raised::text(lua, "Missing bytes in input.")),
            Err(Broken::NoSuchFormat) => return Err(Raised::text(lua, "Bad data format in input.")),
            Err(Broken::Lua) => return Err(Raised::text(lua, "not enough memory")),
        }
    }
    if !takes_all {
        let next = if rest.is_empty() { -1 } else { (length - rest.len()) as i64 };
        values.insert(0, Value::Integer(next));
    }
    Ok(MultiValue::from_vec(values))
}

fn read(lua: &Lua, rest: &mut &[u8], depth: usize) -> Result<Value, Broken> {
    let marker = rmp::decode::read_marker(rest).map_err(|_| Broken::TooShort)?;
    Ok(match marker {
        Marker::Null => Value::Nil,
        Marker::True => Value::Boolean(true),
        Marker::False => Value::Boolean(false),
        Marker::FixPos(number) => Value::Integer(number.into()),
        Marker::FixNeg(number) => Value::Integer(number.into()),
        Marker::U8 => Value::Integer(u8::from_be_bytes(taken(rest)?).into()),
        Marker::U16 => Value::Integer(u16::from_be_bytes(taken(rest)?).into()),
        Marker::U32 => Value::Integer(u32::from_be_bytes(taken(rest)?).into()),
        Marker::U64 => Value::Number(u64::from_be_bytes(taken(rest)?) as f64),
        Marker::I8 => Value::Integer(i8::from_be_bytes(taken(rest)?).into()),
        Marker::I16 => Value::Integer(i16::from_be_bytes(taken(rest)?).into()),
        Marker::I32 => Value::Integer(i32::from_be_bytes(taken(rest)?).into()),
        Marker::I64 => Value::Integer(i64::from_be_bytes(taken(rest)?)),
        Marker::F32 => Value::Number(f32::from_be_bytes(taken(rest)?).into()),
        Marker::F64 => Value::Number(f64::from_be_bytes(taken(rest)?)),
        Marker::FixStr(length) => text(lua, rest, length.into())?,
        Marker::Str8 => {
            let length = u8::from_be_bytes(taken(rest)?);
            text(lua, rest, length.into())?
        }
        Marker::Str16 => {
            let length = u16::from_be_bytes(taken(rest)?);
            text(lua, rest, length.into())?
        }
        Marker::Str32 => {
            let length = u32::from_be_bytes(taken(rest)?);
            text(lua, rest, length as usize)?
        }
        Marker::FixArray(length) => list(lua, rest, length.into(), depth + 1)?,
        Marker::Array16 => {
            let length = u16::from_be_bytes(taken(rest)?);
            list(lua, rest, length.into(), depth + 1)?
        }
        Marker::Array32 => {
            let length = u32::from_be_bytes(taken(rest)?);
            list(lua, rest, length, depth + 1)?
        }
        Marker::FixMap(length) => map(lua, rest, length.into(), depth + 1)?,
        Marker::Map16 => {
            let length = u16::from_be_bytes(taken(rest)?);
            map(lua, rest, length.into(), depth + 1)?
        }
        Marker::Map32 => {
            let length = u32::from_be_bytes(taken(rest)?);
            map(lua, rest, length, depth + 1)?
        }
        _ => return Err(Broken::NoSuchFormat),
    })
}

fn taken<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Broken> {
    let (bytes, behind) = rest.split_first_chunk::<N>().ok_or(Broken::TooShort)?;
    *rest = behind;
    Ok(*bytes)
}

fn text(lua: &Lua, rest: &mut &[u8], length: usize) -> Result<Value, Broken> {
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Broken::TooShort)?;
    *rest = behind;
    Ok(Value::String(lua.create_string(bytes).map_err(|_| Broken::Lua)?))
}

fn list(lua: &Lua, rest: &mut &[u8], length: u32, depth: usize) -> Result<Value, Broken> {
    let table = table(lua, depth)?;
    for index in 1..=length {
        table.raw_set(index, read(lua, rest, depth)?).map_err(|_| Broken::Lua)?;
    }
    Ok(Value::Table(table))
}

fn map(lua: &Lua, rest: &mut &[u8], length: u32, depth: usize) -> Result<Value, Broken> {
    let table = table(lua, depth)?;
    for _ in 0..length {
        let key = read(lua, rest, depth)?;
        let value = read(lua, rest, depth)?;
        // A key that is nil or no number is none in Lua.
        table.raw_set(key, value).map_err(|_| Broken::NoSuchFormat)?;
    }
    Ok(Value::Table(table))
}

fn table(lua: &Lua, depth: usize) -> Result<Table, Broken> {
    if depth > DEEPEST_READ {
        return Err(Broken::NoSuchFormat);
    }
    lua.create_table().map_err(|_| Broken::Lua)
}

#[cfg(test)]
mod tests {
    use crate::lua::tests::Caller;

    fn hex(caller: &mut Caller, value: &str) -> String {
        caller.text(&format!(
            "return (cmsgpack.pack({value}):gsub('.', function(c) return ('%02x'):format(c:byte()) end))"
        ))
    }

    /// What one service packs on Redis another one unpacks elsewhere. This would catch a value that is packed otherwise
    /// than lua-cmsgpack packs it, or does not come back.
    #[test]
    fn values_are_packed_as_cmsgpack_packs_them() {
        let mut caller = Caller::new();
        let cases = [
            ("0.1", "cb3fb999999999999a"),
            ("0.5", "ca3f000000"),
            ("-1099511627776", "d3ffffff0000000000"),
            ("127, 128, 65536, -32, -33", "7fcc80ce00010000e0d0df"),
            ("'abc'", "a3616263"),
            ("nil, true, false", "c0c3c2"),
            ("{1, 2}", "920102"),
            ("{a = 1}", "81a16101"),
            ("{}", "90"),
        ];
        for (value, expected) in cases {
            let packed = hex(&mut caller, value);
            assert!(packed.starts_with(expected), "{value}: {packed}");
        }
        assert_eq!(hex(&mut caller, "tostring"), "c0", "what cannot be packed is nil");
        let script = "local a = cmsgpack.pack(1, 'two', {3}) local n, v = cmsgpack.unpack_limit(a, 1, 1)
                      local all = {cmsgpack.unpack(a)} return n .. v .. #all .. all[3][1]";
        assert_eq!(caller.text(script), "5two33");
    }

    /// A text that was cut off, nests without end or holds itself must be refused in words. This would catch a crash.
    #[test]
    fn what_is_no_message_is_refused() {
        let mut caller = Caller::new();
        for (script, expected) in [
            ("return cmsgpack.unpack('\\146\\1')", "Missing bytes in input."),
            ("return cmsgpack.unpack('\\193')", "Bad data format in input."),
            ("return cmsgpack.unpack(('\\145'):rep(10000))", "Bad data format in input."),
            ("return cmsgpack.unpack_one('a', 5)", "Start offset 5 greater than input length 1."),
            ("return cmsgpack.pack()", "bad argument #0 to 'pack' (MessagePack pack needs input.)"),
        ] {
            let text = caller.text(script);
            assert!(text.contains(expected), "{script}: {text}");
        }
        assert_eq!(caller.text("local a = {} a.a = a return tostring(#cmsgpack.pack(a))"), "49");
    }
}
