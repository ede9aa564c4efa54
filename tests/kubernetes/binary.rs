//! `plimsoll node` in front of pods that Kubernetes knows: the way there is a kubeconfig, TLS and a token.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::api_server::{ApiServer, Is, endpoint, slice};

const LONG: Duration = Duration::from_secs(20);

/// The API server on a port of loopback, with a certificate of a CA of its own; the kubeconfig that leads there.
async fn listening(api: &ApiServer, directory: &Path, user: &str) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let server_key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params, key);
    let server = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = server.signed_by(&server_key, &issuer).unwrap();
    let server_key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], server_key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = api.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                api.serve(stream);
            }
        }
    });
    std::fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
    let kubeconfig = directory.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters:\n- name: here\n  cluster:\n    server: https://{address}\n    certificate-authority: ca.pem\n\
         contexts:\n- name: c\n  context: {{ cluster: here, user: u, namespace: prod }}\n\
         users:\n- name: u\n  user: {user}\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    kubeconfig
}

const FREE: [&str; 6] = ["--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--gossip", "127.0.0.1:0"];

fn plimsoll(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PLIMSOLL_")) {
        command.env_remove(name);
    }
    command.env_remove("KUBERNETES_SERVICE_HOST").env_remove("RUST_LOG").kill_on_drop(true).args(args);
    command
}

struct Node {
    _child: Child,
    log: Lines<BufReader<ChildStderr>>,
    seen: Vec<String>,
}

impl Node {
    fn start(kubeconfig: &Path) -> Node {
        let args = [&["node", "--log-format", "json", "--kubernetes", "triton"][..], &FREE].concat();
        let mut child = plimsoll(&args).env("KUBECONFIG", kubeconfig).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Node { _child: child, log, seen: Vec::new() }
    }

    /// The first line that has `what` in it, from where the last one was.
    async fn says(&mut self, what: &str) -> serde_json::Value {
        loop {
            let line = timeout(LONG, self.log.next_line()).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.seen));
            let line = line.unwrap().unwrap_or_else(|| panic!("ended without {what}: {:?}", self.seen));
            if line.contains(what) {
                return serde_json::from_str(&line).unwrap();
            }
            self.seen.push(line);
        }
    }
}

/// What an operator does first: a kubeconfig, a service, a node. TLS by the kubeconfig's own CA, the token in every
/// question, and pods that follow the service while the node runs.
#[tokio::test]
async fn a_node_finds_its_pods_by_a_kubeconfig() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::new();
    api.require_token("a-token");
    api.put(slice("triton", "x", vec![endpoint("triton-0", "127.0.0.1", Is::Ready)]));
    let mut node = Node::start(&listening(&api, directory.path(), "{ token: a-token }").await);
    let ready = node.says("\"ready\"").await;
    assert_eq!(ready["pods"], 1, "{ready}");

    let both = vec![endpoint("triton-0", "127.0.0.1", Is::Ending), endpoint("triton-1", "127.0.0.2", Is::Ready)];
    api.put(slice("triton", "x", both));
    let changed = node.says("triton-1").await;
    assert_eq!((&changed["joined"], &changed["draining"]), (&"triton-1".into(), &"triton-0".into()), "{changed}");
    let admin = ready["admin"].as_str().unwrap();
    let view = plimsoll(&["view", "--json", "--admin", admin]).output().await.unwrap();
    let view: serde_json::Value = serde_json::from_slice(&view.stdout).unwrap();
    let names: Vec<&str> = view["pods"].as_array().unwrap().iter().map(|pod| pod["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["triton-0", "triton-1"]);
    assert_eq!(view["pods"][0]["zone"], "eu-1a", "{view}");
}

/// A token that the API server does not know, and an API server that the CA does not: the node runs, and says what is wrong.
#[tokio::test]
async fn whom_nobody_trusts_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::new();
    api.require_token("a-token");
    let kubeconfig = listening(&api, directory.path(), "{ token: another }").await;
    let mut node = Node::start(&kubeconfig);
    node.says("Kubernetes does not know who asks: Unauthorized").await;
    node.says("\"ready\"").await;

    let stranger = KeyPair::generate().unwrap();
    let stranger = CertificateParams::new(Vec::new()).unwrap().self_signed(&stranger).unwrap();
    std::fs::write(directory.path().join("ca.pem"), stranger.pem()).unwrap();
    let mut node = Node::start(&kubeconfig);
    let says = node.says("cannot ask Kubernetes").await;
    assert!(says["message"].as_str().unwrap().contains("invalid peer certificate"), "{says}");
}

/// Without a way to any API server a node could never find its pods: it must not start, and say where it looked.
#[tokio::test]
async fn without_a_way_to_kubernetes_nothing_starts() {
    for (variable, value, says) in [
        ("KUBECONFIG", "/nowhere/config", "not in a pod of Kubernetes, and the kubeconfig: failed to read kubeconfig"),
        ("HOME", "/nowhere", "see the variable KUBECONFIG"),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1", "error: discovery.kubernetes: the pod's service account: "),
    ] {
        let mut command = plimsoll(&[&["node", "--kubernetes", "triton"][..], &FREE].concat());
        command.env_remove("KUBECONFIG").env("HOME", "/nowhere").env(variable, value);
        let output = command.output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let last = told.lines().last().unwrap_or_default();
        assert!(output.status.code() == Some(2) && last.contains(says), "{variable}: {told}");
        assert!(last.starts_with("error: discovery.kubernetes: "), "{told}");
    }
}
