//! `[state]`: whether a Redis that all nodes share decides picks, and which.

use std::time::Duration;

use serde::Deserialize;

use super::error::{ConfigError, shown};
use super::layers::Layers;
use super::raw::Reader;
use crate::bounds;
use crate::redis::{NoRedisAddress, RedisAddress, StateOptions};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawState {
    mode: String,
    redis: Option<String>,
    password_file: Option<String>,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    deadline_ms: f64,
    heartbeat_s: f64,
    reclaim_s: f64,
    prefix: Option<String>,
}

/// All is judged whether Redis decides or not: who turns it on at night should not find out then.
pub(super) fn read_state(
    layers: &Layers,
    raw: &RawState,
    is_strict: bool,
    r: &Reader<'_>,
) -> Result<Option<StateOptions>, ConfigError> {
    let decides = match raw.mode.as_str() {
        "redis" => true,
        "gossip" => false,
        other => {
            let problem = (format!("{} decides nothing", shown(other)), "take gossip or redis".to_owned());
            return Err(r.invalid("state.mode", problem));
        }
    };
    let wrong = |NoRedisAddress { problem, remedy, .. }| r.invalid("state.redis", (problem, remedy));
    // An empty variable is how a container says nothing.
    let redis = raw.redis.as_deref().filter(|url| !url.is_empty());
    let redis: Option<RedisAddress> = redis.map(str::parse).transpose().map_err(wrong)?;
    let path = |key: &str, path: &Option<String>| path.as_deref().map(|path| layers.path(key, path));
    let pair = [&raw.cert_file, &raw.key_file];
    let shows = super::access::read_pair(layers, ["state.cert_file", "state.key_file"], pair, r)?;
    let deadline =
        Duration::from_secs_f64(r.float("state.deadline_ms", raw.deadline_ms, bounds::STATE_DEADLINE_MS)? / 1e3);
    let heartbeat = r.seconds("state.heartbeat_s", raw.heartbeat_s, bounds::STATE_HEARTBEAT_S)?;
    let reclaim = r.seconds("state.reclaim_s", raw.reclaim_s, bounds::STATE_RECLAIM_S)?;
    bounds::state_reclaim(heartbeat, reclaim).map_err(|problem| r.invalid("state.reclaim_s", problem))?;
    if let Some(prefix) = &raw.prefix {
        bounds::state_prefix(prefix).map_err(|problem| r.invalid("state.prefix", problem))?;
    }
    let Some(redis) = redis else {
        return match decides {
            false => Ok(None),
            true => {
                let problem =
                    ("`redis` needs a Redis".to_owned(), "give state.redis, as in `redis://10.0.0.7:6379`".to_owned());
                Err(r.invalid("state.mode", problem))
            }
        };
    };
    if !decides {
        return Ok(None);
    }
    if cfg!(not(feature = "redis")) {
        let remedy = "build it with the feature `redis`".to_owned();
        return Err(r.invalid("state.mode", ("`redis` is not in this build".to_owned(), remedy)));
    }
    if is_strict {
        let problem = "`redis` is given beside strict.enabled: only one can be asked".to_owned();
        return Err(r.invalid("state.mode", (problem, "turn one of both off".to_owned())));
    }
    Ok(Some(StateOptions {
        password_file: path("state.password_file", &raw.password_file),
        ca_file: path("state.ca_file", &raw.ca_file),
        shows,
        deadline,
        heartbeat,
        reclaim,
        prefix: raw.prefix.clone(),
        ..StateOptions::new(redis)
    }))
}
