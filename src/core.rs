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
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use bytes::Bytes;

use crate::gossip::budget::Budget;
use crate::gossip::own::OwnRow;
use crate::gossip::pace::Pace;
use crate::gossip::peer::PeerRow;
use crate::gossip::refresh_every;
use crate::gossip::swim::{MAX_MEMBERS, Swim};
use crate::gossip::wire::{Channel, Ident, Kind, Known, MemberState, Message, OVERHEAD};
use crate::id::{Epoch, NodeId, PodId, Seq, cluster_tag};
use crate::mutant::{self, Mutant};
use crate::observe::{Because, Formula, Lane, Pod, PodSpec, SizeClass};
use crate::pick::{Draw, Picker, Policy, PolicyKind, Rung, Wake};
use crate::time::Time;

mod costs;
mod health;
mod interest;
mod ladder;
mod membership;
mod rates;
mod relay;
mod report;
mod rows;
mod slow_start;
mod speeds;
mod stats;
mod strict;
mod zones;

use costs::Telling;
pub use health::Health;
use health::Sickbay;
use ladder::Ladder;
use rates::Rates;
pub use relay::DIRECT;
use relay::Relay;
use slow_start::SlowStarts;
use speeds::Speeds;
pub use stats::{Ages, RelayStats, Stats, Why};
use stats::{RowsSent, Traffic};
use strict::Desk;
pub use strict::{AskId, Reserved, Strict, StrictStats};
pub use zones::ZONE_PENALTY;

/// How often rates, ages, weights and the ladder are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Full membership is exchanged with one member this often (give or take a fifth, so that nodes do not walk in step).
const SYNC: Duration = Duration::from_secs(10);
/// A configured address that is no member is greeted again after this, doubling up to [`GREET_AT_MOST`].
const GREET_FIRST: Duration = Duration::from_millis(250);
const GREET_AT_MOST: Duration = Duration::from_secs(10);
/// One member is sent a Hello on suspicion of disagreement at most this often.
const HELLO_GAP: Duration = Duration::from_millis(500);
/// A node takes a new identity at most this often: each is told to everybody, and two nodes that a lie makes outdo each
/// other would do nothing else. Twice as long delays the second attempt of a node whose clock was set back by as much.
const RENEW_GAP: Duration = Duration::from_millis(200);
/// Pods that a node uses at most, unless it is told otherwise: below it balances worse, above it news costs more.
pub const SUBSET: usize = 64;
/// How long a pod starts slowly, unless a node is told otherwise.
pub const SLOW_START: Duration = Duration::from_secs(10);
/// Addresses at which this node's own name is reported as taken; whoever shares a name meets it at every greeting.
const MOST_NAMESAKES: usize = 16;

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
    /// Whether picks may ask the owners of shards, and how; [`Core::reserve`] is local without.
    pub strict: Option<Strict>,
    /// What requests cost, by model, where somebody wrote it down; the one of the empty name is for all other models.
    pub formulas: BTreeMap<Box<str>, Formula>,
    /// Whether it tells its peers what it learned of costs.
    pub tell_costs: bool,
    /// How many pods a node uses where there are more; 0: all there are, however many. Fewer cost less gossip, and balance
    /// worse: at 0.85, 64 of 200 pods made the mean 3 % longer, 16 30 %.
    pub subset: usize,
    /// Small news goes by relays where a pod has more users than this besides the node itself; 0: never. What matters
    /// much goes straight to everybody all the same. A relay saves most of the datagrams and costs a hop and a few
    /// milliseconds.
    pub direct: usize,
    /// Uses relays wherever pods have users enough. By itself a node does so where that tells small news half as often
    /// again as telling it directly, and most of the work is in small news. For trying relays out in small fleets.
    pub always_relay: bool,
    /// How long a pod that is new, or back after it was ejected, takes part in a growing share of the picks only; zero: it
    /// takes part in all at once. Pods that are there when the node starts are not new.
    pub slow_start: Duration,
    /// How pods are left alone that fail what they are sent.
    pub health: Health,
    /// The zone that it runs in, where somebody knows.
    pub zone: Option<String>,
    /// How much higher a pod stands that is known to be in another zone; zero: as high as any.
    pub zone_penalty: Duration,
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
            strict: None,
            formulas: BTreeMap::new(),
            tell_costs: true,
            subset: SUBSET,
            direct: DIRECT,
            always_relay: false,
            slow_start: SLOW_START,
            health: Health::default(),
            zone: None,
            zone_penalty: ZONE_PENALTY,
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
    /// Another process uses this node's name (give each its own), or this node was told to join itself by an address that
    /// it does not advertise. Once per address.
    NameTaken(SocketAddr),
    /// A member sent what is no message, or says of itself what cannot be: the reason, once per member and reason until it
    /// connects again. What is wrong of it is not used, and counted.
    Refused(NodeId, String),
    /// A pod fails a model while others serve it, and is left alone for that model.
    ModelEjected {
        /// The pod.
        pod: String,
        /// The model.
        model: String,
        /// Why.
        because: Because,
        /// For so long.
        span: Duration,
    },
    /// It is tried again.
    ModelReadmitted {
        /// The pod.
        pod: String,
        /// The model.
        model: String,
    },
    /// Too few of a model's pods would be left: nobody is left alone for failing it, or that is over.
    Panic {
        /// The model.
        model: String,
        /// So many would be left.
        left: usize,
        /// Of so many.
        of: usize,
        /// Whether it is over.
        over: bool,
    },
}

