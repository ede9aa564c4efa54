//! Sockets, clock and entropy: the only place that has them. It receives, hands to the core, performs what the core puts
//! out, and decides nothing.

pub mod access_log;
pub mod admin;
pub mod clock;
pub mod discovery;
pub(crate) mod door;
pub mod drain;
pub(crate) mod link;
pub mod metrics;
pub(crate) mod runner;
mod socket;
pub(crate) mod tcp;
pub mod tls;
pub(crate) mod watched;
