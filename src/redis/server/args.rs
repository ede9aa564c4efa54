//! Arguments as numbers and options, with Redis's own words for what is wrong.

use std::borrow::Cow;

use crate::reply::Reply;

/// What a command answers where it cannot do what it was asked: always a [`Reply::Error`].
pub(crate) type Refusal = Reply;

pub(crate) fn syntax() -> Refusal {
    Reply::error("ERR syntax error")
}

pub(crate) fn not_an_integer() -> Refusal {
    Reply::error("ERR value is not an integer or out of range")
}

pub(crate) fn not_a_float() -> Refusal {
    Reply::error("ERR value is not a valid float")
}

pub(crate) fn wrong_type() -> Refusal {
    Reply::error("WRONGTYPE Operation against a key holding the wrong kind of value")
}

pub(crate) fn wrong_arity(command: &str) -> Refusal {
    Reply::error(format!("ERR wrong number of arguments for '{}' command", command.to_lowercase()))
}

/// An error from a text that begins with its code.
pub(crate) fn refusal(text: impl Into<Cow<'static, str>>) -> Refusal {
    Reply::error(text)
}

/// An argument as it stands in an error: one line of text.
pub(crate) fn shown_text(arg: &[u8]) -> String {
    String::from_utf8_lossy(arg).replace(['\r', '\n'], " ")
}

/// An integer as Redis reads it (`string2ll`): no sign but `-`, no leading zeros, no spaces.
pub(crate) fn int(arg: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(arg).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = match digits.as_bytes() {
        [b'0'] => text == "0",
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_plain.then(|| text.parse().ok()).flatten()
}

/// An integer, or Redis's refusal.
pub(crate) fn integer(arg: &[u8]) -> Result<i64, Refusal> {
    int(arg).ok_or_else(not_an_integer)
}

/// A number as Redis reads it (`strtod` without spaces): `inf`, `-inf` and exponents too, never NaN.
pub(crate) fn float(arg: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(arg).ok()?;
    if text.is_empty() || text.len() > 255 || text.starts_with(char::is_whitespace) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

/// Whether `arg` is the option `name`, in any case.
pub(crate) fn is(arg: &[u8], name: &str) -> bool {
    arg.eq_ignore_ascii_case(name.as_bytes())
}

/// A float as Redis prints it in replies (`%.17g`, shortest that reads back the same): `3`, `3.1`, `1e+20`, `inf`.
pub(crate) fn shown(number: f64) -> String {
    // A whole number within what an i64 and a double both hold exactly is printed as one.
    if number.fract() == 0.0 && number.abs() < 1e17 {
        return if number == 0.0 && number.is_sign_negative() { "-0".into() } else { format!("{number:.0}") };
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if number.is_nan() {
        return "nan".into();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match exponent {
        -5..=16 => format!("{number}"),
        _ => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}
