//! The actor: a thread of its own owns the core and turns it. Everything else talks to it through queues.
//!
//! A thread of its own, because a membership protocol that waits behind a busy runtime's requests declares its peers dead
//! and is declared dead by them.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use quinn::{Endpoint, Runtime, TokioRuntime};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, info, warn};

use super::clock;
use super::link::{self, Inlet, LinkEvent, Links};
use super::socket::{CountingSocket, UdpCounts};
use super::tls::gossip::{Identity, PeerName};
use crate::core::{AskId, Core, Event, Stats};
use crate::observe::{MemberView, PodSpec, View};
use crate::pick::{Outcome, OwnedRequest, PickError, Rung, Ticket, Wake};

/// How often configured names are resolved again.
const RESOLVE: Duration = Duration::from_secs(10);
/// How long the last words may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What handles ask of the actor.
pub(crate) enum Command {
    SetPods(Vec<PodSpec>),
    SetJoin(Vec<SocketAddr>),
    Reserve(OwnedRequest, oneshot::Sender<Unclaimed>),
    View(oneshot::Sender<View>),
    Members(oneshot::Sender<Vec<MemberView>>),
    Stats(oneshot::Sender<GossipStats>),
    Leave(oneshot::Sender<()>),
}

/// A pick for somebody who may have stopped waiting: nothing is sent then, so nothing runs.
pub(crate) struct Unclaimed(Option<Result<Ticket, PickError>>);

impl Unclaimed {
    /// What was picked.
    pub(crate) fn claim(mut self) -> Result<Ticket, PickError> {
        match self.0.take() {
            Some(picked) => picked,
            None => unreachable!("it is emptied by being claimed, and then it is gone"),
        }
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(Ok(ticket)) = self.0.take() {
            ticket.finish(clock::now(), Outcome::Refused);
        }
    }
}

/// Counters of gossip: the core's, and the transport's under it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GossipStats {
    /// The core's.
    pub core: Stats,
    /// UDP datagrams and bytes received, QUIC's own included.
    pub udp_received: (u64, u64),
    /// UDP datagrams and bytes sent, QUIC's own included.
    pub udp_sent: (u64, u64),
    /// Messages that found the core's inbox full and pushed out an older one.
    pub inbox_dropped: u64,
    /// Messages that could not be sent: no connection, or its queue was full.
    pub sends_failed: u64,
    /// Attempts to reach a member that failed.
    pub dials_failed: u64,
    /// Connections refused: strangers.
    pub accepts_refused: u64,
    /// Connections that are up.
    pub connections: u64,
    /// The latest that a timer was ever served, µs.
    pub loop_lag_max_us: u64,
}

impl GossipStats {
    /// All of them as (name, kind, value): what metrics export. Names that end in `_total` only grow.
    pub fn values(&self) -> Vec<(&'static str, &'static str, u64)> {
        let core = &self.core;
        let mut values = Vec::new();
        for (kind, (messages, bytes)) in &core.sent {
            values.push(("messages_sent_total", kind.name(), *messages));
            values.push(("message_bytes_sent_total", kind.name(), *bytes));
        }
        for (kind, (messages, bytes)) in &core.received {
            values.push(("messages_received_total", kind.name(), *messages));
            values.push(("message_bytes_received_total", kind.name(), *bytes));
        }
        for (why, (messages, bytes)) in &core.rows {
            values.push(("rows_sent_total", why.name(), *messages));
            values.push(("rows_bytes_sent_total", why.name(), *bytes));
        }
        values.extend(core.refused.iter().map(|(why, n)| ("messages_refused_total", *why, *n)));
        values.extend(core.relay.pieces().map(|(what, pieces)| ("relay_news_total", what, pieces)));
        let strict = &core.strict;
        values.extend([
            ("strict_picks_total", "granted", strict.granted),
            ("strict_picks_total", "at_home", strict.at_home),
            ("strict_picks_total", "timed_out", strict.timed_out),
            ("strict_picks_total", "silent", strict.silent),
            ("strict_picks_total", "declined", strict.declined),
            ("strict_picks_total", "unasked", strict.unasked),
            ("strict_late_total", "", strict.late),
            ("strict_questions_total", "given", strict.given),
            ("strict_questions_total", "turned_down", strict.turned_down),
            ("strict_reservations_held", "", strict.held),
            ("strict_picks_waiting", "", strict.waiting),
            ("strict_shards_owned", "", strict.owned),
            ("udp_datagrams_sent_total", "", self.udp_sent.0),
            ("udp_bytes_sent_total", "", self.udp_sent.1),
            ("udp_datagrams_received_total", "", self.udp_received.0),
            ("udp_bytes_received_total", "", self.udp_received.1),
            ("changes_total", "at_once", core.at_once),
            ("changes_total", "waited", core.waited),
            ("work_told_ms_total", "at_once", core.work_at_once_ms),
            ("work_told_ms_total", "waited", core.work_waited_ms),
            ("renewals_total", "", core.renewals),
            ("rung_steps_total", "", core.rung_steps),
            ("swim_errors_total", "packet", core.swim_packet_errors),
            ("swim_errors_total", "internal", core.swim_internal_errors),
            ("missed_total", "changes", core.missed_changes),
            ("missed_total", "remainders", core.missed_remainders),
            ("corrected_remainders_total", "", core.corrected_remainders),
            ("dropped_total", "inbox", self.inbox_dropped),
            ("dropped_total", "unsent", self.sends_failed),
            ("dials_failed_total", "", self.dials_failed),
            ("connections_refused_total", "", self.accepts_refused),
            ("connections", "", self.connections),
            ("loop_lag_max_us", "", self.loop_lag_max_us),
        ]);
        values
    }
}

