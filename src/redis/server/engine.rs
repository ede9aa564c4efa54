//! The keyspace and what stands around it. Pure: the time comes in with each command, chance from a seeded generator.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::blocked::Blocked;
use crate::commands::zset::SortedSet;
use crate::live::LiveSet;
use crate::lua::Scripts;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::slowlog::SlowLog;
use crate::stats::Stats;
use crate::value::Value;
use crate::watch::Watched;

/// Databases, as Redis has them unless told otherwise.
pub(crate) const DATABASES: usize = 16;

/// What an idle connection is taken to need, bytes: its task and its place in the lists.
const PER_CONNECTION: usize = 4 << 10;

pub(crate) type Key = Box<[u8]>;

/// What one key holds, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// Unix time, ms; gone from then on.
    pub(crate) expires_ms: Option<i64>,
    /// When it was last used, unix ms: OBJECT IDLETIME.
    pub(crate) used_ms: i64,
    /// What [`Engine::used_bytes`] counts for it at present.
    pub(crate) counted_bytes: usize,
    /// Whether somebody else keeps the value ([`LiveSet`]), which is asked for when it is read.
    pub(crate) is_live: bool,
}

/// One database. Keys stand in the order in which they came, so that a scan can walk backwards over them.
#[derive(Default)]
pub(crate) struct Db {
    entries: IndexMap<Key, Entry, DefaultHashBuilder>,
    /// The keys that expire, soonest first.
    expiring: BTreeSet<(i64, Key)>,
}

/// Everything that commands work on, under one lock.
pub(crate) struct Engine {
    pub(crate) dbs: Vec<Db>,
    /// Unix time of the command (or script, or transaction) that runs, ms.
    pub(crate) now_ms: i64,
    /// The same, us: TIME.
    pub(crate) now_us: i64,
    pub(crate) rng: StdRng,
    pub(crate) settings: Settings,
    pub(crate) live: Option<Box<dyn LiveSet>>,
    /// Transactions that must not happen once a key changes.
    pub(crate) watched: Watched,
    /// Keys that got elements which a blocked client may wait for, in order; emptied by whoever serves them.
    pub(crate) ready: Vec<(usize, Key)>,
    /// Clients that wait for such keys.
    pub(crate) blocked: Blocked,
    /// All connections.
    pub(crate) clients: Arc<Registry>,
    /// The scripts that it knows.
    pub(crate) scripts: Scripts,
    /// Changes made so far.
    pub(crate) dirty: u64,
    /// What all entries take, bytes, as far as is counted.
    pub(crate) used_bytes: usize,
    /// What happened so far, for INFO.
    pub(crate) stats: Stats,
    /// What took long.
    pub(crate) slowlog: SlowLog,
    /// Whether expired keys are looked for, or only noticed when they are asked for.
    pub(crate) expires_actively: bool,
    /// When it began, unix ms.
    pub(crate) began_ms: i64,
    /// Which start of a server this is, forty hexadecimal digits.
    pub(crate) run_id: String,
}

impl Db {
    /// Keys, expired ones that nobody asked for yet among them.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at `index`, for scans and random keys.
    pub(crate) fn at(&self, index: usize) -> Option<(&Key, &Entry)> {
        self.entries.get_index(index)
    }

    /// The value of `key`, for who looked with [`Engine::get`] in this command (what expired is gone then) and needs the
    /// rest of the engine beside it, or several at once.
    pub(crate) fn held(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The same, to change it.
    pub(crate) fn held_mut(&mut self, key: &[u8]) -> Option<&mut Value> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// All of them with their keys, in the order of the indexes.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Of keys, how many have an expiry.
    pub(crate) fn expiring(&self) -> usize {
        self.expiring.len()
    }
}

impl Engine {
    pub(crate) fn new(seed: u64, live: Option<Box<dyn LiveSet>>) -> Engine {
        let mut rng = StdRng::seed_from_u64(seed);
        let run_id = format!("{:032x}{:08x}", rng.random::<u128>(), rng.random::<u32>());
        let mut engine = Engine {
            dbs: (0..DATABASES).map(|_| Db::default()).collect(),
            now_ms: 0,
            now_us: 0,
            rng,
            settings: Settings::default(),
            live,
            watched: Watched::default(),
            ready: Vec::new(),
            blocked: Blocked::default(),
            clients: Arc::default(),
            scripts: Scripts::default(),
            dirty: 0,
            used_bytes: 0,
            stats: Stats::default(),
            slowlog: SlowLog::default(),
            expires_actively: true,
            began_ms: 0,
            run_id,
        };
        engine.place_live();
        engine
    }

