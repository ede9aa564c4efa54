//! Choose and charge: one step, in the caller's thread, without a lock and without asking anyone.
//!
//! A [`Picker`] is cheap to clone and shared by the callers and the core. [`Picker::pick`] reads every candidate's load
//! (own counts live, the peers' part as last heard), lets the [`Policy`] choose, and charges the chosen pod before it
//! returns; the [`Ticket`] takes the charge back when it ends, however it ends.

mod draw;
mod least_cost;
mod least_in_flight;
mod p2c;
mod places;
mod plimsoll;
mod policy;
mod random;
mod readmission;
mod round_robin;
mod strict;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use smallvec::SmallVec;
use tracing::trace;

pub use self::draw::Draw;
pub(crate) use self::draw::mix;
use self::places::{Place, Table};
pub use self::policy::{Context, Policy, PolicyKind, Rung, UnknownPolicy};
pub use self::readmission::Readmission;
pub use self::strict::OwnedRequest;
use self::ticket::Charged;
pub use self::ticket::{Outcome, Ticket};
use crate::gossip::Interest;
use crate::id::PodId;
use crate::mutant::{self, Mutant};
use crate::observe::{By, Cost, Formulas, Lane, Model, ModelShape, Models, Part, Pod, PodLoad, SizeClass};
use crate::time::Time;

/// Changes the core has not seen yet; more than this and it looks at every lane instead.
const CHANGES: usize = 4096;
/// While pods refuse and gossip is short of budget, news of a pick is held back this many times as long as a refusal takes:
/// what a pod turns down at once is then never told. Each refused request costs two datagrams to everybody otherwise: at
/// the default budget, 50 nodes and a load of 0.9, offering refused requests elsewhere made news three to six times as old
/// and requests wait twice as long.
const HOLD: u32 = 2;
/// And no longer than this: a slow pod's refusal must not make everybody's news old.
const HOLD_AT_MOST: Duration = Duration::from_millis(5);
/// Pods refuse if one did so lately.
const LATELY: Duration = Duration::from_secs(10);
/// Remainders waiting for the core; over this they are not charged, and counted.
const REMAINDERS: usize = 4096;

/// With fewer usable pods among those that this node uses, it picks among all: one pod more that fails would leave next to
/// nothing to choose from.
const ENOUGH: usize = 4;

/// What is to be picked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    model: &'a str,
    bytes: u64,
    cost: Option<Cost>,
    exclude: &'a [PodId],
}

impl<'a> Request<'a> {
    /// A request for `model`, of unknown size.
    pub fn new(model: &'a str) -> Request<'a> {
        Request { model, bytes: 0, cost: None, exclude: &[] }
    }

    /// Its payload in bytes, from which its cost is estimated.
    pub fn bytes(self, bytes: u64) -> Request<'a> {
        Request { bytes, ..self }
    }

    /// Its cost, where the caller knows better than the estimate; [`Cost::ZERO`] for calls that are no inference.
    pub fn cost(self, cost: Cost) -> Request<'a> {
        Request { cost: Some(cost), ..self }
    }

    /// Pods that were tried already.
    pub fn exclude(self, exclude: &'a [PodId]) -> Request<'a> {
        Request { exclude, ..self }
    }
}

/// Why nothing was picked. Nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickError {
    /// The node knows no pod at all: configure some, or look at what discovery says.
    #[error("no pods: nothing is configured or discovered yet")]
    NoPods,
    /// Pods are known, but none serves this model or all of them were excluded.
    #[error("no pod left for model `{model}`: {known} known, none serves it or all were tried")]
    NoneLeft {
        /// The model that was asked for.
        model: String,
        /// How many pods there are.
        known: usize,
    },
}

/// Told when the core has something to look at; the driver's way to be woken. Called from the picking thread.
pub trait Wake: Send + Sync {
    /// There are changes. May be called more often than needed.
    fn wake(&self);
}

/// Chooses and charges pods. Clones share everything.
#[derive(Clone)]
pub struct Picker {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Picker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picker").field("policy", &self.shared.policy.name()).finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    table: ArcSwap<Table>,
    pub(crate) models: Models,
    policy: Box<dyn Policy>,
    seed: u64,
    turn: CachePadded<AtomicU64>,
    /// The latest time anyone passed in: what a ticket that is dropped instead of finished goes by.
    last_seen: CachePadded<AtomicU64>,
    pub(crate) changes: ArrayQueue<(Arc<Pod>, Arc<Lane>)>,
    pub(crate) remainders: ArrayQueue<Remainder>,
    /// Picks that nobody is told of before their time, by that.
    pub(crate) held: ArrayQueue<(Time, Arc<Pod>, Arc<Lane>, SizeClass)>,
    wake: Box<dyn Wake>,
    pub(crate) published: Published,
    pub(crate) seen: Seen,
}

