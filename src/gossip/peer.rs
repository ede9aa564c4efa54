//! What one peer said: its index table, its row, and the share of it that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::wire::{Entry, Key, Names, Rows};
use crate::id::{Epoch, PodId, Seq};
use crate::observe::{Pod, SizeClass};
use crate::time::Time;

/// A row counts in full until nothing was heard from its origin for this long; rows come every second, changed or not.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
/// Then it fades to nothing within this.
const FADE: Duration = Duration::from_secs(1);
/// Entries one row may have; over this they are dropped and counted.
const MAX_ENTRIES: usize = 4096;
/// Pods and models one table may have.
const MAX_TABLE: u32 = 16_384;

#[derive(Debug, Default)]
pub(crate) struct PeerRow {
    epoch: Epoch,
    table: u32,
    /// What the indexes mean, as far as heard. Each part of the table travels on a stream of its own, so that it may have
    /// gaps for a while, and rows may come before it: entries wait here for their pod's name.
    pods: BTreeMap<u32, PodId>,
    /// Datagrams numbered up to this are older than the newest full row.
    floor: Seq,
    entries: BTreeMap<Key, PeerEntry>,
    pub(crate) heard_at: Option<Time>,
    pub(crate) leaving: bool,
    /// Work it picks for, in pods: small requests, heavy ones.
    pub(crate) rates: [f64; 2],
    /// What was added to each pod for it.
    applied: BTreeMap<PodId, Share>,
}

#[derive(Debug, Clone)]
struct PeerEntry {
    seq: Seq,
    count: u32,
    news_at: Time,
    remainders: Vec<Time>,
}

/// A part of a pod's load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) count_x256: u64,
    pub(crate) cost_us: u64,
}

/// One entry that said something new.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) pod: PodId,
    pub(crate) class: SizeClass,
    /// Requests more (or fewer) than before.
    pub(crate) delta: i64,
    pub(crate) age: Duration,
}

/// Why rows or names were not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    /// Older than what is known.
    Old,
    /// Over a bound.
    TooMany,
}

impl Unused {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unused::Old => "old",
            Unused::TooMany => "too_many",
        }
    }
}

impl PeerRow {
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Starts over for a new epoch or table; `Old` if this one is not newer.
    fn turn_to(&mut self, epoch: Epoch, table: u32) -> Result<(), Unused> {
        if epoch < self.epoch || (epoch == self.epoch && (table.wrapping_sub(self.table) as i32) < 0) {
            return Err(Unused::Old);
        }
        if epoch > self.epoch || table != self.table {
            self.entries.clear();
            self.pods.clear();
            if epoch > self.epoch {
                self.floor = Seq(0);
            }
            (self.epoch, self.table) = (epoch, table);
        }
        Ok(())
    }

    pub(crate) fn learn_names(&mut self, names: Names) -> Result<(), Unused> {
        self.turn_to(names.epoch, names.table)?;
        let indexes = names.first_pod..MAX_TABLE;
        if names.pods.len() > indexes.len() {
            return Err(Unused::TooMany);
        }
        for (index, pod) in indexes.zip(names.pods) {
            // Told again after a reconnect: an index never changes its meaning within a table.
            self.pods.entry(index).or_insert(pod);
        }
        Ok(())
    }

    /// Whether entries wait for names.
    pub(crate) fn misses_names(&self) -> bool {
        self.entries.keys().any(|key| !self.pods.contains_key(&key.pod))
    }

    /// Merges what arrived; `transit` is what it spent on the way. Returns what was new in it, and why some of it was not
    /// used, if so.
    pub(crate) fn merge(&mut self, now: Time, rows: Rows, transit: Duration) -> (Vec<News>, Option<Unused>) {
        if let Err(old) = self.turn_to(rows.epoch, rows.table) {
            return (Vec::new(), Some(old));
        }
        let full = rows.part.is_some();
        if rows.seq < self.floor || (!full && rows.seq == self.floor) {
            return (Vec::new(), Some(Unused::Old));
        }
        self.heard_at = Some(now);
        self.leaving = rows.leaving;
        self.rates = [rows.rates.0, rows.rates.1].map(|rate| f64::from(rate) / 1e3);
        let mut news = Vec::new();
        if let Some(part) = rows.part {
            self.floor = rows.seq;
            let told: BTreeSet<Key> = rows.entries.iter().map(|entry| entry.key).collect();
            let covered =
                |key: &Key| part.after.is_none_or(|after| *key > after) && part.upto.is_none_or(|upto| *key <= upto);
            let pods = &self.pods;
            self.entries.retain(|key, entry| {
                let gone = covered(key) && entry.seq < rows.seq && !told.contains(key);
                if gone && entry.count > 0 {
                    news.extend(news_of(pods, *key, -i64::from(entry.count), transit));
                }
                !gone
            });
        }
        let mut unused = None;
        for entry in rows.entries {
            match self.merge_entry(now, rows.seq, entry, transit) {
                Ok(new) => news.extend(new),
                Err(why) => unused = Some(why),
            }
        }
        (news, unused)
    }

