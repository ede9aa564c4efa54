//! Small news that goes by relays: what this node tells by them, what it passes on for others, what it takes from them.
//!
//! One hop, and nothing depends on it. What a relay loses, drops or is never told is made good by the whole row that its
//! origin tells everybody each second; what a relay invents is overruled by it.

use std::collections::VecDeque;
use std::time::Duration;

use super::stats::{RelayStats, Why};
use super::strict::Mentions;
use super::{Core, Peer};
use crate::gossip::own::pack;
use crate::gossip::pace::{HOLD_BY_RELAYS, Relays};
use crate::gossip::relay::{self, group, span};
use crate::gossip::wire::{
    Entry, Ident, Kind, Message, OVERHEAD, Pass, Passed, Relayed, epoch_mark, id_mark, pack_relayed,
};
use crate::id::{Epoch, NodeId, PodId, Seq};
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// Users of a pod that are told small news directly, unless a node is told otherwise. At 100 nodes and 50 pods with
/// requests of 22 ms and 2 Mbit/s relays made the mean 46.5 ms instead of 37.5: so many can be told directly of most.
pub const DIRECT: usize = 100;
/// What could not be passed on for so long is dropped: the next whole row is near.
const LATE: Duration = Duration::from_millis(500);
/// Entries that are held at most; beyond, the oldest news is dropped.
const MOST_HELD: usize = 2048;
/// A group that news is passed on to has so many members at most: an origin that says otherwise would have this node
/// spend its budget on everybody.
const MOST_MEMBERS: usize = 64;

/// How this node's news goes, and what it holds of others'.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// Whether pods have users enough for relays, and how many bits of an id make a group.
    crowd: bool,
    bits: u8,
    /// In the order in which it came.
    held: VecDeque<Held>,
    /// When it is passed on.
    due: Option<Time>,
    pub(super) stats: RelayStats,
}

/// A piece of news to be passed on.
#[derive(Debug)]
struct Held {
    origin: NodeId,
    epoch: Epoch,
    seq: Seq,
    table: u32,
    /// Whom it is for.
    bits: u8,
    /// When it came, and what it had spent on the way.
    came_at: Time,
    transit: Duration,
    entries: Vec<Entry>,
    /// What the entries are about; none of an index that is not known here.
    pods: Vec<Option<PodId>>,
}

impl Relay {
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Entries that are held.
    pub(super) fn held(&self) -> usize {
        self.held.iter().map(|held| held.entries.len()).sum()
    }

    fn hold(&mut self, held: Held, due: Time) {
        // What the origin says anew of a key is all that matters of it.
        let newer = |entry: &Entry| held.entries.iter().any(|new| new.key == entry.key);
        for old in self.held.iter_mut().filter(|old| old.origin == held.origin && old.table == held.table) {
            old.entries.retain(|entry| !newer(entry));
        }
        self.held.retain(|old| !old.entries.is_empty());
        self.held.push_back(held);
        let mut entries = self.held();
        while entries > MOST_HELD
            && let Some(oldest) = self.held.pop_front()
        {
            entries -= oldest.entries.len();
            self.stats.crowded += 1;
        }
        self.due.get_or_insert(due);
    }

    fn drop_late(&mut self, now: Time) {
        while self.held.front().is_some_and(|oldest| oldest.came_at + LATE < now) {
            self.held.pop_front();
            self.stats.late += 1;
        }
    }
}

impl Core {
    /// Members or what they use are others: how groups are made, and whether relays are worth it.
    pub(super) fn note_groups(&mut self) {
        let users = self.uses.users;
        self.relay.crowd = relay::is_crowd(users, self.config.direct, self.relay.crowd);
        self.relay.bits = relay::bits(self.active.len() + 1, users, self.relay.bits);
    }

    /// What a plan with relays must know; none where pods have too few users for any.
    pub(super) fn relays(&self) -> Option<Relays> {
        let groups = 2_f64.powi(self.relay.bits.into()) * self.uses.users / self.active.len().max(1) as f64;
        let (mean_ms, always) = (self.picker.mean_cost_ms(), self.config.always_relay);
        let relays = Relays { groups: groups.max(1.0), mean_ms, always };
        self.relay.crowd.then_some(relays)
    }

