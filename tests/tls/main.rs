//! TLS with callers and with pods: who is let in, who is believed, and what happens to connections when certificates change.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod admin;
#[allow(dead_code, reason = "each suite uses its part")]
#[path = "../fake/mod.rs"]
mod fake;
mod pki;

use std::path::Path;
use std::time::Duration;

use fake::world::{World, infer, world, world_of};
use fake::{Answered, Pieces, Pod, eventually, framed, grpc_request, whole};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki::{Ca, Pair, connect, terminate};
use plimsoll::driver::tls::{ServerTls, ServerTlsFiles};
use plimsoll::forward::FrontOptions;
use plimsoll::node::NodeConfig;
use plimsoll_proto::inference::ModelInferRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

/// A connection to a front, and requests on it.
struct Caller(hyper::client::conn::http2::SendRequest<Pieces>);

impl Caller {
    async fn new(addr: &str, ca: &Ca, shown: Option<&Pair>) -> Result<Caller, String> {
        let stream = connect(addr, ca, shown, b"h2").await.map_err(|error| error.to_string())?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Caller(sender))
    }

    /// A whole answer, or what became of it.
    async fn infer(&mut self, addr: &str, what: &str) -> Result<Answered, String> {
        let message = ModelInferRequest { model_name: "m".into(), ..ModelInferRequest::default() };
        let mut request = grpc_request("ModelInfer", what, whole(framed(&message)));
        *request.uri_mut() = format!("https://{addr}{}", request.uri().path()).parse().unwrap();
        let answer = self.0.send_request(request).await.map_err(|error| error.to_string())?;
        Answered::of(answer).await.map_err(|error| error.to_string())
    }
}

/// Whether a new connection gets an answer.
async fn is_served(addr: &str, ca: &Ca, shown: Option<&Pair>) -> Result<(), String> {
    let answer = Caller::new(addr, ca, shown).await?.infer(addr, "echo").await?;
    assert_eq!(answer.status_code(), "0");
    Ok(())
}

async fn until_served(addr: &str, ca: &Ca) {
    for _ in 0..200 {
        if is_served(addr, ca, None).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("10 s were not enough to take a new certificate");
}

fn files(pair: &Pair) -> ServerTlsFiles {
    ServerTlsFiles::new(&pair.cert, &pair.key)
}

async fn front(pod: &Pod, files: ServerTlsFiles) -> World {
    world(&[pod], |options| options.tls = Some(ServerTls::load(files).unwrap())).await
}

/// Without a CA for callers everybody may come; who does not believe the certificate must be able to say so.
#[tokio::test]
async fn callers_are_served_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(folder.path(), "ca"), Ca::new(folder.path(), "other"));
    let pod = Pod::start("a").await;
    let world = front(&pod, files(&ca.issue("node", "localhost"))).await;
    is_served(&world.addr, &ca, None).await.unwrap();
    let error = is_served(&world.addr, &other, None).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let mut stream = connect(&world.addr, &ca, None, b"http/1.1").await.unwrap();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let error = connect(&world.addr, &ca, None, b"spdy/3").await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("applicationprotocol"), "{error}");
}

/// A handshake is no reason to be waited for ever after.
#[tokio::test]
async fn a_caller_that_says_nothing_after_its_handshake_is_shown_out() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let pod = Pod::start("a").await;
    let tls = ServerTls::load(files(&ca.issue("node", "localhost"))).unwrap();
    let impatient = |options: &mut FrontOptions| {
        options.tls = Some(tls);
        options.idle = Duration::from_millis(300);
    };
    let world = world(&[&pod], impatient).await;
    for said in [&b""[..], b"P"] {
        let mut stream = connect(&world.addr, &ca, None, b"h2").await.unwrap();
        stream.write_all(said).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
        assert!(heard.is_ok(), "never closed");
    }
    is_served(&world.addr, &ca, None).await.unwrap();
}

/// With a CA for callers a certificate is the key to the fleet: none, and one of somebody else, must not open it.
#[tokio::test]
async fn callers_without_the_right_certificate_stay_outside() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(folder.path(), "ca"), Ca::new(folder.path(), "other"));
    let pod = Pod::start("a").await;
    let world = front(&pod, files(&ca.issue("node", "localhost")).client_ca(ca.path())).await;
    is_served(&world.addr, &ca, Some(&ca.issue("caller", "caller"))).await.unwrap();
    for shown in [None, Some(other.issue("stranger", "caller")), Some(ca.issue_expired("late", "caller"))] {
        assert!(is_served(&world.addr, &ca, shown.as_ref()).await.is_err());
    }
    assert_eq!(pod.requests(), 1);
}

/// Somebody forgets to turn TLS on in a client: it must read what is wrong, and not look for a broken network.
#[tokio::test]
async fn callers_without_tls_are_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let pod = Pod::start("a").await;
    let mut world = front(&pod, files(&ca.issue("node", "localhost"))).await;
    let status = world.client.model_infer(infer("m", "echo")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("this port takes TLS only"), "{status}");

    let mut stream = TcpStream::connect(&world.addr).await.unwrap();
    stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port takes TLS only"), "{answer}");

    let mut stream = TcpStream::connect(&world.addr).await.unwrap();
    stream.write_all(b"no protocol at all\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(pod.requests(), 0);
}

/// Connections that never say a word, or stop in the middle of the handshake, must not keep others from theirs.
#[tokio::test]
async fn slow_handshakes_keep_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let pod = Pod::start("a").await;
    let world = front(&pod, files(&ca.issue("node", "localhost"))).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(&world.addr).await.unwrap();
        stream.write_all(&[0x16, 3, 1]).await.unwrap();
        slow.push(stream);
    }
    is_served(&world.addr, &ca, None).await.unwrap();
}

