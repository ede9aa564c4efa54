//! Lists, one at a time; elements that go from one to another are `list_move`.

use std::ops::Range;

use crate::args::{Refusal, at_least, integer, is, positive, refusal, span, syntax, wrong_arity};
use crate::command::{Args, Command, Context, flag::*};
use crate::commands::keys::no_such_key;
use crate::reply::Reply;
use crate::value::{End, List};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "lpush", arity: -3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "list", run: lpush },
    Command { name: "rpush", arity: -3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "list", run: rpush },
    Command { name: "lpushx", arity: -3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "list", run: lpushx },
    Command { name: "rpushx", arity: -3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "list", run: rpushx },
    Command { name: "lpop", arity: -2, flags: WRITE | FAST, keys: (1, 1, 1), group: "list", run: lpop },
    Command { name: "rpop", arity: -2, flags: WRITE | FAST, keys: (1, 1, 1), group: "list", run: rpop },
    Command { name: "llen", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "list", run: llen },
    Command { name: "lrange", arity: 4, flags: READONLY, keys: (1, 1, 1), group: "list", run: lrange },
    Command { name: "lindex", arity: 3, flags: READONLY, keys: (1, 1, 1), group: "list", run: lindex },
    Command { name: "lset", arity: 4, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "list", run: lset },
    Command { name: "linsert", arity: 5, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "list", run: linsert },
    Command { name: "lrem", arity: 4, flags: WRITE, keys: (1, 1, 1), group: "list", run: lrem },
    Command { name: "ltrim", arity: 4, flags: WRITE, keys: (1, 1, 1), group: "list", run: ltrim },
    Command { name: "lpos", arity: -3, flags: READONLY, keys: (1, 1, 1), group: "list", run: lpos },
];

fn lpush(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    push_all(context, args[1], &args[2..], End::Left)
}

fn rpush(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    push_all(context, args[1], &args[2..], End::Right)
}

fn lpushx(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if context.find::<List>(args[1])?.is_none() { Ok(Reply::Int(0)) } else { lpush(context, args) }
}

fn rpushx(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if context.find::<List>(args[1])?.is_none() { Ok(Reply::Int(0)) } else { rpush(context, args) }
}

fn push_all(context: &mut Context<'_>, key: &[u8], elements: Args<'_>, end: End) -> Result<Reply, Refusal> {
    let len = if let Some(list) = context.find_mut::<List>(key)? {
        elements.iter().for_each(|element| list.push(end, element));
        let len = list.len();
        context.changed(key);
        len
    } else {
        let mut list = List::default();
        elements.iter().for_each(|element| list.push(end, element));
        context.put(key, list, None);
        elements.len()
    };
    context.ready(key);
    Ok(Reply::count(len))
}

fn lpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop(context, args, End::Left, "lpop")
}

fn rpop(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    pop(context, args, End::Right, "rpop")
}

fn pop(context: &mut Context<'_>, args: Args<'_>, end: End, command: &str) -> Result<Reply, Refusal> {
    match *args {
        [_, key] => Ok(pop_some(context, key, end, 1)?.into_iter().flatten().next().map_or(Reply::Null, Reply::Bulk)),
        [_, key, count] => {
            let popped = pop_some(context, key, end, positive(count)?)?;
            Ok(popped.map_or(Reply::NullArray, |popped| Reply::Array(popped.into_iter().map(Reply::Bulk).collect())))
        }
        _ => Err(wrong_arity(command)),
    }
}

/// Takes up to `most` elements off an end; none at all where there is no list.
pub(crate) fn pop_some(
    context: &mut Context<'_>,
    key: &[u8],
    end: End,
    most: usize,
) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
    let Some(list) = context.find_mut::<List>(key)? else { return Ok(None) };
    let popped: Vec<Vec<u8>> = std::iter::from_fn(|| list.pop(end)).take(most).map(Into::into).collect();
    if !popped.is_empty() {
        context.changed(key);
    }
    Ok(Some(popped))
}

fn llen(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(context.find::<List>(args[1])?.map_or(0, List::len)))
}

fn lrange(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    let Some(list) = context.find::<List>(args[1])? else { return Ok(Reply::Array(Vec::new())) };
    Ok(Reply::Array(list.range(span(start, end, list.len())).map(Reply::bulk).collect()))
}

