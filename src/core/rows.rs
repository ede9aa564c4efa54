//! Who has how much in flight: what changed is told by the value of the news, what is heard is merged and applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::stats::Why;
use super::strict::Mentions;
use super::{Core, Event, Peer};
use crate::gossip::own::pack;
use crate::gossip::peer::{News, Unused};
use crate::gossip::wire::{Entry, Ident, Key, Kind, Message, Names, OVERHEAD, Part, Rows};
use crate::id::{NodeId, PodId};
use crate::mutant::{self, Mutant};
use crate::observe::{By, Change, Pod};
use crate::time::Time;

/// Who is to hear the whole row within so much of its period hears it with the next change: it hardly costs more than the
/// change alone.
const REFRESH_EARLY: u32 = 4;

impl Core {
    pub(super) fn tell_what_changed(&mut self, now: Time) {
        self.own.collect(&self.picker);
        let Some(costliest) = self.own.costliest_change() else { return };
        if self.active.is_empty() {
            self.own.take_changes(now, |_| true);
            return;
        }
        let (at, why) = if self.pace.at_once(costliest) {
            // What weighs less than the mean leaves room for what weighs more, even where all of it fits: it comes in bursts.
            let heavy = costliest.typical().as_ms() >= self.picker.mean_cost_ms();
            let at = if heavy { self.budget.heavy_at(now) } else { self.budget.flush_at(now) };
            (at, Why::AtOnce)
        } else {
            let spread = (self.flushed_at + self.pace.flush()).max(self.own.oldest_change() + self.pace.hold());
            (self.budget.flush_at(now).max(spread), Why::Flush)
        };
        if at <= now {
            self.tell_changes(now, why);
        } else {
            self.flush_at = Some(at);
        }
    }

    pub(super) fn handle_names(&mut self, now: Time, from: NodeId, names: Names) {
        let Some(peer) = self.peers.get_mut(&from) else { return self.stats.refuse("stranger") };
        match peer.row.learn_names(names, |name| self.picker.model(name).clone()) {
            Ok(()) => peer.row.share_names(&mut self.latest_names),
            Err(unused) => self.refuse_part(from, unused),
        }
        self.forget_if_it_did(now, from);
        // Entries may have come first.
        self.apply_row(now, from);
        self.settle_reservations(from, &Mentions::default());
    }

    pub(super) fn handle_rows(&mut self, now: Time, from: NodeId, rows: Rows, transit: Duration) {
        let Some(peer) = self.peers.get_mut(&from) else { return self.stats.refuse("stranger") };
        let ident = peer.ident;
        let (left, full) = (rows.leaving && !peer.row.leaving, rows.part.is_some());
        let outdated = rows.epoch < peer.row.epoch();
        let mentions = self.strict.mentions(&rows);
        let (news, unused) = peer.row.merge(now, rows, transit);
        let nameless = full && peer.row.misses_names();
        let absurd = peer.apply_row(now, &self.pods);
        let active = peer.is_active();
        if left {
            self.events.push_back(Event::MemberLeft(peer.name.clone()));
        }
        if let Some(unused) = unused.max(absurd.then_some(Unused::Absurd)) {
            self.refuse_part(from, unused);
        }
        self.forget_if_it_did(now, from);
        self.take_in(now, from, &news);
        self.settle_reservations(from, &mentions);
        if nameless || outdated || (!active && !left) {
            // It counts us in, we do not count it (or not all of it, or a later life of it): without a word, that stays so.
            self.ask(now, ident);
        }
    }

    pub(super) fn take_in(&mut self, now: Time, from: NodeId, news: &[News]) {
        let mean_ms = self.picker.mean_cost_ms();
        let plays = self.picker.hub().plays;
        let Some(peer) = self.peers.get(&from) else { return };
        for news in news {
            let cost = news.class.typical();
            // A whole row tells of pods, too, that are none of ours.
            if !self.uses.interest.uses(news.pod) {
                continue;
            }
            self.rates.hear(news, mean_ms);
            self.stats.news_ages[usize::from(cost.as_ms() > mean_ms)].add(news.age);
            let Some(pod) = self.pods.get(&news.pod) else { continue };
            if news.delta > 0 {
                pod.heard_of(now - news.age);
            }
            if !plays || !peer.counted {
                continue;
            }
            // Without its name it stands behind what is known: it is in the sums.
            let Some(model) = peer.row.model(news.model) else { continue };
            let (lane, by, class, at) = (pod.lane(model), By::Peer(from), news.class, now - news.age);
            let change = match news.delta {
                1.. => Change::Sent { by, class, cost_ms: cost.as_ms() as f32, at },
                _ => Change::Ended { by, class, at },
            };
            lane.tell(pod, change, news.delta.unsigned_abs(), now);
        }
    }