/// Certificates live for days, nodes for months: new ones must be taken without a restart and without breaking what is open, and
/// a rotation that goes wrong must change nothing.
#[tokio::test]
async fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, next) = (Ca::new(folder.path(), "ca"), Ca::new(folder.path(), "next"));
    let pod = Pod::start("a").await;
    let pair = ca.issue("node", "localhost");
    let world = front(&pod, files(&pair)).await;
    let mut open = Caller::new(&world.addr, &ca, None).await.unwrap();
    let addr = world.addr.clone();
    let slow = tokio::spawn(async move {
        let answer = open.infer(&addr, "slow").await;
        (open, answer)
    });
    eventually("the pod has it", || pod.requests() == 1).await;

    next.issue("node", "localhost");
    until_served(&world.addr, &next).await;
    assert!(is_served(&world.addr, &ca, None).await.unwrap_err().contains("UnknownIssuer"));
    pod.release();
    let (mut open, answer) = slow.await.unwrap();
    assert_eq!(answer.unwrap().status_code(), "0");
    assert_eq!(open.infer(&world.addr, "echo").await.unwrap().status_code(), "0");

    // Half a rotation: the certificate of one pair, the key of another.
    let other = ca.issue("other", "localhost");
    std::fs::copy(&other.key, &pair.key).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    is_served(&world.addr, &next, None).await.unwrap();
    std::fs::write(&pair.cert, "no certificate").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    is_served(&world.addr, &next, None).await.unwrap();
    // The other half.
    std::fs::copy(&other.cert, &pair.cert).unwrap();
    until_served(&world.addr, &ca).await;
}

/// A start with what cannot work must end with the file that is wrong.
#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let (one, two) = (ca.issue("one", "a"), ca.issue("two", "b"));
    let said = |cert: &Path, key: &Path| {
        let error = ServerTls::load(ServerTlsFiles::new(cert, key)).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(said(&folder.path().join("no"), &one.key), "cannot read `no`: No such file or directory (os error 2)");
    assert_eq!(said(&one.key, &one.key), "cannot read `one.key`: there is no certificate in it");
    assert_eq!(said(&one.cert, &one.cert), "cannot read `one.pem`: there is no private key in it");
    assert_eq!(
        said(&one.cert, &two.key),
        "certificate `one.pem` cannot be used with key `two.key`: the key is of another certificate"
    );
}

/// A node in front of `pod`, which takes TLS at `addr`.
async fn in_front_of(pod: &Pod, addr: &str, adjust: impl FnOnce(&mut NodeConfig)) -> World {
    let configure = |config: &mut NodeConfig| {
        config.pods[0].grpc = format!("https://{addr}");
        config.pods[0].tls.server_name = Some("localhost".into());
        adjust(config);
    };
    world_of(&[pod], configure, |_| {}).await
}

/// A pod that cannot prove who it is gets no request, and the caller reads why; once it can, it is used again.
#[tokio::test]
async fn pods_are_believed_by_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(folder.path(), "ca"), Ca::new(folder.path(), "other"));
    let pod = Pod::start("a").await;
    let good = terminate(&ca.issue("pod", "localhost"), None, pod.addr()).await;
    let late = terminate(&ca.issue_expired("late", "localhost"), None, pod.addr()).await;

    let trusting = |ca: &Ca| {
        let path = ca.path();
        move |config: &mut NodeConfig| config.pods[0].tls.ca_file = Some(path)
    };
    let mut world = in_front_of(&pod, &good, trusting(&ca)).await;
    world.client.model_infer(infer("m", "echo")).await.unwrap();

    let fails = async |addr: &str, why: &str, adjust: &dyn Fn(&mut NodeConfig)| {
        let mut world = in_front_of(&pod, addr, |config| adjust(config)).await;
        let status = world.client.model_infer(infer("m", "echo")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains(why), "{why}: {status}");
    };
    let ca_file = |ca: &Ca| Some(ca.path());
    fails(&good, "UnknownIssuer", &|config| config.pods[0].tls.ca_file = ca_file(&other)).await;
    fails(&late, "certificate expired", &|config| config.pods[0].tls.ca_file = ca_file(&ca)).await;
    fails(&good, "not valid for name", &|config| {
        config.pods[0].tls.ca_file = ca_file(&ca);
        config.pods[0].tls.server_name = Some("elsewhere".into());
    })
    .await;
    // Plain text where TLS is asked for.
    fails(pod.addr(), "no TLS", &|config| config.pods[0].tls.ca_file = ca_file(&ca)).await;
    fails(&good, "cannot read `/no/such/ca`", &|config| config.pods[0].tls.ca_file = Some("/no/such/ca".into())).await;
    assert_eq!(pod.requests(), 1);
}

/// Pods that ask for a certificate get the one that is configured, and the next one after a rotation.
#[tokio::test]
async fn pods_see_the_certificate_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, nodes) = (Ca::new(folder.path(), "ca"), Ca::new(folder.path(), "nodes"));
    let pod = Pod::start("a").await;
    let addr = terminate(&ca.issue("pod", "localhost"), Some(&nodes), pod.addr()).await;
    let wrong = ca.issue("node", "node");
    let mut world = in_front_of(&pod, &addr, |config| {
        let tls = &mut config.pods[0].tls;
        (tls.ca_file, tls.cert_file, tls.key_file) =
            (Some(ca.path()), Some(wrong.cert.clone()), Some(wrong.key.clone()));
    })
    .await;
    assert_eq!(world.client.model_infer(infer("m", "echo")).await.unwrap_err().code(), Code::Unavailable);
    nodes.issue("node", "node");
    // Its files are read again when a connection is made.
    for _ in 0..200 {
        if world.client.model_infer(infer("m", "echo")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("10 s were not enough to take a new certificate");
}
