//! The world: nodes with the product's core in them, links, pods, clients, and the queue of what happens next.
//!
//! It stands where the driver stands in the product, and like the driver it decides nothing: it turns the cores, carries
//! what they send, and keeps a ledger of what is really in flight. Every node has a clock of its own that starts at its
//! start, so nothing can compare two nodes' times unnoticed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use plimsoll::core::{Core, CoreConfig, Event, Transmit};
use plimsoll::gossip::wire::Channel;
use plimsoll::id::{Epoch, NodeId};
use plimsoll::observe::{Cost, PodSpec};
use plimsoll::pick::{Outcome, PolicyKind, Request, Ticket, Wake};
use plimsoll::time::Time;

use crate::client::{Ask, Costs, Sizes};
use crate::link::{Link, Links};
use crate::pod::SimPod;
use crate::rng::{Rng, mix};

/// A connection over which nothing comes for this long is given up, as QUIC does.
const IDLE: Duration = Duration::from_secs(5);
/// After a failed dial nobody is dialed again for this long.
const REDIAL: Duration = Duration::from_millis(500);
/// Messages that wait for a dial; older ones are dropped.
const DIAL_QUEUE: usize = 16;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many pods.
    pub pods: usize,
    /// Requests each pod runs at once.
    pub slots: u32,
    /// How nodes pick.
    pub policy: PolicyKind,
    /// How long requests run.
    pub sizes: Sizes,
    /// What pickers are told of it.
    pub costs: Costs,
    /// The links between nodes.
    pub link: Link,
    /// From a pick to [`Core::handle_changes`].
    pub reaction: Duration,
    /// Each node's gossip budget.
    pub budget_bits: u64,
    /// Whom each node joins, where it is not everybody.
    pub join: Option<Vec<Vec<usize>>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 7,
            nodes: 4,
            pods: 8,
            slots: 1,
            policy: PolicyKind::Plimsoll,
            sizes: Sizes::Bimodal,
            costs: Costs::Learned,
            link: Link::default(),
            reaction: Duration::from_micros(20),
            budget_bits: 1_000_000,
            join: None,
        }
    }
}

/// The `k`-th pod.
pub fn spec(k: usize, slots: u32) -> PodSpec {
    let mut spec = PodSpec::new(format!("pod-{k}"), format!("http://10.1.{}.{}:8001", k / 256, k % 256));
    spec.slots = slots;
    spec
}

#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Relaxed);
    }
}

struct SimNode {
    core: Option<Core>,
    woken: Flag,
    /// Which life: what was meant for an earlier one is dropped.
    life: u64,
    started: Time,
    paused: bool,
    /// What came while it was paused.
    inbox: Vec<Happening>,
    timer_at: Option<Time>,
    changes_at: Option<Time>,
    arrivals: Rng,
    sizes: Rng,
    /// True tickets per pod.
    ledger: Vec<u32>,
}

struct Connection {
    id: u64,
    lives: (u64, u64),
    /// None while it is dialed; then what waits for it.
    waiting: Option<VecDeque<(usize, Transmit)>>,
}

struct Live {
    node: usize,
    pod: usize,
    ask: Ask,
    ticket: Ticket,
    asked_at: Time,
}

enum Happening {
    Deliver { from: usize, to: usize, life: u64, transmit: Transmit },
    Send { from: usize, life: u64, transmit: Transmit },
    Dialed { pair: (usize, usize), id: u64 },
    Idle { pair: (usize, usize), id: u64 },
    Timer { node: usize, life: u64 },
    Changes { node: usize, life: u64 },
    Arrive { node: usize, wave: u64 },
    AtPod { ticket: u64 },
    Finish { ticket: u64 },
}

/// See the module's description.
pub struct World {
    config: Config,
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    happened: u64,
    nodes: Vec<SimNode>,
    pods: Vec<SimPod>,
    links: Links,
    connections: BTreeMap<(usize, usize), Connection>,
    redial_at: BTreeMap<(usize, usize), Time>,
    tickets: BTreeMap<u64, Live>,
    pod_link: Rng,
    load: f64,
    wave: u64,
    trace: u64,
    /// What the cores told operators: when, which node, what.
    pub events: Vec<(Time, usize, Event)>,
    /// Finished requests: when they were asked for, and how long they took.
    pub done: Vec<(Time, Duration)>,
}

