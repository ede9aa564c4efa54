//! The commands that took long, the last ones.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::command::{Args, Context};

/// Of a command so many arguments are kept, and so many bytes of each; as Redis.
const ARGS_MAX: usize = 32;
const ARG_BYTES: usize = 128;

/// One command that took long.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    pub(crate) id: u64,
    /// When it ran, unix s.
    pub(crate) at_s: i64,
    pub(crate) us: i64,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) name: Vec<u8>,
}

/// The newest first.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    pub(crate) entries: VecDeque<Slow>,
    begun: u64,
}

impl SlowLog {
    pub(crate) fn add(&mut self, mut slow: Slow, most: usize) {
        slow.id = self.begun;
        self.begun += 1;
        self.entries.push_front(slow);
        self.entries.truncate(most);
    }
}

/// The command of the client that `args` are ran for `us`; EXEC is not told, but what it ran is.
pub(crate) fn took(context: &mut Context<'_>, args: Args<'_>, us: i64) {
    let Context { engine, client } = context;
    engine.stats.took(client.command, us);
    let least = engine.settings.slowlog_slower_us;
    if least < 0 || us < least || client.command == "exec" {
        return;
    }
    let peer = engine.clients.get(client.id);
    let name = peer.as_ref().map(|peer| peer.seen.lock().name.clone()).unwrap_or_default();
    let at_s = engine.now_ms / 1000;
    let slow = Slow { id: 0, at_s, us, args: kept(args), addr: peer.map(|peer| peer.addr), name };
    engine.slowlog.add(slow, engine.settings.slowlog_max_len);
}

/// What is kept of `args`: no secrets, and no more than can be read.
pub(crate) fn kept(args: Args<'_>) -> Vec<Vec<u8>> {
    let most = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut kept: Vec<Vec<u8>> = args[..most].iter().enumerate().map(|(index, arg)| shown(args, index, arg)).collect();
    if most < args.len() {
        kept.push(format!("... ({} more arguments)", args.len() - most).into());
    }
    kept
}

fn shown(args: Args<'_>, index: usize, arg: &[u8]) -> Vec<u8> {
    if is_secret(args, index) {
        return b"(redacted)".to_vec();
    }
    match arg.split_at_checked(ARG_BYTES) {
        Some((begin, rest)) if !rest.is_empty() => {
            [begin, format!("... ({} more bytes)", rest.len()).as_bytes()].concat()
        }
        _ => arg.to_vec(),
    }
}

fn is_secret(args: Args<'_>, index: usize) -> bool {
    let is = |at: usize, word: &str| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let behind = |by: usize| index.checked_sub(by);
    (is(0, "auth") && index > 0)
        || (is(0, "hello") && (1..=2).any(|by| behind(by).is_some_and(|at| at > 1 && is(at, "auth"))))
        || (is(0, "config") && is(1, "set") && index > 2 && index % 2 == 1 && is(index - 1, "requirepass"))
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn what_is_kept_has_no_secret_and_bounded_length() {
        // Story: whoever may read the log is not whoever may know the password, and a command may be 512 MiB long.
        let shown = |args: &[&str]| {
            let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
            kept(&args).iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&["AUTH", "x"]), "AUTH (redacted)");
        assert_eq!(shown(&["hello", "3", "auth", "u", "p"]), "hello 3 auth (redacted) (redacted)");
        let set = ["config", "set", "timeout", "1", "requirepass", "x"];
        assert_eq!(shown(&set), "config set timeout 1 requirepass (redacted)");
        assert_eq!(shown(&["set", &"a".repeat(130)]), format!("set {}... (2 more bytes)", "a".repeat(128)));
        let many = vec!["a"; 40];
        assert!(shown(&many).ends_with("a ... (9 more arguments)"), "{}", shown(&many));
    }
}
