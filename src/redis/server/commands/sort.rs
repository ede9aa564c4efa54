//! SORT: the elements of a list, a set or a sorted set, ordered by themselves or by what other keys say about them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use crate::args::{Refusal, float, integer, is, refusal, syntax, wrong_type};
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::{Reply, Room};
use crate::value::{End, Hash, Kind, List, Text, Value};

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "sort",
        arity: -2,
        flags: WRITE | DENYOOM | MOVABLEKEYS,
        keys: (1, 1, 1),
        group: "generic",
        run: sort,
    },
    Command {
        name: "sort_ro",
        arity: -2,
        flags: READONLY | MOVABLEKEYS,
        keys: (1, 1, 1),
        group: "generic",
        run: sort_ro,
    },
];

fn sort(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    run(context, args[1], &Options::parse(&args[2..], true)?)
}

fn sort_ro(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    run(context, args[1], &Options::parse(&args[2..], false)?)
}

#[derive(Default)]
struct Options<'a> {
    is_descending: bool,
    is_alpha: bool,
    start: i64,
    /// All, where negative.
    count: i64,
    by: Option<&'a [u8]>,
    /// BY something that is the same for all: they stay as they are, whatever another BY says.
    stays: bool,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, may_store: bool) -> Result<Options<'a>, Refusal> {
        let mut options = Options { count: -1, ..Options::default() };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut next = || rest.next().copied().ok_or_else(syntax);
            match () {
                () if is(arg, "asc") => options.is_descending = false,
                () if is(arg, "desc") => options.is_descending = true,
                () if is(arg, "alpha") => options.is_alpha = true,
                () if is(arg, "limit") => {
                    let (start, count) = (next()?, next()?);
                    (options.start, options.count) = (integer(start)?, integer(count)?);
                }
                () if is(arg, "store") && may_store => options.store = Some(next()?),
                () if is(arg, "by") => {
                    let by = next()?;
                    options.by = Some(by);
                    options.stays |= !by.contains(&b'*');
                }
                () if is(arg, "get") => options.get.push(next()?),
                () => return Err(syntax()),
            }
        }
        Ok(options)
    }

    /// Which of `len` elements are wanted once they are in order.
    fn limits(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.start.max(0)).unwrap_or(usize::MAX).min(len);
        let count = if self.count < 0 { len } else { usize::try_from(self.count).unwrap_or(usize::MAX) };
        start..start.saturating_add(count).min(len)
    }
}

fn run(context: &mut Context<'_>, key: &[u8], options: &Options<'_>) -> Result<Reply, Refusal> {
    let (elements, is_set) = elements(context, key)?;
    // A set has no order of its own, and what is stored or told to a script must not depend on chance.
    let is_ordered_anyway = options.stays && is_set && (options.store.is_some() || context.client.in_script);
    let mut elements = if is_ordered_anyway {
        ordered(elements, |_| Ok(Rank::Itself), options.is_descending)?
    } else if !options.stays {
        let mut room = context.room();
        ordered(elements, |element| Rank::of(context, element, options, &mut room), options.is_descending)?
    } else if options.is_descending && !is_set {
        elements.into_iter().rev().collect()
    } else {
        elements
    };
    let limits = options.limits(elements.len());
    let shown = shown(context, elements.drain(limits), &options.get)?;
    let count = shown.len();
    match options.store {
        None => return Ok(Reply::Array(shown.into_iter().map(Reply::maybe).collect())),
        Some(to) if shown.is_empty() => drop(context.take(to)),
        Some(to) => {
            let mut list = List::default();
            shown.iter().for_each(|element| list.push(End::Right, element.as_deref().unwrap_or_default()));
            context.put(to, list, None);
        }
    }
    Ok(Reply::count(count))
}