/// What the core publishes for picks.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Unseen work of the others, ms, as `f32` bits.
    pub(crate) unseen_ms: AtomicU32,
    /// The others' share of all work, as `f32` bits.
    pub(crate) others: AtomicU32,
    pub(crate) rung: AtomicU8,
    /// Changes that cost less than this many µs need not wake the core: it looks soon anyway. A wake costs the picking
    /// thread a system call, ten times the pick.
    pub(crate) quiet_below_us: AtomicU64,
    /// Whether gossip has to choose what it tells.
    pub(crate) scarce: AtomicBool,
}

/// What picks and tickets tell the core, beside the lanes.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Tickets charged so far: their numbers.
    pub(crate) tickets: AtomicU64,
    /// Running mean cost, ms, as `f32` bits.
    pub(crate) mean_cost_ms: AtomicU32,
    /// By size class.
    pub(crate) classes: [SeenClass; SizeClass::COUNT],
    /// When a pod refused a request last, in nanoseconds of [`Time`], and how long refusals take, ns: a running mean.
    refused_at: AtomicU64,
    refusal_ns: AtomicU64,
    /// Changes that did not fit the queue: the core must look at every lane.
    pub(crate) missed_changes: AtomicU64,
    /// Remainders that were not charged because too many wait.
    pub(crate) missed_remainders: AtomicU64,
}

impl Seen {
    fn new() -> Seen {
        Seen {
            tickets: AtomicU64::default(),
            mean_cost_ms: AtomicU32::default(),
            classes: std::array::from_fn(|_| SeenClass::default()),
            refused_at: AtomicU64::default(),
            refusal_ns: AtomicU64::default(),
            missed_changes: AtomicU64::default(),
            missed_remainders: AtomicU64::default(),
        }
    }
}

/// What was picked of one size class.
#[derive(Debug, Default)]
pub(crate) struct SeenClass {
    /// Tickets so far.
    pub(crate) picked: AtomicU64,
    /// Running mean sojourn in ms as `f32` bits; 0 where none ended yet.
    pub(crate) sojourn_ms: AtomicU32,
}

/// What a cancelled request still costs its pod.
#[derive(Debug)]
pub(crate) struct Remainder {
    pub(crate) by: By,
    pub(crate) pod: Arc<Pod>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) class: SizeClass,
    pub(crate) cost: Cost,
    pub(crate) ends: Time,
}

impl Picker {
    /// A picker without pods that chooses by `policy`. `seed` decides the draws; `wake` is told of changes.
    pub(crate) fn new(policy: Box<dyn Policy>, seed: u64, formulas: Formulas, wake: Box<dyn Wake>) -> Picker {
        Picker {
            shared: Arc::new(Shared {
                table: ArcSwap::default(),
                models: Models::new(formulas),
                policy,
                seed,
                turn: CachePadded::default(),
                last_seen: CachePadded::default(),
                changes: ArrayQueue::new(CHANGES),
                remainders: ArrayQueue::new(REMAINDERS),
                held: ArrayQueue::new(CHANGES),
                wake,
                published: Published::default(),
                seen: Seen::new(),
            }),
        }
    }

    /// Chooses a pod for `request` and charges it, in one step of a microsecond or two (`cargo bench --bench pick`).
    ///
    /// Ejected pods are avoided while any other is left; where all are ejected they are picked all the same, because a
    /// pod that may answer beats a certain error.
    ///
    /// # Errors
    /// [`PickError`]; nothing is charged then.
    pub fn pick(&self, now: Time, request: &Request<'_>) -> Result<Ticket, PickError> {
        let s = &self.shared;
        s.last_seen.store(now.as_nanos(), Relaxed);
        let table = s.table.load();
        let model = s.models.get(request.model);
        let places = table.serving(&model);
        let look = Look { with_parts: s.policy.reads_parts(), parted: table.is_parted() };
        let Candidates { loads, parts } = Candidates::of(places, &model, request, now, look);
        let cost = request.cost.unwrap_or_else(|| model.cost.estimate(request.bytes));
        let chosen = match &loads[..] {
            [] if table.pods.is_empty() => return Err(PickError::NoPods),
            [] => return Err(PickError::NoneLeft { model: request.model.to_owned(), known: table.pods.len() }),
            [only] => *only,
            loads => {
                let draw = Draw::new(s.seed, s.turn.fetch_add(1, Relaxed));
                let context = s.context(&model, cost, &parts, draw);
                loads[s.policy.choose(loads, &context).min(loads.len() - 1)]
            }
        };
        Ok(self.charge(now, request, &table.pods[chosen.index], &model, (&chosen, &parts)))
    }

