//! SCAN, and what its kin for hashes, sets and sorted sets share.
//!
//! A cursor is the number of elements that are still to be seen: a scan walks backwards over indexes. Elements that come
//! during it stand behind it, and one that goes is replaced by the last of all, which was seen already or stays ahead. So
//! every element that is there from start to end is returned, and none is returned twice unless it went and came back.

use std::ops::Range;

use crate::args::{Refusal, integer, is, refusal, syntax};
use crate::command::{Args, Command, Context, flag::*};
use crate::glob;
use crate::reply::Reply;

pub(crate) const COMMANDS: &[Command] =
    &[Command { name: "scan", arity: -2, flags: READONLY, keys: (0, 0, 0), group: "generic", run: scan }];

/// What a scan is told beside its cursor.
pub(crate) struct Scan<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

fn scan(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let cursor = cursor(args[1])?;
    let scan = Scan::parse(&args[2..], true)?;
    let db = context.client.db;
    let now = context.now_ms();
    let db = &context.engine.dbs[db];
    let (range, next) = scan.walk(cursor, db.len());
    let keys = range.rev().filter_map(|index| db.at(index)).filter(|(key, entry)| {
        let is_kind = scan.kind.is_none_or(|kind| is(kind, entry.value.kind()));
        is_kind && entry.expires_ms.is_none_or(|at| at > now) && scan.takes(key)
    });
    Ok(reply(next, keys.map(|(key, _)| Reply::bulk(key)).collect()))
}

/// A cursor as Redis reads it (`strtoul`): a sign is allowed, and turns it round.
pub(crate) fn cursor(arg: &[u8]) -> Result<usize, Refusal> {
    let (is_negative, digits) = match arg {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() && arg.is_empty() {
        return Ok(0);
    }
    let number = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse::<usize>().ok()).ok_or_else(|| refusal("ERR invalid cursor"))?;
    Ok(if is_negative { number.wrapping_neg() } else { number })
}

/// The answer of a scan.
pub(crate) fn reply(next: usize, elements: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(elements)])
}

impl<'a> Scan<'a> {
    pub(crate) fn parse(args: Args<'a>, takes_type: bool) -> Result<Scan<'a>, Refusal> {
        let mut scan = Scan { count: 10, pattern: None, kind: None };
        let (pairs, rest) = args.as_chunks::<2>();
        for &[name, value] in pairs {
            if is(name, "count") {
                let count = integer(value)?;
                scan.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(syntax)?;
            } else if is(name, "match") {
                scan.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if is(name, "type") && takes_type {
                scan.kind = Some(value);
            } else {
                return Err(syntax());
            }
        }
        if rest.is_empty() { Ok(scan) } else { Err(syntax()) }
    }

    /// The indexes of `len` to look at next, to be taken backwards, and the cursor that goes on from there.
    pub(crate) fn walk(&self, cursor: usize, len: usize) -> (Range<usize>, usize) {
        let end = if cursor == 0 { len } else { cursor.min(len) };
        let start = end.saturating_sub(self.count);
        (start..end, start)
    }

    /// Whether the pattern, where there is one, describes `name`.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}
