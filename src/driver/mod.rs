//! Sockets, clock and entropy: the only place that has them. It receives, hands to the core, performs what the core puts
//! out, and decides nothing.

pub mod clock;
pub(crate) mod link;
pub(crate) mod runner;
mod socket;
pub(crate) mod tls;
