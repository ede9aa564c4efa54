//! CLIENT: who is connected, what they are called, and how to be rid of them.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::args::{int, integer, is, not_an_integer, refusal, syntax};
use crate::client::Wants;
use crate::command::{Args, Command, Context, contained, flag::*};
use crate::commands::docs;
use crate::peer::{Peer, Seen};
use crate::reply::Reply;

const NO_KEYS: (i32, i32, i32) = (0, 0, 0);

const fn part(
    name: &'static str,
    arity: i32,
    flags: u32,
    run: fn(&mut Context<'_>, Args<'_>) -> Result<Reply, Reply>,
) -> Command {
    Command { name, arity, flags: flags | NOSCRIPT, keys: NO_KEYS, group: "connection", run }
}

pub(crate) const COMMANDS: &[Command] = &[
    part("client", -2, CONTAINER, contained),
    part("client|id", 2, 0, id),
    part("client|getname", 2, 0, get_name),
    part("client|setname", 3, 0, set_name),
    part("client|setinfo", 4, 0, set_info),
    part("client|info", 2, 0, info),
    part("client|list", -2, ADMIN, list),
    part("client|kill", -3, ADMIN, kill),
    part("client|no-evict", 3, ADMIN, no_evict),
    part("client|reply", 3, 0, reply),
    part("client|unblock", -3, ADMIN, unblock),
    part("client|getredir", 2, 0, get_redir),
    part("client|help", 2, 0, get_help),
];

fn id(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::Int(context.client.id as i64))
}

fn get_name(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    let name = context.engine.clients.get(context.client.id).map(|peer| peer.seen.lock().name.clone());
    Ok(Reply::maybe(name.filter(|name| !name.is_empty())))
}

fn set_name(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let name = checked_name("Client names", args[2])?;
    call(context, name);
    Ok(Reply::OK)
}

/// A name that can stand in CLIENT LIST.
pub(crate) fn checked_name(what: &str, name: &[u8]) -> Result<Vec<u8>, Reply> {
    if name.iter().all(u8::is_ascii_graphic) {
        return Ok(name.to_vec());
    }
    Err(refusal(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}

/// Calls the client `name` from now on; by no name, where it is empty.
pub(crate) fn call(context: &mut Context<'_>, name: Vec<u8>) {
    see(context, |seen| seen.name = name);
}

fn see(context: &mut Context<'_>, change: impl FnOnce(&mut Seen)) {
    if let Some(peer) = context.engine.clients.get(context.client.id) {
        change(&mut peer.seen.lock());
    }
}

fn set_info(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (what, value) = (args[2], args[3]);
    if is(what, "lib-name") {
        let name = checked_name("lib-name", value)?;
        see(context, |seen| seen.library = name);
    } else if is(what, "lib-ver") {
        let version = checked_name("lib-ver", value)?;
        see(context, |seen| seen.library_version = version);
    } else {
        return Err(refusal(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(what))));
    }
    Ok(Reply::OK)
}

fn info(context: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    let own = context.engine.clients.get(context.client.id);
    let mut text = String::new();
    if let Some(peer) = own {
        write_line(context, &peer, &mut text);
    }
    Ok(Reply::Verbatim("txt", text.into_bytes()))
}

fn list(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let mut text = String::new();
    let peers: Vec<Arc<Peer>> = match &args[2..] {
        [] => context.engine.clients.all(),
        [option, kind] if is(option, "TYPE") => match is_normal(kind)? {
            true => context.engine.clients.all(),
            false => Vec::new(),
        },
        [option, first, rest @ ..] if is(option, "ID") => {
            let ids = [&[*first], rest].concat();
            let ids: Option<Vec<i64>> = ids.iter().map(|id| int(id)).collect();
            let ids = ids.ok_or_else(|| refusal("ERR Invalid client ID"))?;
            ids.iter().filter_map(|id| context.engine.clients.get(*id as u64)).collect()
        }
        _ => return Err(syntax()),
    };
    for peer in peers {
        write_line(context, &peer, &mut text);
    }
    Ok(Reply::Verbatim("txt", text.into_bytes()))
}

/// Whether clients of this `kind` are what clients are here; there are no replicas, and nobody subscribes.
fn is_normal(kind: &[u8]) -> Result<bool, Reply> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(refusal(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(kind)))),
    }
}

fn write_line(context: &Context<'_>, peer: &Peer, to: &mut String) {
    let mut seen = peer.seen.lock();
    if peer.id == context.client.id {
        context.client.note(&mut seen);
        seen.last_ms = context.now_ms();
    }
    let ascii = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let now_ms = context.now_ms();
    // What Redis says of buffers; what it has no word for here is 0.
    let _ = writeln!(
        to,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi={} qbuf={} \
         qbuf-free={} argv-mem=0 multi-mem={} rbs={} rbp={} obl={} oll=0 omem=0 tot-mem={} events=r cmd={} user=default redir=-1 \
         resp={} lib-name={} lib-ver={}",
        peer.id,
        peer.addr,
        peer.local,
        ascii(&seen.name),
        (now_ms - peer.since_ms).max(0) / 1000,
        (now_ms - seen.last_ms).max(0) / 1000,
        flags(&seen),
        seen.db,
        seen.queued,
        seen.inbox_bytes,
        seen.inbox_capacity.saturating_sub(seen.inbox_bytes),
        seen.queued_bytes,
        seen.outbox_capacity,
        seen.outbox_capacity,
        seen.outbox_bytes,
        seen.inbox_capacity + seen.outbox_capacity + seen.queued_bytes,
        seen.command,
        seen.protocol,
        ascii(&seen.library),
        ascii(&seen.library_version),
    );
}