impl World {
    /// All nodes start at once, and nothing is asked of them yet.
    pub fn new(config: Config) -> World {
        let seed = config.seed;
        let node = |n: usize| SimNode {
            core: None,
            woken: Flag::default(),
            life: 0,
            started: Time::ZERO,
            paused: false,
            inbox: Vec::new(),
            timer_at: None,
            changes_at: None,
            arrivals: Rng::new(seed, "arrivals", n as u64),
            sizes: Rng::new(seed, "sizes", n as u64),
            ledger: vec![0; config.pods],
        };
        let mut world = World {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            happened: 0,
            nodes: (0..config.nodes).map(node).collect(),
            pods: (0..config.pods).map(|_| SimPod::new(config.slots)).collect(),
            links: Links::new(config.link, seed),
            connections: BTreeMap::new(),
            redial_at: BTreeMap::new(),
            tickets: BTreeMap::new(),
            pod_link: Rng::new(seed, "pod link", 0),
            load: 0.0,
            wave: 0,
            trace: 0,
            events: Vec::new(),
            done: Vec::new(),
            config,
        };
        (0..world.config.nodes).for_each(|n| world.start(n, 100));
        world
    }

    // ---- What a test does -----------------------------------------------------------------------------------------

    /// Starts node `n` with `epoch`, on its address.
    pub fn start(&mut self, n: usize, epoch: u64) {
        let mut config = CoreConfig::new(format!("node-{n}"), address(n));
        config.epoch = Epoch(epoch);
        config.policy = self.config.policy;
        config.seed = self.config.seed;
        config.budget_bits = self.config.budget_bits;
        let woken = Flag::default();
        let mut core = Core::new(config, Time::ZERO, Box::new(woken.clone()));
        core.set_pods(Time::ZERO, (0..self.config.pods).map(|k| spec(k, self.config.slots)).collect());
        let join = self.config.join.as_ref().map_or_else(|| (0..self.config.nodes).collect(), |join| join[n].clone());
        core.set_join(Time::ZERO, join.into_iter().map(address));
        let node = &mut self.nodes[n];
        node.life += 1;
        (node.core, node.woken, node.started, node.timer_at) = (Some(core), woken, self.now, None);
        self.turn(n);
        self.ask_later(n);
    }

