//! This node's row: what changed since it was last told, and all of it.
//!
//! The truth is in the lanes (atomics that picks touch); this is the core's side: which lanes it knows, what it last told
//! of them, and the remainders of cancelled requests.

mod remainders;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use smallvec::SmallVec;

use super::wire::{Entry, Key, MAX_COUNT, MAX_DATAGRAM, MAX_REMAINDERS, MAX_STREAM, Names, Rows};
use crate::id::{Epoch, PodId};
use crate::observe::{Lane, Pod, SizeClass};
use crate::pick::{Picker, Remainder};
use crate::time::Time;

/// Pods in one index table; a node that has met more starts a new table with those it uses now. At ten new pods a minute
/// that happens every 13 hours.
const MAX_PODS: usize = 8192;
/// A change is told this many times more, with the changes after it: a lost datagram is made good by the next one instead
/// of the next full row, for seven bytes. Twice: at 5 % loss one change in 8,000 waits for the full row, not one in 20.
const REPEATS: u8 = 2;
/// Changes that wait to be repeated; with more, the oldest are left to the full row.
const MAX_REPEATED: usize = 16;
/// What is told so soon after it happened counts as told at once: the least time between two flushes.
const AT_ONCE: Duration = Duration::from_millis(2);
/// The whole row is told instead of what changed where it is no more bytes than this longer: it makes good whatever was
/// lost before, and the next whole row, which costs twenty times as much, need not be told.
const WHOLE_FOR: usize = 8;

pub(crate) struct OwnRow {
    /// Which index table; peers forget the indexes of an older one.
    table: u32,
    pods: Vec<PodId>,
    /// By incarnation and by which `Pod` of it: one that was replaced while tickets were out keeps an index of its own,
    /// and the receiver adds the two up.
    pod_index: BTreeMap<(PodId, u64), u32>,
    /// Which `Pod`s picks go to now.
    lives: BTreeSet<u64>,
    models: Vec<String>,
    model_index: BTreeMap<String, u32>,
    lanes: BTreeMap<(u32, u32), OwnLane>,
    dirty: BTreeSet<(u32, u32)>,
    /// What was told lately, when it changed, and how often it is still to be repeated.
    repeats: Vec<(Key, Time, u8)>,
    /// The same of the time before; kept for its room.
    before: Vec<(Key, Time, u8)>,
    /// Classes of lanes that were told to be more than none, and remainders.
    live: (usize, usize),
    corrected: u64,
    told: Told,
    missed_changes: u64,
}

/// Changes that were told so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Within [`AT_ONCE`], and the work of these requests, µs.
    pub(crate) at_once: (u64, u64),
    /// Later.
    pub(crate) waited: (u64, u64),
}

struct OwnLane {
    pod: Arc<Pod>,
    lane: Arc<Lane>,
    told: [u32; SizeClass::COUNT],
    remainders: Vec<Remainder>,
    /// Classes whose remainders were not told yet, as bits.
    new_remainders: u64,
    /// Classes of which some users of the pod were told what the others were not, as bits.
    partly_told: u64,
    /// Classes that changed since they were told, as bits, and when each did first.
    marked: u64,
    changed_at: [Time; SizeClass::COUNT],
    /// Whether picks no longer go to its pod.
    gone: bool,
}

impl OwnRow {
    pub(crate) fn new() -> OwnRow {
        OwnRow {
            table: 0,
            pods: Vec::new(),
            pod_index: BTreeMap::new(),
            lives: BTreeSet::new(),
            models: Vec::new(),
            model_index: BTreeMap::new(),
            lanes: BTreeMap::new(),
            dirty: BTreeSet::new(),
            repeats: Vec::new(),
            before: Vec::new(),
            live: (0, 0),
            corrected: 0,
            told: Told::default(),
            missed_changes: 0,
        }
    }

    /// Picks go to these pods from now on.
    pub(crate) fn learn_pods(&mut self, pods: &[Arc<Pod>]) {
        self.lives = pods.iter().map(|pod| pod.life).collect();
        self.lanes.values_mut().for_each(|own| own.gone = !self.lives.contains(&own.pod.life));
    }

