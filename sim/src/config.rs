//! What a world is made of, as people write it down: every field has a default and a unit in its name.

use plimsoll::core::{DIRECT, Health, SLOW_START, SUBSET};
use plimsoll::gossip::wire::MAX_SHARDS;
use plimsoll::observe::PodSpec;
use serde::{Deserialize, Serialize};

use crate::arrivals::Arrivals;
use crate::bad::{BadValue, within};
use crate::exact::Redis;
use crate::files::Trace;
use crate::law::{self, Law};
use crate::link::Link;
use crate::policy::Policy;
use crate::rng::{Rng, Share};
use crate::server::ServerSpec;

/// Nodes and pods that a world can have: beyond, its tables of pairs would not fit a machine.
pub const MOST: usize = 2000;

/// What a world is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many pods.
    pub pods: usize,
    /// How picks are made.
    pub policy: Policy,
    /// Whether nodes gossip. Policies that look at nothing but their own tickets do as well without, for far fewer bytes.
    pub gossip: bool,
    /// Clients ask for this share of what the pods can do, one request after the other on every slot.
    pub load: f64,
    /// Each node's gossip budget, bit/s.
    pub budget_bits: u64,
    /// How many pods each node uses where there are more; 0 for all.
    pub subset: usize,
    /// Small news goes by relays where a pod has more users than this; 0: never.
    pub direct: usize,
    /// There, even where that is worth nothing.
    pub always_relay: bool,
    /// How long a pod that is new, or back, takes part in a growing share of the picks only, ms; 0: in all at once.
    pub slow_start_ms: u64,
    /// So many failures in a row have a node leave a pod alone for a model; 0: never.
    pub failures: u32,
    /// Whether nodes read what waits at the pods where they cancelled requests.
    pub gauges: bool,
    /// Whom each node is told to join.
    pub join: Join,
    /// From a pick to the core's looking at it, µs.
    pub reaction_us: u64,
    /// The nodes' clocks run fast or slow by up to this, in parts per million.
    pub drift_ppm: u32,
    /// The least time between a node and a pod, one way, µs.
    pub hop_us: u64,
    /// At most this more, µs.
    pub hop_jitter_us: u64,
    /// The first requests of a pod that starts again, so many of them, take longer.
    pub cold_requests: u32,
    /// This much, in percent of their usual time.
    pub cold_percent: u32,
    /// How long requests run.
    pub law: Law,
    /// When they come.
    pub arrivals: Arrivals,
    /// What clients do.
    pub clients: Clients,
    /// The links between nodes.
    pub link: Link,
    /// Each pod as a server.
    pub server: ServerSpec,
    /// The store, where the policy has one.
    pub redis: Redis,
    /// Strict mode, where the policy is that.
    pub strict: Strict,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            seed: 7,
            nodes: 4,
            pods: 8,
            policy: Policy::default(),
            gossip: true,
            load: 0.8,
            budget_bits: 1_000_000,
            subset: SUBSET,
            direct: DIRECT,
            always_relay: false,
            slow_start_ms: SLOW_START.as_millis() as u64,
            failures: Health::default().failures,
            gauges: false,
            join: Join::All,
            reaction_us: 20,
            drift_ppm: 0,
            hop_us: 200,
            hop_jitter_us: 800,
            cold_requests: 0,
            cold_percent: 1000,
            law: Law::default(),
            arrivals: Arrivals::default(),
            clients: Clients::default(),
            link: Link::default(),
            server: ServerSpec::default(),
            redis: Redis::default(),
            strict: Strict::default(),
        }
    }
}

/// Strict mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strict {
    /// A pick waits no longer than this for an owner, µs.
    pub timeout_us: u64,
    /// How many shards; 0 for as many as the product makes of so many pods.
    pub shards: u16,
}

impl Default for Strict {
    fn default() -> Strict {
        Strict { timeout_us: 2000, shards: 0 }
    }
}

