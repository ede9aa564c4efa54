//! The public handle of a node: join, pick, view, leave.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::bounds;
use crate::bounds::{
    check_budget, check_costs, check_health, check_pods, check_slow_start, check_strict, check_zone_penalty,
};
use crate::core::{Core, CoreConfig, Health, SLOW_START, Strict, ZONE_PENALTY};
use crate::driver::clock;
use crate::driver::runner::{self, Command, Start, Waker};
use crate::driver::tls::gossip as tls;
use crate::forward::look_after;
use crate::id::Epoch;
use crate::observe::{Formula, MemberView, Pod, PodSpec, View};
use crate::pick::{self, Outcome, PickError, Picker, PolicyKind, Request};
use crate::redis::StateOptions;
#[cfg(feature = "redis")]
use crate::redis::StateView;
#[cfg(feature = "redis")]
use crate::redis::shared::{Shared, Told};
use crate::time::Time;

pub use crate::bounds::InvalidSetting;
pub use crate::driver::runner::GossipStats;
pub use crate::driver::tls::TlsError;

/// The least bytes a cluster secret must have: 128 bits.
pub const SECRET_AT_LEAST: usize = 16;

/// The core decides a pick of strict mode when its time is up; who waits for it gives its thread so much more, and then
/// picks itself.
const OVERDUE: Duration = Duration::from_millis(5);

/// How a node proves that it belongs to the cluster.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// One secret that all nodes share: every holder is trusted alike.
    Secret(Vec<u8>),
    /// A certificate per node, PEM files: the cluster's CA, this node's certificate chain and key.
    Files {
        /// Certificates of the CA.
        ca: PathBuf,
        /// This node's chain, leaf first.
        cert: PathBuf,
        /// This node's key.
        key: PathBuf,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::Secret(_) => f.write_str("Secret(..)"),
            Credentials::Files { cert, .. } => write!(f, "Files({})", cert.display()),
        }
    }
}

/// What a node needs to join.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Unique per process: letters, digits and `-._~`, at most 128.
    pub name: String,
    /// Nodes of another cluster are refused. Same letters as a name.
    pub cluster: String,
    /// Where it gossips (UDP).
    pub gossip: SocketAddr,
    /// What peers dial; `gossip` where none is given.
    pub advertise: Option<SocketAddr>,
    /// `host:port` of any members; names are resolved again every 10 s.
    pub join: Vec<String>,
    /// Its proof of membership.
    pub credentials: Credentials,
    /// How it picks.
    pub policy: PolicyKind,
    /// Gossip budget, bit/s, all that it sends together: 10,000 to 10^10. Less makes news older, more costs network.
    pub budget_bits: u64,
    /// Whether [`Node::pick_strict`] asks the owners of shards, and how.
    pub strict: Option<Strict>,
    /// Whether [`Node::pick_strict`] asks a Redis that all nodes share, and which. Needs the feature `redis`.
    pub state: Option<StateOptions>,
    /// How long a pod that is new, or back after it was ejected, takes part in a growing share of the picks only, an hour at
    /// most; zero: in all at once.
    pub slow_start: Duration,
    /// How it finds out which pods are fit for which models.
    pub health: Health,
    /// The zone that it runs in, where somebody knows.
    pub zone: Option<String>,
    /// How much higher a pod stands that is known to be in another zone, a minute at most; zero: as high as any.
    pub zone_penalty: Duration,
    /// What requests cost, by model, where somebody knows; the one of the empty name is for all other models. Costs are
    /// learned, so that most fleets need none.
    pub costs: BTreeMap<Box<str>, Formula>,
    /// The pods it starts with.
    pub pods: Vec<PodSpec>,
}

impl NodeConfig {
    /// A node called `name` that gossips on any free port of 127.0.0.1, alone, with defaults for the rest.
    pub fn new(name: impl Into<String>, credentials: Credentials) -> NodeConfig {
        NodeConfig {
            name: name.into(),
            cluster: "default".into(),
            gossip: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            join: Vec::new(),
            credentials,
            policy: PolicyKind::default(),
            budget_bits: 1_000_000,
            strict: None,
            state: None,
            slow_start: SLOW_START,
            health: Health::default(),
            zone: None,
            zone_penalty: ZONE_PENALTY,
            costs: BTreeMap::new(),
            pods: Vec::new(),
        }
    }
}