    /// Gives pods their indexes before anything is in flight there: one message of names for all of them, instead of one
    /// to every peer for each pod on its first pick.
    pub(crate) fn index_pods<'a>(&mut self, pods: impl Iterator<Item = &'a Arc<Pod>>) {
        for pod in pods.take(MAX_PODS.saturating_sub(self.pods.len())) {
            self.index_pod(pod);
        }
    }

    /// What the index `pod` means.
    pub(crate) fn pod(&self, pod: u32) -> Option<PodId> {
        self.pods.get(pod as usize).copied()
    }

    /// The pods where anything was told to be; one may be named twice.
    pub(crate) fn told_pods(&self) -> impl Iterator<Item = PodId> {
        let some =
            self.lanes.values().filter(|own| own.told.iter().any(|count| *count > 0) || !own.remainders.is_empty());
        some.map(|own| own.pod.id())
    }

    /// Takes in what picks and tickets changed.
    pub(crate) fn collect(&mut self, picker: &Picker) {
        let hub = picker.hub();
        while let Some(remainder) = hub.remainders.pop() {
            let key = self.lane(&remainder.pod, &remainder.lane);
            if let Some(own) = self.lanes.get_mut(&key) {
                own.new_remainders |= 1 << remainder.class.index();
                own.remainders.push(remainder);
                self.live.1 += 1;
                self.dirty.insert(key);
            }
        }
        while let Some(waiting) = hub.waiting.pop() {
            self.correct(&waiting, hub.plays);
        }
        while let Some((pod, lane)) = hub.changes.pop() {
            self.note(&pod, &lane);
        }
        let missed = hub.missed_changes.load(Relaxed);
        if missed != self.missed_changes {
            self.missed_changes = missed;
            for pod in picker.pods().iter() {
                pod.lanes().iter().for_each(|lane| self.note(pod, lane));
            }
        }
    }

    fn note(&mut self, pod: &Arc<Pod>, lane: &Arc<Lane>) {
        let key = self.lane(pod, lane);
        self.dirty.insert(key);
        // Marks are cleared before the counts are read: a change that comes after is queued again.
        let Some(own) = self.lanes.get_mut(&key) else { return };
        for (class, changed_at) in lane.take_marks() {
            let bit = 1 << class.index();
            if own.marked & bit == 0 {
                own.marked |= bit;
                own.changed_at[class.index()] = changed_at;
            }
        }
    }

    /// The class of the costliest change that was not told yet; none where nothing changed after all.
    pub(crate) fn costliest_change(&mut self) -> Option<SizeClass> {
        let lanes = &mut self.lanes;
        let mut costliest = None;
        self.dirty.retain(|key| {
            let Some(own) = lanes.get_mut(key) else { return false };
            // What came and went is nothing to tell, and its next change is not as old as its first.
            own.marked &= own.changed().fold(0, |bits, class| bits | 1 << class.index());
            let class = own.changed().last();
            costliest = costliest.max(class);
            class.is_some()
        });
        costliest
    }

    /// When the first of what was not told yet changed.
    pub(crate) fn oldest_change(&self) -> Time {
        let changed = self.dirty.iter().filter_map(|key| self.lanes.get(key));
        let marked = changed.flat_map(|own| SizeClass::in_bits(own.marked).map(|class| own.changed_at[class.index()]));
        marked.min().unwrap_or(Time::ZERO)
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> Told {
        self.told
    }

    /// What changed and was not told yet.
    pub(crate) fn changed_keys(&self) -> Vec<Key> {
        let changed = self.dirty.iter().filter_map(|key| Some((key, self.lanes.get(key)?)));
        changed.flat_map(|(&(pod, model), own)| own.changed().map(move |class| Key { pod, model, class })).collect()
    }

    /// Entries for everything that changed, by key. Those on the pods that `told` says count as told from here on.
    pub(crate) fn take_changes(&mut self, now: Time, told: impl Fn(PodId) -> bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        std::mem::swap(&mut self.repeats, &mut self.before);
        self.repeats.clear();
        for (pod, model) in std::mem::take(&mut self.dirty) {
            let Some(own) = self.lanes.get_mut(&(pod, model)) else { continue };
            let told = told(own.pod.id());
            for class in own.lane.used().filter(|class| own.is_changed(*class)).collect::<SmallVec<[SizeClass; 8]>>() {
                // Read once: if a pick came between what is told and what is remembered as told, it would never be told.
                let count = own.lane.count(class);
                let key = Key { pod, model, class };
                let age = own.news_age(now, class);
                entries.push(own.entry(key, count, now, age));
                if !told {
                    // Who heard of it now must hear of its end, too, even if the others never hear of either.
                    own.partly_told |= 1 << class.index();
                    continue;
                }
                self.repeats.push((key, now - age, REPEATS));
                let before = std::mem::replace(&mut own.told[class.index()], count);
                self.live.0 = self.live.0 + usize::from(count > 0) - usize::from(before > 0);
                let (many, work) = if age <= AT_ONCE { &mut self.told.at_once } else { &mut self.told.waited };
                *many += u64::from(count.abs_diff(before));
                *work += u64::from(count.abs_diff(before)) * class.typical().as_us();
            }
            if told {
                (own.new_remainders, own.partly_told, own.marked) = (0, 0, 0);
            } else {
                self.dirty.insert((pod, model));
            }
        }
        entries
    }

    /// Entries for everything there is, `changes` among it just as they were taken, where they are hardly longer.
    pub(crate) fn whole_if_short(&self, now: Time, changes: &[Entry]) -> Option<Vec<Entry>> {
        let bytes = |entries: &[Entry]| entries.iter().map(Rows::entry_bytes).sum::<usize>();
        let most = (bytes(changes) + WHOLE_FOR).min(MAX_DATAGRAM - Rows::HEAD);
        // What is certainly longer is not worth a look at every lane.
        if self.live.0 * Rows::LEAST_ENTRY > most {
            return None;
        }
        let mut whole = Vec::new();
        let mut changes = changes.iter().peekable();
        for (&(pod, model), own) in &self.lanes {
            for class in own.lane.used() {
                let key = Key { pod, model, class };
                let entry = match changes.next_if(|change| change.key == key) {
                    Some(change) => change.clone(),
                    None => own.entry(key, own.told[class.index()], now, Duration::ZERO),
                };
                if entry.count > 0 || !entry.remainders_ms.is_empty() {
                    whole.push(entry);
                }
            }
        }
        (bytes(&whole) <= most).then_some(whole)
    }

    /// Adds to `entries` what was told before and is not in them.
    pub(crate) fn repeat(&mut self, now: Time, entries: &mut Vec<Entry>) {
        for &(key, changed_at, left) in &self.before {
            let Some(own) = self.lanes.get(&(key.pod, key.model)) else { continue };
            if self.repeats.len() >= MAX_REPEATED || self.repeats.iter().any(|(other, ..)| *other == key) {
                continue;
            }
            entries.push(own.entry(key, own.told[key.class.index()], now, now.since(changed_at)));
            if left > 1 {
                self.repeats.push((key, changed_at, left - 1));
            }
        }
    }

    /// What changed and was not told to everybody yet. It stays untold.
    pub(crate) fn untold(&self) -> impl Iterator<Item = Key> {
        let dirty = self.dirty.iter().filter_map(|key| Some((*key, self.lanes.get(key)?)));
        dirty.flat_map(|((pod, model), own)| own.changed().map(move |class| Key { pod, model, class }))
    }

    /// The key of requests of `class` on that pod and model.
    pub(crate) fn key_of(&mut self, (pod, lane, class): (&Arc<Pod>, &Arc<Lane>, SizeClass)) -> Key {
        let (pod, model) = self.lane(pod, lane);
        Key { pod, model, class }
    }

    /// What there is of `key`, as news of this moment, and on which pod; none of a lane that was forgotten.
    pub(crate) fn entry_now(&self, key: Key, now: Time) -> Option<(PodId, Entry)> {
        let own = self.lanes.get(&(key.pod, key.model))?;
        Some((own.pod.id(), own.entry(key, own.lane.count(key.class), now, Duration::ZERO)))
    }

    /// Entries for everything there is, by key. They do not count as told, because not everybody is told at once.
    pub(crate) fn full(&self, now: Time) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (&(pod, model), own) in &self.lanes {
            for class in own.lane.used() {
                let age = if own.is_changed(class) { own.news_age(now, class) } else { Duration::ZERO };
                let entry = own.entry(Key { pod, model, class }, own.lane.count(class), now, age);
                if entry.count > 0 || !entry.remainders_ms.is_empty() {
                    entries.push(entry);
                }
            }
        }
        entries
    }

    /// Table, and how many pods and models it has.
    pub(crate) fn table(&self) -> (u32, (u32, u32)) {
        (self.table, (self.pods.len() as u32, self.models.len() as u32))
    }

    /// How many lanes are known, and how many changes wait to be repeated.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.lanes.len(), self.repeats.len())
    }

    /// The index table from (`pods`, `models`) on, in messages that fit a stream.
    pub(crate) fn names(&self, epoch: Epoch, (pods, models): (u32, u32)) -> Vec<Names> {
        // Below what a stream holds with nine bytes a pod, or 260 a model.
        const PODS: usize = MAX_STREAM / 10;
        const MODELS: usize = MAX_STREAM / 300;
        let empty =
            Names { epoch, table: self.table, first_pod: pods, pods: vec![], first_model: models, models: vec![] };
        let new_pods = self.pods.get(pods as usize..).unwrap_or_default();
        let new_models = self.models.get(models as usize..).unwrap_or_default();
        let pod_chunks = new_pods.chunks(PODS).zip((pods..).step_by(PODS)).map(|(chunk, first_pod)| Names {
            first_pod,
            pods: chunk.to_vec(),
            ..empty.clone()
        });
        let model_chunks = new_models
            .chunks(MODELS)
            .zip((models..).step_by(MODELS))
            .map(|(chunk, first_model)| Names { first_model, models: chunk.to_vec(), ..empty.clone() });
        pod_chunks.chain(model_chunks).collect()
    }

    fn lane(&mut self, pod: &Arc<Pod>, lane: &Arc<Lane>) -> (u32, u32) {
        if self.pods.len() >= MAX_PODS && !self.pod_index.contains_key(&(pod.id(), pod.life)) {
            self.start_new_table();
        }
        let key = (self.index_pod(pod), self.index_model(lane.model.name()));
        let gone = !self.lives.contains(&pod.life);
        self.lanes.entry(key).or_insert_with(|| OwnLane::new(pod.clone(), lane.clone(), gone));
        key
    }

    fn index_pod(&mut self, pod: &Pod) -> u32 {
        *self.pod_index.entry((pod.id(), pod.life)).or_insert_with(|| {
            self.pods.push(pod.id());
            self.pods.len() as u32 - 1
        })
    }

    fn index_model(&mut self, model: &str) -> u32 {
        if let Some(index) = self.model_index.get(model) {
            return *index;
        }
        self.models.push(model.to_owned());
        let index = self.models.len() as u32 - 1;
        self.model_index.insert(model.to_owned(), index);
        index
    }

    /// Numbers everything anew, keeping the lanes that have something to tell.
    fn start_new_table(&mut self) {
        self.table = self.table.wrapping_add(1);
        self.pods.clear();
        self.pod_index.clear();
        self.models.clear();
        self.model_index.clear();
        self.dirty.clear();
        self.repeats.clear();
        self.live.0 = 0;
        for mut own in std::mem::take(&mut self.lanes).into_values() {
            own.told = [0; SizeClass::COUNT];
            own.new_remainders = own.remainders.iter().fold(0, |bits, r| bits | 1 << r.class.index());
            (own.partly_told, own.marked) = (0, 0);
            if own.changed().next().is_some() {
                let key = (self.index_pod(&own.pod), self.index_model(own.lane.model.name()));
                self.lanes.insert(key, own);
                self.dirty.insert(key);
            }
        }
    }
}

