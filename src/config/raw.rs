//! From the merged table to [`Config`]: types by serde, then every value is judged once.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::access::{self, AdminAccess, RawTls};
use super::addr::{self, Problem};
use super::costs::{RawCost, read_costs};
use super::discovery::{self, RawDiscovery};
use super::error::{ConfigError, Source, one_line, shown};
use super::forward::{RawLimits, RawModel, RawRetry, read_limits, read_models, read_retry};
use super::layers::Layers;
use super::pods::{RawPod, read_pods};
use super::redis::{RawRedis, read_bridge, read_redis};
use super::state::{RawState, read_state};
use super::{Config, FrontConfig, Identity, LogFormat};
use crate::bounds;
use crate::core::{Health, Strict};
use crate::driver::tls::gossip::is_plain;
use crate::gossip::wire::MAX_SHARDS;
use crate::pick::PolicyKind;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: RawNode,
    pick: RawPick,
    health: RawHealth,
    discovery: RawDiscovery,
    #[serde(default)]
    tls: RawTls,
    front: RawFront,
    retry: RawRetry,
    limits: RawLimits,
    triton: RawTriton,
    gossip: RawGossip,
    strict: RawStrict,
    redis: RawRedis,
    state: RawState,
    log: RawLog,
    #[serde(default)]
    costs: Vec<RawCost>,
    #[serde(default)]
    models: Vec<RawModel>,
    #[serde(default)]
    pods: Vec<RawPod>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: String,
    grpc: String,
    http: Option<String>,
    admin: String,
    admin_token_file: Option<String>,
    admin_tls: bool,
    admin_open_metrics: bool,
    gossip: String,
    advertise: Option<String>,
    cluster: String,
    join: Vec<String>,
    zone: Option<String>,
    cluster_secret_file: Option<String>,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPick {
    policy: String,
    after_refusal: i64,
    slow_start_s: f64,
    zone_penalty_ms: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHealth {
    interval_s: f64,
    failures: i64,
    eject_s: f64,
    panic_share: f64,
    give_up_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFront {
    max_message_mib: i64,
    connect_timeout_ms: i64,
    drain_grace_s: f64,
    drain_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTriton {
    read_model_config: bool,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGossip {
    budget_mbit: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStrict {
    enabled: bool,
    timeout_ms: f64,
    shards: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    format: String,
    access: String,
    access_sample: f64,
}

/// The one reading of the merged table.
pub(super) fn read(layers: &Layers) -> Result<Config, ConfigError> {
    let source = |key: &str| layers.source(key).clone();
    let r = Reader { source: &source };
    let raw: Raw = typed(layers.table(), &r)?;
    let (node, front, triton) = (raw.node, raw.front, raw.triton);
    r.plain_name("node.name", &node.name)?;
    r.plain_name("node.cluster", &node.cluster)?;
    // Kubernetes hands in an empty variable where a node has no such label.
    let zone = node.zone.clone().filter(|zone| !zone.is_empty());
    if let Some(zone) = &zone {
        r.label("node.zone", zone)?;
    }
    let pod_tls = [&triton.ca_file, &triton.cert_file, &triton.key_file, &triton.server_name];
    let pod_tls = access::read_pod_tls(layers, pod_tls, &r)?;
    let mut pods = read_pods(raw.pods, &r)?;
    pods.iter_mut().for_each(|pod| pod.tls.clone_from(&pod_tls));
    let config = Config {
        identity: identity(layers, &node, &r)?,
        grpc: r.socket("node.grpc", &node.grpc)?,
        http: node.http.as_deref().map(|http| r.socket("node.http", http)).transpose()?,
        admin: r.socket("node.admin", &node.admin)?,
        admin_access: AdminAccess {
            token_file: node.admin_token_file.as_deref().map(|path| layers.path("node.admin_token_file", path)),
            tls: node.admin_tls,
            open_metrics: node.admin_open_metrics,
        },
        tls: access::read_tls(layers, &raw.tls, &r)?,
        pod_tls,
        gossip: r.socket("node.gossip", &node.gossip)?,
        advertise: node.advertise.as_deref().map(|advertise| r.socket("node.advertise", advertise)).transpose()?,
        join: node.join,
        zone,
        name: node.name,
        cluster: node.cluster,
        policy: policy(&raw.pick.policy, &r)?,
        after_refusal: r.integer("pick.after_refusal", raw.pick.after_refusal, 0..=16)? as u32,
        slow_start: r.seconds("pick.slow_start_s", raw.pick.slow_start_s, bounds::SLOW_START_S)?,
        health: health(&raw.health, &r)?,
        zone_penalty: Duration::from_secs_f64(
            r.float("pick.zone_penalty_ms", raw.pick.zone_penalty_ms, bounds::ZONE_PENALTY_MS)? / 1e3,
        ),
        costs: read_costs(raw.costs, &r)?,
        budget_bits: (r.float("gossip.budget_mbit", raw.gossip.budget_mbit, budget_mbit())? * 1e6) as u64,
        strict: strict(&raw.strict, &r)?,
        state: read_state(layers, &raw.state, raw.strict.enabled, &r)?,
        front: FrontConfig {
            max_message_bytes: (r.integer("front.max_message_mib", front.max_message_mib, 1..=2047)? as u64) << 20,
            connect_timeout: Duration::from_millis(r.integer(
                "front.connect_timeout_ms",
                front.connect_timeout_ms,
                10..=60_000,
            )? as u64),
            read_model_config: triton.read_model_config,
            drain_grace: r.seconds("front.drain_grace_s", front.drain_grace_s, 0.0..=3600.0)?,
            drain: r.seconds("front.drain_s", front.drain_s, 0.0..=3600.0)?,
        },
        retry: read_retry(&raw.retry, &r)?,
        limits: read_limits(&raw.limits, &r)?,
        models: read_models(raw.models, &r)?,
        discovery: discovery::read(layers, raw.discovery, &r)?,
        pods,
        redis: read_redis(layers, &raw.redis, raw.tls.has_certificate(), &r)?,
        bridge: read_bridge(layers, &raw.redis, &r)?,
        log_format: log_format(&raw.log.format, &r)?,
        access_log: access::read_log(layers, &raw.log.access, raw.log.access_sample, &r)?,
    };
    check_addresses(&config, &r)?;
    access::check_admin(config.admin, &config.admin_access, config.tls.as_ref(), &r)?;
    Ok(config)
}

/// What no single key shows: addresses that contradict each other, members that cannot be dialled.
fn check_addresses(config: &Config, r: &Reader<'_>) -> Result<(), ConfigError> {
    for (index, member) in config.join.iter().enumerate() {
        addr::host_port(member).map_err(|problem| r.invalid(&format!("node.join[{index}]"), problem))?;
    }
    match config.advertise {
        None if config.gossip.ip().is_unspecified() => {
            let problem = format!("`{}` listens everywhere, but peers cannot dial it", config.gossip);
            let remedy =
                format!("set node.advertise to the address they reach, as in `10.0.0.5:{}`", config.gossip.port());
            return Err(r.invalid("node.gossip", (problem, remedy)));
        }
        Some(advertise) if advertise.ip().is_unspecified() || advertise.port() == 0 => {
            let problem = format!("`{advertise}` cannot be dialled");
            return Err(r.invalid("node.advertise", (problem, "write the IP and port that peers reach".into())));
        }
        _ => {}
    }
    let fronts = [("node.grpc", Some(config.grpc)), ("node.http", config.http), ("node.admin", Some(config.admin))];
    for (index, (key, address)) in fronts.iter().enumerate() {
        let taken = |(_, other): &&(&str, Option<SocketAddr>)| other.is_some() && other == address;
        if let Some((first, _)) = fronts[..index].iter().find(taken).filter(|_| address.is_some_and(|a| a.port() != 0))
        {
            let problem = format!("`{}` is taken by {first}", address.map_or_else(String::new, |a| a.to_string()));
            return Err(r.invalid(key, (problem, "give each its own port".into())));
        }
    }
    Ok(())
}

fn identity(layers: &Layers, node: &RawNode, r: &Reader<'_>) -> Result<Identity, ConfigError> {
    let path = |key: &str, path: &Option<String>| path.as_deref().map(|path| layers.path(key, path));
    let secret = path("node.cluster_secret_file", &node.cluster_secret_file);
    let files = [
        path("node.ca_file", &node.ca_file),
        path("node.cert_file", &node.cert_file),
        path("node.key_file", &node.key_file),
    ];
    match (secret, files) {
        (None, [None, None, None]) => Ok(Identity::None),
        (Some(secret), [None, None, None]) => Ok(Identity::SecretFile(secret)),
        (None, [Some(ca), Some(cert), Some(key)]) => Ok(Identity::Files { ca, cert, key }),
        (Some(secret), _) => {
            let problem = format!("{} is given beside certificate files", shown(&secret.display().to_string()));
            let remedy = "keep either the secret or ca_file, cert_file and key_file".to_owned();
            Err(r.invalid("node.cluster_secret_file", (problem, remedy)))
        }
        (None, files) => {
            let keys = ["node.ca_file", "node.cert_file", "node.key_file"];
            let position = |given: bool| files.iter().position(|file| file.is_some() == given).unwrap_or_default();
            let (given, missing) = (keys[position(true)], keys[position(false)]);
            Err(r.invalid(given, ("`…` is given alone".replace('…', given), format!("give {missing} too"))))
        }
    }
}

fn policy(written: &str, r: &Reader<'_>) -> Result<PolicyKind, ConfigError> {
    written.parse().map_err(|_| {
        let names: Vec<&str> = PolicyKind::ALL.into_iter().map(PolicyKind::name).collect();
        let remedy = match written {
            "redis" => "write mode = \"redis\" under [state], where its address stands too".to_owned(),
            _ => format!("take one of {}", names.join(", ")),
        };
        r.invalid("pick.policy", (format!("{} is no policy", shown(written)), remedy))
    })
}

fn budget_mbit() -> RangeInclusive<f64> {
    let [least, most] = [bounds::BUDGET_BITS.start(), bounds::BUDGET_BITS.end()].map(|bits| *bits as f64 / 1e6);
    least..=most
}

/// Judged whether it is on or not: who turns it on at night should not find out then.
fn strict(raw: &RawStrict, r: &Reader<'_>) -> Result<Option<Strict>, ConfigError> {
    let timeout_ms = r.float("strict.timeout_ms", raw.timeout_ms, bounds::STRICT_TIMEOUT_MS)?;
    let shards = raw.shards.map(|shards| r.integer("strict.shards", shards, 1..=i64::from(MAX_SHARDS))).transpose()?;
    let shards = shards.and_then(|shards| NonZeroU16::new(shards as u16));
    let strict = Strict { timeout: Duration::from_secs_f64(timeout_ms / 1e3), shards };
    Ok(raw.enabled.then_some(strict))
}

fn health(raw: &RawHealth, r: &Reader<'_>) -> Result<Health, ConfigError> {
    let interval = r.seconds("health.interval_s", raw.interval_s, bounds::HEALTH_INTERVAL_S)?;
    bounds::health_interval(raw.interval_s).map_err(|problem| r.invalid("health.interval_s", problem))?;
    let give_up = r.seconds("health.give_up_s", raw.give_up_s, bounds::HEALTH_GIVE_UP_S)?;
    bounds::health_give_up(raw.give_up_s).map_err(|problem| r.invalid("health.give_up_s", problem))?;
    Ok(Health {
        interval,
        give_up,
        failures: r.integer("health.failures", raw.failures, 0..=i64::from(bounds::MOST_FAILURES))? as u32,
        eject: r.seconds("health.eject_s", raw.eject_s, bounds::HEALTH_EJECT_S)?,
        panic_share: r.float("health.panic_share", raw.panic_share, bounds::PANIC_SHARE)?,
    })
}

fn log_format(written: &str, r: &Reader<'_>) -> Result<LogFormat, ConfigError> {
    match written {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(r.invalid("log.format", (format!("{} is no format", shown(written)), "take text or json".into()))),
    }
}

/// Judges values, and knows where each was written.
pub(super) struct Reader<'a> {
    pub(super) source: &'a dyn Fn(&str) -> Source,
}

impl Reader<'_> {
    pub(super) fn invalid(&self, key: &str, (problem, remedy): Problem) -> ConfigError {
        ConfigError::Invalid { at: (self.source)(key), key: key.to_owned(), problem, remedy }
    }

    /// A name that is part of an identity.
    fn plain_name(&self, key: &str, written: &str) -> Result<(), ConfigError> {
        if is_plain(written) {
            return Ok(());
        }
        let problem = format!("{} cannot name a node or cluster", shown(written));
        Err(self.invalid(key, (problem, "write 1 to 128 letters, digits or -._~".into())))
    }

    /// A name that goes into metrics and onto terminals.
    pub(super) fn label(&self, key: &str, written: &str) -> Result<(), ConfigError> {
        const LONGEST: usize = 128;
        let problem = match written {
            "" => "is empty",
            _ if written.len() > LONGEST => "is longer than 128 bytes",
            _ if written.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                "has white space or control characters"
            }
            _ => return Ok(()),
        };
        let remedy = "write 1 to 128 bytes without white space".to_owned();
        Err(self.invalid(key, (format!("{} {problem}", shown(written)), remedy)))
    }

    pub(super) fn socket(&self, key: &str, written: &str) -> Result<SocketAddr, ConfigError> {
        addr::socket(written).map_err(|problem| self.invalid(key, problem))
    }

    pub(super) fn integer(&self, key: &str, value: i64, range: RangeInclusive<i64>) -> Result<i64, ConfigError> {
        if range.contains(&value) {
            return Ok(value);
        }
        let remedy = format!("write {} to {}", range.start(), range.end());
        Err(self.invalid(key, (format!("`{value}` is out of range"), remedy)))
    }

    pub(super) fn float(&self, key: &str, value: f64, range: RangeInclusive<f64>) -> Result<f64, ConfigError> {
        bounds::within(value, &range).map(|()| value).map_err(|problem| self.invalid(key, problem))
    }

    pub(super) fn seconds(&self, key: &str, value: f64, range: RangeInclusive<f64>) -> Result<Duration, ConfigError> {
        self.float(key, value, range).map(Duration::from_secs_f64)
    }
}

/// Deserialises, and turns serde's complaint into a line of ours.
pub(super) fn typed<T: DeserializeOwned>(table: &Table, reader: &Reader<'_>) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table.clone()).map_err(|error| {
        let key = error.path().to_string();
        let message = one_line(error.inner().message());
        let found = error.path().iter().try_fold(Value::Table(table.clone()), descend);
        let value = found.map_or_else(String::new, |value| value.to_string());
        let expected = message.rsplit_once("expected ").map_or(message.as_str(), |(_, expected)| expected);
        let (problem, remedy) = match expected {
            "a string" => ("is not a string", "put it in quotes"),
            "a sequence" => ("is not a list", "put it in brackets, as in [\"a\", \"b\"]"),
            "a boolean" => ("is neither true nor false", "write true or false, without quotes"),
            "i64" => ("is not a whole number", "write digits without a point or quotes, as in 250"),
            "f64" => ("is not a number", "write it without quotes, as in 2.5"),
            "a port" => ("is no port", "write 8000, or \"http\" where Kubernetes names it so"),
            _ if expected.starts_with("struct") => {
                ("is not a table", "write keys in it, as in { grpc = \"http://a:8001\" }")
            }
            _ => {
                return reader.invalid(
                    &key,
                    (format!("{} does not fit: {message}", shown(&value)), "see the example file".into()),
                );
            }
        };
        reader.invalid(&key, (format!("{} {problem}", shown(value.trim())), remedy.to_owned()))
    })
}

/// One step down the path of an error.
fn descend(value: Value, segment: &serde_path_to_error::Segment) -> Option<Value> {
    use serde_path_to_error::Segment;
    match segment {
        Segment::Map { key } => value.get(key).cloned(),
        Segment::Seq { index } => value.get(*index).cloned(),
        _ => Some(value),
    }
}
