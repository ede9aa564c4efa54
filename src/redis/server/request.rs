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
    /// Its length without header and end.
    length: usize,
    /// Elements that are still to come.
    left: i64,
    args: SmallVec<[(usize, usize); 8]>,
    /// The arguments of an inline command without their quotes, one behind the other.
    inline: Option<Vec<u8>>,
    /// Bytes of lines that were looked at, again and again where that is so.
    #[cfg(test)]
    looked_at: usize,
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
            self.length = length as usize;
            self.needed = self.at + line.len() + 2 + self.length + 2;
        }
        let element = bytes.get(self.at..self.needed).ok_or(None)?;
        let (begin, end) = match decode_range(element) {
            Ok(Some((RangeFrame::BulkString(range), _))) => range,
            // Its header ends with "\r" and something else than "\n", which Redis does not mind.
            _ => (element.len() - 2 - self.length, element.len() - 2),
        };
        self.needed = 0;
        Ok((self.at + begin, self.at + end))
    }

    /// The line at `at` without its end.
    fn line<'a>(&mut self, bytes: &'a [u8], too_long: &'static str) -> Result<&'a [u8], Stop> {
        let rest = &bytes[self.at..];
        // The byte behind its end belongs to it too, whatever it is.
        match self.find(rest, b'\r') {
            Some(length) if length + 1 < rest.len() => {
                self.searched = 0;
                Ok(&rest[..length])
            }
            Some(_) => Err(None),
            None => Err((rest.len() > LINE_BYTES).then(|| protocol_error(too_long))),
        }
    }

    /// Where `end` stands in the line that `rest` begins with. A zero hides what stands behind it, as in C: such a line
    /// grows until it is too long.
    fn find(&mut self, rest: &[u8], end: u8) -> Option<usize> {
        let found = rest[self.searched..].iter().position(|byte| *byte == end || *byte == 0);
        #[cfg(test)]
        {
            self.looked_at += found.map_or(rest.len() - self.searched, |length| length + 1);
        }
        self.searched = found.map_or(rest.len(), |length| self.searched + length);
        found.map(|_| self.searched).filter(|at| rest[*at] == end)
    }

    fn inline(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let Some(end) = self.find(bytes, b'\n') else {
            return Err((bytes.len() > LINE_BYTES).then(|| protocol_error("too big inline request")));
        };
        self.searched = 0;
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
                [] => break,
                // A form feed or a vertical tab parts words from quotes, and is a part of a word, as in `sdssplitargs`.
                [b' ' | b'\n' | b'\r' | b'\t', ..] => break,
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

    const BOUNDS: Bounds = Bounds { bulk: 512 << 20, is_stranger: false };

    /// What `bytes` are read as, request by request, and how the last one stands.
    fn read(bytes: &[u8], bounds: Bounds) -> (Vec<Vec<Vec<u8>>>, Progress) {
        let (mut all, mut rest, mut request) = (Vec::new(), bytes, Request::default());
        loop {
            match request.go_on(rest, bounds) {
                Progress::Whole(length) => {
                    all.push(request.args(rest).iter().map(|arg| arg.to_vec()).collect());
                    rest = &rest[length..];
                    request.reset();
                }
                other => return (all, other),
            }
        }
    }

    fn line(text: &str) -> Result<Vec<String>, String> {
        match read(format!("{text}\r\n").as_bytes(), BOUNDS) {
            (all, Progress::Partial) => {
                Ok(all[0].iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect())
            }
            (_, Progress::Broken(text)) => Err(text.into_owned()),
            (_, Progress::Whole(_)) => unreachable!("it is read to its end"),
        }
    }

    #[test]
    fn what_people_type_is_parted_as_a_shell_does() {
        // Story: somebody at a terminal quotes a value with spaces in it; it must be one argument, and what is not closed
        // must be told, not guessed.
        let words = |text| line(text).map(|words| words.join("|"));
        assert_eq!(words("SET  a\tb"), Ok("SET|a|b".into()));
        assert_eq!(words(r#"SET "a b" 'c d' "" ''"#), Ok("SET|a b|c d||".into()));
        assert_eq!(words(r#"ECHO "\x41\n\"\\" '\'\n'"#), Ok("ECHO|A\n\"\\|'\\n".into()));
        assert_eq!(words("a\"b\""), Ok("ab".into()));
        for broken in ["ECHO \"a", "ECHO 'a", "ECHO \"a\"b", "ECHO 'a'b", r#"ECHO "a\""#] {
            assert_eq!(line(broken), Err("ERR Protocol error: unbalanced quotes in request".into()), "{broken}");
        }
    }

    #[test]
    fn empty_lines_and_arrays_are_passed_over() {
        // Story: a telnet user presses return, an old client sends *0 to see whether anybody is there: no reply, no error.
        let (all, left) = read(b"\r\n\n*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", BOUNDS);
        assert_eq!(all, [vec![], vec![], vec![], vec![], vec![b"PING".to_vec()]]);
        assert_eq!(left, Progress::Partial);
    }

    #[test]
    fn what_is_wrong_is_said_in_redis_own_words() {
        // Story: clients and their tests match these texts, and each of them once was a way to crash a parser.
        let stranger = Bounds { is_stranger: true, ..BOUNDS };
        let long = "1".repeat(LINE_BYTES + 1);
        let cases = [
            ("*x\r\n".to_owned(), BOUNDS, "invalid multibulk length"),
            ("*2147483648\r\n".into(), BOUNDS, "invalid multibulk length"),
            ("*+1\r\n".into(), BOUNDS, "invalid multibulk length"),
            ("*11\r\n".into(), stranger, "unauthenticated multibulk length"),
            ("*1\r\nPING\r\n".into(), BOUNDS, "expected '$', got 'P'"),
            ("*1\r\n$-1\r\n".into(), BOUNDS, "invalid bulk length"),
            ("*1\r\n$01\r\na\r\n".into(), BOUNDS, "invalid bulk length"),
            ("*1\r\n$536870913\r\n".into(), BOUNDS, "invalid bulk length"),
            ("*1\r\n$16385\r\n".into(), stranger, "unauthenticated bulk length"),
            (format!("*{long}"), BOUNDS, "too big mbulk count string"),
            (format!("*1\r\n${long}"), BOUNDS, "too big bulk count string"),
            (long, BOUNDS, "too big inline request"),
        ];
        for (input, bounds, text) in cases {
            let (_, progress) = read(input.as_bytes(), bounds);
            assert_eq!(progress, Progress::Broken(format!("ERR Protocol error: {text}").into()), "{:.40}", input);
        }
    }

    #[test]
    fn a_claim_of_half_a_gigabyte_reserves_nothing() {
        // Story: a thousand connections each announce the largest string there may be and then say nothing. Memory must
        // follow what comes, not what is announced; also for an array of two billion elements.
        for claim in [&b"*2\r\n$3\r\nSET\r\n$536870912\r\nabc"[..], b"*2147483647\r\n$1\r\na\r\n"] {
            let mut request = Request::default();
            assert_eq!(request.go_on(claim, BOUNDS), Progress::Partial);
            assert_eq!(request.overhead_bytes(), 0);
        }
    }

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

    #[test]
    fn many_arguments_in_packets_of_a_byte_are_as_many_short_steps() {
        // Story: a parser that begins again with each packet looks at the first bytes of this a million times: 10^12
        // steps, hours. This one looks at each byte of the lines once, which is counted.
        let count = 150_000;
        let mut input = format!("*{count}\r\n").into_bytes();
        (0..count).for_each(|_| input.extend_from_slice(b"$1\r\na\r\n"));
        let mut request = Request::default();
        for length in 1..input.len() {
            assert_eq!(request.go_on(&input[..length], BOUNDS), Progress::Partial);
        }
        assert_eq!(request.go_on(&input, BOUNDS), Progress::Whole(input.len()));
        assert_eq!(request.args(&input).len(), count);
        // Where a line's end is split, its "\r" is met twice.
        assert!(request.looked_at <= 2 * input.len(), "{} of {}", request.looked_at, input.len());
    }
}
