//! Strings that are numbers.

use crate::args::{Refusal, integer, not_a_float, not_an_integer, refusal};
use crate::command::{Args, Command, Context, flag::*};
use crate::extended::Extended;
use crate::reply::Reply;
use crate::value::{Form, Text};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "incr", arity: 2, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: incr },
    Command { name: "decr", arity: 2, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: decr },
    Command { name: "incrby", arity: 3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: incrby },
    Command { name: "decrby", arity: 3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: decrby },
    Command {
        name: "incrbyfloat",
        arity: 3,
        flags: WRITE | DENYOOM | FAST,
        keys: (1, 1, 1),
        group: "string",
        run: incrbyfloat,
    },
];

fn incr(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    add(context, args[1], 1)
}

fn decr(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    add(context, args[1], -1)
}

fn incrby(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    add(context, args[1], integer(args[2])?)
}

fn decrby(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let by = integer(args[2])?.checked_neg().ok_or_else(|| refusal("ERR decrement would overflow"))?;
    add(context, args[1], by)
}

fn add(context: &mut Context<'_>, key: &[u8], by: i64) -> Result<Reply, Reply> {
    let Some(text) = context.find_mut::<Text>(key)? else {
        context.put(key, itoa::Buffer::new().format(by).as_bytes().to_vec(), None);
        return Ok(Reply::Int(by));
    };
    let sum = sum(&text.bytes, by, not_an_integer)?;
    text.bytes.clear();
    text.bytes.extend_from_slice(itoa::Buffer::new().format(sum).as_bytes());
    text.form = Form::Whole;
    context.changed(key);
    Ok(Reply::Int(sum))
}

/// The number that `text` is, and `by` more. HINCRBY has its own words for what is not one.
pub(crate) fn sum(text: &[u8], by: i64, not_a_number: fn() -> Refusal) -> Result<i64, Refusal> {
    let number = crate::args::int(text).ok_or_else(not_a_number)?;
    number.checked_add(by).ok_or_else(|| refusal("ERR increment or decrement would overflow"))
}

fn incrbyfloat(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let key = args[1];
    let text = context.find_mut::<Text>(key)?;
    let sum = sum_float(text.as_ref().map_or(b"0", |text| &text.bytes), args[2], not_a_float)?;
    match text {
        Some(text) => {
            *text = Text::new(sum.clone(), Form::Computed);
            context.changed(key);
        }
        None => context.put(key, Text::new(sum.clone(), Form::Computed), None),
    }
    Ok(Reply::Bulk(sum))
}

/// As [`sum`], for numbers with a fraction.
pub(crate) fn sum_float(text: &[u8], by: &[u8], not_a_number: fn() -> Refusal) -> Result<Vec<u8>, Refusal> {
    let number = Extended::parse(text).ok_or_else(not_a_number)?;
    let by = Extended::parse(by).ok_or_else(not_a_float)?;
    let sum = number.plus(&by).ok_or_else(|| refusal("ERR increment would produce NaN or Infinity"))?;
    Ok(sum.to_string().into_bytes())
}
