//! What a demo is to do: the arguments as they were given, checked once, and turned into a plan that holds.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use plimsoll_files::{self as files, FileError};

use super::figures::rounded;
use super::model::Model;
use super::store::Redis;
use super::trace::{self, Trace};
use crate::redis::NoRedisAddress;

/// The policies that a node knows, and picks by the word of a Redis that all nodes share.
pub(super) const POLICIES: [&str; 7] =
    [PLIMSOLL, "least_cost", "least_in_flight", "p2c", "round_robin", "random", REDIS];

/// See [`Redis`].
pub(super) const REDIS: &str = "redis";

/// The policy that the ratio is about.
pub(super) const PLIMSOLL: &str = "plimsoll";

/// Pods that the demo starts when it is not told. Eight are enough for round robin to go wrong often, and few enough
/// for two cores.
const PODS: usize = 8;

/// Above it a queue has hardly time to drain, and from 1 on it grows for as long as the run lasts: its length, not
/// the policy, would make the numbers.
const MAX_LOAD: f64 = 0.95;

/// A shorter phase has no second of its own per bar; a longer one needs a benchmark, not a demo.
const SECONDS: std::ops::RangeInclusive<u64> = 2..=600;

/// How long a trace is that nobody recorded.
const DRAWN_SECONDS: u64 = 20;

/// A payload that every machine holds a few hundred times over.
const MAX_BYTES: u64 = 16 << 20;

/// Processes that a laptop starts without a thought.
const MAX_NODES: usize = 32;
const MAX_PODS: usize = 256;

/// The arguments of `plimsoll demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Pods to start [default: 8]
    #[arg(long, value_name = "N")]
    pub pods: Option<usize>,
    /// Play against a pod that already runs, such as http://10.0.0.7:8001; repeat it for more
    #[arg(long = "pod", value_name = "URL")]
    pub pod: Vec<String>,
    /// Gossip nodes, each a process of its own
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub nodes: usize,
    /// Work that arrives, as a share of what the pods can do
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    pub load: f64,
    /// Play a recording instead, a CSV file with the header at_us,node,model,bytes,service_us: every request takes its
    /// service_us on a slot, all are asked of --model, and node counts from 0 (of more nodes than --nodes, each plays
    /// several)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["load", "seed"])]
    pub trace: Option<PathBuf>,
    /// Length of the trace that is played once for each policy; its first tenth warms up and is not measured [default:
    /// 20, or all of --trace]
    #[arg(long, value_name = "S")]
    pub seconds: Option<u64>,
    /// Decides the arrivals; the same seed plays the same trace
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Policies to play the trace through, in this order; the ratio is plimsoll over the first other one
    #[arg(long, value_delimiter = ',', default_value = "round_robin,plimsoll")]
    pub policies: Vec<String>,
    /// The Redis that the policy `redis` asks, such as redis://10.0.0.7:6379 [default: a redis-server of the demo's own]
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Requests that each pod runs at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub slots: NonZeroUsize,
    /// Model to ask; it must keep the contract of sim_gpu (see tests/triton)
    #[arg(long, value_name = "NAME", default_value = "sim_gpu")]
    pub model: String,
    /// Where to write the report
    #[arg(long, value_name = "PATH", default_value = "plimsoll-demo.html")]
    pub report: PathBuf,
    /// Print the figures as JSON, and nothing else, on standard output
    #[arg(long)]
    pub json: bool,
}

