//! Every key there is: what the layers (file, environment, flags) may say, and the names they say it by.
//!
//! One list serves four readers: unknown keys are refused by it, typos find their neighbour in it, environment
//! variables and flags are derived from it, and `plimsoll check` prints in its order.

/// What a key holds; how text from the environment or a flag becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Float,
    /// `true` or `false`.
    Flag,
    /// Comma separated in the environment, repeated as a flag.
    List,
    /// `NAME=URL` or `URL`, comma separated or repeated.
    Pods,
    /// Tables that only a file can hold.
    Tables,
}

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The dotted name, as in `node.grpc`.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// The flag, without dashes. In capitals behind `PLIMSOLL_` it is the short environment variable too.
    pub(super) flag: Option<&'static str>,
}

const fn key(path: &'static str, kind: Kind, flag: &'static str) -> Key {
    Key { path, kind, flag: Some(flag) }
}

const fn bare(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, flag: None }
}

pub(super) const KEYS: &[Key] = &[
    key("node.name", Kind::Text, "name"),
    key("node.grpc", Kind::Text, "grpc"),
    key("node.http", Kind::Text, "http"),
    key("node.admin", Kind::Text, "admin"),
    key("node.admin_token_file", Kind::Text, "admin-token-file"),
    bare("node.admin_tls", Kind::Flag),
    bare("node.admin_open_metrics", Kind::Flag),
    key("node.gossip", Kind::Text, "gossip"),
    key("node.advertise", Kind::Text, "advertise"),
    key("node.cluster", Kind::Text, "cluster"),
    key("node.join", Kind::List, "join"),
    key("node.zone", Kind::Text, "zone"),
    key("node.cluster_secret_file", Kind::Text, "cluster-secret-file"),
    key("node.ca_file", Kind::Text, "ca-file"),
    key("node.cert_file", Kind::Text, "cert-file"),
    key("node.key_file", Kind::Text, "key-file"),
    bare("tls.cert_file", Kind::Text),
    bare("tls.key_file", Kind::Text),
    bare("tls.client_ca_file", Kind::Text),
    key("pick.policy", Kind::Text, "policy"),
    bare("pick.after_refusal", Kind::Integer),
    bare("pick.slow_start_s", Kind::Float),
    bare("pick.zone_penalty_ms", Kind::Float),
    bare("health.interval_s", Kind::Float),
    bare("health.failures", Kind::Integer),
    bare("health.eject_s", Kind::Float),
    bare("health.panic_share", Kind::Float),
    bare("health.give_up_s", Kind::Float),
    key("discovery.file", Kind::Text, "discovery-file"),
    key("discovery.dns", Kind::List, "dns"),
    bare("discovery.dns_interval_s", Kind::Float),
    key("discovery.kubernetes", Kind::List, "kubernetes"),
    bare("discovery.tls", Kind::Flag),
    bare("discovery.http_port", Kind::Text),
    bare("discovery.metrics_port", Kind::Text),
    bare("front.max_message_mib", Kind::Integer),
    bare("front.connect_timeout_ms", Kind::Integer),
    key("front.drain_grace_s", Kind::Float, "drain-grace-s"),
    key("front.drain_s", Kind::Float, "drain-s"),
    bare("retry.budget", Kind::Float),
    bare("retry.most", Kind::Integer),
    bare("retry.codes", Kind::List),
    bare("retry.keep_mib", Kind::Integer),
    bare("retry.keep_all_mib", Kind::Integer),
    bare("limits.in_flight_per_pod", Kind::Integer),
    bare("limits.queue", Kind::Integer),
    bare("limits.refuse_late", Kind::Flag),
    bare("limits.connections", Kind::Integer),
    bare("limits.connection_idle_s", Kind::Float),
    bare("limits.body_idle_s", Kind::Float),
    bare("triton.read_model_config", Kind::Flag),
    bare("triton.ca_file", Kind::Text),
    bare("triton.cert_file", Kind::Text),
    bare("triton.key_file", Kind::Text),
    bare("triton.server_name", Kind::Text),
    key("gossip.budget_mbit", Kind::Float, "budget-mbit"),
    bare("strict.enabled", Kind::Flag),
    bare("strict.timeout_ms", Kind::Float),
    bare("strict.shards", Kind::Integer),
    key("redis.listen", Kind::Text, "redis"),
    bare("redis.key", Kind::Text),
    bare("redis.unit", Kind::Text),
    bare("redis.scale", Kind::Float),
    bare("redis.zadd", Kind::Text),
    bare("redis.model", Kind::Text),
    bare("redis.return_on_close", Kind::Flag),
    bare("redis.password_file", Kind::Text),
    bare("redis.tls", Kind::Flag),
    bare("redis.maxmemory_mib", Kind::Integer),
    bare("redis.maxclients", Kind::Integer),
    bare("redis.timeout_s", Kind::Float),
    bare("redis.output_limit_mib", Kind::Integer),
    bare("redis.query_limit_mib", Kind::Integer),
    bare("redis.script_limit_s", Kind::Float),
    bare("redis.script_memory_mib", Kind::Integer),
    bare("redis.threads", Kind::Integer),
    bare("redis.bridge", Kind::Text),
    bare("redis.bridge_key", Kind::Text),
    bare("redis.bridge_password_file", Kind::Text),
    bare("redis.bridge_ca_file", Kind::Text),
    bare("state.mode", Kind::Text),
    bare("state.redis", Kind::Text),
    bare("state.password_file", Kind::Text),
    bare("state.ca_file", Kind::Text),
    bare("state.cert_file", Kind::Text),
    bare("state.key_file", Kind::Text),
    bare("state.deadline_ms", Kind::Float),
    bare("state.heartbeat_s", Kind::Float),
    bare("state.reclaim_s", Kind::Float),
    bare("state.prefix", Kind::Text),
    key("log.format", Kind::Text, "log-format"),
    bare("log.access", Kind::Text),
    bare("log.access_sample", Kind::Float),
    bare("costs", Kind::Tables),
    bare("models", Kind::Tables),
    key("pods", Kind::Pods, "pod"),
];

