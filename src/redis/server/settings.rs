//! What CONFIG reads and sets while the server runs, of those parameters of Redis that mean something here.

use crate::value::HashLimits;

/// The settings under the engine's lock. Names are Redis's own, with `_` for `-`.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) hash_max_listpack_entries: usize,
    pub(crate) hash_max_listpack_value: usize,
    pub(crate) set_max_intset_entries: usize,
    pub(crate) zset_max_listpack_entries: usize,
    pub(crate) zset_max_listpack_value: usize,
    /// What all values may take, bytes; over it commands that take memory are refused. 0: no bound.
    pub(crate) maxmemory: usize,
    /// The longest string, bytes.
    pub(crate) proto_max_bulk_len: usize,
    /// After so long a script is called slow: others are answered BUSY, ms.
    pub(crate) lua_time_limit_ms: u64,
    /// Connections at a time.
    pub(crate) maxclients: usize,
    /// After so long without a word a connection is closed, s. 0: never.
    pub(crate) timeout_s: u64,
    /// What a client has to say before anything else; empty: nothing.
    pub(crate) requirepass: Vec<u8>,
    /// The most that one client may have sent of requests that are not whole, or queued in a transaction, bytes.
    pub(crate) client_query_buffer_limit: usize,
    /// The most that may wait for a client to read it, bytes: beyond, the connection is closed. 0: no bound.
    pub(crate) client_output_buffer_limit: usize,
}

impl Settings {
    pub(crate) fn hash_limits(&self) -> HashLimits {
        HashLimits { entries: self.hash_max_listpack_entries, value: self.hash_max_listpack_value }
    }
}

impl Default for Settings {
    /// As Redis 7.0 has them, but for `maxmemory` and the bounds of one client.
    fn default() -> Settings {
        Settings {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            maxmemory: 0,
            proto_max_bulk_len: 512 << 20,
            lua_time_limit_ms: 5000,
            maxclients: 10_000,
            timeout_s: 0,
            requirepass: Vec::new(),
            client_query_buffer_limit: 64 << 20,
            client_output_buffer_limit: 64 << 20,
        }
    }
}
