//! What nodes tell each other: who is a member (foca), and who has how much in flight (rows).
//!
//! Sans-IO: bytes and times in, bytes and times out. Only `wire` knows how a message becomes bytes.

pub(crate) mod budget;
mod interest;
pub(crate) mod own;
pub(crate) mod pace;
pub(crate) mod peer;
mod refresh;
pub(crate) mod relay;
mod sums;
pub(crate) mod swim;
mod table;
pub mod wire;

pub use interest::Interest;
pub(crate) use interest::{choose, rank};
pub use refresh::refresh_every;
pub use swim::{PROBE_PERIOD, SUSPECT_FOR};
