//! Sockets, clock and entropy: the only place that has them.

pub mod admin;
pub mod clock;
pub mod discovery;
pub mod metrics;
