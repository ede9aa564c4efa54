//! Configuration, as its writers meet it: layers, mistakes, the example files, the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use plimsoll::config::{Config, CredentialsError, Identity, Layers, LogFormat, Port};
use plimsoll::forward::ForwardOptions;
use plimsoll::pick::PolicyKind;
use proptest::prelude::*;
use tonic::Code;

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn error_of(toml: &str) -> String {
    Config::from_toml_str(toml).expect_err(toml).to_string()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The binary, without any `PLIMSOLL_*` of whoever runs the tests.
fn plimsoll(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PLIMSOLL_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8")
}

/// Strict mode costs a round trip for each request: it must be off until somebody asks for it, and then as they said.
#[test]
fn strict_mode_is_off_until_it_is_turned_on() {
    let parse = |text: &str| Config::from_toml_str(text).unwrap().strict;
    assert_eq!(parse(""), None);
    assert_eq!(parse("strict.shards = 3"), None);
    let on = parse("strict.enabled = true").unwrap();
    assert_eq!((on.timeout, on.shards), (Duration::from_millis(2), None));
    let set = parse("[strict]\nenabled = true\ntimeout_ms = 0.5\nshards = 3").unwrap();
    assert_eq!((set.timeout, set.shards.unwrap().get()), (Duration::from_micros(500), 3));
    let layers = Layers::new().variables([("PLIMSOLL_STRICT_ENABLED".to_owned(), "true".to_owned())]).unwrap();
    assert!(layers.resolve().unwrap().strict.is_some());
    let wrong = Layers::new().variables([("PLIMSOLL_STRICT_ENABLED".to_owned(), "yes".to_owned())]).unwrap_err();
    let says = "PLIMSOLL_STRICT_ENABLED: strict.enabled: `yes` is neither true nor false; write true or false";
    assert_eq!(wrong.to_string(), says);
}

/// A layer that does not win over the one below is a setting that someone believes in and that does nothing. Every key
/// that all layers can say is set in one after the other, each time with another value.
#[test]
fn every_layer_wins_over_the_one_before() {
    // Key, then what file, variable and flag say.
    let keys: [(&str, &str, &str, &str, &str); 12] = [
        ("node.name", "name", "'f'", "v", "g"),
        ("node.grpc", "grpc", "'127.0.0.1:1'", "127.0.0.1:2", "127.0.0.1:3"),
        ("node.http", "http", "'127.0.0.1:1'", "127.0.0.1:2", "127.0.0.1:3"),
        ("node.admin", "admin", "'127.0.0.1:1'", "127.0.0.1:2", "127.0.0.1:3"),
        ("node.gossip", "gossip", "'127.0.0.1:1'", "[::1]:2", "[::1]:3"),
        ("node.advertise", "advertise", "'10.0.0.1:1'", "10.0.0.1:2", "10.0.0.1:3"),
        ("node.cluster", "cluster", "'f'", "v", "g"),
        ("pick.policy", "policy", "'p2c'", "random", "least_cost"),
        ("discovery.file", "discovery-file", "'f'", "v", "g"),
        ("front.drain_s", "drain-s", "1.0", "2.0", "3.0"),
        ("gossip.budget_mbit", "budget-mbit", "1.5", "2.5", "3.5"),
        ("log.format", "log-format", "'json'", "text", "json"),
    ];
    for (key, flag, in_file, in_variable, in_flag) in keys {
        let said = |layers: &Layers| {
            layers.resolve().unwrap_or_else(|error| panic!("{error}"));
            let (_, value, source) = layers.effective().find(|(name, ..)| *name == key).expect(key);
            (value.to_string().replace('"', ""), source.to_string())
        };
        let layers = Layers::new().text(&format!("{key} = {in_file}")).unwrap();
        assert_eq!(said(&layers), (in_file.replace('\'', ""), "line 1".to_owned()));

        let short = format!("PLIMSOLL_{}", flag.replace('-', "_").to_uppercase());
        let long = format!("PLIMSOLL_{}", key.replace('.', "_").to_uppercase());
        for variable in [short, long] {
            let layers = layers.clone().variables([(variable.clone(), in_variable.to_owned())]).unwrap();
            assert_eq!(said(&layers), (in_variable.to_owned(), variable));
            let layers = layers.flag(flag, &strings(&[in_flag])).unwrap();
            assert_eq!(said(&layers), (in_flag.to_owned(), format!("--{flag}")));
        }
    }
}

/// Lists come in three shapes (TOML, commas, repeated flags), and a higher layer replaces the whole list: pods of two
/// layers mixed would be a fleet that nobody wrote down.
#[test]
fn lists_are_replaced_as_a_whole() {
    let file = "node.join = ['a:1', 'b:2']\ndiscovery.dns = ['c:3']\n[[pods]]\ngrpc = 'http://p:1'\nslots = 4\n[[pods]]\ngrpc = 'q:1'";
    let layers = Layers::new().text(file).unwrap();
    assert_eq!(layers.source("pods[0].slots").to_string(), "line 5");

    let variables =
        [("PLIMSOLL_JOIN", "x:1, y:2"), ("PLIMSOLL_PODS", "a=http://h:1,http://[::1]:2"), ("PLIMSOLL_DNS", "")];
    let layers = layers.variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
    let config = layers.resolve().unwrap();
    assert_eq!(config.join, ["x:1", "y:2"]);
    assert!(config.discovery.dns.is_empty());
    let pods: Vec<_> = config.pods.iter().map(|pod| (pod.name.as_str(), pod.grpc.as_str(), pod.slots)).collect();
    assert_eq!(pods, [("a", "http://h:1", 0), ("[::1]:2", "http://[::1]:2", 0)]);
    assert_eq!(layers.source("pods[0].grpc").to_string(), "PLIMSOLL_PODS");

    let everywhere = "c=http://h:1+http=2+metrics=http://m:3,[::1]:4+metrics=5";
    let variables = [("PLIMSOLL_PODS".to_owned(), everywhere.to_owned())];
    let config = Layers::new().variables(variables).unwrap().resolve().unwrap();
    let pods = config.pods.iter().map(|pod| [Some(&*pod.grpc), pod.http.as_deref(), pod.metrics.as_deref()]);
    let expected = [
        [Some("http://h:1"), Some("http://h:2"), Some("http://m:3")],
        [Some("http://[::1]:4"), None, Some("http://[::1]:5")],
    ];
    assert_eq!(pods.collect::<Vec<_>>(), expected);

    let config = layers.flag("pod", &strings(&["b=h:3"])).unwrap().flag("join", &strings(&["z:1", "w:2"])).unwrap();
    let config = config.resolve().unwrap();
    assert_eq!((config.pods.len(), config.pods[0].name.as_str()), (1, "b"));
    assert_eq!(config.join, ["z:1", "w:2"]);
}

/// Whoever made a mistake must read where, what, and what to write instead, in one line.
#[test]
fn each_mistake_gives_its_one_line() {
    let mistakes = [
        // Keys.
        ("[node]\ngrcp = ''", "line 2: unknown key `node.grcp`; did you mean `grpc`?"),
        ("[nodes]", "line 1: unknown key `nodes`; did you mean `node`?"),
        ("[node]\npolicy = 'p2c'", "line 2: unknown key `node.policy`; did you mean `pick.policy`?"),
        ("[[pods]]\nslot = 2", "line 2: unknown key `pods[0].slot`; did you mean `slots`?"),
        ("[log]\ncolour = true", "line 2: unknown key `log.colour`; known here: format, access, access_sample"),
        // Shapes.
        ("[node\n", "line 1: not valid TOML: unclosed table, expected `]`"),
        ("node = 5", "line 1: node: `5` is not a table; write its keys under [node]"),
        ("[[node]]", "line 1: node: `[{}]` is not a table; write its keys under [node]"),
        ("node.name = 5", "line 1: node.name: `5` is not a string; put it in quotes"),
        ("node.join = 'a:1'", "line 1: node.join: `\"a:1\"` is not a list; put it in brackets, as in [\"a\", \"b\"]"),
        ("node.join = [1]", "line 1: node.join[0]: `1` is not a string; put it in quotes"),
        ("front.drain_s = 'x'", "line 1: front.drain_s: `\"x\"` is not a number; write it without quotes, as in 2.5"),
        (
            "front.max_message_mib = 1.5",
            "line 1: front.max_message_mib: `1.5` is not a whole number; write digits without a point or quotes, as in 250",
        ),
        ("pods = [1]", "line 1: pods[0]: `1` is not a table; write keys in it, as in { grpc = \"http://a:8001\" }"),
        ("pods = 1", "line 1: pods: `1` is not a list; put it in brackets, as in [\"a\", \"b\"]"),
        // Addresses.
        (
            "node.grpc = 'localhost'",
            "line 1: node.grpc: `localhost` is not a socket address; write IP:port, as in `127.0.0.1:8001` or `[::1]:8001`",
        ),
        ("node.admin = '::1'", "line 1: node.admin: `::1` is not a socket address; add a port, as in `[::1]:8001`"),
        (
            "node.gossip = '0.0.0.0:7946'",
            "line 1: node.gossip: `0.0.0.0:7946` listens everywhere, but peers cannot dial it; set node.advertise to the address they reach, as in `10.0.0.5:7946`",
        ),
        (
            "node.gossip = '[::]:7946'",
            "line 1: node.gossip: `[::]:7946` listens everywhere, but peers cannot dial it; set node.advertise to the address they reach, as in `10.0.0.5:7946`",
        ),
        (
            "node.advertise = '0.0.0.0:1'",
            "line 1: node.advertise: `0.0.0.0:1` cannot be dialled; write the IP and port that peers reach",
        ),
        (
            "node.admin = '127.0.0.1:8001'",
            "line 1: node.admin: `127.0.0.1:8001` is taken by node.grpc; give each its own port",
        ),
        (
            "node.join = ['a:1', 'b']",
            "line 1: node.join[1]: `b` is not host:port; write it as in `triton.svc:8001`, `10.0.0.7:8001` or `[fd00::7]:8001`",
        ),
        (
            "discovery.dns = ['fd00::7:1']",
            "line 1: discovery.dns[0]: `fd00::7:1` is not host:port; an IPv6 address needs brackets, as in `[fd00::7]:8001`",
        ),
        ("discovery.dns = ['a:1', 'a:1']", "line 1: discovery.dns[1]: `a:1` is listed twice; list each name once"),
        // Who may speak with it.
        (
            "node.admin = '0.0.0.0:8002'",
            "line 1: node.admin: `0.0.0.0:8002` is no loopback address: whoever reaches it could drain this node; set node.admin_token_file, or node.admin_tls with tls.client_ca_file",
        ),
        (
            "node.admin = '10.0.0.1:1'\nnode.admin_tls = true\ntls.cert_file = 'c'\ntls.key_file = 'k'",
            "line 1: node.admin: `10.0.0.1:1` is no loopback address: whoever reaches it could drain this node; set node.admin_token_file, or node.admin_tls with tls.client_ca_file",
        ),
        (
            "node.admin_tls = true",
            "line 1: node.admin_tls: `true` needs a certificate; give tls.cert_file and tls.key_file",
        ),
        ("tls.cert_file = 'c'", "line 1: tls.cert_file: `tls.cert_file` is given alone; give tls.key_file too"),
        (
            "triton.key_file = 'k'",
            "line 1: triton.key_file: `triton.key_file` is given alone; give triton.cert_file too",
        ),
        (
            "tls.client_ca_file = 'c'",
            "line 1: tls.client_ca_file: `tls.client_ca_file` is given without a certificate to show; give tls.cert_file and tls.key_file too",
        ),
        (
            "triton.server_name = 'a b'",
            "line 1: triton.server_name: `a b` cannot be the name in a certificate; write a DNS name or an IP address",
        ),
        // Values.
        (
            "node.name = ''",
            "line 1: node.name: `` cannot name a node or cluster; write 1 to 128 letters, digits or -._~",
        ),
        (
            "node.name = \"a\\nb\"",
            "line 1: node.name: `a\\nb` cannot name a node or cluster; write 1 to 128 letters, digits or -._~",
        ),
        (
            "pick.policy = 'best'",
            "line 1: pick.policy: `best` is no policy; take one of plimsoll, least_cost, least_in_flight, p2c, round_robin, random",
        ),
        ("log.format = 'xml'", "line 1: log.format: `xml` is no format; take text or json"),
        ("log.access = ''", "line 1: log.access: `` is no file; write off, stderr or the path of a file"),
        ("log.access_sample = 1.5", "line 1: log.access_sample: `1.5` is out of range; write 0 to 1"),
        ("front.drain_s = -1", "line 1: front.drain_s: `-1` is out of range; write 0 to 3600"),
        ("front.drain_s = nan", "line 1: front.drain_s: `NaN` is out of range; write 0 to 3600"),
        ("gossip.budget_mbit = 0", "line 1: gossip.budget_mbit: `0` is out of range; write 0.01 to 10000"),
        (
            "strict.enabled = 1",
            "line 1: strict.enabled: `1` is neither true nor false; write true or false, without quotes",
        ),
        ("strict.timeout_ms = 0", "line 1: strict.timeout_ms: `0` is out of range; write 0.1 to 1000"),
        ("strict.shards = 0", "line 1: strict.shards: `0` is out of range; write 1 to 1024"),
        ("discovery.dns_interval_s = 0.5", "line 1: discovery.dns_interval_s: `0.5` is out of range; write 1 to 3600"),
        ("front.max_message_mib = 0", "line 1: front.max_message_mib: `0` is out of range; write 1 to 2047"),
        ("front.connect_timeout_ms = 1", "line 1: front.connect_timeout_ms: `1` is out of range; write 10 to 60000"),
        (
            "triton.read_model_config = 'yes'",
            "line 1: triton.read_model_config: `\"yes\"` is neither true nor false; write true or false, without quotes",
        ),
        // Pods.
        ("[[pods]]\nname = 'a'", "line 1: pods[0].grpc: pod `a` has no address; add grpc = \"http://host:port\""),
        (
            "[[pods]]\ngrpc = 'a'",
            "line 2: pods[0].grpc: `a` is not the URL of a pod; write it as in `http://10.0.0.7:8001`",
        ),
        (
            "[[pods]]\ngrpc = 'https://a'",
            "line 2: pods[0].grpc: `https://a` is not the URL of a pod; write it as in `http://10.0.0.7:8001`",
        ),
        ("[[pods]]\ngrpc = 'a:1'\nslots = 0", "line 3: pods[0].slots: `0` is out of range; write 1 to 65535"),
        ("[[pods]]\ngrpc = 'a:1'\nweight = 0", "line 3: pods[0].weight: `0` is out of range; write 0.001 to 1000"),
        (
            "[[pods]]\ngrpc = 'a:1'\n[[pods]]\ngrpc = 'http://a:1/'",
            "line 4: pods[1].grpc: `http://a:1` is taken by pods[0]; each pod is listed once",
        ),
        (
            "[[pods]]\nname = 'x'\ngrpc = 'a:1'\n[[pods]]\nname = 'x'\ngrpc = 'b:1'",
            "line 5: pods[1].name: `x` is taken by pods[0]; each pod is listed once",
        ),
        // Costs.
        ("pick.slow_start_s = -1.0", "line 1: pick.slow_start_s: `-1` is out of range; write 0 to 3600"),
        ("health.interval_s = -1.0", "line 1: health.interval_s: `-1` is out of range; write 0 to 3600"),
        (
            "health.interval_s = 0.01",
            "line 1: health.interval_s: `0.01` is out of range; write 0 (never) or 0.1 to 3600",
        ),
        ("health.failures = 1001", "line 1: health.failures: `1001` is out of range; write 0 to 1000"),
        ("health.eject_s = 0", "line 1: health.eject_s: `0` is out of range; write 0.1 to 300"),
        ("health.panic_share = 50", "line 1: health.panic_share: `50` is out of range; write 0 to 1"),
        ("health.give_up_s = 0.5", "line 1: health.give_up_s: `0.5` is out of range; write 0 (never) or 1 to 3600"),
        ("pick.after_refusal = 17", "line 1: pick.after_refusal: `17` is out of range; write 0 to 16"),
        (
            "[[costs]]\nbase = 2",
            "line 2: unknown key `costs[0].base`; known here: model, base_ms, per_kib_ms, min_ms, max_ms, learn",
        ),
        ("costs = 1", "line 1: costs: `1` is not a list; put it in brackets, as in [\"a\", \"b\"]"),
        (
            "[[costs]]\nmodel = 'm'",
            "line 1: costs[0].base_ms: the formula says nothing; give base_ms, per_kib_ms or both",
        ),
        ("[[costs]]\nbase_ms = -1", "line 2: costs[0].base_ms: `-1` is out of range; write 0 to 3600000"),
        ("[[costs]]\nbase_ms = nan", "line 2: costs[0].base_ms: `NaN` is out of range; write 0 to 3600000"),
        (
            "[[costs]]\nbase_ms = 1\nmin_ms = 9\nmax_ms = 3",
            "line 3: costs[0].min_ms: `9` is more than max_ms, `3`; write the smaller one as min_ms",
        ),
        (
            "[[costs]]\nbase_ms = 1\n[[costs]]\nbase_ms = 2",
            "line 3: costs[1].model: all other models have a formula already; write one formula for each",
        ),
        (
            "[[costs]]\nmodel = 'm'\nbase_ms = 1\n[[costs]]\nmodel = 'm'\nbase_ms = 2",
            "line 5: costs[1].model: `m` has a formula already; write one formula for each",
        ),
        // What is sent again, what waits, what is known of models.
        ("retry.budget = 20", "line 1: retry.budget: `20` is out of range; write 0 to 1"),
        ("retry.most = 17", "line 1: retry.most: `17` is out of range; write 0 to 16"),
        ("retry.keep_mib = 2048", "line 1: retry.keep_mib: `2048` is out of range; write 0 to 2047"),
        ("retry.keep_all_mib = -1", "line 1: retry.keep_all_mib: `-1` is out of range; write 0 to 1048576"),
        (
            "retry.codes = ['INTERNAL', 'Unavailable']",
            "line 1: retry.codes[1]: `Unavailable` is no status that can be sent again; take one of CANCELLED, UNKNOWN, \
             INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, \
             FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED",
        ),
        ("limits.in_flight_per_pod = -1", "line 1: limits.in_flight_per_pod: `-1` is out of range; write 0 to 65535"),
        ("limits.queue = -1", "line 1: limits.queue: `-1` is out of range; write 0 to 1000000"),
        ("limits.connections = 0", "line 1: limits.connections: `0` is out of range; write 1 to 1000000"),
        (
            "limits.connection_idle_s = 0.5",
            "line 1: limits.connection_idle_s: `0.5` is out of range; write 1 to 604800",
        ),
        ("limits.body_idle_s = -1", "line 1: limits.body_idle_s: `-1` is out of range; write 1 to 604800"),
        (
            "limits.refuse_late = 'no'",
            "line 1: limits.refuse_late: `\"no\"` is neither true nor false; write true or false, without quotes",
        ),
        (
            "[[models]]\nmodel = 'm'\nhedge_after_ms = 5",
            "line 3: models[0].hedge_after_ms: `5` would have requests run twice; write idempotent = true if they may",
        ),
        (
            "[[models]]\nidempotent = true\nhedge_after_ms = 0",
            "line 3: models[0].hedge_after_ms: `0` is out of range; write 0.1 to 600000",
        ),
        (
            "[[models]]\naffinity_pods = 2",
            "line 2: models[0].affinity_pods: `2` is given without a key; write affinity_key too",
        ),
        (
            "[[models]]\naffinity_key = 'lora'\naffinity_pods = 0",
            "line 3: models[0].affinity_pods: `0` is out of range; write 1 to 65535",
        ),
        (
            "[[models]]\nidempotent = true\n[[models]]\n",
            "line 3: models[1].model: what holds for all other models was written already; write one table for each",
        ),
        ("[[models]]\nidempotnt = true", "line 2: unknown key `models[0].idempotnt`; did you mean `idempotent`?"),
        // Proof of membership.
        ("node.ca_file = 'x'", "line 1: node.ca_file: `node.ca_file` is given alone; give node.cert_file too"),
        (
            "[node]\nca_file = 'x'\ncluster_secret_file = 's'",
            "line 3: node.cluster_secret_file: `s` is given beside certificate files; keep either the secret or ca_file, cert_file and key_file",
        ),
    ];
    for (toml, line) in mistakes {
        assert_eq!(error_of(toml), line);
    }
}

/// The same mistake in a variable or a flag names the variable or the flag.
#[test]
fn mistakes_outside_the_file_name_their_place() {
    let variable = |name: &str, value: &str| {
        let layers = Layers::new().variables([(name.to_owned(), value.to_owned())]);
        layers.and_then(|layers| layers.resolve()).expect_err(name).to_string()
    };
    assert_eq!(
        variable("PLIMSOLL_DRAIN_S", "soon"),
        "PLIMSOLL_DRAIN_S: front.drain_s: `soon` is not a number; write it as in 2.5"
    );
    assert_eq!(
        variable("PLIMSOLL_FRONT_MAX_MESSAGE_MIB", "1.5"),
        "PLIMSOLL_FRONT_MAX_MESSAGE_MIB: front.max_message_mib: `1.5` is not a whole number; write digits, as in 250"
    );
    assert_eq!(
        variable("PLIMSOLL_PODS", "a=b"),
        "PLIMSOLL_PODS: pods[0].grpc: `b` is not the URL of a pod; write it as in `http://10.0.0.7:8001`"
    );
    for wrong in ["a=h:1+https=2", "a=h:1+", "a=h:1+8000"] {
        assert_eq!(
            variable("PLIMSOLL_PODS", wrong),
            format!(
                "PLIMSOLL_PODS: pods: `{wrong}` is no pod; write [NAME=]URL[+http=PORT][+metrics=PORT], as in \
                 a=http://10.0.0.7:8001+http=8000"
            )
        );
    }
    assert_eq!(
        variable("PLIMSOLL_PODS", "a=h:1+http=x"),
        "PLIMSOLL_PODS: pods[0].http: `h:x` is not the URL of a pod; write it as in `http://10.0.0.7:8001`"
    );
    assert_eq!(
        variable("PLIMSOLL_GRCP", "x"),
        "unknown environment variable `PLIMSOLL_GRCP`; did you mean `PLIMSOLL_GRPC`?"
    );
    let flag = Layers::new().flag("grpc", &strings(&["x"])).unwrap().resolve().unwrap_err().to_string();
    assert_eq!(
        flag,
        "--grpc: node.grpc: `x` is not a socket address; write IP:port, as in `127.0.0.1:8001` or `[::1]:8001`"
    );
}

/// Kubernetes sets variables for each service of a namespace; one that is called plimsoll must not stop every node.
#[test]
fn service_links_of_kubernetes_are_nobodys_configuration() {
    let links = [
        ("PLIMSOLL_SERVICE_HOST", "10.0.0.1"),
        ("PLIMSOLL_SERVICE_PORT_GRPC", "8001"),
        ("PLIMSOLL_PORT", "tcp://10.0.0.1:8001"),
        ("PLIMSOLL_PORT_8001_TCP_ADDR", "10.0.0.1"),
        ("PLIMSOLL_GOSSIP_PORT", "udp://10.0.0.1:7946"),
        ("PLIMSOLL_CONFIG", "x.toml"),
        ("PATH", "/bin"),
    ];
    let layers = Layers::new().variables(links.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
    assert!(layers.effective().all(|(.., source)| source.to_string() == "default"));
}

/// A node that is told nothing must come up, on loopback, by the default policy.
#[test]
fn the_defaults_are_valid() {
    let config = Config::from_toml_str("").unwrap();
    assert_eq!(config.grpc.to_string(), "127.0.0.1:8001");
    assert_eq!(config.admin.to_string(), "127.0.0.1:8002");
    assert_eq!(config.gossip.to_string(), "127.0.0.1:7946");
    assert_eq!((config.http, config.policy, config.budget_bits), (None, PolicyKind::Plimsoll, 1_000_000));
    assert!(config.name.ends_with(&format!("-{}", std::process::id())));
    config.node_config().expect("a lone node needs no secret");
}

/// IPv6 everywhere an address can stand.
#[test]
fn ipv6_is_an_address_like_any_other() {
    let config = Config::from_toml_str(
        "[node]\ngrpc = '[::1]:1'\nadmin = '[::1]:2'\ngossip = '[::]:3'\nadvertise = '[fd00::1]:3'\njoin = ['[fd00::2]:3']\n\
         [discovery]\ndns = ['[fd00::3]:4']\n[[pods]]\ngrpc = 'http://[fd00::4]:8001'",
    )
    .unwrap();
    assert_eq!(config.advertise.unwrap().to_string(), "[fd00::1]:3");
    assert_eq!(config.discovery.dns[0].to_string(), "[fd00::3]:4");
    assert_eq!(config.pods[0].name, "[fd00::4]:8001");
}

/// A file is moved with what it names: its paths are relative to itself. A flag is typed in a shell: its paths are
/// relative to the working directory.
#[test]
fn paths_are_relative_to_where_they_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    fs::write(&file, "node.cluster_secret_file = 'secrets/s'\ndiscovery.file = '/abs'").unwrap();
    let layers = Layers::new().file(&file).unwrap();
    let config = layers.resolve().unwrap();
    assert_eq!(config.identity, Identity::SecretFile(directory.path().join("secrets/s")));
    assert_eq!(config.discovery.file, Some(PathBuf::from("/abs")));
    let config = layers.flag("cluster-secret-file", &strings(&["s"])).unwrap().resolve().unwrap();
    assert_eq!(config.identity, Identity::SecretFile(PathBuf::from("s")));
}

/// A node must not come up with a guessable secret, or join with none; and the way out is in the line.
#[test]
fn the_proof_of_membership_is_there_or_the_line_says_how_to_make_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let shown = path.display();
    let config = Config::from_toml_str(&format!("[node]\njoin = ['a:1']\ncluster_secret_file = '{shown}'")).unwrap();
    let failure = |config: &Config| config.node_config().err().map(|error: CredentialsError| error.to_string());
    assert_eq!(
        failure(&config).unwrap(),
        format!(
            "cannot read cluster secret `{shown}`: No such file or directory (os error 2); make one with: plimsoll secret > {shown}"
        )
    );
    fs::write(&path, "  short  \n").unwrap();
    assert_eq!(
        failure(&config).unwrap(),
        format!(
            "cluster secret `{shown}` has 5 bytes without white space, at least 16 are needed; make one with: plimsoll secret > {shown}"
        )
    );
    fs::write(&path, "0123456789abcdef\n").unwrap();
    assert_eq!(failure(&config), None);

    let nothing = Config::from_toml_str("node.join = ['a:1']").unwrap();
    assert!(
        failure(&nothing).unwrap().starts_with("node.join names members, but there is no proof of membership; set")
    );
    let files = Config::from_toml_str("[node]\nca_file = '/no/ca'\ncert_file = 'c'\nkey_file = 'k'").unwrap();
    assert_eq!(
        failure(&files).unwrap(),
        "cannot read `/no/ca` (node.ca_file): No such file or directory (os error 2); it must be a PEM file that this user may read"
    );
}

