//! The 80-bit floating point of x86, in which Redis adds for INCRBYFLOAT and HINCRBYFLOAT.
//!
//! Its 64 bits of mantissa show in the answers: seventeen digits after the point are printed, of which a double would
//! get the last ones wrong (0.1 + 0.2 is 0.3 here, and 0.30000000000000004 there). So the format is done in software: a number is read, added and
//! printed exactly as big integers, and rounded to 64 bits (to even) after each step. Slow next to a double, fast next to
//! a round trip; and the same text as Redis on x86, digit for digit, wherever this runs.

use std::fmt;

use num_bigint::{BigInt, BigUint, Sign};

/// A number of the 80-bit format; never NaN.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Extended {
    /// `mantissa * 2^exponent`.
    Finite {
        is_negative: bool,
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
}

/// The exponent of the last bit of the smallest number: below it nothing is kept.
const EXPONENT_MIN: i64 = -16445;
/// 2 to this is too large.
const EXPONENT_END: i64 = 16384;
/// Redis reads no number with more digits.
const TEXT_MAX: usize = 5 * 1024;
/// Digits after the point.
const SHOWN_DIGITS: usize = 17;

impl Extended {
    /// As `strtold` reads a whole text (hexadecimal too), without space before it; none where it is not a number, or one
    /// that is too large, or so small that it would be zero.
    pub(crate) fn parse(text: &[u8]) -> Option<Extended> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() < TEXT_MAX)?;
        let (is_negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if digits.eq_ignore_ascii_case("inf") || digits.eq_ignore_ascii_case("infinity") {
            return Some(Extended::Infinite);
        }
        let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let (radix, marks, digits) = hex.map_or((10, ['e', 'E'], digits), |digits| (16, ['p', 'P'], digits));
        let (digits, power) = match digits.split_once(marks) {
            Some((digits, power)) => (digits, exponent(power)?),
            None => (digits, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| text.chars().all(|char| char.is_digit(radix));
        if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let number = BigUint::parse_bytes(format!("{whole}{fraction}").as_bytes(), radix)?;
        scaled(number, fraction.len() as i64, power, radix, is_negative)
    }

    /// The sum; none where it would not be finite.
    pub(crate) fn plus(&self, other: &Extended) -> Option<Extended> {
        let (
            Extended::Finite { is_negative: a_negative, mantissa: a, exponent: a_exponent },
            Extended::Finite { is_negative: b_negative, mantissa: b, exponent: b_exponent },
        ) = (self, other)
        else {
            return None;
        };
        let exponent = (*a_exponent).min(*b_exponent);
        let signed = |is_negative: bool, mantissa: u64, shift: i64| {
            let sign = if is_negative { Sign::Minus } else { Sign::Plus };
            BigInt::from_biguint(sign, BigUint::from(mantissa)) << shift
        };
        let sum = signed(*a_negative, *a, a_exponent - exponent) + signed(*b_negative, *b, b_exponent - exponent);
        let (sign, size) = sum.into_parts();
        fit(size, exponent, false, sign == Sign::Minus)
    }
}

/// The digits behind `e`: none where they are not; what no number reaches is as good as a little less.
fn exponent(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| sign * digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40))
}

/// `number / radix^fraction_digits` times ten, or two for hexadecimal, to `power`.
fn scaled(number: BigUint, fraction_digits: i64, power: i64, radix: u32, is_negative: bool) -> Option<Extended> {
    if number.bits() == 0 {
        return Some(Extended::Finite { is_negative, mantissa: 0, exponent: 0 });
    }
    if radix == 16 {
        return fit(number, power - 4 * fraction_digits, false, is_negative);
    }
    let power = power - fraction_digits;
    // Beyond these the result is decided, and would take long to compute.
    let digits = number.bits() as i64 * 3 / 10;
    if power + digits > 5000 || power + digits < -5100 {
        return None;
    }
    let ten_to = BigUint::from(10_u8).pow(power.unsigned_abs() as u32);
    if power >= 0 {
        return fit(number * ten_to, 0, false, is_negative);
    }
    // Two bits more than are kept, so that what remains only decides a tie.
    let shift = (66 + ten_to.bits() as i64 - number.bits() as i64).max(0);
    let number = number << shift;
    let quotient = &number / &ten_to;
    let has_rest = &quotient * ten_to != number;
    fit(quotient, -shift, has_rest, is_negative)
}

