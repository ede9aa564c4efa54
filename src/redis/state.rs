//! A Redis as the fleet's shared state, as configured, and what a node says of it.

use std::path::PathBuf;
use std::time::Duration;

use super::RedisAddress;
use super::ladder::LadderConfig;

/// Whether, and how, a Redis takes part in the picks of a node. All nodes of a fleet say the same.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StateOptions {
    /// The Redis.
    pub redis: RedisAddress,
    /// The file of its password. It is read at every connection, so that it may change.
    pub password_file: Option<PathBuf>,
    /// Certificates of the CA to trust, over TLS; those of the system where none is given.
    pub ca_file: Option<PathBuf>,
    /// What this node shows to a Redis that asks for certificates: chain and key.
    pub shows: Option<(PathBuf, PathBuf)>,
    /// How long a pick waits for it: see [`LadderConfig::deadline`].
    pub deadline: Duration,
    /// How often this node says that it lives.
    pub heartbeat: Duration,
    /// A node that was silent for so long is dead, and what it had charged is given back. Less than a few heartbeats would take
    /// a node that is held up for dead; more leaves pods charged with what nobody waits for.
    pub reclaim: Duration,
    /// What all keys begin with; none: `{plimsoll:CLUSTER}:`.
    pub prefix: Option<String>,
}

impl StateOptions {
    /// The Redis at `redis` decides picks.
    pub fn new(redis: RedisAddress) -> StateOptions {
        StateOptions {
            redis,
            password_file: None,
            ca_file: None,
            shows: None,
            deadline: LadderConfig::default().deadline,
            // Five may be lost before a node is taken for dead.
            heartbeat: Duration::from_secs(2),
            reclaim: Duration::from_secs(10),
            prefix: None,
        }
    }

    /// What the keys of the fleet called `cluster` begin with.
    pub fn prefix(&self, cluster: &str) -> String {
        // The braces keep all keys in one slot: scripts may touch no others where slots are somewhere else.
        self.prefix.clone().unwrap_or_else(|| format!("{{plimsoll:{cluster}}}:"))
    }
}

/// What a node says of its shared state.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[non_exhaustive]
pub struct StateView {
    /// Who decides picks by configuration.
    pub mode: &'static str,
    /// Where the Redis is.
    pub redis: String,
    /// Who decides now: redis, or gossip while Redis does not answer in time.
    pub rung: &'static str,
    /// Steps from Redis to gossip since this node started.
    pub steps_down: u64,
    /// Steps from gossip to Redis.
    pub steps_up: u64,
    /// Picks that Redis was asked for.
    pub asked: u64,
    /// Of these, those that it answered in time, and that were made so.
    pub answered: u64,
    /// The others by why not.
    pub missed: Missed,
    /// Picks that were made by the view without asking, because Redis did not answer before.
    pub unasked: u64,
    /// Requests of this node that Redis should know of.
    pub in_flight: usize,
    /// Charges and releases that Redis is yet to be told of.
    pub waiting: usize,
    /// Times that this node told Redis all that it has in flight.
    pub registrations: u64,
    /// Dead nodes whose charges this node had given back.
    pub reclaimed: u64,
    /// Scores that were not what the log said, and were made so.
    pub corrected: u64,
    /// How long Redis took to answer, ms.
    pub ask_ms: Quantiles,
    /// What went wrong last, where something did.
    pub last_trouble: Option<String>,
}

/// Picks that Redis was asked for and that the view decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Missed {
    /// No answer within the deadline.
    pub late: u64,
    /// The connection broke, or Redis refused: its memory is full, it loads, it is a replica.
    pub failed: u64,
    /// Redis did not know this node (any more), which then told it all.
    pub unknown: u64,
    /// This node cannot use the pod any more that Redis chose.
    pub unfit: u64,
}

impl Missed {
    /// All of them, by name.
    pub fn by_why(&self) -> [(&'static str, u64); 4] {
        [("late", self.late), ("failed", self.failed), ("unknown", self.unknown), ("unfit", self.unfit)]
    }
}

/// The middle and the ends of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// How many there were.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half are below.
    pub p50: f64,
    /// Nine in ten are below.
    pub p90: f64,
    /// Ninety-nine in a hundred are below.
    pub p99: f64,
}
