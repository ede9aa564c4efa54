//! The deterministic simulator: the product's own core, pickers and tickets under a virtual clock.
//!
//! A [`World`] is nodes, links and pods, and a queue of what happens next. The same seed gives the same run to the byte:
//! time is a number, chance comes from seeded streams, and everything that decides an order is a Vec or a BTree. Faults
//! are plain calls between two stretches of [`World::run_for`].

mod client;
mod link;
mod pod;
pub mod report;
mod rng;
mod world;

pub use client::{Costs, Sizes};
pub use link::Link;
pub use rng::Rng;
pub use world::{Config, World, spec};
