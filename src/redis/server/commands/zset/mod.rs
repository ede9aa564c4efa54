//! Sorted sets: members with scores, in the order of their scores.
//!
//! This is the type that balancers over Redis live on: pods by load, requests by time. Reading commands work on a
//! [`View`](view::View), which is a set of the keyspace or the live one; writing commands on the set itself, or they tell
//! the live one.

mod add;
mod bounds;
mod combine;
mod pop;
mod ranges;
mod read;
mod remove;
mod set;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use remove::remove_live;
pub(crate) use set::SortedSet;

use crate::command::{Command, flag::*};
use crate::reply::Reply;

type Run = fn(&mut crate::command::Context<'_>, crate::command::Args<'_>) -> Result<Reply, Reply>;

const fn command(name: &'static str, arity: i32, flags: u32, keys: (i32, i32, i32), run: Run) -> Command {
    Command { name, arity, flags, keys, group: "sorted-set", run }
}

/// The key is the first argument.
const ONE: (i32, i32, i32) = (1, 1, 1);
/// The keys are counted by an argument.
const COUNTED: (i32, i32, i32) = (0, 0, 0);

pub(crate) const COMMANDS: &[Command] = &[
    command("bzmpop", -5, WRITE | BLOCKING | MOVABLEKEYS, COUNTED, pop::bzmpop),
    command("bzpopmax", -3, WRITE | NOSCRIPT | FAST | BLOCKING, (1, -2, 1), pop::bzpopmax),
    command("bzpopmin", -3, WRITE | NOSCRIPT | FAST | BLOCKING, (1, -2, 1), pop::bzpopmin),
    command("zadd", -4, WRITE | DENYOOM | FAST, ONE, add::zadd),
    command("zcard", 2, READONLY | FAST, ONE, read::zcard),
    command("zcount", 4, READONLY | FAST, ONE, read::zcount),
    command("zdiff", -3, READONLY | MOVABLEKEYS, COUNTED, combine::zdiff),
    command("zdiffstore", -4, WRITE | DENYOOM | MOVABLEKEYS, ONE, combine::zdiffstore),
    command("zincrby", 4, WRITE | DENYOOM | FAST, ONE, add::zincrby),
    command("zinter", -3, READONLY | MOVABLEKEYS, COUNTED, combine::zinter),
    command("zintercard", -3, READONLY | MOVABLEKEYS, COUNTED, combine::zintercard),
    command("zinterstore", -4, WRITE | DENYOOM | MOVABLEKEYS, ONE, combine::zinterstore),
    command("zlexcount", 4, READONLY | FAST, ONE, read::zlexcount),
    command("zmpop", -4, WRITE | MOVABLEKEYS, COUNTED, pop::zmpop),
    command("zmscore", -3, READONLY | FAST, ONE, read::zmscore),
    command("zpopmax", -2, WRITE | FAST, ONE, pop::zpopmax),
    command("zpopmin", -2, WRITE | FAST, ONE, pop::zpopmin),
    command("zrandmember", -2, READONLY, ONE, read::zrandmember),
    command("zrange", -4, READONLY, ONE, ranges::zrange),
    command("zrangebylex", -4, READONLY, ONE, ranges::zrangebylex),
    command("zrangebyscore", -4, READONLY, ONE, ranges::zrangebyscore),
    command("zrangestore", -5, WRITE | DENYOOM, (1, 2, 1), ranges::zrangestore),
    command("zrank", 3, READONLY | FAST, ONE, read::zrank),
    command("zrem", -3, WRITE | FAST, ONE, remove::zrem),
    command("zremrangebylex", 4, WRITE, ONE, remove::zremrangebylex),
    command("zremrangebyrank", 4, WRITE, ONE, remove::zremrangebyrank),
    command("zremrangebyscore", 4, WRITE, ONE, remove::zremrangebyscore),
    command("zrevrange", -4, READONLY, ONE, ranges::zrevrange),
    command("zrevrangebylex", -4, READONLY, ONE, ranges::zrevrangebylex),
    command("zrevrangebyscore", -4, READONLY, ONE, ranges::zrevrangebyscore),
    command("zrevrank", 3, READONLY | FAST, ONE, read::zrevrank),
    command("zscan", -3, READONLY, ONE, read::zscan),
    command("zscore", 3, READONLY | FAST, ONE, read::zscore),
    command("zunion", -3, READONLY | MOVABLEKEYS, COUNTED, combine::zunion),
    command("zunionstore", -4, WRITE | DENYOOM | MOVABLEKEYS, ONE, combine::zunionstore),
];

/// Members with their scores: in one flat array in RESP2, each pair in its own in RESP3. Members alone where not `with_scores`.
fn listed(pairs: impl Iterator<Item = (Vec<u8>, f64)>, with_scores: bool, protocol: u8) -> Reply {
    let mut replies = Vec::with_capacity(pairs.size_hint().0 * if with_scores && protocol == 2 { 2 } else { 1 });
    for (member, score) in pairs {
        match (with_scores, protocol) {
            (false, _) => replies.push(Reply::Bulk(member)),
            (true, 2) => replies.extend([Reply::Bulk(member), Reply::Double(score)]),
            (true, _) => replies.push(Reply::Array(vec![Reply::Bulk(member), Reply::Double(score)])),
        }
    }
    Reply::Array(replies)
}
