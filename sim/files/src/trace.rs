//! A recording of what callers asked for.

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use super::error::{FileError, shown};
use super::table::{Row, Table};

/// Requests as they came, in order: what node asked what model for how much and when, and how long it ran.
///
/// A CSV file with the header `at_us,node,model,bytes,service_us`: microseconds since the recording began, never going
/// back; the node, from 0; the model (empty for `model`); the payload; the time on a slot of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order of `at`.
    pub arrivals: Vec<TraceArrival>,
}

/// One request of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceArrival {
    /// Since the recording began.
    pub at: Duration,
    /// Who asked, from 0.
    pub node: usize,
    /// What it asked for.
    pub model: String,
    /// The payload.
    pub bytes: u64,
    /// The time on a slot of its own.
    pub service: Duration,
}

const HEADER: &[&str] = &["at_us", "node", "model", "bytes", "service_us"];

/// What an empty model means.
const MODEL: &str = "model";

/// A month: a world that waits for a later request would turn its timers for days.
const LATEST_US: u64 = 31 * 86_400_000_000;
/// A day.
const LONGEST_US: u64 = 86_400_000_000;
/// Nodes are made for every number below the highest.
const NODES_AT_MOST: u64 = 10_000;
/// A terabyte.
const BYTES_AT_MOST: u64 = 1 << 40;
const MODEL_BYTES_AT_MOST: usize = 256;
const NAME_REMEDY: &str = "write at most 256 bytes without quotes, commas, outer blanks and control characters";

impl Trace {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line of it is malformed.
    pub fn read(path: &Path) -> Result<Trace, FileError> {
        Trace::of(Table::open(path, HEADER)?)
    }

    pub(crate) fn of<R: BufRead>(mut table: Table<R>) -> Result<Trace, FileError> {
        let mut arrivals = Vec::new();
        let mut last = Duration::ZERO;
        while let Some(row) = table.next()? {
            let arrival = arrival(&row)?;
            if arrival.at < last {
                let earlier = format!("is before the line above ({} us)", last.as_micros());
                return Err(row.about(0, &earlier, "sort the lines by at_us"));
            }
            last = arrival.at;
            arrivals.push(arrival);
        }
        Ok(Trace { arrivals })
    }

    /// Writes the recording as [`Trace::read`] reads it, to the microsecond.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or a model has a name that could not be read back; then nothing is written.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        if let Some(arrival) = self.arrivals.iter().find(|arrival| !is_name(&arrival.model)) {
            let problem = format!("{} is not the name of a model", shown(arrival.model.as_bytes()));
            return Err(FileError::whole(path, problem, NAME_REMEDY));
        }
        let written = File::create(path).and_then(|file| self.write_to(BufWriter::new(file)));
        written.map_err(|error| FileError::whole(path, error, "name a file that can be written"))
    }

    fn write_to(&self, mut to: impl Write) -> std::io::Result<()> {
        writeln!(to, "{}", HEADER.join(","))?;
        for TraceArrival { at, node, model, bytes, service } in &self.arrivals {
            writeln!(to, "{},{node},{model},{bytes},{}", at.as_micros(), service.as_micros())?;
        }
        to.flush()
    }

    /// How many nodes it needs: one more than the highest.
    pub fn nodes(&self) -> usize {
        self.arrivals.iter().map(|arrival| arrival.node + 1).max().unwrap_or(0)
    }
}

/// Whether `model` comes back from a file as it went in.
fn is_name(model: &str) -> bool {
    let fits = (1..=MODEL_BYTES_AT_MOST).contains(&model.len()) && model.trim_ascii().len() == model.len();
    fits && !model.contains(|c: char| c.is_control() || matches!(c, '"' | ','))
}

fn arrival(row: &Row<'_>) -> Result<TraceArrival, FileError> {
    let at = row.whole(0, LATEST_US, "write microseconds since the recording began, within 31 days")?;
    let node = row.whole(1, NODES_AT_MOST - 1, "number the nodes from 0 to 9999")?;
    let model = match row.text(2)? {
        "" => MODEL,
        model => model,
    };
    if !is_name(model) {
        return Err(row.about(2, "is not the name of a model", NAME_REMEDY));
    }
    let bytes = row.whole(3, BYTES_AT_MOST, "write the bytes of the payload, at most a terabyte")?;
    let service = row.whole(4, LONGEST_US, "write the microseconds it ran, at most a day")?;
    row.no_more("write five values a line, and no comma within one")?;
    Ok(TraceArrival {
        at: Duration::from_micros(at),
        node: node as usize,
        model: model.to_owned(),
        bytes,
        service: Duration::from_micros(service),
    })
}
