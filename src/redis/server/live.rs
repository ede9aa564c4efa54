//! A sorted set that somebody else keeps.
//!
//! Its key stands in database 0 beside the others, so that whatever lists or counts keys finds it. Its entry there is filled
//! when a command asks for it; commands on sorted sets do not ask for the entry but for the set itself, and build of it no
//! more than they show. What would make it something else than it is (SET, EXPIRE, RENAME, a STORE into it) is refused
//! before it runs.

use crate::args::{Refusal, is, refusal, wrong_type};
use crate::command::{Args, Command, Context, flag};
use crate::commands::zset::remove_live;
use crate::engine::Engine;
use crate::reply::Reply;

/// A sorted set in database 0 whose scores are not stored here: reads show what it says at that moment, writes are told to it.
/// Every call is made under the engine's lock and must not block. Scores are never NaN.
pub trait LiveSet: Send {
    /// The key under which it is seen. Always the same.
    fn key(&self) -> &[u8];

    /// Members and scores, in any order, each member once.
    fn members(&mut self) -> Vec<(Vec<u8>, f64)>;

    /// Shows each member and its score, in any order. Faster than [`members`](LiveSet::members) where nothing has to be
    /// copied for it.
    fn visit(&mut self, see: &mut dyn FnMut(&[u8], f64)) {
        self.members().iter().for_each(|(member, score)| see(member, *score));
    }

    /// The score of `member`, none where it is not there.
    fn score(&mut self, member: &[u8]) -> Option<f64> {
        let mut found = None;
        self.visit(&mut |other, score| found = if other == member { Some(score) } else { found });
        found
    }

    /// How many members there are.
    fn count(&mut self) -> usize {
        let mut count = 0;
        self.visit(&mut |_, _| count += 1);
        count
    }

    /// Adds `by` to the score of `member` for `client`, and answers the new one (ZINCRBY).
    ///
    /// # Errors
    /// [`LiveError`]; nothing changed then.
    fn add(&mut self, client: u64, member: &[u8], by: f64) -> Result<f64, LiveError>;

    /// Sets the score of `member` for `client` (ZADD).
    ///
    /// # Errors
    /// [`LiveError`]; nothing changed then.
    fn set(&mut self, client: u64, member: &[u8], score: f64) -> Result<(), LiveError>;

    /// Takes `member` out (ZREM); whether it was there.
    ///
    /// # Errors
    /// [`LiveError`]; nothing changed then.
    fn remove(&mut self, client: u64, member: &[u8]) -> Result<bool, LiveError>;

    /// The connection of `client` is gone.
    fn closed(&mut self, client: u64);
}

/// Why a live set did not take a change; the text is sent to the client behind `ERR `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveError(pub String);

impl std::fmt::Display for LiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LiveError {}

impl From<LiveError> for Refusal {
    fn from(error: LiveError) -> Refusal {
        refusal(format!("ERR {error}"))
    }
}

impl Engine {
    /// The live set, where `key` is its.
    pub(crate) fn live_at(&mut self, db: usize, key: &[u8]) -> Option<&mut dyn LiveSet> {
        match &mut self.live {
            Some(live) if db == 0 && live.key() == key => Some(&mut **live),
            Some(_) | None => None,
        }
    }
}

/// What holds for a command that may write where the live set is one of its keys: its answer, where it is not to run as it
/// stands.
pub(crate) fn instead(context: &mut Context<'_>, command: &Command, args: Args<'_>) -> Option<Reply> {
    if !command.has(flag::WRITE) {
        return None;
    }
    let key = context.engine.live.as_ref()?.key();
    if context.client.db != 0 {
        // What another database may be sent from is its own, but not where to.
        let is_sent_here = match (command.name, args) {
            ("move", [_, sent, to]) => *sent == key && *to == b"0",
            ("copy", [_, _, to, options @ ..]) => {
                *to == key && options.windows(2).any(|pair| is(pair[0], "db") && pair[1] == b"0")
            }
            _ => false,
        };
        return is_sent_here.then(|| refused(key, "nothing can be stored there"));
    }
    let is_named = keys_in(command, args).any(|arg| arg == key);
    let is_stored_to = command.name == "sort" && args.windows(2).any(|pair| is(pair[0], "store") && pair[1] == key);
    if !is_named && !is_stored_to {
        return None;
    }
    let key = key.to_vec();
    match command.name {
        "del" | "unlink" => Some(delete(context, command, args, &key).unwrap_or_else(|refusal| refusal)),
        "zadd" | "zincrby" | "zrem" | "zpopmin" | "zpopmax" | "bzpopmin" | "bzpopmax" => None,
        "zremrangebyrank" | "zremrangebyscore" | "zremrangebylex" => None,
        "zrangestore" if args[1] != key => None,
        "copy" if args[2] != key => None,
        "sort" if !is_stored_to => None,
        name if name.ends_with("store") || is_stored_to => Some(refused(&key, "nothing can be stored there")),
        _ if matches!(command.group, "string" | "list" | "set" | "hash") => Some(wrong_type()),
        name => Some(refused(&key, &format!("there is no {} of it", name.to_uppercase()))),
    }
}

/// The arguments that are keys, as far as their places are fixed.
fn keys_in<'a>(command: &Command, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
    let (first, last, step) = command.keys;
    let last = if last < 0 { args.len() as i32 + last } else { last };
    let keys = args.get(first as usize..=last as usize).filter(|_| first > 0).unwrap_or_default();
    keys.iter().step_by(step.max(1) as usize).copied()
}

fn refused(key: &[u8], why: &str) -> Refusal {
    refusal(format!("ERR the set `{}` is kept by the node: {why}", String::from_utf8_lossy(key)))
}

/// DEL takes every member out of the live set, and then runs for the other keys.
fn delete(context: &mut Context<'_>, command: &Command, args: Args<'_>, key: &[u8]) -> Result<Reply, Reply> {
    let members = context.engine.live.as_mut().map(|live| live.members()).unwrap_or_default();
    let removed = remove_live(context, key, members.iter().map(|(member, _)| member))?;
    let others: Vec<&[u8]> = args.iter().copied().filter(|arg| *arg != key).collect();
    let deleted = if others.len() > 1 { (command.run)(context, &others)? } else { Reply::Int(0) };
    Ok(match deleted {
        Reply::Int(deleted) => Reply::Int(deleted + i64::from(removed > 0)),
        other => other,
    })
}