    /// Whether small news goes by relays now.
    pub(super) fn uses_relays(&self) -> bool {
        self.relay.crowd && self.pace.by_relays()
    }

    // ---- The origin -------------------------------------------------------------------------------------------------

    /// Tells changes to `to`, which is in the order of ids: to one of each group, who passes them on to the others.
    pub(super) fn tell_by_relays(&mut self, now: Time, changes: Vec<Entry>, to: &[Ident]) {
        let bits = self.relay.bits;
        if self.all_told != Some(self.own.table()) {
            // Whoever hears of it by a relay goes by the same table.
            to.iter().for_each(|ident| self.tell_names(now, *ident));
        }
        let (mut passed, mut direct): (Vec<Ident>, Vec<Ident>) = (Vec::new(), Vec::new());
        for members in to.chunk_by(|a, b| group(a.id, bits) == group(b.id, bits)) {
            let connected = members.iter().filter(|ident| self.peers.get(&ident.id).is_some_and(|peer| peer.connected));
            match relay::relay_of(self.id, connected.map(|ident| ident.id)) {
                Some(relay) if members.len() > 1 => passed.extend(members.iter().filter(|ident| ident.id == relay)),
                _ => direct.extend_from_slice(members),
            }
        }
        let mut bytes = 0;
        for entries in pack(changes) {
            self.seq.0 += 1;
            let pass = Message::Pass(Pass { bits, rows: self.rows_of(None, entries.clone()) });
            let data = pass.encode(self.tag);
            bytes += passed.len() as u64 * (data.len() as u64 + OVERHEAD);
            for ident in &passed {
                self.transmit(now, Some(ident.id), ident.addr, Kind::Pass, data.clone());
            }
            if !direct.is_empty() {
                let each = self.tell(now, Why::Flush, None, entries, &direct);
                bytes += direct.len() as u64 * (each as u64 + OVERHEAD);
            }
        }
        self.pace.flushed_by_relays(bytes);
    }

    // ---- The relay --------------------------------------------------------------------------------------------------

    pub(super) fn handle_pass(&mut self, now: Time, from: NodeId, pass: Pass, transit: Duration) {
        let Pass { bits, rows } = pass;
        let held = (rows.epoch, rows.seq, rows.table, rows.entries.clone());
        // It is the origin's own word, to this node too.
        self.handle_rows(now, from, rows, transit);
        let (epoch, seq, table, entries) = held;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let known = peer.is_active() && peer.ident.epoch == epoch && peer.row.epoch() == epoch;
        if !known || !relay::is_near(self.relay.bits, bits) || self.leaving || entries.is_empty() {
            self.relay.stats.strange += 1;
            return;
        }
        if peer.passed_on >= (epoch, seq) {
            // It came twice, or late.
            return;
        }
        peer.passed_on = (epoch, seq);
        let pods = entries.iter().map(|entry| peer.row.pod(entry.key.pod)).collect();
        let held = Held { origin: from, epoch, seq, table, bits, came_at: now, transit, entries, pods };
        self.relay.hold(held, now + HOLD_BY_RELAYS);
    }

    /// Passes on what was held for long enough, if the budget has room for it beside what matters more.
    pub(super) fn pass_on(&mut self, now: Time) {
        if self.relay.due.is_none_or(|at| at > now) {
            return;
        }
        self.relay.due = None;
        self.relay.drop_late(now);
        let peers = &self.peers;
        let counts = |held: &Held| {
            peers.get(&held.origin).is_some_and(|peer| peer.is_active() && peer.ident.epoch == held.epoch)
        };
        // Who went down meanwhile counts nowhere.
        self.relay.held.retain(counts);
        let at = self.budget.flush_at(now);
        if at > now {
            self.relay.due = (!self.relay.held.is_empty()).then_some(at);
            return;
        }
        let held = std::mem::take(&mut self.relay.held);
        let Some(widest) = held.iter().map(|held| held.bits).min() else { return };
        let pieces: Vec<Vec<u8>> = held.iter().map(|held| held.encode(now)).collect();
        let (first, last) = span(self.id, widest);
        let members = self.peers.range(first..=last).map(|(_, peer)| peer);
        let members: Vec<&Peer> =
            members.filter(|peer| peer.is_active() && peer.connected).take(MOST_MEMBERS).collect();
        let mut messages = Vec::new();
        for peer in members {
            let for_it = |held: &&Held| held.is_for(self.id, peer);
            let its = held.iter().zip(&pieces).filter(|(held, _)| for_it(held)).map(|(_, bytes)| &bytes[..]);
            let its: Vec<&[u8]> = its.collect();
            self.relay.stats.passed_on += its.len() as u64;
            messages.extend(pack_relayed(its.into_iter(), self.tag).into_iter().map(|data| (peer.ident, data)));
        }
        for (ident, data) in messages {
            self.pace.relayed(data.len() as u64 + OVERHEAD);
            self.transmit(now, Some(ident.id), ident.addr, Kind::Relayed, data);
        }
    }