    /// Counts what was not used of a message of `from`'s, and says so where an honest node would not have sent it.
    fn refuse_part(&mut self, from: NodeId, unused: Unused) {
        self.stats.refuse(unused.name());
        if let Some(why) = unused.is_wrong() {
            self.note_refusal(from, why.to_owned());
        }
    }

    /// The entries of `from` were dropped as a whole: what was played through of them is, too.
    fn forget_if_it_did(&mut self, now: Time, from: NodeId) {
        let forgot = self.peers.get_mut(&from).is_some_and(|peer| std::mem::take(&mut peer.row.forgot));
        if forgot && self.picker.hub().plays {
            forget(now, from, &self.pods);
        }
    }

    /// Makes the pods' peer parts say what `node`'s row says now.
    pub(super) fn apply_row(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.apply_row(now, &self.pods) {
            self.refuse_part(node, Unused::Absurd);
        }
    }

    /// Tells what changed to those whom it concerns, and who of them is to hear all soon, all.
    fn tell_changes(&mut self, now: Time, why: Why) {
        (self.flushed_at, self.flush_at) = (now, None);
        let keys = self.own.changed_keys();
        // What is told at once goes to those who use its pods; what waits rides along, and goes on waiting for who uses others.
        let matters = |key: &&Key| why == Why::Flush || self.pace.at_once(key.class);
        let to = self.users_of(keys.iter().filter(matters));
        let pods: Vec<PodId> = keys.iter().filter(matters).filter_map(|key| self.own.pod(key.pod)).collect();
        let parted = self.uses.parted;
        let mut changes = self.own.take_changes(now, |pod| !parted || pods.contains(&pod));
        if to.is_empty() {
            return;
        }
        if why == Why::Flush && self.uses_relays() {
            if self.budget.is_ample(now) {
                self.own.repeat(now, &mut changes);
            }
            return self.tell_by_relays(now, changes, &to);
        }
        if let Some(whole) = self.own.whole_if_short(now, &changes).filter(|_| !mutant::is(Mutant::NeverRefresh)) {
            self.seq.0 += 1;
            let part = self.part(None, None);
            self.push(now, why, Some(part), whole, &to);
            to.iter().for_each(|ident| self.put_off_refresh(now, ident.id));
            return;
        }
        let due = |ident: &Ident| {
            self.peers.get(&ident.id).is_some_and(|peer| peer.refresh_at <= now + self.refresh_every / REFRESH_EARLY)
        };
        let (due, rest): (Vec<Ident>, Vec<Ident>) = to.iter().copied().partition(due);
        // Repeats are for when there is room: at 100 nodes on 1 Mbit/s they took the mean from 63 to 92 ms.
        if self.budget.is_ample(now) {
            self.own.repeat(now, &mut changes);
        }
        for group in pack(changes) {
            self.seq.0 += 1;
            self.push(now, why, None, group, &rest);
        }
        if !due.is_empty() && !mutant::is(Mutant::NeverRefresh) {
            self.tell_full(now, &due);
        }
    }

    /// Tells entries to each of `to`, as one of the pushes that the pace reckons with.
    fn push(&mut self, now: Time, why: Why, part: Option<Part>, entries: Vec<Entry>, to: &[Ident]) {
        let bytes = self.tell(now, why, part, entries, to);
        self.pace.pushed(to.len() as u64, to.len() as u64 * (bytes as u64 + OVERHEAD));
    }

    /// The part of the whole row between two keys, as it is told now.
    fn part(&self, after: Option<Key>, upto: Option<Key>) -> Part {
        Part { after, upto, every: u8::try_from(self.refresh_every.as_millis() / 100).unwrap_or(u8::MAX) }
    }

    /// `node` was told the whole row: the next time is at its half of a period, at most a period from now. Each peer has its
    /// own, so that a crowd is not told all at once, which would put the budget into debt and make what is heavy wait.
    fn put_off_refresh(&mut self, now: Time, node: NodeId) {
        let every = self.refresh_every;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let step = every.as_nanos() as u64 / 2;
        let over = (now + every).as_nanos().wrapping_sub(node.0 % step) % step;
        peer.refresh_at = now + every - Duration::from_nanos(over);
    }

