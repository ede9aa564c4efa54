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
    /// How Redis lays out lists; kept as they are set, since tools set them, and without effect.
    pub(crate) list_max_listpack_size: i64,
    pub(crate) list_compress_depth: i64,
    /// A command that takes longer is remembered (SLOWLOG), us; none, where it is negative.
    pub(crate) slowlog_slower_us: i64,
    /// So many are remembered.
    pub(crate) slowlog_max_len: usize,
    /// Whether DEBUG is answered, which is for tests.
    pub(crate) has_debug: bool,
    /// Goes up with each CONFIG SET, so that connections notice.
    pub(crate) version: u64,
    /// Connections at a time.
    pub(crate) maxclients: usize,
    /// After so long without a word a connection is closed, s. 0: never.
    pub(crate) timeout_s: u64,
    /// What all connections may hold together of requests and replies, bytes: who would go beyond is closed. 0: no bound.
    pub(crate) maxmemory_clients: usize,
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
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            slowlog_slower_us: 10_000,
            slowlog_max_len: 128,
            has_debug: false,
            version: 0,
            maxclients: 10_000,
            timeout_s: 0,
            requirepass: Vec::new(),
            maxmemory_clients: 512 << 20,
            client_query_buffer_limit: 64 << 20,
            client_output_buffer_limit: 64 << 20,
        }
    }
}
