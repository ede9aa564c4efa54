//! Strict mode: one round trip buys an exact pick, and nothing waits longer than that.
//!
//! Pods are grouped into shards, and every shard has an owner among the members ([`shards`]). Who picks looks by its own
//! view which shard promises most, and asks the owner for a pod there. The owner knows three things of its pods: the rows of all
//! nodes, which those that pick strictly tell it at once; its own tickets; and what it granted and cannot see in a row yet
//! ([`ledger`]). So of two nodes that ask at the same time the second hears of the first.
//!
//! The asker charges the pod that it was granted as any other pick does, and its row tells of it as always: a reservation
//! is only the part of a request's life in which no row can know of it. It ends when the asker's row comes, when the asker
//! gives it back, when the asker goes, or by itself after a tenth of a second. Where no answer comes in time, or the owner
//! is not there, or does not know enough, the node picks by its own view, at once.

mod ledger;
mod shards;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Duration;

use smallvec::SmallVec;

use self::ledger::{Ledger, Reservation};
use self::shards::{Shards, shard_of};
use super::{Core, CoreConfig, Peer, Why};
use crate::gossip::own::pack;
use crate::gossip::wire::{
    Entry, GiveBack, Grant, Ident, Key, MAX_EXCLUDED, MAX_NAME, MemberState, Message, Reserve, Rows,
};
use crate::id::{Epoch, NodeId, PodId, Seq};
use crate::mutant::{self, Mutant};
use crate::observe::{Cost, SizeClass};
use crate::pick::{Draw, OwnedRequest, PickError, Request, Rung, Ticket};
use crate::time::Time;

/// Questions that wait for their answers: 500 picks a millisecond at two milliseconds each. Over this, picks are local.
const MOST_ASKED: usize = 1024;
/// An owner that did not answer in time is not asked again for so long, doubling up to the other: one lost datagram costs
/// nothing, and a dead owner costs each node ten waits until SWIM has found out.
const SILENT_FIRST: Duration = Duration::from_millis(10);
const SILENT_AT_MOST: Duration = Duration::from_secs(1);

/// How to pick strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Strict {
    /// A pick waits no longer than this for an owner. Twice the usual round trip: less makes picks local that need not
    /// be, more makes them wait for owners that died.
    pub timeout: Duration,
    /// How many shards; the same on all nodes. None: one for fifty pods, and two at least.
    pub shards: Option<NonZeroU16>,
}

impl Default for Strict {
    fn default() -> Strict {
        Strict { timeout: Duration::from_millis(2), shards: None }
    }
}

/// A question for a pod, from [`Core::reserve`] until it comes out of [`Core::poll_reserved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(u64);

/// A pick that is decided.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reserved {
    /// Which.
    pub ask: AskId,
    /// The ticket, or why there is none.
    pub picked: Result<Ticket, PickError>,
}

/// How picks of strict mode were decided, and what this node did for others, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StrictStats {
    /// Picks by the owner's word.
    pub granted: u64,
    /// Picks in a shard that this node owns itself.
    pub at_home: u64,
    /// Local picks: the owner did not answer in time.
    pub timed_out: u64,
    /// Local picks: the owner had not answered just before.
    pub silent: u64,
    /// Local picks: the owner has no pod for it, or does not think that it owns the shard.
    pub declined: u64,
    /// Local picks: no owner is connected, or there was nothing to ask for.
    pub unasked: u64,
    /// Grants that came too late, and were given back.
    pub late: u64,
    /// Reservations that this node granted as an owner.
    pub given: u64,
    /// Questions that this node turned down as an owner.
    pub turned_down: u64,
    /// Reservations that count now.
    pub held: u64,
    /// Questions of this node that wait for their answers now.
    pub waiting: u64,
    /// Shards that this node owns now.
    pub owned: u64,
}

impl StrictStats {
    /// Picks that strict mode was asked for, and those that were local in the end.
    pub fn picks(&self) -> (u64, u64) {
        let local = self.timed_out + self.silent + self.declined + self.unasked;
        (self.granted + self.at_home + local, local)
    }
}

/// A question that waits for its answer.
struct Asked {
    request: OwnedRequest,
    owner: NodeId,
    until: Time,
}

