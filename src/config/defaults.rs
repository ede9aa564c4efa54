//! What holds where nobody says anything, each with its trade-off.

use std::net::SocketAddr;

use toml::{Table, Value};

use crate::core::{Health, SLOW_START, ZONE_PENALTY};
use crate::forward::{Limits, Retry};
use crate::redis::{FaceOptions, RedisAddress, StateOptions};

/// Where Triton itself listens, so that a caller beside a node changes nothing but the host.
pub(super) const GRPC: &str = "127.0.0.1:8001";
/// Triton's metrics port: views and metrics of this node stand where those of a pod would.
pub(super) const ADMIN: &str = "127.0.0.1:8002";
/// The port that gossiping systems are known by. Loopback: a node talks to other machines only where it is told to.
pub(super) const GOSSIP: &str = "127.0.0.1:7946";
/// Answers live at most this long, whatever their TTL says. Shorter finds new pods sooner and asks the resolver more
/// often; CoreDNS hands out 5 s for headless services.
const DNS_INTERVAL_S: f64 = 10.0;
/// Where pods that are found take HTTP and show their metrics: as Triton's container ports are called mostly. Kubernetes
/// knows ports by name; for pods that DNS knows they must be numbers, and by default these have neither.
const HTTP_PORT: &str = "http";
const METRICS_PORT: &str = "metrics";
/// The largest message the front passes on. Batches of images need tens of MiB; each one in flight may be held in
/// memory, so this times the requests in flight is what a node can grow by.
const MAX_MESSAGE_MIB: i64 = 256;
/// A pod that does not answer a SYN within a second is gone or full; the pick tries another one. Across regions double
/// it.
const CONNECT_TIMEOUT_MS: i64 = 1000;
/// How long a node that drains still takes requests, so that whoever sends to it can notice that it is not ready. Within a second
/// Kubernetes takes an address out of its services mostly; a balancer that polls readiness needs as long as its interval. Each
/// restart takes so much longer.
const DRAIN_GRACE_S: f64 = 1.0;
/// How long open requests may finish after the grace. Keep both together below what the supervisor waits before it kills (systemd
/// 90 s, Kubernetes 30 s), above what the longest usual request takes.
const DRAIN_S: f64 = 10.0;
/// What gossip may send, Mbit/s. Less makes the news about small requests older; more is noticed only by fleets of
/// thousands of requests a second.
const BUDGET_MBIT: f64 = 1.0;
/// How long a pick of strict mode waits for an owner. Twice the round trip of one zone; between zones take 5. Less makes
/// picks local that need not be, more is what each of them waits when an owner dies.
const STRICT_TIMEOUT_MS: f64 = 2.0;

/// To how many other pods a request is offered that a full queue refused. Each offer costs a round trip; where pods have
/// room for one waiting request each, three leave a tenth of the refusals or less up to a load of 0.85. With queues that
/// are there to shed load, 0 tells callers at once.
const AFTER_REFUSAL: i64 = 3;

/// Of the 128 bytes of a name: the rest is for the process id.
const LONGEST_HOST: usize = 100;

/// The lowest layer.
pub(super) fn table() -> Table {
    let section =
        |keys: Vec<(&str, Value)>| Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    let pick = vec![
        ("policy", "plimsoll".into()),
        ("after_refusal", AFTER_REFUSAL.into()),
        ("slow_start_s", SLOW_START.as_secs_f64().into()),
        ("zone_penalty_ms", (ZONE_PENALTY.as_secs_f64() * 1e3).into()),
    ];
    let node = vec![
        ("name", name().into()),
        ("grpc", GRPC.into()),
        ("admin", ADMIN.into()),
        // Health is open to probes all the same; what metrics tell is nobody's business until somebody says so.
        ("admin_tls", false.into()),
        ("admin_open_metrics", false.into()),
        ("gossip", GOSSIP.into()),
        ("cluster", "default".into()),
        ("join", Value::Array(Vec::new())),
    ];
    let discovery = vec![
        ("dns_interval_s", DNS_INTERVAL_S.into()),
        ("tls", false.into()),
        ("http_port", HTTP_PORT.into()),
        ("metrics_port", METRICS_PORT.into()),
    ];
    let front = vec![
        ("max_message_mib", MAX_MESSAGE_MIB.into()),
        ("connect_timeout_ms", CONNECT_TIMEOUT_MS.into()),
        ("drain_grace_s", DRAIN_GRACE_S.into()),
        ("drain_s", DRAIN_S.into()),
    ];
    // Costs a pod one small question per model and connection, and saves writing down for each pod what it knows itself.
    let triton = vec![("read_model_config", true.into())];
    let log = vec![("format", "text".into()), ("access", "off".into()), ("access_sample", 1.0.into())];
    Table::from_iter([
        ("node".to_owned(), section(node)),
        ("pick".to_owned(), section(pick)),
        ("discovery".to_owned(), section(discovery)),
        ("health".to_owned(), health()),
        ("front".to_owned(), section(front)),
        ("retry".to_owned(), retry()),
        ("limits".to_owned(), limits()),
        ("triton".to_owned(), section(triton)),
        ("gossip".to_owned(), section(vec![("budget_mbit", BUDGET_MBIT.into())])),
        ("strict".to_owned(), section(vec![("enabled", false.into()), ("timeout_ms", STRICT_TIMEOUT_MS.into())])),
        ("redis".to_owned(), redis()),
        ("state".to_owned(), state()),
        ("log".to_owned(), section(log)),
    ])
}

