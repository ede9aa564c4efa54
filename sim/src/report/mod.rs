//! What came of the runs: numbers first, then a table, CSV, JSON and plots of the same numbers.
//!
//! While a world runs, [`Samples`] takes every latency and [`Windows`] every stretch of service; at the end they fill a
//! [`Row`]. The rows of all policies, loads and seeds make a [`Document`], which carries the command and the seeds that
//! made it into every form it is printed in, so that no figure travels without its recipe. Nothing here decides
//! anything in a world: it only counts.

mod compare;
mod csv;
mod document;
mod figure;
pub mod plot;
mod row;
mod samples;
mod table;
mod timeline;
mod windows;

pub use compare::{EqualP99, Ratio, Reach, equal_p99, load_at, mean_of, ratios};
pub use document::{Document, ReadError, command_line, commit};
pub use plot::plot_all;
pub use row::{Metric, Row, Unit};
pub use samples::{CURVE_AT, Samples};
pub use timeline::{PodLine, Timeline};
pub use windows::Windows;
