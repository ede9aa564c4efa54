//! Who is a member: what SWIM says, Hello for what SWIM cannot see, Sync so that nobody stays ignorant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use foca::Member;

use super::{Core, Event, GREET_AT_MOST, GREET_FIRST, HELLO_GAP, RENEW_GAP, SYNC, TICK};
use crate::gossip::swim::Heard;
use crate::gossip::wire::{self, Hello, Ident, Kind, Known, MAX_STREAM, MemberState, Message, Sync, Told};
use crate::id::{Epoch, NodeId};
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// Who is known from a connection alone is kept for so long after that ended.
const HEARSAY: Duration = Duration::from_secs(2);

impl Core {
    pub(super) fn handle_swim(&mut self, now: Time, from: NodeId, packet: &[u8]) {
        match self.swim.handle(now, from, packet) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::ThoughtDown(accuser)) => self.ask(now, accuser),
            Err(error) => self.stats.refuse(error.name()),
        }
    }

    /// Sends a Hello to somebody we disagree with, but not more often than every [`HELLO_GAP`].
    pub(super) fn ask(&mut self, now: Time, who: Ident) {
        let Some(peer) = self.peer(who) else { return };
        if peer.hello_at.is_some_and(|at| now.since(at) < HELLO_GAP) {
            return;
        }
        peer.hello_at = Some(now);
        self.say_hello(now, Some(who.id), who.addr, false);
    }

    pub(super) fn say_hello(&mut self, now: Time, node: Option<NodeId>, addr: SocketAddr, reply: bool) {
        let peer = node.and_then(|id| self.peers.get(&id)).map(|peer| peer.ident);
        let known = node.and_then(|id| {
            let of = peer.unwrap_or(Ident { id, epoch: Epoch(0), r#gen: 0, addr });
            self.known(&of)
        });
        let hello = Hello { me: self.swim.me(), name: self.config.name.clone(), reply, known_of_you: known };
        self.send(now, node, addr, &Message::Hello(hello));
    }

    /// The best identity known of a node: by SWIM, or by its rows, which are taken from a later epoch than SWIM's where a
    /// node restarts with its clock set back before SWIM heard of its former life.
    fn known(&self, of: &Ident) -> Option<Known> {
        let epoch = self.peers.get(&of.id).map(|peer| peer.row.epoch());
        let by_row = epoch.filter(|epoch| *epoch > of.epoch).map(|epoch| Known { epoch, r#gen: 0, alive: false });
        by_row.into_iter().chain(self.swim.known(of)).max_by_key(|known| (known.epoch, known.r#gen))
    }

    pub(super) fn handle_hello(&mut self, now: Time, from: NodeId, remote: SocketAddr, hello: Hello) {
        // A name is what an id is made from: what people read in logs and views is what the certificate proved.
        let proven = hello.me.id == from && NodeId::of(&hello.name) == from;
        if !proven && !mutant::is(Mutant::TrustSender) {
            self.stats.refuse("identity");
            return;
        }
        if let Some(known) = hello.known_of_you {
            self.outdo(now, known);
        }
        // No room: kept from foca too.
        let Some(peer) = self.peer(hello.me) else { return };
        (peer.name, peer.named, peer.connected) = (hello.name, true, true);
        if !hello.reply {
            // Who asks has lost us, or some of what we told it.
            (peer.told, peer.theirs.told) = (None, None);
        }
        self.all_told = None;
        let known = self.known(&hello.me);
        let beaten = known.is_some_and(|k| !k.alive && (k.epoch, k.r#gen) >= (hello.me.epoch, hello.me.r#gen));
        if !hello.reply || mutant::is(Mutant::AnswerEveryHello) {
            self.answer_hello(now, from, remote, known);
        }
        if beaten || self.leaving {
            return;
        }
        let first_contact = !self.is_active(from);
        self.swim.apply(now, std::iter::once(Member::alive(hello.me)), true);
        if first_contact {
            self.swim.announce(now, hello.me);
            self.sync(now, hello.me, true);
        }
    }

    pub(super) fn answer_hello(&mut self, now: Time, to: NodeId, remote: SocketAddr, known: Option<Known>) {
        let hello = Hello { me: self.swim.me(), name: self.config.name.clone(), reply: true, known_of_you: known };
        self.send(now, Some(to), remote, &Message::Hello(hello));
    }

    /// Somebody knows an identity of ours that would win against us (or is down): take one that wins, in one step.
    pub(super) fn outdo(&mut self, now: Time, known: Known) {
        let me = self.swim.me();
        let wins = (me.epoch, me.r#gen) > (known.epoch, known.r#gen);
        let same = (me.epoch, me.r#gen) == (known.epoch, known.r#gen);
        let deaf = mutant::is(Mutant::RenewBlindly) || (same && mutant::is(Mutant::StayDown));
        if wins || (same && known.alive) || self.leaving || deaf {
            return;
        }
        if self.outdid_at.is_some_and(|at| now.since(at) < RENEW_GAP) {
            let rank = |known: &Known| (known.epoch, known.r#gen, !known.alive);
            self.to_outdo = self.to_outdo.into_iter().chain([known]).max_by_key(rank);
            return;
        }
        self.outdid_at = Some(now);
        let next = if known.epoch > me.epoch && !mutant::is(Mutant::RaiseGenNotEpoch) {
            // An earlier start with a clock ahead of ours: beat it, or its rows would count and ours would not. By chance how
            // far: of two starts that were told of the same third, none may be taken for the other.
            let beyond = self.draw().below(2, 1 << 16) as u64;
            Ident { epoch: Epoch((known.epoch.0 | 0xffff).saturating_add(1 + beyond)), r#gen: 0, ..me }
        } else {
            Ident { r#gen: known.r#gen.saturating_add(1), ..me }
        };
        self.swim.change_identity(now, next);
        // Names and rows go by the epoch: what was told under another is forgotten.
        self.peers.values_mut().for_each(|peer| (peer.told, peer.theirs.told, peer.refresh_at) = (None, None, now));
        (self.full_at, self.all_told) = (Some(now), None);
        self.active.clone().iter().for_each(|ident| self.say_hello(now, Some(ident.id), ident.addr, false));
    }

    pub(super) fn handle_sync(&mut self, now: Time, from: NodeId, sync: Sync) {
        if sync.from.id != from {
            self.stats.refuse("identity");
            return;
        }
        let forgotten = self.swim.forgotten();
        let mut news = Vec::new();
        for member in &sync.members {
            let told = (member.ident, member.incarnation, member.state);
            if member.ident.id != self.id {
                // Those that there is no room for are kept from foca too, which has no bound of its own.
                let Some(peer) = self.peer(member.ident) else { continue };
                if peer.name != member.name && NodeId::of(&member.name) == member.ident.id {
                    (peer.name, peer.named) = (member.name.clone(), true);
                }
                // foca looks through all its members for each that it is told of, and nearly all is nothing new.
                if peer.told_to_foca == Some((told, forgotten)) {
                    continue;
                }
                peer.told_to_foca = Some((told, forgotten));
            }
            news.push(Member::new(member.ident, member.incarnation, member.state.into()));
        }
        self.swim.apply(now, news.into_iter(), !sync.want_reply);
        if sync.want_reply {
            self.sync(now, sync.from, false);
        }
    }

    pub(super) fn sync(&mut self, now: Time, to: Ident, want_reply: bool) {
        // What one member takes at most: two identities' numbers, an IPv6 address, and its name.
        const MEMBER: usize = 9 + 9 + 5 + 21 + 3 + 1 + 2;
        let members: Vec<Told<'_>> = self.swim.members().map(|m| self.told(m)).collect();
        let mut parts = Vec::new();
        let (mut first, mut used) = (0, MEMBER);
        for (k, (.., name)) in members.iter().enumerate() {
            let bytes = MEMBER + name.len();
            if used + bytes > MAX_STREAM / 2 {
                parts.push(&members[first..k]);
                (first, used) = (k, MEMBER);
            }
            used += bytes;
        }
        parts.push(&members[first..]);
        let encoded =
            |(k, part): (usize, &&[Told<'_>])| wire::encode_sync(self.swim.me(), want_reply && k == 0, part, self.tag);
        let encoded: Vec<Bytes> = parts.iter().enumerate().map(encoded).collect();
        for data in encoded {
            self.transmit(now, Some(to.id), to.addr, Kind::Sync, data);
        }
    }

    fn told(&self, member: &Member<Ident>) -> Told<'_> {
        let peer = self.peers.get(&member.id().id).filter(|peer| peer.named);
        let name = peer.map_or("", |peer| &peer.name);
        (*member.id(), member.incarnation(), member.state().into(), name)
    }

    pub(super) fn sync_with_one(&mut self, now: Time) {
        let active = self.active.clone();
        let draw = self.draw();
        // 0.8 to 1.2 of the interval.
        self.sync_at = now + SYNC * (80 + draw.below(0, 41) as u32) / 100;
        if !active.is_empty() {
            self.sync(now, active[draw.below(1, active.len())], true);
        }
    }

    pub(super) fn greet_strangers(&mut self, now: Time) {
        if self.greet_at.is_none_or(|at| at > now) {
            return;
        }
        let members: BTreeSet<SocketAddr> = self.active.iter().map(|ident| ident.addr).collect();
        let due: Vec<SocketAddr> = self.greet.iter().filter(|(_, (at, _))| *at <= now).map(|(addr, _)| *addr).collect();
        for addr in due {
            let met = members.contains(&addr) || (mutant::is(Mutant::GreetUntilAny) && !members.is_empty());
            if met && mutant::is(Mutant::Spin) {
                continue;
            }
            let gap = self.greet.get(&addr).map_or(GREET_FIRST, |(_, gap)| *gap);
            let next = if met { GREET_FIRST } else { (gap * 2).min(GREET_AT_MOST) };
            self.greet.insert(addr, (now + if met { GREET_AT_MOST } else { gap }, next));
            if !met && !self.leaving {
                self.say_hello(now, None, addr, false);
            }
        }
        self.note_greetings();
    }

    /// Members are no longer at these addresses. Somebody else may be, and would not be met before the next round.
    fn greet_anew(&mut self, now: Time, addrs: &[SocketAddr]) {
        for addr in addrs {
            if let Some(greeting) = self.greet.get_mut(addr) {
                *greeting = (now + TICK, GREET_FIRST);
            }
        }
        if !addrs.is_empty() {
            self.note_greetings();
        }
    }

    pub(super) fn note_greetings(&mut self) {
        self.greet_at = self.greet.values().map(|(at, _)| *at).min();
    }

    /// foca's list is the truth of who is a member; ours adds what foca does not know of them.
    pub(super) fn take_in_members(&mut self, now: Time) {
        let known = || self.taken_in.0.iter().copied();
        if self.taken_in.1 == Some(self.peers.len()) && self.swim.states().eq(known()) {
            return;
        }
        let mut best: BTreeMap<NodeId, (Ident, MemberState)> = BTreeMap::new();
        let mut self_best = None;
        for (ident, state) in self.swim.states() {
            if ident.id == self.id {
                self_best = self_best.max(Some((ident.epoch, ident.r#gen)));
                continue;
            }
            let rank = |ident: &Ident, state: MemberState| (ident.epoch, ident.r#gen, state != MemberState::Down);
            let entry = best.entry(ident.id).or_insert((ident, state));
            if rank(&ident, state) > rank(&entry.0, entry.1) {
                *entry = (ident, state);
            }
        }
        let (mut kept, mut left) = (0, Vec::new());
        for (id, (ident, state)) in &best {
            let Some(peer) = self.peer(*ident) else { continue };
            kept += 1;
            let (was_active, changed) = (peer.is_active(), (peer.ident, peer.state) != (*ident, *state));
            if !changed {
                continue;
            }
            let addr = peer.ident.addr;
            (peer.ident, peer.state) = (*ident, *state);
            if was_active && (addr != ident.addr || !peer.is_active()) {
                left.push(addr);
            }
            if was_active != peer.is_active() {
                (peer.since, peer.met, peer.unsaid) = (now, true, was_active);
                if !was_active {
                    let name = peer.name.clone();
                    self.events.push_back(Event::MemberUp(name));
                    self.tell_everything(now, *id);
                }
            }
            self.apply_row(now, *id);
        }
        let gone: Vec<NodeId> = self.peers.keys().filter(|id| !best.contains_key(id)).copied().collect();
        for id in gone {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if peer.is_active() {
                // Replaced: somebody else has its address. Whatever connection is left leads nowhere.
                (peer.state, peer.since, peer.unsaid) = (MemberState::Down, now, true);
                self.apply_row(now, id);
            } else if !peer.connected && now.since(peer.since) > HEARSAY {
                // Known from a connection alone: kept while it lasts, as the Hello that makes it a member may be under way.
                self.drop_peer(now, id);
            }
        }
        self.greet_anew(now, &left);
        if let Some((epoch, r#gen)) = self_best {
            // Under another address: an earlier life's, or a lie. All would wait for that one to answer, and then call us
            // down.
            self.outdo(now, Known { epoch, r#gen, alive: true });
        }
        self.note_active();
        self.taken_in = (self.swim.states().collect(), (kept == best.len()).then_some(kept));
    }

    /// A member that went down and has not said goodbye by now has failed: goodbyes can be overtaken.
    pub(super) fn announce_downs(&mut self, now: Time) {
        for peer in self.peers.values_mut().filter(|peer| peer.unsaid && now.since(peer.since) >= TICK / 2) {
            peer.unsaid = false;
            if !peer.is_active() && !peer.row.leaving {
                self.events.push_back(Event::MemberDown(peer.name.clone()));
            }
        }
    }

    pub(super) fn drop_peer(&mut self, now: Time, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.state = MemberState::Down;
        }
        self.apply_row(now, id);
        self.peers.remove(&id);
    }
}
