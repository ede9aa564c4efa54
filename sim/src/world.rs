//! The world: nodes with the product's core in them, links, pods, clients, and the queue of what happens next.
//!
//! It stands where the driver stands in the product, and like the driver it decides nothing: it turns the cores, carries
//! what they send, and keeps a ledger of what is really in flight. Every node has a clock of its own that starts at its
//! start and may run fast or slow, so nothing can compare two nodes' times unnoticed.

mod ask;
mod carry;
mod fault;
mod gauge;
mod health;
mod hostile;
mod node;
mod outside;
mod pods;
mod sight;
mod tally;
mod tap;

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll::core::Event;
use plimsoll::id::NodeId;
use plimsoll::observe::{Cost, PodSpec};
use plimsoll::pick::{Looks, Outcome, Readmission, Request, Ticket};
use plimsoll::time::Time;
use slab::Slab;

use self::ask::{Answer, Asked, Key, Recording};
pub use self::ask::{Done, End};
use self::carry::{Carried, Connections};
use self::fault::{Trouble, Undo};
pub(crate) use self::node::FormerLife;
use self::node::SimNode;
use self::outside::Outside;
use self::pods::SimPod;
use self::tally::Tally;
use self::tap::Tap;
use crate::check::Marks;
use crate::config::Config;
use crate::fault::Fault;
use crate::law::Sizes;
use crate::link::Links;
use crate::queue::Queue;
use crate::trace::Trace;

/// Something that must never be and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose rule it breaks.
    pub checker: &'static str,
    /// When.
    pub at: Time,
    /// On which node, where it is one's.
    pub node: Option<usize>,
    /// At which pod, where it is one's.
    pub pod: Option<usize>,
    /// What should have been, what was.
    pub what: String,
}

/// How many failures are kept: the first one counts, and a broken world finds thousands.
const MOST_FAILURES: usize = 16;

enum Happening {
    Deliver { from: u32, to: u32, life: u32, carried: Carried },
    Resend { from: u32, to: u32, life: u32, carried: Carried },
    Dialed { pair: (u32, u32), id: u64 },
    Idle { pair: (u32, u32), id: u64 },
    Timer { node: u32, life: u32 },
    Changes { node: u32, life: u32 },
    Arrive { node: u32, wave: u32 },
    Recorded { arrival: usize, wave: u32 },
    AtPod { request: Key, pod_life: u32 },
    Server { pod: u32, life: u32 },
    Answer { request: Key, answer: Answer },
    GiveUp { request: Key },
    Probe { node: u32, life: u32, pod: u32, schedule: Box<Readmission> },
    Question { request: Key, asked: Time },
    Placed { request: Key, asked: Time, pod: u32, cost_us: u64 },
    NoAnswer { request: Key, asked: Time },
    GiveBack { pod: u32, cost_us: u64 },
    Learn { node: u32, life: u32, pod: u32 },
    Look { node: u32, life: u32, pod: u32, looks: Box<Looks> },
    Lives { node: u32, life: u32, pod: u32, asked: Time },
    Gauge { node: u32, life: u32, pod: u32, asked: Time },
    Fault(Box<Fault>),
    Undo(Box<Undo>),
}

/// See the module's description.
pub struct World {
    config: Config,
    sizes: Sizes,
    /// Arrivals from a file, where they do not come by chance.
    recorded: Option<Recording>,
    now: Time,
    queue: Queue<Happening>,
    nodes: Vec<SimNode>,
    pods: Vec<SimPod>,
    links: Links,
    connections: Connections,
    requests: Slab<Asked>,
    /// Who decides, where nodes do not.
    outside: Option<Outside>,
    /// Numbers requests and connections.
    serial: u64,
    load: f64,
    surge_percent: u32,
    service_percent: u32,
    wave: u32,
    silenced: Vec<bool>,
    /// What weighs on all links now, by number.
    troubles: Vec<(u64, Trouble)>,
    /// Whether the ending has begun: no fault strikes any more, and none passes.
    settled: bool,
    tally: Tally,
    tap: Tap,
    /// How often each rule was looked at.
    pub marks: Marks,
    /// The rolling hash of all that happened.
    pub trace: Trace,
    /// Messages, timers, changes, connections, picks and ends of tickets that cores were told of.
    pub inputs: u64,
    /// What the cores told operators: when, which node, what.
    pub events: Vec<(Time, usize, Event)>,
    /// Requests that ended, in order of their ends.
    pub done: Vec<Done>,
    /// How often each kind of fault struck.
    pub struck: BTreeMap<&'static str, u64>,
    /// What must never be and was, the first first.
    pub failures: Vec<Failure>,
}