/// People copy the example; it must say what they think it says.
#[test]
fn the_example_file_means_what_it_says() {
    let config = Config::load(repository("deploy/plimsoll.toml")).unwrap();
    assert_eq!(config.name, "caller-1");
    assert_eq!(config.grpc.to_string(), "127.0.0.1:8001");
    assert_eq!(config.admin.to_string(), "127.0.0.1:8002");
    assert_eq!(config.gossip.to_string(), "127.0.0.1:7946");
    assert_eq!((config.http, config.advertise), (None, None));
    assert_eq!(config.cluster, "default");
    assert_eq!(config.join, ["127.0.0.1:7947"]);
    assert_eq!(config.identity, Identity::SecretFile(repository("deploy/cluster.secret")));
    assert_eq!(config.policy, PolicyKind::Plimsoll);
    assert_eq!(config.front.max_message_bytes, 256 << 20);
    assert_eq!(config.front.connect_timeout, Duration::from_secs(1));
    assert_eq!(config.front.drain, Duration::from_secs(10));
    assert_eq!(config.log_format, LogFormat::Text);
    let defaults = ForwardOptions::default();
    assert_eq!((&config.retry, &config.limits), (&defaults.retry, &defaults.limits));
    assert!(config.models["resnet50"].idempotent);
    let pods: Vec<_> = config.pods.iter().map(|pod| (pod.name.as_str(), pod.grpc.as_str(), pod.slots)).collect();
    assert_eq!(pods, [("triton-0", "http://127.0.0.1:18001", 2), ("triton-1", "http://127.0.0.1:28001", 2)]);
}

