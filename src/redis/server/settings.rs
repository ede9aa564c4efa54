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
}

impl Settings {
    pub(crate) fn hash_limits(&self) -> HashLimits {
        HashLimits { entries: self.hash_max_listpack_entries, value: self.hash_max_listpack_value }
    }
}

impl Default for Settings {
    /// As Redis 7.0 has them, but for `maxmemory`.
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
        }
    }
}
