//! `plimsoll node` as a process: what an operator and a supervisor see from start to end.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]
#![expect(clippy::disallowed_methods, reason = "these tests watch a process in wall time")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use plimsoll_proto::inference::ModelInferRequest;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LONG: Duration = Duration::from_secs(20);

/// A node process, its log and where it serves. Killed when dropped.
struct Node {
    child: Child,
    log: mpsc::Receiver<serde_json::Value>,
    ready: serde_json::Value,
}

impl Node {
    /// Starts a lone node on free ports and waits until it says that it is ready. `seen` gets what it said before.
    fn start(args: &[&str], seen: &mut Vec<String>) -> Node {
        let free =
            ["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--log-format", "json"];
        let mut child =
            plimsoll(&[&["node", "--name", "n"][..], &free, args].concat()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (to, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // `error: ...` lines are no JSON; they are told as they are.
                let event = serde_json::from_str(&line).unwrap_or_else(|_| serde_json::json!({ "message": line }));
                let _ = to.send(event);
            }
        });
        let mut node = Node { child, log, ready: serde_json::Value::Null };
        node.ready = node.until("ready", seen);
        node
    }

    /// The event with that message.
    fn until(&mut self, message: &str, seen: &mut Vec<String>) -> serde_json::Value {
        loop {
            let event =
                self.log.recv_timeout(LONG).unwrap_or_else(|_| panic!("`{message}` was not said, but {seen:?}"));
            let said = event["message"].as_str().unwrap_or_default().to_owned();
            if said.starts_with(message) {
                return event;
            }
            seen.push(said);
        }
    }

    fn address(&self, of: &str) -> &str {
        self.ready[of].as_str().unwrap()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// What `plimsoll view --json` says.
    fn view(&self) -> serde_json::Value {
        let output = plimsoll(&["view", "--json", "--admin", self.address("admin")]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, without any `PLIMSOLL_*` of whoever runs the tests.
fn plimsoll(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PLIMSOLL_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(args);
    command
}

/// A pod that takes connections and never says a word, and a node with one request in flight on it.
async fn node_with_a_request_in_flight(drain_s: &str) -> (Node, tokio::task::JoinHandle<()>, TcpListener) {
    let pod = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("t0=http://{}", pod.local_addr().unwrap());
    let node = Node::start(&["--pod", &url, "--drain-s", drain_s], &mut Vec::new());
    let address = format!("http://{}", node.address("grpc"));
    let request = tokio::spawn(async move {
        let channel = tonic::transport::Channel::from_shared(address).unwrap().connect().await.unwrap();
        let mut client = GrpcInferenceServiceClient::new(channel);
        let request = ModelInferRequest { model_name: "m".to_owned(), ..Default::default() };
        client.model_infer(request).await.expect_err("the pod never answers");
    });
    let deadline = Instant::now() + LONG;
    while node.view()["pods"][0]["own_in_flight"] != 1 {
        assert!(Instant::now() < deadline, "the request never was in flight: {}", node.view());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (node, request, pod)
}

/// The whole life of a lone node: it says what it is and where, answers, and goes when it is told to.
#[test]
fn a_node_starts_answers_and_leaves() {
    let mut seen = Vec::new();
    let mut node = Node::start(&["--pod", "t0=http://127.0.0.1:1", "--http", "127.0.0.1:0"], &mut seen);
    // It listens for HTTP too, at the port that it says.
    let http = node.address("http");
    assert!(!http.ends_with(":0") && std::net::TcpStream::connect(http).is_ok(), "{http}");
    assert!(seen.iter().any(|line| line.contains("takes a one-off secret and stays alone")), "{seen:?}");
    assert_eq!((&node.ready["node"], &node.ready["pods"]), (&"n".into(), &1.into()));

    assert_eq!(node.view()["pods"][0]["name"], "t0");
    let table = plimsoll(&["members", "--admin", node.address("admin")]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("n *") && table.contains("alive"), "{table}");

    // Others reload at it; a terminal that closes sends it too.
    node.signal("-HUP");
    node.until("SIGHUP changes nothing", &mut seen);
    assert_eq!(node.view()["pods"][0]["name"], "t0");

    node.signal("-TERM");
    assert_eq!(node.exit_code(), Some(0));
}

/// A node that is started with few open files, as services are, would turn callers away long before it has to.
#[test]
fn a_node_opens_as_many_files_as_it_may() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..limit }).unwrap();
    let node = Node::start(&["--pod", "t0=http://127.0.0.1:1"], &mut Vec::new());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.child.id())).unwrap();
    let open = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|word| open.split_whitespace().nth(word).unwrap());
    assert_eq!(soft, hard, "{open}");
}