    // ---- The receiver -----------------------------------------------------------------------------------------------

    pub(super) fn handle_relayed(&mut self, now: Time, from: NodeId, relayed: Relayed, transit: Duration) {
        if !self.is_active(from) {
            return self.stats.refuse("stranger");
        }
        let widest = self.relay.bits.saturating_sub(relay::OFF);
        if group(from, widest) != group(self.id, widest) {
            self.relay.stats.unused += relayed.news.len() as u64;
            return;
        }
        for passed in relayed.news {
            let used = self.take_relayed(now, passed, transit);
            *(if used { &mut self.relay.stats.used } else { &mut self.relay.stats.unused }) += 1;
        }
    }

    /// Takes one origin's news that came by a relay; says whether it was used.
    fn take_relayed(&mut self, now: Time, passed: Passed, transit: Duration) -> bool {
        let Some(origin) = self.marked(passed.origin) else { return false };
        let Some(peer) = self.peers.get(&origin) else { return false };
        let epoch = peer.ident.epoch;
        if epoch_mark(epoch) != passed.epoch || peer.row.epoch() != epoch {
            return false;
        }
        if mutant::is(Mutant::RelayOnwards) {
            let Passed { seq, table, entries, .. } = passed.clone();
            let (bits, pods) = (self.relay.bits, vec![None; entries.len()]);
            self.relay.hold(Held { origin, epoch, seq, table, bits, came_at: now, transit, entries, pods }, now);
        }
        let Some(peer) = self.peers.get_mut(&origin) else { return false };
        let transit = transit + Duration::from_micros(u64::from(passed.age_100us) * 100);
        let (news, unused) = peer.row.merge_relayed(now, (passed.seq, passed.table), passed.entries, transit);
        self.apply_row(now, origin);
        self.take_in(now, origin, &news);
        self.settle_reservations(origin, &Mentions::default());
        unused.is_none()
    }

    /// The active peer whose id has this mark; none where two have.
    fn marked(&self, mark: u32) -> Option<NodeId> {
        let first = u64::from(mark) << 32;
        let range = NodeId(first)..=NodeId(first | u64::from(u32::MAX));
        let mut found = self.peers.range(range).filter(|(_, peer)| peer.is_active()).map(|(id, _)| *id);
        found.next().filter(|_| found.next().is_none())
    }
}

impl Held {
    fn encode(&self, now: Time) -> Vec<u8> {
        let held = if mutant::is(Mutant::RelayForgetsHold) { Duration::ZERO } else { now.since(self.came_at) };
        let age = (held + self.transit).as_micros().div_ceil(100);
        let passed = Passed {
            origin: id_mark(self.origin),
            epoch: epoch_mark(self.epoch),
            seq: self.seq,
            table: self.table,
            age_100us: u32::try_from(age).unwrap_or(u32::MAX),
            entries: self.entries.clone(),
        };
        let mut bytes = Vec::new();
        passed.encode(&mut bytes);
        bytes
    }

    /// Whether `peer` is one of those to whom this node, `me`, passes it on.
    fn is_for(&self, me: NodeId, peer: &Peer) -> bool {
        let member = group(peer.ident.id, self.bits) == group(me, self.bits) && peer.ident.id != self.origin;
        let interest = peer.interest();
        member && self.pods.iter().any(|pod| pod.is_none_or(|pod| interest.uses(pod)))
    }
}
