//! What one peer said: its index table, its row, and the share of it that counts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::refresh::{LEAST_REFRESH, MOST_REFRESH};
use super::sums::{Share, Sums};
use super::table::Table;
use super::wire::{Entry, Key, MAX_COUNT, Names, Part, Rows};
use crate::id::{Epoch, PodId, Seq};
use crate::mutant::{self, Mutant};
use crate::observe::{Model, Pod, SizeClass};
use crate::time::Time;

/// A row counts in full until nothing was heard from its origin for so many of the periods at which it comes in full ...
const FRESH: u32 = 2;
/// ... and fades to nothing within so many more.
const FADE: u32 = 1;
/// Entries one row may have; over this they are dropped and counted.
const MAX_ENTRIES: usize = 4096;
/// Pods and models one table may have.
const MAX_TABLE: u32 = 16_384;
/// A relay may say so many requests more or fewer of an entry than the origin itself said last. Small news is of one
/// request or a few; a relay that lies moves a pod by no more than this for each of its members, until the next whole row.
const MAX_RELAYED: u32 = 16;

#[derive(Debug, Default)]
pub(crate) struct PeerRow {
    epoch: Epoch,
    table: u32,
    /// What the indexes mean, as far as heard. Rows may come before it: entries wait here for their pod's name.
    pods: Table,
    /// Datagrams numbered up to this are older than the newest full row.
    floor: Seq,
    entries: BTreeMap<Key, PeerEntry>,
    pub(crate) heard_at: Option<Time>,
    /// How often the origin said it comes in full, tenths of a second; 0 where it said nothing yet.
    every: u8,
    pub(crate) leaving: bool,
    /// Work it picks for, in pods: small requests, heavy ones.
    pub(crate) rates: [f64; 2],
    models: BTreeMap<u32, Arc<Model>>,
    /// What it adds to each pod.
    sums: Sums,
    /// Whether its entries were dropped without news of each.
    pub(crate) forgot: bool,
}

#[derive(Debug, Clone, Default)]
struct PeerEntry {
    /// The report of the origin itself that it was in last, and what that said.
    seq: Seq,
    told: u32,
    /// The later report that a relay passed on; none where that is 0.
    relayed: Seq,
    count: u32,
    /// Tickets and remainders that are in its pod's sum for it.
    summed: u32,
    news_at: Time,
    remainders: Box<[Time]>,
}

impl PeerEntry {
    /// Tickets, and remainders that have not ended.
    fn live(&self, now: Time) -> u32 {
        self.count + self.remainders.iter().filter(|end| **end > now).count() as u32
    }
}

/// Whose word an entry is, and of which report.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// The origin's own: what changed.
    Own(Seq),
    /// The origin's own: all there is. It overrules whatever a relay said, of any report.
    Whole(Seq),
    /// The origin's, a relay says.
    Relayed(Seq),
}

impl Word {
    fn is_older_than(self, known: &PeerEntry) -> bool {
        match self {
            Word::Own(seq) => seq <= known.seq || seq < known.relayed,
            Word::Whole(seq) => seq <= known.seq,
            Word::Relayed(seq) => seq <= known.seq || seq <= known.relayed,
        }
    }
}

/// One entry that said something new.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) pod: PodId,
    /// By the sender's table.
    pub(crate) model: u32,
    pub(crate) class: SizeClass,
    /// Requests more (or fewer) than before.
    pub(crate) delta: i64,
    pub(crate) age: Duration,
}

pub(crate) type AllNews = SmallVec<[News; 4]>;

/// Why rows or names were not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unused {
    /// Older than what is known.
    Old,
    /// Over a bound.
    TooMany,
    /// A claim of more than a node can have in flight: it counts as the most that one can.
    Absurd,
}

impl Unused {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unused::Old => "old",
            Unused::TooMany => "too_many",
            Unused::Absurd => "absurd_claim",
        }
    }

    /// What is wrong with its sender, where that is not just the network's disorder.
    pub(crate) fn is_wrong(self) -> Option<&'static str> {
        match self {
            Unused::Old => None,
            Unused::TooMany => {
                Some("it names more pods, models or requests than are kept of one member; the rest is left out")
            }
            Unused::Absurd => Some(
                "it claims more on one pod than a node can have there: 65535 requests and 2.4 hours of work count at most",
            ),
        }
    }
}