/// Whom a node is told to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Everybody.
    #[default]
    All,
    /// The first so many nodes.
    First(usize),
    /// The next node, the last one the first.
    Ring,
    /// As many others as named, drawn by chance.
    Some(usize),
    /// For each node a list of its own.
    Lists(Vec<Vec<usize>>),
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clients {
    /// Where a pick's cost comes from.
    pub costs: Costs,
    /// With given costs: the sigma of a lognormal error on each.
    pub cost_error: f64,
    /// Whether nodes tell each other what they learned of costs.
    pub tell_costs: bool,
    /// The share of requests whose bytes are their own; the rest look like any other, so that the less it is, the less
    /// can be learned from bytes.
    pub bytes_tell: Share,
    /// The share of requests whose caller gives up, at a moment between the pick and four times the mean service.
    pub cancel: Share,
    /// Callers wait no longer than this, ms.
    pub deadline_ms: Option<u64>,
    /// A request that was refused by a full queue is picked for again this often.
    pub retries: u32,
    /// After those, the last pod takes it all the same, whatever its queue: a priority with a queue of its own. If not, its
    /// caller sees the refusal.
    pub insist: bool,
    /// How unevenly callers ask: the k-th asks for 1 / k^zipf of what the first does (Zipf's law); 0 is evenly.
    #[serde(skip_serializing_if = "is_zero")]
    pub zipf: u32,
    /// Requests are spread over so many models.
    pub models: usize,
    /// Each model is served by this share of the pods (by all for 1; always by one at least).
    pub served_by: Share,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            costs: Costs::Learned,
            cost_error: 0.0,
            tell_costs: true,
            bytes_tell: Share::ALWAYS,
            cancel: Share::NEVER,
            deadline_ms: None,
            retries: 0,
            insist: false,
            zipf: 0,
            models: 1,
            served_by: Share::ALWAYS,
        }
    }
}

impl Clients {
    /// The share of all requests that node `n` of `nodes` asks for.
    pub fn share(&self, n: usize, nodes: usize) -> f64 {
        let weight = |k: usize| (0..self.zipf).fold(1.0, |weight, _| weight / (k + 1) as f64);
        if self.zipf == 0 { 1.0 / nodes as f64 } else { weight(n) / (0..nodes).map(weight).sum::<f64>() }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a picker is told of a request's cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Costs {
    /// Its bytes: the cost is learned, as in production.
    #[default]
    Learned,
    /// The mean of its kind, times the error.
    Given,
}

/// The `k`-th pod as nodes know it.
pub fn spec(k: usize, slots: u32) -> PodSpec {
    let mut spec = PodSpec::new(format!("pod-{k}"), format!("http://10.1.{}.{}:8001", k / 256, k % 256));
    spec.slots = slots;
    spec
}

impl Config {
    /// Whether a world can be made of this.
    ///
    /// # Errors
    /// The first setting that makes none, and what would.
    pub fn check(&self) -> Result<(), BadValue> {
        let count = |field, number: usize, most: usize, remedy| match number {
            0 => Err(BadValue::new(field, 0, "makes no world", remedy)),
            n if n > most => Err(BadValue::new(field, n, "is too many", remedy)),
            _ => Ok(()),
        };
        count("nodes", self.nodes, MOST, "1 to 2000")?;
        count("pods", self.pods, MOST, "1 to 2000")?;
        count("clients.models", self.clients.models, 1000, "1 to 1000")?;
        self.check_load()?;
        within("drift_ppm", f64::from(self.drift_ppm), (0.0, 100_000.0), "at most 100000, a tenth")?;
        within("clients.cost_error", self.clients.cost_error, (0.0, 3.0), "a sigma from 0 to 3")?;
        within("cold_percent", f64::from(self.cold_percent), (1.0, 1e6), "1 to 1000000; 1000 is ten times as long")?;
        within("clients.zipf", f64::from(self.clients.zipf), (0.0, 3.0), "a whole exponent from 0 (evenly) to 3")?;
        if self.budget_bits == 0 {
            return Err(BadValue::new("budget_bits", 0, "lets nothing be told", "1 or more; 1000000 is the default"));
        }
        if self.clients.deadline_ms == Some(0) {
            return Err(BadValue::new("clients.deadline_ms", 0, "is over at once", "1 or more, or leave it out"));
        }
        if let Join::Lists(lists) = &self.join
            && (lists.len() != self.nodes || lists.iter().flatten().any(|n| *n >= self.nodes))
        {
            let problem = "does not fit the nodes";
            return Err(BadValue::new(
                "join.lists",
                format!("{lists:?}"),
                problem,
                "a list of existing nodes for each node",
            ));
        }
        within("clients.retries", f64::from(self.clients.retries), (0.0, 16.0), "at most 16 other pods")?;
        within("slow_start_ms", self.slow_start_ms as f64, (0.0, 3.6e6), "at most 3600000, an hour")?;
        within("failures", f64::from(self.failures), (0.0, 1000.0), "at most 1000; 0 for never")?;
        let timeout_us = self.strict.timeout_us as f64;
        within("strict.timeout_us", timeout_us, (100.0, 1e6), "100 to 1000000, a second")?;
        let shards = f64::from(self.strict.shards);
        within(
            "strict.shards",
            shards,
            (0.0, f64::from(MAX_SHARDS)),
            "at most 1024, or 0 for as many as fit the pods",
        )?;
        self.arrivals.check()?;
        self.server.check()?;
        self.redis.check()?;
        self.link.check()
    }

