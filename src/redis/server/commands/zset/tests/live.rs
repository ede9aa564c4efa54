//! Stories of the live set, with one that is kept here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::live::{LiveError, LiveSet};
use crate::testing::Bench;

type Loads = Arc<Mutex<BTreeMap<Vec<u8>, f64>>>;

/// What a node would keep.
struct Fake {
    loads: Loads,
    /// Who charged what, in order.
    charges: Arc<Mutex<Vec<(u64, String, f64)>>>,
    /// How often all of it was asked for.
    listed: Arc<AtomicUsize>,
}

impl LiveSet for Fake {
    fn key(&self) -> &[u8] {
        b"pods"
    }

    fn members(&mut self) -> Vec<(Vec<u8>, f64)> {
        self.listed.fetch_add(1, Relaxed);
        self.loads.lock().iter().rev().map(|(member, load)| (member.clone(), *load)).collect()
    }

    fn visit(&mut self, see: &mut dyn FnMut(&[u8], f64)) {
        self.loads.lock().iter().for_each(|(member, load)| see(member, *load));
    }

    fn add(&mut self, client: u64, member: &[u8], by: f64) -> Result<f64, LiveError> {
        let mut loads = self.loads.lock();
        let load = loads.get_mut(member).ok_or_else(|| LiveError("no such pod".into()))?;
        *load += by;
        self.charges.lock().push((client, String::from_utf8_lossy(member).into(), by));
        Ok(*load)
    }

    fn set(&mut self, client: u64, member: &[u8], score: f64) -> Result<(), LiveError> {
        let by = score - self.loads.lock().get(member).copied().unwrap_or_default();
        self.add(client, member, by).map(|_| ())
    }

    fn remove(&mut self, _client: u64, member: &[u8]) -> Result<bool, LiveError> {
        Ok(self.loads.lock().remove(member).is_some())
    }

    fn closed(&mut self, _client: u64) {}
}

struct Story {
    bench: Bench,
    loads: Loads,
    charges: Arc<Mutex<Vec<(u64, String, f64)>>>,
    listed: Arc<AtomicUsize>,
}

fn story(pods: &[(&str, f64)]) -> Story {
    let loads: Loads = Arc::new(Mutex::new(pods.iter().map(|(pod, load)| (pod.as_bytes().to_vec(), *load)).collect()));
    let (charges, listed) = (Arc::default(), Arc::default());
    let fake = Fake { loads: loads.clone(), charges: Arc::clone(&charges), listed: Arc::clone(&listed) };
    Story { bench: Bench::new(Some(Box::new(fake))), loads, charges, listed }
}

/// A caller reads the loads as it did over Redis. Between two reads the fleet moves on, and the second must show it.
#[test]
fn a_read_shows_the_loads_of_that_moment() {
    let mut story = story(&[("a", 30.0), ("b", 10.0), ("c", 20.0)]);
    assert_eq!(story.bench.ask("zrange pods 0 -1 withscores"), "b 10 c 20 a 30");
    story.loads.lock().insert(b"b".to_vec(), 40.0);
    assert_eq!(story.bench.ask("zrange pods 0 -1"), "c a b");
    assert_eq!(story.bench.ask("zrevrange pods 0 0"), "b");
    assert_eq!(story.bench.ask("zrangebyscore pods (20 +inf withscores"), "a 30 b 40");
    assert_eq!(story.bench.ask("zcount pods 20 30"), "2");
    assert_eq!(story.bench.ask("zrank pods b"), "2");
    assert_eq!(story.bench.ask("zrevrank pods b"), "0");
    assert_eq!(story.bench.ask("zmscore pods a x c"), "30 nil 20");
    assert_eq!(story.bench.ask("zcard pods"), "3");
    assert_eq!(story.bench.ask("zunionstore sum 2 pods pods weights 1 2"), "3");
    assert_eq!(story.bench.ask("zrange sum 0 -1 withscores"), "c 60 a 90 b 120");
}

/// The least loaded pod is asked for with every request: nothing may be built for it.
#[test]
fn the_least_loaded_is_found_without_listing_all() {
    let mut story = story(&[("a", 30.0), ("b", 10.0), ("c", 20.0)]);
    assert_eq!(story.bench.ask("zrange pods 0 0 withscores"), "b 10");
    assert_eq!(story.bench.ask("zrange pods 0 0 rev"), "a");
    assert_eq!(story.bench.ask("zrangebyscore pods -inf +inf limit 0 1"), "b");
    assert_eq!(story.bench.ask("zrevrangebyscore pods +inf -inf limit 0 1"), "a");
    assert_eq!(story.bench.ask("zscore pods c"), "20");
    assert_eq!(story.bench.ask("zincrby pods 5 c"), "25");
    assert_eq!(story.listed.load(Relaxed), 0);
}

/// A charge is that caller's own: the owner is told who made it, and what it refuses is refused.
#[test]
fn a_charge_is_told_to_the_owner_with_the_callers_id() {
    let mut story = story(&[("a", 1.0)]);
    assert_eq!(story.bench.ask("zincrby pods 2.5 a"), "3.5");
    assert_eq!(story.bench.ask("zadd pods incr 1 a"), "4.5");
    assert_eq!(story.bench.ask("zadd pods xx ch 2 a"), "1");
    assert_eq!(story.bench.ask("zadd pods gt ch 1 a"), "0");
    assert_eq!(story.bench.ask("zincrby pods 1 x"), "ERR no such pod");
    let charges: Vec<(u64, String, f64)> = story.charges.lock().clone();
    assert_eq!(charges, [(7, "a".into(), 2.5), (7, "a".into(), 1.0), (7, "a".into(), -2.5)]);
}

