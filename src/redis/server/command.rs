//! The table of commands, and one command's way through it: known, right number of arguments, allowed now, run.

use std::sync::OnceLock;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::args::{wrong_arity, wrong_type};
use crate::client::Client;
use crate::commands;
use crate::engine::{Engine, Entry};
use crate::live;
use crate::reply::{Reply, Room};
use crate::value::{Kind, Value};

/// What a command is like, as COMMAND INFO tells it; bits.
pub(crate) mod flag {
    /// It may change data.
    pub(crate) const WRITE: u32 = 1;
    /// It reads data only.
    pub(crate) const READONLY: u32 = 1 << 1;
    /// It may take memory: refused over `maxmemory`.
    pub(crate) const DENYOOM: u32 = 1 << 2;
    /// It is about the server.
    pub(crate) const ADMIN: u32 = 1 << 3;
    /// It takes constant or logarithmic time.
    pub(crate) const FAST: u32 = 1 << 4;
    /// Scripts may not call it.
    pub(crate) const NOSCRIPT: u32 = 1 << 5;
    /// It may wait.
    pub(crate) const BLOCKING: u32 = 1 << 6;
    /// It may be sent before AUTH.
    pub(crate) const NO_AUTH: u32 = 1 << 7;
    /// It cannot stand in a transaction.
    pub(crate) const NO_MULTI: u32 = 1 << 8;
    /// Where its keys are depends on its arguments.
    pub(crate) const MOVABLEKEYS: u32 = 1 << 9;
    /// It is answered while a script takes too long.
    pub(crate) const ALLOW_BUSY: u32 = 1 << 10;
    /// Its first argument says which of the commands `name|argument` is meant; it runs nothing itself.
    pub(crate) const CONTAINER: u32 = 1 << 11;
}

/// The arguments of a command, its name first.
pub(crate) type Args<'a> = &'a [&'a [u8]];

/// One command.
pub(crate) struct Command {
    /// In small letters.
    pub(crate) name: &'static str,
    /// Arguments with the name; at least so many, where negative.
    pub(crate) arity: i32,
    /// Bits of [`flag`].
    pub(crate) flags: u32,
    /// First and last key among the arguments (the last may be counted from the end, negative) and the step; 0 0 0: none.
    pub(crate) keys: (i32, i32, i32),
    /// As in Redis's own documentation: `string`, `sorted-set`, ...
    pub(crate) group: &'static str,
    pub(crate) run: fn(&mut Context<'_>, Args<'_>) -> Result<Reply, Reply>,
}

/// What a command runs in. An `Err` is an error reply and means that nothing was changed.
pub(crate) struct Context<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) client: &'a mut Client,
}

/// The command called `name`, in any case.
pub(crate) fn lookup(name: &[u8]) -> Option<&'static Command> {
    static TABLE: OnceLock<HashMap<&'static [u8], &'static Command>> = OnceLock::new();
    let table = TABLE.get_or_init(|| commands::all().map(|command| (command.name.as_bytes(), command)).collect());
    let mut lower = [0; 24];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    table.get(&*lower).copied()
}

