//! Numbers as C prints them: Lua, cjson and Redis's own conversion each say `%g` with a precision of theirs.

use std::fmt::Write;

/// `printf("%.*g", precision, number)`; `precision` is at least 1.
pub(super) fn general(number: f64, precision: usize, out: &mut String) {
    if !number.is_finite() {
        let text = if number.is_nan() { "nan" } else { "inf" };
        out.push_str(if number.is_sign_negative() { "-" } else { "" });
        out.push_str(text);
        return;
    }
    if number.fract() == 0.0 && number.abs() < 1e15 && (number.abs() < 10f64.powi(precision as i32)) {
        out.push_str(if number == 0.0 && number.is_sign_negative() { "-" } else { "" });
        out.push_str(itoa::Buffer::new().format(number as i64));
        return;
    }
    let scientific = format!("{number:.*e}", precision - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        out.push_str(shorn(digits));
        // Writing to a String does not fail.
        let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    } else {
        let decimals = (precision as i32 - 1 - exponent) as usize;
        out.push_str(shorn(&format!("{number:.decimals$}")));
    }
}

/// Without the zeros at the end of a fraction.
fn shorn(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A score that comes out of a script with one digit too many or too few is another key or another load. This would
    /// catch it: what C's printf says of the same numbers, by hand.
    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        let cases: &[(f64, usize, &str)] = &[
            (0.0, 17, "0"),
            (-0.0, 17, "-0"),
            (3.0, 17, "3"),
            (0.1, 17, "0.10000000000000001"),
            (0.1, 14, "0.1"),
            (9007199254740991.0, 17, "9007199254740991"),
            (9007199254740991.0, 14, "9.007199254741e+15"),
            (1e17, 17, "1e+17"),
            (12039611435714932082.0, 17, "1.2039611435714933e+19"),
            (123456789012345.0, 14, "1.2345678901234e+14"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (1e100, 14, "1e+100"),
            (-1234.5, 3, "-1.23e+03"),
            (99.96, 3, "100"),
            (f64::INFINITY, 14, "inf"),
            (f64::NEG_INFINITY, 14, "-inf"),
        ];
        for (number, precision, expected) in cases {
            let mut text = String::new();
            general(*number, *precision, &mut text);
            assert_eq!(&text, expected, "{number:?} with {precision}");
        }
    }
}