fn flags(seen: &Seen) -> String {
    let all = [(seen.queued >= 0, 'x'), (seen.is_blocked, 'b'), (seen.is_stale, 'd'), (seen.is_spared, 'e')];
    let flags: String = all.iter().filter(|(holds, _)| *holds).map(|(_, flag)| flag).collect();
    if flags.is_empty() { "N".into() } else { flags }
}

/// Whom CLIENT KILL means: all that hold.
#[derive(Default)]
struct Target {
    id: Option<u64>,
    addr: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    is_nobody: bool,
    spares_caller: bool,
}

impl Target {
    /// In the new form, options and their values.
    fn of(options: &[&[u8]]) -> Result<Target, Reply> {
        let mut target = Target { spares_caller: true, ..Target::default() };
        let mut rest = options;
        while let [option, value, behind @ ..] = rest {
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = int(value).filter(|id| *id > 0);
                    target.id = Some(id.ok_or_else(|| refusal("ERR client-id should be greater than 0"))? as u64);
                }
                b"addr" => target.addr = Some(value.to_vec()),
                b"laddr" => target.local = Some(value.to_vec()),
                b"type" => target.is_nobody |= !is_normal(value)?,
                b"user" if *value == b"default" => {}
                b"user" => return Err(refusal(format!("ERR No such user '{}'", String::from_utf8_lossy(value)))),
                b"skipme" if is(value, "yes") => target.spares_caller = true,
                b"skipme" if is(value, "no") => target.spares_caller = false,
                _ => return Err(syntax()),
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(target) } else { Err(syntax()) }
    }

    fn is(&self, peer: &Peer, caller: u64) -> bool {
        let fits =
            |wanted: &Option<Vec<u8>>, is: String| wanted.as_ref().is_none_or(|wanted| *wanted == is.into_bytes());
        !self.is_nobody
            && self.id.is_none_or(|id| id == peer.id)
            && fits(&self.addr, peer.addr.to_string())
            && fits(&self.local, peer.local.to_string())
            && !(self.spares_caller && peer.id == caller)
    }
}

fn kill(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let (target, is_old_form) = match args {
        [_, _, addr] => (Target { addr: Some(addr.to_vec()), ..Target::default() }, true),
        _ => (Target::of(&args[2..])?, false),
    };
    let mut killed = 0;
    for peer in context.engine.clients.all().iter().filter(|peer| target.is(peer, context.client.id)) {
        killed += 1;
        // Who kills itself is told so first.
        if peer.id == context.client.id {
            context.client.is_leaving = true;
        } else {
            context.engine.clients.remove(peer.id);
            peer.kill();
        }
    }
    match (is_old_form, killed) {
        (false, killed) => Ok(Reply::Int(killed)),
        (true, 0) => Err(refusal("ERR No such client")),
        (true, _) => Ok(Reply::OK),
    }
}

fn no_evict(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let is_spared = on_or_off(args[2])?;
    see(context, |seen| seen.is_spared = is_spared);
    Ok(Reply::OK)
}

fn on_or_off(arg: &[u8]) -> Result<bool, Reply> {
    if is(arg, "ON") {
        return Ok(true);
    }
    if is(arg, "OFF") { Ok(false) } else { Err(syntax()) }
}

fn reply(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let client = &mut *context.client;
    match args[2].to_ascii_lowercase().as_slice() {
        b"on" => client.wants = Wants::All,
        b"off" => client.wants = Wants::Nothing,
        // Who wants nothing is not to hear of this one either, and nothing changes.
        b"skip" if client.wants == Wants::Nothing => {}
        b"skip" => client.wants = Wants::AllButNext,
        _ => return Err(syntax()),
    }
    Ok(if client.wants == Wants::All { Reply::OK } else { Reply::Silent })
}

fn unblock(context: &mut Context<'_>, args: Args<'_>) -> Result<Reply, Reply> {
    let with_error = match &args[3..] {
        [] => false,
        [why] if is(why, "TIMEOUT") => false,
        [why] if is(why, "ERROR") => true,
        [_] => return Err(refusal("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(syntax()),
    };
    let id = u64::try_from(integer(args[2])?).map_err(|_| not_an_integer())?;
    let engine = &mut *context.engine;
    let Some(otherwise) = engine.blocked.give_up(id) else { return Ok(Reply::Int(0)) };
    if let Some(peer) = engine.clients.get(id) {
        peer.answer(if with_error { refusal("UNBLOCKED client unblocked via CLIENT UNBLOCK") } else { otherwise });
    }
    Ok(Reply::Int(1))
}

/// Nobody's invalidations go to another client: there are none.
fn get_redir(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(Reply::Int(-1))
}

fn get_help(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Ok(docs::help("client"))
}