    /// Gives the live set its place among the keys.
    fn place_live(&mut self) {
        if let Some(live) = &self.live {
            let value = SortedSet::default().into();
            let entry = Entry { value, expires_ms: None, used_ms: self.now_ms, counted_bytes: 0, is_live: true };
            self.dbs[0].entries.insert(live.key().into(), entry);
        }
    }

    /// The entry of `key`, where it has one that has not expired; one that has is removed.
    pub(crate) fn get(&mut self, db: usize, key: &[u8]) -> Option<&Entry> {
        self.expire(db, key);
        let Engine { dbs, live, settings, stats, now_ms, .. } = self;
        let Some(entry) = dbs[db].entries.get_mut(key) else {
            stats.misses += 1;
            return None;
        };
        stats.hits += 1;
        entry.used_ms = *now_ms;
        if entry.is_live { filled(live, settings, entry).map(|entry| &*entry) } else { Some(entry) }
    }

    /// The same, to change its value in place; say so with [`Engine::changed`] afterwards. Its expiry is not to be changed here.
    pub(crate) fn get_mut(&mut self, db: usize, key: &[u8]) -> Option<&mut Value> {
        self.entry(db, key).map(|entry| &mut entry.value)
    }

    fn entry(&mut self, db: usize, key: &[u8]) -> Option<&mut Entry> {
        self.expire(db, key);
        let now = self.now_ms;
        let entry = self.dbs[db].entries.get_mut(key)?;
        entry.used_ms = now;
        if entry.is_live { filled(&mut self.live, &self.settings, entry) } else { Some(entry) }
    }

    /// As [`Engine::get`], without counting as a use, and for what describes a value only: nobody looks into it.
    pub(crate) fn peek(&mut self, db: usize, key: &[u8]) -> Option<&Entry> {
        self.expire(db, key);
        let entry = self.dbs[db].entries.get_mut(key)?;
        if entry.is_live { outlined(&mut self.live, &self.settings, entry) } else { Some(entry) }
    }

    /// What is there, without a look at its time: for several keys at once, each of which was asked for with
    /// [`Engine::get`] by the same command.
    pub(crate) fn look(&self, db: usize, key: &[u8]) -> Option<&Value> {
        self.dbs[db].entries.get(key).map(|entry| &entry.value)
    }

    /// Puts `value` there, in the place of whatever was; `expires_ms` with it.
    pub(crate) fn put(&mut self, db: usize, key: &[u8], value: Value, expires_ms: Option<i64>) {
        let counted_bytes = key.len() + value.bytes();
        let is_awaited = !self.blocked.is_empty() && matches!(value, Value::List(_) | Value::ZSet(_));
        let entry = Entry { value, expires_ms, used_ms: self.now_ms, counted_bytes, is_live: false };
        let Db { entries, expiring } = &mut self.dbs[db];
        if let Some(slot) = entries.get_mut(key) {
            debug_assert!(!slot.is_live, "a command that would overwrite the live set was let through");
            if slot.is_live {
                return;
            }
            let old = std::mem::replace(slot, entry);
            self.used_bytes -= old.counted_bytes;
            if let Some(at) = old.expires_ms {
                expiring.remove(&(at, key.into()));
            }
        } else {
            entries.insert(key.into(), entry);
        }
        self.used_bytes += counted_bytes;
        if let Some(at) = expires_ms {
            expiring.insert((at, key.into()));
        }
        if is_awaited {
            self.ready.push((db, key.into()));
        }
        self.touch(db, key);
    }

    /// A key of `db` by chance, none where there is none that has not expired.
    pub(crate) fn random_key(&mut self, db: usize) -> Option<Key> {
        while self.dbs[db].len() > 0 {
            let index = self.rng.random_range(0..self.dbs[db].len());
            let key = self.dbs[db].at(index)?.0.clone();
            if self.peek(db, &key).is_some() {
                return Some(key);
            }
            // A live set keeps its place where it has no member.
            if self.dbs[db].len() == 1 && self.dbs[db].entries.contains_key(&key) {
                return None;
            }
        }
        None
    }

    /// Removes all keys of `db`.
    pub(crate) fn flush(&mut self, db: usize) {
        let keys = std::mem::take(&mut self.dbs[db]).entries;
        for (key, entry) in keys {
            self.used_bytes -= entry.counted_bytes;
            self.touch(db, &key);
        }
        if db == 0 {
            self.place_live();
        }
    }