    /// Tells the whole row to those who are due.
    pub(super) fn refresh(&mut self, now: Time) {
        self.full_at = None;
        let due = self.peers.values().filter(|peer| peer.is_active() && peer.refresh_at <= now);
        let due = due.filter(|peer| self.is_kept_told(peer));
        let due: Vec<Ident> = due.map(|peer| peer.ident).collect();
        if mutant::is(Mutant::NeverRefresh) {
            return;
        }
        if !due.is_empty() {
            self.tell_full(now, &due);
        }
    }

    pub(super) fn tell_full(&mut self, now: Time, to: &[Ident]) {
        self.own.collect(&self.picker);
        let entries = if self.leaving { Vec::new() } else { self.own.full(now) };
        self.seq.0 += 1;
        let groups = pack(entries);
        let mut after = None;
        let last = groups.len() - 1;
        for (k, group) in groups.into_iter().enumerate() {
            let upto = if k == last { None } else { group.last().map(|entry| entry.key) };
            self.tell(now, Why::Refresh, Some(self.part(after, upto)), group, to);
            after = upto;
        }
        to.iter().for_each(|ident| self.put_off_refresh(now, ident.id));
    }

    /// Sends entries to each of `to`; whoever misses a part of the index table gets it first. Returns the bytes of one
    /// message.
    pub(super) fn tell(&mut self, now: Time, why: Why, part: Option<Part>, entries: Vec<Entry>, to: &[Ident]) -> usize {
        let data = Message::Rows(self.rows_of(part, entries)).encode(self.tag);
        let all_told = self.all_told == Some(self.own.table());
        for ident in to {
            if !all_told {
                self.tell_names(now, *ident);
            }
            self.transmit(now, Some(ident.id), ident.addr, Kind::Rows, data.clone());
        }
        if to.len() == self.active.len() {
            self.all_told = Some(self.own.table());
        }
        self.rows.add(why, to.len(), data.len());
        data.len()
    }

    /// Entries as this node tells them now.
    pub(super) fn rows_of(&self, part: Option<Part>, entries: Vec<Entry>) -> Rows {
        Rows {
            epoch: self.swim.me().epoch,
            seq: self.seq,
            table: self.own.table().0,
            leaving: self.leaving,
            rates: self.rates.own_millis(),
            part,
            entries,
        }
    }

    pub(super) fn tell_names(&mut self, now: Time, to: Ident) {
        let (table, names) = self.own.table();
        let Some(peer) = self.peers.get_mut(&to.id) else { return };
        let from = match peer.told {
            Some((told, counts)) if told == table => counts,
            _ => (0, 0),
        };
        if peer.told == Some((table, names)) || !peer.connected {
            return;
        }
        peer.told = Some((table, names));
        let epoch = self.swim.me().epoch;
        let key = Some((epoch, table, from, names));
        if self.told_names.0 != key {
            let encoded = |names| Message::Names(names).encode(self.tag);
            self.told_names = (key, self.own.names(epoch, from).into_iter().map(encoded).collect());
        }
        for data in self.told_names.1.clone().iter() {
            self.transmit(now, Some(to.id), to.addr, Kind::Names, data.clone());
        }
    }

    pub(super) fn tell_everything(&mut self, now: Time, to: NodeId) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.refresh_at = now;
            self.full_at = Some(now);
            self.telling.greet(to);
        }
    }
}

/// What is played through of `peer`'s requests is forgotten on all pods.
fn forget(now: Time, peer: NodeId, pods: &BTreeMap<PodId, Arc<Pod>>) {
    for pod in pods.values() {
        pod.lanes().iter().for_each(|lane| lane.tell(pod, Change::Gone { peer, at: now }, 1, now));
    }
}

impl Peer {
    /// Makes the pods' peer parts say what its row says now. Says whether that claims more than a node can have on a pod.
    pub(super) fn apply_row(&mut self, now: Time, pods: &BTreeMap<PodId, Arc<Pod>>) -> bool {
        let weight = self.weight_x256(now);
        if self.counted && weight == 0 {
            forget(now, self.ident.id, pods);
        }
        self.counted = weight > 0;
        self.row.apply(now, weight, |id| pods.get(&id).map(Arc::as_ref))
    }

    /// A row counts if and only if its origin is an active member and its epoch is the member's, by its age.
    pub(super) fn weight_x256(&self, now: Time) -> u64 {
        let counts = self.is_active() && self.row.epoch() == self.ident.epoch && !self.row.leaving;
        if counts { self.row.weight_x256(now) } else { 0 }
    }
}