/// Why a node could not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A name that cannot be part of an identity.
    #[error("`{}` cannot name a node or cluster: take 1 to 128 letters, digits or `-._~`", .0.escape_debug())]
    Name(String),
    /// A secret that is too short to be one.
    #[error("the cluster secret has {0} bytes: it needs at least {SECRET_AT_LEAST}; make one with `plimsoll secret`")]
    Secret(usize),
    /// A setting that cannot be used.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A shared Redis beside strict mode, or in a build that has none: set one of both to none.
    #[error("{0}")]
    State(&'static str),
    /// The gossip address cannot be bound.
    #[error("cannot gossip on `{addr}`: {source}; take another address or end what uses it")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Peers cannot dial a wildcard.
    #[error("peers cannot dial `{0}`: set the address to advertise")]
    Advertise(SocketAddr),
    /// The system gave no entropy, or no thread.
    #[error("cannot start the gossip thread: {0}")]
    Start(io::Error),
}

/// A node of the cluster. Clones are handles to the same node; it leaves when the last one is gone.
#[derive(Clone, Debug)]
pub struct Node {
    name: Arc<str>,
    gossip: SocketAddr,
    picker: Picker,
    /// How long picks of strict mode wait at most; none where it is off.
    patience: Option<Duration>,
    /// The Redis that picks ask, where they do.
    #[cfg(feature = "redis")]
    state: Option<Arc<Shared>>,
    /// How it looks after its pods, and whether it does: only once it forwards.
    health: Health,
    looks_after_pods: Arc<AtomicBool>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Node {
    /// Starts a node. It picks at once; its peers are met in the background.
    ///
    /// # Errors
    /// [`JoinError`]; nothing runs then.
    pub async fn join(config: NodeConfig) -> Result<Node, JoinError> {
        for name in [&config.name, &config.cluster] {
            if !tls::is_plain(name) {
                return Err(JoinError::Name(name.clone()));
            }
        }
        if let Credentials::Secret(secret) = &config.credentials
            && secret.len() < SECRET_AT_LEAST
        {
            return Err(JoinError::Secret(secret.len()));
        }
        check_budget(config.budget_bits)?;
        config.strict.as_ref().map_or(Ok(()), check_strict)?;
        check_slow_start(config.slow_start)?;
        check_health(&config.health)?;
        check_zone_penalty(config.zone_penalty)?;
        check_costs(&config.costs)?;
        check_pods(&config.pods)?;
        check_who_is_asked(&config)?;
        config.state.as_ref().map_or(Ok(()), bounds::check_state)?;
        let identity = tls::identity(&config.name, &config.cluster, &config.credentials)?;
        let (socket, advertise) = bind(config.gossip, config.advertise)?;
        let entropy = || SysRng.try_next_u64().map_err(|error| JoinError::Start(io::Error::other(error)));
        let seed = entropy()?;
        let core_config = CoreConfig {
            cluster: config.cluster.clone(),
            // Later starts are larger, and two in one second are told apart by chance. The clock is a hint: the cluster
            // corrects a start that is lower than one it knows.
            epoch: Epoch((clock::unix_seconds() << 16) | (entropy()? & 0xffff)),
            policy: config.policy,
            budget_bits: config.budget_bits,
            strict: config.strict,
            slow_start: config.slow_start,
            health: config.health,
            zone: config.zone,
            zone_penalty: config.zone_penalty,
            formulas: config.costs,
            seed,
            ..CoreConfig::new(config.name.clone(), advertise)
        };
        let wake = Arc::new(Notify::new());
        let now = clock::now();
        let mut core = Core::new(core_config, now, Box::new(Waker(wake.clone())));
        core.set_pods(now, config.pods);
        let (commands, receiver) = mpsc::unbounded_channel();
        let picker = core.picker().clone();
        let me = tls::PeerName { cluster: config.cluster, name: config.name.clone() };
        #[cfg(feature = "redis")]
        let state = {
            let who = (&*me.cluster, &*me.name, entropy()?);
            config.state.map(|options| Shared::start(options, who, picker.clone())).transpose()?
        };
        let start = Start { core, socket, identity, me, join: config.join, wake, commands: receiver };
        runner::start(start).await.map_err(JoinError::Start)?;
        let patience = config.strict.map(|strict| strict.timeout.saturating_add(OVERDUE));
        Ok(Node {
            name: config.name.into(),
            gossip: advertise,
            picker,
            patience,
            #[cfg(feature = "redis")]
            state,
            health: config.health,
            looks_after_pods: Arc::default(),
            commands,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its peers dial.
    pub fn gossip_addr(&self) -> SocketAddr {
        self.gossip
    }

    /// Chooses a pod and charges it, in about a microsecond.
    ///
    /// # Errors
    /// [`PickError`]; nothing is charged then.
    pub fn pick(&self, request: &Request<'_>) -> Result<Ticket, PickError> {
        let ticket = self.pick_alone(request)?;
        #[cfg(feature = "redis")]
        let ticket = match &self.state {
            Some(state) => ticket.told_by(state),
            None => ticket,
        };
        Ok(ticket)
    }

    /// The same by the word of somebody who knows better, a round trip away: the owner of a shard of the pods where
    /// [`NodeConfig::strict`] is set, the Redis of [`NodeConfig::state`] where that is. By this node's own view where no
    /// answer comes in time, and where neither is set.
    ///
    /// # Errors
    /// [`PickError`]; nothing is charged then.
    pub async fn pick_strict(&self, request: &Request<'_>) -> Result<Ticket, PickError> {
        #[cfg(feature = "redis")]
        if let Some(state) = &self.state {
            return state.pick(request, None).await.map(Ticket::told);
        }
        // Owners know of no pods that a request is bound to, nor of bounds.
        let Some(patience) = self.patience.filter(|_| request.is_free()) else { return self.pick(request) };
        let (to, answer) = oneshot::channel();
        self.tell(Command::Reserve(request.into(), to));
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(unclaimed)) => unclaimed.claim().map(Ticket::new),
            // It left, or its thread is held up: neither is a reason to let a request wait.
            Ok(Err(_)) | Err(_) => self.pick(request),
        }
    }

    /// A ticket by this node's view that nobody else was asked about or told of: [`Node::agreed`] does, where somebody is.
    pub(crate) fn pick_alone(&self, request: &Request<'_>) -> Result<Ticket, PickError> {
        self.picker.pick(clock::now(), request).map(Ticket::new)
    }

    /// The ticket, or the one that the Redis of [`NodeConfig::state`] prefers for its request.
    pub(crate) async fn agreed(&self, mut ticket: Ticket, request: &Request<'_>) -> Result<Ticket, PickError> {
        #[cfg(feature = "redis")]
        if let Some(state) = &self.state {
            return state.pick(request, ticket.inner.take()).await.map(Ticket::told);
        }
        let _ = (&mut ticket, request);
        Ok(ticket)
    }

    /// Who decides its picks, and how that goes; none where only its own view does.
    #[cfg(feature = "redis")]
    pub fn state(&self) -> Option<StateView> {
        self.state.as_deref().map(Shared::view)
    }

    /// The shared state itself.
    #[cfg(feature = "redis")]
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.state.as_deref()
    }

    /// The picker itself: pods, policy, rung.
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// Replaces the set of pods. Pods that stay keep their counters; tickets on those that go end as they would have.
    ///
    /// # Errors
    /// [`InvalidSetting`] where picks could not go by what is said of one of them; nothing changed then.
    pub fn set_pods(&self, pods: Vec<PodSpec>) -> Result<(), InvalidSetting> {
        check_pods(&pods)?;
        self.tell(Command::SetPods(pods));
        Ok(())
    }

    /// Replaces the addresses to greet until somebody there is a member.
    pub fn set_join(&self, addrs: Vec<SocketAddr>) {
        self.tell(Command::SetJoin(addrs));
    }

    /// What it believes about pods; none once it left.
    pub async fn view(&self) -> Option<View> {
        let view = self.ask(Command::View).await;
        #[cfg(feature = "redis")]
        if self.state.is_some() {
            return view.map(|view| View { policy: "redis", ..view });
        }
        view
    }

    /// What it believes about members, itself first; empty once it left.
    pub async fn members(&self) -> Vec<MemberView> {
        self.ask(Command::Members).await.unwrap_or_default()
    }

    /// Counters of gossip; zero once it left.
    pub async fn gossip_stats(&self) -> GossipStats {
        self.ask(Command::Stats).await.unwrap_or_default()
    }

    /// Tickets that are out, on all pods.
    pub fn in_flight(&self) -> u64 {
        self.picker.pods().iter().map(|pod| u64::from(pod.own_in_flight())).sum()
    }

    /// Says goodbye: waits up to `drain` for the tickets that are out, tells the peers that nothing is left here, leaves.
    /// Whoever serves requests stops taking new ones before.
    pub async fn leave(&self, drain: Duration) {
        let deadline = tokio::time::sleep(drain);
        tokio::pin!(deadline);
        while self.in_flight() > 0 {
            tokio::select! {
                () = &mut deadline => break,
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        #[cfg(feature = "redis")]
        if let Some(state) = &self.state {
            state.leave().await;
        }
        // None: it left already.
        let _ = self.ask(Command::Leave).await;
    }

    /// From now on, and until the last handle is gone, asks the pods how they are. On the runtime of whoever forwards first.
    pub(crate) fn look_after_pods(&self) {
        if self.looks_after_pods.load(Relaxed) || self.looks_after_pods.swap(true, Relaxed) {
            return;
        }
        let node = Arc::downgrade(&self.looks_after_pods);
        tokio::spawn(look_after(self.picker.clone(), self.health, move || node.strong_count() > 0));
    }

    fn tell(&self, command: Command) {
        // Fails only once the node left, and then there is nothing to change.
        let _ = self.commands.send(command);
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (to, answer) = oneshot::channel();
        self.tell(command(to));
        answer.await.ok()
    }
}

/// Who is asked for picks must be one.
fn check_who_is_asked(config: &NodeConfig) -> Result<(), JoinError> {
    match config.state {
        Some(_) if cfg!(not(feature = "redis")) => Err(JoinError::State("this build knows no Redis (feature `redis`)")),
        Some(_) if config.strict.is_some() => {
            Err(JoinError::State("picks can ask owners of shards or a Redis, not both: set strict or state to none"))
        }
        _ => Ok(()),
    }
}

/// Binds the gossip socket and says what peers should dial.
fn bind(gossip: SocketAddr, advertise: Option<SocketAddr>) -> Result<(UdpSocket, SocketAddr), JoinError> {
    let failed = |source| JoinError::Bind { addr: gossip, source };
    if advertise.unwrap_or(gossip).ip().is_unspecified() {
        return Err(JoinError::Advertise(advertise.unwrap_or(gossip)));
    }
    let socket = UdpSocket::bind(gossip).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, advertise.unwrap_or(bound)))
}

/// One request in flight; see [`pick::Ticket`]. Ends by [`Ticket::finish`], or as cancelled when dropped.
#[derive(Debug)]
#[must_use = "dropping a ticket cancels it"]
pub struct Ticket {
    /// Taken only by the end.
    inner: Option<pick::Ticket>,
    /// What the shared Redis knows of it.
    #[cfg(feature = "redis")]
    told: Option<Told>,
}

impl Ticket {
    fn new(inner: pick::Ticket) -> Ticket {
        Ticket {
            inner: Some(inner),
            #[cfg(feature = "redis")]
            told: None,
        }
    }