/// An owner that did not answer.
struct Silence {
    until: Time,
    lasts: Duration,
}

/// The part of the core that strict mode needs; a node that does not pick strictly has it for those that do.
pub(super) struct Desk {
    config: Option<Strict>,
    shards: Shards,
    ledger: Ledger,
    next: u64,
    turn: u64,
    seed: u64,
    /// In the order in which they were asked, which is that in which their time is up.
    asked: BTreeMap<u64, Asked>,
    reserved: VecDeque<Reserved>,
    silent: BTreeMap<NodeId, Silence>,
    /// What owners were told of what not everybody was told yet: tickets, remainders.
    told: BTreeMap<Key, (u32, usize)>,
    /// Where grants were charged of which no owner was told yet.
    charged: BTreeSet<Key>,
    stats: StrictStats,
}

/// What rows told of, kept beside what is merged of them.
#[derive(Default)]
pub(super) struct Mentions {
    epoch: Epoch,
    seq: Seq,
    keys: SmallVec<[Key; 8]>,
}

impl Desk {
    /// What `rows` told of, while it matters to anyone.
    pub(super) fn mentions(&self, rows: &Rows) -> Mentions {
        if self.ledger.counting() == 0 {
            return Mentions::default();
        }
        let keys = rows.entries.iter().map(|entry| entry.key).collect();
        Mentions { epoch: rows.epoch, seq: rows.seq, keys }
    }

    pub(super) fn new(config: &CoreConfig, me: NodeId) -> Desk {
        let seed = config.seed ^ me.0;
        let wanted = config.strict.and_then(|strict| strict.shards);
        Desk {
            config: config.strict,
            shards: Shards::new(wanted, me),
            ledger: Ledger::default(),
            // Numbers of an earlier life come back: an owner that was stopped answers when it goes on. They must not be
            // this life's, which chance sees to. Far from the end, so that they only grow.
            next: crate::pick::mix(seed) >> 1,
            turn: 0,
            seed,
            asked: BTreeMap::new(),
            reserved: VecDeque::new(),
            silent: BTreeMap::new(),
            told: BTreeMap::new(),
            charged: BTreeSet::new(),
            stats: StrictStats::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.config.is_some()
    }

    pub(super) fn set_pods(&mut self, pods: impl Iterator<Item = PodId>) {
        self.shards.set_pods(pods);
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let first = self.asked.first_key_value().map(|(_, asked)| asked.until);
        first.filter(|_| !mutant::is(Mutant::WaitForOwner))
    }

    /// How old the oldest reservation is that counts.
    pub(super) fn oldest(&self, now: Time) -> Option<Duration> {
        self.ledger.oldest(now)
    }

    /// How many questions wait, and how many reservations are kept.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.asked.len() + self.reserved.len(), self.ledger.len())
    }

    pub(super) fn stats(&self, me: NodeId) -> StrictStats {
        StrictStats {
            held: self.ledger.counting(),
            waiting: self.asked.len() as u64,
            owned: self.shards.owned_by(me) as u64,
            ..self.stats
        }
    }

    fn draw(&mut self) -> Draw {
        self.turn += 1;
        Draw::new(self.seed, self.turn)
    }
}

impl Core {
    /// Picks strictly for `request`: by the word of a shard's owner, or by this node's own view where that does not come.
    /// What came of it is polled, at once or when the answer is here or its time is up.
    pub fn reserve(&mut self, now: Time, request: &Request<'_>) -> AskId {
        let ask = AskId(self.strict.next);
        self.strict.next += 1;
        let cost = self.picker.cost_of(request);
        // What is charged in the end is what is asked for now: what is learned meanwhile would make it another size, of which
        // the owner would wait in vain to hear.
        let request = &request.cost(cost);
        match self.where_to_ask(now, request, cost) {
            Some((shard, None)) => {
                let pod = self.place(now, request, (shard, None));
                match pod.and_then(|pod| self.picker.pick_at(now, request, pod)) {
                    Some(ticket) => {
                        self.strict.stats.at_home += 1;
                        self.strict.reserved.push_back(Reserved { ask, picked: Ok(ticket) });
                    }
                    None => self.pick_locally(now, ask, request, |stats| &mut stats.unasked),
                }
            }
            Some((shard, Some(owner))) => self.ask_owner(now, ask, request, cost, shard, owner),
            None => self.pick_locally(now, ask, request, |stats| &mut stats.unasked),
        }
        ask
    }

