//! `plimsoll demo`: the main job on one machine, with nothing to install. It starts pods and nodes as processes of
//! their own, plays one trace of arrivals through one policy after another, and tells the difference. `plimsoll pod`
//! is the test pod by itself.
//!
//! A phase is one policy: fresh nodes start, find each other and end again, so that no policy inherits what another
//! one learned. Between phases only the trace stays the same. The figures are measured, never computed: whatever the
//! machine adds is in them.
#![allow(clippy::disallowed_methods, reason = "the demo lives in wall time")]

mod chart;
mod figures;
mod fleet;
mod gpu;
mod model;
mod pace;
mod plan;
mod play;
pub mod pod;
mod process;
mod progress;
mod report;
mod store;
mod table;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub use fleet::FleetError;
pub use plan::{DemoArgs, PlanError};
pub use process::ProcessError;

use figures::{Figures, Phase};
use fleet::{Asked, Fleet, Nodes};
use plan::Plan;
use play::{Live, play};
use progress::Progress;
use store::Store;
use trace::Trace;

/// How often the live line moves, and how often the children are looked after.
const TICK: Duration = Duration::from_millis(100);

/// What `128 + SIGINT` says to a shell.
const INTERRUPTED: u8 = 130;

/// Why a demo ends without figures. Its children have been ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// An argument makes no sense; nothing was started.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Pods or nodes are missing.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The run was played, and its report could not be drawn.
    #[error("cannot draw the report: {0}")]
    Draw(Box<dyn std::error::Error>),
    /// The run was played, and its report could not be written.
    #[error("cannot write the report to `{}`: {source}; choose another --report PATH", path.display())]
    Report {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl From<ProcessError> for DemoError {
    fn from(error: ProcessError) -> Self {
        Self::Fleet(error.into())
    }
}

/// `plimsoll demo`. Needs a multi-threaded tokio runtime.
pub async fn run(args: DemoArgs) -> ExitCode {
    let ended = tokio::select! {
        ended = demo(args) => ended,
        // Dropping the demo drops its children, which kills them.
        () = stop_signal() => return ExitCode::from(INTERRUPTED),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, DemoError::Plan(_)) { 2 } else { 1 })
        }
    }
}

async fn demo(args: DemoArgs) -> Result<(), DemoError> {
    let plan = Plan::new(args)?;
    let files = tempfile::tempdir().map_err(FleetError::from)?;
    let mut fleet = Fleet::new(&plan, files.path()).await?;
    let trace = Arc::clone(&plan.trace);
    let mut phases = Vec::with_capacity(plan.policies.len());
    for policy in &plan.policies {
        phases.push(phase(&plan, policy, &trace, &mut fleet, files.path()).await?);
    }
    fleet.stop().await;
    tell(&plan, &phases)
}

/// Plays the trace through one policy.
async fn phase(
    plan: &Plan,
    policy: &'static str,
    trace: &Arc<Trace>,
    fleet: &mut Fleet,
    files: &Path,
) -> Result<Phase, DemoError> {
    let mut progress = Progress::start(policy, trace.arrivals.len());
    let mut store = match &plan.redis {
        Some(redis) if policy == plan::REDIS => Some(Store::start(redis, files).await?),
        _ => None,
    };
    let mut nodes = Nodes::start(plan, (policy, store.as_ref()), fleet, files).await?;
    let live = Arc::new(Live::default());
    let before = fleet.served().await?;
    let played = tokio::select! {
        played = play(Arc::clone(trace), nodes.channels(), &plan.model, Arc::clone(&live)) => played,
        error = attend(&mut progress, &live, &mut nodes, fleet, store.as_mut()) => return Err(error.into()),
    };
    let after = fleet.served().await?;
    progress.finish(&live);
    if store.is_some() {
        warn_about_asked(nodes.asked().await);
    }
    nodes.stop().await;
    if let Some(store) = store {
        store.stop().await;
    }
    Ok(Phase::new(policy, trace, &played, fleet.shares(&before, &after)))
}

/// Moves the live line until a child ends that should not.
async fn attend(
    progress: &mut Progress,
    live: &Live,
    nodes: &mut Nodes,
    fleet: &mut Fleet,
    mut store: Option<&mut Store>,
) -> ProcessError {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        progress.show(live);
        let store = store.iter_mut().try_for_each(|store| store.check());
        if let Err(error) = nodes.check().and_then(|()| fleet.check()).and(store) {
            return error;
        }
    }
}

