//! What was written, turned into what a node runs with: parsed once, every mistake named.
//!
//! Four layers, each over the one before: defaults, a TOML file, the environment (`PLIMSOLL_*`), flags. They merge in
//! one table that remembers where each value came from ([`Layers`]); the table is read once into a [`Config`], in which
//! nothing is text any more that could still be wrong. Unknown keys are refused, because a typo that is ignored means
//! the default where its writer thinks otherwise. Nothing here opens a socket; only [`Config::node_config`] reads other
//! files.
//!
//! ```
//! use plimsoll::config::Config;
//!
//! let config = Config::from_toml_str(
//!     "[node]\nname = 'caller-1'\n[[pods]]\nname = 'triton-0'\ngrpc = 'http://10.0.0.7:8001'\nslots = 2",
//! )?;
//! assert_eq!(config.pods[0].slots, 2);
//!
//! let typo = Config::from_toml_str("[node]\ngrcp = '127.0.0.1:8001'").unwrap_err();
//! assert_eq!(typo.to_string(), "line 2: unknown key `node.grcp`; did you mean `grpc`?");
//! # Ok::<(), plimsoll::config::ConfigError>(())
//! ```

mod access;
mod addr;
mod costs;
mod credentials;
mod defaults;
mod discovery;
mod error;
mod forward;
mod keys;
mod layers;
mod pods;
mod raw;
mod redis;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::access::{AccessLogConfig, AdminAccess};
pub(crate) use self::addr::{bracketed, host_port, pod_url};
#[cfg(feature = "cli")]
pub(crate) use self::credentials::random_secret;
pub use self::discovery::{DiscoveryConfig, DnsName, KubernetesService, Port};
#[cfg(any(feature = "kubernetes", feature = "cli", feature = "redis"))]
pub(crate) use self::error::one_line;
pub(crate) use self::error::shown;
pub use self::error::{ConfigError, CredentialsError, Source};
pub use self::layers::Layers;
pub use self::pods::pods_from_file;
pub(crate) use self::pods::{MOST_PODS, pods_from_text};
use crate::core::{Health, Strict};
use crate::driver::tls::ServerTlsFiles;
use crate::forward::{FrontOptions, Limits, ModelOptions, Retry};
use crate::node::NodeConfig;
use crate::observe::{Formula, PodSpec, PodTls};
use crate::pick::PolicyKind;
use crate::redis::{BridgeOptions, FaceOptions, StateOptions};

/// Where a node's admin API is unless it is told otherwise; where `plimsoll view` asks.
pub const DEFAULT_ADMIN: &str = defaults::ADMIN;

/// The configuration of a node, every value judged.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Unique per process; by default the host's name and the process id.
    pub name: String,
    /// Nodes of another cluster are refused.
    pub cluster: String,
    /// Where the front listens, for both protocols.
    pub grpc: SocketAddr,
    /// Where the front listens too: callers over HTTP are used to a port of their own.
    pub http: Option<SocketAddr>,
    /// Where metrics, health and the API are served.
    pub admin: SocketAddr,
    /// Who may ask there.
    pub admin_access: AdminAccess,
    /// TLS towards callers; without, they are served in plain text.
    pub tls: Option<ServerTlsFiles>,
    /// TLS towards pods with `https://` addresses.
    pub pod_tls: PodTls,
    /// Where it gossips (UDP).
    pub gossip: SocketAddr,
    /// What peers dial; `gossip` where none is given.
    pub advertise: Option<SocketAddr>,
    /// `host:port` of any members; alone if none answers.
    pub join: Vec<String>,
    /// The zone that it runs in; empty where nobody knows.
    pub zone: Option<String>,
    /// Where its proof of membership is.
    pub identity: Identity,
    /// How it picks.
    pub policy: PolicyKind,
    /// To how many other pods a request is offered that a full queue refused.
    pub after_refusal: u32,
    /// How long a pod that is new, or back, takes part in a growing share of the picks only.
    pub slow_start: Duration,
    /// How it finds out which pods are fit for which models.
    pub health: Health,
    /// How much higher a pod stands that is known to be in another zone.
    pub zone_penalty: Duration,
    /// What requests cost, by model, where it was written down; the one of the empty name is for all other models.
    pub costs: BTreeMap<Box<str>, Formula>,
    /// Gossip budget, bit/s.
    pub budget_bits: u64,
    /// Whether picks ask the owners of shards, and how.
    pub strict: Option<Strict>,
    /// The Redis that picks ask, where they do.
    pub state: Option<StateOptions>,
    /// The front's limits.
    pub front: FrontConfig,
    /// When a request is sent a second time.
    pub retry: Retry,
    /// How much may be in flight, and what waits.
    pub limits: Limits,
    /// What is known of single models; the one of the empty name is for all others.
    pub models: BTreeMap<Box<str>, ModelOptions>,
    /// Where pods are found, beside those listed.
    pub discovery: DiscoveryConfig,
    /// The pods that are listed.
    pub pods: Vec<PodSpec>,
    /// How it speaks Redis, where it does.
    pub redis: Option<FaceOptions>,
    /// The Redis of callers that are still there, where both shall see each other.
    pub bridge: Option<BridgeOptions>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The access log, where there is one.
    pub access_log: Option<AccessLogConfig>,
}

