//! One Lua with its sandbox and the scripts that it has compiled.

use std::cell::Cell;
use std::sync::Arc;

use hashbrown::HashMap;
use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};

use super::call::{Rules, Shared};
use super::convert::Replies;
use super::shebang::{self, Flags};
use super::watch::{End, Watch};
use super::{Call, Digest, Limits, Script, convert, digest_of_text, hex_of_digest, native};
use crate::command::Context;
use crate::reply::Reply;

/// Instructions between two looks at whether a script must end: some 50 microseconds of them.
const EVERY: u32 = 10_000;

pub(super) struct Interpreter {
    /// Calls a compiled script, so that its errors come back with their place.
    run: Function,
    /// Lets go of the last script's `KEYS` and `ARGV`.
    clear: Function,
    replies: Replies,
    shared: Shared,
    watch: Arc<Watch>,
    limits: Limits,
    compiled: HashMap<Digest, Compiled>,
    /// Counts calls, for who was used last.
    clock: u64,
    // Last, so that what points into it goes first.
    lua: Lua,
}

struct Compiled {
    function: Function,
    flags: Flags,
    /// When it was used last.
    used: Cell<u64>,
}

impl Interpreter {
    pub(super) fn new(seed: u64, limits: Limits, watch: Arc<Watch>) -> mlua::Result<Interpreter> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let shared = Shared::new(watch.clone(), limits.memory_bytes);
        let native = native::functions(&lua, &shared, &watch, limits, seed)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=sandbox").set_mode(ChunkMode::Text);
        let (run, clear) = prelude.call::<(Function, Function)>(native)?;
        // Lua's parser does not hold the name of what it parses; this does.
        lua.set_named_registry_value("user_script", "@user_script")?;
        let ender = watch.clone();
        lua.set_global_hook(HookTriggers::new().every_nth_instruction(EVERY), move |_, _| match ender.must_end() {
            None => Ok(VmState::Continue),
            Some(_) => Err(mlua::Error::runtime("the script must end")),
        })?;
        lua.gc_collect()?;
        let replies = Replies::new(&lua)?;
        let compiled = HashMap::new();
        Ok(Interpreter { run, clear, replies, shared, watch, limits, compiled, clock: 0, lua })
    }

    pub(super) fn len(&self) -> usize {
        self.compiled.len()
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.compiled.contains_key(digest)
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Compiles a script, unless it is there.
    pub(super) fn load(&mut self, text: &[u8]) -> Result<Digest, Reply> {
        let digest = digest_of_text(text);
        if !self.compiled.contains_key(&digest) {
            let (flags, shebang) = shebang::parse(text).map_err(|problem| Reply::error(format!("ERR {problem}")))?;
            let chunk = self.lua.load(&text[shebang..]).set_name("@user_script").set_mode(ChunkMode::Text);
            let function = chunk.into_function().map_err(|error| {
                let problem = match &error {
                    mlua::Error::SyntaxError { message, .. } => message.clone(),
                    other => other.to_string(),
                };
                Reply::error(format!(
                    "ERR Error compiling script (new function): {}",
                    convert::line(problem.as_bytes())
                ))
            })?;
            self.make_room();
            self.compiled.insert(digest, Compiled { function, flags, used: Cell::new(self.clock) });
        }
        Ok(digest)
    }

    /// Where as many scripts are kept as may be, a quarter of them goes, those that were not used for longest.
    fn make_room(&mut self) {
        if self.compiled.len() < self.limits.scripts {
            return;
        }
        let mut used: Vec<u64> = self.compiled.values().map(|compiled| compiled.used.get()).collect();
        let quarter = used.len() / 4;
        let (_, oldest, _) = used.select_nth_unstable(quarter);
        let oldest = *oldest;
        self.compiled.retain(|_, compiled| compiled.used.get() > oldest);
    }

    /// Runs a script on the engine of `context`.
    pub(super) fn run(&mut self, context: &mut Context<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
        let digest = match call.script {
            Script::Text(text) => self.load(text)?,
            Script::Digest(digest) => digest,
        };
        self.clock += 1;
        let Some(compiled) = self.compiled.get(&digest) else {
            return Err(Reply::error("NOSCRIPT No matching script. Please use EVAL."));
        };
        compiled.used.set(self.clock);
        let rules = rules(context, compiled.flags, call.is_readonly)?;
        let lent = self.shared.lend(context, rules);
        let answer = self.called(&compiled.function, call);
        let end = self.watch.end();
        drop(lent);
        match answer {
            _ if end.is_some() => Err(self.ended(end, &digest)),
            Ok((true, value)) => Ok(self.replies.of(&value, self.shared.run().protocol())),
            Ok((false, problem)) => Err(failed(&problem, &digest)),
            Err(error) => Err(broken(&error.to_string(), &digest)),
        }
    }

    fn called(&self, function: &Function, call: &Call<'_>) -> mlua::Result<(bool, Value)> {
        let (keys, args) = (self.list(call.keys)?, self.list(call.args)?);
        // The limit is on while Lua allocates by itself: with it, what is made for Lua here would be made twice as slowly.
        self.lua.set_memory_limit(self.limits.memory_bytes)?;
        let answer = self.run.call((function, keys, args));
        self.lua.set_memory_limit(0)?;
        answer
    }

    fn list(&self, items: &[&[u8]]) -> mlua::Result<Table> {
        convert::list(&self.lua, items.iter().map(|item| convert::text(&self.lua, item)))
    }

    fn ended(&self, end: Option<End>, digest: &Digest) -> Reply {
        let problem = match end {
            Some(End::Killed) => "Script killed by user with SCRIPT KILL...".to_string(),
            _ => format!("script ran longer than {} ms", self.limits.time.as_millis()),
        };
        Reply::error(format!("ERR {problem} script: {}, on @user_script.", hex_of_digest(digest)))
    }

    /// Whether it is fit for another script: what this one left is collected where it is much.
    pub(super) fn tidied(&self) -> bool {
        let much = self.limits.memory_bytes / 2;
        if self.lua.used_memory() < much {
            return true;
        }
        let is_cleared = self.clear.call::<()>(()).is_ok() && self.lua.gc_collect().is_ok();
        is_cleared && self.lua.used_memory() < much
    }
}

