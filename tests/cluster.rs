//! Nodes in one process over real QUIC on loopback: they meet, see each other's tickets, and say goodbye.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::task::Poll;
use std::time::Duration;

use plimsoll::core::Strict;
use plimsoll::node::{Credentials, JoinError, Node, NodeConfig};
use plimsoll::observe::PodSpec;
use plimsoll::pick::{Outcome, Request};

const SECRET: &[u8] = b"a secret of the tests, long enough";

fn config(name: &str, secret: &[u8], join: &[SocketAddr]) -> NodeConfig {
    let mut config = NodeConfig::new(name, Credentials::Secret(secret.to_vec()));
    config.join = join.iter().map(SocketAddr::to_string).collect();
    config.pods = (0..4).map(|k| PodSpec::new(format!("pod-{k}"), format!("http://127.0.0.1:{}", 9000 + k))).collect();
    config
}

/// Asks until the answer is yes; a test that waits this long for it has failed.
async fn until<F: Future<Output = bool>>(what: &str, mut yes: impl FnMut() -> F) {
    for _ in 0..600 {
        if yes().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 6 s: {what}");
}

async fn alive(node: &Node) -> usize {
    node.members().await.iter().filter(|member| member.state == "alive").count()
}

async fn cluster(names: &[&str]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for name in names {
        let join: Vec<SocketAddr> = nodes.iter().map(Node::gossip_addr).collect();
        nodes.push(Node::join(config(name, SECRET, &join)).await.unwrap());
    }
    for node in &nodes {
        until("all members are alive", || async { alive(node).await == names.len() }).await;
    }
    nodes
}

async fn peers_in_flight(node: &Node) -> f64 {
    node.view().await.map_or(f64::NAN, |view| view.pods.iter().map(|pod| pod.peers_in_flight).sum())
}

/// The whole point: what one node has in flight is in the others' views, and gone when it is done.
#[tokio::test]
async fn tickets_of_one_node_are_seen_by_the_others() {
    let nodes = cluster(&["a", "b", "c"]).await;
    let tickets: Vec<_> = (0..5).map(|_| nodes[0].pick(&Request::new("m")).unwrap()).collect();
    for node in &nodes[1..] {
        until("five are in flight", || async { peers_in_flight(node).await == 5.0 }).await;
    }
    assert_eq!(peers_in_flight(&nodes[0]).await, 0.0);
    tickets.into_iter().for_each(|ticket| ticket.finish(Outcome::Served));
    for node in &nodes[1..] {
        until("none is in flight", || async { peers_in_flight(node).await == 0.0 }).await;
    }
}

/// A node that leaves tells its peers zero, and they call it gone without calling it failed.
#[tokio::test]
async fn a_node_that_leaves_is_gone_from_every_view() {
    let nodes = cluster(&["a", "b", "c"]).await;
    let ticket = nodes[0].pick(&Request::new("m")).unwrap();
    until("it is in flight", || async { peers_in_flight(&nodes[1]).await == 1.0 }).await;
    nodes[0].leave(Duration::from_millis(50)).await;
    drop(ticket);
    for node in &nodes[1..] {
        until("it is gone", || async { alive(node).await == 2 && peers_in_flight(node).await == 0.0 }).await;
    }
    assert!(nodes[0].view().await.is_none());
}

/// Members may listen on IPv6 as well.
#[tokio::test]
async fn nodes_meet_over_ipv6() {
    let over_ipv6 = |name: &str, join: &[SocketAddr]| {
        let mut config = config(name, SECRET, join);
        config.gossip = "[::1]:0".parse().unwrap();
        Node::join(config)
    };
    let a = over_ipv6("a", &[]).await.unwrap();
    let b = over_ipv6("b", &[a.gossip_addr()]).await.unwrap();
    until("they meet", || async { alive(&a).await == 2 && alive(&b).await == 2 }).await;
}

/// A container gossips on every address, `[::]`, and its peers are on IPv4: such a socket sees them as IPv6, and a node
/// that took that for another address would dial them again for every message, thousands of times a second.
#[tokio::test]
async fn a_node_on_every_address_meets_its_ipv4_peers_once() {
    let everywhere = |name: &str, join: &[SocketAddr]| {
        let free = std::net::UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap();
        let mut config = config(name, SECRET, join);
        config.gossip = free;
        config.advertise = Some(SocketAddr::from(([127, 0, 0, 1], free.port())));
        Node::join(config)
    };
    let a = everywhere("a", &[]).await.unwrap();
    let b = everywhere("b", &[a.gossip_addr()]).await.unwrap();
    until("they meet", || async { alive(&a).await == 2 && alive(&b).await == 2 }).await;
    let before = b.gossip_stats().await.udp_sent.0;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = b.gossip_stats().await.udp_sent.0 - before;
    // Some twenty a second of SWIM and rows, and what acknowledges them.
    assert!(sent < 400, "{sent} datagrams in two seconds");
}

/// A certificate authority of the tests, and node certificates from it, as PEM files.
struct Authority {
    files: tempfile::TempDir,
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Authority {
    fn new() -> Authority {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { files, params, key }
    }

    fn issue(&self, name: &str) -> Credentials {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["gossip.plimsoll.internal".to_owned()]).unwrap();
        let uri = format!("spiffe://default/plimsoll-node/{name}");
        params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
        let cert = params.signed_by(&key, &rcgen::Issuer::from_params(&self.params, &self.key)).unwrap();
        let file = |kind: &str| self.files.path().join(format!("{name}.{kind}"));
        std::fs::write(file("pem"), cert.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        Credentials::Files { ca: self.files.path().join("ca.pem"), cert: file("pem"), key: file("key") }
    }
}

/// In production a node is who its certificate says: nodes of one authority meet, a stranger's certificate does not help,
/// and a node cannot start under another's name.
#[tokio::test]
async fn nodes_meet_by_certificates_from_files() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let join = |name: &str, credentials: Credentials, join: &[SocketAddr]| {
        let mut config = config(name, SECRET, join);
        config.credentials = credentials;
        Node::join(config)
    };
    let a = join("a", ours.issue("a"), &[]).await.unwrap();
    let b = join("b", ours.issue("b"), &[a.gossip_addr()]).await.unwrap();
    until("they meet", || async { alive(&a).await == 2 && alive(&b).await == 2 }).await;
    let stranger = join("c", theirs.issue("c"), &[a.gossip_addr()]).await.unwrap();
    until("it was refused", || async { stranger.gossip_stats().await.dials_failed > 0 }).await;
    assert_eq!((alive(&a).await, alive(&stranger).await), (2, 1));
    let error = join("d", ours.issue("a"), &[]).await.unwrap_err().to_string();
    assert!(error.contains("spiffe://default/plimsoll-node/d"), "{error}");
}

/// Whoever does not hold the secret, or is of another cluster, must not get in; both sides stay up.
#[tokio::test]
async fn strangers_are_refused() {
    let nodes = cluster(&["a", "b"]).await;
    let at = nodes[0].gossip_addr();
    let wrong = Node::join(config("c", b"another secret, long enough too", &[at])).await.unwrap();
    let mut other = config("d", SECRET, &[at]);
    other.cluster = "other".into();
    let other = Node::join(other).await.unwrap();
    until("the attempts failed", || async { wrong.gossip_stats().await.dials_failed > 0 }).await;
    until("the attempts failed", || async { other.gossip_stats().await.dials_failed > 0 }).await;
    until("they were refused", || async { nodes[0].gossip_stats().await.accepts_refused > 0 }).await;
    for node in [&nodes[0], &nodes[1]] {
        assert_eq!(alive(node).await, 2);
    }
    assert_eq!((alive(&wrong).await, alive(&other).await), (1, 1));
}

/// Noise on the gossip port is nobody's business: counted, dropped, and the cluster goes on.
#[tokio::test]
async fn random_bytes_on_the_gossip_port_change_nothing() {
    let nodes = cluster(&["a", "b"]).await;
    let noise = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = nodes[0].gossip_stats().await.udp_received.0;
    for k in 0..2000_u32 {
        let bytes: Vec<u8> =
            (0..k % 1400).map(|i| (i.wrapping_mul(k).wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        noise.send_to(&bytes, nodes[0].gossip_addr()).unwrap();
        if k % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    until("the noise is counted", || async { nodes[0].gossip_stats().await.udp_received.0 > before + 1000 }).await;
    let ticket = nodes[0].pick(&Request::new("m")).unwrap();
    until("the view still works", || async { peers_in_flight(&nodes[1]).await == 1.0 }).await;
    ticket.finish(Outcome::Served);
}

/// What cannot work is refused before anything runs, by the value that is wrong.
#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    let error = |config| async { Node::join(config).await.unwrap_err() };
    assert!(matches!(error(config("a b", SECRET, &[])).await, JoinError::Name(name) if name == "a b"));
    assert!(matches!(error(config("a", b"short", &[])).await, JoinError::Secret(5)));
    let mut wildcard = config("a", SECRET, &[]);
    wildcard.gossip = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(error(wildcard).await, JoinError::Advertise(_)));
    let first = Node::join(config("a", SECRET, &[])).await.unwrap();
    let mut taken = config("b", SECRET, &[]);
    taken.gossip = first.gossip_addr();
    let error = error(taken).await.to_string();
    assert!(error.contains(&first.gossip_addr().to_string()), "{error}");
}

/// In strict mode an owner decides, over real QUIC: picks of two nodes at the same time fall on different pods, nothing
/// is left reserved when they are over, and a node whose owner is gone picks all the same, in time.
#[tokio::test]
async fn strict_picks_go_by_the_owner_and_by_the_own_view_without() {
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["a", "b", "c"] {
        let join: Vec<SocketAddr> = nodes.iter().map(Node::gossip_addr).collect();
        let mut config = config(name, SECRET, &join);
        let mut strict = Strict::default();
        // The machine that tests run on may be busy.
        (strict.timeout, strict.shards) = (Duration::from_secs(2), NonZeroU16::new(1));
        config.strict = Some(strict);
        nodes.push(Node::join(config).await.unwrap());
    }
    for node in &nodes {
        until("all members are alive", || async { alive(node).await == 3 }).await;
    }
    let stats = async |node: &Node| node.gossip_stats().await.core.strict;
    // Everybody knows the owner for the same one.
    until("one owns the shard", || async {
        let owned = [stats(&nodes[0]).await.owned, stats(&nodes[1]).await.owned, stats(&nodes[2]).await.owned];
        owned.iter().sum::<u64>() == 1
    })
    .await;
    for _ in 0..50 {
        let request = Request::new("m");
        let picks = [&nodes[0], &nodes[1], &nodes[2], &nodes[0]].map(|node| node.pick_strict(&request));
        let [a, b, c, d] = picks;
        let (a, b, c, d) = tokio::join!(a, b, c, d);
        let tickets = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
        let mut pods: Vec<&str> = tickets.iter().map(|ticket| ticket.pod().name()).collect();
        pods.sort_unstable();
        assert_eq!(pods, ["pod-0", "pod-1", "pod-2", "pod-3"]);
        tickets.into_iter().for_each(|ticket| ticket.finish(Outcome::Served));
        for node in &nodes {
            until("nothing is in flight", || async { peers_in_flight(node).await == 0.0 }).await;
            // An owner that has not heard of an end yet rightly goes round that pod.
            until("nothing is reserved", || async { stats(node).await.held == 0 }).await;
        }
    }
    let mut all = Vec::new();
    for node in &nodes {
        until("nothing is reserved", || async { stats(node).await.held == 0 }).await;
        all.push(stats(node).await);
    }
    let owner = all.iter().position(|stats| stats.owned == 1).unwrap();
    let by_owner: u64 = all.iter().map(|stats| stats.granted + stats.at_home).sum();
    assert_eq!((by_owner, all[owner].given + all[owner].at_home), (200, 200), "{all:?}");
    // Whoever stops waiting takes nothing with it.
    let other = usize::from(owner == 0);
    let request = Request::new("m");
    let mut pick = Box::pin(nodes[other].pick_strict(&request));
    // Asked, and then nobody is there for the answer.
    let _ = std::future::poll_fn(|cx| Poll::Ready(pick.as_mut().poll(cx).is_ready())).await;
    drop(pick);
    until("it was picked", || async { stats(&nodes[other]).await.picks().0 > all[other].picks().0 }).await;
    until("nothing is in flight", || async { nodes[other].in_flight() == 0 }).await;
    // The owner says goodbye: others own the shard then, and no pick fails meanwhile.
    nodes[owner].leave(Duration::ZERO).await;
    for _ in 0..20 {
        nodes[other].pick_strict(&Request::new("m")).await.unwrap().finish(Outcome::Served);
    }
    until("another owns it", || async {
        let mut owned = 0;
        for node in nodes.iter().enumerate().filter(|(n, _)| *n != owner).map(|(_, node)| node) {
            owned += stats(node).await.owned;
        }
        owned == 1
    })
    .await;
}

/// Without an owner that answers a pick must not wait longer than it was promised: here the answer cannot come in time.
#[tokio::test]
async fn a_strict_pick_that_gets_no_answer_in_time_is_local() {
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["a", "b"] {
        let join: Vec<SocketAddr> = nodes.iter().map(Node::gossip_addr).collect();
        let mut config = config(name, SECRET, &join);
        let mut strict = Strict::default();
        (strict.timeout, strict.shards) = (Duration::from_nanos(1), NonZeroU16::new(1));
        config.strict = Some(strict);
        nodes.push(Node::join(config).await.unwrap());
    }
    for node in &nodes {
        until("both are alive", || async { alive(node).await == 2 }).await;
    }
    let mut tickets = Vec::new();
    for node in &nodes {
        for _ in 0..20 {
            tickets.push(node.pick_strict(&Request::new("m")).await.unwrap());
        }
    }
    let [a, b] = [nodes[0].gossip_stats().await.core.strict, nodes[1].gossip_stats().await.core.strict];
    assert!(a.timed_out + b.timed_out >= 1 && a.granted + b.granted == 0, "{a:?} {b:?}");
    assert_eq!(a.picks().0 + b.picks().0, 40, "{a:?} {b:?}");
    let own: u64 = nodes.iter().map(Node::in_flight).sum();
    assert_eq!(own, 40);
    drop(tickets);
    for node in &nodes {
        until("nothing is reserved", || async { node.gossip_stats().await.core.strict.held == 0 }).await;
        assert_eq!(node.in_flight(), 0);
    }
}
