//! The deterministic simulator: the product's own core, pickers and tickets under a virtual clock.
//!
//! A [`World`] is nodes, links and pods, and a queue of what happens next. The same seed gives the same run to the byte:
//! time is a number, chance comes from seeded streams, and everything that decides an order is a Vec or a BTree. Faults
//! are plain calls between two stretches of [`World::run_for`].

pub mod arrivals;
mod bad;
mod client;
pub mod files;
pub mod law;
mod link;
mod pod;
pub mod report;
mod rng;
pub mod server;
mod world;

pub use bad::BadValue;
pub use client::{Costs, Sizes};
pub use link::Link;
pub use rng::{Rng, Share};
pub use world::{Config, World, spec};
