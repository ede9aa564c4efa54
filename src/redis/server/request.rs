//! From bytes to commands: RESP arrays of bulk strings, and inline commands as people type them into a terminal.
//!
//! A request comes in as many pieces as the network likes. What was read of it stays read: the parser remembers where it is
//! and never begins one again, so that a million arguments in packets of one byte cost a million short steps. Nothing is
//! copied and nothing is reserved for what is only announced: an argument is a range of the connection's buffer. Elements are
//! decoded by `redis-protocol`; the array's header and inline commands are read here, because Redis tells a client in its
//! own words what is wrong with them.

use std::borrow::Cow;

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;
use smallvec::SmallVec;

use crate::args::int;

/// The longest inline command and the longest header of an array or string, bytes: as Redis.
const LINE_BYTES: usize = 64 << 10;
/// Of a client that has not authenticated yet: most arguments, and their longest.
const STRANGER_ARGS: i64 = 10;
const STRANGER_BYTES: i64 = 16 << 10;

/// The arguments of one command, as slices of where they were read to.
pub(crate) type Slices<'a> = SmallVec<[&'a [u8]; 8]>;

/// What a request may be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The longest argument, bytes.
    pub(crate) bulk: usize,
    /// Whether the client still has to authenticate.
    pub(crate) is_stranger: bool,
}

/// How far a request is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is whole and so many bytes long; without arguments where it was an empty line or array, which is passed over.
    Whole(usize),
    /// More bytes are needed.
    Partial,
    /// It is none: the client is told so, and the connection ends.
    Broken(Cow<'static, str>),
}

/// One request while it comes in. Positions count from its first byte.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// What is read and understood.
    at: usize,
    /// Of the line that begins at `at`, bytes that were searched for its end.
    searched: usize,
    /// Where the element that begins at `at` ends, once its header is known.
    needed: usize,
    /// Elements that are still to come.
    left: i64,
    args: SmallVec<[(usize, usize); 8]>,
    /// The arguments of an inline command without their quotes, one behind the other.
    inline: Option<Vec<u8>>,
}

impl Request {
    /// Goes on with the request that `bytes` begin with; `bytes` may only have grown since the last time.
    pub(crate) fn go_on(&mut self, bytes: &[u8], bounds: Bounds) -> Progress {
        self.advance(bytes, bounds).unwrap_or_else(|what| match what {
            None => Progress::Partial,
            Some(text) => Progress::Broken(text),
        })
    }

    /// The arguments of a request that is whole; `bytes` are those it was read from.
    pub(crate) fn args<'a>(&'a self, bytes: &'a [u8]) -> Slices<'a> {
        let from = self.inline.as_deref().unwrap_or(bytes);
        self.args.iter().map(|&(begin, end)| &from[begin..end]).collect()
    }

    /// What it takes beside the bytes themselves.
    pub(crate) fn overhead_bytes(&self) -> usize {
        if self.args.spilled() { self.args.capacity() * size_of::<(usize, usize)>() } else { 0 }
    }

    /// Makes it ready for the next one.
    pub(crate) fn reset(&mut self) {
        if self.args.capacity() > 1024 {
            self.args = SmallVec::new();
        }
        self.args.clear();
        (self.at, self.searched, self.needed, self.left, self.inline) = (0, 0, 0, 0, None);
    }

    fn advance(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Progress, Stop> {
        // It was whole before: who asks again has not taken it yet.
        if self.left == 0 && self.at > 0 {
            return Ok(Progress::Whole(self.at));
        }
        if self.left == 0 {
            match bytes.first() {
                None => return Ok(Progress::Partial),
                Some(b'*') => self.header(bytes, bounds)?,
                Some(_) => self.inline(bytes)?,
            }
        }
        while self.left > 0 {
            let (begin, end) = self.element(bytes, bounds)?;
            self.args.push((begin, end));
            self.at = end + 2;
            self.left -= 1;
        }
        Ok(Progress::Whole(self.at))
    }

    fn header(&mut self, bytes: &[u8], bounds: Bounds) -> Result<(), Stop> {
        let line = self.line(bytes, "too big mbulk count string")?;
        let count = int(&line[1..]).filter(|count| *count <= i64::from(i32::MAX));
        let count = count.ok_or_else(|| broken("invalid multibulk length"))?;
        if count > STRANGER_ARGS && bounds.is_stranger {
            return Err(broken("unauthenticated multibulk length"));
        }
        self.at = line.len() + 2;
        self.left = count.max(0);
        Ok(())
    }

    /// The next element, from its first byte to the one behind its last.
    fn element(&mut self, bytes: &[u8], bounds: Bounds) -> Result<(usize, usize), Stop> {
        if self.needed == 0 {
            let line = self.line(bytes, "too big bulk count string")?;
            match line.first() {
                Some(b'$') => {}
                other => return Err(unexpected(other.copied().unwrap_or(b'\r'))),
            }
            let length = int(&line[1..]).filter(|length| (0..=bounds.bulk as i64).contains(length));
            let length = length.ok_or_else(|| broken("invalid bulk length"))?;
            if length > STRANGER_BYTES && bounds.is_stranger {
                return Err(broken("unauthenticated bulk length"));
            }
            self.needed = self.at + line.len() + 2 + length as usize + 2;
        }
        let element = bytes.get(self.at..self.needed).ok_or(None)?;
        match decode_range(element) {
            Ok(Some((RangeFrame::BulkString((begin, end)), _))) => {
                self.needed = 0;
                Ok((self.at + begin, self.at + end))
            }
            // The header ends with "\r" and something else than "\n".
            _ => Err(broken("invalid bulk length")),
        }
    }

    /// The line at `at` without its end.
    fn line<'a>(&mut self, bytes: &'a [u8], too_long: &'static str) -> Result<&'a [u8], Stop> {
        let rest = &bytes[self.at..];
        match rest[self.searched..].iter().position(|byte| *byte == b'\r') {
            // The byte behind it belongs to it too.
            Some(length) if self.searched + length + 1 < rest.len() => {
                let line = &rest[..self.searched + length];
                self.searched = 0;
                Ok(line)
            }
            Some(_) => Err(None),
            None if rest.len() > LINE_BYTES => Err(broken(too_long)),
            None => {
                self.searched = rest.len();
                Err(None)
            }
        }
    }

    fn inline(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Some(length) = bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = bytes.len();
            return Err((bytes.len() > LINE_BYTES).then(|| protocol_error("too big inline request")));
        };
        let end = self.searched + length;
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let mut unquoted = Vec::with_capacity(line.len());
        let mut words = Words { rest: line };
        while let Some(range) = words.next_into(&mut unquoted).map_err(|_| broken("unbalanced quotes in request"))? {
            self.args.push(range);
        }
        self.inline = Some(unquoted);
        self.at = end + 1;
        Ok(())
    }
}

