//! How a node speaks Redis, as configured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::RedisAddress;

/// What scores are in.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unit {
    /// Work: a score times this is milliseconds of pod time.
    Ms(f64),
    /// Requests: each costs what is known of its model.
    Count,
}

/// What ZADD means for a pod's score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Zadd {
    /// What this node's callers have there: what a reconciler that adds up a log of this node's requests wants.
    #[default]
    Own,
    /// What the fleet has there: what a script that reads a score and writes another one wants. The difference is charged here.
    Fleet,
}

/// The sorted set that shows the load view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadSet {
    /// Its key, in database 0.
    pub key: String,
    /// What its scores are in.
    pub unit: Unit,
    /// What ZADD sets.
    pub zadd: Zadd,
    /// The model that callers' charges count as; the nameless one where it is empty.
    pub model: String,
    /// Whether what a connection charged and did not give back is given back when it closes. Wrong for callers with a pool of
    /// connections, which give back on another one than they charged on.
    pub return_on_close: bool,
}

impl Default for LoadSet {
    fn default() -> LoadSet {
        LoadSet {
            key: "plimsoll:load".into(),
            unit: Unit::Ms(1.0),
            zadd: Zadd::Own,
            model: String::new(),
            return_on_close: true,
        }
    }
}

/// The way between callers that balance over a Redis of their own, and this fleet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BridgeOptions {
    /// Their Redis.
    pub redis: RedisAddress,
    /// The file of its password.
    pub password_file: Option<PathBuf>,
    /// Certificates of the CA to trust, over TLS; those of the system where none is given.
    pub ca_file: Option<PathBuf>,
    /// Their sorted set; what ZADD means is of no concern here.
    pub set: LoadSet,
}

/// A node's Redis face.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FaceOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it shows.
    pub set: LoadSet,
    /// The file of the password that clients must give; needed wherever others than this machine can reach it.
    pub password_file: Option<PathBuf>,
    /// Whether it speaks TLS, with the certificate of the fronts.
    pub tls: bool,
    /// What all values may take, bytes: over it, commands that take memory are refused.
    pub maxmemory: usize,
    /// Clients at once.
    pub maxclients: usize,
    /// A client that says nothing for so long is closed; zero: never.
    pub timeout: Duration,
    /// Answers that a client has not read, bytes: over it, it is closed.
    pub output_limit: usize,
    /// The longest argument, and what is kept of a request that has not come whole, bytes.
    pub query_limit: usize,
    /// The longest that a script may run.
    pub script_limit: Duration,
    /// What scripts may take, bytes.
    pub script_memory: usize,
    /// Its threads.
    pub threads: usize,
}

impl FaceOptions {
    /// A face at `listen` for callers on this machine.
    pub fn new(listen: SocketAddr) -> FaceOptions {
        FaceOptions {
            listen,
            set: LoadSet::default(),
            password_file: None,
            tls: false,
            // Logs, locks and heartbeats of balancers are kilobytes; a mistake must not take the machine.
            maxmemory: 256 << 20,
            // As Redis.
            maxclients: 10_000,
            timeout: Duration::ZERO,
            // Redis has no bound for plain clients. The largest reply of a balancer is its log.
            output_limit: 64 << 20,
            query_limit: 64 << 20,
            script_limit: Duration::from_secs(5),
            script_memory: 64 << 20,
            // One for commands, one for whoever is told that a script takes long.
            threads: 2,
        }
    }
}