/// The command that `args` mean: the one that they begin with, or the part of it that stands behind.
///
/// # Errors
/// Redis's words for what it does not know.
pub(crate) fn resolve(args: Args<'_>) -> Result<&'static Command, Reply> {
    // What is called `client|list` in the table is called by two words.
    let command = lookup(args[0]).filter(|command| !command.name.contains('|')).ok_or_else(|| unknown(args))?;
    if !command.has(flag::CONTAINER) || args.len() < 2 {
        return Ok(command);
    }
    let mut name = SmallVec::<[u8; 24]>::from_slice(command.name.as_bytes());
    name.push(b'|');
    name.extend_from_slice(&args[1][..args[1].len().min(24)]);
    lookup(&name).ok_or_else(|| {
        let asked = String::from_utf8_lossy(&args[1][..args[1].len().min(128)]);
        Reply::error(format!("ERR unknown subcommand '{asked}'. Try {} HELP.", command.name.to_uppercase()))
    })
}

/// What a container runs when it is called alone, which its arity does not allow.
pub(crate) fn contained(_: &mut Context<'_>, _: Args<'_>) -> Result<Reply, Reply> {
    Err(Reply::error("ERR syntax error"))
}

impl Command {
    pub(crate) fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    pub(crate) fn takes(&self, args: usize) -> bool {
        if self.arity >= 0 { args == self.arity as usize } else { args >= self.arity.unsigned_abs() as usize }
    }
}

/// Runs `args` for `context.client`, whatever it may be. Called for commands from sockets, of transactions and of scripts
/// alike; what only holds for one of these stands with its caller.
pub(crate) fn run(context: &mut Context<'_>, command: &Command, args: Args<'_>) -> Reply {
    if !command.takes(args.len()) {
        return wrong_arity(command.name);
    }
    let instead = match &context.engine.live {
        Some(_) => live::instead(context, command, args),
        None => None,
    };
    let reply = instead.unwrap_or_else(|| (command.run)(context, args).unwrap_or_else(|refusal| refusal));
    context.engine.stats.ran(command, &reply);
    reply
}

/// As Redis answers what it does not know.
pub(crate) fn unknown(args: Args<'_>) -> Reply {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
    let mut rest = String::new();
    for arg in &args[1..] {
        if rest.len() >= 128 {
            break;
        }
        rest += &format!("'{}' ", shown(arg));
    }
    let text = format!("ERR unknown command '{}', with args beginning with: {rest}", shown(args[0]));
    Reply::error(text.replace(['\r', '\n'], " "))
}

/// The keyspace as one command of one client sees it: its database, expired keys gone.
impl Context<'_> {
    pub(crate) fn now_ms(&self) -> i64 {
        self.engine.now_ms
    }

    /// What one answer may take.
    pub(crate) fn room(&self) -> Room {
        Room::new(self.engine.settings.proto_max_bulk_len)
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&Entry> {
        self.engine.get(self.client.db, key)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Value> {
        self.engine.get_mut(self.client.db, key)
    }

    /// The value of `key` as the kind that the command works on; none where there is no such key.
    pub(crate) fn find<K: Kind>(&mut self, key: &[u8]) -> Result<Option<&K>, Reply> {
        self.get(key).map(|entry| K::expect(&entry.value)).transpose()
    }

    /// The same, to change it; say so with [`Context::changed`] afterwards.
    pub(crate) fn find_mut<K: Kind>(&mut self, key: &[u8]) -> Result<Option<&mut K>, Reply> {
        self.get_mut(key).map(|value| K::of_mut(value).ok_or_else(wrong_type)).transpose()
    }

    pub(crate) fn put(&mut self, key: &[u8], value: impl Into<Value>, expires_ms: Option<i64>) {
        self.engine.put(self.client.db, key, value.into(), expires_ms);
    }

    /// As [`Context::get`], without counting as a use.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        self.engine.peek(self.client.db, key)
    }

    /// Lets `key` expire at `at_ms`; at once, where that is over.
    pub(crate) fn expire_at(&mut self, key: &[u8], at_ms: i64) {
        if at_ms <= self.now_ms() {
            self.take(key);
        } else {
            self.engine.set_expiry(self.client.db, key, Some(at_ms));
            self.engine.touch(self.client.db, key);
        }
    }

    /// Lets `key` never expire.
    pub(crate) fn persist(&mut self, key: &[u8]) {
        self.engine.set_expiry(self.client.db, key, None);
        self.engine.touch(self.client.db, key);
    }

    pub(crate) fn take(&mut self, key: &[u8]) -> Option<Entry> {
        self.engine.take(self.client.db, key)
    }

    pub(crate) fn changed(&mut self, key: &[u8]) {
        self.engine.changed(self.client.db, key);
    }

    /// Elements were added to `key`, which blocked clients may wait for.
    pub(crate) fn ready(&mut self, key: &[u8]) {
        if !self.engine.blocked.is_empty() {
            self.engine.ready.push((self.client.db, key.into()));
        }
    }
}