impl PeerRow {
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of the last full row: nothing older is taken.
    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// Starts over for a new epoch or table; `Old` if this one is not newer.
    fn turn_to(&mut self, epoch: Epoch, table: u32) -> Result<(), Unused> {
        if epoch < self.epoch || (epoch == self.epoch && (table.wrapping_sub(self.table) as i32) < 0) {
            return Err(Unused::Old);
        }
        if epoch > self.epoch || table != self.table {
            if epoch == self.epoch || !mutant::is(Mutant::RestartInherits) {
                self.entries.clear();
                self.forgot = true;
            }
            self.pods = Table::default();
            self.models.clear();
            self.sums.outdate();
            if epoch > self.epoch {
                self.floor = Seq(0);
            }
            (self.epoch, self.table) = (epoch, table);
        }
        Ok(())
    }

    /// Learns what the indexes of its entries mean; `model` finds a model by its name.
    pub(crate) fn learn_names(&mut self, names: Names, model: impl Fn(&str) -> Arc<Model>) -> Result<(), Unused> {
        self.turn_to(names.epoch, names.table)?;
        let (pods, models) = (names.first_pod..MAX_TABLE, names.first_model..MAX_TABLE);
        if names.pods.len() > pods.len() || names.models.len() > models.len() {
            return Err(Unused::TooMany);
        }
        self.models.extend(models.zip(names.models.iter().map(|name| model(name))));
        if mutant::is(Mutant::NamesOnce) && !self.pods.is_empty() {
            return Ok(());
        }
        self.pods.learn(names.first_pod, names.pods);
        // Entries may have come first.
        self.sums.outdate();
        Ok(())
    }

    /// What the index of a model means, once that was told.
    pub(crate) fn model(&self, index: u32) -> Option<&Arc<Model>> {
        self.models.get(&index)
    }

    /// See [`Table::share`].
    pub(crate) fn share_names(&mut self, latest: &mut Arc<Vec<PodId>>) {
        self.pods.share(latest);
    }

    /// Whether entries wait for names.
    pub(crate) fn misses_names(&self) -> bool {
        self.entries.keys().any(|key| self.pods.get(key.pod).is_none())
    }

    /// Merges what arrived; `transit` is what it spent on the way. Returns what was new in it, and why some of it was not
    /// used, if so.
    pub(crate) fn merge(&mut self, now: Time, rows: Rows, transit: Duration) -> (AllNews, Option<Unused>) {
        if let Err(old) = self.turn_to(rows.epoch, rows.table) {
            return (AllNews::new(), Some(old));
        }
        let full = rows.part.is_some();
        let old = rows.seq < self.floor || (!full && rows.seq == self.floor);
        if old && !mutant::is(Mutant::AcceptOlder) {
            return (AllNews::new(), Some(Unused::Old));
        }
        self.heard_at = Some(now);
        self.leaving = rows.leaving;
        self.rates = [rows.rates.0, rows.rates.1].map(|rate| f64::from(rate) / 1e3);
        let mut news = AllNews::new();
        if let Some(part) = rows.part {
            self.floor = rows.seq;
            self.every = part.every;
            self.drop_absent(&rows, part, transit, &mut news);
        }
        let mut unused = None;
        for mut entry in rows.entries {
            if entry.count > MAX_COUNT {
                entry.count = MAX_COUNT;
                unused = unused.max(Some(Unused::Absurd));
            }
            let word = if full { Word::Whole(rows.seq) } else { Word::Own(rows.seq) };
            match self.merge_entry(now, word, entry, transit) {
                Ok(new) => news.extend(new),
                Err(why) => unused = unused.max(Some(why)),
            }
        }
        (news, unused)
    }