/// Comments rot first: what the example offers behind `#` must be valid too, and where it says it shows a default, be it.
#[test]
fn the_commented_lines_of_the_example_are_valid() {
    let text = fs::read_to_string(repository("deploy/plimsoll.toml")).unwrap();
    let is_key = |rest: &str| {
        rest.split_once('=').is_some_and(|(key, _)| key.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line))
        .filter(|line| !line.starts_with("cluster_secret_file"))
        .collect();
    let config = Config::from_toml_str(&uncommented.join("\n")).unwrap();
    assert_eq!(config.discovery.dns.len(), 1);
    assert!(matches!(config.identity, Identity::Files { .. }));
    assert_eq!(config.discovery.dns_interval, Config::from_toml_str("").unwrap().discovery.dns_interval);
    let model = &config.models["resnet50"];
    assert_eq!(model.hedge_after, Some(Duration::from_millis(250)));
    assert_eq!((model.affinity.as_ref().unwrap().key.as_str(), model.affinity.as_ref().unwrap().pods), ("lora", 2));
}

/// What stands in a file must be what the front does: a key that is read and not passed on is believed in by its writer.
#[test]
fn what_is_written_about_forwarding_reaches_the_front() {
    let text = "[retry]\nbudget = 0.5\nmost = 3\ncodes = ['UNAVAILABLE', 'INTERNAL']\nkeep_mib = 4\nkeep_all_mib = 0\n\
                [limits]\nin_flight_per_pod = 8\n\
                queue = 7\nrefuse_late = false\nconnections = 5\nconnection_idle_s = 60\nbody_idle_s = 1.5\n[[models]]\nidempotent = true\n[[models]]\nmodel = 'm'\n\
                balance_streams = true\naffinity_key = 'user'";
    let forward = Config::from_toml_str(text).unwrap().front_options().forward;
    assert_eq!((forward.retry.budget, forward.retry.most), (0.5, 3));
    assert_eq!(forward.retry.codes, [Code::Unavailable, Code::Internal]);
    assert_eq!((forward.retry.keep_bytes, forward.retry.keep_all_bytes), (4 << 20, 0));
    assert_eq!((forward.limits.in_flight_per_pod.unwrap().get(), forward.limits.queue), (8, 7));
    assert!(!forward.limits.refuse_late);
    assert_eq!((forward.limits.connections, forward.limits.connection_idle.as_secs()), (5, 60));
    assert_eq!(forward.limits.body_idle, Duration::from_millis(1500));
    assert!(forward.models[""].idempotent && !forward.models["m"].idempotent && forward.models["m"].balance_streams);
    assert_eq!(forward.models["m"].affinity.as_ref().unwrap().pods, 2);
    assert_eq!(Config::from_toml_str("").unwrap().front_options().forward, ForwardOptions::default());
}

