//! Scripts: EVAL and its kin, as Redis 7.0 has them.
//!
//! One Lua 5.1 per engine, made at the first script and kept. What a script sees of it is made by `prelude.lua`; what it
//! asks of the server comes in at [`call`], under the lock that the script's own command holds, so that a script is one
//! step for everybody else. Time stands still for it: [`Engine::now_ms`](crate::engine::Engine::now_ms) is not touched.
//!
//! **How a script reaches the engine.** Functions that Lua may call must own what they use, and the engine is only lent to
//! the command that runs. So for the time of a script it *moves*: it changes places with an empty one inside the
//! interpreter ([`Lent`]) and changes back at the end, whatever the end is. That is two copies of some hundred bytes and
//! no allocation; `mlua`'s scopes would make a function, its closure and its upvalue anew for each script.
//!
//! **Bounds.** Memory: what Lua allocates counts against [`Limits::memory_bytes`], beyond which a script fails. Time:
//! every so many instructions a script is asked whether it must end ([`watch::Watch`]); after Redis's `lua-time-limit`
//! others are answered BUSY and may kill it unless it has written; after [`Limits::time`] it ends in any case, and what it
//! has written stays. Loops in C that count as one instruction are bounded by what they may be given (`prelude.lua`,
//! [`pattern`]). Cached scripts: [`Limits::scripts`], of which those that were not used for longest go first; who sends
//! EVALSHA for one of them is told NOSCRIPT, as after a restart.

mod bits;
mod call;
mod convert;
mod interpreter;
mod json;
mod msgpack;
mod native;
mod number;
mod pattern;
mod raised;
mod random;
mod shebang;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::command::Context;
use crate::reply::Reply;
use interpreter::Interpreter;
pub(crate) use watch::{Unkilled, Watch};

/// What a script and all of them together may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What Lua may allocate, bytes.
    pub(crate) memory_bytes: usize,
    /// For how long one script may run.
    pub(crate) time: Duration,
    /// How many scripts are kept.
    pub(crate) scripts: usize,
}

impl Default for Limits {
    /// 64 MiB are a thousand times what balancers' scripts need. Thirty seconds are six times what Redis calls slow: long
    /// enough for somebody to decide. 4096 scripts are more than anybody writes by hand, and no more than 4 MiB where a
    /// caller makes a new script for each request.
    fn default() -> Limits {
        Limits { memory_bytes: 64 << 20, time: Duration::from_secs(30), scripts: 4096 }
    }
}

/// The scripts of one engine.
pub(crate) struct Scripts {
    interpreter: Option<Box<Interpreter>>,
    watch: Arc<Watch>,
    limits: Limits,
}

/// The SHA-1 of a script's text.
pub(crate) type Digest = [u8; 20];

/// Which script a caller means.
#[derive(Clone, Copy)]
pub(crate) enum Script<'a> {
    Text(&'a [u8]),
    Digest(Digest),
}

/// One call of a script.
pub(crate) struct Call<'a> {
    pub(crate) script: Script<'a>,
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) args: &'a [&'a [u8]],
    /// Whether it may not write (EVAL_RO).
    pub(crate) is_readonly: bool,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts::new(Limits::default())
    }
}

impl Scripts {
    pub(crate) fn new(limits: Limits) -> Scripts {
        Scripts { interpreter: None, watch: Arc::new(Watch::new()), limits }
    }

    /// What tells of a running script without the engine's lock.
    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// For how long one may run.
    pub(crate) fn time_limit(&self) -> Duration {
        self.limits.time
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.interpreter.as_ref().map_or(0, |interpreter| interpreter.len())
    }

    /// What Lua takes, bytes.
    pub(crate) fn used_bytes(&self) -> usize {
        self.interpreter.as_ref().map_or(0, |interpreter| interpreter.used_bytes())
    }

    /// SCRIPT FLUSH: all of them are forgotten.
    pub(crate) fn flush(&mut self) {
        self.interpreter = None;
    }

    /// SCRIPT EXISTS.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.interpreter.as_ref().is_some_and(|interpreter| interpreter.has(digest))
    }
}

/// SCRIPT LOAD: keeps the script for EVALSHA.
pub(crate) fn load(context: &mut Context<'_>, text: &[u8]) -> Result<Digest, Reply> {
    with(context, |interpreter, _| interpreter.load(text))
}

/// Runs a script, and answers what it answers.
pub(crate) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    with(context, |interpreter, context| interpreter.run(context, call))
}

/// Takes the interpreter out of the engine, which it needs while it runs, and puts it back.
fn with<R>(
    context: &mut Context<'_>,
    step: impl FnOnce(&mut Interpreter, &mut Context<'_>) -> Result<R, Reply>,
) -> Result<R, Reply> {
    let scripts = &mut context.engine.scripts;
    let mut interpreter = match scripts.interpreter.take() {
        Some(interpreter) => interpreter,
        None => {
            let seed = rand::Rng::next_u64(&mut context.engine.rng);
            let scripts = &context.engine.scripts;
            let made = Interpreter::new(seed, scripts.limits, scripts.watch.clone());
            Box::new(made.map_err(|error| Reply::error(format!("ERR the Lua interpreter cannot be made: {error}")))?)
        }
    };
    let answer = step(&mut interpreter, context);
    context.engine.scripts.interpreter = interpreter.tidied().then_some(interpreter);
    answer
}

/// The digest that 40 hexadecimal digits, in any case, tell.
pub(crate) fn digest_of_hex(hex: &[u8]) -> Option<Digest> {
    let mut digest = Digest::default();
    if hex.len() != 2 * digest.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(digest)
}

/// The digest as SCRIPT LOAD tells it.
pub(crate) fn hex_of_digest(digest: &Digest) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(40), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

pub(crate) fn digest_of_text(text: &[u8]) -> Digest {
    use sha1::Digest as _;
    sha1::Sha1::digest(text).into()
}
