//! Strings, whole and in part. Numbers in them are `counters`, what two have in common is `lcs`.

use crate::args::{Refusal, integer, is, refusal, syntax, wrong_arity};
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::Reply;
use crate::value::{Form, Kind, Text};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "get", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "string", run: get },
    Command { name: "set", arity: -3, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "string", run: set },
    Command { name: "setnx", arity: 3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: setnx },
    Command { name: "setex", arity: 4, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "string", run: setex },
    Command { name: "psetex", arity: 4, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "string", run: psetex },
    Command { name: "getex", arity: -2, flags: WRITE | FAST, keys: (1, 1, 1), group: "string", run: getex },
    Command { name: "getdel", arity: 2, flags: WRITE | FAST, keys: (1, 1, 1), group: "string", run: getdel },
    Command { name: "getset", arity: 3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: getset },
    Command { name: "append", arity: 3, flags: WRITE | DENYOOM | FAST, keys: (1, 1, 1), group: "string", run: append },
    Command { name: "strlen", arity: 2, flags: READONLY | FAST, keys: (1, 1, 1), group: "string", run: strlen },
    Command { name: "getrange", arity: 4, flags: READONLY, keys: (1, 1, 1), group: "string", run: getrange },
    Command { name: "substr", arity: 4, flags: READONLY, keys: (1, 1, 1), group: "string", run: getrange },
    Command { name: "setrange", arity: 4, flags: WRITE | DENYOOM, keys: (1, 1, 1), group: "string", run: setrange },
    Command { name: "mget", arity: -2, flags: READONLY | FAST, keys: (1, -1, 1), group: "string", run: mget },
    Command { name: "mset", arity: -3, flags: WRITE | DENYOOM, keys: (1, -1, 2), group: "string", run: mset },
    Command { name: "msetnx", arity: -3, flags: WRITE | DENYOOM, keys: (1, -1, 2), group: "string", run: msetnx },
];

fn get(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::maybe(context.find::<Text>(args[1])?.map(|text| &text.bytes)))
}

fn set(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let options = if args.len() > 3 { Options::of_set(&args[3..])? } else { Options::default() };
    let expires_ms = options.expiry.map(|expiry| expiry.at(context.now_ms(), "set")).transpose()?;
    let key = args[1];
    let old = if options.get { Some(get(context, &args[..2])?) } else { None };
    if options.only.is_some() || options.keep_ttl {
        let found = context.get(key).map(|entry| entry.expires_ms);
        if options.only.is_some_and(|only| (only == Only::Present) != found.is_some()) {
            return Ok(old.unwrap_or(Reply::Null));
        }
        let kept = if options.keep_ttl { found.flatten() } else { None };
        context.put(key, args[2].to_vec(), expires_ms.or(kept));
    } else {
        context.put(key, args[2].to_vec(), expires_ms);
    }
    Ok(old.unwrap_or(Reply::OK))
}

/// What SET and GETEX are told beside key and value.
#[derive(Clone, Copy, Default)]
struct Options<'a> {
    only: Option<Only>,
    expiry: Option<Expiry<'a>>,
    keep_ttl: bool,
    get: bool,
    persist: bool,
}

/// SET's conditions.
#[derive(Clone, Copy, PartialEq)]
enum Only {
    /// NX
    Absent,
    /// XX
    Present,
}

/// When a key is to expire, as it was asked for.
#[derive(Clone, Copy)]
struct Expiry<'a> {
    unit: Unit,
    number: &'a [u8],
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Seconds,
    Millis,
    UnixSeconds,
    UnixMillis,
}

impl<'a> Options<'a> {
    fn of_set(args: Args<'a>) -> Result<Options<'a>, Refusal> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if is(arg, "nx") && options.only != Some(Only::Present) {
                options.only = Some(Only::Absent);
            } else if is(arg, "xx") && options.only != Some(Only::Absent) {
                options.only = Some(Only::Present);
            } else if is(arg, "get") {
                options.get = true;
            } else if is(arg, "keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else {
                options.expire(arg, rest.next())?;
            }
        }
        Ok(options)
    }

    fn of_getex(args: Args<'a>) -> Result<Options<'a>, Refusal> {
        let mut options = Options::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if is(arg, "persist") && options.expiry.is_none() {
                options.persist = true;
            } else {
                options.expire(arg, rest.next())?;
            }
        }
        Ok(options)
    }

    /// One of the four ways to say when; the same twice is allowed, two of them are not.
    fn expire(&mut self, name: &[u8], number: Option<&&'a [u8]>) -> Result<(), Refusal> {
        let unit = match name.len() {
            2 if is(name, "ex") => Unit::Seconds,
            2 if is(name, "px") => Unit::Millis,
            4 if is(name, "exat") => Unit::UnixSeconds,
            4 if is(name, "pxat") => Unit::UnixMillis,
            _ => return Err(syntax()),
        };
        let is_other = self.expiry.is_some_and(|before| before.unit != unit);
        let Some(number) = number.filter(|_| !is_other && !self.keep_ttl && !self.persist) else {
            return Err(syntax());
        };
        self.expiry = Some(Expiry { unit, number });
        Ok(())
    }
}

