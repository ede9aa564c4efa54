//! A Redis for one node and those beside it: RESP, a bounded keyspace with Redis 7.0's semantics, transactions and Lua.
//!
//! Callers that balance over a Redis point their client at this and keep their code. One key may be *live*
//! ([`LiveSet`]): a sorted set whose scores somebody else keeps, which is how a node shows its load view without this crate
//! knowing what a pod is.
//!
//! ```text
//! socket -> request (framing) -> command (table, arity, state) -> commands/* over engine -> reply (RESP2 or RESP3) -> socket
//! ```
//!
//! One lock stands around the engine (`engine.rs`): a command, a transaction and a script are each one step, as in
//! Redis. Nothing is written to disk.

mod args;
mod blocked;
mod busy;
mod client;
mod clock;
mod command;
mod commands;
mod connection;
mod dispatch;
mod encode;
mod engine;
mod extended;
mod glob;
mod inbox;
mod live;
mod lua;
mod options;
mod outbox;
mod peer;
mod process;
mod registry;
mod reply;
mod request;
mod server;
mod settings;
mod slowlog;
mod stats;
#[cfg(test)]
mod testing;
mod value;
mod watch;

pub use live::{LiveError, LiveSet};
pub use options::Options;
pub use server::Server;