    fn merge_entry(&mut self, now: Time, seq: Seq, entry: Entry, transit: Duration) -> Result<Option<News>, Unused> {
        let Entry { key, count, age_100us, remainders_ms } = entry;
        let before = self.entries.get(&key);
        if before.is_some_and(|before| before.seq >= seq) {
            return Ok(None);
        }
        let bounded = key.pod < MAX_TABLE && key.model < MAX_TABLE && self.entries.len() < MAX_ENTRIES;
        if before.is_none() && !bounded {
            return Err(Unused::TooMany);
        }
        let old = before.map_or(0, |before| before.count);
        let age = Duration::from_micros(u64::from(age_100us) * 100) + transit;
        let ends = |ms: u32| now + Duration::from_millis(u64::from(ms));
        let remainders = remainders_ms.into_iter().map(ends).collect();
        self.entries.insert(key, PeerEntry { seq, count, news_at: now - age, remainders });
        let delta = i64::from(count) - i64::from(old);
        Ok(if delta == 0 { None } else { news_of(&self.pods, key, delta, age) })
    }

    /// How much it counts now, in 1/256: all of it while fresh, fading after, nothing from someone never heard.
    pub(crate) fn weight_x256(&self, now: Time) -> u64 {
        let Some(heard_at) = self.heard_at else { return 0 };
        let over = now.since(heard_at).saturating_sub(FRESH);
        let left = FADE.saturating_sub(over).as_nanos();
        (256 * left / FADE.as_nanos()) as u64
    }

    pub(crate) fn age(&self, now: Time) -> Option<Duration> {
        self.heard_at.map(|at| now.since(at))
    }

    /// Makes the pods' peer parts say what this row says now, at `weight_x256`. Pods it does not name are left alone.
    pub(crate) fn apply<'a>(&mut self, now: Time, weight_x256: u64, pod: impl Fn(PodId) -> Option<&'a Pod>) {
        let mut wanted = BTreeMap::new();
        if weight_x256 > 0 {
            for (id, share) in self.shares(now) {
                let cost_us = share.cost_us * weight_x256 / 256;
                wanted.insert(id, Share { count_x256: share.count_x256 * weight_x256 / 256, cost_us });
            }
        }
        let before = std::mem::take(&mut self.applied);
        for id in before.keys().chain(wanted.keys().filter(|id| !before.contains_key(id))) {
            let Some(pod) = pod(*id) else { continue };
            let old = before.get(id).copied().unwrap_or_default();
            let new = wanted.get(id).copied().unwrap_or_default();
            // Wrapping differences of what this very peer put there: the sum never goes below zero.
            pod.peers.count_x256.fetch_add(new.count_x256.wrapping_sub(old.count_x256), Relaxed);
            pod.peers.cost_us.fetch_add(new.cost_us.wrapping_sub(old.cost_us), Relaxed);
            if new != Share::default() {
                self.applied.insert(*id, new);
            }
        }
    }

    /// Takes back what was put on a pod that picks no longer go to.
    pub(crate) fn withdraw(&mut self, pod: &Pod) {
        if let Some(share) = self.applied.remove(&pod.id()) {
            pod.peers.count_x256.fetch_sub(share.count_x256, Relaxed);
            pod.peers.cost_us.fetch_sub(share.cost_us, Relaxed);
        }
    }

    /// Tickets and remainders per pod, unweighted.
    pub(crate) fn shares(&self, now: Time) -> BTreeMap<PodId, Share> {
        let mut shares: BTreeMap<PodId, Share> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let live = entry.remainders.iter().filter(|end| **end > now).count() as u64;
            let count = u64::from(entry.count) + live;
            if count > 0
                && let Some(pod) = self.pods.get(&key.pod)
            {
                let share = shares.entry(*pod).or_default();
                share.count_x256 += count * 256;
                share.cost_us += count * key.class.typical().as_us();
            }
        }
        shares
    }

    /// When the newest news about `pod` was true.
    pub(crate) fn news_at(&self, pod: PodId) -> Option<Time> {
        let about = self.entries.iter().filter(|(key, _)| self.pods.get(&key.pod) == Some(&pod));
        about.map(|(_, entry)| entry.news_at).max()
    }
}

fn news_of(pods: &BTreeMap<u32, PodId>, key: Key, delta: i64, age: Duration) -> Option<News> {
    pods.get(&key.pod).map(|pod| News { pod: *pod, class: key.class, delta, age })
}