    /// The next pick that is decided.
    pub fn poll_reserved(&mut self) -> Option<Reserved> {
        self.strict.reserved.pop_front()
    }

    // ---- The asker --------------------------------------------------------------------------------------------------

    /// The shard that promises most for a request, and whom to ask for a pod there; no owner where it is this node.
    fn where_to_ask(&mut self, now: Time, request: &Request<'_>, cost: Cost) -> Option<(u16, Option<Ident>)> {
        let timeout = self.strict.config?.timeout;
        if self.leaving || cost == Cost::ZERO || timeout.is_zero() || request.model().len() > MAX_NAME {
            return None;
        }
        let shard = self.promising_shard(now, request)?;
        let owner = self.strict.shards.owner(shard)?;
        if owner == self.id {
            return Some((shard, None));
        }
        let peer = self.peers.get(&owner).filter(|peer| peer.connected)?;
        Some((shard, Some(peer.ident)))
    }

    /// The shard in which this node's own pick would fall: its view says where there is room, the owner which pod has it.
    /// The less loaded of two random shards, by the work in them, waits half as long again where the view is fresh: sums
    /// over many pods do not tell whether one of them is free.
    fn promising_shard(&mut self, now: Time, request: &Request<'_>) -> Option<u16> {
        let draw = self.strict.draw();
        self.strict.shards.of(self.picker.would_pick(now, request, draw)?)
    }

    fn ask_owner(&mut self, now: Time, ask: AskId, request: &Request<'_>, cost: Cost, shard: u16, owner: Ident) {
        let Some(strict) = self.strict.config else { return };
        if self.strict.silent.get(&owner.id).is_some_and(|silence| now < silence.until) {
            return self.pick_locally(now, ask, request, |stats| &mut stats.silent);
        }
        let mut exclude: Vec<PodId> = request.excluded().to_vec();
        let pods = self.picker.pods();
        let out = pods.iter().filter(|pod| pod.is_ejected() && self.strict.shards.of(pod.id()) == Some(shard));
        exclude.extend(out.map(|pod| pod.id()));
        if exclude.len() > MAX_EXCLUDED || self.strict.asked.len() >= MOST_ASKED {
            return self.pick_locally(now, ask, request, |stats| &mut stats.unasked);
        }
        let question = Reserve {
            nonce: ask.0,
            epoch: self.swim.me().epoch,
            seq: self.seq,
            shard,
            shards: self.strict.shards.count(),
            class: SizeClass::of(cost),
            model: request.model().to_owned(),
            exclude,
        };
        let asked = Asked { request: request.into(), owner: owner.id, until: now + strict.timeout };
        self.strict.asked.insert(ask.0, asked);
        self.send(now, Some(owner.id), owner.addr, &Message::Reserve(question));
    }

    fn pick_locally(
        &mut self,
        now: Time,
        ask: AskId,
        request: &Request<'_>,
        why: impl FnOnce(&mut StrictStats) -> &mut u64,
    ) {
        *why(&mut self.strict.stats) += 1;
        let picked = self.picker.pick(now, request);
        self.strict.reserved.push_back(Reserved { ask, picked });
    }

    pub(super) fn handle_grant(&mut self, now: Time, from: NodeId, grant: Grant) {
        if self.strict.asked.get(&grant.nonce).is_some_and(|asked| asked.owner != from) {
            return self.stats.refuse("not_asked");
        }
        let ask = AskId(grant.nonce);
        let Some(Asked { request, .. }) = self.strict.asked.remove(&grant.nonce) else {
            return self.handle_late(now, from, grant);
        };
        // One that is always late is as good as silent: picks would wait for it in vain, every one of them.
        self.strict.silent.remove(&from);
        let request = request.borrowed();
        let Some(pod) = grant.pod else {
            return self.pick_locally(now, ask, &request, |stats| &mut stats.declined);
        };
        match self.picker.pick_at(now, &request, pod) {
            Some(ticket) => {
                self.strict.stats.granted += 1;
                self.strict.charged.insert(self.own.key_of(ticket.counted()));
                self.strict.reserved.push_back(Reserved { ask, picked: Ok(ticket) });
            }
            // It went, or was ejected, while the answer was on its way.
            None => {
                self.pick_locally(now, ask, &request, |stats| &mut stats.declined);
                self.give_back(now, from, grant.nonce);
            }
        }
    }