/// An argument that makes no sense. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no load, or more than queues survive.
    #[error(
        "`--load {0:?}`: must be above 0 and at most {MAX_LOAD}; beyond that queues grow for as long as the run lasts, and \
         the figures would tell its length"
    )]
    Load(f64),
    /// No pods, or more than one machine can play.
    #[error("`--pods {0}`: must be 1 to {MAX_PODS}")]
    Pods(usize),
    /// Both ways to have pods at once.
    #[error("`--pods {0}` and `--pod` exclude each other: leave out --pods to play against running pods")]
    PodsTwice(usize),
    /// No nodes, or more than one machine can play.
    #[error("`--nodes {0}`: must be 1 to {MAX_NODES}")]
    Nodes(usize),
    /// Too short to measure, or too long for a demo.
    #[error("`--seconds {0}`: must be {from} to {to}", from = SECONDS.start(), to = SECONDS.end())]
    Seconds(u64),
    /// The recording cannot be read.
    #[error("`--trace`: {0}")]
    Trace(#[from] FileError),
    /// Nothing to measure.
    #[error("`--trace {}`: has no request in its first {seconds} s", file.display())]
    TraceEmpty {
        /// The recording.
        file: PathBuf,
        /// What was to be played of it.
        seconds: u64,
    },
    /// Too long for a demo.
    #[error(
        "`--trace {}`: lasts {seconds} s, and a demo at most {most}: --seconds {most} plays its beginning",
        file.display(), most = SECONDS.end()
    )]
    TraceLong {
        /// The recording.
        file: PathBuf,
        /// How long it lasts.
        seconds: u64,
    },
    /// More work than queues survive.
    #[error(
        "`--trace {}`: asks for {load:.2} of what the pods can do, and queues would grow for as long as it lasts: must be \
         at most {MAX_LOAD}; start more --pods",
        file.display()
    )]
    TraceLoad {
        /// The recording.
        file: PathBuf,
        /// Its load.
        load: f64,
    },
    /// Larger than any request that the demo would send.
    #[error("`--trace {}`: request {number} has bytes = {bytes}: must be at most {MAX_BYTES}", file.display())]
    TraceBytes {
        /// The recording.
        file: PathBuf,
        /// Which request, counted from 1.
        number: usize,
        /// Its payload.
        bytes: u64,
    },
    /// No node knows that policy.
    #[error("`--policies {0}`: unknown policy; choose from {known}", known = POLICIES.join(", "))]
    Policy(String),
    /// The same trace through the same policy again would overwrite its figures.
    #[error("`--policies {0}`: named twice; name each policy once")]
    PolicyTwice(String),
    /// Nobody to ask.
    #[error(
        "`--policies redis`: there is no redis-server on PATH; install one (apt-get install redis-server), or name one that \
         runs: --redis redis://HOST:PORT"
    )]
    NoRedis,
    /// A build that cannot ask one.
    #[error("`--policies redis`: this build knows no Redis; build it with the feature `redis`")]
    NotBuilt,
    /// Not the address of a Redis.
    #[error("`--redis`: {0}")]
    RedisUrl(#[from] NoRedisAddress),
    /// A Redis that nobody asks.
    #[error("`--redis {0}`: none of the policies asks it; add redis to --policies")]
    RedisUnused(String),
    /// Not the address of a pod.
    #[error("`--pod {0}`: not a pod's address; write it as http://HOST:PORT, the gRPC port of a Triton (8001)")]
    PodUrl(String),
    /// A model without service time has no load.
    #[error("`--model {0}`: answers at once, so that no rate of requests is a load; use sim_gpu")]
    Model(String),
}

/// Where the pods come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pods {
    Start(usize),
    Running(Vec<Uri>),
}

impl Pods {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Start(count) => *count,
            Self::Running(urls) => urls.len(),
        }
    }
}

/// Where the arrivals come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// By chance.
    Drawn { load: f64, seed: u64 },
    /// From a file.
    Recorded(PathBuf),
}

impl Source {
    pub(super) fn seed(&self) -> Option<u64> {
        match self {
            Self::Drawn { seed, .. } => Some(*seed),
            Self::Recorded(_) => None,
        }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Drawn { .. } => None,
            Self::Recorded(file) => Some(file),
        }
    }
}

/// A demo that can be played.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) pods: Pods,
    pub(super) slots: NonZeroUsize,
    pub(super) nodes: usize,
    pub(super) source: Source,
    pub(super) trace: Arc<Trace>,
    pub(super) length: Duration,
    pub(super) policies: Vec<&'static str>,
    /// Where one of them asks it.
    pub(super) redis: Option<Redis>,
    pub(super) model: String,
    pub(super) report: PathBuf,
    pub(super) json: bool,
}