/// Where a node's proof of membership is. Paths only: the secret itself is read when it is needed, and never kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// Nothing was given: a node that joins nobody mints a secret of its own and stays alone.
    None,
    /// The file of the cluster's secret.
    SecretFile(PathBuf),
    /// PEM files: the cluster's CA, this node's chain and key.
    Files {
        /// Certificates of the CA.
        ca: PathBuf,
        /// This node's chain, leaf first.
        cert: PathBuf,
        /// This node's key.
        key: PathBuf,
    },
}

/// Limits of the front.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrontConfig {
    /// The largest message that is passed on.
    pub max_message_bytes: u64,
    /// How long a connection to a pod may take before another pod is tried.
    pub connect_timeout: Duration,
    /// Whether a model's slots and batches are read from the pods' own configuration of it.
    pub read_model_config: bool,
    /// How long requests are still taken once a drain began.
    pub drain_grace: Duration,
    /// How long tickets may finish after that.
    pub drain: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Whether it names pods, or somewhere to find them. Without, nothing can ever be served.
    pub fn has_pods(&self) -> bool {
        let found = &self.discovery;
        !self.pods.is_empty() || found.file.is_some() || !found.dns.is_empty() || !found.kubernetes.is_empty()
    }

    /// Whether any pod is known to take TLS, or something is said about those that do.
    #[cfg(feature = "cli")]
    pub(crate) fn has_tls_pods(&self) -> bool {
        let tls = |url: &str| url.starts_with("https://");
        let listed = |pod: &PodSpec| tls(&pod.grpc) || pod.http.as_deref().is_some_and(tls);
        self.discovery.tls || self.pod_tls != PodTls::default() || self.pods.iter().any(listed)
    }

    /// Reads TOML over the defaults; the environment has no say. Paths in it are relative to the working directory.
    ///
    /// # Errors
    /// [`ConfigError`], one line.
    pub fn from_toml_str(text: &str) -> Result<Config, ConfigError> {
        Layers::new().text(text)?.resolve()
    }

    /// Reads a file over the defaults; the environment has no say ([`Layers`] gives it one). Paths in it are relative
    /// to the file.
    ///
    /// # Errors
    /// [`ConfigError`], one line.
    pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        Layers::new().file(path.as_ref())?.resolve()
    }

    /// What [`crate::node::Node::join`] takes. Reads the secret, or sees that the certificate files can be read. A node
    /// that was given neither and joins nobody gets a random secret and stays alone; a log line says so.
    ///
    /// # Errors
    /// [`CredentialsError`], one line.
    pub fn node_config(&self) -> Result<NodeConfig, CredentialsError> {
        Ok(NodeConfig {
            name: self.name.clone(),
            cluster: self.cluster.clone(),
            gossip: self.gossip,
            advertise: self.advertise,
            join: self.join.clone(),
            credentials: credentials::read(&self.identity, !self.join.is_empty())?,
            policy: self.policy,
            budget_bits: self.budget_bits,
            strict: self.strict,
            state: self.state.clone(),
            slow_start: self.slow_start,
            health: self.health,
            zone: self.zone.clone(),
            zone_penalty: self.zone_penalty,
            costs: self.costs.clone(),
            pods: self.pods.clone(),
        })
    }

    /// How the front serves by it.
    pub fn front_options(&self) -> FrontOptions {
        let mut options =
            FrontOptions { grace: self.front.drain_grace, drain: self.front.drain, ..FrontOptions::default() };
        let forward = &mut options.forward;
        forward.max_message_bytes = self.front.max_message_bytes;
        forward.connect_timeout = self.front.connect_timeout;
        forward.after_refusal = self.after_refusal;
        forward.read_model_config = self.front.read_model_config;
        forward.retry = self.retry.clone();
        forward.limits = self.limits.clone();
        forward.models = self.models.clone();
        options
    }
}