impl World {
    /// All nodes start at once, and nothing is asked of them yet.
    ///
    /// # Panics
    /// Where the config names files that cannot be read: [`Config::check`] and [`Config::check_sources`] say so before.
    pub fn new(config: Config) -> World {
        let config = outside::fleet_of(config);
        let sizes = config.law.load().expect("whoever makes a world has loaded its law before");
        let seed = config.seed;
        let mut world = World {
            now: Time::ZERO,
            queue: Queue::default(),
            nodes: (0..config.nodes).map(|n| SimNode::new(&config, n)).collect(),
            pods: (0..config.pods).map(|k| SimPod::new(&config, k)).collect(),
            links: Links::new(config.link, seed, config.nodes),
            connections: Connections::new(config.nodes),
            requests: Slab::new(),
            outside: Outside::of(&config),
            serial: 0,
            load: 0.0,
            surge_percent: 100,
            service_percent: 100,
            wave: 0,
            silenced: vec![false; config.nodes],
            troubles: Vec::new(),
            settled: false,
            tally: Tally::new(&config),
            tap: Tap::default(),
            marks: Marks::default(),
            struck: BTreeMap::new(),
            trace: Trace::default(),
            inputs: 0,
            events: Vec::new(),
            done: Vec::new(),
            failures: Vec::new(),
            recorded: ask::recording(&config),
            sizes,
            config,
        };
        (0..world.config.nodes).for_each(|n| world.start(n, 100));
        world
    }

    // ---- What a test or a plan does -------------------------------------------------------------------------------

    /// From now on clients ask for this share of what the pods can do; 0 for silence.
    pub fn set_load(&mut self, load: f64) {
        self.load = load;
        self.wave += 1;
        match &self.recorded {
            Some(_) if load > 0.0 => self.play_recording(),
            Some(_) => {}
            None => (0..self.nodes.len()).for_each(|n| self.ask_later(n)),
        }
    }

    /// The clients of node `n` ask for nothing any more, or again.
    pub fn silence(&mut self, n: usize, silent: bool) {
        self.silenced[n] = silent;
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

    /// Has `fault` happen in `after`.
    pub fn plan(&mut self, after: Duration, fault: Fault) {
        self.later(after, Happening::Fault(Box::new(fault)));
    }

    /// Runs for `span`.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, happening)) = self.queue.pop_until(end) {
            self.now = at;
            self.happen(happening);
            if self.failures.len() >= MOST_FAILURES {
                // Enough is known, and a node that spins would never let the time pass.
                break;
            }
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

    /// Notes that a rule was broken.
    pub fn fail(&mut self, checker: &'static str, node: Option<usize>, pod: Option<usize>, what: String) {
        if self.failures.len() < MOST_FAILURES {
            self.failures.push(Failure { checker, at: self.now, node, pod, what });
        }
    }

    // ---- What happens ---------------------------------------------------------------------------------------------

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, life, carried } => self.arrived(from, to, life, carried),
            Happening::Resend { from, to, life, carried } => self.resend(from, to, life, carried),
            Happening::Dialed { pair, id } => self.dialed(pair, id),
            Happening::Idle { pair, id } => self.give_up(pair, id),
            Happening::Timer { node, life } => self.timer(node as usize, life),
            Happening::Changes { node, life } => self.changes(node as usize, life),
            Happening::Arrive { node, wave } if wave == self.wave => self.arrive(node as usize),
            Happening::Recorded { arrival, wave } if wave == self.wave => self.arrive_recorded(arrival),
            Happening::Arrive { .. } | Happening::Recorded { .. } => {}
            Happening::AtPod { request, pod_life } => self.at_pod(request, pod_life),
            Happening::Server { pod, life } => self.serve(pod as usize, life),
            Happening::Answer { request, answer } => self.answered(request, answer),
            Happening::GiveUp { request } => self.caller_gives_up(request),
            Happening::Probe { node, life, pod, schedule } => self.probe(node as usize, life, pod as usize, schedule),
            Happening::Question { request, asked } => self.question(request, asked),
            Happening::Placed { request, asked, pod, cost_us } => self.placed(request, asked, pod as usize, cost_us),
            Happening::NoAnswer { request, asked } => self.no_answer(request, asked),
            Happening::GiveBack { pod, cost_us } => self.give_back(pod as usize, cost_us),
            Happening::Learn { node, life, pod } => self.learn_pod(node as usize, life, pod as usize),
            Happening::Look { node, life, pod, looks } => self.look(node as usize, life, pod as usize, looks),
            Happening::Lives { node, life, pod, asked } => self.lives(node as usize, life, pod as usize, asked),
            Happening::Gauge { node, life, pod, asked } => self.gauge(node as usize, life, pod as usize, asked),
            Happening::Fault(fault) => self.strike(*fault),
            Happening::Undo(undo) => self.undo(*undo),
        }
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.queue.push(self.now + after, happening);
    }

    fn note(&mut self, what: &'static str, words: [u64; 3]) {
        self.trace.note(self.now, what, words);
    }
}

fn id_of(n: usize) -> NodeId {
    NodeId::of(&format!("node-{n}"))
}
