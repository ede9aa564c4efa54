//! A value that cannot be: one line with its name, what was written, and what to write instead.

use std::fmt;

/// A value that no world can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = `{value}` {problem}: {remedy}")]
pub struct BadValue {
    /// The option, as it is written.
    pub field: &'static str,
    /// What it was given.
    pub value: String,
    /// Why not.
    pub problem: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

impl BadValue {
    /// Says that `field` cannot be `value`.
    pub fn new(field: &'static str, value: impl fmt::Display, problem: &'static str, remedy: &'static str) -> BadValue {
        BadValue { field, value: value.to_string(), problem, remedy }
    }
}

/// `number` if it lies in `low..=high`, both of which `remedy` should name.
pub(crate) fn within(
    field: &'static str,
    number: f64,
    (low, high): (f64, f64),
    remedy: &'static str,
) -> Result<(), BadValue> {
    if (low..=high).contains(&number) {
        return Ok(());
    }
    // 1e300 in words that fit a line.
    let value = if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") };
    Err(BadValue::new(field, value, "is out of range", remedy))
}
