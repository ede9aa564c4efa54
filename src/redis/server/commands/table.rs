//! COMMAND: the table of commands as clients read it.

use std::sync::OnceLock;

use crate::args::{int, is, refusal, syntax};
use crate::command::{Args, Command, Context, flag::*, lookup, resolve};
use crate::commands::{all, docs};
use crate::glob;
use crate::reply::Reply;

const fn part(
    name: &'static str,
    arity: i32,
    flags: u32,
    run: fn(&mut Context<'_>, Args<'_>) -> Result<Reply, Reply>,
) -> Command {
    Command { name, arity, flags, keys: (0, 0, 0), group: "server", run }
}

pub(crate) const COMMANDS: &[Command] = &[
    part("command", -1, CONTAINER, everything),
    part("command|count", 2, 0, count),
    part("command|info", -2, 0, info),
    part("command|docs", -2, 0, documents),
    part("command|list", -2, 0, list),
    part("command|getkeys", -4, 0, get_keys),
    part("command|help", 2, 0, help),
];

/// The commands that stand for themselves, with the parts of each behind it.
fn families() -> &'static [(&'static Command, Vec<&'static Command>)] {
    static FAMILIES: OnceLock<Vec<(&Command, Vec<&Command>)>> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let is_of = |part: &Command, name: &str| part.name.split_once('|').is_some_and(|(whole, _)| whole == name);
        let whole = all().filter(|command| !command.name.contains('|'));
        whole.map(|command| (command, all().filter(|part| is_of(part, command.name)).collect())).collect()
    })
}

fn parts(command: &Command) -> &'static [&'static Command] {
    families().iter().find(|(whole, _)| whole.name == command.name).map_or(&[], |(_, parts)| parts)
}

fn everything(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::Array(families().iter().map(|(command, _)| described(command)).collect()))
}

fn count(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::count(families().len()))
}

fn info(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    if args.len() == 2 {
        return everything(context, args);
    }
    let one = |name: &&[u8]| lookup(name).map_or(Reply::Null, described);
    Ok(Reply::Array(args[2..].iter().map(one).collect()))
}

fn described(command: &'static Command) -> Reply {
    let (first, last, step) = command.keys;
    let names = |names: Vec<String>| Reply::Set(names.into_iter().map(|name| Reply::Status(name.into())).collect());
    Reply::Array(vec![
        Reply::bulk(command.name),
        Reply::Int(command.arity.into()),
        names(flags(command).map(String::from).collect()),
        Reply::Int(first.into()),
        Reply::Int(last.into()),
        Reply::Int(step.into()),
        names(categories(command).iter().map(|category| format!("@{category}")).collect()),
        Reply::Set(Vec::new()),
        Reply::Set(key_specs(command)),
        Reply::Set(parts(command).iter().map(|part| described(part)).collect()),
    ])
}

fn flags(command: &Command) -> impl Iterator<Item = &'static str> {
    const NAMES: &[(u32, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_MULTI, "no_multi"),
        (MOVABLEKEYS, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
    ];
    let own = command.flags;
    NAMES.iter().filter(move |(flag, _)| own & flag != 0).map(|(_, name)| *name)
}

/// By which Redis's access lists sort commands, and COMMAND LIST.
fn categories(command: &Command) -> Vec<&'static str> {
    let group = match command.group {
        "generic" => Some("keyspace"),
        "sorted-set" | "sorted_set" => Some("sortedset"),
        "transactions" => Some("transaction"),
        "server" => None,
        other => Some(other),
    };
    let is_script = command.group == "scripting";
    let all = [
        (command.has(WRITE), "write"),
        (command.has(READONLY) && !is_script, "read"),
        (command.has(ADMIN), "admin"),
        (command.has(ADMIN), "dangerous"),
        (command.has(FAST), "fast"),
        (!command.has(FAST), "slow"),
        (command.has(BLOCKING), "blocking"),
    ];
    all.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name).chain(group).collect()
}