/// Lists of tables, and what one table of each may say.
const LISTS: [(&str, &[&str]); 3] = [
    ("costs", &["model", "base_ms", "per_kib_ms", "min_ms", "max_ms", "learn"]),
    ("models", &["model", "idempotent", "hedge_after_ms", "affinity_key", "affinity_pods", "balance_streams"]),
    ("pods", &["name", "grpc", "http", "metrics", "models", "slots", "weight", "uid", "zone"]),
];

impl Key {
    /// Its environment variables, the full name first: it wins over the short one where both are set.
    pub(super) fn variables(&self) -> Vec<String> {
        if self.kind == Kind::Tables {
            return Vec::new();
        }
        let full = format!("PLIMSOLL_{}", self.path.replace('.', "_").to_uppercase());
        let short = self.flag.map(|flag| format!("PLIMSOLL_{}", flag.replace('-', "_").to_uppercase()));
        let mut names = vec![full];
        names.extend(short.filter(|short| *short != names[0] && self.kind != Kind::Pods));
        names
    }
}

/// The key called `path`, where there is one.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether `path` is a list of tables.
pub(super) fn is_list(path: &str) -> bool {
    LISTS.iter().any(|(name, _)| *name == path)
}

/// What a table may say that is, or has in it, `path`, as in `pods[3].grpc`; none where `path` is in no list.
pub(super) fn item_keys(path: &str) -> Option<&'static [&'static str]> {
    let (list, _) = path.split_once('[')?;
    LISTS.iter().find(|(name, _)| *name == list).map(|(_, keys)| *keys)
}

/// Whether `path` is a table that holds keys.
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.split_once('.').is_some_and(|(section, _)| section == path))
}

/// What to tell someone who wrote the unknown key `path`.
pub(super) fn hint(path: &str) -> String {
    let (section, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings = siblings(section);
    if let Some(near) = nearest(leaf, siblings.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    // A key in the wrong section is the other way to be nearly right.
    let elsewhere = KEYS.iter().find(|key| key.path.rsplit_once('.').is_some_and(|(_, other)| other == leaf));
    match elsewhere {
        Some(key) => format!("did you mean `{}`?", key.path),
        None => format!("known here: {}", siblings.join(", ")),
    }
}

/// The names that may stand in `section` (the empty one is the top), each once, in the order of the list.
fn siblings(section: &str) -> Vec<&'static str> {
    if let Some(keys) = item_keys(section) {
        return keys.to_vec();
    }
    let mut names: Vec<&str> = Vec::new();
    for key in KEYS {
        let name = match key.path.split_once('.') {
            Some((top, leaf)) if top == section => leaf,
            Some((top, _)) if section.is_empty() => top,
            None if section.is_empty() => key.path,
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The known name that `written` was probably meant to be. Two slips (a swap counts as one) in a name of six letters
/// are a typo; more of them would suggest `dns` for `http`.
pub(super) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    let distance = |name: &&str| strsim::damerau_levenshtein(written, name);
    known.min_by_key(distance).filter(|name| distance(name) <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A typo should be answered with the key that was meant, wherever it belongs, and nonsense with what there is.
    #[test]
    fn a_typo_finds_its_neighbour() {
        for (written, hint_for_it) in [
            ("node.grcp", "did you mean `grpc`?"),
            (
                "node.cluster_secret",
                "known here: name, grpc, http, admin, admin_token_file, admin_tls, admin_open_metrics, gossip, advertise, cluster, join, zone, cluster_secret_file, ca_file, cert_file, key_file",
            ),
            ("node.policy", "did you mean `pick.policy`?"),
            ("nodes", "did you mean `node`?"),
            ("pods[3].slot", "did you mean `slots`?"),
            ("costs[0].per_kb_ms", "did you mean `per_kib_ms`?"),
            ("log.colour", "known here: format, access, access_sample"),
        ] {
            assert_eq!(hint(written), hint_for_it, "{written}");
        }
    }

    /// Two keys with one variable or flag would shadow each other silently.
    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = KEYS.iter().flat_map(|key| key.variables()).collect();
        names.extend(KEYS.iter().filter_map(|key| key.flag).map(str::to_owned));
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert_eq!(find("node.grpc").unwrap().variables(), ["PLIMSOLL_NODE_GRPC", "PLIMSOLL_GRPC"]);
    }
}