    /// Kills node `n`: its tickets and connections die with it, and nobody is told.
    pub fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        (node.core, node.timer_at, node.changes_at, node.paused) = (None, None, None, false);
        node.inbox.clear();
        node.ledger.fill(0);
        self.tickets.retain(|_, live| live.node != n);
        self.watch_connections(|(a, b)| a == n || b == n);
    }

    /// Stops node `n` in its tracks (SIGSTOP): what comes for it waits.
    pub fn pause(&mut self, n: usize) {
        self.nodes[n].paused = true;
    }

    /// Lets it run again: first what came, then its timers.
    pub fn resume(&mut self, n: usize) {
        self.nodes[n].paused = false;
        for happening in std::mem::take(&mut self.nodes[n].inbox) {
            self.happen(happening);
        }
    }

    /// Lets nothing through from `from` to `to`; the other direction is another wall.
    pub fn wall(&mut self, from: usize, to: usize) {
        self.links.wall(from, to);
        self.watch_connections(|pair| pair == pair_of(from, to));
    }

    /// Cuts the nodes in `group` off from all others, both ways.
    pub fn partition(&mut self, group: &[usize]) {
        for a in 0..self.nodes.len() {
            for b in (0..self.nodes.len()).filter(|b| group.contains(&a) != group.contains(b)) {
                self.wall(a, b);
            }
        }
    }

    /// Takes all walls down.
    pub fn heal(&mut self) {
        self.links.heal();
    }

    /// Node `n` says goodbye and ends.
    pub fn leave(&mut self, n: usize) {
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            core.leave(now);
        }
        self.turn(n);
        self.crash(n);
    }

    /// From now on clients ask for this share of what the pods can do; 0 for silence.
    pub fn set_load(&mut self, load: f64) {
        self.load = load;
        self.wave += 1;
        (0..self.nodes.len()).for_each(|n| self.ask_later(n));
    }

    /// Replaces node `n`'s pods.
    pub fn set_pods(&mut self, n: usize, specs: Vec<PodSpec>) {
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            core.set_pods(now, specs);
        }
        self.turn(n);
    }

    /// Node `n` picks for one request of `cost_ms` now; the caller ends the ticket.
    pub fn pick(&mut self, n: usize, model: &str, cost_ms: f64) -> Ticket {
        let cost = Cost::from_ms(cost_ms).unwrap_or_default();
        let picker = self.core(n).picker().clone();
        let ticket = picker.pick(self.local(n), &Request::new(model).cost(cost)).expect("there are pods");
        self.turn(n);
        ticket
    }

    /// Ends a ticket of node `n`'s.
    pub fn finish(&mut self, n: usize, ticket: Ticket, outcome: Outcome) {
        ticket.finish(self.local(n), outcome);
        self.turn(n);
    }

    /// Runs for `span`.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(entry) = self.queue.first_entry() {
            let (at, happened) = *entry.key();
            if at > end {
                break;
            }
            let happening = entry.remove();
            self.now = at;
            self.note(&[at.as_nanos(), happened]);
            self.happen(happening);
        }
        self.now = end;
    }

    /// Runs until `done` says so, looking every 10 ms; how long that took, none if it took longer than `most`.
    pub fn run_until(&mut self, most: Duration, done: impl Fn(&World) -> bool) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now.since(start) > most {
                return None;
            }
            self.run_for(Duration::from_millis(10));
        }
        Some(self.now.since(start))
    }

    // ---- What a test sees -----------------------------------------------------------------------------------------

    /// The world's time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A hash of all that happened.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Node `n`'s time.
    pub fn local(&self, n: usize) -> Time {
        Time::from_nanos(self.now.since(self.nodes[n].started).as_nanos() as u64)
    }

    /// Node `n`'s core; it must be up.
    pub fn core(&self, n: usize) -> &Core {
        self.nodes[n].core.as_ref().expect("the node is up")
    }

    /// The nodes that are up.
    pub fn live(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].core.is_some()).collect()
    }

    /// How busy the pods were so far, on the mean.
    pub fn utilisation(&self) -> f64 {
        let slots = self.config.slots as f64 * self.pods.len() as f64;
        self.pods.iter().map(|pod| pod.busy.as_secs_f64()).sum::<f64>() / self.now.as_nanos() as f64 * 1e9 / slots
    }

    /// The members that node `n` holds for alive (or suspect), itself included.
    pub fn members(&self, n: usize) -> BTreeSet<String> {
        let members = self.core(n).members(self.local(n));
        members.into_iter().filter(|m| matches!(m.state, "alive" | "suspect")).map(|m| m.name).collect()
    }

    /// Whether every live node knows all live nodes, and no other.
    pub fn all_know_all(&self) -> bool {
        let all: BTreeSet<String> = self.live().into_iter().map(|n| format!("node-{n}")).collect();
        self.live().into_iter().all(|n| self.members(n) == all)
    }

    /// What node `n` believes that its peers have in flight, by pod and peer; what weighs nothing is left out.
    pub fn believed(&self, n: usize) -> BTreeMap<(String, String), u32> {
        let view = self.core(n).view(self.local(n));
        let shares = view.pods.into_iter().flat_map(|pod| pod.peers.into_iter().map(move |p| (pod.name.clone(), p)));
        shares.filter(|(_, p)| p.in_flight > 0).map(|(pod, p)| ((pod, p.node), p.in_flight)).collect()
    }

    /// What is really in flight on node `n`'s peers, by pod and peer.
    pub fn truth(&self, n: usize) -> BTreeMap<(String, String), u32> {
        let peers = self.live().into_iter().filter(|peer| *peer != n);
        let counts = peers.flat_map(|peer| {
            let pods = self.core(peer).picker().pods();
            pods.iter()
                .map(|pod| ((pod.name().to_owned(), format!("node-{peer}")), pod.own_in_flight()))
                .collect::<Vec<_>>()
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Whether every live node's view is the truth.
    pub fn views_are_true(&self) -> bool {
        self.live().into_iter().all(|n| self.believed(n) == self.truth(n))
    }

    /// Whether no live node believes that anything is in flight anywhere.
    pub fn all_is_idle(&self) -> bool {
        let idle =
            |n: usize| self.core(n).view(self.local(n)).pods.iter().all(|p| p.in_flight == 0.0 && p.cost_ms == 0.0);
        self.live().into_iter().all(idle)
    }

    /// How many tickets each node's pickers hold, against the ledger: a difference is a leak.
    pub fn own_counts_are_exact(&self) -> bool {
        self.live().into_iter().all(|n| {
            let pods = self.core(n).picker().pods();
            pods.iter().map(|pod| pod.own_in_flight()).eq(self.nodes[n].ledger.iter().copied())
        })
    }

    // ---- What happens ---------------------------------------------------------------------------------------------

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, life, transmit } if self.is(to, life) => {
                if self.nodes[to].paused {
                    self.nodes[to].inbox.push(Happening::Deliver { from, to, life, transmit });
                } else {
                    self.deliver(from, to, &transmit);
                }
            }
            Happening::Send { from, life, transmit } if self.is(from, life) => self.send(from, transmit),
            Happening::Dialed { pair, id } => self.dialed(pair, id),
            Happening::Idle { pair, id } => self.give_up(pair, id),
            Happening::Timer { node, life } if self.is(node, life) => self.timer(node, life),
            Happening::Changes { node, life } if self.is(node, life) => self.changes(node, life),
            Happening::Arrive { node, wave } if wave == self.wave => self.arrive(node),
            Happening::AtPod { ticket } => self.at_pod(ticket),
            Happening::Finish { ticket } => self.finished(ticket),
            _ => {}
        }
    }

    fn is(&self, n: usize, life: u64) -> bool {
        self.nodes[n].core.is_some() && self.nodes[n].life == life
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.happened += 1;
        self.queue.insert((self.now + after, self.happened), happening);
    }

    fn note(&mut self, what: &[u64]) {
        self.trace = what.iter().fold(self.trace, |hash, word| mix(hash.rotate_left(5) ^ word));
    }

    fn deliver(&mut self, from: usize, to: usize, transmit: &Transmit) {
        let bytes = transmit.data.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        self.note(&[from as u64, to as u64, bytes]);
        let (now, transit) = (self.local(to), self.links.measured_transit());
        if let Some(core) = &mut self.nodes[to].core {
            core.handle_message(now, id_of(from), address(from), transmit.channel, &transmit.data, transit);
        }
        self.turn(to);
    }

    /// After anything touched node `n`: carry what it sends, and remember when it wants to be called.
    fn turn(&mut self, n: usize) {
        let (now, started, life) = (self.now, self.nodes[n].started, self.nodes[n].life);
        loop {
            let Some(core) = &mut self.nodes[n].core else { return };
            while let Some(event) = core.poll_event() {
                self.events.push((now, n, event));
            }
            let Some(transmit) = core.poll_transmit() else { break };
            self.send(n, transmit);
        }
        let node = &mut self.nodes[n];
        let Some(core) = &node.core else { return };
        let at = (started + core.next_timeout().since(Time::ZERO)).max(now);
        let sooner = node.timer_at.is_none_or(|timer| at < timer);
        if sooner {
            node.timer_at = Some(at);
        }
        let react = node.woken.0.swap(false, Relaxed) && node.changes_at.is_none();
        if react {
            node.changes_at = Some(now + self.config.reaction);
        }
        if sooner {
            self.later(at.since(now), Happening::Timer { node: n, life });
        }
        if react {
            self.later(self.config.reaction, Happening::Changes { node: n, life });
        }
    }

    fn timer(&mut self, n: usize, life: u64) {
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::Timer { node: n, life });
        }
        if self.nodes[n].timer_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.nodes[n].timer_at = None;
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            core.handle_timeout(now);
        }
        self.turn(n);
    }

    fn changes(&mut self, n: usize, life: u64) {
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::Changes { node: n, life });
        }
        self.nodes[n].changes_at = None;
        let now = self.local(n);
        if let Some(core) = &mut self.nodes[n].core {
            core.handle_changes(now);
        }
        self.turn(n);
    }

    // ---- Connections ----------------------------------------------------------------------------------------------

    fn send(&mut self, from: usize, transmit: Transmit) {
        let Some(to) = (0..self.nodes.len()).find(|n| address(*n) == transmit.addr && *n != from) else { return };
        let pair = pair_of(from, to);
        let lives = (self.nodes[pair.0].life, self.nodes[pair.1].life);
        let own_life = |lives: (u64, u64)| if from == pair.0 { lives.0 } else { lives.1 };
        match self.connections.get_mut(&pair) {
            Some(Connection { waiting: Some(waiting), .. }) => {
                if waiting.len() == DIAL_QUEUE {
                    waiting.pop_front();
                }
                waiting.push_back((from, transmit));
            }
            Some(connection) if connection.lives == lives => self.carry(from, to, transmit),
            // The other end was reborn, and this one has not noticed: what is sent into the old connection is lost.
            Some(connection) if own_life(connection.lives) == own_life(lives) => {}
            _ => self.dial(from, pair, transmit),
        }
    }

    fn carry(&mut self, from: usize, to: usize, transmit: Transmit) {
        let life = self.nodes[to].life;
        let open = self.links.is_open(from, to);
        match transmit.channel {
            Channel::Datagram => {
                let delay = self.links.datagram();
                if let Some(delay) = delay.filter(|_| open) {
                    self.later(delay, Happening::Deliver { from, to, life, transmit });
                }
            }
            Channel::Stream if open => {
                let delay = self.links.stream();
                self.later(delay, Happening::Deliver { from, to, life, transmit });
            }
            // Retransmitted until it gets through or the connection is given up.
            Channel::Stream => {
                let life = self.nodes[from].life;
                self.later(Duration::from_millis(100), Happening::Send { from, life, transmit });
            }
        }
    }

    fn dial(&mut self, from: usize, pair: (usize, usize), transmit: Transmit) {
        if self.redial_at.get(&pair).is_some_and(|at| *at > self.now) {
            return;
        }
        self.happened += 1;
        let id = self.happened;
        let lives = (self.nodes[pair.0].life, self.nodes[pair.1].life);
        let waiting = Some(VecDeque::from([(from, transmit)]));
        self.connections.insert(pair, Connection { id, lives, waiting });
        let round_trip = self.links.delay() + self.links.delay();
        self.later(round_trip, Happening::Dialed { pair, id });
    }

    fn dialed(&mut self, pair: (usize, usize), id: u64) {
        let Some(connection) = self.connections.get_mut(&pair).filter(|c| c.id == id) else { return };
        let up = |n: usize| self.nodes[n].core.is_some() && !self.nodes[n].paused;
        let lives = (self.nodes[pair.0].life, self.nodes[pair.1].life);
        let open = self.links.is_open(pair.0, pair.1) && self.links.is_open(pair.1, pair.0);
        if connection.lives != lives || !up(pair.0) || !up(pair.1) || !open {
            self.connections.remove(&pair);
            self.redial_at.insert(pair, self.now + REDIAL);
            return;
        }
        let waiting = connection.waiting.take().unwrap_or_default();
        for (node, other) in [pair, (pair.1, pair.0)] {
            let now = self.local(node);
            if let Some(core) = &mut self.nodes[node].core {
                core.handle_disconnected(now, id_of(other));
                core.handle_connected(now, id_of(other), address(other));
            }
        }
        for (from, transmit) in waiting {
            self.send(from, transmit);
        }
        self.turn(pair.0);
        self.turn(pair.1);
    }

    /// Connections of the pairs that `which` names may be dead: look when they have been idle for long enough.
    fn watch_connections(&mut self, which: impl Fn((usize, usize)) -> bool) {
        let ids: Vec<_> = self.connections.iter().filter(|(p, _)| which(**p)).map(|(pair, c)| (*pair, c.id)).collect();
        for (pair, id) in ids {
            self.later(IDLE, Happening::Idle { pair, id });
        }
    }

    fn give_up(&mut self, pair: (usize, usize), id: u64) {
        let Some(connection) = self.connections.get(&pair).filter(|c| c.id == id) else { return };
        let lives = connection.lives;
        let open = self.links.is_open(pair.0, pair.1) && self.links.is_open(pair.1, pair.0);
        if open && self.is(pair.0, lives.0) && self.is(pair.1, lives.1) {
            return;
        }
        self.connections.remove(&pair);
        for (node, other, life) in [(pair.0, pair.1, lives.0), (pair.1, pair.0, lives.1)] {
            let now = self.local(node);
            if self.is(node, life)
                && let Some(core) = &mut self.nodes[node].core
            {
                core.handle_disconnected(now, id_of(other));
                self.turn(node);
            }
        }
    }

    // ---- Clients --------------------------------------------------------------------------------------------------

    fn ask_later(&mut self, n: usize) {
        if self.load <= 0.0 {
            return;
        }
        let slots = self.pods.len() as f64 * f64::from(self.config.slots);
        let gap = self.config.sizes.mean().as_secs_f64() * self.nodes.len() as f64 / (self.load * slots);
        let gap = Duration::from_nanos((gap * 1e9 * self.nodes[n].arrivals.exponential()) as u64);
        let wave = self.wave;
        self.later(gap, Happening::Arrive { node: n, wave });
    }

    fn arrive(&mut self, n: usize) {
        let Some(core) = &self.nodes[n].core else { return };
        if self.nodes[n].paused {
            // A stopped process asks for nothing; its clients are served elsewhere.
            return self.ask_later(n);
        }
        let (picker, now) = (core.picker().clone(), self.local(n));
        let ask = self.config.sizes.draw(&mut self.nodes[n].sizes);
        let request = match self.config.costs {
            Costs::Learned => Request::new("model").bytes(ask.bytes),
            Costs::Given => Request::new("model").bytes(ask.bytes).cost(Cost::from_ms(ask.kind_ms).unwrap_or_default()),
        };
        if let Ok(ticket) = picker.pick(now, &request) {
            let pod = ticket.pod().name().trim_start_matches("pod-").parse().unwrap_or(0);
            self.note(&[n as u64, pod as u64]);
            self.nodes[n].ledger[pod] += 1;
            self.happened += 1;
            let id = self.happened;
            self.tickets.insert(id, Live { node: n, pod, ask, ticket, asked_at: self.now });
            let hop = self.hop();
            self.later(hop, Happening::AtPod { ticket: id });
        }
        self.turn(n);
        self.ask_later(n);
    }

    fn at_pod(&mut self, ticket: u64) {
        let Some(live) = self.tickets.get(&ticket) else { return };
        let done = self.pods[live.pod].serve(self.now, live.ask.service);
        let hop = self.hop();
        self.later(done.since(self.now) + hop, Happening::Finish { ticket });
    }

    fn finished(&mut self, ticket: u64) {
        let Some(node) = self.tickets.get(&ticket).map(|live| live.node) else { return };
        if self.nodes[node].paused {
            return self.nodes[node].inbox.push(Happening::Finish { ticket });
        }
        let Some(live) = self.tickets.remove(&ticket) else { return };
        self.nodes[node].ledger[live.pod] -= 1;
        self.done.push((live.asked_at, self.now.since(live.asked_at)));
        live.ticket.finish(self.local(node), Outcome::Served);
        self.turn(node);
    }

    /// Between a caller and a pod, one way: 0.2 to 1 ms.
    fn hop(&mut self) -> Duration {
        Duration::from_nanos(200_000 + self.pod_link.below(800_001))
    }
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 256) as u8, (n % 256) as u8], 7600))
}

fn id_of(n: usize) -> NodeId {
    NodeId::of(&format!("node-{n}"))
}

fn pair_of(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
