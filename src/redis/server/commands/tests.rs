//! What holds for every command on keys, whatever it is asked.

use proptest::prelude::*;
use proptest::sample::select;

use crate::commands::all;
use crate::engine::{DATABASES, Engine};
use crate::reply::Reply;
use crate::testing::Bench;

/// Words of which commands are made, so that many of them mean something: keys, members, numbers, options, rubbish.
const WORDS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "1",
    "2",
    "3",
    "-1",
    "0",
    "7",
    "100",
    "-3",
    "1.5",
    "x",
    "",
    "[",
    "*",
    "k*->f",
    "#",
    "9223372036854775807",
    "-9223372036854775808",
    "1e400",
    "nx",
    "xx",
    "gt",
    "lt",
    "ex",
    "px",
    "get",
    "keepttl",
    "match",
    "count",
    "limit",
    "by",
    "store",
    "left",
    "right",
    "before",
    "withvalues",
    "rank",
    "replace",
    "db",
    "idx",
    "len",
    "persist",
];

const GROUPS: [&str; 6] = ["string", "generic", "hash", "list", "set", "sorted-set"];

/// A command by its name, and words for it.
fn asked() -> impl Strategy<Value = (&'static str, Vec<&'static str>)> {
    let shapes: Vec<_> =
        all().filter(|command| GROUPS.contains(&command.group)).map(|it| (it.name, it.arity)).collect();
    select(shapes).prop_flat_map(|(name, arity)| {
        let least = arity.unsigned_abs() as usize - 1;
        let most = if arity < 0 { least + 4 } else { least };
        (Just(name), prop::collection::vec(select(WORDS), least..=most))
    })
}

/// All that clients can see, but for when a key was last used.
fn state(engine: &Engine) -> String {
    let entries = engine.dbs.iter().flat_map(|db| db.iter());
    let entries = entries.filter(|(_, entry)| entry.expires_ms.is_none_or(|at| at > engine.now_ms));
    let mut lines: Vec<_> =
        entries.map(|(key, entry)| format!("{key:?} {:?} {:?}", entry.value, entry.expires_ms)).collect();
    // What expired and is gone left its place to another key.
    lines.sort_unstable();
    lines.join("\n")
}

fn answer(bench: &mut Bench, name: &str, words: &[&str]) -> Reply {
    // OBJECT ENCODING and its like are two words.
    let name: Vec<&[u8]> = name.split('|').map(str::as_bytes).collect();
    let words = words.iter().skip(name.len() - 1).map(|word| word.as_bytes());
    let args: Vec<&[u8]> = name.iter().copied().chain(words).collect();
    let reply = bench.run_args(&args);
    bench.client.wait = None;
    reply
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A transaction of a caller runs on after an error and relies on what the failed command did not do: half of an MSET, a
    /// key that was emptied before its type was looked at. And memory is refused by what is counted: a byte that is counted
    /// twice, or not given back, adds up to a server that takes nothing more.
    #[test]
    fn a_refusal_changes_nothing_and_every_byte_is_counted_once(
        commands in prop::collection::vec(asked(), 1..60),
        seconds in 0..20_i64,
    ) {
        let mut bench = Bench::new(None);
        bench.engine.settings.hash_max_listpack_entries = 3;
        bench.engine.settings.set_max_intset_entries = 3;
        bench.engine.now_ms = 1_000_000;
        for (name, words) in commands {
            let before = state(&bench.engine);
            let dirty = bench.engine.dirty;
            if let Reply::Error(text) = answer(&mut bench, name, &words) {
                prop_assert_eq!(&before, &state(&bench.engine), "{} {:?}: {}", name, words, text);
                prop_assert_eq!(dirty, bench.engine.dirty);
            }
            bench.engine.now_ms += seconds * 100;
            bench.engine.expire_some(usize::MAX);
            let entries = bench.engine.dbs.iter().flat_map(|db| db.iter());
            let counted: usize = entries.map(|(key, entry)| key.len() + entry.value.bytes()).sum();
            prop_assert_eq!(bench.engine.used_bytes, counted, "{} {:?}", name, words);
        }
        (0..DATABASES).for_each(|db| bench.engine.flush(db));
        prop_assert_eq!(bench.engine.used_bytes, 0);
    }
}

