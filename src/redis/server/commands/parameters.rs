//! The parameters of CONFIG: how each is shown, and what it may be set to.

use crate::args::int;
use crate::settings::Settings;

/// One parameter.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// As older Redis call it.
    pub(crate) alias: Option<&'static str>,
    pub(crate) get: fn(&Settings) -> Vec<u8>,
    /// None where it cannot be changed.
    pub(crate) set: Option<Set>,
}

/// How a value is read.
pub(crate) enum Set {
    /// A number within bounds.
    Number(i64, i64, fn(&mut Settings, i64)),
    /// Bytes, `10mb` too, within bounds.
    Memory(i64, i64, fn(&mut Settings, i64)),
    /// What it is already; this is said of anything else.
    Same(&'static str),
    /// Whatever this makes of it.
    Text(fn(&mut Settings, &[u8]) -> Result<(), String>),
}

const I32: i64 = i32::MAX as i64;
/// As Redis has it: a client could not set it back.
const LEAST_BYTES: i64 = 1 << 20;
const NO_EVICTION: &str = "argument(s) must be one of the following: noeviction";

pub(crate) const PARAMETERS: &[Parameter] = &[
    fixed("appendonly", |_| "no".into(), "argument must be 'no': nothing is written to disk"),
    number(
        "busy-reply-threshold",
        Some("lua-time-limit"),
        |s| shown(s.lua_time_limit_ms),
        0,
        i64::MAX,
        |s, value| {
            s.lua_time_limit_ms = value as u64;
        },
    ),
    Parameter {
        name: "client-output-buffer-limit",
        alias: None,
        get: |s| format!("normal {} 0 0", s.client_output_buffer_limit).into(),
        set: Some(Set::Text(set_output_limit)),
    },
    memory(
        "client-query-buffer-limit",
        |s| shown(s.client_query_buffer_limit),
        LEAST_BYTES,
        |s, value| {
            s.client_query_buffer_limit = value as usize;
        },
    ),
    Parameter { name: "daemonize", alias: None, get: |_| "no".into(), set: None },
    Parameter { name: "databases", alias: None, get: |_| shown(crate::engine::DATABASES), set: None },
    number(
        "hash-max-listpack-entries",
        Some("hash-max-ziplist-entries"),
        |s| shown(s.hash_max_listpack_entries),
        0,
        i64::MAX,
        |s, value| {
            s.hash_max_listpack_entries = value as usize;
        },
    ),
    number(
        "hash-max-listpack-value",
        Some("hash-max-ziplist-value"),
        |s| shown(s.hash_max_listpack_value),
        0,
        i64::MAX,
        |s, value| {
            s.hash_max_listpack_value = value as usize;
        },
    ),
    number(
        "list-compress-depth",
        None,
        |s| shown(s.list_compress_depth),
        0,
        I32,
        |s, value| s.list_compress_depth = value,
    ),
    number(
        "list-max-listpack-size",
        Some("list-max-ziplist-size"),
        |s| shown(s.list_max_listpack_size),
        -I32 - 1,
        I32,
        |s, value| {
            s.list_max_listpack_size = value;
        },
    ),
    number("maxclients", None, |s| shown(s.maxclients), 1, u32::MAX as i64, |s, value| s.maxclients = value as usize),
    memory("maxmemory", |s| shown(s.maxmemory), 0, |s, value| s.maxmemory = value as usize),
    Parameter {
        name: "maxmemory-clients",
        alias: None,
        get: |s| shown(s.maxmemory_clients),
        set: Some(Set::Text(set_clients_limit)),
    },
    fixed("maxmemory-policy", |_| "noeviction".into(), NO_EVICTION),
    memory(
        "proto-max-bulk-len",
        |s| shown(s.proto_max_bulk_len),
        LEAST_BYTES,
        |s, value| {
            s.proto_max_bulk_len = value as usize;
        },
    ),
    Parameter {
        name: "requirepass",
        alias: None,
        get: |s| s.requirepass.clone(),
        set: Some(Set::Text(|s, value| {
            s.requirepass = value.to_vec();
            Ok(())
        })),
    },
    fixed("save", |_| Vec::new(), "argument must be '': nothing is written to disk"),
    number(
        "set-max-intset-entries",
        None,
        |s| shown(s.set_max_intset_entries),
        0,
        i64::MAX,
        |s, value| {
            s.set_max_intset_entries = value as usize;
        },
    ),
    number(
        "slowlog-log-slower-than",
        None,
        |s| shown(s.slowlog_slower_us),
        -1,
        i64::MAX,
        |s, value| {
            s.slowlog_slower_us = value;
        },
    ),
    number(
        "slowlog-max-len",
        None,
        |s| shown(s.slowlog_max_len),
        0,
        1 << 16,
        |s, value| s.slowlog_max_len = value as usize,
    ),
    number("timeout", None, |s| shown(s.timeout_s), 0, I32, |s, value| s.timeout_s = value as u64),
    number(
        "zset-max-listpack-entries",
        Some("zset-max-ziplist-entries"),
        |s| shown(s.zset_max_listpack_entries),
        0,
        i64::MAX,
        |s, value| {
            s.zset_max_listpack_entries = value as usize;
        },
    ),
    number(
        "zset-max-listpack-value",
        Some("zset-max-ziplist-value"),
        |s| shown(s.zset_max_listpack_value),
        0,
        i64::MAX,
        |s, value| {
            s.zset_max_listpack_value = value as usize;
        },
    ),
];

const fn number(
    name: &'static str,
    alias: Option<&'static str>,
    get: fn(&Settings) -> Vec<u8>,
    least: i64,
    most: i64,
    set: fn(&mut Settings, i64),
) -> Parameter {
    Parameter { name, alias, get, set: Some(Set::Number(least, most, set)) }
}

const fn memory(
    name: &'static str,
    get: fn(&Settings) -> Vec<u8>,
    least: i64,
    set: fn(&mut Settings, i64),
) -> Parameter {
    Parameter { name, alias: None, get, set: Some(Set::Memory(least, i64::MAX, set)) }
}

const fn fixed(name: &'static str, get: fn(&Settings) -> Vec<u8>, otherwise: &'static str) -> Parameter {
    Parameter { name, alias: None, get, set: Some(Set::Same(otherwise)) }
}

fn shown(number: impl std::fmt::Display) -> Vec<u8> {
    number.to_string().into()
}

impl Parameter {
    pub(crate) fn is_called(&self, name: &[u8]) -> bool {
        let is = |own: &str| own.as_bytes().eq_ignore_ascii_case(name);
        is(self.name) || self.alias.is_some_and(is)
    }

