//! LCS: the longest text that is left of both of two strings when bytes are struck out.

use crate::args::{Refusal, integer, is, refusal, syntax};
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::Reply;
use crate::value::{Kind, Text};

pub(crate) const COMMANDS: &[Command] =
    &[Command { name: "lcs", arity: -3, flags: READONLY, keys: (1, 2, 1), group: "string", run: lcs }];

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

/// A run of bytes that both have: where it begins in each, and how long it is.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

fn lcs(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (a, b) = (bytes(context, args[1])?, bytes(context, args[2])?);
    let options = Options::parse(&args[3..])?;
    // Redis keeps four bytes for each pair of bytes, and refuses by that.
    let table_bytes = (a.len() as u128 + 1) * (b.len() as u128 + 1) * 4;
    if table_bytes > context.engine.settings.proto_max_bulk_len as u128 {
        return Err(refusal("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    let table = Table::new(&a, &b);
    if options.len {
        return Ok(Reply::count(table.len));
    }
    let matches = table.matches(&a, &b);
    if options.idx {
        return Ok(options.show(&matches, table.len));
    }
    Ok(Reply::Bulk(matches.iter().rev().flat_map(|found| &a[found.a..found.a + found.len]).copied().collect()))
}

fn bytes(context: &mut Context<'_>, key: &[u8]) -> Result<Vec<u8>, Refusal> {
    let Some(entry) = context.get(key) else { return Ok(Vec::new()) };
    let text = Text::of(&entry.value).ok_or_else(|| refusal("ERR The specified keys must contain string values"))?;
    Ok(text.bytes.clone())
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Options, Refusal> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if is(arg, "idx") {
                options.idx = true;
            } else if is(arg, "len") {
                options.len = true;
            } else if is(arg, "withmatchlen") {
                options.with_match_len = true;
            } else if is(arg, "minmatchlen") {
                let number = rest.next().ok_or_else(syntax)?;
                options.min_match_len = usize::try_from(integer(number)?).unwrap_or(0);
            } else {
                return Err(syntax());
            }
        }
        if options.len && options.idx {
            return Err(refusal("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }

    fn show(&self, matches: &[Match], len: usize) -> Reply {
        let range = |start: usize, len: usize| Reply::Array(vec![Reply::count(start), Reply::count(start + len - 1)]);
        let shown = matches.iter().filter(|found| found.len >= self.min_match_len).map(|found| {
            let mut parts = vec![range(found.a, found.len), range(found.b, found.len)];
            if self.with_match_len {
                parts.push(Reply::count(found.len));
            }
            Reply::Array(parts)
        });
        let matches = Reply::Array(shown.collect());
        Reply::Map(vec![(Reply::bulk("matches"), matches), (Reply::bulk("len"), Reply::count(len))])
    }
}

/// For each pair of prefixes, by which of them to go back: one bit, where the textbook's table of lengths has 32.
struct Table {
    len: usize,
    width: usize,
    /// Whether striking the last byte of the prefix of `a` leaves more than striking that of `b`.
    strikes_a: Vec<u64>,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Table {
        let mut strikes_a = vec![0; (a.len() * b.len()).div_ceil(64)];
        let mut above = vec![0_u32; b.len() + 1];
        let mut row = above.clone();
        for (i, a_byte) in a.iter().enumerate() {
            for (j, b_byte) in b.iter().enumerate() {
                row[j + 1] = if a_byte == b_byte { above[j] + 1 } else { above[j + 1].max(row[j]) };
                let cell = i * b.len() + j;
                strikes_a[cell / 64] |= u64::from(above[j + 1] > row[j]) << (cell % 64);
            }
            std::mem::swap(&mut above, &mut row);
        }
        Table { len: above[b.len()] as usize, width: b.len(), strikes_a }
    }

    /// The runs that make up the text, the last one first.
    fn matches(&self, a: &[u8], b: &[u8]) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match matches.last_mut() {
                    Some(last) if last.a == i + 1 && last.b == j + 1 => *last = Match { a: i, b: j, len: last.len + 1 },
                    _ => matches.push(Match { a: i, b: j, len: 1 }),
                }
                continue;
            }
            let cell = (i - 1) * self.width + j - 1;
            if self.strikes_a[cell / 64] >> (cell % 64) & 1 == 1 { i -= 1 } else { j -= 1 }
        }
        matches
    }
}
