//! The world against what is known of queues for certain: if waits in it were not those of the textbook where there is
//! one, nothing it says of anything else could be believed.
//!
//! Hops take no time here, so that a latency is a wait and a service and nothing else. Every comparison states its
//! error, and fails beyond four of them; seeds are fixed. `cargo test -p plimsoll-sim --test closed_forms -- --nocapture`
//! prints the tables.

mod choices;
mod estimate;
mod queues;
mod swim;