    /// Charges `pod` for `request`, in whose eyes it is as loaded as `seen` says.
    fn charge(
        &self,
        now: Time,
        request: &Request<'_>,
        pod: &Arc<Pod>,
        model: &Arc<Model>,
        seen: (&PodLoad, &[Part]),
    ) -> Ticket {
        let (load, parts) = seen;
        let cost = request.cost.unwrap_or_else(|| model.cost.estimate(request.bytes));
        trace!(pod = pod.name(), model = request.model, cost_ms = cost.as_ms(), in_flight = load.in_flight, "pick");
        let waits_ms = match parts.get(load.first_part as usize) {
            Some(part) if load.parts > 0 => part.wait_ms,
            _ if load.in_flight < load.slots as f32 => 0.0,
            _ => load.cost_ms / (load.weight * load.slots as f32),
        };
        let found_idle = load.in_flight == 0.0;
        let predicted_ms = waits_ms + cost.as_ms() as f32 / load.weight;
        let charged = Charged { predicted_ms, found_idle };
        Ticket::charge(&self.shared, pod, model, request.bytes, cost, now, charged)
    }

    /// The pods picks go to, in the order in which they were given.
    pub fn pods(&self) -> Arc<Vec<Arc<Pod>>> {
        self.shared.table.load().pods.clone()
    }

    /// The policy that chooses.
    pub fn policy(&self) -> &dyn Policy {
        &*self.shared.policy
    }

    /// The rung of the ladder that picks stand on now.
    pub fn rung(&self) -> Rung {
        Rung::from_u8(self.shared.published.rung.load(Relaxed))
    }

    /// Running mean cost of what is picked for, ms.
    pub(crate) fn mean_cost_ms(&self) -> f64 {
        f64::from(f32::from_bits(self.shared.seen.mean_cost_ms.load(Relaxed)))
    }

    /// Tells how `model` is run on the pod, as its server's configuration says; what was given for the pod wins. Does
    /// nothing where no pod is of that incarnation.
    pub fn set_shape(&self, pod: PodId, model: &str, shape: ModelShape) {
        let table = self.shared.table.load();
        if let Some(pod) = table.pods.iter().find(|known| known.id() == pod) {
            pod.set_shape(&self.shared.models.get(model), shape);
        }
    }

    /// From now on picks go to `pods`, and to those of `interest` while enough of them are usable.
    pub(crate) fn set_pods(&self, pods: Arc<Vec<Arc<Pod>>>, interest: Interest) {
        self.shared.table.store(Arc::new(Table::new(pods, interest)));
    }

