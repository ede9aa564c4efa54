//! The whole node without IO: what happens comes in with the time, what is to be done is polled out.
//!
//! ```text
//! handle_connected  handle_message  handle_changes  handle_timeout      in
//! poll_transmit  poll_event  next_timeout                               out
//! ```
//! It turns no socket, reads no clock and draws no entropy of its own: a run is a function of its inputs and its seed.
//! Requests do not pass through here. Callers pick through the [`Picker`], which shares its counters with this.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use foca::Member;

use crate::gossip::budget::Budget;
use crate::gossip::own::{OwnRow, pack};
use crate::gossip::peer::{FRESH, News, PeerRow};
use crate::gossip::swim::{Heard, Swim};
use crate::gossip::wire::{
    Channel, Entry, Hello, Ident, Kind, Known, MAX_STREAM, MemberState, Message, Names, Part, Rows, Sync, SyncMember,
};
use crate::id::{Epoch, NodeId, PodId, Seq, cluster_tag};
use crate::observe::{MemberView, PeerShare, Pod, PodSpec, PodView, View};
use crate::pick::{Draw, Picker, PolicyKind, Rung, Wake};
use crate::time::Time;

mod ladder;
mod rates;
mod stats;

use ladder::Ladder;
use rates::Rates;
pub use stats::Stats;

/// A row is told in full this often, changed or not: it repairs what got lost, and says "I am here".
const REFRESH: Duration = Duration::from_secs(1);
/// How often rates, ages, weights and the ladder are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Full membership is exchanged with one member this often (give or take a fifth, so that nodes do not walk in step).
const SYNC: Duration = Duration::from_secs(10);
/// A configured address that is no member is greeted again after this, doubling up to [`GREET_AT_MOST`].
const GREET_FIRST: Duration = Duration::from_millis(250);
const GREET_AT_MOST: Duration = Duration::from_secs(10);
/// One member is sent a Hello on suspicion of disagreement at most this often.
const HELLO_GAP: Duration = Duration::from_millis(500);
/// Members beyond this are not kept.
const MAX_PEERS: usize = 4096;

/// What a core needs to be born.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CoreConfig {
    /// The node's name, unique in the cluster.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// What peers dial.
    pub advertise: SocketAddr,
    /// Which start this is: larger than any before. The cluster corrects it where a clock went back.
    pub epoch: Epoch,
    /// How to pick.
    pub policy: PolicyKind,
    /// Gossip budget, bit/s.
    pub budget_bits: u64,
    /// Seed of all chance.
    pub seed: u64,
}

impl CoreConfig {
    /// A core called `name` that peers dial at `advertise`, with defaults for the rest.
    pub fn new(name: impl Into<String>, advertise: SocketAddr) -> CoreConfig {
        CoreConfig {
            name: name.into(),
            cluster: "default".into(),
            advertise,
            epoch: Epoch(1),
            policy: PolicyKind::default(),
            budget_bits: 1_000_000,
            seed: 0,
        }
    }
}

/// Bytes to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To this node, where it is known.
    pub node: Option<NodeId>,
    /// At this address.
    pub addr: SocketAddr,
    /// How.
    pub channel: Channel,
    /// The message.
    pub data: Bytes,
}

/// Something worth telling an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member is there (again).
    MemberUp(String),
    /// A member failed.
    MemberDown(String),
    /// A member said goodbye.
    MemberLeft(String),
    /// The ladder was stepped down or up.
    Rung(Rung),
    /// Another process uses this node's name: give each its own.
    NameTaken(SocketAddr),
    /// A member sent what is no message: the reason, once per member and reason until it connects again.
    Refused(NodeId, String),
}

struct Peer {
    ident: Ident,
    name: String,
    state: MemberState,
    since: Time,
    connected: bool,
    row: PeerRow,
    /// How much of our index table it was told: table, pods, models.
    told: Option<(u32, (u32, u32))>,
    /// When it is told the whole row next.
    refresh_at: Time,
    /// Whether it was active ever: one that never was is not missed.
    met: bool,
    /// Whether its going down was not announced yet.
    unsaid: bool,
    hello_at: Option<Time>,
    refused: BTreeSet<String>,
}

