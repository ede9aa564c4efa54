//! `[retry]`, `[limits]` and `[[models]]`: what is sent again, what waits, and what is known of single models.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use tonic::Code;

use super::error::{ConfigError, shown};
use super::raw::Reader;
use crate::forward::{Affinity, Limits, ModelOptions, Retry};

/// More models than this is a mistake: a node keeps no more apart.
const MOST_MODELS: usize = 1024;
/// Requests in flight on one pod, and requests that wait here: more of either is no bound.
const MOST_IN_FLIGHT: i64 = 65_535;
const MOST_WAITING: i64 = 1_000_000;
/// Callers' connections: more have no file descriptors on any system as it is delivered.
const MOST_CONNECTIONS: i64 = 1_000_000;
/// How long a caller may do nothing, s: less would cut who is alive, more is no limit.
const IDLE_S: std::ops::RangeInclusive<f64> = 1.0..=604_800.0;
/// How often one request may be sent again: who needs more has no fleet left.
const MOST_AGAIN: i64 = 16;
/// What is kept of one request, and of all, to be sent again, MiB: the largest message there can be, and a machine's memory.
const MOST_KEPT_MIB: i64 = 2047;
const MOST_KEPT_OF_ALL_MIB: i64 = 1 << 20;
/// What a request waits before a second pod is asked, ms: sooner would be every request, later is what a deadline is for.
const HEDGE_AFTER_MS: std::ops::RangeInclusive<f64> = 0.1..=600_000.0;
/// Pods of one key: beyond, it is no affinity.
const MOST_PODS_OF_A_KEY: i64 = 65_535;
/// Pods of one key where nobody says: one alone would have to take all of a busy key, and lose its cache when it ends.
const PODS_OF_A_KEY: i64 = 2;

/// The statuses that a request may be sent again for, by the names that gRPC has for them.
const CODES: [(&str, Code); 16] = [
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetry {
    budget: f64,
    most: i64,
    codes: Vec<String>,
    keep_mib: i64,
    keep_all_mib: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    in_flight_per_pod: i64,
    queue: i64,
    refuse_late: bool,
    connections: i64,
    connection_idle_s: f64,
    body_idle_s: f64,
}

/// One model as written. Without a name it is for all models that are not listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    model: Option<String>,
    idempotent: Option<bool>,
    hedge_after_ms: Option<f64>,
    affinity_key: Option<String>,
    affinity_pods: Option<i64>,
    balance_streams: Option<bool>,
}

pub(super) fn read_retry(raw: &RawRetry, r: &Reader<'_>) -> Result<Retry, ConfigError> {
    let code = |(index, name): (usize, &String)| {
        let known = CODES.iter().find(|(known, _)| known == name).map(|(_, code)| *code);
        known.ok_or_else(|| {
            let names: Vec<&str> = CODES.iter().map(|(name, _)| *name).collect();
            let problem = format!("{} is no status that can be sent again", shown(name));
            r.invalid(&format!("retry.codes[{index}]"), (problem, format!("take one of {}", names.join(", "))))
        })
    };
    Ok(Retry {
        budget: r.float("retry.budget", raw.budget, 0.0..=1.0)? as f32,
        most: r.integer("retry.most", raw.most, 0..=MOST_AGAIN)? as u32,
        codes: raw.codes.iter().enumerate().map(code).collect::<Result<_, _>>()?,
        keep_bytes: (r.integer("retry.keep_mib", raw.keep_mib, 0..=MOST_KEPT_MIB)? as u64) << 20,
        keep_all_bytes: (r.integer("retry.keep_all_mib", raw.keep_all_mib, 0..=MOST_KEPT_OF_ALL_MIB)? as u64) << 20,
    })
}

pub(super) fn read_limits(raw: &RawLimits, r: &Reader<'_>) -> Result<Limits, ConfigError> {
    let in_flight = r.integer("limits.in_flight_per_pod", raw.in_flight_per_pod, 0..=MOST_IN_FLIGHT)?;
    Ok(Limits {
        in_flight_per_pod: NonZeroU32::new(in_flight as u32),
        queue: r.integer("limits.queue", raw.queue, 0..=MOST_WAITING)? as usize,
        refuse_late: raw.refuse_late,
        connections: r.integer("limits.connections", raw.connections, 1..=MOST_CONNECTIONS)? as usize,
        connection_idle: r.seconds("limits.connection_idle_s", raw.connection_idle_s, IDLE_S)?,
        body_idle: r.seconds("limits.body_idle_s", raw.body_idle_s, IDLE_S)?,
    })
}

pub(super) fn read_models(raw: Vec<RawModel>, r: &Reader<'_>) -> Result<BTreeMap<Box<str>, ModelOptions>, ConfigError> {
    if raw.len() > MOST_MODELS {
        let problem = format!("`{}` models are too many", raw.len());
        return Err(r.invalid("models", (problem, format!("list at most {MOST_MODELS}"))));
    }
    let mut models = BTreeMap::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = |leaf: &str| format!("models[{index}].{leaf}");
        let model = raw.model.clone().unwrap_or_default();
        if raw.model.is_some() {
            r.label(&key("model"), &model)?;
        }
        let options = read_model(raw, &key, r)?;
        if models.insert(model.clone().into_boxed_str(), options).is_some() {
            let whose = if model.is_empty() { "what holds for all other models".to_owned() } else { shown(&model) };
            let problem = format!("{whose} was written already");
            return Err(r.invalid(&key("model"), (problem, "write one table for each".to_owned())));
        }
    }
    Ok(models)
}

fn read_model(raw: RawModel, key: &dyn Fn(&str) -> String, r: &Reader<'_>) -> Result<ModelOptions, ConfigError> {
    let idempotent = raw.idempotent.unwrap_or(false);
    let hedge_after = match raw.hedge_after_ms {
        Some(ms) if !idempotent => {
            let problem = format!("`{ms}` would have requests run twice");
            return Err(r.invalid(&key("hedge_after_ms"), (problem, "write idempotent = true if they may".to_owned())));
        }
        Some(ms) => Some(Duration::from_secs_f64(r.float(&key("hedge_after_ms"), ms, HEDGE_AFTER_MS)? / 1e3)),
        None => None,
    };
    let affinity = match (raw.affinity_key, raw.affinity_pods) {
        (Some(name), pods) => {
            r.label(&key("affinity_key"), &name)?;
            let most = 1..=MOST_PODS_OF_A_KEY;
            let pods = r.integer(&key("affinity_pods"), pods.unwrap_or(PODS_OF_A_KEY), most)?;
            Some(Affinity::new(name, pods as usize))
        }
        (None, Some(pods)) => {
            let problem = format!("`{pods}` is given without a key");
            return Err(r.invalid(&key("affinity_pods"), (problem, "write affinity_key too".to_owned())));
        }
        (None, None) => None,
    };
    Ok(ModelOptions { idempotent, hedge_after, affinity, balance_streams: raw.balance_streams.unwrap_or(false) })
}
