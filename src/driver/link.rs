//! Connections: dialed when there is something to say, accepted from whoever proves that it belongs, one kept per peer.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, VarInt};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use super::clock;
use super::tls::gossip::{self as tls, PeerName, SERVER_NAME};
use crate::core::Transmit;
use crate::gossip::wire::{Channel, MAX_STREAM};
use crate::id::NodeId;
use crate::time::Time;

/// Messages that wait for a connection being made; over this the oldest goes.
const QUEUE: usize = 16;
/// Messages that wait for the core; over this the oldest goes, because a newer one says more.
const INBOX: usize = 4096;
/// Handshakes under way from outside; more are refused, and who comes when a quarter are taken must prove its address.
const HANDSHAKES: usize = 256;
/// Between attempts to dial one address: first, and at most (doubling, with jitter).
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// A stream that takes longer than this to arrive is abandoned.
const STREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// Two connections this close together were dialed by both sides at once.
const SIMULTANEOUS: Duration = Duration::from_secs(2);
/// The same complaint about the same address is logged this often.
const COMPLAIN: Duration = Duration::from_secs(60);
/// And this many of them in that time, all told.
const COMPLAINTS: usize = 1024;

/// Close codes, seen by the peer.
const CLOSE_DUPLICATE: VarInt = VarInt::from_u32(2);
const CLOSE_STRANGER: VarInt = VarInt::from_u32(3);
const CLOSE_CLUSTER: VarInt = VarInt::from_u32(4);
pub(crate) const CLOSE_LEAVE: VarInt = VarInt::from_u32(0);

/// A message that arrived.
pub(crate) struct Inbound {
    pub(crate) from: NodeId,
    pub(crate) remote: SocketAddr,
    pub(crate) channel: Channel,
    pub(crate) data: bytes::Bytes,
    /// Half the round trip as measured.
    pub(crate) transit: Duration,
}

/// What happens to connections; handled in order, never dropped.
pub(crate) enum LinkEvent {
    Up { connection: Connection, peer: PeerName, dialed: Option<SocketAddr> },
    Down { node: NodeId, stable_id: usize },
    DialFailed { addr: SocketAddr, why: String },
    AcceptFailed { addr: SocketAddr, why: String },
}

/// What the connection tasks share with the actor.
#[derive(Clone)]
pub(crate) struct Inlet {
    inbox: Arc<ArrayQueue<Inbound>>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) dropped: Arc<AtomicU64>,
    events: mpsc::Sender<LinkEvent>,
}

impl Inlet {
    pub(crate) fn new(events: mpsc::Sender<LinkEvent>, wake: Arc<Notify>) -> Inlet {
        Inlet { inbox: Arc::new(ArrayQueue::new(INBOX)), wake, dropped: Arc::default(), events }
    }

    pub(crate) fn pop(&self) -> Option<Inbound> {
        self.inbox.pop()
    }

    fn push(&self, inbound: Inbound) {
        if self.inbox.force_push(inbound).is_some() {
            self.dropped.fetch_add(1, Relaxed);
        }
        self.wake.notify_one();
    }

    async fn event(&self, event: LinkEvent) {
        // Fails only when the actor is gone, and then nobody needs it.
        let _ = self.events.send(event).await;
    }
}

struct Slot {
    connection: Connection,
    dialed: bool,
    since: Time,
}

#[derive(Default)]
struct Dial {
    queue: VecDeque<Transmit>,
    under_way: bool,
    failures: u32,
    not_before: Time,
}

/// All connections of a node.
pub(crate) struct Links {
    me: PeerName,
    endpoint: Endpoint,
    inlet: Inlet,
    slots: HashMap<NodeId, Slot>,
    dials: HashMap<SocketAddr, Dial>,
    complaints: HashMap<(IpAddr, String), Time>,
    pub(crate) sends_failed: u64,
    pub(crate) dials_failed: u64,
    pub(crate) accepts_refused: u64,
}