fn tell(plan: &Plan, phases: &[Phase]) -> Result<(), DemoError> {
    for phase in phases {
        warn_about(phase);
    }
    let html = report::html(plan, phases, &command()).map_err(DemoError::Draw)?;
    std::fs::write(&plan.report, html).map_err(|source| DemoError::Report { path: plan.report.clone(), source })?;
    if plan.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&Figures::new(plan, phases)).map_err(|e| DemoError::Draw(e.into()))?
        );
    } else {
        println!("\n{}\n\n{}\n", table::latencies(phases), table::shares(phases));
        println!("Latency counts from the scheduled arrival; the first tenth of each phase is not measured.");
    }
    eprintln!("Report: {}", plan.report.display());
    Ok(())
}

fn warn_about(phase: &Phase) {
    if phase.is_late() {
        let late = figures::ms(phase.late_p99);
        eprintln!(
            "warning: under {} the generator itself was {late} ms late at its p99: this machine is too busy for \
             figures to trust; lower --load or --pods",
            phase.policy
        );
    }
    if let Some(error) = &phase.example_error {
        eprintln!(
            "warning: {} of {} requests failed under {}, one with: {error}",
            phase.summary.errors, phase.summary.requests, phase.policy
        );
    }
}

/// Figures of a Redis that a machine is too busy to ask are not its own.
fn warn_about_asked(Asked { answered, by_view }: Asked) {
    let all = answered + by_view;
    if by_view * 100 > all {
        eprintln!(
            "warning: under redis {by_view} of {all} picks went by the gossiped view, because Redis did not answer within the \
             deadline: this machine is too busy for its figures to be its own"
        );
    }
}

/// What the user typed, without the path of the program.
fn command() -> String {
    ["plimsoll".to_owned()].into_iter().chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" ")
}

/// Resolves when standard input ends: when whoever started this process and held the other end is gone, however it
/// went. A child that waits for this outlives nobody.
pub async fn stdin_ended() {
    let (tx, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime could not end while one of its own is blocked in a read.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tx.send(());
    });
    let _ = ended.await;
}

/// Resolves when the user or the system asks this process to end.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match terminate.as_mut() {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        _ = terminated => (),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::TcpListener;
    use tonic::transport::{Channel, Endpoint};

    use super::figures::PodShare;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoArgs,
    }

    async fn pod(name: &str) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(pod::serve(listener, pod::PodOptions::new(name)));
        Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
    }

    /// Everything but the nodes: a trace, pods that serve it, figures, and a report that needs nothing from elsewhere.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_played_trace_becomes_a_report_that_stands_alone() {
        let args = ["demo", "--pods", "2", "--nodes", "2", "--seconds", "2", "--load", "0.5"];
        let plan = Plan::new(Cli::parse_from(args).demo).expect("a good plan");
        let trace = Arc::clone(&plan.trace);
        let mut phases = Vec::new();
        for policy in &plan.policies {
            let targets = vec![pod("pod-0").await, pod("pod-1").await];
            let played = play(Arc::clone(&trace), targets, "sim_gpu", Arc::default()).await;
            let shares = ["pod-0", "pod-1"].map(|name| PodShare { name: name.to_owned(), busy_share: 0.5 });
            phases.push(Phase::new(policy, &trace, &played, shares.to_vec()));
        }
        assert!(phases.iter().all(|phase| phase.summary.errors == 0 && phase.summary.requests > 20));
        let html = report::html(&plan, &phases, "plimsoll demo <x>").expect("it can be drawn");
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(html.contains("plimsoll demo &lt;x&gt;"));
        let outside = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http") && !outside.contains("src=") && !outside.contains("@import"));
        let json = serde_json::to_value(Figures::new(&plan, &phases)).expect("numbers and names");
        assert!(json["policies"]["plimsoll"]["small_p99_ms"].as_f64().is_some_and(|p99| p99 >= 5.0), "{json}");
        assert!(json["ratio"]["p99"].as_f64().is_some(), "{json}");
        assert_eq!(json["pods"][1]["name"], "pod-1");
    }
}