/// Epoch and table, from which pod and model, up to which.
type NamesKey = (Epoch, u32, (u32, u32), (u32, u32));

struct Peer {
    ident: Ident,
    name: String,
    /// Whether that is its name; else it is its id, as people read it.
    named: bool,
    state: MemberState,
    since: Time,
    connected: bool,
    row: PeerRow,
    /// Whether its row counts at all now.
    counted: bool,
    /// Which pods it uses.
    theirs: interest::Theirs,
    /// How much of our index table it was told: table, pods, models.
    told: Option<(u32, (u32, u32))>,
    /// When it is told the whole row next.
    refresh_at: Time,
    /// Whether it was active ever: one that never was is not missed.
    met: bool,
    /// Whether its going down was not announced yet.
    unsaid: bool,
    hello_at: Option<Time>,
    /// What foca was told of it by the last Sync that did, and how often foca had forgotten anybody by then.
    told_to_foca: Option<((Ident, u16, MemberState), u64)>,
    refused: BTreeSet<String>,
    /// Its last report that was passed on for it: none is passed on twice.
    passed_on: (Epoch, Seq),
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
    /// The pods of the index table that was learned last: most peers have the same.
    latest_names: Arc<Vec<PodId>>,
    /// The active of them, in the same order.
    active: Arc<[Ident]>,
    /// Every active peer that is connected was told this much of our index table.
    all_told: Option<(u32, (u32, u32))>,
    /// The names that were told last, and what they are: most peers are told the same.
    told_names: (Option<NamesKey>, Arc<[Bytes]>),
    /// foca's list when it was taken in last, and how many peers it has.
    taken_in: (Vec<(Ident, MemberState)>, Option<usize>),
    greet: BTreeMap<SocketAddr, (Time, Duration)>,
    /// When the first of those is due.
    greet_at: Option<Time>,
    /// Where somebody answered under this node's name.
    namesakes: BTreeSet<SocketAddr>,
    budget: Budget,
    /// How often each peer is told the whole row.
    refresh_every: Duration,
    pace: Pace,
    uses: interest::Own,
    relay: Relay,
    rates: Rates,
    telling: Telling,
    speeds: Speeds,
    slow_starts: SlowStarts,
    sickbay: Sickbay,
    ladder: Ladder,
    strict: Desk,
    lives: u64,
    turn: u64,
    leaving: bool,
    renewals: (Ident, u64),
    /// When an identity was taken to outdo another last, and what came too soon after it.
    outdid_at: Option<Time>,
    to_outdo: Option<Known>,
    tick_at: Time,
    sync_at: Time,
    flush_at: Option<Time>,
    flushed_at: Time,
    full_at: Option<Time>,
    /// The pick that is told of next, and when.
    held: Option<(Time, Arc<Pod>, Arc<Lane>, SizeClass)>,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
    sent: Traffic,
    received: Traffic,
    rows: RowsSent,
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
        let policy = config.policy.policy();
        Core::with_policy(config, now, wake, policy)
    }

    /// The same with a policy of the caller's own instead of the configuration's.
    pub fn with_policy(config: CoreConfig, now: Time, wake: Box<dyn Wake>, policy: Box<dyn Policy>) -> Core {
        let id = NodeId::of(&config.name);
        let me = Ident { id, epoch: config.epoch, r#gen: 0, addr: config.advertise };
        let picker = Picker::new(policy, config.seed ^ id.0, config.formulas.clone(), wake);
        picker.out().starts_slowly.store(!config.slow_start.is_zero(), Relaxed);
        picker.hub().published.in_a_row.store(config.health.failures, Relaxed);
        Core {
            tag: cluster_tag(&config.cluster),
            id,
            picker,
            pods: BTreeMap::new(),
            swim: Swim::new(me, config.seed ^ id.0),
            own: OwnRow::new(),
            seq: Seq(0),
            peers: BTreeMap::new(),
            latest_names: Arc::default(),
            active: Arc::default(),
            all_told: None,
            told_names: (None, Arc::default()),
            taken_in: (Vec::new(), None),
            greet: BTreeMap::new(),
            greet_at: None,
            namesakes: BTreeSet::new(),
            budget: Budget::new(config.budget_bits, now),
            refresh_every: refresh_every(0, 1.0),
            pace: Pace::new(now),
            uses: interest::Own::new(now),
            relay: Relay::default(),
            rates: Rates::new(now),
            telling: Telling::new(now, id),
            speeds: Speeds::new(now, id),
            ladder: Ladder::default(),
            strict: Desk::new(&config, id),
            lives: 0,
            turn: 0,
            leaving: false,
            renewals: (me, 0),
            outdid_at: None,
            to_outdo: None,
            tick_at: now + TICK,
            sync_at: now + SYNC,
            flush_at: None,
            flushed_at: Time::ZERO,
            full_at: None,
            held: None,
            slow_starts: SlowStarts::default(),
            sickbay: Sickbay::default(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            sent: Traffic::default(),
            received: Traffic::default(),
            rows: RowsSent::default(),
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
        self.note_greetings();
        self.greet_strangers(now);
    }

    /// Replaces the pods. Those that stay keep their counters; tickets on those that go end as they would have.
    pub fn set_pods(&mut self, now: Time, specs: Vec<PodSpec>) {
        let old = self.picker.pods();
        let mut ids = BTreeSet::new();
        let pods: Vec<Arc<Pod>> = specs
            .into_iter()
            .filter(|spec| ids.insert(spec.id()))
            .map(PodSpec::clamped)
            .map(|spec| match old.iter().find(|pod| pod.is_of(&spec)) {
                Some(pod) => {
                    pod.fitness.update(&spec);
                    pod.clone()
                }
                None => {
                    self.lives += 1;
                    let away_ms = zones::away_ms(&self.config, &spec);
                    Arc::new(Pod::new(spec, self.lives, self.picker.out().clone()).away(away_ms))
                }
            })
            .collect();
        for gone in old.iter().filter(|pod| !pods.iter().any(|kept| Arc::ptr_eq(kept, pod))) {
            self.peers.values_mut().for_each(|peer| peer.row.withdraw(gone));
        }
        self.note_new_pods(now, &old, &pods);
        self.own.learn_pods(&pods);
        self.strict.set_pods(pods.iter().map(|pod| pod.id()));
        self.pods = pods.iter().map(|pod| (pod.id(), pod.clone())).collect();
        if self.config.subset == 0 || pods.len() <= self.config.subset {
            self.own.index_pods(pods.iter());
        }
        self.picker.set_pods(Arc::new(pods), self.uses.interest);
        self.outdate_interest();
        for peer in self.peers.values_mut() {
            peer.row.look_again();
            peer.apply_row(now, &self.pods);
        }
    }

    /// A connection with `node`, proven to be it, is up.
    pub fn handle_connected(&mut self, now: Time, node: NodeId, remote: SocketAddr) {
        if node == self.id {
            // Peers may have told of its own former life there, and it dialled itself.
            let is_itself = remote == self.me().addr;
            if !is_itself && self.namesakes.len() < MOST_NAMESAKES && self.namesakes.insert(remote) {
                self.events.push_back(Event::NameTaken(remote));
            }
            return;
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connected = true;
            (peer.told, peer.theirs.told) = (None, None);
            peer.refused.clear();
        }
        self.all_told = None;
        self.say_hello(now, Some(node), remote, false);
        if self.is_active(node) {
            self.tell_everything(now, node);
        }
    }

    /// The connection with `node` is gone.
    pub fn handle_disconnected(&mut self, _now: Time, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.connected = false;
            (peer.told, peer.theirs.told) = (None, None);
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
        self.received.add(message.kind(), data.len());
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
            Message::Reserve(question) => self.handle_reserve(now, from, question),
            Message::Grant(grant) => self.handle_grant(now, from, grant),
            Message::GiveBack(back) => self.handle_give_back(from, back),
            Message::Costs(costs) => self.handle_costs(now, from, costs),
            Message::Paces(paces) => self.handle_paces(now, from, &paces),
            Message::Interest(interested) => self.handle_interest(now, from, interested),
            Message::Pass(pass) => self.handle_pass(now, from, pass, transit),
            Message::Relayed(relayed) => self.handle_relayed(now, from, relayed, transit),
        }
        self.settle(now);
    }

    /// Picks or ends of tickets left something to tell.
    pub fn handle_changes(&mut self, now: Time) {
        // Before looking, so that what changes meanwhile wakes us again.
        self.picker.hub().published.quiet_below_us.store(0, SeqCst);
        if self.picker.hub().published.sick.swap(false, SeqCst) {
            self.look_at_health(now, false);
        }
        self.release_held(now);
        self.tell_what_changed(now);
        self.tell_owners(now);
        let quiet = if self.active.is_empty() {
            // Nobody to tell: the tick is early enough.
            u64::MAX
        } else if self.flush_at.is_some() && !self.strict.is_on() {
            // A flush is due anyway: only what goes at once may hurry it.
            (self.pace.theta_ms() * 1e3) as u64
        } else {
            0
        };
        self.picker.hub().published.quiet_below_us.store(quiet, SeqCst);
    }

    /// Does everything that is due. Late calls are made good, early ones do nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        self.stop_waiting(now);
        self.swim.handle_timeout(now);
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.handle_changes(now);
        }
        if self.held_at().is_some_and(|at| at <= now) {
            self.handle_changes(now);
        }
        self.pass_on(now);
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            self.tick(now);
        }
        if self.full_at.is_some_and(|at| at <= now) {
            self.refresh(now);
            self.tell_costs(now);
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
        self.close_desk(now);
        if mutant::is(Mutant::SilentLeave) {
            return;
        }
        // Datagrams get lost, and there is no next time.
        for _ in 0..3 {
            self.tell_full(now, &self.active.clone());
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
        let fixed = self.tick_at.min(self.sync_at);
        [
            self.swim.next_timeout(),
            self.flush_at,
            self.full_at,
            self.greet_at,
            self.held_at(),
            self.strict.next_timeout(),
            self.relay.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .fold(fixed, Time::min)
    }

    /// Counters of gossip.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        (stats.sent, stats.received) = (self.sent.by_kind(), self.received.by_kind());
        stats.rows = self.rows.by_why();
        let told = self.own.told();
        (stats.at_once, stats.work_at_once_ms) = (told.at_once.0, told.at_once.1 / 1000);
        (stats.waited, stats.work_waited_ms) = (told.waited.0, told.waited.1 / 1000);
        stats.swim_packet_errors = self.swim.packet_errors;
        stats.swim_internal_errors = self.swim.internal_errors;
        stats.rung_steps = self.ladder.steps();
        stats.renewals = self.renewals.1;
        stats.strict = self.strict.stats(self.id);
        let hub = self.picker.hub();
        stats.missed_changes = hub.missed_changes.load(Relaxed);
        stats.missed_remainders = hub.missed_remainders.load(Relaxed);
        stats.corrected_remainders = self.own.corrected();
        stats.relay = self.relay.stats;
        stats
    }

    /// When picks that are held back are news: by whole milliseconds, because each has a moment of its own, and a crowd of
    /// them would call for a turn each.
    fn held_at(&self) -> Option<Time> {
        const GRID: u64 = 1_000_000;
        self.held.as_ref().map(|(at, ..)| Time::from_nanos(at.as_nanos().div_ceil(GRID) * GRID))
    }

    /// Picks that were held back long enough are news now.
    fn release_held(&mut self, now: Time) {
        let scarce = !self.active.is_empty() && !self.budget.is_ample(now);
        let hub = self.picker.hub();
        hub.published.scarce.store(scarce, Relaxed);
        loop {
            match self.held.take().or_else(|| hub.held.pop()) {
                Some((at, pod, lane, class)) if at <= now => hub.release(at, &pod, &lane, class),
                next => return self.held = next,
            }
        }
    }

    // ---- Upkeep -----------------------------------------------------------------------------------------------------

    fn tick(&mut self, now: Time) {
        if let Some(known) = self.to_outdo.take() {
            self.outdo(now, known);
        }
        self.take_in_members(now);
        self.announce_downs(now);
        self.look_at_interest(now);
        self.own.collect(&self.picker);
        self.own.expire(now, self.picker.hub().plays);
        self.expire_reservations(now);
        for peer in self.peers.values_mut() {
            peer.apply_row(now, &self.pods);
        }
        let others = self.peers.values().filter(|peer| peer.weight_x256(now) > 0);
        let others = others.map(|peer| peer.share() * peer.row.rates.iter().sum::<f64>()).sum::<f64>();
        // All together can pick for no more than the pods can do; who claims more must not turn every pick into chance.
        let used = self.uses.pods.iter().filter_map(|pod| self.pods.get(pod));
        let capacity = used.map(|pod| pod.capacity()).sum::<f64>();
        let others = others.min(capacity);
        let pace = &self.pace;
        let picked = self.picked_by_class();
        self.rates.tick(now, &self.picker, &picked, (others, capacity), |class| !pace.at_once(class));
        self.pace.tick(now, &picked, self.budget.bytes_per_s(), self.uses.users, self.relays());
        self.budget.reckon_with(self.pace.push_bytes(self.uses.users));
        // Whoever invents members must not make rows come more seldom.
        let listeners = self.active().filter(|peer| peer.connected && (peer.is_near() || self.strict.is_on())).count();
        self.refresh_every = refresh_every(listeners, self.budget.bytes_per_s());
        self.step_ladder(now);
        self.step_slow_starts(now);
        self.look_at_health(now, true);
        self.handle_changes(now);
        self.refresh(now);
        self.look_at_speeds(now);
        self.tell_costs(now);
    }

    /// What was picked so far on the pods that there are now; less than before where some went, or a lane's word was full.
    fn picked_by_class(&self) -> [u64; SizeClass::COUNT] {
        let mut picked = [0; SizeClass::COUNT];
        for lane in self.pods.values().flat_map(|pod| pod.lanes()) {
            lane.used().for_each(|class| picked[class.index()] += u64::from(lane.picked(class)));
        }
        picked
    }

    fn step_ladder(&mut self, now: Time) {
        // Who shares no pod has nothing to say.
        let counted = |peer: &&Peer| peer.is_near() && (peer.is_active() || (peer.met && !peer.row.leaving));
        let recent = |peer: &&Peer| peer.is_active() || now.since(peer.since) < ladder::REMEMBER_DOWN;
        let expected = self.peers.values().filter(counted).filter(recent).count();
        let since = |peer: &Peer| peer.row.heard_at.unwrap_or(peer.since);
        let fresh =
            self.active().filter(|peer| peer.is_near() && now.since(since(peer)) <= peer.row.fresh_for()).count();
        let active = self.uses.near.len();
        if let Some(rung) = self.ladder.look(now, expected, active, fresh) {
            self.picker.hub().published.rung.store(rung as u8, Relaxed);
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

    /// The peer with `ident`'s id, made if there is room.
    fn peer(&mut self, ident: Ident) -> Option<&mut Peer> {
        if ident.id == self.id {
            return None;
        }
        if !self.peers.contains_key(&ident.id) && self.peers.len() >= MAX_MEMBERS {
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

    /// Members came, went or changed their identity.
    fn note_active(&mut self) {
        self.active = self.active().map(|peer| peer.ident).collect();
        self.all_told = None;
        self.note_owners();
        self.outdate_interest();
    }

    fn note_refusal(&mut self, from: NodeId, why: String) {
        if let Some(peer) = self.peers.get_mut(&from)
            && (peer.refused.len() < 8 || mutant::is(Mutant::UnboundedRefusals))
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
        self.sent.add(kind, data.len());
        if kind.is_gossip() {
            self.budget.spend(now, data.len(), 1);
            self.pace.spent(data.len() as u64 + OVERHEAD);
        }
        self.outbox.push_back(Transmit { node, addr, channel: kind.channel(), data });
    }
}

impl Peer {
    fn new(ident: Ident) -> Peer {
        Peer {
            ident,
            name: ident.id.to_string(),
            named: false,
            // Not a member until foca says so.
            state: MemberState::Down,
            since: Time::ZERO,
            // Many are known from hearsay; a Hello says otherwise.
            connected: false,
            row: PeerRow::default(),
            counted: false,
            theirs: interest::Theirs::default(),
            told: None,
            refresh_at: Time::ZERO,
            met: false,
            unsaid: false,
            hello_at: None,
            told_to_foca: None,
            refused: BTreeSet::new(),
            passed_on: (Epoch(0), Seq(0)),
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
