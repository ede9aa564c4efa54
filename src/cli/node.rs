//! `plimsoll node`: everything that can be wrong is found before anything starts, and everything that started is ended
//! in order.
//!
//! Start: configuration, credentials, certificates, all listeners, then the node, then fronts and discovery. Drain, by a signal
//! or by the admin API: not ready, for `front.drain_grace_s` as before, then stop accepting and let tickets finish for
//! `front.drain_s`. End, by SIGTERM or SIGINT: the same if it was not done yet, then tell the peers zero and leave. A second signal
//! ends the process at once.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError as TaskError, JoinHandle};
use tokio::time::timeout;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::flags::Flags;
use super::{Failure, require_pods};
use crate::config::{Config, LogFormat};
use crate::driver::access_log::AccessLog;
use crate::driver::admin::{Admin, Token};
use crate::driver::discovery::Discovery;
use crate::driver::drain::{Drain, Stage};
use crate::driver::metrics::Metrics;
use crate::driver::tls::ServerTls;
use crate::driver::tls::pods::ClientTls;
use crate::forward::{self, FrontOptions};
use crate::node::{JoinError, Node};
use crate::redis::{Bridge, Face, FaceError, FaceOptions};

/// How long the first answers of discovery are waited for before the node calls itself ready. A dead resolver must not
/// keep a node from serving the pods it knows.
const SETTLE: Duration = Duration::from_secs(3);
/// How long answers under way may take after everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Open files beside callers' connections: pods, gossip, discovery, the admin API.
const FILES_BESIDE: u64 = 512;

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
    raise_open_files(config.limits.connections);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::at_run_time)?;
    let done = runtime.block_on(serve(config, args.until_stdin_ends));
    // What still runs (a request that outlived the drain) must not keep the process.
    runtime.shutdown_background();
    done
}

/// Lets the process open as many files as it may: each connection is one. Services are often started with 1024, for the sake of
/// programs that use `select`, as none here does.
fn raise_open_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok();
    let most = if raised { limit.maximum } else { limit.current };
    if let Some(most) = most.filter(|most| *most < connections as u64 + FILES_BESIDE) {
        warn!(
            "only {most} files may be open, too few for limits.connections = {connections}: raise it (ulimit -n), or lower the limit"
        );
    }
}

