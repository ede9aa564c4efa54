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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use crate::reply::Reply;
    use crate::testing::Bench;

    /// Something that others do while a scan is under way.
    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Remove(u8),
        Scan(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<u8>().prop_map(Step::Add),
            any::<u8>().prop_map(Step::Remove),
            (1..20_usize).prop_map(Step::Scan),
        ]
    }

    /// One step of a scan: `names` get what it finds; the next cursor.
    fn scan(bench: &mut Bench, line: &str, stride: usize, names: &mut BTreeSet<String>) -> String {
        let Reply::Array(parts) = bench.run(line) else { panic!("no scan: {line}") };
        let [Reply::Bulk(cursor), Reply::Array(found)] = &*parts else { panic!("no scan: {line}") };
        names.extend(found.iter().step_by(stride).map(|name| match name {
            Reply::Bulk(name) => String::from_utf8_lossy(name).into_owned(),
            other => panic!("no name: {other:?}"),
        }));
        String::from_utf8_lossy(cursor).into_owned()
    }

    /// Runs a scan between `steps` to its end; what it found, and what was there from start to end.
    fn run(
        steps: &[Step],
        add: impl Fn(&str) -> String,
        remove: impl Fn(&str) -> String,
        scan_from: impl Fn(&str) -> String,
        stride: usize,
    ) -> (BTreeSet<String>, BTreeSet<String>) {
        let mut bench = Bench::new(None);
        let mut there: BTreeSet<String> = (0..150).map(|number| format!("n{number}")).collect();
        there.iter().for_each(|name| drop(bench.run(&add(name))));
        let (mut found, mut cursor) = (BTreeSet::new(), "0".to_owned());
        for step in steps {
            match step {
                Step::Add(number) => drop(bench.run(&add(&format!("n{number}")))),
                Step::Remove(number) => {
                    there.remove(&format!("n{number}"));
                    drop(bench.run(&remove(&format!("n{number}"))));
                }
                Step::Scan(count) => {
                    let line = format!("{} count {count}", scan_from(&cursor));
                    cursor = scan(&mut bench, &line, stride, &mut found);
                    if cursor == "0" {
                        break;
                    }
                }
            }
        }
        // What was begun is brought to its end, and what was not is run whole.
        loop {
            cursor = scan(&mut bench, &scan_from(&cursor), stride, &mut found);
            if cursor == "0" {
                return (found, there);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A clean-up walks over all keys while callers come and go. A key that it never sees leaks for ever; this deletes,
        /// and adds, between any two steps of the walk.
        #[test]
        fn a_scan_returns_every_key_that_was_there_throughout(steps in prop::collection::vec(step(), 0..120)) {
            let (found, there) = run(
                &steps,
                |name| format!("set {name} 1"),
                |name| format!("del {name}"),
                |cursor| format!("scan {cursor}"),
                1,
            );
            prop_assert!(found.is_superset(&there));
        }

        /// The same for members of one set and fields of one hash, once they are too large to be returned whole.
        #[test]
        fn so_does_a_scan_of_members_or_fields(steps in prop::collection::vec(step(), 0..120)) {
            let (found, there) = run(
                &steps,
                |name| format!("sadd s {name}"),
                |name| format!("srem s {name}"),
                |cursor| format!("sscan s {cursor}"),
                1,
            );
            prop_assert!(found.is_superset(&there));
            // A long value makes it large from the start.
            let long = "x".repeat(65);
            let (found, there) = run(
                &steps,
                |name| format!("hset h {name} {long}"),
                |name| format!("hdel h {name}"),
                |cursor| format!("hscan h {cursor}"),
                2,
            );
            prop_assert!(found.is_superset(&there));
        }
    }
}