impl Links {
    pub(crate) fn new(me: PeerName, endpoint: Endpoint, inlet: Inlet) -> Links {
        Links {
            me,
            endpoint,
            inlet,
            slots: HashMap::new(),
            dials: HashMap::new(),
            complaints: HashMap::new(),
            sends_failed: 0,
            dials_failed: 0,
            accepts_refused: 0,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Sends on the peer's connection; dials if there is none. What is for one node is never told to another that is found
    /// at its address: a Hello that says "I know a later you" would have that one renew itself, tell everybody, and so on
    /// for ever (one lie about an address made 16 nodes say 750,000 Hellos within a fifth of a second in a simulation).
    pub(crate) fn send(&mut self, transmit: Transmit) {
        let named = transmit.node.and_then(|node| self.slots.get(&node));
        let by_addr = || self.slots.iter().find(|(_, slot)| remote_of(&slot.connection) == transmit.addr);
        let (connection, meant) = match named {
            Some(slot) => (slot.connection.clone(), true),
            None => match by_addr() {
                Some((node, slot)) => (slot.connection.clone(), is_for(&transmit, *node)),
                None => return self.dial(transmit),
            },
        };
        match meant {
            true => self.send_on(&connection, transmit),
            false => self.sends_failed += 1,
        }
    }

    fn send_on(&mut self, connection: &Connection, transmit: Transmit) {
        match transmit.channel {
            Channel::Datagram => {
                if connection.send_datagram(transmit.data).is_err() {
                    self.sends_failed += 1;
                }
            }
            Channel::Stream => {
                let connection = connection.clone();
                let send = async move {
                    // A stream that fails is repaired by the next sync or the next connection.
                    if let Ok(mut stream) = connection.open_uni().await
                        && stream.write_all(&transmit.data).await.is_ok()
                    {
                        let _ = stream.finish();
                        let _ = stream.stopped().await;
                    }
                };
                // A peer that lives but reads no stream must not collect what we would tell it.
                tokio::spawn(tokio::time::timeout(STREAM_TIMEOUT, send));
            }
        }
    }

    fn dial(&mut self, transmit: Transmit) {
        let addr = transmit.addr;
        let dial = self.dials.entry(addr).or_default();
        if !dial.under_way && clock::now() < dial.not_before {
            // Nobody there a moment ago: what is old by the time somebody is would only be noise.
            self.sends_failed += 1;
            return;
        }
        if dial.queue.len() >= QUEUE {
            dial.queue.pop_front();
            self.sends_failed += 1;
        }
        dial.queue.push_back(transmit);
        if dial.under_way {
            return;
        }
        dial.under_way = true;
        let (endpoint, inlet) = (self.endpoint.clone(), self.inlet.clone());
        tokio::spawn(async move {
            let event = match connect(&endpoint, addr).await {
                Ok((connection, peer)) => LinkEvent::Up { connection, peer, dialed: Some(addr) },
                Err(why) => LinkEvent::DialFailed { addr, why },
            };
            inlet.event(event).await;
        });
    }

    /// Takes in a connection. Returns who it is with where that peer had none before.
    pub(crate) fn up(
        &mut self,
        connection: Connection,
        peer: &PeerName,
        dialed: Option<SocketAddr>,
    ) -> Option<(NodeId, SocketAddr)> {
        let waiting = dialed.and_then(|addr| self.dials.remove(&addr)).map(|dial| dial.queue).unwrap_or_default();
        if peer.cluster != self.me.cluster {
            let why = format!("it is of cluster `{}`, this node of `{}`", peer.cluster, self.me.cluster);
            connection.close(CLOSE_CLUSTER, format!("other cluster: `{}`", self.me.cluster).as_bytes());
            self.complain(remote_of(&connection), &why, dialed.is_some());
            if let Some(addr) = dialed {
                self.dial_failed(addr, None);
            }
            return None;
        }
        let node = peer.id();
        let fresh = self.keep(node, &connection, dialed.is_some());
        // On the connection that stays: looking it up again could end in dialing again.
        if let Some(kept) = self.slots.get(&node).map(|slot| slot.connection.clone()) {
            let (meant, misled): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|transmit| is_for(transmit, node));
            self.sends_failed += misled.len() as u64;
            meant.into_iter().for_each(|transmit| self.send_on(&kept, transmit));
        }
        fresh.then(|| (node, remote_of(&connection)))
    }

    /// Decides which of two connections to one peer stays, and starts reading.
    fn keep(&mut self, node: NodeId, connection: &Connection, dialed: bool) -> bool {
        let now = clock::now();
        if let Some(old) = self.slots.get(&node) {
            let at_once = now.since(old.since) < SIMULTANEOUS && old.connection.close_reason().is_none();
            // Dialed at once from both sides: the one that the smaller id dialed stays, so both sides keep the same.
            // Otherwise the new one: a peer that dials has no connection any more, whatever we think.
            let ours_first = self.me.id() < node;
            if at_once && old.dialed == ours_first && dialed != ours_first {
                connection.close(CLOSE_DUPLICATE, b"duplicate");
                return false;
            }
            old.connection.close(CLOSE_DUPLICATE, b"duplicate");
        }
        self.slots.insert(node, Slot { connection: connection.clone(), dialed, since: now });
        tokio::spawn(read(connection.clone(), node, self.inlet.clone()));
        true
    }

    /// A connection ended. Returns whether that was the peer's only one.
    pub(crate) fn down(&mut self, node: NodeId, stable_id: usize) -> bool {
        let current = self.slots.get(&node).is_some_and(|slot| slot.connection.stable_id() == stable_id);
        if current {
            self.slots.remove(&node);
        }
        current
    }

    /// Dialing failed: wait before the next attempt, and say why, once a minute.
    pub(crate) fn dial_failed(&mut self, addr: SocketAddr, why: Option<String>) {
        self.dials_failed += 1;
        let dial = self.dials.entry(addr).or_default();
        self.sends_failed += dial.queue.len() as u64;
        dial.queue.clear();
        dial.under_way = false;
        let backoff = (BACKOFF_FIRST * 2_u32.saturating_pow(dial.failures.min(16))).min(BACKOFF_MOST);
        // Jitter of a fifth, from the address: nodes that lost the same peer do not come back in step.
        let jitter = u32::from(addr.port() ^ self.endpoint.local_addr().map_or(0, |a| a.port())) % 20;
        dial.not_before = clock::now() + backoff * (90 + jitter) / 100;
        dial.failures = dial.failures.saturating_add(1);
        if let Some(why) = why {
            self.complain(addr, &why, true);
        }
        let now = clock::now();
        self.dials.retain(|_, dial| dial.under_way || now.since(dial.not_before) < 6 * BACKOFF_MOST);
    }

    pub(crate) fn accept_failed(&mut self, addr: SocketAddr, why: &str) {
        self.accepts_refused += 1;
        self.complain(addr, why, false);
    }

    fn complain(&mut self, addr: SocketAddr, why: &str, dialed: bool) {
        let now = clock::now();
        let key = (addr.ip(), format!("{dialed}{why}"));
        if self.complaints.get(&key).is_some_and(|at| now.since(*at) < COMPLAIN) {
            return;
        }
        self.complaints.retain(|_, at| now.since(*at) < COMPLAIN);
        if self.complaints.len() >= COMPLAINTS {
            // Strangers choose part of the text: what they could not repeat they could vary. The counters go on.
            return;
        }
        self.complaints.insert(key, now);
        match dialed {
            true => warn!(%addr, "cannot gossip with the node at {addr}: {why}"),
            false => warn!(%addr, "refused a gossip connection from {addr}: {why}"),
        }
    }
}

/// Whether `node` is whom it is for: the one that is named, or whoever is there.
fn is_for(transmit: &Transmit, node: NodeId) -> bool {
    transmit.node.is_none_or(|named| named == node)
}

/// Where a connection's peer is, as configurations and members write it: a socket on `[::]` sees IPv4 peers as
/// `::ffff:10.0.0.6`.
fn remote_of(connection: &Connection) -> SocketAddr {
    let addr = connection.remote_address();
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

async fn connect(endpoint: &Endpoint, addr: SocketAddr) -> Result<(Connection, PeerName), String> {
    let connecting = endpoint.connect(addr, SERVER_NAME).map_err(|error| error.to_string())?;
    let connection = connecting.await.map_err(|error| explain(&error))?;
    match tls::peer_name(&connection) {
        Some(peer) => Ok((connection, peer)),
        None => {
            connection.close(CLOSE_STRANGER, b"no node name in the certificate");
            Err("its certificate names no plimsoll node".into())
        }
    }
}

/// Accepts connections until the endpoint closes.
pub(crate) async fn accept(endpoint: Endpoint, inlet: Inlet) {
    let under_way = Arc::new(AtomicU64::new(0));
    while let Some(incoming) = endpoint.accept().await {
        let now = under_way.load(Relaxed) as usize;
        if now >= HANDSHAKES {
            incoming.refuse();
        } else if now >= HANDSHAKES / 4 && incoming.may_retry() && !incoming.remote_address_validated() {
            // Fails only where it may not, which was just asked.
            let _ = incoming.retry();
        } else {
            under_way.fetch_add(1, Relaxed);
            tokio::spawn(greet(incoming, inlet.clone(), under_way.clone()));
        }
    }
}

async fn greet(incoming: Incoming, inlet: Inlet, under_way: Arc<AtomicU64>) {
    let addr = incoming.remote_address();
    let connected = incoming.await;
    under_way.fetch_sub(1, Relaxed);
    let event = match connected {
        Ok(connection) => match tls::peer_name(&connection) {
            Some(peer) => LinkEvent::Up { connection, peer, dialed: None },
            None => {
                connection.close(CLOSE_STRANGER, b"no node name in the certificate");
                LinkEvent::AcceptFailed { addr, why: "its certificate names no plimsoll node".into() }
            }
        },
        Err(error) => LinkEvent::AcceptFailed { addr, why: explain(&error) },
    };
    inlet.event(event).await;
}

/// Why a handshake failed, as a person would say it.
fn explain(error: &ConnectionError) -> String {
    let text = error.to_string();
    let certificate = ["BadSignature", "UnknownIssuer", "invalid peer certificate", "bad certificate", "unknown CA"];
    match error {
        ConnectionError::TimedOut => "no answer".into(),
        // TLS alerts 42 to 49 are complaints about certificates; QUIC carries an alert as 0x100 + its number.
        _ if certificate.iter().any(|hint| text.contains(hint)) || is_certificate_alert(error) => {
            format!("the certificates do not match, so the cluster secret (or CA) differs ({text})")
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_CLUSTER => {
            format!("it refused this node: {}", String::from_utf8_lossy(&close.reason))
        }
        _ => text,
    }
}

fn is_certificate_alert(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        ConnectionError::TransportError(error) => u64::from(error.code),
        _ => return false,
    };
    (0x100 + 42..=0x100 + 49).contains(&code) || code == 0x100 + 51 || code == 0x100 + 116
}

/// Reads one connection until it ends.
async fn read(connection: Connection, node: NodeId, inlet: Inlet) {
    let stable_id = connection.stable_id();
    let remote = remote_of(&connection);
    let inbound = |channel, data| Inbound { from: node, remote, channel, data, transit: connection.rtt() / 2 };
    let ended = loop {
        tokio::select! {
            datagram = connection.read_datagram() => match datagram {
                Ok(data) => inlet.push(inbound(Channel::Datagram, data)),
                Err(error) => break error,
            },
            stream = connection.accept_uni() => match stream {
                Ok(mut stream) => {
                    let (inlet, transit) = (inlet.clone(), connection.rtt() / 2);
                    tokio::spawn(async move {
                        let whole = tokio::time::timeout(STREAM_TIMEOUT, stream.read_to_end(MAX_STREAM)).await;
                        if let Ok(Ok(data)) = whole {
                            let channel = Channel::Stream;
                            inlet.push(Inbound { from: node, remote, channel, data: data.into(), transit });
                        }
                    });
                }
                Err(error) => break error,
            },
        }
    };
    if let ConnectionError::ApplicationClosed(close) = &ended
        && close.error_code == CLOSE_CLUSTER
    {
        warn!(addr = %remote, "the node at {remote} refused this node: {}", String::from_utf8_lossy(&close.reason));
    }
    debug!(%node, %remote, %ended, "gossip connection ended");
    inlet.event(LinkEvent::Down { node, stable_id }).await;
}
