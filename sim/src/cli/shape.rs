//! The shape of a fleet, as flags: each overrides what a world's file says.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll_sim::arrivals::Arrivals;
use plimsoll_sim::files::Trace;
use plimsoll_sim::law::Law;
use plimsoll_sim::plan::{LONGEST_MS, line_and_words, line_of};
use plimsoll_sim::server::{BatchLaw, Batching};
use plimsoll_sim::{BadValue, Config, Costs, Join, Policy, Share};

/// A fleet's shape.
#[derive(Args, Clone, Debug)]
pub(crate) struct Shape {
    /// A file with the world to start from, as the `[world]` of a plan has it; the flags below override it
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Decides everything left to chance [default: 7]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Callers [default: 4]
    #[arg(long)]
    nodes: Option<usize>,
    /// Pods [default: 8]
    #[arg(long)]
    pods: Option<usize>,
    /// Requests a pod runs at once [default: 1]
    #[arg(long)]
    slots: Option<u32>,
    /// Share of what the pods can do that callers ask for [default: 0.8]
    #[arg(long, value_parser = load)]
    pub(crate) load: Option<f64>,
    /// How long callers ask, in virtual time
    #[arg(long, default_value_t = 60, value_parser = seconds)]
    pub(crate) seconds: u64,
    /// How long requests run: bimodal, exponential:MS, lognormal:MS:SIGMA, constant:MS, histogram:FILE or trace:FILE
    #[arg(long, value_name = "LAW", value_parser = law)]
    law: Option<Law>,
    /// When they come: poisson, bursty, spikes, or trace:FILE
    #[arg(long, value_name = "HOW", value_parser = arrivals)]
    arrivals: Option<Arrivals>,
    /// Where a request's cost comes from: learned (as in production) or given (known exactly)
    #[arg(long, value_parser = costs)]
    costs: Option<Costs>,
    /// With given costs: the sigma of a lognormal error on each
    #[arg(long, value_name = "SIGMA")]
    cost_error: Option<f64>,
    /// How unevenly callers ask: the k-th asks for 1 / k^ZIPF of what the first does [default: 0, evenly]
    #[arg(long)]
    zipf: Option<u32>,
    /// How fast pods are, in percent, in turn: such as 140,60 [default: all alike]
    #[arg(long, value_name = "PERCENTS", value_delimiter = ',')]
    speeds: Option<Vec<u32>>,
    /// Share of datagrams lost between nodes
    #[arg(long, value_name = "SHARE")]
    loss: Option<Share>,
    /// Least time between nodes, one way, µs [default: 200]
    #[arg(long)]
    delay_us: Option<u64>,
    /// At most this more, µs [default: 800]
    #[arg(long)]
    jitter_us: Option<u64>,
    /// Gossip budget per node, bit/s [default: 1000000]
    #[arg(long)]
    budget_bits: Option<u64>,
    /// Pods that each node uses where there are more; 0 for all [default: 64]
    #[arg(long, value_name = "COUNT")]
    subset: Option<usize>,
    /// Users of a pod above which small news goes by relays; 0: never [default: 100]
    #[arg(long, value_name = "COUNT")]
    direct: Option<usize>,
    /// There, even where that is worth nothing
    #[arg(long)]
    always_relay: bool,
    /// How long a pod that is new, or back, takes part in a growing share of the picks only, ms; 0: in all at once [default:
    /// 10000]
    #[arg(long, value_name = "MS")]
    slow_start_ms: Option<u64>,
    /// Failures in a row after which a node leaves a pod alone for a model; 0: never [default: 5]
    #[arg(long, value_name = "COUNT")]
    failures: Option<u32>,
    /// Nodes read what waits at the pods where they cancelled requests
    #[arg(long)]
    gauges: bool,
    /// Nodes that everybody is told to join [default: all, but 3 in fleets of more than 200]
    #[arg(long, value_name = "COUNT")]
    join: Option<usize>,
    /// Requests that may wait at a pod before it refuses
    #[arg(long)]
    max_queue: Option<u32>,
    /// How often a request that was refused is picked for again [default: 0]
    #[arg(long, value_name = "COUNT")]
    retries: Option<u32>,
    /// After those, have the last pod take it whatever its queue is, instead of telling the caller
    #[arg(long)]
    insist: bool,
    /// How pods batch: padded:MAX[:SLOPE] (as long as the longest, and SLOPE of it more for each other; 0.15) or
    /// additive:MAX:FIXED_MS:PER (FIXED_MS, and PER of the sum)
    #[arg(long, value_name = "LAW", value_parser = batching)]
    batching: Option<Batching>,
    /// To a Redis and back, where the policy has one, µs [default: 500]
    #[arg(long)]
    redis_rtt_us: Option<u64>,
    /// Shards of strict mode, where the policy is that; 0: one for 50 pods, two at least [default: 0]
    #[arg(long)]
    shards: Option<u16>,
    /// How long a pick of strict mode waits for an owner, µs [default: 2000]
    #[arg(long)]
    strict_timeout_us: Option<u64>,
}