impl Expiry<'_> {
    /// Unix time, ms.
    fn at(self, now_ms: i64, command: &str) -> Result<i64, Refusal> {
        let number = integer(self.number)?;
        let factor = if matches!(self.unit, Unit::Seconds | Unit::UnixSeconds) { 1000 } else { 1 };
        let from = if matches!(self.unit, Unit::Seconds | Unit::Millis) { now_ms } else { 0 };
        let at = number.checked_mul(factor).filter(|_| number > 0).and_then(|ms| ms.checked_add(from));
        at.ok_or_else(|| invalid_expiry(command))
    }
}

pub(crate) fn invalid_expiry(command: &str) -> Refusal {
    refusal(format!("ERR invalid expire time in '{command}' command"))
}

fn setnx(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let is_new = context.get(args[1]).is_none();
    if is_new {
        context.put(args[1], args[2].to_vec(), None);
    }
    Ok(is_new.into())
}

fn setex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    set_until(context, args, Unit::Seconds, "setex")
}

fn psetex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    set_until(context, args, Unit::Millis, "psetex")
}

fn set_until(context: &mut Context<'_>, args: Args<'_>, unit: Unit, command: &str) -> Result<Reply, Reply> {
    let at = Expiry { unit, number: args[2] }.at(context.now_ms(), command)?;
    context.put(args[1], args[3].to_vec(), Some(at));
    Ok(Reply::OK)
}

fn getex(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let options = Options::of_getex(&args[2..])?;
    let (key, now) = (args[1], context.now_ms());
    let Some(entry) = context.get(key) else { return Ok(Reply::Null) };
    let reply = Reply::bulk(&Text::expect(&entry.value)?.bytes);
    if let Some(expiry) = options.expiry {
        let at = expiry.at(now, "getex")?;
        context.expire_at(key, at);
    } else if options.persist && entry.expires_ms.is_some() {
        context.persist(key);
    }
    Ok(reply)
}

fn getdel(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let reply = get(context, args)?;
    context.take(args[1]);
    Ok(reply)
}

fn getset(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let reply = get(context, &args[..2])?;
    context.put(args[1], args[2].to_vec(), None);
    Ok(reply)
}

fn append(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, more) = (args[1], args[2]);
    let most = context.engine.settings.proto_max_bulk_len;
    let Some(text) = context.find_mut::<Text>(key)? else {
        context.put(key, more.to_vec(), None);
        return Ok(Reply::count(more.len()));
    };
    check_length(text.bytes.len(), more.len(), most)?;
    text.bytes.extend_from_slice(more);
    text.form = Form::Grown;
    let len = text.bytes.len();
    context.changed(key);
    Ok(Reply::count(len))
}

fn check_length(len: usize, more: usize, most: usize) -> Result<(), Refusal> {
    if len.saturating_add(more) > most {
        return Err(refusal("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

fn strlen(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(context.find::<Text>(args[1])?.map_or(0, |text| text.bytes.len())))
}

fn getrange(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    let Some(text) = context.find::<Text>(args[1])? else { return Ok(Reply::bulk("")) };
    let len = text.bytes.len() as i64;
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return Ok(Reply::bulk(""));
    }
    let from_end = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end {
        return Ok(Reply::bulk(""));
    }
    Ok(Reply::bulk(&text.bytes[start as usize..=end as usize]))
}

fn setrange(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (key, part) = (args[1], args[3]);
    let Ok(offset) = usize::try_from(integer(args[2])?) else { return Err(refusal("ERR offset is out of range")) };
    let most = context.engine.settings.proto_max_bulk_len;
    let text = context.find_mut::<Text>(key)?;
    if part.is_empty() {
        return Ok(Reply::count(text.map_or(0, |text| text.bytes.len())));
    }
    check_length(offset, part.len(), most)?;
    let Some(text) = text else {
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(part);
        let len = bytes.len();
        context.put(key, Text::new(bytes, Form::Grown), None);
        return Ok(Reply::count(len));
    };
    let end = offset + part.len();
    if text.bytes.len() < end {
        text.bytes.resize(end, 0);
    }
    text.bytes[offset..end].copy_from_slice(part);
    text.form = Form::Grown;
    let len = text.bytes.len();
    context.changed(key);
    Ok(Reply::count(len))
}

fn mget(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let mut room = context.room();
    let mut values = Vec::new();
    for key in &args[1..] {
        // A key of another kind is as good as none here.
        let text = context.get(key).and_then(|entry| Text::of(&entry.value));
        room.take(text.map_or(0, |text| text.bytes.len()))?;
        values.push(Reply::maybe(text.map(|text| &text.bytes)));
    }
    Ok(Reply::Array(values))
}

fn mset(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let pairs = pairs(args, "mset")?;
    pairs.for_each(|(key, value)| context.put(key, value.to_vec(), None));
    Ok(Reply::OK)
}

fn msetnx(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let mut keys = pairs(args, "msetnx")?.map(|(key, _)| key);
    if keys.any(|key| context.get(key).is_some()) {
        return Ok(Reply::Int(0));
    }
    mset(context, args)?;
    Ok(Reply::Int(1))
}

fn pairs<'a>(args: Args<'a>, command: &str) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])>, Refusal> {
    let (pairs, rest) = args[1..].as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|&[key, value]| (key, value))) } else { Err(wrong_arity(command)) }
}