/// `number * 2^exponent` and a little more where `has_rest`, rounded to even.
fn fit(number: BigUint, exponent: i64, has_rest: bool, is_negative: bool) -> Option<Extended> {
    if number.bits() == 0 && !has_rest {
        return Some(Extended::Finite { is_negative, mantissa: 0, exponent: 0 });
    }
    let dropped = (number.bits() as i64 - 64).max(EXPONENT_MIN - exponent).max(0);
    if dropped > number.bits() as i64 + 1 {
        return None;
    }
    let rounded = shifted_right(&number, dropped as u64, has_rest);
    let mut exponent = exponent + dropped;
    // Rounded up to one bit more, which is a power of two.
    let mantissa = u64::try_from(&rounded).unwrap_or_else(|_| {
        exponent += 1;
        1 << 63
    });
    let ends = exponent + i64::from(64 - mantissa.leading_zeros());
    (mantissa != 0 && ends <= EXPONENT_END).then_some(Extended::Finite { is_negative, mantissa, exponent })
}

/// `number >> bits`, rounded to the nearest, ties to even.
fn shifted_right(number: &BigUint, bits: u64, has_rest: bool) -> BigUint {
    if bits == 0 {
        return number.clone();
    }
    let kept = number >> bits;
    let is_half = number.bit(bits - 1);
    let is_more = has_rest || number.trailing_zeros().is_some_and(|zeros| zeros < bits - 1);
    if is_half && (is_more || kept.bit(0)) { kept + 1_u8 } else { kept }
}

impl fmt::Display for Extended {
    /// Without exponent, at most seventeen digits after the point, no zeros at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Extended::Finite { is_negative, mantissa, exponent } = self else { return f.write_str("inf") };
        let scaled = BigUint::from(*mantissa) * BigUint::from(10_u8).pow(SHOWN_DIGITS as u32);
        let scaled =
            if *exponent >= 0 { scaled << *exponent } else { shifted_right(&scaled, exponent.unsigned_abs(), false) };
        let digits = format!("{scaled:0>width$}", width = SHOWN_DIGITS + 1);
        let (whole, fraction) = digits.split_at(digits.len() - SHOWN_DIGITS);
        let fraction = fraction.trim_end_matches('0');
        let sign = if *is_negative && scaled.bits() > 0 { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        Extended::parse(a.as_bytes()).unwrap().plus(&Extended::parse(b.as_bytes()).unwrap()).unwrap().to_string()
    }

    /// A caller keeps fractions of seconds in Redis and compares texts. Each of these was answered by Redis 7.0.15 on x86-64.
    /// A double gets most of them wrong, and adding in decimals the third to the fifth.
    #[test]
    fn sums_end_in_the_digits_that_redis_prints() {
        for (a, b, shown) in [
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("1000.1", "0", "1000.09999999999999998"),
            ("1234.567", "0.001", "1234.56799999999999995"),
            ("123456789.123", "0.1", "123456789.22299999999813735"),
            ("1e17", "0.5", "100000000000000000.5"),
            ("3", "-3", "0"),
        ] {
            assert_eq!(sum(a, b), shown, "{a} + {b}");
        }
    }

    /// Text from outside may be anything: what strtold takes to the end is a number, the rest is refused.
    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", " 1", "1 ", "1e", "e5", ".", "-", "--1", "0x", "nan", "1e5000", "1e-5000", "1,5", "0x1p99999"]
        {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
        }
        for (text, shown) in
            [("+.5e1", "5"), ("1.", "1"), ("0x1.8p1", "3"), ("-0", "0"), ("0e99999999999999999999", "0")]
        {
            assert_eq!(sum(text, "0"), shown, "{text}");
        }
    }
}
