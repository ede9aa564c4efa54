//! What a script asks of the server: `redis.call`, and what else knows of the run.

use std::sync::Arc;

use mlua::{BorrowedBytes, Lua, MultiValue, Value};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::convert::Answer;
use super::raised::Raised;
use super::watch::Watch;
use super::{convert, number};
use crate::client::Client;
use crate::command::{self, Command, Context, flag};
use crate::engine::Engine;
use crate::reply::Reply;

/// The run that is on, as the functions in Lua share it. Locked by nobody else, ever: it only makes them `Send`.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Run>>);

/// One script that runs, and the engine, which is lent to it. Between scripts an empty engine stands here.
pub(super) struct Run {
    engine: Engine,
    /// As whom the script asks: the caller's id and database, a protocol of its own.
    client: Client,
    rules: Rules,
    watch: Arc<Watch>,
    /// What one reply may take of Lua's memory.
    memory_bytes: usize,
}

/// What a script may do.
#[derive(Clone, Copy, Default)]
pub(super) struct Rules {
    pub(super) is_readonly: bool,
    /// Whether commands that take memory are refused to it, because there was none left when it started.
    pub(super) is_full: bool,
}

/// The engine of a context, moved into the interpreter until this is dropped.
pub(super) struct Lent<'a, 'b> {
    shared: &'a Shared,
    context: &'a mut Context<'b>,
}

impl Shared {
    pub(super) fn new(watch: Arc<Watch>, memory_bytes: usize) -> Shared {
        let mut client = Client::new(0);
        client.in_script = true;
        let engine = Engine::new(0, None);
        Shared(Arc::new(Mutex::new(Run { engine, client, rules: Rules::default(), watch, memory_bytes })))
    }

    pub(super) fn run(&self) -> MutexGuard<'_, Run> {
        self.0.lock()
    }

    /// Lends the engine of `context` to the script that is about to run.
    pub(super) fn lend<'a, 'b>(&'a self, context: &'a mut Context<'b>, rules: Rules) -> Lent<'a, 'b> {
        let run = &mut *self.run();
        std::mem::swap(&mut run.engine, context.engine);
        run.rules = rules;
        run.client.id = context.client.id;
        run.client.db = context.client.db;
        run.client.in_exec = context.client.in_exec;
        run.client.protocol = 2;
        let settings = &run.engine.settings;
        run.watch.start(settings.lua_time_limit_ms, run.engine.scripts.time_limit());
        Lent { shared: self, context }
    }
}

impl Drop for Lent<'_, '_> {
    /// Whatever ended the script, a panic included, the engine goes back.
    fn drop(&mut self) {
        let run = &mut *self.shared.run();
        run.watch.stop();
        std::mem::swap(&mut run.engine, self.context.engine);
    }
}

/// One argument of a command: as Lua holds it, or a number as Redis prints it.
enum Arg {
    Text(BorrowedBytes),
    Number(String),
}

impl Arg {
    fn of(value: &Value) -> Option<Arg> {
        Some(match value {
            Value::String(text) => Arg::Text(text.as_bytes()),
            Value::Integer(number) => Arg::Number(printed(*number as f64)),
            Value::Number(number) => Arg::Number(printed(*number)),
            _ => return None,
        })
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Arg::Text(bytes) => bytes,
            Arg::Number(text) => text.as_bytes(),
        }
    }
}

fn printed(number: f64) -> String {
    let mut text = String::new();
    number::general(number, 17, &mut text);
    text
}

/// Arguments, held for as long as the command looks at them.
type Held = SmallVec<[Arg; 8]>;

fn held(args: &MultiValue) -> Result<Held, &'static str> {
    if args.is_empty() {
        return Err("Please specify at least one argument for this redis lib call");
    }
    let held = args.iter().map(Arg::of).collect::<Option<Held>>();
    held.ok_or("Lua redis lib command arguments must be strings or integers")
}

/// `redis.call`, which raises what is an error, and `redis.pcall`, which does not.
pub(super) fn call(lua: &Lua, args: &MultiValue, shared: &Shared, raises: bool) -> mlua::Result<Answer> {
    let run = &mut *shared.run();
    // Where Lua has a limit, each value that is made for it costs a protected call. What is made here is weighed instead.
    let limit = lua.set_memory_limit(0)?;
    let answer = run.answer(lua, args, raises);
    lua.set_memory_limit(limit)?;
    answer
}

/// `redis.acl_check_cmd`: everybody may do everything, so it is about whether there is such a command.
pub(super) fn may(args: &MultiValue) -> mlua::Result<bool> {
    let held = held(args).map_err(|problem| Raised::reply(format!("ERR {problem}")))?;
    match command::lookup(held[0].bytes()) {
        Some(_) => Ok(true),
        None => Err(Raised::reply("ERR Invalid command passed to redis.acl_check_cmd()".into())),
    }
}

impl Run {
    fn answer(&mut self, lua: &Lua, args: &MultiValue, raises: bool) -> mlua::Result<Answer> {
        let reply = match held(args) {
            Ok(held) => {
                let bytes: SmallVec<[&[u8]; 8]> = held.iter().map(Arg::bytes).collect();
                self.command(&bytes)
            }
            Err(problem) => Reply::error(format!("ERR {problem}")),
        };
        match reply {
            Reply::Error(text) if raises => Err(Raised::reply(text.into_owned())),
            reply if convert::weight(&reply) + lua.used_memory() > self.memory_bytes => {
                Err(mlua::Error::MemoryError("not enough memory".into()))
            }
            reply => convert::to_lua(lua, reply, self.client.protocol),
        }
    }

    fn command(&mut self, args: &[&[u8]]) -> Reply {
        match self.permitted(args) {
            Ok(command) => {
                command::run(&mut Context { engine: &mut self.engine, client: &mut self.client }, command, args)
            }
            Err(problem) => Reply::error(problem),
        }
    }

    fn permitted(&self, args: &[&[u8]]) -> Result<&'static Command, &'static str> {
        let command = command::resolve(args).map_err(|_| "ERR Unknown Redis command called from script")?;
        if !command.takes(args.len()) {
            return Err("ERR Wrong number of args calling Redis command from script");
        }
        if command.has(flag::NOSCRIPT) {
            return Err("ERR This Redis command is not allowed from script");
        }
        if command.has(flag::WRITE) && self.rules.is_readonly {
            return Err("ERR Write commands are not allowed from read-only scripts.");
        }
        if command.has(flag::DENYOOM) && self.rules.is_full && !self.watch.has_written() {
            return Err("OOM command not allowed when used memory > 'maxmemory'.");
        }
        if command.has(flag::WRITE) && !self.watch.writes() {
            return Err("ERR Script killed by user with SCRIPT KILL...");
        }
        Ok(command)
    }

    /// `redis.setresp`.
    pub(super) fn set_protocol(&mut self, args: &MultiValue) -> mlua::Result<()> {
        let [value] = args.as_slices().0 else {
            return Err(Raised::reply("ERR redis.setresp() requires one argument.".into()));
        };
        self.client.protocol = match value.as_i64() {
            Some(2) => 2,
            Some(3) => 3,
            _ => return Err(Raised::reply("ERR RESP version must be 2 or 3.".into())),
        };
        Ok(())
    }

    pub(super) fn protocol(&self) -> u8 {
        self.client.protocol
    }
}
