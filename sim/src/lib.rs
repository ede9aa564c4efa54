//! The deterministic simulator: the product's own core, pickers and tickets under a virtual clock.
//!
//! A [`World`] is nodes, links, pods and clients, and a queue of what happens next. A [`plan::Plan`] says what a world is
//! made of and what goes wrong in it, and [`run::run`] carries it out. The same plan gives the same run to the byte: time
//! is a number, chance comes from seeded streams, and everything that decides an order is a Vec or a BTree.

pub mod arrivals;
mod bad;
mod baseline;
pub mod check;
pub mod compare;
mod config;
pub mod costs;
pub mod detect;
pub mod determinism;
mod exact;
pub mod fault;
pub mod law;
mod link;
pub mod measure;
pub mod plan;
mod policy;
mod queue;
pub mod report;
mod rng;
pub mod run;
pub mod scenario;
pub mod server;
pub mod shrink;
pub mod swarm;
pub mod trace;
mod world;

#[doc(inline)]
pub use plimsoll_files as files;

pub use bad::BadValue;
pub use config::{Clients, Config, Costs, Join, MOST, spec};
pub use exact::{Fallback, Redis};
pub use link::Link;
pub use policy::{Baseline, ExactKind, Policy, UnknownPolicy};
pub use rng::{Rng, Share};
pub use world::{Done, End, Failure, World};