/// Wakes the actor; given to the core, called by picks.
pub(crate) struct Waker(pub(crate) Arc<Notify>);

impl Wake for Waker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Everything the actor's thread is started with.
pub(crate) struct Start {
    pub(crate) core: Core,
    pub(crate) socket: UdpSocket,
    pub(crate) identity: Identity,
    pub(crate) me: PeerName,
    pub(crate) join: Vec<String>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
}

/// Starts the actor's thread. Returns once its endpoint is up.
pub(crate) async fn start(start: Start) -> io::Result<()> {
    let (ready, started) = oneshot::channel();
    std::thread::Builder::new().name("plimsoll-gossip".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(start, ready)),
            // Nobody may wait for it any more; then there is nobody to tell.
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    started.await.unwrap_or_else(|_| Err(io::Error::other("the gossip thread ended before it began")))
}

async fn run(start: Start, ready: oneshot::Sender<io::Result<()>>) {
    let (events, link_events) = mpsc::channel(1024);
    let inlet = Inlet::new(events, start.wake.clone());
    let counts = Arc::new(UdpCounts::default());
    let endpoint = match endpoint(start.socket, start.identity, counts.clone()) {
        Ok(endpoint) => endpoint,
        Err(error) => return drop(ready.send(Err(error))),
    };
    tokio::spawn(link::accept(endpoint.clone(), inlet.clone()));
    let (resolved, joins) = mpsc::channel(1);
    tokio::spawn(resolve(start.join, resolved));
    let links = Links::new(start.me, endpoint.clone(), inlet.clone());
    let asking = HashMap::new();
    let mut actor = Actor { core: start.core, links, inlet, counts, endpoint, asking, loop_lag_max_us: 0 };
    // Nobody may wait for it any more; the loop then ends with the command channel.
    let _ = ready.send(Ok(()));
    actor.turn(start.commands, link_events, joins).await;
}

fn endpoint(socket: UdpSocket, identity: Identity, counts: Arc<UdpCounts>) -> io::Result<Endpoint> {
    let runtime = Arc::new(TokioRuntime);
    let inner = runtime.wrap_udp_socket(socket)?;
    let socket = Arc::new(CountingSocket { inner, counts });
    let server = Some(identity.server);
    let mut endpoint = Endpoint::new_with_abstract_socket(identity.endpoint, server, socket, runtime)?;
    endpoint.set_default_client_config(identity.client);
    Ok(endpoint)
}

/// Resolves the configured names, again and again: addresses of members change under a name.
async fn resolve(join: Vec<String>, to: mpsc::Sender<Vec<SocketAddr>>) {
    let mut warned = false;
    loop {
        let mut addrs = Vec::new();
        for name in &join {
            match tokio::net::lookup_host(name).await {
                Ok(found) => addrs.extend(found),
                Err(error) if !warned => {
                    warned = true;
                    warn!("cannot resolve `{name}` of node.join: {error}; trying again every {} s", RESOLVE.as_secs());
                }
                Err(_) => {}
            }
        }
        if to.send(addrs).await.is_err() {
            return;
        }
        tokio::time::sleep(RESOLVE).await;
    }
}

struct Actor {
    core: Core,
    links: Links,
    inlet: Inlet,
    counts: Arc<UdpCounts>,
    endpoint: Endpoint,
    /// Who waits for picks of strict mode.
    asking: HashMap<AskId, oneshot::Sender<Unclaimed>>,
    loop_lag_max_us: u64,
}