    /// Whether what it names can be drawn from: a law within its bounds, files that can be read.
    ///
    /// # Errors
    /// The first value, or line of a file, that is wrong.
    pub fn check_sources(&self) -> Result<(), law::Error> {
        self.law.load()?;
        if let Arrivals::Recorded { file } = &self.arrivals {
            Trace::read(file)?;
        }
        Ok(())
    }

    /// The addresses that node `n` is told to join, by the nodes that have them in the beginning.
    pub fn joins(&self, n: usize) -> Vec<usize> {
        let nodes = self.nodes;
        let some = |count: usize| {
            let mut chance = Rng::new(self.seed, "join", n as u64);
            (0..count).map(|_| chance.below(nodes as u64) as usize).collect::<Vec<_>>()
        };
        match &self.join {
            Join::All => (0..nodes).collect(),
            Join::First(count) => (0..(*count).min(nodes)).collect(),
            Join::Ring => vec![(n + 1) % nodes],
            // The first is everybody's, so that one cluster can come of it at all.
            Join::Some(count) => [vec![0], some(*count)].concat(),
            Join::Lists(lists) => lists[n].clone(),
        }
    }

    /// The share of what the pods can do that a recording asks for, if its requests run as long as it says.
    ///
    /// # Errors
    /// One without requests, or with requests of nodes that are not there.
    pub fn recorded_load(&self, trace: &Trace) -> Result<f64, BadValue> {
        let Some(last) = trace.arrivals.last() else {
            return Err(BadValue::new(
                "arrivals.file",
                "no request",
                "asks for nothing",
                "name a recording with requests",
            ));
        };
        if let Some(one) = trace.arrivals.iter().find(|one| one.node >= self.nodes) {
            let (problem, remedy) =
                ("is a node that is not there", "have more nodes, or renumber those of the recording");
            return Err(BadValue::new("arrivals.file: node", one.node, problem, remedy));
        }
        let asked: f64 = trace.arrivals.iter().map(|one| one.service.as_secs_f64()).sum();
        let slots = self.server.slots_of(self.pods);
        Ok(asked / (last.at.as_secs_f64().max(1e-3) * slots.max(1.0)))
    }

    /// From 1 on queues grow without end, unless something ends them: then the length of the run makes the numbers.
    fn check_load(&self) -> Result<(), BadValue> {
        within("load", self.load, (0.0, 1000.0), "a share of what the pods can do, such as 0.8")?;
        let endless =
            self.server.batching.is_none() && self.server.max_queue.is_none() && self.clients.deadline_ms.is_none();
        if self.load >= 1.0 && endless {
            let problem = "grows queues without end, so that the length of the run would make the numbers";
            let remedy = "below 1, or give pods a queue limit or batching, or callers a deadline";
            return Err(BadValue::new("load", self.load, problem, remedy));
        }
        Ok(())
    }
}