/// A supervisor stops a node while a request runs: the node waits for it, but not longer than it was told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_may_finish_but_not_for_ever() {
    let (mut node, request, _pod) = node_with_a_request_in_flight("1").await;
    let told = Instant::now();
    node.signal("-TERM");
    assert_eq!(node.exit_code(), Some(0));
    let took = told.elapsed();
    // The drain is 1 s; leaving, and a machine that is busy with other tests, have 5 s on top.
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(6), "{took:?}");
    request.await.unwrap();
}

/// A person who presses Ctrl-C twice means now.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let (mut node, request, _pod) = node_with_a_request_in_flight("600").await;
    node.signal("-INT");
    node.until("draining", &mut Vec::new());
    node.signal("-INT");
    assert_eq!(node.exit_code(), Some(1));
    node.until("error: a second signal", &mut Vec::new());
    request.await.unwrap();
}

/// A deployment script drains a node before it ends it: what is open must be told and waited for, the node must stay to be asked,
/// and a signal afterwards must find nothing left to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_told_to_drain_stays_until_it_is_ended() {
    let (mut node, request, pod) = node_with_a_request_in_flight("600").await;
    let drain = |node: &Node, timeout_s: &str| {
        plimsoll(&["drain", "--timeout-s", timeout_s, "--admin", node.address("admin")]).output().unwrap()
    };
    let output = drain(&node, "0.5");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("draining, 1 requests in flight\n"), "{said}");
    assert!(said.contains("error: 1 requests are still in flight after 0.5 s; "), "{said}");

    // The pod breaks off, and nothing is open any more.
    drop(pod);
    request.await.unwrap();
    let output = drain(&node, "60");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.starts_with("drained in "), "{said}");
    assert_eq!(node.view()["pods"][0]["own_in_flight"], 0);
    let address = format!("http://{}", node.address("grpc"));
    assert!(tonic::transport::Channel::from_shared(address).unwrap().connect().await.is_err());
    node.signal("-TERM");
    assert_eq!(node.exit_code(), Some(0));
}

/// Where an admin API has a token, nothing but health is told without it, and nothing can be done.
#[test]
fn an_admin_token_opens_what_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        std::fs::write(folder.path().join(name), token).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (right, wrong) = (file("right", "0123456789abcdef\n"), file("wrong", "fedcba9876543210"));
    let mut node = Node::start(&["--pod", "t0=http://127.0.0.1:1", "--admin-token-file", &right], &mut Vec::new());
    let address = node.address("admin").to_owned();
    let ask = |command: &str, token: Option<&str>| {
        let token = token.map_or(Vec::new(), |file| vec!["--token-file", file]);
        let output = plimsoll(&[&[command, "--admin", &address][..], &token].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for command in ["view", "members", "drain"] {
        for token in [None, Some(&*wrong)] {
            let (code, said) = ask(command, token);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("it answered 401 Unauthorized to /v1/"), "{said}");
            assert!(
                said.contains("needs the header `Authorization: Bearer TOKEN` with this node's admin token"),
                "{said}"
            );
        }
    }
    assert_eq!(ask("view", Some(&right)).0, Some(0));
    let missing = folder.path().join("none").display().to_string();
    let (code, said) = ask("view", Some(&missing));
    assert!(code == Some(2) && said.contains("cannot read admin token"), "{said}");
    // Nobody listens at the pod, so that the node may not be ready; who asks is told so.
    for (path, open) in [("/health/live", true), ("/health/ready", true), ("/metrics", false), ("/v1/view", false)] {
        assert_eq!(status_of(&address, path) != "401", open, "{path}");
    }
    assert_eq!(ask("drain", Some(&right)).0, Some(0));
    node.signal("-TERM");
    assert_eq!(node.exit_code(), Some(0));
}

/// The status of a GET without any header of note.
fn status_of(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].to_owned()
}

/// What is configured must be written, and be there when the process has ended: nobody looks for a line before something went wrong.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_is_whole_when_the_node_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = (folder.path().join("node.toml"), folder.path().join("access.log"));
    std::fs::write(&config, "log.access = 'access.log'\n[[pods]]\ngrpc = 'http://127.0.0.1:1'\n").unwrap();
    let mut node = Node::start(&["--config", &config.display().to_string()], &mut Vec::new());
    let address = format!("http://{}", node.address("grpc"));
    let channel = tonic::transport::Channel::from_shared(address).unwrap().connect().await.unwrap();
    let request = ModelInferRequest { model_name: "m".to_owned(), id: "mine".to_owned(), ..Default::default() };
    GrpcInferenceServiceClient::new(channel).model_infer(request).await.unwrap_err();
    node.signal("-TERM");
    assert_eq!(node.exit_code(), Some(0));
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(
        (&line["request_id"], &line["outcome"], &line["status"]),
        (&"mine".into(), &"failed".into(), &14.into())
    );
}
