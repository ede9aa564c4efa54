//! `bit`: operations on 32 bits, as LuaBitOp has them and Redis with it.

use mlua::{Lua, MultiValue, Table};

use super::raised::Raised;

/// Added to a double, it leaves the number's lowest 32 bits as the lowest of the sum's: 2^52 + 2^51.
const SHIFTED: f64 = 6755399441055744.0;

type Unary = fn(u32) -> u32;
type Binary = fn(u32, u32) -> u32;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let unary: [(&'static str, Unary); 3] =
        [("tobit", |bits| bits), ("bnot", |bits| !bits), ("bswap", u32::swap_bytes)];
    for (name, f) in unary {
        library.set(name, lua.create_function(move |lua, args| Ok(signed(f(bits(lua, &args, 0, name)?))))?)?;
    }
    let folds: [(&'static str, Binary); 3] = [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, f) in folds {
        let fold = move |lua: &Lua, args: MultiValue| {
            let first = bits(lua, &args, 0, name)?;
            let rest =
                (1..args.len()).try_fold(first, |sum, at| Ok::<_, mlua::Error>(f(sum, bits(lua, &args, at, name)?)));
            Ok(signed(rest?))
        };
        library.set(name, lua.create_function(fold)?)?;
    }
    let shifts: [(&'static str, Binary); 5] = [
        ("lshift", |bits, by| bits << by),
        ("rshift", |bits, by| bits >> by),
        ("arshift", |bits, by| (bits.cast_signed() >> by).cast_unsigned()),
        ("rol", u32::rotate_left),
        ("ror", u32::rotate_right),
    ];
    for (name, f) in shifts {
        let shift = move |lua: &Lua, args: MultiValue| {
            Ok(signed(f(bits(lua, &args, 0, name)?, bits(lua, &args, 1, name)? & 31)))
        };
        library.set(name, lua.create_function(shift)?)?;
    }
    library.set("tohex", lua.create_function(tohex)?)?;
    Ok(library)
}

fn tohex(lua: &Lua, args: MultiValue) -> mlua::Result<String> {
    let number = bits(lua, &args, 0, "tohex")?;
    let digits = if args.len() < 2 { 8 } else { signed(bits(lua, &args, 1, "tohex")?) };
    let width = digits.unsigned_abs().min(8) as usize;
    let hex = if digits < 0 { format!("{number:08X}") } else { format!("{number:08x}") };
    Ok(hex[8 - width..].to_string())
}

fn signed(bits: u32) -> i32 {
    bits.cast_signed()
}

fn bits(lua: &Lua, args: &MultiValue, at: usize, function: &str) -> mlua::Result<u32> {
    let number = match args.get(at) {
        Some(value) => lua.coerce_number(value.clone())?,
        None => None,
    };
    match number {
        Some(number) => Ok((number + SHIFTED).to_bits() as u32),
        None => {
            let got = args.get(at).map_or("no value", |value| value.type_name());
            Err(Raised::argument(lua, at + 1, function, &format!("number expected, got {got}")))
        }
    }
}
