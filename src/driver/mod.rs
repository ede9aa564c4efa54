//! Sockets, clock and entropy: the only place that has them.

pub mod clock;