    /// Takes it out.
    pub(crate) fn take(&mut self, db: usize, key: &[u8]) -> Option<Entry> {
        self.expire(db, key);
        let entry = self.drop_entry(db, key)?;
        self.touch(db, key);
        Some(entry)
    }

    /// When it expires from now on; never, where none is given. Nothing where there is no such key.
    pub(crate) fn set_expiry(&mut self, db: usize, key: &[u8], expires_ms: Option<i64>) {
        let Db { entries, expiring } = &mut self.dbs[db];
        let Some(entry) = entries.get_mut(key) else { return };
        let old = std::mem::replace(&mut entry.expires_ms, expires_ms);
        if let Some(at) = old {
            expiring.remove(&(at, key.into()));
        }
        if let Some(at) = expires_ms {
            expiring.insert((at, key.into()));
        }
    }

    /// The value of `key` was changed in place: it is removed where it holds nothing any more, its bytes are counted anew,
    /// and who watches it is told.
    pub(crate) fn changed(&mut self, db: usize, key: &[u8]) {
        let Some(entry) = self.dbs[db].entries.get_mut(key) else { return };
        if entry.is_live {
            // What is there is only what was shown last.
        } else if entry.value.is_empty() {
            self.drop_entry(db, key);
        } else {
            let bytes = key.len() + entry.value.bytes();
            self.used_bytes = self.used_bytes - entry.counted_bytes + bytes;
            entry.counted_bytes = bytes;
        }
        self.touch(db, key);
    }

    /// What is held in memory, as far as is counted: values, and what connections keep.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.used_bytes + self.clients.len() * PER_CONNECTION
    }

    /// Whether commands that take memory are refused (`maxmemory`).
    pub(crate) fn is_full(&self) -> bool {
        self.settings.maxmemory > 0 && self.memory_bytes() > self.settings.maxmemory
    }

    fn expire(&mut self, db: usize, key: &[u8]) {
        let now = self.now_ms;
        let is_over = self.dbs[db].entries.get(key).is_some_and(|entry| entry.expires_ms.is_some_and(|at| at <= now));
        if is_over {
            self.drop_entry(db, key);
            self.touch(db, key);
            self.stats.expired += 1;
        }
    }

    /// Removes up to `most` keys whose time is over, of all databases.
    pub(crate) fn expire_some(&mut self, most: usize) -> usize {
        let mut removed = 0;
        for db in 0..self.dbs.len() {
            while removed < most
                && let Some((at, key)) = self.dbs[db].expiring.first()
                && *at <= self.now_ms
            {
                let key = key.clone();
                self.drop_entry(db, &key);
                self.touch(db, &key);
                self.stats.expired += 1;
                removed += 1;
            }
        }
        removed
    }

    fn drop_entry(&mut self, db: usize, key: &[u8]) -> Option<Entry> {
        let (key, entry) = self.dbs[db].entries.swap_remove_entry(key)?;
        if entry.is_live {
            self.dbs[db].entries.insert(key, entry);
            return None;
        }
        self.used_bytes -= entry.counted_bytes;
        if let Some(at) = entry.expires_ms {
            self.dbs[db].expiring.remove(&(at, key));
        }
        Some(entry)
    }
}

/// The entry of the live set with what is in it now; none where that is nothing.
fn filled<'a>(live: &mut Option<Box<dyn LiveSet>>, settings: &Settings, entry: &'a mut Entry) -> Option<&'a mut Entry> {
    let members = live.as_mut()?.members();
    let pairs = members.iter().map(|(member, score)| (Arc::from(member.as_slice()), *score));
    let set = SortedSet::of(pairs, settings.into());
    let is_empty = set.is_empty();
    entry.value = set.into();
    (!is_empty).then_some(entry)
}

/// The same with an outline of it, which is all that TYPE, EXISTS and OBJECT ask for.
fn outlined<'a>(live: &mut Option<Box<dyn LiveSet>>, settings: &Settings, entry: &'a mut Entry) -> Option<&'a Entry> {
    let (mut count, mut longest) = (0, 0);
    live.as_mut()?.visit(&mut |member, _| {
        count += 1;
        longest = member.len().max(longest);
    });
    entry.value = SortedSet::outline(count, longest, settings.into()).into();
    (count > 0).then_some(entry)
}
