//! The flags that `node` and `check` share: one per key that people set by hand. Each takes text; the configuration
//! judges it, so that a flag, a variable and a file say the same about the same mistake.

use std::path::Path;

use clap::Args;

use crate::config::{ConfigError, Layers};

pub(super) const AFTER_HELP: &str = "Flags win over PLIMSOLL_* variables (PLIMSOLL_GRPC or PLIMSOLL_NODE_GRPC for \
--grpc, lists comma separated, PLIMSOLL_PODS for --pod), variables over the file, the file over defaults. `plimsoll \
check` prints the result.";

#[derive(Args, Clone, Debug, Default)]
pub(super) struct Flags {
    /// Name of this node, unique per process [default: host-pid]
    #[arg(long)]
    name: Option<String>,
    /// Where callers connect, over gRPC or HTTP [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDR")]
    grpc: Option<String>,
    /// Where they connect too: HTTP clients are used to a port of their own
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where metrics, health and the API are served [default: 127.0.0.1:8002]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// File of the token that opens the admin API; needed where that is not on loopback. See `plimsoll secret`
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<String>,
    /// Where it gossips, UDP [default: 127.0.0.1:7946]
    #[arg(long, value_name = "ADDR")]
    gossip: Option<String>,
    /// What peers dial, where it gossips on 0.0.0.0 or [::]
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Nodes of another cluster are refused [default: default]
    #[arg(long)]
    cluster: Option<String>,
    /// Any member of the cluster; repeat for more
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
    /// The zone that it runs in: pods in other zones are picked a little less gladly
    #[arg(long)]
    zone: Option<String>,
    /// File of the secret that all nodes share; see `plimsoll secret`
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<String>,
    /// PEM file of the cluster's CA, instead of a secret
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// PEM file of this node's certificate chain
    #[arg(long, value_name = "FILE")]
    cert_file: Option<String>,
    /// PEM file of this node's key
    #[arg(long, value_name = "FILE")]
    key_file: Option<String>,
    /// plimsoll, least_cost, least_in_flight, p2c, round_robin or random [default: plimsoll]
    #[arg(long)]
    policy: Option<String>,
    /// A pod, by its address for gRPC, and the ports (or URLs) of HTTP and metrics if it has them; repeat for more. Replaces the
    /// pods of the file
    #[arg(long, value_name = "[NAME=]URL[+http=PORT][+metrics=PORT]")]
    pod: Vec<String>,
    /// File of [[pods]] that is watched for changes
    #[arg(long, value_name = "FILE")]
    discovery_file: Option<String>,
    /// A name whose every address is a pod, or whose SRV records say where they are; repeat for more
    #[arg(long, value_name = "HOST:PORT|srv:NAME")]
    dns: Vec<String>,
    /// A Kubernetes service whose every endpoint is a pod; repeat for more
    #[arg(long, value_name = "[NAMESPACE/]SERVICE[:PORT]")]
    kubernetes: Vec<String>,
    /// How long requests are still taken once a drain began, seconds [default: 1]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    drain_grace_s: Option<String>,
    /// How long open requests may finish after that, seconds [default: 10]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    drain_s: Option<String>,
    /// What gossip may send, Mbit/s [default: 1]
    #[arg(long, value_name = "MBIT", allow_hyphen_values = true)]
    budget_mbit: Option<String>,
    /// Where callers that balance over a Redis find this node instead, in their own words
    #[arg(long, value_name = "ADDR")]
    redis: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Flags {
    /// All layers: defaults, `file`, the environment of this process, these flags.
    pub(super) fn layers(&self, file: Option<&Path>) -> Result<Layers, ConfigError> {
        let layers = match file {
            Some(file) => Layers::new().file(file)?,
            None => Layers::new(),
        };
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        self.named()
            .into_iter()
            .try_fold(layers.variables(variables)?, |layers, (name, values)| layers.flag(name, values))
    }

    /// Those that were given.
    fn named(&self) -> Vec<(&'static str, &[String])> {
        let named = [
            ("name", self.name.as_slice()),
            ("grpc", self.grpc.as_slice()),
            ("http", self.http.as_slice()),
            ("admin", self.admin.as_slice()),
            ("admin-token-file", self.admin_token_file.as_slice()),
            ("gossip", self.gossip.as_slice()),
            ("advertise", self.advertise.as_slice()),
            ("cluster", self.cluster.as_slice()),
            ("join", &self.join),
            ("zone", self.zone.as_slice()),
            ("cluster-secret-file", self.cluster_secret_file.as_slice()),
            ("ca-file", self.ca_file.as_slice()),
            ("cert-file", self.cert_file.as_slice()),
            ("key-file", self.key_file.as_slice()),
            ("policy", self.policy.as_slice()),
            ("pod", &self.pod),
            ("discovery-file", self.discovery_file.as_slice()),
            ("dns", &self.dns),
            ("kubernetes", &self.kubernetes),
            ("drain-grace-s", self.drain_grace_s.as_slice()),
            ("drain-s", self.drain_s.as_slice()),
            ("budget-mbit", self.budget_mbit.as_slice()),
            ("redis", self.redis.as_slice()),
            ("log-format", self.log_format.as_slice()),
        ];
        named.into_iter().filter(|(_, values)| !values.is_empty()).collect()
    }
}
