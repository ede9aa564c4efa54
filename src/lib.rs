//! Plimsoll: the load balancer for GPU fleets.
//!
//! Every caller is a node. It counts what it has in flight on each pod, weighted by cost, gossips those counts to its
//! peers, and picks a pod for each request from its own, eventually consistent load view, in process.

#[cfg(feature = "driver")]
mod bounds;
pub mod core;
pub mod gossip;
pub mod id;
#[cfg(all(test, feature = "loom"))]
mod interleavings;
pub mod mutant;
pub mod observe;
pub mod pick;
pub mod redis;
mod sync;
pub mod time;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "driver")]
pub mod config;
#[cfg(feature = "cli")]
pub mod demo;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "driver")]
pub mod forward;
#[cfg(feature = "driver")]
pub mod node;
