//! Recordings and histograms: CSV files that people bring, read with suspicion.
//!
//! Whatever is in a file, reading it ends: in numbers that a world can use, or in one line that names the file, the
//! line, the field, what was found there and what to write instead. Lines, rows and values are bounded, so that a file
//! that is no CSV at all cannot eat the machine.

mod error;
mod histogram;
mod table;
mod trace;

pub use error::FileError;
pub use histogram::{Bin, Histogram};
pub use trace::{Trace, TraceArrival};

#[cfg(test)]
mod tests;