/// The configuration inside the Kubernetes example, with what its environment adds.
#[test]
fn the_sidecar_example_is_valid() {
    let text = fs::read_to_string(repository("deploy/kubernetes/sidecar.yaml")).unwrap();
    let (_, after) = text.split_once("plimsoll.toml: |\n").unwrap();
    let inner: Vec<&str> = after.lines().take_while(|line| *line != "---").map(str::trim_start).collect();
    let added = [("PLIMSOLL_NAME", "caller-0"), ("PLIMSOLL_ADVERTISE", "10.0.0.5:7946")];
    let layers = Layers::new().text(&inner.join("\n")).unwrap();
    let config =
        layers.variables(added.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap().resolve().unwrap();
    assert_eq!(config.join, ["callers-gossip:7946"]);
    assert_eq!(config.discovery.dns[0].to_string(), "triton.default.svc.cluster.local:8001");
    assert!(config.admin_access.token_file.is_some() && config.admin_access.open_metrics);
}

/// What the admin API can do is for whoever is on the machine, or proves something: each way to do so must be enough.
#[test]
fn the_admin_api_is_elsewhere_only_behind_a_proof() {
    let parse = |more: &str| Config::from_toml_str(&format!("node.admin = '0.0.0.0:1'\n{more}"));
    assert!(parse("").is_err());
    assert_eq!(parse("node.admin_token_file = 't'").unwrap().admin_access.token_file, Some("t".into()));
    let certificates = "node.admin_tls = true\ntls = { cert_file = 'c', key_file = 'k', client_ca_file = 'a' }";
    let config = parse(certificates).unwrap();
    assert_eq!(config.tls.unwrap().client_ca, Some("a".into()));
    assert!(parse("tls = { cert_file = 'c', key_file = 'k', client_ca_file = 'a' }").is_err());
}

/// What is said about TLS towards pods must reach each of them, or some are asked without it.
#[test]
fn every_pod_gets_what_is_said_of_tls() {
    let text =
        "triton.ca_file = 'ca'\ntriton.server_name = 'triton'\n[[pods]]\ngrpc = 'https://a:1'\n[[pods]]\ngrpc = 'b:1'";
    let config = Config::from_toml_str(text).unwrap();
    let tls = |k: usize| (config.pods[k].name.as_str(), config.pods[k].tls.ca_file.clone());
    assert_eq!((tls(0), tls(1)), (("a:1", Some("ca".into())), ("b:1", Some("ca".into()))));
    assert_eq!(config.node_config().unwrap().pods[0].tls.server_name.as_deref(), Some("triton"));
    let found = Config::from_toml_str("discovery.tls = true\ndiscovery.dns = ['a:1']").unwrap();
    assert!(found.discovery.tls);
}

/// `check` must show what would run, name where each value came from, and never the secret.
#[test]
fn check_prints_what_would_run_and_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let (file, secret) = (directory.path().join("n.toml"), directory.path().join("s"));
    fs::write(&secret, "do-not-print-this-secret").unwrap();
    let text = "[node]\nname = 'a'\ncluster_secret_file = 's'\n[[pods]]\nname = 'p'\ngrpc = 'http://h:1'\n";
    fs::write(&file, text).unwrap();
    let shown = file.display().to_string();
    let args = ["check", &shown, "--grpc", "[::1]:9", "--join", "m:1", "--join", "n:2"];
    let output = plimsoll(&args).env("PLIMSOLL_POLICY", "p2c").output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let printed = stdout(&output);
    for line in [
        format!("{:<48} # {shown}:2", "name = \"a\""),
        format!("{:<48} # --grpc", "grpc = \"[::1]:9\""),
        format!("{:<48} # --join", "join = [\"m:1\", \"n:2\"]"),
        format!("{:<48} # PLIMSOLL_POLICY", "policy = \"p2c\""),
        format!("{:<48} # default", "drain_s = 10.0"),
        format!("{:<48} # {shown}:4", "[[pods]]"),
    ] {
        assert!(printed.contains(&line), "{line}\nis not in\n{printed}");
    }
    // A key that is not written is a default, though its section is there.
    assert!(printed.contains(&format!("{:<48} # default", "cluster = \"default\"")), "{printed}");
    // What it prints is a configuration that means the same.
    let again = Config::from_toml_str(&printed).unwrap();
    assert_eq!((again.grpc.to_string().as_str(), again.pods.len()), ("[::1]:9", 1));

    let json = stdout(&plimsoll(&[&args[..], &["--json"]].concat()).output().unwrap());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["config"]["node"]["grpc"], "[::1]:9");
    assert_eq!(json["sources"]["node.grpc"], "--grpc");
    assert_eq!(json["sources"]["node.name"], format!("{shown}:2"));
    for text in [printed, json.to_string()] {
        assert!(!text.contains("do-not-print"), "{text}");
    }
}