    /// What a full row covers and does not name is not there any more.
    fn drop_absent(&mut self, rows: &Rows, part: Part, transit: Duration, news: &mut AllNews) {
        let mut told: SmallVec<[Key; 64]> = rows.entries.iter().map(|entry| entry.key).collect();
        // It is, from any honest sender.
        if !told.is_sorted() {
            told.sort_unstable();
        }
        let mut told = told.into_iter().peekable();
        let covered =
            |key: &Key| part.after.is_none_or(|after| *key > after) && part.upto.is_none_or(|upto| *key <= upto);
        let (pods, sums) = (&self.pods, &mut self.sums);
        self.entries.retain(|key, entry| {
            while told.next_if(|told| told < key).is_some() {}
            let absent = told.peek() != Some(key) && covered(key) && entry.seq < rows.seq;
            let gone = absent && !mutant::is(Mutant::FullKeepsAbsent);
            if gone && let Some(pod) = pods.get(key.pod) {
                sums.change(pod, key.class, entry.summed, 0);
                if entry.count > 0 {
                    news.push(News {
                        pod,
                        model: key.model,
                        class: key.class,
                        delta: -i64::from(entry.count),
                        age: transit,
                    });
                }
            }
            !gone
        });
    }

    /// Merges what a relay passed on of the origin's report `seq`; `transit` is what it spent on all the way. It is taken
    /// for the origin's word until that speaks itself: it never makes a row younger, and a whole row overrules it, so
    /// that a relay that lies is believed until the next one at most.
    pub(crate) fn merge_relayed(
        &mut self,
        now: Time,
        (seq, table): (Seq, u32),
        entries: Vec<Entry>,
        transit: Duration,
    ) -> (AllNews, Option<Unused>) {
        if table != self.table || seq <= self.floor || self.heard_at.is_none() {
            return (AllNews::new(), Some(Unused::Old));
        }
        let (mut news, mut unused) = (AllNews::new(), None);
        for entry in entries {
            match self.merge_entry(now, Word::Relayed(seq), entry, transit) {
                Ok(new) => news.extend(new),
                Err(why) => unused = unused.max(Some(why)),
            }
        }
        (news, unused)
    }

    fn merge_entry(&mut self, now: Time, word: Word, entry: Entry, transit: Duration) -> Result<Option<News>, Unused> {
        let Entry { key, count, age_100us, remainders_ms } = entry;
        let bounded = key.pod < MAX_TABLE && key.model < MAX_TABLE && self.entries.len() < MAX_ENTRIES;
        let known = match self.entries.entry(key) {
            Place::Occupied(known) if word.is_older_than(known.get()) && !mutant::is(Mutant::AcceptOlder) => {
                return Ok(None);
            }
            Place::Vacant(_) if !bounded => return Err(Unused::TooMany),
            place => place.or_default(),
        };
        let (old, summed) = (known.count, known.summed);
        let count = if mutant::is(Mutant::MergeAdds) { old.saturating_add(count) } else { count };
        let count = match word {
            Word::Own(seq) | Word::Whole(seq) => {
                (known.seq, known.told, known.relayed) = (seq, count, Seq(0));
                count
            }
            Word::Relayed(seq) => {
                known.relayed = seq;
                count.clamp(known.told.saturating_sub(MAX_RELAYED), known.told.saturating_add(MAX_RELAYED))
            }
        };
        let age = Duration::from_micros(u64::from(age_100us) * 100) + transit;
        (known.count, known.news_at) = (count, now - age);
        if !known.remainders.is_empty() || !remainders_ms.is_empty() {
            let ends = |ms: u32| now + Duration::from_millis(u64::from(ms));
            known.remainders = remainders_ms.into_iter().map(ends).collect();
            known.remainders.iter().filter(|end| **end > now).for_each(|end| self.sums.expire_at(*end));
        }
        known.summed = known.live(now);
        let Some(pod) = self.pods.get(key.pod) else { return Ok(None) };
        self.sums.change(pod, key.class, summed, known.summed);
        let delta = i64::from(count) - i64::from(old);
        Ok((delta != 0).then_some(News { pod, model: key.model, class: key.class, delta, age }))
    }

