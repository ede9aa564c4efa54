//! A measured distribution of service times.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use super::error::FileError;
use super::table::{Row, Table};

/// A distribution in bins, cumulative as Prometheus has it: each line counts all requests up to its bound.
///
/// A CSV file with the header `le_ms,count`. A last line with the bound `+Inf` may repeat the count before it, but not
/// exceed it: nobody knows how long those ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// At least one, in order; the last counts all, and not none.
    pub bins: Vec<Bin>,
}

/// One bin: from the bound before it, or 0, to its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Its upper bound.
    pub le: Duration,
    /// Requests in this bin and all before it. A fraction is fine: what `rate()` gives has them.
    pub upto: f64,
}

const HEADER: &[&str] = &["le_ms", "count"];

/// A microsecond to a day.
const BOUNDS_MS: (f64, f64) = (0.001, 86_400_000.0);

impl Histogram {
    /// Reads a histogram.
    ///
    /// # Errors
    ///
    /// The file cannot be read, a line of it is malformed, or it counts nothing.
    pub fn read(path: &Path) -> Result<Histogram, FileError> {
        Histogram::of(Table::open(path, HEADER)?, path)
    }

    pub(crate) fn of<R: BufRead>(mut table: Table<R>, path: &Path) -> Result<Histogram, FileError> {
        let mut bins: Vec<Bin> = Vec::new();
        let mut ended = false;
        while let Some(row) = table.next()? {
            if ended {
                return Err(row.about(0, "comes after +Inf", "sort the lines by le_ms"));
            }
            row.no_more("write two values a line")?;
            let before = bins.last().copied();
            let upto = count(&row, before)?;
            match bound(&row, before)? {
                Some(le) => bins.push(Bin { le, upto }),
                None => {
                    ended = true;
                    if upto > before.map_or(0.0, |before| before.upto) {
                        let remedy = "add a line with a bound that all requests are under";
                        return Err(row.about(1, "counts requests above every bound", remedy));
                    }
                }
            }
        }
        match bins.last() {
            Some(last) if last.upto > 0.0 => Ok(Histogram { bins }),
            _ => Err(FileError::whole(path, "counts no request", "add lines with a count above 0")),
        }
    }
}

/// The bound of a row; None for +Inf.
fn bound(row: &Row<'_>, before: Option<Bin>) -> Result<Option<Duration>, FileError> {
    let written = row.text(0)?;
    if written == "+Inf" {
        return Ok(None);
    }
    let range = "write milliseconds, from 0.001 to 86400000 (a day), or +Inf in the last line";
    let ms = written.parse().ok().filter(|ms| (BOUNDS_MS.0..=BOUNDS_MS.1).contains(ms));
    let le = Duration::from_nanos((ms.ok_or_else(|| row.about(0, "is not a bound", range))? * 1e6 + 0.5) as u64);
    if before.is_some_and(|before| le <= before.le) {
        return Err(row.about(0, "is not above the line before", "sort the lines by le_ms, each bound once"));
    }
    Ok(Some(le))
}

fn count(row: &Row<'_>, before: Option<Bin>) -> Result<f64, FileError> {
    // 2^53: as far as every whole number is one.
    let number = row.text(1)?.parse().ok().filter(|count| (0.0..=9_007_199_254_740_992.0).contains(count));
    let count = number.ok_or_else(|| row.about(1, "is not a count", "write a number from 0 to 2^53"))?;
    if before.is_some_and(|before| count < before.upto) {
        let remedy = "counts are cumulative, as Prometheus has them: add to each what came before";
        return Err(row.about(1, "is less than in the line before", remedy));
    }
    Ok(count)
}
