//! What a command answers, before it is known which protocol the client speaks.

use std::borrow::Cow;

/// One answer. Aggregates hold answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// A simple string.
    Status(Cow<'static, str>),
    /// An error; the text begins with its code, as `ERR ` or `WRONGTYPE `.
    Error(Cow<'static, str>),
    /// An integer.
    Int(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// Nothing, where a bulk string would be.
    Null,
    /// Nothing, where an array would be: told apart in RESP2 alone.
    NullArray,
    /// An array.
    Array(Vec<Reply>),
    /// Pairs: a map in RESP3, a flat array in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// A set in RESP3, an array in RESP2.
    Set(Vec<Reply>),
    /// A number with a fraction: a double in RESP3, a bulk string in RESP2.
    Double(f64),
    /// A truth: in RESP2 1 or 0.
    Bool(bool),
    /// An integer of any length, its digits: a bulk string in RESP2.
    BigNumber(Vec<u8>),
    /// Text with its format (three letters), as INFO has it: a bulk string in RESP2.
    Verbatim(&'static str, Vec<u8>),
    /// None at all.
    Silent,
}

/// What one answer may still take. Only answers that can be much larger than what is stored count: those that name the same
/// value again and again.
pub(crate) struct Room {
    left_bytes: usize,
}

/// What an element of an answer takes beside its bytes.
const PER_ELEMENT: usize = 64;

impl Room {
    pub(crate) fn new(bytes: usize) -> Room {
        Room { left_bytes: bytes }
    }

    /// Takes room for an element of `bytes`.
    ///
    /// # Errors
    /// There is no room: to be answered in the place of what was built.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Reply> {
        self.take_all(1, bytes)
    }

    /// The same for `count` elements of `bytes` each.
    pub(crate) fn take_all(&mut self, count: usize, bytes: usize) -> Result<(), Reply> {
        let left = self.left_bytes.checked_sub(count.saturating_mul(bytes.saturating_add(PER_ELEMENT)));
        self.left_bytes =
            left.ok_or_else(|| Reply::error("ERR value is out of range: the reply would be too large"))?;
        Ok(())
    }
}

impl Reply {
    /// `+OK`.
    pub(crate) const OK: Reply = Reply::Status(Cow::Borrowed("OK"));

    /// A bulk string of a copy of `bytes`.
    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    /// A bulk string, or nothing.
    pub(crate) fn maybe(bytes: Option<impl AsRef<[u8]>>) -> Reply {
        bytes.map_or(Reply::Null, Reply::bulk)
    }

    /// An error with its whole text, code and all.
    pub(crate) fn error(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Error(text.into())
    }

    /// A length.
    pub(crate) fn count(count: usize) -> Reply {
        Reply::Int(count as i64)
    }
}

impl From<bool> for Reply {
    /// As Redis 7.0's commands say it: an integer.
    fn from(truth: bool) -> Reply {
        Reply::Int(truth.into())
    }
}