/// Bad input is exit 2 and one line, whatever the command.
#[test]
fn bad_input_is_exit_2_and_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("n.toml");
    fs::write(&file, "[node]\ngrcp = '127.0.0.1:1'\n").unwrap();
    let shown = file.display().to_string();
    let missing = directory.path().join("missing.toml").display().to_string();
    for (args, line) in [
        (vec!["check", &shown], format!("error: {shown}:2: unknown key `node.grcp`; did you mean `grpc`?\n")),
        (
            vec!["node", "--config", &shown],
            format!("error: {shown}:2: unknown key `node.grcp`; did you mean `grpc`?\n"),
        ),
        (
            vec!["check", &missing],
            format!("error: cannot read config file `{missing}`: No such file or directory (os error 2)\n"),
        ),
        (
            vec!["node", "--pod", "x"],
            "error: --pod: pods[0].grpc: `x` is not the URL of a pod; write it as in `http://10.0.0.7:8001`\n"
                .to_owned(),
        ),
    ] {
        let output = plimsoll(&args).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), line), "{args:?}");
        assert_eq!(stdout(&output), "");
    }
    let discovery = directory.path().join("pods.toml");
    fs::write(&discovery, "[[pods]]\ngrpc = 'x'\n").unwrap();
    fs::write(&file, "discovery.file = 'pods.toml'").unwrap();
    let output = plimsoll(&["check", &shown]).output().unwrap();
    let line = format!(
        "error: {}:2: pods[0].grpc: `x` is not the URL of a pod; write it as in `http://10.0.0.7:8001`\n",
        discovery.display()
    );
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), line));
}

