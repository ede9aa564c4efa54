//! The scripts that the shared Redis runs: each is one step there, whoever else asks at the same time.

use redis::{Cmd, Script};

const COMMON: &str = include_str!("scripts/common.lua");

/// One script.
#[derive(Debug)]
pub struct Lua {
    code: String,
    hash: String,
}

impl Lua {
    fn new(own: &str) -> Lua {
        let code = format!("{COMMON}{own}");
        Lua { hash: Script::new(&code).get_hash().to_owned(), code }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Scripts {
    /// Picks, charges and logs: `scripts/pick.lua`.
    pub pick: Lua,
    /// Charges and releases: `scripts/tell.lua`.
    pub tell: Lua,
    /// All that a client has in flight: `scripts/register.lua`.
    pub register: Lua,
    /// A client lives: `scripts/heartbeat.lua`.
    pub heartbeat: Lua,
    /// Scores become what the log says: `scripts/reconcile.lua`.
    pub reconcile: Lua,
    /// A client goes: `scripts/leave.lua`.
    pub leave: Lua,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            pick: Lua::new(include_str!("scripts/pick.lua")),
            tell: Lua::new(include_str!("scripts/tell.lua")),
            register: Lua::new(include_str!("scripts/register.lua")),
            heartbeat: Lua::new(include_str!("scripts/heartbeat.lua")),
            reconcile: Lua::new(include_str!("scripts/reconcile.lua")),
            leave: Lua::new(include_str!("scripts/leave.lua")),
        }
    }
}

impl Scripts {
    /// The commands that make them known to a Redis.
    pub fn loads(&self) -> impl Iterator<Item = Cmd> {
        let Scripts { pick, tell, register, heartbeat, reconcile, leave } = self;
        [pick, tell, register, heartbeat, reconcile, leave].into_iter().map(|lua| {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(&lua.code);
            load
        })
    }
}

/// The keys that every script is given.
#[derive(Clone, Debug)]
pub struct Keys {
    load: String,
    clients: String,
}

impl Keys {
    /// Those that begin with `prefix`.
    pub fn new(prefix: &str) -> Keys {
        Keys { load: format!("{prefix}load"), clients: format!("{prefix}clients") }
    }

    /// A call of `script` for `client`, to which its other arguments are added.
    pub fn call(&self, script: &Lua, client: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&script.hash).arg(2).arg(&self.load).arg(&self.clients).arg(client);
        call
    }
}