/// Where `index`, from the end where it is negative, is in `len` elements.
fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

fn lindex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let Some(list) = context.find::<List>(args[1])? else { return Ok(Reply::Null) };
    let index = place(integer(args[2])?, list.len());
    Ok(Reply::maybe(index.and_then(|index| list.get(index))))
}

fn lset(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let list = context.find_mut::<List>(args[1])?.ok_or_else(no_such_key)?;
    let index = place(integer(args[2])?, list.len());
    let is_replaced = index.is_some_and(|index| list.replace(index, args[3]));
    if !is_replaced {
        return Err(refusal("ERR index out of range"));
    }
    context.changed(args[1]);
    Ok(Reply::OK)
}

fn linsert(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, pivot) = (args[1], args[3]);
    let behind = if is(args[2], "after") {
        1
    } else if is(args[2], "before") {
        0
    } else {
        return Err(syntax());
    };
    let Some(list) = context.find_mut::<List>(key)? else { return Ok(Reply::Int(0)) };
    let Some(index) = list.iter().position(|element| **element == *pivot) else { return Ok(Reply::Int(-1)) };
    list.insert(index + behind, args[4]);
    let len = list.len();
    context.changed(key);
    Ok(Reply::count(len))
}

fn lrem(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let count = integer(args[2])?;
    let Some(list) = context.find_mut::<List>(args[1])? else { return Ok(Reply::Int(0)) };
    let end = if count < 0 { End::Right } else { End::Left };
    let most = if count == 0 { usize::MAX } else { usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) };
    let removed = list.remove_equal(args[3], end, most);
    if removed > 0 {
        context.changed(args[1]);
    }
    Ok(Reply::count(removed))
}

fn ltrim(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    if let Some(list) = context.find_mut::<List>(args[1])? {
        list.keep(span(start, end, list.len()));
        context.changed(args[1]);
    }
    Ok(Reply::OK)
}

fn lpos(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let search = Search::parse(&args[3..])?;
    let Some(list) = context.find::<List>(args[1])? else {
        return Ok(if search.count.is_some() { Reply::Array(Vec::new()) } else { Reply::Null });
    };
    let mut found = search.run(list, args[2]);
    Ok(match search.count {
        None => found.next().map_or(Reply::Null, Reply::count),
        Some(0) => Reply::Array(found.map(Reply::count).collect()),
        Some(count) => Reply::Array(found.take(count).map(Reply::count).collect()),
    })
}

/// What LPOS is told beside the element.
struct Search {
    /// Which match is the first to be told, from 1 on.
    rank: usize,
    from: End,
    count: Option<usize>,
    /// How many elements are looked at; 0: all.
    max_len: usize,
}

impl Search {
    fn parse(args: Args<'_>) -> Result<Search, Refusal> {
        let mut search = Search { rank: 1, from: End::Left, count: None, max_len: 0 };
        let (pairs, rest) = args.as_chunks::<2>();
        for &[name, value] in pairs {
            if is(name, "rank") {
                let rank = integer(value)?;
                if rank == 0 {
                    return Err(refusal(RANK_ZERO));
                }
                search.rank = usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX);
                search.from = if rank < 0 { End::Right } else { End::Left };
            } else if is(name, "count") {
                search.count = Some(at_least(value, 0, "ERR COUNT can't be negative")?);
            } else if is(name, "maxlen") {
                search.max_len = at_least(value, 0, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(syntax());
            }
        }
        if rest.is_empty() { Ok(search) } else { Err(syntax()) }
    }

    fn run<'a>(&self, list: &'a List, element: &'a [u8]) -> Box<dyn Iterator<Item = usize> + 'a> {
        let len = list.len();
        let looked_at = if self.max_len == 0 { len } else { self.max_len.min(len) };
        let is_equal = move |index: &usize| list.get(*index) == Some(element);
        let indexes: Range<usize> = if self.from == End::Left { 0..looked_at } else { len - looked_at..len };
        if self.from == End::Left {
            Box::new(indexes.filter(is_equal).skip(self.rank - 1))
        } else {
            Box::new(indexes.rev().filter(is_equal).skip(self.rank - 1))
        }
    }
}

const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list";