/// A node's core. See the module's description.
pub struct Core {
    config: CoreConfig,
    tag: u32,
    id: NodeId,
    picker: Picker,
    /// The picker's pods by incarnation.
    pods: BTreeMap<PodId, Arc<Pod>>,
    swim: Swim,
    own: OwnRow,
    seq: Seq,
    peers: BTreeMap<NodeId, Peer>,
    greet: BTreeMap<SocketAddr, (Time, Duration)>,
    budget: Budget,
    rates: Rates,
    ladder: Ladder,
    lives: u64,
    turn: u64,
    leaving: bool,
    renewals: (Ident, u64),
    tick_at: Time,
    sync_at: Time,
    flush_at: Option<Time>,
    flushed_at: Time,
    full_at: Option<Time>,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
    stats: Stats,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Core {
    /// A core that knows nobody. `wake` is told when a pick or the end of a ticket leaves something for
    /// [`Core::handle_changes`].
    pub fn new(config: CoreConfig, now: Time, wake: Box<dyn Wake>) -> Core {
        let id = NodeId::of(&config.name);
        let me = Ident { id, epoch: config.epoch, r#gen: 0, addr: config.advertise };
        Core {
            tag: cluster_tag(&config.cluster),
            id,
            picker: Picker::new(config.policy, config.seed ^ id.0, wake),
            pods: BTreeMap::new(),
            swim: Swim::new(me, config.seed ^ id.0),
            own: OwnRow::new(),
            seq: Seq(0),
            peers: BTreeMap::new(),
            greet: BTreeMap::new(),
            budget: Budget::new(config.budget_bits, now),
            rates: Rates::new(now),
            ladder: Ladder::default(),
            lives: 0,
            turn: 0,
            leaving: false,
            renewals: (me, 0),
            tick_at: now + TICK,
            sync_at: now + SYNC,
            flush_at: None,
            flushed_at: Time::ZERO,
            full_at: None,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// What callers pick with.
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    // ---- In ---------------------------------------------------------------------------------------------------------

    /// Addresses to greet until somebody there is a member. Every one of them, not only until any answers: nodes that
    /// each stop at their first answer build clusters that never meet.
    pub fn set_join(&mut self, now: Time, addrs: impl IntoIterator<Item = SocketAddr>) {
        let old = std::mem::take(&mut self.greet);
        let own = self.config.advertise;
        let fresh = (now, GREET_FIRST);
        self.greet = addrs
            .into_iter()
            .filter(|addr| *addr != own)
            .map(|addr| (addr, old.get(&addr).copied().unwrap_or(fresh)))
            .collect();
        self.greet_strangers(now);
    }

    /// Replaces the pods. Those that stay keep their counters; tickets on those that go end as they would have.
    pub fn set_pods(&mut self, now: Time, specs: Vec<PodSpec>) {
        let old = self.picker.pods();
        let mut ids = BTreeSet::new();
        let pods: Vec<Arc<Pod>> = specs
            .into_iter()
            .filter(|spec| ids.insert(spec.id()))
            .map(|spec| match old.iter().find(|pod| pod.spec() == &spec) {
                Some(pod) => pod.clone(),
                None => {
                    self.lives += 1;
                    Arc::new(Pod::new(spec, self.lives))
                }
            })
            .collect();
        for gone in old.iter().filter(|pod| !pods.iter().any(|kept| Arc::ptr_eq(kept, pod))) {
            self.peers.values_mut().for_each(|peer| peer.row.withdraw(gone));
        }
        self.own.learn_pods(&pods);
        self.pods = pods.iter().map(|pod| (pod.id(), pod.clone())).collect();
        self.picker.set_pods(pods);
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|id| self.apply_row(now, id));
    }

    /// A connection with `node`, proven to be it, is up.
    pub fn handle_connected(&mut self, now: Time, node: NodeId, remote: SocketAddr) {
        if node == self.id {
            self.events.push_back(Event::NameTaken(remote));
            return;
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connected = true;
            peer.told = None;
            peer.refused.clear();
        }
        self.say_hello(now, Some(node), remote, false);
        if self.is_active(node) {
            self.tell_everything(now, node);
        }
    }

    /// The connection with `node` is gone.
    pub fn handle_disconnected(&mut self, _now: Time, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connected = false;
            peer.told = None;
        }
    }

    /// A message from `from`, proven to be it; `remote` is where it came from, `transit` what it spent on the way.
    pub fn handle_message(
        &mut self,
        now: Time,
        from: NodeId,
        remote: SocketAddr,
        channel: Channel,
        data: &[u8],
        transit: Duration,
    ) {
        let message = match Message::decode(data, channel, self.tag) {
            Ok(message) => message,
            Err(error) => {
                self.stats.refuse(error.name());
                self.note_refusal(from, error.to_string());
                return;
            }
        };
        self.stats.received(message.kind(), data.len());
        if from == self.id {
            self.stats.refuse("from_ourselves");
            return;
        }
        match message {
            Message::Swim(packet) => self.handle_swim(now, from, &packet),
            Message::Rows(rows) => self.handle_rows(now, from, rows, transit),
            Message::Hello(hello) => self.handle_hello(now, from, remote, hello),
            Message::Sync(sync) => self.handle_sync(now, from, sync),
            Message::Names(names) => self.handle_names(now, from, names),
        }
        self.settle(now);
    }

    /// Picks or ends of tickets left something to tell.
    pub fn handle_changes(&mut self, now: Time) {
        self.own.collect(&self.picker);
        let Some(costliest) = self.own.costliest_change() else { return };
        let peers = self.active().count();
        if peers == 0 {
            self.own.take_changes(now, false);
            return;
        }
        let heavy = costliest.as_ms() >= self.picker.mean_cost_ms();
        if self.budget.allows_all(now, peers) || (heavy && self.budget.allows_heavy(now)) {
            self.stats.at_once += 1;
            self.tell_changes(now);
            return;
        }
        self.stats.waited += 1;
        let spread = self.flushed_at + self.budget.flush_interval(peers);
        let at = if heavy { self.budget.heavy_at(now) } else { self.budget.flush_at(now, peers).max(spread) };
        if at <= now {
            self.tell_changes(now);
        } else {
            self.flush_at = Some(self.flush_at.map_or(at, |flush| flush.min(at)));
        }
    }

    /// Does everything that is due. Late calls are made good, early ones do nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        self.swim.handle_timeout(now);
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.handle_changes(now);
        }
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            self.tick(now);
        }
        if self.full_at.is_some_and(|at| at <= now) {
            self.refresh(now);
        }
        if self.sync_at <= now {
            self.sync_with_one(now);
        }
        self.greet_strangers(now);
        self.settle(now);
    }

    /// Says goodbye: the peers are told that nothing is left here and that this is no failure. Tickets that are still out
    /// are no longer told of.
    pub fn leave(&mut self, now: Time) {
        self.leaving = true;
        // Datagrams get lost, and there is no next time.
        for _ in 0..3 {
            self.tell_full(now, &self.active_idents());
        }
        self.swim.leave(now);
        self.settle(now);
    }

    // ---- Out --------------------------------------------------------------------------------------------------------

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop_front()
    }

    /// The next thing to tell an operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Core::handle_timeout`] wants to be called next.
    pub fn next_timeout(&self) -> Time {
        let greet = self.greet.values().map(|(at, _)| *at).min();
        let fixed = self.tick_at.min(self.sync_at);
        [self.swim.next_timeout(), self.flush_at, self.full_at, greet].into_iter().flatten().fold(fixed, Time::min)
    }

    /// Counters of gossip.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.swim_packet_errors = self.swim.packet_errors;
        stats.swim_internal_errors = self.swim.internal_errors;
        stats.rung_steps = self.ladder.steps();
        stats.renewals = self.renewals.1;
        let seen = &self.picker.shared().seen;
        stats.missed_changes = seen.missed_changes.load(Relaxed);
        stats.missed_remainders = seen.missed_remainders.load(Relaxed);
        stats
    }

    /// What this node believes about the pods.
    pub fn view(&self, now: Time) -> View {
        let pods = self.picker.pods();
        let mut shares = self.view_shares(now);
        View {
            node: self.config.name.clone(),
            policy: self.picker.policy().name(),
            rung: self.ladder.rung().name(),
            unseen_ms: self.rates.unseen_ms(),
            mean_cost_ms: self.picker.mean_cost_ms(),
            news_age_small_ms: self.rates.news_age_ms(false),
            news_age_heavy_ms: self.rates.news_age_ms(true),
            pods: pods
                .iter()
                .enumerate()
                .map(|(index, pod)| self.view_pod(now, index, pod, shares.remove(&pod.id()).unwrap_or_default()))
                .collect(),
        }
    }

    fn view_pod(&self, now: Time, index: usize, pod: &Pod, peers: Vec<PeerShare>) -> PodView {
        let load = pod.load(now, index);
        let own_remainders = pod.remainders.count.load(Relaxed);
        let stats = pod.stats();
        PodView {
            name: pod.name().to_owned(),
            id: pod.id().to_string(),
            addr: pod.spec().grpc.clone(),
            slots: pod.spec().slots,
            ejected: pod.is_ejected(),
            in_flight: f64::from(load.in_flight),
            own_in_flight: load.own_in_flight,
            peers_in_flight: pod.peers.count_x256.load(Relaxed) as f64 / 256.0,
            own_remainders,
            cost_ms: f64::from(load.cost_ms),
            residual_ms: f64::from(load.residual_ms),
            picks: stats.picks.load(Relaxed),
            served: stats.served.load(Relaxed),
            failed: stats.failed.load(Relaxed),
            refused: stats.refused.load(Relaxed),
            cancelled: stats.cancelled.load(Relaxed),
            ejections: stats.ejections.load(Relaxed),
            peers,
        }
    }

    /// What each peer has where, by pod.
    fn view_shares(&self, now: Time) -> BTreeMap<PodId, Vec<PeerShare>> {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let mut by_pod: BTreeMap<PodId, Vec<PeerShare>> = BTreeMap::new();
        for peer in self.peers.values() {
            let weight = self.weight_x256(now, peer);
            if weight == 0 {
                continue;
            }
            let news_at = peer.row.news_at();
            for (pod, share) in peer.row.shares(now) {
                by_pod.entry(pod).or_default().push(PeerShare {
                    node: peer.name.clone(),
                    in_flight: (share.count_x256 / 256) as u32,
                    cost_ms: share.cost_us as f64 / 1e3,
                    news_age_ms: ms(news_at.get(&pod).map_or(Duration::ZERO, |at| now.since(*at))),
                    row_age_ms: ms(peer.row.age(now).unwrap_or_default()),
                    weight: weight as f64 / 256.0,
                });
            }
        }
        by_pod
    }

    /// What this node believes about the members, itself first.
    pub fn members(&self, now: Time) -> Vec<MemberView> {
        let me = self.swim.me();
        let view = |ident: &Ident, name: &str, state, age: Option<Duration>, weight, this_node| MemberView {
            name: name.to_owned(),
            id: ident.id.to_string(),
            addr: ident.addr.to_string(),
            state,
            epoch: ident.epoch.0,
            r#gen: ident.r#gen,
            this_node,
            row_age_ms: age.map(|age| age.as_secs_f64() * 1e3),
            weight,
        };
        let own = view(&me, &self.config.name, "alive", None, 1.0, true);
        let others = self.peers.values().map(|peer| {
            let weight = self.weight_x256(now, peer) as f64 / 256.0;
            view(&peer.ident, &peer.name, peer.state.name(), peer.row.age(now), weight, false)
        });
        std::iter::once(own).chain(others).collect()
    }

    // ---- Membership -------------------------------------------------------------------------------------------------

    fn handle_swim(&mut self, now: Time, from: NodeId, packet: &[u8]) {
        match self.swim.handle(now, from, packet) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::ThoughtDown(accuser)) => self.ask(now, accuser),
            Err(error) => self.stats.refuse(error.name()),
        }
    }

    /// Sends a Hello to somebody we disagree with, but not more often than every [`HELLO_GAP`].
    fn ask(&mut self, now: Time, who: Ident) {
        let Some(peer) = self.peer(who) else { return };
        if peer.hello_at.is_some_and(|at| now.since(at) < HELLO_GAP) {
            return;
        }
        peer.hello_at = Some(now);
        self.say_hello(now, Some(who.id), who.addr, false);
    }

    fn say_hello(&mut self, now: Time, node: Option<NodeId>, addr: SocketAddr, reply: bool) {
        let peer = node.and_then(|id| self.peers.get(&id)).map(|peer| peer.ident);
        let known = node.and_then(|id| {
            let of = peer.unwrap_or(Ident { id, epoch: Epoch(0), r#gen: 0, addr });
            self.swim.known(&of)
        });
        let hello = Hello { me: self.swim.me(), name: self.config.name.clone(), reply, known_of_you: known };
        self.send(now, node, addr, &Message::Hello(hello));
    }

    fn handle_hello(&mut self, now: Time, from: NodeId, remote: SocketAddr, hello: Hello) {
        if hello.me.id != from {
            self.stats.refuse("identity");
            return;
        }
        if let Some(known) = hello.known_of_you {
            self.outdo(now, known);
        }
        if let Some(peer) = self.peer(hello.me) {
            (peer.name, peer.connected) = (hello.name, true);
            if !hello.reply {
                // Who asks has lost us, or some of what we told it.
                peer.told = None;
            }
        }
        let known = self.swim.known(&hello.me);
        let beaten = known.is_some_and(|k| !k.alive && (k.epoch, k.r#gen) >= (hello.me.epoch, hello.me.r#gen));
        if !hello.reply {
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

    fn answer_hello(&mut self, now: Time, to: NodeId, remote: SocketAddr, known: Option<Known>) {
        let hello = Hello { me: self.swim.me(), name: self.config.name.clone(), reply: true, known_of_you: known };
        self.send(now, Some(to), remote, &Message::Hello(hello));
    }

    /// Somebody knows an identity of ours that would win against us (or is down): take one that wins, in one step.
    fn outdo(&mut self, now: Time, known: Known) {
        let me = self.swim.me();
        let wins = (me.epoch, me.r#gen) > (known.epoch, known.r#gen);
        let same = (me.epoch, me.r#gen) == (known.epoch, known.r#gen);
        if wins || (same && known.alive) || self.leaving {
            return;
        }
        let next = if known.epoch > me.epoch {
            // An earlier start with a clock ahead of ours: beat it, or its rows would count and ours would not.
            Ident { epoch: Epoch(known.epoch.0.saturating_add(1)), r#gen: 0, ..me }
        } else {
            Ident { r#gen: known.r#gen.saturating_add(1), ..me }
        };
        self.swim.change_identity(now, next);
        // Names and rows go by the epoch: what was told under another is forgotten.
        self.peers.values_mut().for_each(|peer| (peer.told, peer.refresh_at) = (None, now));
        self.full_at = Some(now);
        self.active_idents().into_iter().for_each(|ident| self.say_hello(now, Some(ident.id), ident.addr, false));
    }

    fn handle_sync(&mut self, now: Time, from: NodeId, sync: Sync) {
        if sync.from.id != from {
            self.stats.refuse("identity");
            return;
        }
        for member in &sync.members {
            if let Some(peer) = self.peer(member.ident)
                && !member.name.is_empty()
            {
                peer.name.clone_from(&member.name);
            }
        }
        // Those that there was no room for are kept from foca too, which has no bound of its own.
        let (peers, me) = (&self.peers, self.id);
        let kept = sync.members.iter().filter(|m| m.ident.id == me || peers.contains_key(&m.ident.id));
        let members = kept.map(|m| Member::new(m.ident, m.incarnation, m.state.into()));
        self.swim.apply(now, members, !sync.want_reply);
        if sync.want_reply {
            self.sync(now, sync.from, false);
        }
    }

    fn sync(&mut self, now: Time, to: Ident, want_reply: bool) {
        // What one member takes at most: two identities' numbers, an IPv6 address, and its name.
        const MEMBER: usize = 9 + 9 + 5 + 21 + 3 + 1 + 2;
        let members: Vec<SyncMember> = self.swim.members().map(|m| self.sync_member(m)).collect();
        let mut parts: Vec<Vec<SyncMember>> = vec![Vec::new()];
        let mut used = MEMBER;
        for member in members {
            let bytes = MEMBER + member.name.len();
            if used + bytes > MAX_STREAM / 2 {
                parts.push(Vec::new());
                used = MEMBER;
            }
            used += bytes;
            if let Some(part) = parts.last_mut() {
                part.push(member);
            }
        }
        for (k, members) in parts.into_iter().enumerate() {
            let sync = Sync { from: self.swim.me(), want_reply: want_reply && k == 0, members };
            self.send(now, Some(to.id), to.addr, &Message::Sync(sync));
        }
    }

    fn sync_member(&self, member: &Member<Ident>) -> SyncMember {
        let name = self.peers.get(&member.id().id).map(|peer| peer.name.clone());
        SyncMember {
            ident: *member.id(),
            incarnation: member.incarnation(),
            state: member.state().into(),
            name: name.filter(|name| *name != member.id().id.to_string()).unwrap_or_default(),
        }
    }

    fn sync_with_one(&mut self, now: Time) {
        let active = self.active_idents();
        let draw = self.draw();
        // 0.8 to 1.2 of the interval.
        self.sync_at = now + SYNC * (80 + draw.below(0, 41) as u32) / 100;
        if !active.is_empty() {
            self.sync(now, active[draw.below(1, active.len())], true);
        }
    }

    fn greet_strangers(&mut self, now: Time) {
        let due: Vec<SocketAddr> = self.greet.iter().filter(|(_, (at, _))| *at <= now).map(|(addr, _)| *addr).collect();
        for addr in due {
            let met = self.active().any(|peer| peer.ident.addr == addr);
            let gap = self.greet.get(&addr).map_or(GREET_FIRST, |(_, gap)| *gap);
            let next = if met { GREET_FIRST } else { (gap * 2).min(GREET_AT_MOST) };
            self.greet.insert(addr, (now + if met { GREET_AT_MOST } else { gap }, next));
            if !met && !self.leaving {
                self.say_hello(now, None, addr, false);
            }
        }
    }

    // ---- Rows -------------------------------------------------------------------------------------------------------

    fn handle_names(&mut self, now: Time, from: NodeId, names: Names) {
        let Some(peer) = self.peers.get_mut(&from) else { return self.stats.refuse("stranger") };
        if let Err(unused) = peer.row.learn_names(names) {
            self.stats.refuse(unused.name());
        }
        // Entries may have come first.
        self.apply_row(now, from);
    }

    fn handle_rows(&mut self, now: Time, from: NodeId, rows: Rows, transit: Duration) {
        let Some(peer) = self.peers.get_mut(&from) else { return self.stats.refuse("stranger") };
        let ident = peer.ident;
        let (left, full) = (rows.leaving && !peer.row.leaving, rows.part.is_some());
        let (news, unused) = peer.row.merge(now, rows, transit);
        let nameless = full && peer.row.misses_names();
        if let Some(unused) = unused {
            self.stats.refuse(unused.name());
        }
        self.take_in(now, from, &news);
        if left && let Some(peer) = self.peers.get(&from) {
            self.events.push_back(Event::MemberLeft(peer.name.clone()));
        }
        if nameless || (!self.is_active(from) && !left) {
            // It counts us in, we do not count it (or not all of it): without a word, that stays so.
            self.ask(now, ident);
        }
    }

    fn take_in(&mut self, now: Time, from: NodeId, news: &[News]) {
        self.apply_row(now, from);
        let mean_ms = self.picker.mean_cost_ms();
        for news in news {
            let cost = news.class.typical();
            self.rates.hear(cost.as_ms() > mean_ms, news.age);
            let Some(pod) = self.pods.get(&news.pod) else { continue };
            match news.delta {
                // A few thousand at once would be an absurd claim; the clock is clamped by the known work anyway.
                1.. => (0..news.delta.min(1024)).for_each(|_| {
                    pod.extend_residual(now - news.age, cost);
                }),
                _ => pod.shorten_residual(now),
            }
        }
    }

    /// Makes the pods' peer parts say what `node`'s row says now.
    fn apply_row(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get(&node) else { return };
        let weight = self.weight_x256(now, peer);
        let pods = &self.pods;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.row.apply(now, weight, |id| pods.get(&id).map(Arc::as_ref));
        }
    }

    /// A row counts if and only if its origin is an active member and its epoch is the member's, by its age.
    fn weight_x256(&self, now: Time, peer: &Peer) -> u64 {
        let counts = peer.is_active() && peer.row.epoch() == peer.ident.epoch && !peer.row.leaving;
        if counts { peer.row.weight_x256(now) } else { 0 }
    }

    fn tell_changes(&mut self, now: Time) {
        self.flushed_at = now;
        self.flush_at = None;
        let to = self.active_idents();
        // Repeats are for when there is room: at 100 nodes on 1 Mbit/s they took the mean from 63 to 92 ms.
        let repeat = self.budget.allows_all(now, to.len());
        let entries = self.own.take_changes(now, repeat);
        for group in pack(entries) {
            self.seq.0 += 1;
            self.tell(now, None, group, &to);
        }
    }

    /// Tells the whole row to those who are due. Each has its own phase of the second, so that a crowd is not told all at
    /// once, which would put the budget into debt and make what is heavy wait.
    fn refresh(&mut self, now: Time) {
        self.full_at = None;
        let mut due = Vec::new();
        for peer in self.peers.values_mut().filter(|peer| peer.is_active() && peer.refresh_at <= now) {
            let phase = Duration::from_nanos(peer.ident.id.0 % REFRESH.as_nanos() as u64);
            let into = (now + REFRESH - phase).as_nanos() % REFRESH.as_nanos() as u64;
            peer.refresh_at = now + REFRESH - Duration::from_nanos(into);
            due.push(peer.ident);
        }
        if !due.is_empty() {
            self.tell_full(now, &due);
        }
    }

    fn tell_full(&mut self, now: Time, to: &[Ident]) {
        self.own.collect(&self.picker);
        let entries = if self.leaving { Vec::new() } else { self.own.full(now) };
        self.seq.0 += 1;
        let groups = pack(entries);
        let mut after = None;
        let last = groups.len() - 1;
        for (k, group) in groups.into_iter().enumerate() {
            let upto = if k == last { None } else { group.last().map(|entry| entry.key) };
            self.tell(now, Some(Part { after, upto }), group, to);
            after = upto;
        }
    }

    /// Sends entries to each of `to`; whoever misses a part of the index table gets it first.
    fn tell(&mut self, now: Time, part: Option<Part>, entries: Vec<Entry>, to: &[Ident]) {
        let rows = Rows {
            epoch: self.swim.me().epoch,
            seq: self.seq,
            table: self.own.table().0,
            leaving: self.leaving,
            rates: self.rates.own_millis(),
            part,
            entries,
        };
        let data = Message::Rows(rows).encode(self.tag);
        for ident in to {
            self.tell_names(now, *ident);
            self.transmit(now, Some(ident.id), ident.addr, Kind::Rows, data.clone());
        }
    }

    fn tell_names(&mut self, now: Time, to: Ident) {
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
        for names in self.own.names(epoch, from) {
            self.send(now, Some(to.id), to.addr, &Message::Names(names));
        }
    }

    fn tell_everything(&mut self, now: Time, to: NodeId) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.refresh_at = now;
            self.full_at = Some(now);
        }
    }

    // ---- Upkeep -----------------------------------------------------------------------------------------------------

    fn tick(&mut self, now: Time) {
        self.take_in_members(now);
        self.announce_downs(now);
        self.own.collect(&self.picker);
        self.own.expire(now, &self.picker);
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.apply_row(now, id));
        let others = self.peers.values().filter(|peer| self.weight_x256(now, peer) > 0).map(|peer| peer.row.rates);
        let others = others.fold([0.0; 2], |sum: [f64; 2], rates| [sum[0] + rates[0], sum[1] + rates[1]]);
        self.rates.tick(now, &self.picker, others);
        self.step_ladder(now);
        self.handle_changes(now);
        self.refresh(now);
    }

    /// A member that went down and has not said goodbye by now has failed: goodbyes can be overtaken.
    fn announce_downs(&mut self, now: Time) {
        for peer in self.peers.values_mut().filter(|peer| peer.unsaid && now.since(peer.since) >= TICK / 2) {
            peer.unsaid = false;
            if !peer.is_active() && !peer.row.leaving {
                self.events.push_back(Event::MemberDown(peer.name.clone()));
            }
        }
    }

    fn step_ladder(&mut self, now: Time) {
        let counted = |peer: &&Peer| peer.is_active() || (peer.met && !peer.row.leaving);
        let recent = |peer: &&Peer| peer.is_active() || now.since(peer.since) < ladder::REMEMBER_DOWN;
        let expected = self.peers.values().filter(counted).filter(recent).count();
        let since = |peer: &Peer| peer.row.heard_at.unwrap_or(peer.since);
        let fresh = self.active().filter(|peer| now.since(since(peer)) <= FRESH).count();
        let active = self.active().count();
        if let Some(rung) = self.ladder.look(now, expected, active, fresh) {
            self.picker.shared().published.rung.store(rung as u8, Relaxed);
            self.events.push_back(Event::Rung(rung));
        }
    }

    /// After anything happened: hand on what foca wants sent, and take in what it says of members.
    fn settle(&mut self, now: Time) {
        // foca says nothing of suspicions; the next tick sees those.
        if self.swim.take_changed() {
            self.take_in_members(now);
        }
        let me = self.swim.me();
        if me != self.renewals.0 {
            self.renewals = (me, self.renewals.1 + 1);
        }
        while let Some((to, packet)) = self.swim.poll_transmit() {
            self.send(now, Some(to.id), to.addr, &Message::Swim(packet));
        }
    }

    /// foca's list is the truth of who is a member; ours adds what foca does not know of them.
    fn take_in_members(&mut self, now: Time) {
        let mut best: BTreeMap<NodeId, (Ident, MemberState)> = BTreeMap::new();
        for member in self.swim.members() {
            let (ident, state) = (*member.id(), MemberState::from(member.state()));
            if ident.id == self.id {
                continue;
            }
            let rank = |ident: &Ident, state: MemberState| (ident.epoch, ident.r#gen, state != MemberState::Down);
            let entry = best.entry(ident.id).or_insert((ident, state));
            if rank(&ident, state) > rank(&entry.0, entry.1) {
                *entry = (ident, state);
            }
        }
        for (id, (ident, state)) in &best {
            let Some(peer) = self.peer(*ident) else { continue };
            let (was_active, changed) = (peer.is_active(), (peer.ident, peer.state) != (*ident, *state));
            if !changed {
                continue;
            }
            (peer.ident, peer.state) = (*ident, *state);
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
            // Known from a connection alone: kept while it lasts, because the Hello that makes it a member may be under way.
            if self.peers.get(&id).is_some_and(|peer| !peer.connected && now.since(peer.since) > FRESH) {
                self.drop_peer(now, id);
            }
        }
    }

    fn drop_peer(&mut self, now: Time, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.state = MemberState::Down;
        }
        self.apply_row(now, id);
        self.peers.remove(&id);
    }

    /// The peer with `ident`'s id, made if there is room.
    fn peer(&mut self, ident: Ident) -> Option<&mut Peer> {
        if ident.id == self.id {
            return None;
        }
        if !self.peers.contains_key(&ident.id) && self.peers.len() >= MAX_PEERS {
            self.stats.refuse("too_many_members");
            return None;
        }
        Some(self.peers.entry(ident.id).or_insert_with(|| Peer::new(ident)))
    }

    fn is_active(&self, id: NodeId) -> bool {
        self.peers.get(&id).is_some_and(Peer::is_active)
    }

    fn active(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(|peer| peer.is_active())
    }

    fn active_idents(&self) -> Vec<Ident> {
        self.active().map(|peer| peer.ident).collect()
    }

    fn note_refusal(&mut self, from: NodeId, why: String) {
        if let Some(peer) = self.peers.get_mut(&from)
            && peer.refused.len() < 8
            && peer.refused.insert(why.clone())
        {
            self.events.push_back(Event::Refused(from, why));
        }
    }

    fn draw(&mut self) -> Draw {
        self.turn += 1;
        Draw::new(self.config.seed ^ self.id.0, self.turn)
    }

    fn send(&mut self, now: Time, node: Option<NodeId>, addr: SocketAddr, message: &Message) {
        let data = message.encode(self.tag);
        self.transmit(now, node, addr, message.kind(), data);
    }

    fn transmit(&mut self, now: Time, node: Option<NodeId>, addr: SocketAddr, kind: Kind, data: Bytes) {
        self.stats.sent(kind, data.len());
        self.budget.spend(now, data.len(), 1);
        self.outbox.push_back(Transmit { node, addr, channel: kind.channel(), data });
    }
}

impl Peer {
    fn new(ident: Ident) -> Peer {
        Peer {
            ident,
            name: ident.id.to_string(),
            // Not a member until foca says so.
            state: MemberState::Down,
            since: Time::ZERO,
            // Many are known from hearsay; a Hello says otherwise.
            connected: false,
            row: PeerRow::default(),
            told: None,
            refresh_at: Time::ZERO,
            met: false,
            unsaid: false,
            hello_at: None,
            refused: BTreeSet::new(),
        }
    }

    fn is_active(&self) -> bool {
        self.state != MemberState::Down
    }
}

impl MemberState {
    fn name(self) -> &'static str {
        match self {
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Down => "down",
        }
    }
}
