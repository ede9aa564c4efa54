//! Sorted sets against a model, and their stories.

mod live;
mod model;

use crate::testing::Bench;

/// A small set of Redis forgets the sign of zero, because a listpack keeps whole numbers as such; a large one keeps it.
#[test]
fn minus_zero_is_kept_by_large_sets_only() {
    let mut bench = Bench::new(None);
    bench.run("zadd small -0 a");
    assert_eq!(bench.ask("zscore small a"), "0");
    bench.engine.settings.zset_max_listpack_entries = 0;
    bench.run("zadd large -0 a");
    assert_eq!(bench.ask("zscore large a"), "-0");
    assert_eq!(bench.ask("zadd large 0 a"), "0");
    assert_eq!(bench.ask("zscore large a"), "-0");
}

/// Infinities that cancel each other have no sum: the caller is told so and the score stands.
#[test]
fn an_increment_that_comes_to_nan_changes_nothing() {
    let mut bench = Bench::new(None);
    bench.run("zadd loads inf a");
    assert_eq!(bench.ask("zincrby loads -inf a"), "ERR resulting score is not a number (NaN)");
    assert_eq!(bench.ask("zscore loads a"), "inf");
}

/// A caller asks for as many random members as it can write: the answer would fill the memory before a byte of it is sent.
#[test]
fn a_claim_of_many_random_members_takes_no_memory() {
    let mut bench = Bench::new(None);
    bench.run("zadd loads 1 a 2 b");
    assert_eq!(bench.ask("zrandmember loads -9223372036854775807"), "ERR value is out of range");
    let out_of_range = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    assert_eq!(bench.ask("zrandmember loads -9223372036854775808"), out_of_range);
    assert_eq!(bench.ask("zrandmember loads 9223372036854775807"), "b a");
    assert_eq!(bench.ask("zrandmember none -9223372036854775807"), "");
    assert_eq!(bench.ask("zpopmin loads 9223372036854775807"), "a 1 b 2");
}

/// An error must not leave half of what was asked for: the second score is no number, so the first member is not there.
#[test]
fn a_zadd_that_is_refused_adds_nothing() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.ask("zadd loads 1 a x b"), "ERR value is not a valid float");
    assert_eq!(bench.ask("zcard loads"), "0");
    assert_eq!(bench.engine.dirty, 0);
}

/// What maxmemory counts must come back to nothing when all that was added is gone again.
#[test]
fn bytes_are_given_back_with_the_members() {
    let mut bench = Bench::new(None);
    for number in 0..1000 {
        bench.run(&format!("zadd log {number} request-{number}"));
    }
    let full = bench.engine.used_bytes;
    assert!(full > 100 * 1000, "{full}");
    bench.run("zremrangebyscore log -inf (999");
    assert!(bench.engine.used_bytes < 1000, "{}", bench.engine.used_bytes);
    bench.run("zpopmax log");
    assert_eq!(bench.engine.used_bytes, 0);
}

/// A balancer of old does not know that a script may block: in one, and in a transaction, there is no waiting.
#[test]
fn who_may_not_wait_is_told_at_once_that_there_is_nothing() {
    let mut bench = Bench::new(None);
    bench.client.in_exec = true;
    assert_eq!(bench.ask("bzpopmin none 0"), "nil");
    assert_eq!(bench.client.wait, None);
    bench.client.in_exec = false;
    assert_eq!(bench.ask("bzpopmin none 0"), "");
    assert!(bench.client.wait.is_some());
}
