//! What a demo is to do: the arguments as they were given, checked once, and turned into a plan that holds.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::model::Model;
use super::trace::{self, Trace};

/// The policies that a node knows.
pub(super) const POLICIES: [&str; 6] = [PLIMSOLL, "least_cost", "least_in_flight", "p2c", "round_robin", "random"];

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
    /// Length of the trace that is played once for each policy; its first tenth warms up and is not measured
    #[arg(long, value_name = "S", default_value_t = 20)]
    pub seconds: u64,
    /// Decides the arrivals; the same seed plays the same trace
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Policies to play the trace through, in this order; the ratio is plimsoll over the first other one
    #[arg(long, value_delimiter = ',', default_value = "round_robin,plimsoll")]
    pub policies: Vec<String>,
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
        "`--load {0}`: must be above 0 and at most {MAX_LOAD}; beyond that queues grow for as long as the run lasts, and \
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
    /// No node knows that policy.
    #[error("`--policies {0}`: unknown policy; choose from {known}", known = POLICIES.join(", "))]
    Policy(String),
    /// The same trace through the same policy again would overwrite its figures.
    #[error("`--policies {0}`: named twice; name each policy once")]
    PolicyTwice(String),
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

/// A demo that can be played.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) pods: Pods,
    pub(super) slots: NonZeroUsize,
    pub(super) nodes: usize,
    pub(super) load: f64,
    pub(super) length: Duration,
    pub(super) seed: u64,
    pub(super) policies: Vec<&'static str>,
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
        if !SECONDS.contains(&args.seconds) {
            return Err(PlanError::Seconds(args.seconds));
        }
        if args.model == Model::Zero.name() {
            return Err(PlanError::Model(args.model));
        }
        Ok(Self {
            pods: pods(args.pods, &args.pod)?,
            slots: args.slots,
            nodes: args.nodes,
            load: args.load,
            length: Duration::from_secs(args.seconds),
            seed: args.seed,
            policies: policies(&args.policies)?,
            model: args.model,
            report: args.report,
            json: args.json,
        })
    }

    /// Requests that all pods together run at once.
    pub(super) fn all_slots(&self) -> usize {
        self.pods.count() * self.slots.get()
    }

    /// Requests a second that make up the load.
    pub(super) fn rate(&self) -> f64 {
        self.load * self.all_slots() as f64 / trace::mean_service().as_secs_f64()
    }

    pub(super) fn trace(&self) -> Trace {
        Trace::new(self.seed, self.rate(), self.length, self.nodes)
    }
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
        assert!((plan.rate() - 6.4 / 0.022_25).abs() < 1e-9);
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
