//! What several sets have in common, have together, and have not.

use std::borrow::Cow;

use crate::args::{Refusal, at_least, is, refusal, syntax};
use crate::command::{Args, Command, Context, flag::*};
use crate::reply::Reply;
use crate::value::{Kind, Set};

pub(crate) const COMMANDS: &[Command] = &[
    Command { name: "sinter", arity: -2, flags: READONLY, keys: (1, -1, 1), group: "set", run: sinter },
    Command {
        name: "sintercard",
        arity: -3,
        flags: READONLY | MOVABLEKEYS,
        keys: (0, 0, 0),
        group: "set",
        run: sintercard,
    },
    Command {
        name: "sinterstore",
        arity: -3,
        flags: WRITE | DENYOOM,
        keys: (1, -1, 1),
        group: "set",
        run: sinterstore,
    },
    Command { name: "sunion", arity: -2, flags: READONLY, keys: (1, -1, 1), group: "set", run: sunion },
    Command {
        name: "sunionstore",
        arity: -3,
        flags: WRITE | DENYOOM,
        keys: (1, -1, 1),
        group: "set",
        run: sunionstore,
    },
    Command { name: "sdiff", arity: -2, flags: READONLY, keys: (1, -1, 1), group: "set", run: sdiff },
    Command { name: "sdiffstore", arity: -3, flags: WRITE | DENYOOM, keys: (1, -1, 1), group: "set", run: sdiffstore },
];

/// A way to make one set of several.
type Operation = for<'a> fn(&[Option<&'a Set>]) -> Box<dyn Iterator<Item = Cow<'a, [u8]>> + 'a>;

fn sinter(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    // Members of one set, as they are: nothing stands twice.
    let sets = sets(context, &args[1..])?;
    Ok(Reply::Set(common(&sets).map(Reply::bulk).collect()))
}

fn sunion(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, union)
}

fn sdiff(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    show(context, args, difference)
}

fn sinterstore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    store(context, args, common)
}

fn sunionstore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    store(context, args, union)
}

fn sdiffstore(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    store(context, args, difference)
}

fn show(context: &mut Context<'_>, args: Args<'_>, operation: Operation) -> Result<Reply, Reply> {
    let made = make(context, &args[1..], operation)?;
    Ok(Reply::Set(made.iter().map(Reply::bulk).collect()))
}

fn store(context: &mut Context<'_>, args: Args<'_>, operation: Operation) -> Result<Reply, Reply> {
    let (to, made) = (args[1], make(context, &args[2..], operation)?);
    let len = made.len();
    if made.is_empty() {
        context.take(to);
    } else {
        context.put(to, made, None);
    }
    Ok(Reply::count(len))
}

fn make(context: &mut Context<'_>, keys: Args<'_>, operation: Operation) -> Result<Set, Refusal> {
    let max_ints = context.engine.settings.set_max_intset_entries;
    let mut made = Set::default();
    for member in operation(&sets(context, keys)?) {
        made.insert(&member, max_ints);
    }
    Ok(made)
}

/// The sets at `keys`; none, where there is none.
fn sets<'a>(context: &'a mut Context<'_>, keys: Args<'_>) -> Result<Vec<Option<&'a Set>>, Refusal> {
    for key in keys {
        context.find::<Set>(key)?;
    }
    let db = &context.engine.dbs[context.client.db];
    Ok(keys.iter().map(|key| db.held(key).and_then(Set::of)).collect())
}

/// Members of the smallest set that all others have.
fn common<'a>(sets: &[Option<&'a Set>]) -> Box<dyn Iterator<Item = Cow<'a, [u8]>> + 'a> {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<_>>>() else { return Box::new(std::iter::empty()) };
    sets.sort_by_key(|set| set.len());
    let mut sets = sets.into_iter();
    let smallest = sets.next().into_iter().flat_map(Set::iter);
    Box::new(smallest.filter(move |member| sets.clone().all(|set| set.contains(member))))
}

fn union<'a>(sets: &[Option<&'a Set>]) -> Box<dyn Iterator<Item = Cow<'a, [u8]>> + 'a> {
    let sets: Vec<&Set> = sets.iter().copied().flatten().collect();
    Box::new(sets.into_iter().flat_map(Set::iter))
}

/// Members of the first set that no other has. Looked up one by one: at most as many steps as the first has members, times
/// the sets.
fn difference<'a>(sets: &[Option<&'a Set>]) -> Box<dyn Iterator<Item = Cow<'a, [u8]>> + 'a> {
    let [Some(first), others @ ..] = sets else { return Box::new(std::iter::empty()) };
    let mut others: Vec<&Set> = others.iter().copied().flatten().collect();
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    Box::new(first.iter().filter(move |member| !others.iter().any(|set| set.contains(member))))
}

fn sintercard(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let count = at_least(args[1], 1, "ERR numkeys should be greater than 0")?;
    let Some((keys, options)) = args[2..].split_at_checked(count) else {
        return Err(refusal("ERR Number of keys can't be greater than number of args"));
    };
    let mut limit = 0;
    let (pairs, rest) = options.as_chunks::<2>();
    for &[name, value] in pairs {
        if !is(name, "limit") {
            return Err(syntax());
        }
        limit = at_least(value, 0, "ERR LIMIT can't be negative")?;
    }
    if !rest.is_empty() {
        return Err(syntax());
    }
    let most = if limit == 0 { usize::MAX } else { limit };
    let sets = sets(context, keys)?;
    Ok(Reply::count(common(&sets).take(most).count()))
}
