//! `plimsoll node`: everything that can be wrong is found before anything starts, and everything that started is ended
//! in order.
//!
//! Start: configuration, credentials, both listeners, then the node, then fronts and discovery. End, by SIGTERM or
//! SIGINT: not ready, stop accepting, let tickets finish for `front.drain_s`, tell the peers zero, leave. A second
//! signal ends the process at once.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::flags::Flags;
use super::{Failure, require_pods};
use crate::config::{Config, LogFormat};
use crate::driver::admin::Admin;
use crate::driver::discovery::Discovery;
use crate::driver::metrics::Metrics;
use crate::forward::{self, FrontOptions};
use crate::node::{JoinError, Node};

/// How long the first answers of discovery are waited for before the node calls itself ready. A dead resolver must not
/// keep a node from serving the pods it knows.
const SETTLE: Duration = Duration::from_secs(3);
/// How long answers under way may take after everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is logged where `RUST_LOG` says nothing. Discovery itself says once that Kubernetes fails; its client says so at every
/// attempt.
const LOGGED: &str = "info,kube_client=off,kube_runtime=off";

#[derive(Args, Debug)]
pub(super) struct NodeArgs {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", env = "PLIMSOLL_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// End, as at SIGTERM, when standard input does: what keeps the nodes of a demo from outliving it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

pub(super) fn run(args: NodeArgs) -> Result<(), Failure> {
    let layers = args.flags.layers(args.config.as_deref()).map_err(Failure::bad_input)?;
    let config = layers.resolve().map_err(Failure::bad_input)?;
    require_pods(&config)?;
    log_to_stderr(config.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::at_run_time)?;
    let done = runtime.block_on(serve(config, args.until_stdin_ends));
    // What still runs (a request that outlived the drain) must not keep the process.
    runtime.shutdown_background();
    done
}

async fn serve(config: Config, until_stdin_ends: bool) -> Result<(), Failure> {
    let node_config = config.node_config().map_err(Failure::bad_input)?;
    let grpc = listen("node.grpc", config.grpc).await?;
    let admin = listen("node.admin", config.admin).await?;
    let mut signals = Signals::new()?;
    let metrics = Metrics::install().map_err(Failure::at_run_time)?;
    let mut discovery = Discovery::start(&config).await.map_err(Failure::bad_input)?;
    if let Some(http) = config.http {
        warn!("node.http is `{http}`, but this version serves no HTTP front; callers take gRPC at `{}`", config.grpc);
    }
    let node = tokio::select! {
        joined = Node::join(node_config) => joined.map_err(not_joined)?,
        () = signals.next() => return Ok(()),
    };

    let (drain, draining) = watch::channel(false);
    let (end, ended) = watch::channel(false);
    let bound = (address_of(&grpc, config.grpc), address_of(&admin, config.admin));
    let mut front = tokio::spawn(serve_front(node.clone(), grpc, config.clone(), until(draining.clone())));
    let admin_api = Admin::new(node.clone(), metrics, draining);
    let mut admin_task = tokio::spawn(admin_api.serve(admin, until(ended)));
    if !discovery.settle(&node, SETTLE).await {
        warn!("discovery has not answered within {} s; starting with the pods known so far", SETTLE.as_secs());
    }
    ready(&node, &config, bound, discovery.pods().len());

    let failed = tokio::select! {
        () = signals.next() => None,
        () = crate::demo::stdin_ended(), if until_stdin_ends => None,
        _ = discovery.follow(&node) => None,
        ended = &mut front => Some(format!("the gRPC front ended: {ended:?}")),
        ended = &mut admin_task => Some(format!("the admin API ended: {ended:?}")),
    };
    info!(drain_s = config.front.drain.as_secs_f64(), "draining: no new requests, waiting for tickets to finish");
    // Only a front that ended by itself has dropped its receiver, and then there is nobody to tell.
    let _ = drain.send(true);
    let drained = async {
        // The front ends with its last open request, or cuts what is open after `front.drain_s`. Tickets alone do not tell:
        // a request may still be arriving, or be at a pod that discovery has removed meanwhile.
        if !front.is_finished() {
            let _ = (&mut front).await;
        }
        node.leave(LAST_WORDS).await;
    };
    tokio::select! {
        () = drained => {}
        () = signals.next() => return Err(Failure::at_run_time("a second signal: ended at once, open requests were cut")),
    }
    let _ = end.send(true);
    let last_words = async {
        if failed.is_none() {
            let _ = (&mut admin_task).await;
        }
    };
    if timeout(LAST_WORDS, last_words).await.is_err() {
        info!("connections that were still open are closed now");
    }
    match failed {
        None => {
            info!("left");
            Ok(())
        }
        Some(reason) => {
            error!("{reason}");
            Err(Failure::at_run_time(reason))
        }
    }
}

/// The gRPC front, until `shutdown` and its open requests are over.
async fn serve_front(node: Node, listener: TcpListener, config: Config, shutdown: impl Future<Output = ()> + Send) {
    let mut options = FrontOptions::default();
    options.forward.max_message_bytes = config.front.max_message_bytes;
    options.forward.connect_timeout = config.front.connect_timeout;
    options.forward.after_refusal = config.after_refusal;
    options.forward.read_model_config = config.front.read_model_config;
    options.drain = config.front.drain;
    forward::serve(node, listener, options, shutdown).await;
}

async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let remedy = "free it, or give another address";
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::bad_input(format!("cannot listen on `{address}` ({key}): {error}; {remedy}")))
}

/// Only a system without entropy or threads is no mistake of who configured it.
fn not_joined(error: JoinError) -> Failure {
    match error {
        JoinError::Start(_) => Failure::at_run_time(error),
        error => Failure::bad_input(error),
    }
}

/// Where a listener really is: port 0 takes any.
fn address_of(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

fn ready(node: &Node, config: &Config, (grpc, admin): (SocketAddr, SocketAddr), pods: usize) {
    info!(
        node = node.name(),
        %grpc,
        %admin,
        gossip = %config.gossip,
        advertise = %node.gossip_addr(),
        cluster = config.cluster,
        policy = config.policy.name(),
        pods,
        "ready"
    );
}

/// Resolves when the flag is up, or nobody can raise it any more.
async fn until(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|up| *up).await;
}

/// SIGTERM and SIGINT, heard from before anything starts.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let hear =
            |kind| signal(kind).map_err(|error| Failure::at_run_time(format!("cannot listen for signals: {error}")));
        Ok(Signals { terminate: hear(SignalKind::terminate())?, interrupt: hear(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