/// What is at `key`, in its own order where it has one, and whether it is a set.
fn elements(context: &mut Context<'_>, key: &[u8]) -> Result<(Vec<Vec<u8>>, bool), Refusal> {
    Ok(match context.get(key).map(|entry| &entry.value) {
        None => (Vec::new(), false),
        Some(Value::List(list)) => (list.iter().map(|element| element.to_vec()).collect(), false),
        Some(Value::Set(set)) => (set.iter().map(Cow::into_owned).collect(), true),
        Some(Value::ZSet(set)) => (set.ranks(0..set.len()).map(|(member, _)| member.to_vec()).collect(), false),
        Some(Value::Str(_) | Value::Hash(_)) => return Err(wrong_type()),
    })
}

/// What the elements stand for in the answer: themselves, or what each pattern finds for each.
fn shown(
    context: &mut Context<'_>,
    elements: impl Iterator<Item = Vec<u8>>,
    patterns: &[&[u8]],
) -> Result<Vec<Option<Vec<u8>>>, Refusal> {
    if patterns.is_empty() {
        return Ok(elements.map(Some).collect());
    }
    let mut room = context.room();
    let mut shown = Vec::new();
    for element in elements {
        for pattern in patterns {
            let found = look_up(context, pattern, &element);
            room.take(found.as_ref().map_or(0, Vec::len))?;
            shown.push(found);
        }
    }
    Ok(shown)
}

/// By what an element is ordered.
enum Rank {
    /// By a number, and where that is equal by the bytes.
    Number(f64),
    /// By text that a pattern found. What has none comes first.
    Text(Option<Vec<u8>>),
    /// By its bytes. Redis collates by the server's locale where it does not store; here the locale is always C, as it is
    /// in containers.
    Itself,
}

impl Rank {
    fn of(context: &mut Context<'_>, element: &[u8], options: &Options<'_>, room: &mut Room) -> Result<Rank, Refusal> {
        let found = options.by.map(|pattern| look_up(context, pattern, element));
        room.take(found.iter().flatten().map(Vec::len).sum())?;
        match found {
            None if options.is_alpha => Ok(Rank::Itself),
            Some(text) if options.is_alpha => Ok(Rank::Text(text)),
            None => number(element).map(Rank::Number),
            Some(text) => text.map_or(Ok(0.0), |text| number(&text)).map(Rank::Number),
        }
    }
}

/// A number as `strtod` finds it: spaces before it are skipped, the text ends with a zero byte, and no text is nothing.
fn number(text: &[u8]) -> Result<f64, Refusal> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let trimmed = text.trim_ascii_start();
    let number = if text.is_empty() { Some(0.0) } else { float(trimmed) };
    number.ok_or_else(|| refusal("ERR One or more scores can't be converted into double"))
}

fn ordered(
    elements: Vec<Vec<u8>>,
    mut rank: impl FnMut(&[u8]) -> Result<Rank, Refusal>,
    is_descending: bool,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let ranked = elements.into_iter().map(|element| rank(&element).map(|rank| (rank, element)));
    let mut ranked = ranked.collect::<Result<Vec<_>, _>>()?;
    ranked.sort_by(|(a_rank, a), (b_rank, b)| {
        let order = match (a_rank, b_rank) {
            (Rank::Number(a_rank), Rank::Number(b_rank)) => {
                a_rank.partial_cmp(b_rank).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b))
            }
            (Rank::Text(a_text), Rank::Text(b_text)) => a_text.cmp(b_text),
            _ => a.cmp(b),
        };
        if is_descending { order.reverse() } else { order }
    });
    Ok(ranked.into_iter().map(|(_, element)| element).collect())
}

/// What `pattern` finds for `element`: `#` is the element itself, `a*b` the string at that key with the element for `*`,
/// `a*b->field` a field of the hash there.
fn look_up(context: &mut Context<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, behind) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = behind.windows(2).position(|two| two == b"->").filter(|arrow| arrow + 2 < behind.len());
    let behind_key = &behind[..arrow.unwrap_or(behind.len())];
    let value = &context.get(&[before, element, behind_key].concat())?.value;
    match arrow {
        None => Text::of(value).map(|text| text.bytes.clone()),
        Some(arrow) => Hash::of(value)?.get(&behind[arrow + 2..]).map(<[u8]>::to_vec),
    }
}