impl Plan {
    pub(super) fn new(args: DemoArgs) -> Result<Self, PlanError> {
        // Written so that NaN is refused too.
        if !(args.load > 0.0 && args.load <= MAX_LOAD) {
            return Err(PlanError::Load(args.load));
        }
        if !(1..=MAX_NODES).contains(&args.nodes) {
            return Err(PlanError::Nodes(args.nodes));
        }
        if let Some(seconds) = args.seconds.filter(|seconds| !SECONDS.contains(seconds)) {
            return Err(PlanError::Seconds(seconds));
        }
        if args.model == Model::Zero.name() {
            return Err(PlanError::Model(args.model));
        }
        let (pods, policies) = (pods(args.pods, &args.pod)?, policies(&args.policies)?);
        let redis = redis(&policies, args.redis)?;
        let slots = pods.count() * args.slots.get();
        let (source, trace) = match args.trace {
            Some(file) => {
                let trace = recorded(&file, args.seconds, args.nodes, slots)?;
                (Source::Recorded(file), trace)
            }
            None => {
                let length = Duration::from_secs(args.seconds.unwrap_or(DRAWN_SECONDS));
                let trace = Trace::new(args.seed, rate_of(args.load, slots), length, args.nodes);
                (Source::Drawn { load: args.load, seed: args.seed }, trace)
            }
        };
        Ok(Self {
            pods,
            slots: args.slots,
            nodes: args.nodes,
            source,
            length: trace.length,
            trace: Arc::new(trace),
            policies,
            redis,
            model: args.model,
            report: args.report,
            json: args.json,
        })
    }

    /// Requests that all pods together run at once.
    pub(super) fn all_slots(&self) -> usize {
        self.pods.count() * self.slots.get()
    }

    /// What arrives, as a share of what the pods can do: as it was asked for, or as it was recorded.
    pub(super) fn load(&self) -> f64 {
        match self.source {
            Source::Drawn { load, .. } => load,
            Source::Recorded(_) => rounded(self.trace.load(self.all_slots())),
        }
    }
}

/// Requests a second that make up the load.
pub(super) fn rate_of(load: f64, slots: usize) -> f64 {
    load * slots as f64 / trace::mean_service().as_secs_f64()
}

/// The first `seconds` of a recording; all of it, where they are not given.
fn recorded(file: &Path, seconds: Option<u64>, nodes: usize, slots: usize) -> Result<Trace, PlanError> {
    let recording = files::Trace::read(file)?;
    let lasts = recording.arrivals.last().map_or(0, |last| last.at.as_secs() + 1);
    if seconds.is_none() && lasts > *SECONDS.end() {
        return Err(PlanError::TraceLong { file: file.to_owned(), seconds: lasts });
    }
    let seconds = seconds.unwrap_or(lasts.max(*SECONDS.start()));
    let trace = Trace::recorded(&recording, Duration::from_secs(seconds), nodes);
    if trace.arrivals.is_empty() {
        return Err(PlanError::TraceEmpty { file: file.to_owned(), seconds });
    }
    let played = recording.arrivals.iter().take(trace.arrivals.len());
    if let Some((index, large)) = played.enumerate().find(|(_, one)| one.bytes > MAX_BYTES) {
        return Err(PlanError::TraceBytes { file: file.to_owned(), number: index + 1, bytes: large.bytes });
    }
    let load = trace.load(slots);
    if load > MAX_LOAD {
        return Err(PlanError::TraceLoad { file: file.to_owned(), load });
    }
    Ok(trace)
}

fn pods(count: Option<usize>, running: &[String]) -> Result<Pods, PlanError> {
    match (count, running) {
        (Some(count), [_, ..]) => Err(PlanError::PodsTwice(count)),
        (count, []) => {
            let count = count.unwrap_or(PODS);
            if (1..=MAX_PODS).contains(&count) { Ok(Pods::Start(count)) } else { Err(PlanError::Pods(count)) }
        }
        (None, urls) => urls.iter().map(|url| pod_url(url)).collect::<Result<_, _>>().map(Pods::Running),
    }
}

fn pod_url(given: &str) -> Result<Uri, PlanError> {
    let refused = || PlanError::PodUrl(given.to_owned());
    let url: Uri = given.parse().map_err(|_| refused())?;
    let complete = url.scheme_str() == Some("http") && url.port().is_some() && matches!(url.path(), "" | "/");
    if complete { Ok(url) } else { Err(refused()) }
}

fn policies(given: &[String]) -> Result<Vec<&'static str>, PlanError> {
    let mut policies = Vec::new();
    for name in given {
        let known = POLICIES.into_iter().find(|known| known == name);
        let policy = known.ok_or_else(|| PlanError::Policy(name.clone()))?;
        if policies.contains(&policy) {
            return Err(PlanError::PolicyTwice(name.clone()));
        }
        policies.push(policy);
    }
    Ok(policies)
}