impl Shape {
    /// The world of this shape.
    pub(crate) fn config(&self) -> Result<Config, Box<dyn Error>> {
        let Some(path) = &self.world else { return self.over(Config::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let written = read(path, &text)?;
        let alone = written.check().err();
        self.over(written).map_err(|error| match error.downcast_ref::<BadValue>() {
            // What no flag mended is the file's.
            Some(value) if alone.as_ref() == Some(value) => {
                let line = line_of(&text, value.field).map_or(String::new(), |line| format!(" line {line}"));
                format!("{}{line}: {error}", path.display()).into()
            }
            _ => error,
        })
    }

    /// The same with other numbers of nodes and pods.
    pub(crate) fn sized(&self, nodes: usize, pods: usize) -> Shape {
        Shape { nodes: Some(nodes), pods: Some(pods), ..self.clone() }
    }

    /// `config` with what the flags say.
    fn over(&self, mut config: Config) -> Result<Config, Box<dyn Error>> {
        let shape = self.clone();
        set(&mut config.seed, shape.seed);
        set(&mut config.nodes, shape.nodes);
        set(&mut config.pods, shape.pods);
        set(&mut config.server.slots, shape.slots);
        set(&mut config.load, shape.load);
        set(&mut config.law, shape.law);
        set(&mut config.arrivals, shape.arrivals);
        set(&mut config.clients.costs, shape.costs);
        set(&mut config.clients.cost_error, shape.cost_error);
        set(&mut config.clients.zipf, shape.zipf);
        set(&mut config.server.speeds, shape.speeds);
        set(&mut config.link.loss, shape.loss);
        set(&mut config.link.delay_us, shape.delay_us);
        set(&mut config.link.jitter_us, shape.jitter_us);
        set(&mut config.budget_bits, shape.budget_bits);
        set(&mut config.subset, shape.subset);
        set(&mut config.direct, shape.direct);
        config.always_relay |= shape.always_relay;
        config.gauges |= shape.gauges;
        set(&mut config.slow_start_ms, shape.slow_start_ms);
        set(&mut config.failures, shape.failures);
        set(&mut config.redis.rtt_us, shape.redis_rtt_us);
        set(&mut config.strict.shards, shape.shards);
        set(&mut config.strict.timeout_us, shape.strict_timeout_us);
        set(&mut config.clients.retries, shape.retries);
        config.clients.insist |= shape.insist;
        match shape.join {
            Some(0) => return Err("--join `0` would leave every node alone: name at least 1".into()),
            Some(count) => config.join = Join::First(count),
            // A thousand nodes that each greet all others at once tell each other of a thousand members, a million times.
            None if config.nodes > GREET_ALL && config.join == Join::All => config.join = Join::First(3),
            None => {}
        }
        if shape.max_queue.is_some() {
            config.server.max_queue = shape.max_queue;
        }
        if shape.batching.is_some() {
            config.server.batching = shape.batching;
        }
        config.check_sources()?;
        if let Arrivals::Recorded { file } = &config.arrivals {
            if self.load.is_some() {
                return Err("--load: recorded arrivals come at a load of their own: leave it out".into());
            }
            config.load = config.recorded_load(&Trace::read(file)?)?;
        }
        config.check()?;
        Ok(config)
    }

    /// The same with another policy.
    pub(crate) fn with_policy(&self, policy: Policy) -> Result<Config, Box<dyn Error>> {
        Ok(Config { policy, gossip: policy.gossips(), ..self.config()? })
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// Larger fleets join a few.
const GREET_ALL: usize = 200;

fn read(path: &Path, text: &str) -> Result<Config, Box<dyn Error>> {
    toml::from_str(text).map_err(|error| {
        let (line, what) = line_and_words(text, &error);
        format!("{} line {line}: {what}", path.display()).into()
    })
}

/// A load that callers can ask for.
pub(crate) fn load(text: &str) -> Result<f64, String> {
    let load = text.trim().parse::<f64>().ok().filter(|load| *load > 0.0);
    load.ok_or_else(|| format!("`{text}` is no load: write a share of what the pods can do, such as 0.85"))
}

fn seconds(text: &str) -> Result<u64, String> {
    let most = LONGEST_MS / 1000;
    let seconds = text.trim_end_matches('s').parse().ok().filter(|seconds| (1..=most).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` is no time: write whole seconds, from 1 to {most} (a day)"))
}

fn law(text: &str) -> Result<Law, String> {
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("`{text}` is no number of milliseconds"));
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["bimodal"] => Ok(Law::default()),
        ["exponential", ms] => Ok(Law::Exponential { mean_ms: number(ms)?, predictable: true }),
        ["lognormal", ms, sigma] => {
            Ok(Law::Lognormal { mean_ms: number(ms)?, sigma: number(sigma)?, predictable: true })
        }
        ["constant", ms] => Ok(Law::Constant { mean_ms: number(ms)? }),
        ["histogram", file] if !file.is_empty() => Ok(Law::Histogram { file: file.into(), predictable: true }),
        ["trace", file] if !file.is_empty() => Ok(Law::Recorded { file: file.into() }),
        _ => Err("take bimodal, exponential:MS, lognormal:MS:SIGMA, constant:MS, histogram:FILE or trace:FILE".into()),
    }
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    match text.split_once(':') {
        None if text == "poisson" => Ok(Arrivals::Poisson),
        None if text == "bursty" => Ok(Arrivals::Bursty { swing: Share::millionths(500_000), dwell_ms: 200 }),
        None if text == "spikes" => Ok(Arrivals::Spikes { factor: 5, every_ms: 30_000, lasts_ms: 1000 }),
        Some(("trace", file)) if !file.is_empty() => Ok(Arrivals::Recorded { file: file.into() }),
        _ => Err("take poisson, bursty, spikes or trace:FILE".into()),
    }
}

fn batching(text: &str) -> Result<Batching, String> {
    fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
        text.parse().map_err(|_| format!("`{text}` is no such number"))
    }
    let of = |max: &str, law| Ok(Batching { max: number(max)?, law, ..Batching::default() });
    match text.split(':').collect::<Vec<_>>()[..] {
        ["padded", max] => of(max, BatchLaw::default()),
        ["padded", max, slope] => of(max, BatchLaw::Padded { slope: number(slope)? }),
        ["additive", max, fixed, per] => of(max, BatchLaw::Additive { fixed_ms: number(fixed)?, per: number(per)? }),
        _ => Err("take padded:MAX, padded:MAX:SLOPE or additive:MAX:FIXED_MS:PER".into()),
    }
}

fn costs(text: &str) -> Result<Costs, String> {
    match text {
        "learned" => Ok(Costs::Learned),
        "given" => Ok(Costs::Given),
        _ => Err("take learned or given".into()),
    }
}