/// Two secrets must differ, be long enough for `node`, and be nothing but the secret.
#[test]
fn a_secret_is_32_random_bytes_as_hex() {
    let [a, b] = [(), ()].map(|()| stdout(&plimsoll(&["secret"]).output().unwrap()));
    assert!(a.trim_end().len() == 64 && a.trim_end().chars().all(|c| c.is_ascii_hexdigit()), "{a}");
    assert_ne!(a, b);
}

/// An address in use is found before anything started, and named.
#[test]
fn an_address_in_use_is_named_and_nothing_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other, key) in [("--grpc", "--admin", "node.grpc"), ("--admin", "--grpc", "node.admin")] {
        let args = ["node", flag, &address, other, "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--pod", "http://h:1"];
        let output = plimsoll(&args).env("RUST_LOG", "warn").output().unwrap();
        let line = format!(
            "error: cannot listen on `{address}` ({key}): Address already in use (os error 98); free it, or give another address\n"
        );
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), line));
    }
}

/// A node without pods, and without a source of them, could never serve anything.
#[test]
fn a_node_without_pods_does_not_start() {
    let output = plimsoll(&["node", "--gossip", "127.0.0.1:0"]).output().unwrap();
    let line = "error: no pods: give some by --pod NAME=http://HOST:8001, [[pods]], discovery.file, discovery.dns or discovery.kubernetes\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), line));
}