impl OwnLane {
    fn new(pod: Arc<Pod>, lane: Arc<Lane>, gone: bool) -> OwnLane {
        let told = [0; SizeClass::COUNT];
        let changed_at = [Time::ZERO; SizeClass::COUNT];
        OwnLane {
            pod,
            lane,
            told,
            remainders: Vec::new(),
            new_remainders: 0,
            partly_told: 0,
            marked: 0,
            changed_at,
            gone,
        }
    }

    fn is_changed(&self, class: SizeClass) -> bool {
        let more = self.new_remainders | self.partly_told;
        self.lane.count(class) != self.told[class.index()] || more & (1 << class.index()) != 0
    }

    fn changed(&self) -> impl Iterator<Item = SizeClass> {
        self.lane.used().filter(|class| self.is_changed(*class))
    }

    /// How long ago `class` became other than it was told; of what is not known, now.
    fn news_age(&self, now: Time, class: SizeClass) -> Duration {
        let marked = self.marked & (1 << class.index()) != 0;
        if marked { now.since(self.changed_at[class.index()]) } else { Duration::ZERO }
    }

    fn entry(&self, key: Key, count: u32, now: Time, age: Duration) -> Entry {
        let of_class = self.remainders.iter().filter(|r| r.class == key.class && r.ends > now);
        let ms = |r: &Remainder| u32::try_from(r.ends.since(now).as_millis()).unwrap_or(u32::MAX);
        Entry {
            key,
            count: count.min(MAX_COUNT),
            age_100us: u32::try_from(age.as_micros() / 100).unwrap_or(u32::MAX),
            remainders_ms: of_class.take(MAX_REMAINDERS).map(ms).collect(),
        }
    }
}

/// Splits entries into groups that each fit a datagram.
pub(crate) fn pack(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    if Rows::HEAD + entries.iter().map(Rows::entry_bytes).sum::<usize>() <= MAX_DATAGRAM {
        return vec![entries];
    }
    let mut groups = vec![Vec::new()];
    let mut used = Rows::HEAD;
    for entry in entries {
        let bytes = Rows::entry_bytes(&entry);
        if used + bytes > MAX_DATAGRAM {
            groups.push(Vec::new());
            used = Rows::HEAD;
        }
        used += bytes;
        if let Some(group) = groups.last_mut() {
            group.push(entry);
        }
    }
    groups
}