impl Actor {
    async fn turn(
        &mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut link_events: mpsc::Receiver<LinkEvent>,
        mut joins: mpsc::Receiver<Vec<SocketAddr>>,
    ) {
        let wake = self.inlet.wake.clone();
        loop {
            self.take_in();
            let wait = self.core.next_timeout().since(clock::now());
            tokio::select! {
                biased;
                event = link_events.recv() => if let Some(event) = event { self.handle_link(event) },
                () = wake.notified() => {}
                Some(addrs) = joins.recv() => self.core.set_join(clock::now(), addrs),
                command = commands.recv() => match command {
                    Some(Command::Leave(done)) => {
                        self.leave().await;
                        // Whoever asked may have gone.
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command),
                    // Every handle is gone.
                    None => return self.leave().await,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What arrived first, then what changed, then what is due: a paused node must hear what happened meanwhile before
    /// its timers declare anybody dead.
    fn take_in(&mut self) {
        while let Some(m) = self.inlet.pop() {
            self.core.handle_message(clock::now(), m.from, m.remote, m.channel, &m.data, m.transit);
        }
        let now = clock::now();
        self.core.handle_changes(now);
        let due = self.core.next_timeout();
        if due <= now {
            let lag = u64::try_from(now.since(due).as_micros()).unwrap_or(u64::MAX);
            self.loop_lag_max_us = self.loop_lag_max_us.max(lag);
            self.core.handle_timeout(now);
        }
        self.put_out();
    }

    fn put_out(&mut self) {
        while let Some(transmit) = self.core.poll_transmit() {
            self.links.send(transmit);
        }
        while let Some(event) = self.core.poll_event() {
            log(event);
        }
        while let Some(reserved) = self.core.poll_reserved() {
            let unclaimed = Unclaimed(Some(reserved.picked));
            if let Some(to) = self.asking.remove(&reserved.ask) {
                // Whoever does not wait any more gives it back by dropping it.
                let _ = to.send(unclaimed);
            }
        }
    }

    fn handle_link(&mut self, event: LinkEvent) {
        let now = clock::now();
        match event {
            LinkEvent::Up { connection, peer, dialed } => {
                if let Some((node, remote)) = self.links.up(connection, &peer, dialed) {
                    self.core.handle_connected(now, node, remote);
                }
            }
            LinkEvent::Down { node, stable_id } => {
                if self.links.down(node, stable_id) {
                    self.core.handle_disconnected(now, node);
                }
            }
            LinkEvent::DialFailed { addr, why } => self.links.dial_failed(addr, Some(why)),
            LinkEvent::AcceptFailed { addr, why } => self.links.accept_failed(addr, &why),
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = clock::now();
        // A handle that no longer waits for its answer is no error.
        match command {
            Command::SetPods(pods) => self.core.set_pods(now, pods),
            Command::SetJoin(addrs) => self.core.set_join(now, addrs),
            Command::Reserve(request, to) => {
                let ask = self.core.reserve(now, &request.borrowed());
                self.asking.insert(ask, to);
            }
            Command::View(to) => drop(to.send(self.core.view(now))),
            Command::Members(to) => drop(to.send(self.core.members(now))),
            Command::Stats(to) => drop(to.send(self.stats())),
            Command::Leave(_) => {}
        }
    }

    fn stats(&self) -> GossipStats {
        let c = &self.counts;
        GossipStats {
            core: self.core.stats(),
            udp_received: (c.received.load(Relaxed), c.received_bytes.load(Relaxed)),
            udp_sent: (c.sent.load(Relaxed), c.sent_bytes.load(Relaxed)),
            inbox_dropped: self.inlet.dropped.load(Relaxed),
            sends_failed: self.links.sends_failed,
            dials_failed: self.links.dials_failed,
            accepts_refused: self.links.accepts_refused,
            connections: self.links.connections() as u64,
            loop_lag_max_us: self.loop_lag_max_us,
        }
    }

    async fn leave(&mut self) {
        self.core.leave(clock::now());
        self.put_out();
        // Datagrams leave when the endpoint's driver next runs; closing at once would take them along.
        tokio::time::sleep(Duration::from_millis(30)).await;
        self.endpoint.close(link::CLOSE_LEAVE, b"leave");
        // Longer, and a peer that is gone would hold up our own end.
        let _ = tokio::time::timeout(LAST_WORDS, self.endpoint.wait_idle()).await;
    }
}

fn log(event: Event) {
    match event {
        Event::MemberUp(name) => info!(member = %name, "member is up"),
        Event::MemberDown(name) => warn!(member = %name, "member is down"),
        Event::MemberLeft(name) => info!(member = %name, "member left"),
        Event::Rung(Rung::Fill) => info!("the view is fresh again: picks fill by it"),
        Event::Rung(rung) => warn!(rung = rung.name(), "the view is stale: picks step down to {}", rung.name()),
        Event::NameTaken(addr) => error!(
            %addr,
            "whoever answers at {addr} has this node's name: give each its own"
        ),
        Event::Refused(node, why) => warn!(%node, "member {node} is refused or bounded: {why}"),
        Event::ModelEjected { pod, model, because, span } => {
            warn!(%pod, %model, why = because.name(), for_s = span.as_secs(), "ejected pod for one model: others serve it")
        }
        Event::ModelReadmitted { pod, model } => info!(%pod, %model, "trying pod again for this model"),
        Event::Panic { model, left, of, over: false } => {
            warn!(%model, left, of, "too few healthy pods would be left: picks go to all that can be reached")
        }
        Event::Panic { model, over: true, .. } => info!(%model, "enough pods are healthy again"),
    }
}
