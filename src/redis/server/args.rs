//! Arguments as numbers and options, with Redis's own words for what is wrong.

use std::borrow::Cow;
use std::ops::Range;

use crate::command::Args;
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

/// An integer from `least` on, or a refusal that says `otherwise`.
pub(crate) fn at_least(arg: &[u8], least: i64, otherwise: &'static str) -> Result<usize, Refusal> {
    let number = int(arg).filter(|number| *number >= least).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| refusal(otherwise))
}

/// A count that is not negative.
pub(crate) fn positive(arg: &[u8]) -> Result<usize, Refusal> {
    at_least(arg, 0, "ERR value is out of range, must be positive")
}

/// The keys that the first of `args` counts, and what stands behind them.
pub(crate) fn counted_keys(args: Args<'_>) -> Result<(Args<'_>, Args<'_>), Refusal> {
    let (count, rest) = args.split_first().ok_or_else(syntax)?;
    rest.split_at_checked(at_least(count, 1, "ERR numkeys should be greater than 0")?).ok_or_else(syntax)
}

/// How many elements `COUNT count` wants at most: one, where it is not there.
pub(crate) fn most(options: Args<'_>) -> Result<usize, Refusal> {
    match options {
        [] => Ok(1),
        [option, count, rest @ ..] if is(option, "count") => {
            let count = at_least(count, 1, "ERR count should be greater than 0")?;
            if rest.is_empty() { Ok(count) } else { Err(syntax()) }
        }
        _ => Err(syntax()),
    }
}

/// What the indexes `start` to `end` (that one too) mean in `len` elements, negative ones from the end.
pub(crate) fn span(start: i64, end: i64, len: usize) -> Range<usize> {
    let from_end = |index: i64| if index < 0 { index.saturating_add(len as i64) } else { index };
    let (start, end) = (from_end(start).max(0) as usize, from_end(end).saturating_add(1).max(0) as usize);
    if start < end.min(len) { start..end.min(len) } else { 0..0 }
}

/// A number as Redis reads it (`strtod` without spaces): `inf`, `-inf`, exponents and `0x1p4` too, never NaN, and none that is
/// too large or too small for a double.
pub(crate) fn float(arg: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(arg).ok()?;
    let number = any_float(text)?;
    let mantissa = text.split(['e', 'E', 'p', 'P']).next().unwrap_or_default();
    let is_overflow = number.is_infinite() && mantissa.bytes().any(|byte| byte.is_ascii_digit());
    let is_underflow = number == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    (!is_overflow && !is_underflow).then_some(number)
}

/// The same, where what is too large is infinite and what is too small is zero.
pub(crate) fn any_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) else {
        return text.parse().ok().filter(|number: &f64| !number.is_nan());
    };
    let number = hexadecimal(digits)?;
    Some(if text.starts_with('-') { -number } else { number })
}

/// `1A`, `.8p3`, without a sign and a prefix. What a double cannot hold of many digits is rounded.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P']).unwrap_or((text, "0"));
    // So far from it every mantissa of a request's length is infinite or zero.
    let mut exponent = exponent.parse::<i64>().ok()?.clamp(-1 << 40, 1 << 40);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut mantissa: u64 = 0;
    for (place, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if place >= whole.len() { 4 } else { 0 };
        } else {
            // The last bit stands for all that follow: it decides between two halves.
            mantissa |= u64::from(digit > 0);
            exponent += if place < whole.len() { 4 } else { 0 };
        }
    }
    let mut number = mantissa as f64;
    // In steps, as the power of two alone may be too large or too small where the product is not.
    while exponent != 0 && number != 0.0 && number.is_finite() {
        let step = exponent.clamp(-1000, 1000);
        number *= 2f64.powi(step as i32);
        exponent -= step;
    }
    Some(number)
}

/// Whether `arg` is the option `name`, in any case.
pub(crate) fn is(arg: &[u8], name: &str) -> bool {
    arg.eq_ignore_ascii_case(name.as_bytes())
}

/// A double as Redis prints it in replies (`%.17g`): `3`, `3.1000000000000001`, `1e+20`, `inf`.
pub(crate) fn shown(number: f64) -> String {
    // A whole number that has no more than 17 digits is printed as one.
    if number.fract() == 0.0 && number.abs() < 1e17 {
        return if number == 0.0 && number.is_sign_negative() { "-0".into() } else { (number as i64).to_string() };
    }
    if !number.is_finite() {
        return if number.is_nan() { "nan" } else { if number > 0.0 { "inf" } else { "-inf" } }.into();
    }
    let text = format!("{:.16e}", number.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let sign = if number < 0.0 { "-" } else { "" };
    match exponent {
        // Whole numbers are printed above: there are digits on both sides.
        0..17 => {
            let (whole, fraction) = digits.split_at(exponent as usize + 1);
            format!("{sign}{whole}.{fraction}")
        }
        -4..0 => format!("{sign}0.{}{digits}", "0".repeat(-exponent as usize - 1)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let direction = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{first}{point}{rest}e{direction}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{float, shown};

    /// A caller compares a score as text with what Redis told it: every digit must be the same, as printf has them.
    #[test]
    fn doubles_are_printed_with_seventeen_digits_as_redis_prints_them() {
        for (number, text) in [
            (3.0, "3"),
            (-17.5, "-17.5"),
            (3.1, "3.1000000000000001"),
            (0.1, "0.10000000000000001"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (-0.0, "-0"),
            (1e17, "1e+17"),
            (-1e20, "-1e+20"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (12_345_678_901_234_567.0, "12345678901234568"),
            (1_234_567_890.123_4, "1234567890.1234"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(shown(number), text);
        }
    }

    /// A number that a double cannot hold is no number to Redis, while Rust would take it for infinite or zero.
    #[test]
    fn numbers_too_large_or_too_small_for_a_double_are_refused() {
        assert_eq!(float(b"1e400"), None);
        assert_eq!(float(b"-1e400"), None);
        assert_eq!(float(b"1e-400"), None);
        assert_eq!(float(b"nan"), None);
        assert_eq!(float(b" 1"), None);
        assert_eq!(float(b"0e-400"), Some(0.0));
        assert_eq!(float(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(float(b"+Infinity"), Some(f64::INFINITY));
        assert_eq!(float(b"1e-310"), Some(1e-310));
        assert_eq!(float(b"0x1p1024"), None);
    }

    /// Nobody writes scores like this, but Redis's reader comes with it, and what it takes must not be refused here.
    #[test]
    fn hexadecimal_numbers_are_numbers() {
        assert_eq!(float(b"0x10"), Some(16.0));
        assert_eq!(float(b"-0X.8p3"), Some(-4.0));
        assert_eq!(float(b"0x1.8p-1"), Some(0.75));
        assert_eq!(float(b"0xffffffffffffffffffff"), Some(2f64.powi(80)));
        assert_eq!(float(b"0x1p-1074"), Some(5e-324));
        assert_eq!(float(b"0x0p99999999999"), Some(0.0));
        for wrong in ["0x", "0x.", "0xg", "0x1p", "0x1p1.5", "x10", "0x-1", "0x1.1.1"] {
            assert_eq!(float(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