/// Where its keys are, as far as first, last and step say it.
fn key_specs(command: &Command) -> Vec<Reply> {
    let (first, last, step) = command.keys;
    if first == 0 {
        return Vec::new();
    }
    let text = |text: &'static str| Reply::bulk(text);
    let flags = if command.has(WRITE) { ["RW", "update"] } else { ["RO", "access"] };
    let last = if last < 0 { last } else { last - first };
    let search = vec![
        (text("type"), text("index")),
        (text("spec"), Reply::Map(vec![(text("index"), Reply::Int(first.into()))])),
    ];
    let range = [("lastkey", last), ("keystep", step), ("limit", 0)];
    let range = range.into_iter().map(|(name, value)| (text(name), Reply::Int(value.into()))).collect();
    let find = vec![(text("type"), text("range")), (text("spec"), Reply::Map(range))];
    vec![Reply::Map(vec![
        (text("flags"), Reply::Set(flags.into_iter().map(|flag| Reply::Status(flag.into())).collect())),
        (text("begin_search"), Reply::Map(search)),
        (text("find_keys"), Reply::Map(find)),
    ])]
}

fn documents(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let wanted: Vec<&Command> = match &args[2..] {
        [] => families().iter().map(|(command, _)| *command).collect(),
        names => names.iter().filter_map(|name| lookup(name)).collect(),
    };
    Ok(Reply::Map(wanted.into_iter().map(document).collect()))
}

fn document(command: &'static Command) -> (Reply, Reply) {
    let mut about = vec![
        (Reply::bulk("summary"), Reply::bulk(docs::summary(command.name))),
        (Reply::bulk("group"), Reply::bulk(command.group)),
    ];
    let parts = parts(command);
    if !parts.is_empty() {
        about.push((Reply::bulk("subcommands"), Reply::Map(parts.iter().map(|part| document(part)).collect())));
    }
    (Reply::bulk(command.name), Reply::Map(about))
}

fn list(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let named = |keep: &dyn Fn(&Command) -> bool| {
        Ok(Reply::Array(all().filter(|command| keep(command)).map(|command| Reply::bulk(command.name)).collect()))
    };
    match &args[2..] {
        [] => named(&|_| true),
        [filter, by, value] if is(filter, "FILTERBY") => match by.to_ascii_lowercase().as_slice() {
            b"pattern" => named(&|command| glob::matches(&value.to_ascii_lowercase(), command.name.as_bytes())),
            b"aclcat" => named(&|command| categories(command).iter().any(|category| is(value, category))),
            // There are no modules.
            b"module" => named(&|_| false),
            _ => Err(syntax()),
        },
        _ => Err(syntax()),
    }
}

fn get_keys(_: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let args = &args[2..];
    let command = resolve(args).map_err(|_| refusal("ERR Invalid command specified"))?;
    if !command.takes(args.len()) {
        return Err(refusal("ERR Invalid number of arguments specified for command"));
    }
    if command.keys.0 == 0 && !command.has(MOVABLEKEYS) {
        return Err(refusal("ERR The command has no key arguments"));
    }
    // Scripts need not have any.
    let keys = match keys(command, args) {
        None if command.group != "scripting" => return Err(refusal("ERR Invalid arguments specified for command")),
        keys => keys.unwrap_or_default(),
    };
    Ok(Reply::Array(keys.iter().map(Reply::bulk).collect()))
}

/// The keys among `args`; none where they do not say where these are.
fn keys<'a>(command: &Command, args: Args<'a>) -> Option<Vec<&'a [u8]>> {
    let mut keys = ranged(command.keys, args)?;
    let counted = match command.name {
        "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "zunionstore" | "zinterstore" | "zdiffstore" => Some(2),
        "blmpop" | "bzmpop" => Some(2),
        "zunion" | "zinter" | "zdiff" | "zintercard" | "sintercard" | "lmpop" | "zmpop" => Some(1),
        _ => None,
    };
    if let Some(at) = counted {
        let count = usize::try_from(int(args.get(at)?)?).ok()?;
        keys.extend(args[at + 1..].get(..count)?);
    }
    if command.name == "sort" {
        let store = args.windows(2).skip(2).rfind(|pair| is(pair[0], "STORE"));
        keys.extend(store.map(|pair| pair[1]));
    }
    Some(keys)
}

fn ranged<'a>((first, last, step): (i32, i32, i32), args: Args<'a>) -> Option<Vec<&'a [u8]>> {
    if first == 0 {
        return Some(Vec::new());
    }
    let last = if last < 0 { args.len() as i32 + last } else { last };
    let range = args.get(first as usize..=usize::try_from(last).ok()?)?;
    Some(range.iter().step_by(step.max(1) as usize).copied().collect())
}

fn help(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(docs::help("command"))
}
