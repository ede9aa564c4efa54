//! A Redis beside the gossip, for teams that come from one: as the shared state of the fleet, or as what callers speak.
//!
//! Nothing else knows of it: what picks, observes and gossips is the same with it and without. The two parts that decide
//! something are pure, so that the simulator runs them too: [`ladder`], whether the shared Redis is asked now, and [`book`],
//! what this node has told it.

pub mod book;
pub mod ladder;