/// See [`StateOptions`].
fn state() -> Value {
    let usual = StateOptions::new(RedisAddress::local());
    let keys: [(&str, Value); 4] = [
        ("mode", "gossip".into()),
        ("deadline_ms", (usual.deadline.as_secs_f64() * 1e3).into()),
        ("heartbeat_s", usual.heartbeat.as_secs_f64().into()),
        ("reclaim_s", usual.reclaim.as_secs_f64().into()),
    ];
    Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// See [`Health`] for what each buys.
fn health() -> Value {
    let usual = Health::default();
    let keys: [(&str, Value); 5] = [
        ("interval_s", usual.interval.as_secs_f64().into()),
        ("failures", i64::from(usual.failures).into()),
        ("eject_s", usual.eject.as_secs_f64().into()),
        ("panic_share", usual.panic_share.into()),
        ("give_up_s", usual.give_up.as_secs_f64().into()),
    ];
    Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// See [`Retry`].
fn retry() -> Value {
    let usual = Retry::default();
    Value::Table(Table::from_iter([
        // By way of its text: 0.2 and not 0.20000000298.
        ("budget".to_owned(), usual.budget.to_string().parse().map_or(Value::Float(0.0), Value::Float)),
        ("most".to_owned(), i64::from(usual.most).into()),
        ("codes".to_owned(), Value::Array(Vec::new())),
        ("keep_mib".to_owned(), ((usual.keep_bytes >> 20) as i64).into()),
        ("keep_all_mib".to_owned(), ((usual.keep_all_bytes >> 20) as i64).into()),
    ]))
}

/// See [`Limits`].
fn limits() -> Value {
    let usual = Limits::default();
    let in_flight = usual.in_flight_per_pod.map_or(0, |most| i64::from(most.get()));
    Value::Table(Table::from_iter([
        ("in_flight_per_pod".to_owned(), in_flight.into()),
        ("queue".to_owned(), (usual.queue as i64).into()),
        ("refuse_late".to_owned(), usual.refuse_late.into()),
        ("connections".to_owned(), (usual.connections as i64).into()),
        ("connection_idle_s".to_owned(), usual.connection_idle.as_secs_f64().into()),
        ("body_idle_s".to_owned(), usual.body_idle.as_secs_f64().into()),
    ]))
}

/// See [`FaceOptions`] and [`LoadSet`].
fn redis() -> Value {
    let usual = FaceOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mib = |bytes: usize| Value::from((bytes >> 20) as i64);
    Value::Table(Table::from_iter([
        ("key".to_owned(), usual.set.key.into()),
        ("unit".to_owned(), "ms".into()),
        ("scale".to_owned(), 1.0.into()),
        ("zadd".to_owned(), "own".into()),
        ("model".to_owned(), usual.set.model.into()),
        ("return_on_close".to_owned(), usual.set.return_on_close.into()),
        ("tls".to_owned(), usual.tls.into()),
        ("maxmemory_mib".to_owned(), mib(usual.maxmemory)),
        ("maxclients".to_owned(), (usual.maxclients as i64).into()),
        ("timeout_s".to_owned(), usual.timeout.as_secs_f64().into()),
        ("output_limit_mib".to_owned(), mib(usual.output_limit)),
        ("query_limit_mib".to_owned(), mib(usual.query_limit)),
        ("script_limit_s".to_owned(), usual.script_limit.as_secs_f64().into()),
        ("script_memory_mib".to_owned(), mib(usual.script_memory)),
        ("threads".to_owned(), (usual.threads as i64).into()),
    ]))
}

/// Host and process: unique among the processes that live now, which is what a name must be.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Hosts may be called what identities may not.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-._~".contains(c) { c } else { '-' };
    let host: String = host.trim().chars().map(plain).take(LONGEST_HOST).collect();
    let host = if host.is_empty() { "node" } else { &host };
    format!("{host}-{}", std::process::id())
}