    /// The models that were asked for, and what is believed of their costs.
    pub fn models(&self) -> Vec<Arc<Model>> {
        self.shared.models.all()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// The pods that may take a request, and the parts they are made of.
#[derive(Default)]
struct Candidates {
    loads: SmallVec<[PodLoad; 64]>,
    parts: SmallVec<[Part; 64]>,
}

/// How to look at candidates.
struct Look {
    /// Whether the policy reads parts.
    with_parts: bool,
    /// Whether some of them are to be left alone while enough others are usable.
    parted: bool,
}

impl Candidates {
    /// Those not ejected, or all where every one of them is; of the pods that this node uses, or of all where fewer than
    /// [`ENOUGH`] of these are left.
    fn of(places: &[Place], model: &Model, request: &Request<'_>, now: Time, look: Look) -> Candidates {
        let tried = |pod: &Pod| request.exclude.contains(&pod.id()) && !mutant::is(Mutant::RetryTheSame);
        let out = |pod: &Pod| pod.is_ejected() && !mutant::is(Mutant::PickEjected);
        let mut candidates = Candidates::default();
        let mut add = |place: &Place| candidates.add(place, place.pod.load(place.index), model, now, look.with_parts);
        let used = || places.iter().filter(|place| place.used && !tried(&place.pod) && !out(&place.pod));
        if look.parted && used().nth(ENOUGH - 1).is_some() {
            used().for_each(add);
            return candidates;
        }
        let all = || places.iter().filter(|place| !tried(&place.pod));
        let none_in = all().all(|place| out(&place.pod));
        if none_in && !mutant::is(Mutant::FailWhenAllEjected) {
            all().for_each(&mut add);
        } else {
            all().filter(|place| !out(&place.pod)).for_each(add);
        }
        candidates
    }

    fn add(&mut self, place: &Place, mut load: PodLoad, model: &Model, now: Time, with_parts: bool) {
        if with_parts {
            let lane = if load.in_flight > 0.0 { place.lane(model) } else { None };
            load.first_part = self.parts.len() as u32;
            place.pod.parts(&load, lane.map(Arc::as_ref), now, &mut self.parts);
            load.parts = self.parts.len() as u32 - load.first_part;
        }
        self.loads.push(load);
    }
}

impl Shared {
    /// What a policy is told beside the loads of which these are the `parts`.
    fn context<'a>(&self, model: &Model, cost: Cost, parts: &'a [Part], draw: Draw) -> Context<'a> {
        let cost_ms = cost.as_ms() as f32;
        Context {
            heavy: cost_ms > f32::from_bits(self.seen.mean_cost_ms.load(Relaxed)),
            unseen_ms: f32::from_bits(self.published.unseen_ms.load(Relaxed)),
            others: f32::from_bits(self.published.others.load(Relaxed)),
            rung: Rung::from_u8(self.published.rung.load(Relaxed)),
            parts,
            batches: model.batches.law(),
            ..Context::alone(cost_ms, draw)
        }
    }

    /// Tells the core of a pick, at once or in a while; says until when that is held back.
    fn charged(&self, now: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, cost: Cost, class: SizeClass) -> Option<Time> {
        let held = self.hold(now).and_then(|hold| {
            let first = self.held.is_empty();
            self.held.push((now + hold, pod.clone(), lane.clone(), class)).ok()?;
            if first {
                self.wake.wake();
            }
            Some(now + hold)
        });
        if held.is_none() {
            self.changed(now, pod, lane, cost, class);
        }
        held
    }

    /// How long news of a pick is held back, if it is.
    fn hold(&self, now: Time) -> Option<Duration> {
        let refused_at = self.seen.refused_at.load(Relaxed);
        let holds = refused_at > 0 && self.published.scarce.load(Relaxed);
        let lately = holds && now.since(Time::from_nanos(refused_at)) < LATELY;
        lately.then(|| (Duration::from_nanos(self.seen.refusal_ns.load(Relaxed)) * HOLD).min(HOLD_AT_MOST))
    }

    /// A pod refused a request after `took`.
    fn refused(&self, now: Time, took: Duration) {
        let took = u64::try_from(took.min(HOLD_AT_MOST).as_nanos()).unwrap_or(u64::MAX);
        let old = self.seen.refusal_ns.load(Relaxed);
        // Two at once may lose one: it is a mean.
        self.seen.refusal_ns.store(if old == 0 { took } else { (7 * old + took) / 8 }, Relaxed);
        self.seen.refused_at.fetch_max(now.as_nanos().max(1), Relaxed);
    }

    /// What was held back until `until` is news now: of the moment of the pick.
    pub(crate) fn release(&self, until: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, class: SizeClass) {
        self.queue(until - self.hold(until).unwrap_or_default(), pod, lane, class);
    }

    /// Has the core look at `lane` for a change of `class` at `at`; whether it was to look there already.
    fn queue(&self, at: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, class: SizeClass) -> bool {
        let known = lane.mark(at, class);
        if !known && self.changes.push((pod.clone(), lane.clone())).is_err() {
            lane.unmark();
            self.seen.missed_changes.fetch_add(1, Relaxed);
        }
        known
    }

    /// Tells the core that `lane` changed by `cost`, of `class`, at `now`, once until it looked; wakes it if it would not
    /// look soon.
    fn changed(&self, now: Time, pod: &Arc<Pod>, lane: &Arc<Lane>, cost: Cost, class: SizeClass) {
        let known = self.queue(now, pod, lane, class);
        let quiet_below = self.published.quiet_below_us.load(SeqCst);
        // What is known already woke the core, unless it was too small to.
        if cost.as_us() >= quiet_below && (!known || quiet_below > 0) {
            self.wake.wake();
        }
    }
}