async fn serve(config: Config, until_stdin_ends: bool) -> Result<(), Failure> {
    let node_config = config.node_config().map_err(Failure::bad_input)?;
    let keys = Keys::read(&config)?;
    let grpc = listen("node.grpc", config.grpc).await?;
    let http = match config.http {
        Some(address) => Some(listen("node.http", address).await?),
        None => None,
    };
    let admin = listen("node.admin", config.admin).await?;
    let redis = match &config.redis {
        Some(face) => Some(listen("redis.listen", face.listen).await?),
        None => None,
    };
    let access_log = config.access_log.as_ref().map(|log| AccessLog::open(log.target.clone(), log.share)).transpose();
    let access_log = access_log.map_err(Failure::bad_input)?;
    let mut signals = Signals::new()?;
    let metrics = Metrics::install().map_err(Failure::at_run_time)?;
    let mut discovery = Discovery::start(&config).await.map_err(Failure::bad_input)?;
    let node = tokio::select! {
        joined = Node::join(node_config) => joined.map_err(not_joined)?,
        () = signals.next() => return Ok(()),
    };

    let drain = Drain::new();
    let (end, ended) = watch::channel(false);
    let bound = Bound {
        grpc: address_of(&grpc, config.grpc),
        http: http.as_ref().zip(config.http).map(|(http, asked)| address_of(http, asked)),
        admin: address_of(&admin, config.admin),
        redis: redis.as_ref().zip(config.redis.as_ref()).map(|(redis, face)| address_of(redis, face.listen)),
    };
    let face =
        redis.zip(config.redis.as_ref()).map(|(listener, face)| speak_redis(&node, face, keys.tls.clone(), listener));
    let face = face.transpose()?;
    let bridge = config.bridge.as_ref().map(|bridge| Bridge::start(&node, bridge, &config.cluster)).transpose();
    let bridge = bridge.map_err(Failure::bad_input)?;
    // Both protocols come in by each of them.
    let doors: Vec<TcpListener> = [Some(grpc), http].into_iter().flatten().collect();
    let options = front_options(&config, keys.tls.clone(), access_log.clone());
    let mut front = Front::Open(tokio::spawn(forward::serve(node.clone(), doors, options, drain.clone().begun())));
    let mut admin_task = tokio::spawn(keys.admin(&config, &node, metrics, &drain).serve(admin, until(ended)));
    if !discovery.settle(&node, SETTLE).await {
        warn!("discovery has not answered within {} s; starting with the pods known so far", SETTLE.as_secs());
    }
    ready(&node, &config, bound, discovery.pods().len());

    let mut stdin_ended = std::pin::pin!(crate::demo::stdin_ended());
    let failed = loop {
        tokio::select! {
            () = signals.next() => break None,
            () = &mut stdin_ended, if until_stdin_ends => break None,
            _ = discovery.follow(&node) => break None,
            ended = front.ended() => match ended {
                // Drained by the admin API: whoever asked for it ends the process when it likes.
                Ok(()) if drain.stage() > Stage::Serving => {
                    drain.end();
                    info!("drained: no request is open, and none is taken");
                }
                ended => break Some(format!("the front ended: {ended:?}")),
            },
            ended = &mut admin_task => break Some(format!("the admin API ended: {ended:?}")),
        }
    };
    info!(
        grace_s = config.front.drain_grace.as_secs_f64(),
        drain_s = config.front.drain.as_secs_f64(),
        "draining: waiting for tickets to finish"
    );
    drain.begin();
    let drained = async {
        // The front ends with its last open request, or cuts what is open after `front.drain_s`. Tickets alone do not tell:
        // a request may still be arriving, or be at a pod that discovery has removed meanwhile.
        front.close().await;
        if let Some(face) = face {
            face.close().await;
        }
        if let Some(bridge) = bridge {
            bridge.close().await;
        }
        drain.end();
        node.leave(LAST_WORDS).await;
    };
    tokio::select! {
        () = drained => {}
        () = signals.next() => return Err(Failure::at_run_time("a second signal: ended at once, open requests were cut")),
    }
    if let Some(log) = access_log {
        log.flush(LAST_WORDS);
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

/// What proves who this node is, and who others are, beside gossip: read before anything starts.
pub(super) struct Keys {
    tls: Option<ServerTls>,
    token: Option<Token>,
    /// Held so that the first pod need not read its files again.
    _pods: Option<ClientTls>,
}

impl Keys {
    pub(super) fn read(config: &Config) -> Result<Keys, Failure> {
        let tls = config.tls.clone().map(ServerTls::load).transpose().map_err(Failure::bad_input)?;
        let token = config.admin_access.token_file.as_ref().map(Token::load).transpose().map_err(Failure::bad_input)?;
        // Whoever speaks no TLS with pods needs nobody to trust.
        let pods = config.has_tls_pods().then(|| ClientTls::of(&config.pod_tls)).transpose();
        Ok(Keys { tls, token, _pods: pods.map_err(Failure::bad_input)? })
    }

    /// The admin API, open to whom it was configured for.
    fn admin(self, config: &Config, node: &Node, metrics: Metrics, drain: &Drain) -> Admin {
        let mut admin = Admin::new(node.clone(), metrics, drain.clone());
        if let Some(token) = self.token {
            admin = admin.token(token);
        }
        if let Some(tls) = self.tls.filter(|_| config.admin_access.tls) {
            admin = admin.tls(tls);
        }
        if config.admin_access.open_metrics { admin.open_metrics() } else { admin }
    }
}

/// How the front serves.
fn front_options(config: &Config, tls: Option<ServerTls>, access_log: Option<AccessLog>) -> FrontOptions {
    let mut options = config.front_options();
    options.forward.access_log = access_log;
    options.tls = tls;
    options
}

/// The task of the front.
enum Front {
    Open(JoinHandle<()>),
    Closed,
}

impl Front {
    /// Returns when it ends, once.
    async fn ended(&mut self) -> Result<(), TaskError> {
        let Front::Open(task) = self else { return std::future::pending().await };
        let ended = task.await;
        *self = Front::Closed;
        ended
    }

    /// Returns when it has ended.
    async fn close(&mut self) {
        if matches!(self, Front::Open(_)) {
            // A front that panicked is closed too.
            let _ = self.ended().await;
        }
    }
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

fn speak_redis(
    node: &Node,
    face: &FaceOptions,
    tls: Option<ServerTls>,
    listener: TcpListener,
) -> Result<Face, Failure> {
    Face::start(node, face, tls, listener).map_err(|error| match error {
        FaceError::Start(error) => Failure::at_run_time(error),
        error => Failure::bad_input(error),
    })
}

/// Where a listener really is: port 0 takes any.
fn address_of(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Where callers and people find the node.
struct Bound {
    grpc: SocketAddr,
    http: Option<SocketAddr>,
    admin: SocketAddr,
    redis: Option<SocketAddr>,
}

fn ready(node: &Node, config: &Config, bound: Bound, pods: usize) {
    info!(
        node = node.name(),
        grpc = %bound.grpc,
        http = bound.http.map(tracing::field::display),
        admin = %bound.admin,
        redis = bound.redis.map(tracing::field::display),
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

/// SIGTERM and SIGINT, heard from before anything starts; and SIGHUP, which would end the process unheard.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let hear =
            |kind| signal(kind).map_err(|error| Failure::at_run_time(format!("cannot listen for signals: {error}")));
        Ok(Signals {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hang_up: hear(SignalKind::hangup())?,
        })
    }

    /// Returns at one that ends the node.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => info!(
                    "SIGHUP changes nothing: certificates, tokens and the file of pods are read again by themselves, \
                     all else at the next start"
                ),
            }
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
