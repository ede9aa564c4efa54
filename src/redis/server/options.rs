//! How a server is set up.

use std::time::Duration;

use crate::lua::Limits;
use crate::settings::Settings;

/// How a [`Server`](crate::Server) is set up; most of it can be changed by CONFIG SET while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What a client has to say first (AUTH); without one everybody is let in.
    pub password: Option<String>,
    /// Connections at a time. One more is told so and closed.
    pub max_clients: usize,
    /// A connection that says nothing for so long is closed. Zero: never, as Redis has it; clients keep pools.
    pub idle: Duration,
    /// What all values may take together, bytes. Over it, commands that take memory are refused. Zero: no bound.
    pub memory_bytes: usize,
    /// The longest string, bytes.
    pub string_bytes: usize,
    /// The most that one client may have sent of a request that is not whole, or queued in a transaction, bytes. Beyond, its
    /// connection is closed.
    pub request_bytes: usize,
    /// The most that may wait for one client to read it, bytes. Beyond, its connection is closed.
    pub reply_bytes: usize,
    /// What all connections may hold together of requests and replies, bytes. Who would go beyond is closed. Zero: no bound.
    pub connection_bytes: usize,
    /// Whether DEBUG is answered, which Redis's test suite wants and nobody else.
    pub debug: bool,
    /// The longest that a script may run: then it ends with an error, and what it has written stays.
    pub script_limit: Duration,
    /// What Lua may take, bytes.
    pub script_bytes: usize,
    /// What random keys and members are drawn with.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        let (settings, limits) = (Settings::default(), Limits::default());
        Options {
            password: None,
            max_clients: settings.maxclients,
            idle: Duration::ZERO,
            memory_bytes: settings.maxmemory,
            string_bytes: settings.proto_max_bulk_len,
            request_bytes: settings.client_query_buffer_limit,
            reply_bytes: settings.client_output_buffer_limit,
            connection_bytes: settings.maxmemory_clients,
            debug: settings.has_debug,
            script_limit: limits.time,
            script_bytes: limits.memory_bytes,
            seed: 0,
        }
    }
}

impl Options {
    pub(crate) fn limits(&self) -> Limits {
        Limits { memory_bytes: self.script_bytes, time: self.script_limit, ..Limits::default() }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            requirepass: self.password.clone().unwrap_or_default().into_bytes(),
            maxclients: self.max_clients,
            timeout_s: self.idle.as_secs(),
            maxmemory: self.memory_bytes,
            proto_max_bulk_len: self.string_bytes,
            client_query_buffer_limit: self.request_bytes,
            client_output_buffer_limit: self.reply_bytes,
            maxmemory_clients: self.connection_bytes,
            has_debug: self.debug,
            ..Settings::default()
        }
    }
}