/// A node that is not there is exit 1, in one line with the address that was asked.
#[test]
fn asking_a_node_that_is_not_there_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for command in ["view", "members"] {
        let output = plimsoll(&[command, "--admin", &free]).output().unwrap();
        let line = format!(
            "error: cannot ask the node at `{free}`: Connection refused (os error 111); is `plimsoll node` running there? name its admin address with --admin\n"
        );
        assert_eq!((output.status.code(), stderr(&output)), (Some(1), line));
    }
}

/// Discovery is spelled in a few ways; who slips in one of them must be told where and how it is meant.
#[test]
fn each_mistake_about_discovery_gives_its_one_line() {
    let mistakes = [
        (
            "discovery.dns = ['srv:_grpc._tcp.a:8001']",
            "line 1: discovery.dns[0]: `srv:_grpc._tcp.a:8001` is no SRV name; leave the port out: the records have it",
        ),
        (
            "discovery.dns = ['a:1', 'srv:_grpc.a']",
            "line 1: discovery.dns[1]: `srv:_grpc.a` is no SRV name; write it as in `srv:_grpc._tcp.triton.svc.cluster.local`",
        ),
        ("discovery.http_port = 0", "line 1: discovery.http_port: `0` is no port; a port is 1 to 65535"),
        ("discovery.http_port = -1", "line 1: discovery.http_port: `-1` is no port; a port is 1 to 65535"),
        ("discovery.metrics_port = 70000", "line 1: discovery.metrics_port: `70000` is no port; a port is 1 to 65535"),
        (
            "discovery.metrics_port = 'a b'",
            "line 1: discovery.metrics_port: `a b` is no port; write a number, as in 8002, or the name that a Kubernetes service gives it, as in `metrics`",
        ),
        (
            "discovery.http_port = 1.5",
            "line 1: discovery.http_port: `1.5` is no port; write 8000, or \"http\" where Kubernetes names it so",
        ),
        (
            "discovery.kubernetes = 'a'",
            "line 1: discovery.kubernetes: `\"a\"` is not a list; put it in brackets, as in [\"a\", \"b\"]",
        ),
        (
            "discovery.kubernetes = ['a', 'Prod/Triton']",
            "line 1: discovery.kubernetes[1]: `Prod/Triton` names no service; write it as in `triton`, `prod/triton` or `prod/triton:grpc`",
        ),
        ("discovery.kubernetes = ['a:0']", "line 1: discovery.kubernetes[0]: `0` is no port; a port is 1 to 65535"),
        (
            "discovery.kubernetes = ['a', 'a']",
            "line 1: discovery.kubernetes[1]: `a` is listed twice; list each name once",
        ),
    ];
    for (toml, says) in mistakes {
        assert_eq!(error_of(toml), says, "{toml}");
    }
}