/// Pods are taken out by every way that sorted sets know, and the owner hears of each.
#[test]
fn members_are_taken_out_through_the_owner() {
    let mut story = story(&[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0), ("f", 6.0)]);
    assert_eq!(story.bench.ask("zrem pods a x"), "1");
    assert_eq!(story.bench.ask("zpopmin pods"), "b 2");
    assert_eq!(story.bench.ask("zmpop 1 pods max"), "pods [[f 6]]");
    assert_eq!(story.bench.ask("zremrangebyscore pods 4 4"), "1");
    assert_eq!(story.bench.ask("zrange pods 0 -1"), "c e");
    assert_eq!(story.bench.ask("zremrangebyrank pods 0 -1"), "2");
    assert_eq!(story.bench.ask("zcard pods"), "0");
    assert_eq!(story.bench.ask("zrange pods 0 -1"), "");
    assert_eq!(story.bench.ask("bzpopmin pods 0"), "");
    assert!(story.bench.client.wait.is_some());
}

/// What makes no sense for loads that a fleet keeps is refused before it touches anything.
#[test]
fn the_live_set_cannot_become_something_else() {
    let mut story = story(&[("a", 1.0)]);
    story.bench.run("zadd other 1 x");
    let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(story.bench.ask("set pods 1"), wrong_type);
    assert_eq!(story.bench.ask("get pods"), wrong_type);
    for line in ["zunionstore pods 1 other", "zrangestore pods other 0 -1", "zinterstore pods 1 none"] {
        let refused = "ERR the set `pods` is kept by the node: nothing can be stored there";
        assert_eq!(story.bench.ask(line), refused, "{line}");
    }
    assert_eq!(story.bench.ask("zrange pods 0 -1 withscores"), "a 1");
    story.bench.client.db = 1;
    assert_eq!(story.bench.ask("zadd pods 9 mine"), "1");
    assert_eq!(story.bench.ask("zrange pods 0 -1"), "mine");
}

/// A transaction that watches the loads must not happen once somebody charged a pod through this server.
#[test]
fn a_charge_through_this_server_spoils_who_watches() {
    let mut story = story(&[("a", 1.0)]);
    let flag = Arc::default();
    story.bench.engine.watch(0, b"pods", &flag);
    story.bench.run("zrange pods 0 -1");
    assert!(!flag.load(Relaxed));
    story.bench.run("zincrby pods 1 a");
    assert!(flag.load(Relaxed));
}

/// Somebody empties the keyspace: the loads are not in it.
#[test]
fn a_flush_leaves_the_live_set() {
    let mut story = story(&[("a", 1.0)]);
    story.bench.engine.flush(0);
    assert_eq!(story.bench.ask("zrange pods 0 -1"), "a");
    assert_eq!(story.bench.engine.get(0, b"pods").map(|entry| entry.value.kind()), Some("zset"));
    story.loads.lock().clear();
    assert!(story.bench.engine.get(0, b"pods").is_none());
    assert_eq!(story.bench.engine.random_key(0), None);
}

/// Tools look at keys in every way but by reading them: the live set is a key like others to each.
#[test]
fn what_lists_and_describes_keys_knows_the_live_set() {
    let mut story = story(&[("a", 1.0), ("b", 2.0)]);
    assert_eq!(story.bench.ask("exists pods"), "1");
    assert_eq!(story.bench.ask("type pods"), "zset");
    assert_eq!(story.bench.ask("object encoding pods"), "listpack");
    assert_eq!(story.bench.ask("keys p*"), "pods");
    assert_eq!(story.bench.ask("scan 0 type zset"), "0 [pods]");
    assert_eq!(story.bench.ask("zscan pods 0"), "0 [a 1 b 2]");
    assert_eq!(story.bench.ask("ttl pods"), "-1");
    assert_eq!(story.bench.ask("randomkey"), "pods");
    for number in 0..200 {
        story.loads.lock().insert(format!("pod-{number}").into_bytes(), 1.0);
    }
    assert_eq!(story.bench.ask("object encoding pods"), "skiplist");
    story.loads.lock().clear();
    assert_eq!(story.bench.ask("exists pods"), "0");
    assert_eq!(story.bench.ask("type pods"), "none");
}

/// DEL of the loads takes every pod out, beside keys that are really deleted.
#[test]
fn a_del_takes_every_member_out() {
    let mut story = story(&[("a", 1.0), ("b", 2.0)]);
    story.bench.run("set other 1");
    assert_eq!(story.bench.ask("del pods none other"), "2");
    assert!(story.loads.lock().is_empty());
    assert_eq!(story.bench.ask("unlink pods"), "0");
}

/// A lock's habits on the wrong key: what names the loads but cannot mean them says so.
#[test]
fn lifetimes_and_names_are_refused() {
    let mut story = story(&[("a", 1.0)]);
    story.bench.run("set other 1");
    let refused = |what: &str| format!("ERR the set `pods` is kept by the node: there is no {what} of it");
    assert_eq!(story.bench.ask("expire pods 10"), refused("EXPIRE"));
    assert_eq!(story.bench.ask("persist pods"), refused("PERSIST"));
    assert_eq!(story.bench.ask("rename pods x"), refused("RENAME"));
    assert_eq!(story.bench.ask("rename other pods"), refused("RENAME"));
    assert_eq!(story.bench.ask("copy other pods replace"), refused("COPY"));
    assert_eq!(story.bench.ask("copy pods kept"), "1");
    assert_eq!(story.bench.ask("zrange kept 0 -1 withscores"), "a 1");
    story.bench.client.db = 1;
    story.bench.run("set pods 1");
    assert_eq!(story.bench.ask("move pods 0"), "ERR the set `pods` is kept by the node: nothing can be stored there");
    assert_eq!(story.bench.ask("rename pods x"), "OK");
}