/// Why a request is not whole: more bytes are needed, or this is wrong with it.
type Stop = Option<Cow<'static, str>>;

fn broken(what: &str) -> Stop {
    Some(protocol_error(what))
}

fn protocol_error(what: &str) -> Cow<'static, str> {
    format!("ERR Protocol error: {what}").into()
}

fn unexpected(byte: u8) -> Stop {
    broken(&format!("expected '$', got '{}'", byte as char))
}

/// The words of a line as a shell would part them: in double quotes with escapes, in single quotes as they are.
struct Words<'a> {
    rest: &'a [u8],
}

/// A quote that is not closed, or closed in the middle of a word.
struct Unbalanced;

impl Words<'_> {
    /// Appends the next word to `to`, and tells where it stands there.
    fn next_into(&mut self, to: &mut Vec<u8>) -> Result<Option<(usize, usize)>, Unbalanced> {
        self.rest = self.rest.trim_ascii_start();
        // A vertical tab is a space too, in C.
        while let [0x0b, rest @ ..] = self.rest {
            self.rest = rest.trim_ascii_start();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let begin = to.len();
        loop {
            match self.rest {
                [] | [0, ..] => break,
                [space, ..] if space.is_ascii_whitespace() || *space == 0x0b => break,
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    self.double_quoted(to)?;
                    break;
                }
                [b'\'', rest @ ..] => {
                    self.rest = rest;
                    self.single_quoted(to)?;
                    break;
                }
                [byte, rest @ ..] => {
                    to.push(*byte);
                    self.rest = rest;
                }
            }
        }
        if let [0, ..] = self.rest {
            self.rest = &[];
        }
        Ok(Some((begin, to.len())))
    }

    fn double_quoted(&mut self, to: &mut Vec<u8>) -> Result<(), Unbalanced> {
        loop {
            let (byte, rest) = match self.rest {
                [] => return Err(Unbalanced),
                [b'"', rest @ ..] => return self.close(rest),
                [b'\\', b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    (hex(*high) << 4 | hex(*low), rest)
                }
                [b'\\', escaped, rest @ ..] => (unescaped(*escaped), rest),
                [byte, rest @ ..] => (*byte, rest),
            };
            to.push(byte);
            self.rest = rest;
        }
    }

    fn single_quoted(&mut self, to: &mut Vec<u8>) -> Result<(), Unbalanced> {
        loop {
            let (byte, rest) = match self.rest {
                [] => return Err(Unbalanced),
                [b'\\', b'\'', rest @ ..] => (b'\'', rest),
                [b'\'', rest @ ..] => return self.close(rest),
                [byte, rest @ ..] => (*byte, rest),
            };
            to.push(byte);
            self.rest = rest;
        }
    }
}

impl<'a> Words<'a> {
    /// Behind a closing quote stands a space, or nothing.
    fn close(&mut self, rest: &'a [u8]) -> Result<(), Unbalanced> {
        self.rest = rest;
        match rest.first() {
            Some(byte) if !byte.is_ascii_whitespace() && *byte != 0x0b => Err(Unbalanced),
            _ => Ok(()),
        }
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipeline is served in batches. The request behind a batch is found whole before the next batch begins and looked
    /// at again there; read on, it would swallow the arguments of the one behind it.
    #[test]
    fn a_request_that_is_whole_stays_as_it_is_until_it_is_taken() {
        let bytes = b"*2\r\n$3\r\nget\r\n$1\r\na\r\n*2\r\n$3\r\nget\r\n$1\r\nb\r\n";
        let bounds = Bounds { bulk: 512, is_stranger: false };
        let mut request = Request::default();
        for _ in 0..2 {
            assert_eq!(request.go_on(bytes, bounds), Progress::Whole(20));
            assert_eq!(request.args(bytes).as_slice(), [b"get".as_slice(), b"a"]);
        }
        request.reset();
        assert_eq!(request.go_on(&bytes[20..], bounds), Progress::Whole(20));
        assert_eq!(request.args(&bytes[20..]).as_slice(), [b"get".as_slice(), b"b"]);
    }
}