/// Ports are numbers in a file and text in the environment; both must be the same port.
#[test]
fn ports_of_found_pods_are_read_the_same_from_everywhere() {
    let parse = |text: &str| Config::from_toml_str(text).unwrap().discovery;
    let default = parse("");
    assert_eq!((default.http_port.to_string(), default.metrics_port.to_string()), ("http".into(), "metrics".into()));
    assert_eq!(parse("discovery.http_port = 8000").http_port, Port::Number(8000));
    assert_eq!(parse("discovery.http_port = 'http-a'").http_port, Port::Name("http-a".into()));
    let layers = Layers::new().variables([("PLIMSOLL_DISCOVERY_HTTP_PORT".to_owned(), "8000".to_owned())]).unwrap();
    assert_eq!(layers.resolve().unwrap().discovery.http_port, Port::Number(8000));
}

/// Where a node runs is told by whoever starts it, and what another zone costs by who pays for it.
#[test]
fn the_zone_is_the_nodes_own_and_its_penalty_has_a_default() {
    let config = Config::from_toml_str("").unwrap();
    assert_eq!((config.zone, config.zone_penalty), (None, Duration::from_millis(2)));
    let layers = Layers::new().text("[node]\nzone = 'a'\n[pick]\nzone_penalty_ms = 7.5").unwrap();
    let layers = layers.variables([("PLIMSOLL_ZONE".to_owned(), "b".to_owned())]).unwrap();
    let config = layers.resolve().unwrap();
    assert_eq!((config.zone.as_deref(), config.zone_penalty), (Some("b"), Duration::from_micros(7500)));
    assert_eq!(config.node_config().unwrap().zone.as_deref(), Some("b"));
    let flag = layers.flag("zone", &strings(&["c"])).unwrap().resolve().unwrap();
    assert_eq!(flag.zone.as_deref(), Some("c"));
    // What the downward API of Kubernetes makes of a label that is not there.
    assert_eq!(Config::from_toml_str("node.zone = ''").unwrap().zone, None);
    assert_eq!(
        error_of("node.zone = 'eu 1a'"),
        "line 1: node.zone: `eu 1a` has white space or control characters; write 1 to 128 bytes without white space"
    );
    assert_eq!(
        error_of("pick.zone_penalty_ms = -1.0"),
        "line 1: pick.zone_penalty_ms: `-1` is out of range; write 0 to 60000"
    );
}

proptest! {
    /// Whatever stands in a file, a variable or a flag: a configuration or one line, never a panic.
    #[test]
    fn no_text_makes_it_panic(text in ".*", key in "[a-z_.]{1,20}", value in ".*") {
        let one_line = |error: String| prop_assert_ok(!error.contains('\n') && !error.is_empty(), &error);
        for toml in [text.clone(), format!("{key} = {value}"), format!("[{key}]\n{text}"), format!("[[pods]]\n{key} = {value:?}")] {
            if let Err(error) = Config::from_toml_str(&toml) {
                one_line(error.to_string())?;
            }
        }
        for name in ["GRPC", "PODS", "JOIN", "DRAIN_S", "FRONT_MAX_MESSAGE_MIB", "POLICY", "DNS", "NAME"] {
            let layers = Layers::new().variables([(format!("PLIMSOLL_{name}"), value.clone())]);
            if let Err(error) = layers.and_then(|layers| layers.resolve()) {
                one_line(error.to_string())?;
            }
        }
    }

    /// The same with values of every type under every key there is.
    #[test]
    fn no_value_makes_it_panic(key in 0usize..63, value in prop_oneof![
        any::<i64>().prop_map(|v| v.to_string()),
        any::<f64>().prop_map(|v| format!("{v:?}").replace("NaN", "nan")),
        ".*".prop_map(|v| toml::Value::String(v).to_string()),
        Just("[]".to_owned()), Just("{}".to_owned()), Just("true".to_owned()), Just("1979-05-27".to_owned()),
        Just("[{}]".to_owned()), Just("[[]]".to_owned()), Just("['a:1', 1]".to_owned()), Just("[{grpc = 1}]".to_owned()),
    ]) {
        let keys = ["node", "node.name", "node.grpc", "node.http", "node.admin", "node.gossip", "node.advertise", "node.cluster",
            "node.join", "node.cluster_secret_file", "node.ca_file", "pick.policy", "discovery.file", "discovery.dns",
            "discovery.dns_interval_s", "front.max_message_mib", "front.connect_timeout_ms", "front.drain_s",
            "gossip.budget_mbit", "strict.enabled", "strict.timeout_ms", "strict.shards", "log.format", "pods", "log",
            "costs", "pick.after_refusal", "pick.slow_start_s", "triton", "triton.read_model_config",
            "health", "health.interval_s", "health.failures", "health.eject_s", "health.panic_share", "health.give_up_s",
            "node.admin_token_file", "node.admin_tls", "node.admin_open_metrics", "tls", "tls.cert_file", "tls.client_ca_file",
            "triton.ca_file", "triton.cert_file", "triton.server_name", "discovery.tls", "front.drain_grace_s", "node.zone",
            "retry.keep_mib", "retry.keep_all_mib", "retry.budget", "retry.most", "retry.codes", "limits.in_flight_per_pod",
            "limits.queue", "limits.refuse_late",
            "limits.connections", "limits.connection_idle_s", "limits.body_idle_s", "models", "retry", "log.access",
            "log.access_sample"];
        if let Err(error) = Config::from_toml_str(&format!("{} = {value}", keys[key])) {
            let error = error.to_string();
            prop_assert_ok(!error.contains('\n') && error.starts_with("line 1: "), &error)?;
        }
    }
}

fn prop_assert_ok(holds: bool, error: &str) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(format!("not one line: {error:?}"))) }
}