    /// How much it counts now, in 1/256: all of it while fresh, fading after, nothing from someone never heard.
    pub(crate) fn weight_x256(&self, now: Time) -> u64 {
        let Some(heard_at) = self.heard_at else { return 0 };
        if mutant::is(Mutant::NeverFade) {
            return 256;
        }
        let fresh = if mutant::is(Mutant::FadeEarly) { self.fresh_for() / 8 } else { self.fresh_for() };
        let age = now.since(heard_at);
        if age <= fresh {
            return 256;
        }
        let (over, fade) = (age - fresh, FADE * self.every());
        (256 * fade.saturating_sub(over).as_nanos() / fade.as_nanos()) as u64
    }

    /// How often it comes in full, as its origin said: between what is the least and the most, whatever it said.
    pub(crate) fn every(&self) -> Duration {
        (Duration::from_millis(100) * self.every.into()).clamp(LEAST_REFRESH, MOST_REFRESH)
    }

    /// How long it counts in full when nothing is heard.
    pub(crate) fn fresh_for(&self) -> Duration {
        FRESH * self.every()
    }

    pub(crate) fn age(&self, now: Time) -> Option<Duration> {
        self.heard_at.map(|at| now.since(at))
    }

    /// Makes the pods' peer parts say what this row says now, at `weight_x256`. Pods it does not name are left alone. Says
    /// whether it claims more of any of them than a node can have there.
    pub(crate) fn apply<'a>(&mut self, now: Time, weight_x256: u64, pod: impl Fn(PodId) -> Option<&'a Pod>) -> bool {
        if self.sums.are_stale(now) {
            self.count_anew(now);
        }
        self.sums.apply(weight_x256, pod)
    }

    fn count_anew(&mut self, now: Time) {
        self.sums.start_over();
        for (key, entry) in &mut self.entries {
            entry.summed = entry.live(now);
            if let Some(pod) = self.pods.get(key.pod) {
                self.sums.change(pod, key.class, 0, entry.summed);
                entry.remainders.iter().filter(|end| **end > now).for_each(|end| self.sums.expire_at(*end));
            }
        }
    }

    /// Takes back what was put on a pod that picks no longer go to.
    pub(crate) fn withdraw(&mut self, pod: &Pod) {
        self.sums.withdraw(pod);
    }

    /// There are other pods: [`PeerRow::apply`] looks at all of them again.
    pub(crate) fn look_again(&mut self) {
        self.sums.look_again();
    }

    /// What is on each pod for it now, weighted.
    pub(crate) fn applied(&self) -> impl Iterator<Item = (PodId, Share)> {
        self.sums.applied()
    }

    /// What the index of a pod means, once that was told.
    pub(crate) fn pod(&self, index: u32) -> Option<PodId> {
        self.pods.get(index)
    }

    /// The number of the last report that said anything of requests of `class` on `pod`; none where nothing did.
    pub(crate) fn told_of(&self, pod: PodId, class: SizeClass) -> Option<Seq> {
        let about = |key: &Key| key.class == class && self.pods.get(key.pod) == Some(pod);
        self.entries.iter().filter(|(key, _)| about(key)).map(|(_, entry)| entry.seq.max(entry.relayed)).max()
    }

    /// How many entries and names are kept of it.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.entries.len(), self.pods.len())
    }

    /// Tickets and remainders per pod, unweighted.
    pub(crate) fn shares(&self, now: Time) -> BTreeMap<PodId, Share> {
        let mut shares: BTreeMap<PodId, Share> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let count = u64::from(entry.live(now));
            if count > 0
                && let Some(pod) = self.pods.get(key.pod)
            {
                shares.entry(pod).or_default().add(Share::of(count, key.class));
            }
        }
        shares
    }

    /// When the newest news about each pod was true.
    pub(crate) fn news_at(&self) -> BTreeMap<PodId, Time> {
        let mut newest: BTreeMap<PodId, Time> = BTreeMap::new();
        for (key, entry) in &self.entries {
            if let Some(pod) = self.pods.get(key.pod) {
                let at = newest.entry(pod).or_default();
                *at = entry.news_at.max(*at);
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gossip::wire::Part;
    use crate::observe::Models;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn key(pod: u32, class: u8) -> Key {
        Key { pod, model: 0, class: SizeClass::new(class).unwrap() }
    }

    fn entry(pod: u32, count: u32) -> Entry {
        Entry { key: key(pod, 12), count, age_100us: 0, remainders_ms: vec![] }
    }

    fn rows(seq: u64, part: Option<Part>, entries: Vec<Entry>) -> Rows {
        Rows { epoch: Epoch(1), seq: Seq(seq), table: 0, leaving: false, rates: (0, 0), part, entries }
    }

    fn names(first_pod: u32, pods: impl IntoIterator<Item = u64>) -> Names {
        let pods = pods.into_iter().map(PodId).collect();
        Names { epoch: Epoch(1), table: 0, first_pod, pods, first_model: 0, models: vec![] }
    }

    fn model(name: &str) -> Arc<Model> {
        Models::new(crate::observe::Formulas::new()).get(name).clone()
    }

    fn counts(row: &PeerRow) -> BTreeMap<u64, u64> {
        row.shares(at(0)).into_iter().map(|(pod, share)| (pod.0, share.count_x256 / 256)).collect()
    }

    const WHOLE: Option<Part> = Some(Part { after: None, upto: None, every: 10 });

    /// In a large fleet rows come every 8 s: in between they must not fade. And whatever an origin says, it counts for no
    /// longer than three of the longest periods after its last word, and for no less than of the shortest.
    #[test]
    fn a_row_counts_for_as_long_as_it_said_within_bounds() {
        let weights = |every: u8, ms: [u64; 3]| {
            let mut row = PeerRow::default();
            row.merge(at(0), rows(1, Some(Part { after: None, upto: None, every }), vec![]), Duration::ZERO);
            ms.map(|ms| row.weight_x256(at(ms)))
        };
        assert_eq!(weights(10, [2_000, 2_500, 3_000]), [256, 128, 0]);
        assert_eq!(weights(45, [9_000, 11_250, 13_500]), [256, 128, 0]);
        assert_eq!(weights(u8::MAX, [16_000, 20_000, 24_000]), [256, 128, 0]);
        assert_eq!(weights(0, [2_000, 2_500, 3_000]), [256, 128, 0]);
    }

    /// Datagrams overtake each other: what ended must not come back by a packet that was late.
    #[test]
    fn nothing_ended_comes_back_by_a_late_packet() {
        let mut row = PeerRow::default();
        row.learn_names(names(0, [100, 101, 102]), model).unwrap();
        row.merge(at(0), rows(2, None, vec![entry(0, 0)]), Duration::ZERO);
        row.merge(at(0), rows(1, None, vec![entry(0, 1)]), Duration::ZERO);
        assert_eq!(counts(&row), BTreeMap::new());
        // A part of an old full row, after news that is newer than it, and after a newer full row.
        let second = Some(Part { after: Some(key(0, 39)), upto: None, every: 10 });
        row.merge(at(0), rows(4, None, vec![entry(1, 0)]), Duration::ZERO);
        row.merge(at(0), rows(3, second, vec![entry(1, 5)]), Duration::ZERO);
        assert_eq!(counts(&row), BTreeMap::new());
        row.merge(at(0), rows(6, WHOLE, vec![]), Duration::ZERO);
        assert_eq!(row.merge(at(0), rows(5, second, vec![entry(1, 5)]), Duration::ZERO).1, Some(Unused::Old));
        assert_eq!(row.merge(at(0), rows(5, None, vec![entry(1, 5)]), Duration::ZERO).1, Some(Unused::Old));
        assert_eq!(counts(&row), BTreeMap::new());
    }

    /// And what began after a full row was made must survive that row coming late.
    #[test]
    fn an_older_full_row_takes_nothing_newer_away() {
        let mut row = PeerRow::default();
        row.learn_names(names(0, [100]), model).unwrap();
        row.merge(at(0), rows(8, None, vec![entry(0, 1)]), Duration::ZERO);
        row.merge(at(0), rows(7, WHOLE, vec![]), Duration::ZERO);
        assert_eq!(counts(&row), BTreeMap::from([(100, 1)]));
    }

    /// A relay's word stands for its origin's until that speaks; it overrules nothing that the origin said later, and
    /// nothing that it says outlives a whole row, however large the number that it gives it.
    #[test]
    fn a_relays_word_stands_until_its_origin_speaks() {
        let mut row = PeerRow::default();
        row.learn_names(names(0, [100, 101, 102]), model).unwrap();
        let relayed =
            |row: &mut PeerRow, seq, entries| row.merge_relayed(at(0), (Seq(seq), 0), entries, Duration::ZERO);
        // Nothing was heard of the origin itself.
        assert_eq!(relayed(&mut row, 1, vec![entry(0, 1)]).1, Some(Unused::Old));
        row.merge(at(0), rows(2, WHOLE, vec![entry(0, 3)]), Duration::ZERO);
        assert_eq!(relayed(&mut row, 2, vec![entry(0, 9)]).1, Some(Unused::Old));
        assert_eq!(row.merge_relayed(at(0), (Seq(3), 1), vec![entry(0, 9)], Duration::ZERO).1, Some(Unused::Old));
        let news = relayed(&mut row, 4, vec![entry(0, 1), entry(1, 2)]).0;
        assert_eq!(news.iter().map(|news| (news.pod.0, news.delta)).collect::<Vec<_>>(), [(100, -2), (101, 2)]);
        // Overtaken by what was relayed, then newer than that, then overtaken by the origin's own.
        row.merge(at(0), rows(3, None, vec![entry(0, 7)]), Duration::ZERO);
        assert_eq!(counts(&row), BTreeMap::from([(100, 1), (101, 2)]));
        row.merge(at(0), rows(6, None, vec![entry(1, 5)]), Duration::ZERO);
        relayed(&mut row, 5, vec![entry(0, 2), entry(1, 1)]);
        assert_eq!(counts(&row), BTreeMap::from([(100, 2), (101, 5)]));
        // Sixteen more or fewer than the origin said, whatever is claimed.
        relayed(&mut row, u64::MAX, vec![entry(0, 1000), entry(1, u32::MAX), entry(2, 40)]);
        assert_eq!(counts(&row), BTreeMap::from([(100, 19), (101, 21), (102, 16)]));
        // Its row got no younger by any of it.
        let heard = row.heard_at;
        row.merge_relayed(at(900), (Seq(u64::MAX), 0), vec![entry(0, 4)], Duration::ZERO);
        assert_eq!((row.heard_at, heard), (heard, Some(at(0))));
        row.merge(at(1000), rows(7, WHOLE, vec![entry(1, 5)]), Duration::ZERO);
        assert_eq!(counts(&row), BTreeMap::from([(101, 5)]));
    }

    /// The parts of the index table may come in any order, and after the rows that go by it.
    #[test]
    fn names_may_come_late_and_out_of_order() {
        let mut row = PeerRow::default();
        row.merge(at(0), rows(1, None, vec![entry(0, 1), entry(2, 3)]), Duration::ZERO);
        assert!(row.misses_names() && counts(&row).is_empty());
        row.learn_names(names(2, [102]), model).unwrap();
        assert_eq!(counts(&row), BTreeMap::from([(102, 3)]));
        row.learn_names(names(0, [100, 101]), model).unwrap();
        assert_eq!(counts(&row), BTreeMap::from([(100, 1), (102, 3)]));
        assert!(!row.misses_names());
    }

    /// A member may claim anything of itself; it must not make others store or add up without bound.
    #[test]
    fn absurd_rows_are_bounded() {
        let mut row = PeerRow::default();
        assert_eq!(row.learn_names(names(MAX_TABLE - 1, [1, 2]), model), Err(Unused::TooMany));
        assert_eq!(row.learn_names(names(u32::MAX, [1]), model), Err(Unused::TooMany));
        row.learn_names(names(0, 0..8000), model).unwrap();
        for pod in 0..MAX_ENTRIES as u32 + 1000 {
            row.merge(at(0), rows(1 + u64::from(pod), None, vec![entry(pod, u32::MAX)]), Duration::ZERO);
        }
        assert_eq!(row.entries.len(), MAX_ENTRIES);
        let far = Entry { key: Key { pod: 0, model: u32::MAX, ..key(0, 1) }, ..entry(0, 1) };
        assert_eq!(row.merge(at(0), rows(1 << 40, WHOLE, vec![far]), Duration::ZERO).1, Some(Unused::TooMany));
        // What fits beside it is still used.
        let mixed = vec![Entry { key: Key { pod: u32::MAX, ..key(0, 1) }, ..entry(0, 1) }, entry(1, 2)];
        row.merge(at(0), rows(1 << 41, WHOLE, mixed), Duration::ZERO);
        assert_eq!(counts(&row), BTreeMap::from([(1, 2)]));
    }

    /// An old life must not speak for the new one, nor an old table for the one after it.
    #[test]
    fn an_old_epoch_never_returns() {
        let mut row = PeerRow::default();
        row.learn_names(names(0, [100]), model).unwrap();
        row.merge(at(0), rows(9, None, vec![entry(0, 4)]), Duration::ZERO);
        row.merge(at(0), Rows { epoch: Epoch(2), ..rows(1, WHOLE, vec![]) }, Duration::ZERO);
        assert_eq!(row.merge(at(0), rows(10, WHOLE, vec![entry(0, 4)]), Duration::ZERO).1, Some(Unused::Old));
        assert_eq!(row.learn_names(names(0, [100]), model), Err(Unused::Old));
        assert_eq!((row.epoch(), counts(&row)), (Epoch(2), BTreeMap::new()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        /// The network may lose, repeat and reorder anything. One full row later the counts are exact, whichever of the
        /// earlier packets come before it, between its parts or after it.
        #[test]
        fn any_disorder_then_one_full_row_gives_the_exact_counts(
            // Each step: one pod's new count, and whether a full row in two parts (cut at a pod) follows.
            steps in prop::collection::vec((0..6_u32, 0..4_u32, prop::option::of(0..6_u32)), 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
            cut in 0..6_u32,
            late in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut truth = BTreeMap::new();
            let mut sent = Vec::new();
            let mut seq = 0;
            let full = |seq: u64, cut: u32, truth: &BTreeMap<u32, u32>| {
                let part = |from: u32, to: u32| (from..to).filter_map(|p| truth.get(&p).map(|c| entry(p, *c))).collect();
                let edge = Some(key(cut, 39));
                [
                    rows(seq, Some(Part { after: None, upto: edge, every: 10 }), part(0, cut + 1)),
                    rows(seq, Some(Part { after: edge, upto: None, every: 10 }), part(cut + 1, 6)),
                ]
            };
            for (pod, count, cut) in steps {
                seq += 1;
                if count == 0 { truth.remove(&pod); } else { truth.insert(pod, count); }
                sent.push(rows(seq, None, vec![entry(pod, count)]));
                if let Some(cut) = cut {
                    seq += 1;
                    sent.extend(full(seq, cut, &truth));
                }
            }
            let mut row = PeerRow::default();
            row.learn_names(names(0, 0..6), model).unwrap();
            for which in order {
                row.merge(at(0), sent[which.index(sent.len())].clone(), Duration::ZERO);
            }
            let [first, second] = full(seq + 1, cut, &truth);
            row.merge(at(0), second, Duration::ZERO);
            for which in &late {
                row.merge(at(0), sent[which.index(sent.len())].clone(), Duration::ZERO);
            }
            row.merge(at(0), first, Duration::ZERO);
            for which in late {
                row.merge(at(0), sent[which.index(sent.len())].clone(), Duration::ZERO);
            }
            let truth: BTreeMap<u64, u64> = truth.into_iter().map(|(p, c)| (u64::from(p), u64::from(c))).collect();
            prop_assert_eq!(counts(&row), truth);
        }
    }
}
