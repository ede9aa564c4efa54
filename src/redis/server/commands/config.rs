//! CONFIG: the settings by Redis's names.
//!
//! There is what means something here, and what clients and tools ask for and has one answer: nothing is saved, nothing is
//! evicted. A few say how Redis lays lists out in memory; they are kept as they were set and decide nothing.

use std::sync::atomic::Ordering::Relaxed;

use crate::args::refusal;
use crate::command::{Args, Command, Context, contained, flag::*};
use crate::commands::docs;
use crate::commands::parameters::{PARAMETERS, Parameter};
use crate::glob;
use crate::reply::Reply;

const fn part(
    name: &'static str,
    arity: i32,
    flags: u32,
    run: fn(&mut Context<'_>, Args<'_>) -> Result<Reply, Reply>,
) -> Command {
    Command { name, arity, flags: flags | NOSCRIPT | ADMIN, keys: (0, 0, 0), group: "server", run }
}

pub(crate) const COMMANDS: &[Command] = &[
    part("config", -2, CONTAINER, contained),
    part("config|get", -3, 0, get),
    part("config|set", -4, 0, set),
    part("config|resetstat", 2, 0, reset_stat),
    part("config|rewrite", 2, 0, rewrite),
    part("config|help", 2, 0, help),
];

fn get(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let mut found = Vec::new();
    for parameter in PARAMETERS {
        for name in std::iter::once(parameter.name).chain(parameter.alias) {
            // A name without pattern finds both names of a parameter apart, as in Redis.
            if args[2..].iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes())) {
                let value = (parameter.get)(&context.engine.settings);
                found.push((Reply::bulk(name), Reply::Bulk(value)));
            }
        }
    }
    Ok(Reply::Map(found))
}

fn set(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let pairs = &args[2..];
    if !pairs.len().is_multiple_of(2) {
        return Err(crate::args::wrong_arity("config|set"));
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let mut chosen: Vec<(&Parameter, &[u8])> = Vec::new();
    for (name, value) in pairs {
        let shown = String::from_utf8_lossy(name);
        let parameter = PARAMETERS
            .iter()
            .find(|parameter| parameter.is_called(name))
            .ok_or_else(|| refusal(format!("ERR Unknown option or number of arguments for CONFIG SET - '{shown}'")))?;
        if parameter.set.is_none() {
            return Err(failed(&shown, "can't set immutable config"));
        }
        if chosen.iter().any(|(other, _)| other.name == parameter.name) {
            return Err(failed(&shown, "duplicate parameter"));
        }
        chosen.push((parameter, value));
    }
    // All of them or none.
    let mut settings = context.engine.settings.clone();
    for (parameter, value) in chosen {
        parameter.apply(&mut settings, value).map_err(|why| failed(parameter.name, &why))?;
    }
    settings.version += 1;
    context.engine.clients.set(&settings);
    context.engine.settings = settings;
    Ok(Reply::OK)
}

fn failed(name: &str, why: &str) -> Reply {
    refusal(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

fn reset_stat(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    context.engine.stats.reset();
    context.engine.clients.admitted.store(0, Relaxed);
    context.engine.clients.rejected.store(0, Relaxed);
    Ok(Reply::OK)
}

/// What was set lasts until the end of the process; what it begins with is its owner's.
fn rewrite(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Err(refusal("ERR The server is running without a config file"))
}

fn help(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(docs::help("config"))
}
