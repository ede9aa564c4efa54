//! What a key holds.
//!
//! Redis keeps small collections in other layouts than large ones and tells which by OBJECT ENCODING; clients can see the
//! difference (an intset is sorted, a listpack keeps the order of insertion and is scanned whole). Here as there, a value
//! that outgrew the small layout never goes back.

mod hash;
mod list;
mod set;

use std::sync::Arc;

use crate::args::{self, Refusal, wrong_type};
use crate::commands::zset::SortedSet;

pub(crate) use hash::{Hash, HashLimits};
pub(crate) use list::{End, List};
pub(crate) use set::Set;

/// Bytes that two places hold: a member by name and by score.
pub(crate) type Shared = Arc<[u8]>;

/// The value of a key. Collections are never empty: a key whose last element goes is gone.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Str(Text),
    List(List),
    Set(Set),
    Hash(Hash),
    ZSet(SortedSet),
}

/// A string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub(crate) bytes: Vec<u8>,
    pub(crate) form: Form,
}

/// How a string came to be: all that OBJECT ENCODING needs to know beside the string itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// It was set whole: `int` where it is one, else `embstr` or `raw` by its length.
    #[default]
    Whole,
    /// It was computed as text, which Redis does not look into for an integer.
    Computed,
    /// It was changed in place: `raw` whatever it is.
    Grown,
}

/// The longest string that Redis puts beside its header.
const EMBSTR_MAX: usize = 44;

/// What an element of a collection takes beside its bytes, as far as is counted: a pointer, a length, a hash, an index, and
/// what the allocator keeps.
pub(crate) const PER_ELEMENT: usize = 48;

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

    /// As OBJECT ENCODING says it.
    pub(crate) fn encoding(&self) -> &'static str {
        match self {
            Value::Str(text) => text.encoding(),
            Value::List(_) => "quicklist",
            Value::Set(set) if set.is_large() => "hashtable",
            Value::Set(_) => "intset",
            Value::Hash(hash) if hash.is_large() => "hashtable",
            Value::ZSet(set) if set.is_large => "skiplist",
            Value::Hash(_) | Value::ZSet(_) => "listpack",
        }
    }

    /// Whether it is a collection without an element.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Value::Str(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::ZSet(set) => set.is_empty(),
        }
    }

    /// What it takes, bytes, as far as is counted. Constant time: each collection keeps count as it changes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Value::Str(text) => text.bytes.len() + PER_ELEMENT,
            Value::List(list) => list.bytes(),
            Value::Set(set) => set.bytes(),
            Value::Hash(hash) => hash.bytes(),
            Value::ZSet(set) => set.bytes(),
        }
    }
}

impl Text {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>, form: Form) -> Text {
        Text { bytes: bytes.into(), form }
    }

    /// The integer that Redis would store in its place.
    pub(crate) fn as_int(&self) -> Option<i64> {
        if self.form == Form::Whole { args::int(&self.bytes) } else { None }
    }

    fn encoding(&self) -> &'static str {
        if self.as_int().is_some() {
            "int"
        } else if self.form == Form::Grown || self.bytes.len() > EMBSTR_MAX {
            "raw"
        } else {
            "embstr"
        }
    }
}

/// One kind of value: what a command that works on it asks the keyspace for.
pub(crate) trait Kind: Into<Value> + Sized {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;

    /// As [`Kind::of`], or Redis's refusal.
    fn expect(value: &Value) -> Result<&Self, Refusal> {
        Self::of(value).ok_or_else(wrong_type)
    }
}

macro_rules! kinds {
    ($($variant:ident($type:ty),)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value)
            }
        }

        impl Kind for $type {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(it) = value { Some(it) } else { None }
            }
        }
    )*};
}

kinds! {
    Str(Text),
    List(List),
    Set(Set),
    Hash(Hash),
    ZSet(SortedSet),
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::Str(Text::new(bytes, Form::Whole))
    }
}
