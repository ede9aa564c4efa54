//! `[redis]`: how a node speaks Redis.

use std::time::Duration;

use serde::Deserialize;

use super::error::{ConfigError, shown};
use super::layers::Layers;
use super::raw::Reader;
use crate::redis::{BridgeOptions, FaceOptions, LoadSet, NoRedisAddress, Unit, Zadd};

/// Milliseconds of one point of a score: from microseconds to hours.
const SCALE: std::ops::RangeInclusive<f64> = 1e-6..=3.6e6;
/// A set's key, and the name of a model: longer ones are mistakes.
const LONGEST_NAME: usize = 512;
const MOST_MIB: i64 = 1 << 20;
const MOST_CLIENTS: i64 = 1_000_000;
/// How long a client may say nothing, s; 0 is for ever.
const TIMEOUT_S: std::ops::RangeInclusive<f64> = 0.0..=604_800.0;
/// A script that runs for longer than a minute is no balancer's.
const SCRIPT_S: std::ops::RangeInclusive<f64> = 0.01..=60.0;
const MOST_THREADS: i64 = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedis {
    listen: Option<String>,
    key: String,
    unit: String,
    scale: f64,
    zadd: String,
    model: String,
    return_on_close: bool,
    password_file: Option<String>,
    tls: bool,
    maxmemory_mib: i64,
    maxclients: i64,
    timeout_s: f64,
    output_limit_mib: i64,
    query_limit_mib: i64,
    script_limit_s: f64,
    script_memory_mib: i64,
    threads: i64,
    bridge: Option<String>,
    bridge_key: Option<String>,
    bridge_password_file: Option<String>,
    bridge_ca_file: Option<String>,
}

/// All is judged whether the face is on or not: who turns it on at night should not find out then.
pub(super) fn read_redis(
    layers: &Layers,
    raw: &RawRedis,
    has_certificate: bool,
    r: &Reader<'_>,
) -> Result<Option<FaceOptions>, ConfigError> {
    let mib = |key: &str, value: i64| r.integer(key, value, 1..=MOST_MIB).map(|mib| (mib as usize) << 20);
    let set = load_set(raw, r)?;
    let (maxmemory, output_limit) =
        (mib("redis.maxmemory_mib", raw.maxmemory_mib)?, mib("redis.output_limit_mib", raw.output_limit_mib)?);
    let query_limit = mib("redis.query_limit_mib", raw.query_limit_mib)?;
    let script_memory = mib("redis.script_memory_mib", raw.script_memory_mib)?;
    let maxclients = r.integer("redis.maxclients", raw.maxclients, 1..=MOST_CLIENTS)? as usize;
    let threads = r.integer("redis.threads", raw.threads, 1..=MOST_THREADS)? as usize;
    let timeout = Duration::from_secs_f64(r.float("redis.timeout_s", raw.timeout_s, TIMEOUT_S)?);
    let script_limit = r.seconds("redis.script_limit_s", raw.script_limit_s, SCRIPT_S)?;
    let Some(listen) = raw.listen.as_deref().filter(|listen| !listen.is_empty()) else { return Ok(None) };
    let listen = r.socket("redis.listen", listen)?;
    let password_file = raw.password_file.as_deref().map(|path| layers.path("redis.password_file", path));
    if !listen.ip().is_loopback() && password_file.is_none() {
        let problem =
            format!("{} can be reached from other machines, and there is no password", shown(&listen.to_string()));
        return Err(r.invalid("redis.listen", (problem, "give redis.password_file, or listen on 127.0.0.1".into())));
    }
    if raw.tls && !has_certificate {
        let problem =
            ("`true` without a certificate to show".to_owned(), "give tls.cert_file and tls.key_file".to_owned());
        return Err(r.invalid("redis.tls", problem));
    }
    Ok(Some(FaceOptions {
        set,
        password_file,
        tls: raw.tls,
        maxmemory,
        maxclients,
        timeout,
        output_limit,
        query_limit,
        script_limit,
        script_memory,
        threads,
        ..FaceOptions::new(listen)
    }))
}

/// The bridge's set is in the unit of the face's, under a key of its own where they give it another name.
pub(super) fn read_bridge(
    layers: &Layers,
    raw: &RawRedis,
    r: &Reader<'_>,
) -> Result<Option<BridgeOptions>, ConfigError> {
    let path = |key: &str, path: &Option<String>| path.as_deref().map(|path| layers.path(key, path));
    let mut set = load_set(raw, r)?;
    if let Some(key) = &raw.bridge_key {
        set.key = named("redis.bridge_key", key, r)?;
    }
    let Some(url) = raw.bridge.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
    let wrong = |error: NoRedisAddress| r.invalid("redis.bridge", (error.problem, error.remedy));
    Ok(Some(BridgeOptions {
        redis: url.parse().map_err(wrong)?,
        password_file: path("redis.bridge_password_file", &raw.bridge_password_file),
        ca_file: path("redis.bridge_ca_file", &raw.bridge_ca_file),
        set,
    }))
}

fn named(path: &str, key: &str, r: &Reader<'_>) -> Result<String, ConfigError> {
    if key.is_empty() || key.len() > LONGEST_NAME {
        let problem = (format!("{} is no key for the set", shown(key)), format!("write 1 to {LONGEST_NAME} bytes"));
        return Err(r.invalid(path, problem));
    }
    Ok(key.to_owned())
}

fn load_set(raw: &RawRedis, r: &Reader<'_>) -> Result<LoadSet, ConfigError> {
    let key = named("redis.key", &raw.key, r)?;
    let scale = r.float("redis.scale", raw.scale, SCALE)?;
    let unit = match raw.unit.as_str() {
        "ms" => Unit::Ms(scale),
        "count" if scale == 1.0 => Unit::Count,
        "count" => {
            let problem = (format!("`{scale}` means nothing where scores are counts"), "leave it out".to_owned());
            return Err(r.invalid("redis.scale", problem));
        }
        other => {
            return Err(r.invalid("redis.unit", (format!("{} is no unit", shown(other)), "take ms or count".into())));
        }
    };
    let zadd = match raw.zadd.as_str() {
        "own" => Zadd::Own,
        "fleet" => Zadd::Fleet,
        other => {
            let problem = format!("{} is not what ZADD can set", shown(other));
            return Err(r.invalid("redis.zadd", (problem, "take own or fleet".into())));
        }
    };
    if !raw.model.is_empty() {
        r.label("redis.model", &raw.model)?;
    }
    let model = raw.model.clone();
    Ok(LoadSet { key, unit, zadd, model, return_on_close: raw.return_on_close })
}