    /// Sets it, or says in Redis's words why not.
    pub(crate) fn apply(&self, settings: &mut Settings, value: &[u8]) -> Result<(), String> {
        match &self.set {
            None => Err("can't set immutable config".into()),
            Some(Set::Number(least, most, set)) => {
                let number = int(value).ok_or("argument couldn't be parsed into an integer")?;
                set(settings, within(number, *least, *most)?);
                Ok(())
            }
            Some(Set::Memory(least, most, set)) => {
                let bytes = bytes(value).ok_or("argument must be a memory value")?;
                set(settings, within(bytes, *least, *most)?);
                Ok(())
            }
            Some(Set::Same(otherwise)) if *value != (self.get)(settings) => Err((*otherwise).into()),
            Some(Set::Same(_)) => Ok(()),
            Some(Set::Text(set)) => set(settings, value),
        }
    }
}

fn within(number: i64, least: i64, most: i64) -> Result<i64, String> {
    let is_within = (least..=most).contains(&number);
    is_within.then_some(number).ok_or_else(|| format!("argument must be between {least} and {most} inclusive"))
}

/// Bytes with a unit: `1gb` is a power of two, `1g` of ten.
fn bytes(value: &[u8]) -> Option<i64> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = value.split_at(digits);
    let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// In bytes, or as a part of `maxmemory`.
fn set_clients_limit(settings: &mut Settings, value: &[u8]) -> Result<(), String> {
    settings.maxmemory_clients = match value.strip_suffix(b"%") {
        None => bytes(value).ok_or("argument must be a memory or percent value")? as usize,
        Some(percent) => {
            let percent =
                int(percent).filter(|percent| *percent >= 0).ok_or("argument must be a memory or percent value")?;
            if percent > 100 {
                return Err("percentage argument must be less or equal to 100".into());
            }
            settings.maxmemory / 100 * percent as usize
        }
    };
    Ok(())
}

/// By class, `normal <hard> <soft> <seconds>`: only what is hard holds here, and only of normal clients. The other classes,
/// which never have a client here, are taken and forgotten.
fn set_output_limit(settings: &mut Settings, value: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(value);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for class in words.chunks(4) {
        let hard = bytes(class[1].as_bytes()).filter(|_| bytes(class[2].as_bytes()).is_some());
        let hard = hard.filter(|_| int(class[3].as_bytes()).is_some_and(|seconds| seconds >= 0));
        let hard = hard.ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
        match class[0].to_ascii_lowercase().as_str() {
            "normal" => settings.client_output_buffer_limit = hard as usize,
            "slave" | "replica" | "pubsub" => {}
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_their_units_and_nothing_else() {
        // Story: `maxmemory 100mb` must be what Redis makes of it, and what is no size must not become one.
        for (text, expected) in [("0", Some(0)), ("1k", Some(1000)), ("2Kb", Some(2048)), ("1GB", Some(1 << 30))] {
            assert_eq!(bytes(text.as_bytes()), expected, "{text}");
        }
        for text in ["", "k", "-1", "1x", "1 mb", "9223372036854775807gb"] {
            assert_eq!(bytes(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_set_again() {
        // Story: tools read a value, change it, and put it back; Redis's own suite does so with all of them.
        let mut settings = Settings::default();
        for parameter in PARAMETERS.iter().filter(|parameter| parameter.set.is_some()) {
            let before = (parameter.get)(&settings);
            assert_eq!(parameter.apply(&mut settings, &before), Ok(()), "{}", parameter.name);
            assert_eq!((parameter.get)(&settings), before, "{}", parameter.name);
        }
    }
}