/// What a script may do, or why it may not start.
fn rules(context: &Context<'_>, flags: Flags, is_readonly_call: bool) -> Result<Rules, Reply> {
    let engine = &context.engine;
    let is_full = engine.is_full();
    if flags.is_declared {
        if is_readonly_call && !flags.no_writes {
            return Err(Reply::error("ERR Can not execute a script with write flag using *_ro command."));
        }
        if is_full && !flags.allow_oom && !flags.no_writes {
            return Err(Reply::error(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
    }
    Ok(Rules { is_readonly: is_readonly_call || flags.no_writes, is_full: is_full && !flags.allow_oom })
}

/// The error that a script raised, as `explained` in the prelude left it.
fn failed(problem: &Value, digest: &Digest) -> Reply {
    let Value::Table(problem) = problem else {
        return broken(&problem.to_string().unwrap_or_default(), digest);
    };
    let field = |name: &str| match problem.raw_get::<Value>(name) {
        Ok(Value::String(text)) => Some(convert::line(&text.as_bytes())),
        Ok(Value::Integer(number)) => Some(number.to_string()),
        _ => None,
    };
    let mut text = field("err").unwrap_or_else(|| "ERR execution failure".into());
    if let (Some(source), Some(line)) = (field("source"), field("line")) {
        text += &format!(" script: {}, on {source}:{line}.", hex_of_digest(digest));
    }
    Reply::error(text)
}

/// An error that left no place.
fn broken(problem: &str, digest: &Digest) -> Reply {
    let problem: String = convert::line(problem.as_bytes()).chars().take(100).collect();
    Reply::error(format!("ERR Error running script {}, {problem}", hex_of_digest(digest)))
}