    /// The pick is made: what was reserved for it is not needed.
    fn handle_late(&mut self, now: Time, from: NodeId, grant: Grant) {
        let Some(pod) = grant.pod else { return };
        self.strict.stats.late += 1;
        if mutant::is(Mutant::LateGrantCharges) {
            let typical = Request::new("").cost(Cost::from_ms(1.0).unwrap_or_default());
            self.picker.pick_at(now, &typical, pod).into_iter().for_each(std::mem::forget);
        }
        self.give_back(now, from, grant.nonce);
    }

    fn give_back(&mut self, now: Time, owner: NodeId, nonce: u64) {
        if let Some(ident) = self.peers.get(&owner).map(|peer| peer.ident) {
            self.send(now, Some(owner), ident.addr, &Message::GiveBack(GiveBack { nonce }));
        }
    }

    /// Picks by its own view for whom no answer came in time.
    pub(super) fn stop_waiting(&mut self, now: Time) {
        while self.strict.next_timeout().is_some_and(|until| until <= now) {
            let Some((nonce, asked)) = self.strict.asked.pop_first() else { return };
            let silence = self.strict.silent.entry(asked.owner).or_insert(Silence { until: now, lasts: SILENT_FIRST });
            // Others that were asked at the same time are no news.
            if silence.until <= now {
                silence.until = now + silence.lasts;
                silence.lasts = (silence.lasts * 2).min(SILENT_AT_MOST);
            }
            self.pick_locally(now, AskId(nonce), &asked.request.borrowed(), |stats| &mut stats.timed_out);
        }
    }

    /// Nobody is asked any more: what waits is picked for by the own view.
    pub(super) fn close_desk(&mut self, now: Time) {
        while let Some((nonce, asked)) = self.strict.asked.pop_first() {
            self.pick_locally(now, AskId(nonce), &asked.request.borrowed(), |stats| &mut stats.unasked);
        }
    }

    /// Tells the owners of pods what changed there and cannot be told to everybody yet: what an owner decides by is never
    /// older than the way to it, however small the budget is.
    pub(super) fn tell_owners(&mut self, now: Time) {
        if !self.strict.is_on() {
            return;
        }
        // What owners were told may have changed back since: that is no change for the others any more. And where another
        // request ended when a grant was charged nothing changed at all, but the owner waits to hear of the grant.
        let known = std::mem::take(&mut self.strict.told);
        let charged = std::mem::take(&mut self.strict.charged);
        let untold: BTreeSet<Key> = self.own.untold().collect();
        let keys: BTreeSet<Key> = known.keys().chain(&untold).chain(&charged).copied().collect();
        let mut by_owner: BTreeMap<NodeId, Vec<Entry>> = BTreeMap::new();
        for key in keys {
            let Some((pod, entry)) = self.own.entry_now(key, now) else { continue };
            let said = (entry.count, entry.remainders_ms.len());
            if untold.contains(&key) {
                self.strict.told.insert(key, said);
            }
            let owner = self.strict.shards.of(pod).and_then(|shard| self.strict.shards.owner(shard));
            let news = known.get(&key) != Some(&said) || charged.contains(&key);
            if let Some(owner) = owner.filter(|owner| *owner != self.id && news) {
                by_owner.entry(owner).or_default().push(entry);
            }
        }
        for (owner, entries) in by_owner {
            let Some(ident) = self.peers.get(&owner).filter(|peer| peer.connected).map(|peer| peer.ident) else {
                continue;
            };
            for group in pack(entries) {
                self.seq.0 += 1;
                self.tell(now, Why::AtOnce, None, group, &[ident]);
            }
        }
    }

    // ---- The owner --------------------------------------------------------------------------------------------------