    #[cfg(feature = "redis")]
    fn told_by(mut self, state: &Arc<Shared>) -> Ticket {
        self.told = state.told(self.held());
        self
    }

    #[cfg(feature = "redis")]
    fn told((inner, told): (pick::Ticket, Option<Told>)) -> Ticket {
        Ticket { inner: Some(inner), told }
    }

    /// The pod that was picked.
    pub fn pod(&self) -> &Arc<Pod> {
        self.held().pod()
    }

    /// What was charged.
    pub fn cost(&self) -> crate::observe::Cost {
        self.held().cost()
    }

    /// How long it was expected to wait before its turn.
    pub(crate) fn expected_wait(&self) -> Duration {
        let held = self.held();
        let works = Duration::from_secs_f64(held.cost().as_ms() / 1e3 / held.pod().speed().max(1e-3));
        held.predicted_end().since(held.started()).saturating_sub(works)
    }

    /// An answer is here; what comes later than the last one is waiting, and no work.
    pub(crate) fn answered(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.worked_until(clock::now());
        }
    }

    /// When it was picked.
    pub(crate) fn started(&self) -> Time {
        self.held().started()
    }

    /// See [`pick::Ticket::blames_nobody`].
    pub(crate) fn blames_nobody(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.blames_nobody();
        }
    }

    /// See [`pick::Ticket::teaches_nothing`].
    pub(crate) fn teaches_nothing(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.teaches_nothing();
        }
    }

    /// Ends it.
    pub fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn held(&self) -> &pick::Ticket {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("a ticket is only emptied by finish and drop, which end it"),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(inner) = self.inner.take() else { return };
        let now = clock::now();
        #[cfg(feature = "redis")]
        if let Some(told) = self.told.take() {
            told.end(inner.remains(now, outcome));
        }
        inner.finish(now, outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}
