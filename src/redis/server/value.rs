//! What a key holds.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::{IndexMap, IndexSet};

use crate::commands::zset::SortedSet;

/// Bytes that two places hold: a member by name and by score.
pub(crate) type Shared = Arc<[u8]>;
/// Fields of a hash, in the order in which they came. `swap_remove` is the way to take one out: a scan walks backwards, so
/// that what moves into the gap has been seen already.
pub(crate) type Fields = IndexMap<Box<[u8]>, Box<[u8]>, DefaultHashBuilder>;
/// Members of a set, in the order in which they came; as [`Fields`].
pub(crate) type Members = IndexSet<Box<[u8]>, DefaultHashBuilder>;

/// The value of a key. Collections are never empty: a key whose last element goes is gone.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Str(Text),
    List(VecDeque<Box<[u8]>>),
    Set(Set),
    Hash(Hash),
    ZSet(SortedSet),
}

/// A string.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) bytes: Vec<u8>,
    /// Whether it was grown in place, after which Redis calls it `raw` whatever its length.
    pub(crate) is_raw: bool,
}

/// A hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hash {
    pub(crate) fields: Fields,
    /// Whether it outgrew what Redis keeps in a listpack. Never goes back.
    pub(crate) is_large: bool,
}

/// A set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) members: Members,
    /// Whether it outgrew what Redis keeps in an intset. Never goes back.
    pub(crate) is_large: bool,
}

impl Value {
    /// As TYPE says it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Str(_) => "string",
            Value::List(_) => "list",
            Value::Set(_) => "set",
            Value::Hash(_) => "hash",
            Value::ZSet(_) => "zset",
        }
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::Str(Text { bytes, is_raw: false })
    }
}

/// What an element of a collection takes beside its bytes, as far as is counted.
const PER_ELEMENT: usize = 48;

impl Value {
    /// Whether it is a collection without an element.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Value::Str(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.members.is_empty(),
            Value::Hash(hash) => hash.fields.is_empty(),
            Value::ZSet(set) => set.is_empty(),
        }
    }

    /// What it takes, bytes, as far as is counted. Constant time: collections take an average.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Value::Str(text) => text.bytes.len() + PER_ELEMENT,
            Value::List(list) => list.len() * PER_ELEMENT,
            Value::Set(set) => set.members.len() * PER_ELEMENT,
            Value::Hash(hash) => hash.fields.len() * 2 * PER_ELEMENT,
            Value::ZSet(set) => set.len() * 2 * PER_ELEMENT,
        }
    }
}