    pub(super) fn handle_reserve(&mut self, now: Time, from: NodeId, question: Reserve) {
        let Some(peer) = self.peers.get(&from) else { return self.stats.refuse("stranger") };
        let (ident, active) = (peer.ident, peer.is_active());
        let pod = match self.strict.ledger.known(from, question.nonce) {
            // The question came twice, and so does the answer.
            Some(pod) => Some(pod),
            None if active => self.grant(now, from, &question),
            None => None,
        };
        let stats = &mut self.strict.stats;
        *(if pod.is_some() { &mut stats.given } else { &mut stats.turned_down }) += 1;
        self.send(now, Some(from), ident.addr, &Message::Grant(Grant { nonce: question.nonce, pod }));
    }

    /// Reserves a pod for `asker`, where this node owns the shard and sees enough to choose.
    fn grant(&mut self, now: Time, asker: NodeId, question: &Reserve) -> Option<PodId> {
        if self.leaving || self.strict.shards.owner(question.shard) != Some(self.id) {
            return None;
        }
        self.strict.ledger.expire(now);
        if !self.strict.ledger.has_room(asker) {
            self.stats.refuse("too_many_reservations");
            return None;
        }
        let shard = (question.shard, Some(question.shards));
        let request = Request::new(&question.model).cost(question.class.typical()).exclude(&question.exclude);
        let pod = self.place(now, &request, shard)?;
        let reservation = Reservation::new(pod, question.class, question.epoch, question.seq);
        self.strict.ledger.hold(now, asker, question.nonce, reservation);
        Some(pod)
    }

    /// The pod that a request should go to, of one shard: `shard` of this node's shards, or of as many as are named. By
    /// all that is known here and all that is promised; none where that is not enough.
    fn place(&mut self, now: Time, request: &Request<'_>, (shard, shards): (u16, Option<u16>)) -> Option<PodId> {
        if self.ladder.rung() != Rung::Fill {
            return None;
        }
        self.strict.ledger.expire(now);
        let draw = self.strict.draw();
        let desk = &self.strict;
        let of = |pod: PodId| match shards.filter(|shards| *shards != desk.shards.count()) {
            Some(shards) => Some(shard_of(pod, shards)),
            None => desk.shards.of(pod),
        };
        let with_reserved = |pod: PodId, load| (of(pod) == Some(shard)).then(|| desk.ledger.add_to(pod, load));
        self.picker.best_of(now, request, with_reserved, draw)
    }

    pub(super) fn handle_give_back(&mut self, from: NodeId, back: GiveBack) {
        self.strict.ledger.give_back(from, back.nonce);
    }

    /// The row of `from` was heard: it tells of requests that were only promised before.
    pub(super) fn settle_reservations(&mut self, from: NodeId, mentions: &Mentions) {
        let Some(Peer { row, .. }) = self.peers.get(&from) else { return };
        // What a whole row overtook is not merged any more, but it says all the same that the grant was charged.
        let overtaken = |of: &Reservation| {
            let about = |key: &Key| key.class == of.class && row.pod(key.pod) == Some(of.pod);
            mentions.seq > of.seq && mentions.epoch == of.epoch && mentions.keys.iter().any(about)
        };
        let told = |of: &Reservation| {
            let merged = row.epoch() == of.epoch && row.told_of(of.pod, of.class).is_some_and(|seq| seq > of.seq);
            merged || overtaken(of)
        };
        self.strict.ledger.settle(from, told);
    }

    /// Members came, went or fell under suspicion.
    pub(super) fn note_owners(&mut self) {
        let may_own = |peer: &&Peer| peer.state == MemberState::Alive && !peer.row.leaving;
        let alive = self.peers.values().filter(may_own).map(|peer| peer.ident.id);
        let mut nodes: Vec<NodeId> = alive.chain([self.id]).collect();
        nodes.sort_unstable();
        self.strict.shards.set_nodes(nodes);
        let peers = &self.peers;
        let active = |node: NodeId| peers.get(&node).is_some_and(Peer::is_active);
        self.strict.silent.retain(|owner, _| active(*owner));
        self.strict.ledger.retain(active);
    }

    pub(super) fn expire_reservations(&mut self, now: Time) {
        self.strict.ledger.expire(now);
    }
}