fn redis(policies: &[&str], given: Option<String>) -> Result<Option<Redis>, PlanError> {
    match (policies.contains(&REDIS), given) {
        (false, None) => Ok(None),
        (false, Some(url)) => Err(PlanError::RedisUnused(url)),
        (true, _) if cfg!(not(feature = "redis")) => Err(PlanError::NotBuilt),
        (true, Some(url)) => Ok(Some(Redis::Running(url.parse()?))),
        (true, None) => Redis::on_path().map(Some).ok_or(PlanError::NoRedis),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoArgs,
    }

    fn plan(args: &str) -> Result<Plan, PlanError> {
        let args = ["demo"].into_iter().chain(args.split_whitespace());
        Plan::new(Cli::try_parse_from(args).expect("clap accepts it").demo)
    }

    #[test]
    fn a_demo_needs_no_arguments() {
        let plan = plan("").expect("the defaults hold");
        assert_eq!((plan.pods.count(), plan.nodes), (8, 4));
        assert_eq!(plan.policies, ["round_robin", "plimsoll"]);
        // 0.8 of 8 slots, at 0.85 x 5 ms + 0.15 x 120 ms = 22.25 ms a request.
        assert!((rate_of(plan.load(), plan.all_slots()) - 6.4 / 0.022_25).abs() < 1e-9);
    }

    /// Whoever brings a recording is told what is wrong with it before anything starts, where it is and what to do.
    #[test]
    fn a_recording_that_cannot_be_played_is_named_in_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("day.csv");
        let plan = |lines: &str, args: &str| {
            std::fs::write(&file, format!("at_us,node,model,bytes,service_us\n{lines}")).expect("it can be written");
            plan(&format!("--trace {} {args}", file.display()))
        };
        let good = plan("0,0,,100,5000\n2500000,5,,100,5000\n", "").expect("it can be played");
        assert_eq!((good.length.as_secs(), good.trace.arrivals.len(), good.trace.arrivals[1].node), (3, 2, 1));
        assert_eq!(good.load(), 0.0, "10 ms of 24 s, in thousandths");
        for (lines, args, named) in [
            ("0,0,,100,5000\nsoon,0,,100,5000\n", "", "day.csv line 3, at_us: `soon`"),
            ("0,0,,100\n", "", "day.csv line 2, service_us"),
            ("", "", "no request in its first 2 s"),
            ("5000000,0,,100,5000\n", "--seconds 4", "no request in its first 4 s"),
            ("700000000,0,,100,5000\n", "", "lasts 701 s, and a demo at most 600: --seconds 600"),
            ("0,0,,100,5000\n1,0,,16777217,5000\n", "", "request 2 has bytes = 16777217"),
            ("0,0,,100,60000000\n", "--pods 2", "asks for 15.00 of what the pods can do"),
        ] {
            let text = plan(lines, args).expect_err(lines).to_string();
            assert!(text.contains(named) && !text.contains('\n'), "{lines}: {text}");
        }
        let none = Plan::new(Cli::try_parse_from(["demo", "--trace", "/nowhere.csv"]).expect("clap").demo);
        assert!(none.expect_err("no such file").to_string().contains("/nowhere.csv"));
    }

    #[test]
    fn whatever_makes_no_sense_is_named_in_one_line() {
        for (args, named) in [
            ("--load 0", "--load 0"),
            ("--load 2", "--load 2"),
            ("--load NaN", "--load NaN"),
            ("--pods 0", "--pods 0"),
            ("--nodes 0", "--nodes 0"),
            ("--seconds 1", "--seconds 1"),
            ("--policies fastest", "--policies fastest"),
            ("--policies p2c,p2c", "--policies p2c"),
            ("--pod nonsense", "--pod nonsense"),
            ("--pod https://host:8001", "--pod https://host:8001"),
            ("--pods 3 --pod http://host:8001", "--pods 3"),
            ("--model sim_zero", "--model sim_zero"),
        ] {
            let text = plan(args).expect_err(args).to_string();
            assert!(text.contains(named) && !text.contains('\n'), "{args}: {text}");
        }
    }
}