/// Callers upgrade from Redis with their code as it is. Each of these is what Redis 7.0 answered.
#[test]
fn encodings_are_those_of_redis() {
    let mut bench = Bench::new(None);
    let long = "x".repeat(45);
    for (line, key, encoding) in [
        ("set s 12", "s", "int"),
        ("append s 3", "s", "raw"),
        ("incr s", "s", "int"),
        ("incrbyfloat s 1", "s", "embstr"),
        ("set s 012", "s", "embstr"),
        (&format!("set s {long}"), "s", "raw"),
        ("setrange t 1 a", "t", "raw"),
        ("sadd i 3 1 2", "i", "intset"),
        ("sadd i x", "i", "hashtable"),
        ("srem i x", "i", "hashtable"),
        ("hset h a b", "h", "listpack"),
        (&format!("hset h a {}", "x".repeat(65)), "h", "hashtable"),
        ("rpush l a", "l", "quicklist"),
    ] {
        bench.run(line);
        assert_eq!(bench.ask(&format!("object encoding {key}")), encoding, "{line}");
    }
}

/// A sliding log trims by index, and indexes may lie far outside of the list.
#[test]
fn indexes_of_lists_count_from_both_ends_and_may_lie_outside() {
    let mut bench = Bench::new(None);
    bench.run("rpush l a b c d e");
    for (range, elements) in [
        ("0 -1", "a b c d e"),
        ("1 3", "b c d"),
        ("-2 -1", "d e"),
        ("-100 1", "a b"),
        ("3 100", "d e"),
        ("3 1", ""),
        ("5 9", ""),
        ("-9223372036854775808 9223372036854775807", "a b c d e"),
    ] {
        assert_eq!(bench.ask(&format!("lrange l {range}")), elements, "{range}");
    }
    bench.run("rpush l a");
    assert_eq!(bench.ask("lpos l a rank -1"), "5");
    assert_eq!(bench.ask("lpos l a count 0"), "0 5");
    assert_eq!(bench.ask("lrem l -1 a"), "1");
    assert_eq!(bench.ask("lmove l l left right"), "a");
    assert_eq!(bench.ask("ltrim l 1 -2"), "OK");
    assert_eq!(bench.ask("lrange l 0 -1"), "c d e");
}

/// A lock is taken with NX and an expiry, and lengthened only by who would lengthen it.
#[test]
fn keys_expire_when_they_should_and_conditions_hold() {
    let mut bench = Bench::new(None);
    bench.engine.now_ms = 1_000_000;
    assert_eq!(bench.ask("set lock me nx px 1500"), "OK");
    assert_eq!(bench.ask("set lock you nx get px 1500"), "me");
    assert_eq!(bench.ask("pttl lock"), "1500");
    assert_eq!(bench.ask("ttl lock"), "2");
    assert_eq!(bench.ask("pexpire lock 1000 gt"), "0");
    assert_eq!(bench.ask("pexpire lock 3000 gt"), "1");
    assert_eq!(bench.ask("expire lock 1 nx"), "0");
    assert_eq!(bench.ask("set lock me keepttl"), "OK");
    bench.engine.now_ms += 2999;
    assert_eq!(bench.ask("exists lock"), "1");
    bench.engine.now_ms += 1;
    assert_eq!(bench.ask("get lock"), "nil");
    bench.run("set key value");
    assert_eq!(bench.ask("expireat key 1"), "1");
    assert_eq!(bench.ask("exists key"), "0");
    assert_eq!(bench.ask("set key value ex 9223372036854775807"), "ERR invalid expire time in 'set' command");
}

/// A report sorts pods by what a hash beside each says.
#[test]
fn elements_are_sorted_by_what_other_keys_say() {
    let mut bench = Bench::new(None);
    bench.run("rpush pods a b c");
    for (pod, load) in [("a", "10"), ("b", "9"), ("c", "100")] {
        bench.run(&format!("hset pod:{pod} load {load}"));
    }
    assert_eq!(bench.ask("sort pods by pod:*->load"), "b a c");
    assert_eq!(bench.ask("sort pods by pod:*->load desc limit 0 1 get # get pod:*->load"), "c 100");
    assert_eq!(bench.ask("sort pods by pod:*->load alpha store sorted"), "3");
    assert_eq!(bench.ask("lrange sorted 0 -1"), "a c b");
    assert_eq!(bench.ask("sort pods"), "ERR One or more scores can't be converted into double");
}
