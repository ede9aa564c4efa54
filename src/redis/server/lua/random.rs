//! `math.random` and `math.randomseed`: the generator of POSIX's `lrand48`, which is Redis's, so that a script which seeds
//! it draws the same numbers here as there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mlua::{Lua, MultiValue, Table};

use super::raised::Raised;

const FACTOR: u64 = 0x5_deec_e66d;
const SUMMAND: u64 = 0xb;
const BITS: u64 = (1 << 48) - 1;
/// The lowest bits after seeding.
const LOW: u64 = 0x330e;

pub(super) fn functions(lua: &Lua, seed: u64) -> mlua::Result<Table> {
    let state = Arc::new(AtomicU64::new(seed & BITS));
    let seeded = state.clone();
    let functions = lua.create_table()?;
    functions.set("random", lua.create_function(move |lua, args: MultiValue| random(lua, &args, &state))?)?;
    functions.set(
        "randomseed",
        lua.create_function(move |lua, args: MultiValue| {
            let seed = integer(lua, &args, 0, "randomseed")?;
            seeded.store((u64::from(seed.cast_unsigned()) << 16) | LOW, Relaxed);
            Ok(())
        })?,
    )?;
    Ok(functions)
}

fn random(lua: &Lua, args: &MultiValue, state: &AtomicU64) -> mlua::Result<f64> {
    let next = state.load(Relaxed).wrapping_mul(FACTOR).wrapping_add(SUMMAND) & BITS;
    state.store(next, Relaxed);
    let most = f64::from(i32::MAX);
    let part = ((next >> 17) % i32::MAX as u64) as f64 / most;
    let (low, high) = match args.len() {
        0 => return Ok(part),
        1 => (1, integer(lua, args, 0, "random")?),
        2 => (integer(lua, args, 0, "random")?, integer(lua, args, 1, "random")?),
        _ => return Err(Raised::text(lua, "wrong number of arguments")),
    };
    if low > high {
        return Err(Raised::argument(lua, args.len(), "random", "interval is empty"));
    }
    let width = f64::from(high) - f64::from(low) + 1.0;
    Ok((part * width).floor() + f64::from(low))
}

fn integer(lua: &Lua, args: &MultiValue, at: usize, function: &str) -> mlua::Result<i32> {
    let number = match args.get(at) {
        Some(value) => lua.coerce_number(value.clone())?,
        None => None,
    };
    // As a cast does it in C: what is beyond 32 bits is cut off.
    number.map(|number| number as i64 as i32).ok_or_else(|| {
        let got = args.get(at).map_or("no value", |value| value.type_name());
        Raised::argument(lua, at + 1, function, &format!("number expected, got {got}"))
    })
}

#[cfg(test)]
mod tests {
    use crate::lua::tests::Caller;

    /// A script that seeds its draws and is compared with the same one on Redis would choose other pods. This would catch
    /// a generator that differs: the first draws after `randomseed(10)` as lrand48 has them after srand48(10).
    #[test]
    fn a_seeded_script_draws_what_it_draws_on_redis() {
        let mut caller = Caller::new();
        let draws =
            "math.randomseed(10) return math.random(1000000) .. ' ' .. math.random(10, 20) .. ' ' .. math.random(7)";
        let first = caller.text(draws);
        assert_eq!(first, caller.text(draws));
        assert_eq!(first, DRAWN);
        assert_ne!(caller.text("return tostring(math.random())"), caller.text("return tostring(math.random())"));
        assert!(caller.text("math.random(0)").contains("bad argument #1 to 'random' (interval is empty)"));
    }

    /// What redis-server 7.0.15 answers.
    const DRAWN: &str = "878852 18 4";
}
