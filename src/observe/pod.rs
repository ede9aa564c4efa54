//! A pod and what stands before it: own tickets (exact), own remainders, the peers' part (published by the core), and the
//! lanes of its models, where what is known is played through.
//!
//! Everything here is an atomic that many threads touch at once; nothing here decides anything.

use std::any::Any;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use super::fitness::{Fitness, Rank};
use super::gauge::Gauge;
use super::heights::Heights;
use super::pace::Pace;
use super::silence::Silence;
use super::{Batching, Cost, Lane, Model, ModelShape, Open, Part, PodTls};
use crate::id::PodId;
use crate::mutant::{self, Mutant};
use crate::time::Time;

/// What discovery or configuration says about one pod.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PodSpec {
    /// What people call it: a label in views, metrics and logs.
    pub name: String,
    /// Where it takes gRPC: a URL like `http://10.0.0.7:8001`.
    pub grpc: String,
    /// Where it takes HTTP, the same way; without, the HTTP front never picks it.
    pub http: Option<String>,
    /// Where its metrics are read, a URL like `http://10.0.0.7:8002` (the path is /metrics); without, they are not.
    pub metrics: Option<String>,
    /// Its unique id where discovery knows one; else the gRPC address stands for the incarnation.
    pub uid: Option<String>,
    /// The models it serves; empty means all.
    pub models: Vec<String>,
    /// How many requests it can run at once (Triton: the instance count). Too few makes free pods look busy, too many
    /// makes queues look free. 0: as the model's configuration says where it can be read, else 1.
    pub slots: u32,
    /// Whether it runs requests in batches, where that is not read from the model's configuration.
    pub batching: Option<Batching>,
    /// How its addresses are talked to that begin with `https://`.
    pub tls: PodTls,
    /// Its speed relative to the others, 0.001 to 1000; 2 takes half the time for the same request.
    pub weight: f64,
    /// The zone that it runs in, where somebody knows. May change in its life: see [`Pod::zone`].
    pub zone: Option<String>,
    /// Whether it is about to end: it gets new requests only where no other pod is left. May change in its life: see
    /// [`Pod::is_draining`].
    pub draining: bool,
}

impl PodSpec {
    /// A pod that serves every model with one slot at normal speed.
    pub fn new(name: impl Into<String>, grpc: impl Into<String>) -> PodSpec {
        PodSpec {
            name: name.into(),
            grpc: grpc.into(),
            http: None,
            metrics: None,
            uid: None,
            models: Vec::new(),
            slots: 0,
            batching: None,
            tls: PodTls::default(),
            weight: 1.0,
            zone: None,
            draining: false,
        }
    }

    /// The same within the bounds that make a load a number: a pod without slots or speed would take for ever.
    pub(crate) fn clamped(self) -> PodSpec {
        let weight = if self.weight.is_nan() { 1.0 } else { self.weight.clamp(0.001, 1000.0) };
        PodSpec { weight, ..self }
    }

    /// Whether `other` names the same pod with the same settings, all but those that may change in its life.
    fn is_same_life(&self, other: &PodSpec) -> bool {
        let PodSpec { name, grpc, http, metrics, uid, models, slots, batching, tls, weight, zone: _, draining: _ } =
            self;
        (name, grpc, http, metrics, uid) == (&other.name, &other.grpc, &other.http, &other.metrics, &other.uid)
            && (models, slots, batching, tls, weight)
                == (&other.models, &other.slots, &other.batching, &other.tls, &other.weight)
    }

    /// The incarnation this spec names.
    pub fn id(&self) -> PodId {
        PodId::of(self.uid.as_deref().unwrap_or_else(|| authority(&self.grpc)))
    }
}

/// `host:port` of a URL: what every node must agree on when there is no unique id.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// The share of picks that a pod takes part in when it starts slowly, at first.
pub(crate) const FIRST_SHARE: f64 = 0.1;
/// Takes part in all picks.
const ALL: u32 = 1 << 16;

/// One pod (one incarnation), shared by everything that charges or reads it.
pub struct Pod {
    spec: PodSpec,
    id: PodId,
    /// Which `Pod` of this process: two of one incarnation (its settings changed) are told apart by it.
    pub(crate) life: u64,
    out: Arc<Out>,
    /// What picks read.
    pub(crate) gauge: CachePadded<Gauge>,
    /// The parts of its work that are not this node's tickets: of own remainders, and of the peers by the weight of their
    /// rows, µs.
    remainders_us: AtomicU64,
    peers_us: AtomicU64,
    /// What was learned of its speed, and whether its samples are what they seem.
    pub(crate) pace: Pace,
    pub(crate) stats: PodStats,
    /// What keeps picks away from it, or from a model of it.
    pub(crate) fitness: Fitness,
    silence: Silence,
    /// The share of the picks that it takes part in, of [`ALL`]; and whether it was readmitted since the core looked.
    start_share: AtomicU32,
    readmitted: AtomicBool,
    /// The most slots that the configuration of any of its models names.
    slots_read: AtomicU32,
    lanes: ArcSwap<Vec<Option<Arc<Lane>>>>,
    lane_count: AtomicU32,
    attachment: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pod").field("name", &self.spec.name).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Pod {
    /// A pod that counts itself in `out` while it is ejected.
    pub(crate) fn new(spec: PodSpec, life: u64, out: Arc<Out>) -> Pod {
        let pod = Pod {
            id: spec.id(),
            fitness: Fitness::new(&spec),
            spec,
            life,
            out,
            gauge: CachePadded::default(),
            remainders_us: AtomicU64::new(0),
            peers_us: AtomicU64::new(0),
            pace: Pace::default(),
            stats: PodStats::default(),
            silence: Silence::default(),
            start_share: AtomicU32::new(ALL),
            readmitted: AtomicBool::new(false),
            slots_read: AtomicU32::new(0),
            lanes: ArcSwap::default(),
            lane_count: AtomicU32::new(0),
            attachment: OnceLock::new(),
        };
        pod.gauge.set_batches(pod.spec.batching.is_some());
        pod.weigh();
        pod
    }

    /// The same pod, that much higher for picks.
    pub(crate) fn away(mut self, away_ms: f32) -> Pod {
        self.gauge.set_away_ms(away_ms);
        self
    }

    /// Its incarnation.
    pub fn id(&self) -> PodId {
        self.id
    }

    /// What was configured or discovered when it was met.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Whether `spec` is about this pod as it is, but for what may change in its life.
    pub(crate) fn is_of(&self, spec: &PodSpec) -> bool {
        self.spec.is_same_life(spec) && !(mutant::is(Mutant::DrainMakesAnother) && self.is_draining() != spec.draining)
    }

    /// Whether it is about to end, as discovery says now: it gets new requests only where no other pod is left.
    pub fn is_draining(&self) -> bool {
        self.fitness.is_draining()
    }

    /// The models (by index among [`Picker::models`](crate::pick::Picker::models)) that it says it does not have ready.
    pub fn lacks(&self) -> impl Iterator<Item = usize> + '_ {
        self.fitness.lacks.iter()
    }

    /// How willingly picks fall on it for `model`, beside what stands there.
    pub fn rank(&self, model: &Model) -> Rank {
        self.fitness.rank(model)
    }

    /// Whether it is tried with one request of `model` at a time, after it failed or was loaded.
    pub fn is_on_trial(&self, model: &Model) -> bool {
        self.existing_lane(model).is_some_and(|lane| lane.ends.is_on_trial())
    }

    /// Whether nothing is held against it, whatever it is asked for.
    pub fn is_fit(&self) -> bool {
        let Fitness { lacks, fails, .. } = &self.fitness;
        let tried = || self.lanes().iter().any(|lane| lane.ends.is_on_trial());
        !self.is_draining() && !lacks.is_any() && !fails.is_any() && !tried()
    }

    /// The zone that it runs in, as discovery says now.
    pub fn zone(&self) -> Option<Arc<String>> {
        self.fitness.zone()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Tickets this node holds on it.
    pub fn own_in_flight(&self) -> u32 {
        self.gauge.own()
    }

    /// Of these, those of one model.
    pub fn own_in_flight_of(&self, model: &Model) -> u32 {
        self.existing_lane(model).map_or(0, |lane| lane.used().map(|class| lane.count(class)).sum())
    }

    /// Estimated work of all of them, ms.
    pub fn own_cost_ms(&self) -> f64 {
        let others_us = self.remainders_us.load(Relaxed) + self.peers_us.load(Relaxed);
        self.gauge.all_us().saturating_sub(others_us) as f64 / 1e3
    }

    /// Cancelled requests of this node that it may still run.
    pub fn own_remainders(&self) -> u32 {
        self.gauge.remainders()
    }

    /// Tickets and remainders of the peers, by the weight of their rows.
    pub fn peers_in_flight(&self) -> f64 {
        self.gauge.peers_x256() as f64 / 256.0
    }

    /// Estimated work of these, by the weight of their rows, ms.
    pub fn peers_cost_ms(&self) -> f64 {
        self.peers_us.load(Relaxed) as f64 / 1e3
    }

    /// A cancelled request of this node goes on counting.
    pub(crate) fn add_remainder(&self, cost: Cost) {
        self.remainders_us.fetch_add(cost.as_us(), Relaxed);
        self.gauge.add_remainder(cost);
    }

    /// It counts no more; callers hold the proof that it did.
    pub(crate) fn remove_remainder(&self, cost: Cost) {
        self.gauge.remove_remainder(cost);
        self.remainders_us.fetch_sub(cost.as_us(), Relaxed);
    }

    /// Requests that it has in flight, of this node and by the weight of their rows of its peers; remainders too.
    pub(crate) fn in_flight(&self) -> f32 {
        (self.own_in_flight() + self.own_remainders()) as f32 + self.gauge.peers_x256() as f32 / 256.0
    }

    /// What one peer has here changed, by wrapping differences. The core's alone.
    pub(crate) fn adjust_peers(&self, count_x256: u64, cost_us: u64) {
        self.peers_us.fetch_add(cost_us, Relaxed);
        self.gauge.adjust_peers(count_x256, cost_us);
    }

    /// What the driver keeps beside a pod (its connection, for instance); made by `init` on first use and dropped with
    /// the pod.
    pub fn attachment(&self, init: impl FnOnce() -> Arc<dyn Any + Send + Sync>) -> &Arc<dyn Any + Send + Sync> {
        self.attachment.get_or_init(init)
    }

    /// Stops picks from going here until [`Pod::readmit`], because it cannot be reached. Local to this node and temporary.
    pub fn eject(&self) -> Ejection {
        self.eject_because(Because::Unreachable)
    }

    /// The same, and why.
    pub fn eject_because(&self, because: Because) -> Ejection {
        if self.gauge.set_out(true) {
            return Ejection::AlreadyOut;
        }
        self.out.restless.fetch_add(1, Relaxed);
        self.stats.count_ejection(because);
        Ejection::Now
    }

    /// Lets picks come here again; says whether it was out.
    pub fn readmit(&self) -> bool {
        let was_out = self.gauge.set_out(false);
        if was_out {
            self.out.restless.fetch_sub(1, Relaxed);
            // What comes back may be another life: what the old one failed in a row says nothing of it.
            self.lanes().iter().for_each(|lane| lane.ends.count_from(0));
            if self.out.starts_slowly.load(Relaxed) {
                self.set_start_share(FIRST_SHARE);
                self.readmitted.store(true, Relaxed);
            }
        }
        was_out
    }

    /// Whether it was readmitted since this was asked last.
    pub(crate) fn take_readmitted(&self) -> bool {
        self.readmitted.load(Relaxed) && self.readmitted.swap(false, Relaxed)
    }

    /// Lets it take part in this share of the picks; from 1 on in all. The core's alone.
    pub(crate) fn set_start_share(&self, share: f64) {
        let share = if share < 1.0 { (share * f64::from(ALL)) as u32 } else { ALL };
        match (self.start_share.swap(share, Relaxed) < ALL, share < ALL) {
            (false, true) => _ = self.out.restless.fetch_add(1, Relaxed),
            (true, false) => _ = self.out.restless.fetch_sub(1, Relaxed),
            _ => {}
        }
    }

    /// The share of the picks that it takes part in: less than 1 while it starts slowly.
    pub fn start_share(&self) -> f64 {
        f64::from(self.start_share.load(Relaxed)) / f64::from(ALL)
    }

    /// Whether it takes part in a pick for which `chance` draws from the whole numbers below its argument.
    pub(crate) fn takes_part(&self, chance: impl FnOnce(usize) -> usize) -> bool {
        let share = self.start_share.load(Relaxed);
        share == ALL || (chance(ALL as usize) as u32) < share
    }

    /// Lets `lane`'s model be tried here with one request at a time, until one is answered.
    pub(crate) fn begin_trial(&self, lane: &Lane) {
        if lane.ends.begin_trial() {
            self.out.restless.fetch_add(1, Relaxed);
        }
    }

    /// It is tried no more.
    pub(crate) fn end_trial(&self, lane: &Lane) {
        if lane.ends.is_on_trial() && lane.ends.end_trial() {
            self.out.restless.fetch_sub(1, Relaxed);
        }
    }

    /// Whether picks avoid it for every model that they asked it for.
    pub(crate) fn fails_all(&self) -> bool {
        let lanes = self.lanes();
        let mut asked = lanes.iter().filter(|lane| lane.model.index > 0 && lane.is_used()).peekable();
        asked.peek().is_some() && asked.all(|lane| self.fitness.fails.has(lane.model.index))
    }

    /// Whether picks avoid it.
    pub fn is_ejected(&self) -> bool {
        self.gauge.is_out()
    }

    /// What was counted here since the node started.
    pub fn stats(&self) -> &PodStats {
        &self.stats
    }

    /// Tickets charged here since the node started; of each model and size, modulo 2^32.
    pub fn picks(&self) -> u64 {
        self.lanes().iter().map(|lane| lane.used().map(|class| u64::from(lane.picked(class))).sum::<u64>()).sum()
    }

    /// Whether it serves `model` (as far as configured). What names no model any pod may take; so may it what has a name too many
    /// to be kept apart, which the pod itself then refuses.
    pub(crate) fn serves(&self, model: &Model) -> bool {
        model.index == 0 || self.spec.models.is_empty() || self.spec.models.iter().any(|m| m == model.name())
    }

    /// Requests it runs at once.
    pub fn slots(&self) -> u32 {
        match self.spec.slots {
            0 => self.slots_read.load(Relaxed).max(1),
            given => given,
        }
    }

    /// Its speed relative to the others, as this node learned it: 2 takes half the time. 1 while nothing was learned, where
    /// it is near the others', and where its weight was configured: whoever wrote that knows better.
    pub fn learned_speed(&self) -> f64 {
        if self.spec.weight == 1.0 { self.pace.speed() } else { 1.0 }
    }

    /// Its speed relative to the others: configured, or else learned.
    pub(crate) fn speed(&self) -> f64 {
        self.spec.weight * self.learned_speed()
    }

    /// Has picks go by the slots and the speed that are known now.
    pub(crate) fn weigh(&self) {
        self.gauge.set_capacity(self.speed(), self.slots());
    }

    /// Something came from the pod at `now`: the end of a request, a part of an answer, a word that it lives.
    pub fn heard(&self, now: Time) {
        self.silence.heard(now, self.own_in_flight() > 0);
    }

    /// When anything came from it last.
    pub fn heard_at(&self) -> Time {
        self.silence.heard_at()
    }

    /// Whether it has owed an answer for more than a second, and for longer than all that is known to be there takes it, and
    /// nothing came from it: it hangs, or takes its time. Whoever asks it finds out.
    pub fn is_overdue(&self, now: Time) -> bool {
        let all = Duration::try_from_secs_f32(self.gauge.all_wait_ms() / 1e3).unwrap_or(Duration::MAX);
        self.silence.is_overdue(now, all)
    }

    /// A request was sent here at `now`. Where it found the pod idle, what it takes is its time alone if nothing is heard that
    /// says otherwise: returns what its end wants to know. Where the pod batches, whoever comes later may share its time.
    pub(crate) fn time(&self, now: Time, found_idle: bool) -> Option<u32> {
        self.silence.sent(now);
        if found_idle {
            return Some(self.pace.time(now));
        }
        if self.gauge.batches() {
            self.pace.join();
        }
        None
    }

    /// News: a request of a peer's was sent here at `at`.
    pub(crate) fn heard_of(&self, at: Time) {
        if self.gauge.batches() { self.pace.join() } else { self.pace.hear(at) }
    }

    /// How it runs `model`: what was given for the pod, else what was read of the model, else one at a time.
    pub fn shape(&self, model: &Model) -> ModelShape {
        self.existing_lane(model)
            .map_or_else(|| self.shape_with(None), |lane| self.shape_with(lane.shape_read().as_deref()))
    }

    pub(super) fn shape_with(&self, read: Option<&ModelShape>) -> ModelShape {
        let read = read.copied().unwrap_or(ModelShape::ONE);
        let slots = if self.spec.slots > 0 { self.spec.slots } else { read.slots.max(1) };
        ModelShape { slots, batch: self.spec.batching.or(read.batch), ..read }
    }

    /// Remembers how `model` is run here, as its configuration says.
    pub(crate) fn set_shape(&self, model: &Arc<Model>, shape: ModelShape) {
        self.lane(model).set_shape(shape);
        // Of all its models as they are now: one that is configured anew may have fewer than before.
        let read = || self.lanes().into_iter().filter_map(|lane| lane.shape_read());
        self.slots_read.store(read().map(|shape| shape.slots).max().unwrap_or(0), Relaxed);
        self.gauge.set_batches(self.spec.batching.is_some() || read().any(|shape| shape.batch.is_some()));
        self.weigh();
    }

    /// Milliseconds of pod time it works off in a millisecond.
    pub(crate) fn capacity(&self) -> f64 {
        self.speed() * f64::from(self.slots())
    }

    /// Its load in numbers; `index` is its place among the picker's pods.
    pub fn load(&self, index: usize) -> PodLoad {
        PodLoad {
            index,
            own_in_flight: self.own_in_flight(),
            in_flight: self.in_flight(),
            cost_ms: self.gauge.all_us() as f32 / 1e3,
            slots: self.gauge.slots(),
            weight: self.gauge.weight(),
        }
    }

    /// What a new request for `lane` would meet here at `now`, where `extra_us` of work more stand behind all that is known.
    #[inline]
    pub(crate) fn parts<'a>(&'a self, lane: Option<&'a Lane>, extra_us: f32, now: Time) -> Parts<'a> {
        let heights = lane.map(|lane| &lane.heights).filter(|heights| heights.len() > 0);
        // What is not listed (news that came another way, other models on the same GPU) stands behind what is.
        let behind_us = self.gauge.work_us() + extra_us - heights.map_or(0.0, Heights::listed_us);
        // Counters are whole microseconds: less than so many is rounding.
        let behind_ms = if behind_us > 10.0 { self.gauge.wait_ms(behind_us) } else { 0.0 };
        Parts { gauge: &self.gauge, heights, behind_ms, now }
    }

    /// How long a new request would wait here at `now` before it begins, by all that is known, ms: for the model whose
    /// requests wait longest.
    pub(crate) fn longest_wait_ms(&self, now: Time) -> f32 {
        let wait_ms = |lane: &Arc<Lane>| self.parts(Some(lane), 0.0, now).lowest().wait_ms;
        self.lanes().iter().map(wait_ms).fold(0.0, f32::max)
    }

    /// The counters of `model` here, made on first use.
    pub(crate) fn lane(&self, model: &Arc<Model>) -> Arc<Lane> {
        if let Some(lane) = self.existing_lane(model) {
            return lane;
        }
        let fresh = Arc::new(Lane::new(model.clone()));
        self.lanes.rcu(|old| {
            let mut lanes = Vec::clone(old);
            if lanes.len() <= model.index {
                lanes.resize(model.index + 1, None);
            }
            lanes[model.index].get_or_insert_with(|| fresh.clone());
            lanes
        });
        self.lane_count.fetch_add(1, Release);
        match self.lanes.load().get(model.index) {
            Some(Some(lane)) => lane.clone(),
            // Lanes are only ever added, so the one just put there (or the one that won) is there.
            _ => fresh,
        }
    }

    /// The counters of `model` here, if there are any.
    pub(crate) fn existing_lane(&self, model: &Model) -> Option<Arc<Lane>> {
        self.lane_at(model.index)
    }

    /// The same by the model's index.
    pub(crate) fn lane_at(&self, model: usize) -> Option<Arc<Lane>> {
        self.lanes.load().get(model).cloned().flatten()
    }

    /// How often a lane was made: who looked for one in vain need not look again before it changed.
    pub(crate) fn lane_count(&self) -> u32 {
        self.lane_count.load(Acquire)
    }

    /// All lanes, by model index.
    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lanes.load().iter().flatten().cloned().collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.readmit();
        self.set_start_share(1.0);
        self.lanes().iter().for_each(|lane| self.end_trial(lane));
    }
}

/// How many pods of a node are ejected or start slowly, and models of pods are on trial, those included that it picks from no longer while a ticket is left:
/// mostly none, and then a pick need not look at each. One that is both counts twice.
#[derive(Debug, Default)]
pub(crate) struct Out {
    restless: AtomicU32,
    /// Whether who is readmitted starts slowly.
    pub(crate) starts_slowly: AtomicBool,
}

impl Out {
    pub(crate) fn is_any(&self) -> bool {
        self.restless.load(Relaxed) > 0
    }
}

/// Why a pod is left alone, altogether or for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Because {
    /// It takes no connection, or shuts down.
    Unreachable,
    /// It takes connections and answers nothing.
    Hangs,
    /// It failed a model's requests one after the other, while others served them.
    FailsInARow,
    /// It fails a larger share of a model's requests than others do.
    FailsMore,
}

impl Because {
    /// All of them.
    pub const ALL: [Because; 4] = [Because::Unreachable, Because::Hangs, Because::FailsInARow, Because::FailsMore];

    /// Its name in views and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Because::Unreachable => "unreachable",
            Because::Hangs => "hangs",
            Because::FailsInARow => "fails_in_a_row",
            Because::FailsMore => "fails_more",
        }
    }
}

/// What [`Pod::eject`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ejection {
    /// It was in, and is out now.
    Now,
    /// It was out already.
    AlreadyOut,
}

/// The parts of a pod as one pick sees them, lowest first; there is always one.
pub(crate) struct Parts<'a> {
    gauge: &'a Gauge,
    /// Where anything was ever listed; else all of the pod is one part.
    heights: Option<&'a Heights>,
    behind_ms: f32,
    now: Time,
}

impl Parts<'_> {
    #[inline]
    pub(crate) fn lowest(&self) -> Part {
        match self.heights {
            Some(_) => self.get(0),
            None => {
                let open = self.gauge.batches().then(Open::default);
                Part { wait_ms: self.behind_ms, slots: self.gauge.slots() as f32, open }
            }
        }
    }

    /// How many there are beside the lowest.
    #[inline]
    pub(crate) fn others(&self) -> usize {
        self.heights.map_or(0, |heights| heights.len() - 1)
    }

    /// The `k`-th, where that was ever listed.
    #[inline]
    pub(crate) fn get(&self, k: usize) -> Part {
        let part = self.heights.map(|heights| heights.part(k, self.now)).unwrap_or_default();
        Part { wait_ms: part.wait_ms + self.behind_ms, ..part }
    }
}

/// What was counted at a pod, by this node, since it started.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PodStats {
    /// Tickets that ended with an answer.
    pub served: AtomicU64,
    /// Tickets that ended with an error of the pod.
    pub failed: AtomicU64,
    /// Tickets that the pod refused before it began.
    pub refused: AtomicU64,
    /// Tickets dropped by the caller: cancelled, timed out.
    pub cancelled: AtomicU64,
    /// Times this node ejected it, or a model of it.
    pub ejections: AtomicU64,
    /// The same by reason.
    by_reason: [AtomicU64; Because::ALL.len()],
}

impl PodStats {
    pub(crate) fn count_ejection(&self, because: Because) {
        self.ejections.fetch_add(1, Relaxed);
        self.by_reason[because as usize].fetch_add(1, Relaxed);
    }

    /// Times this node ejected it, or a model of it, for that reason.
    pub fn ejected_because(&self, because: Because) -> u64 {
        self.by_reason[because as usize].load(Relaxed)
    }

    /// Tickets that ended in any way.
    pub fn ends(&self) -> u64 {
        [&self.served, &self.failed, &self.refused, &self.cancelled].iter().map(|ended| ended.load(Relaxed)).sum()
    }
}

/// One pod's load in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PodLoad {
    /// Its place among the candidates' table; round robin goes by it.
    pub index: usize,
    /// Tickets of this node.
    pub own_in_flight: u32,
    /// Tickets and remainders of all nodes; fractions come from rows that fade.
    pub in_flight: f32,
    /// Estimated work of all nodes' tickets and remainders, ms.
    pub cost_ms: f32,
    /// Requests it runs at once.
    pub slots: u32,
    /// Speed relative to the others.
    pub weight: f32,
}

impl PodLoad {
    /// An idle pod with one slot, for policies to be tried on: set what the trial needs.
    pub fn idle(index: usize) -> PodLoad {
        PodLoad { index, own_in_flight: 0, in_flight: 0.0, cost_ms: 0.0, slots: 1, weight: 1.0 }
    }

    /// Requests in flight for each that it runs at once.
    pub fn in_flight_per_slot(&self) -> f32 {
        self.in_flight / self.slots as f32
    }

    /// How long its work takes it, ms.
    pub fn cost_per_capacity_ms(&self) -> f32 {
        self.cost_ms / (self.weight * self.slots as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * MS)
    }

    /// Every node must compute one id for one pod, whatever it calls it; another life at the same address is another.
    #[test]
    fn a_pod_is_known_by_its_incarnation_not_by_its_name() {
        let a = PodSpec::new("a", "http://127.0.0.1:8001");
        let b = PodSpec::new("b", "127.0.0.1:8001/");
        assert_eq!(a.id(), b.id());
        let reborn = PodSpec { uid: Some("f81d4fae".into()), ..a.clone() };
        assert_ne!(a.id(), reborn.id());
    }

    /// Programs compute settings too: no number of theirs may make a pick panic, or a pod look idle for ever.
    #[test]
    fn absurd_settings_are_clamped() {
        for (weight, slots) in [(f64::NAN, 0), (0.0, 1), (-1.0, 0), (f64::INFINITY, u32::MAX), (1e-300, 1)] {
            let pod = Pod::new(PodSpec { weight, slots, ..PodSpec::new("p", "p:1") }.clamped(), 0, Arc::default());
            pod.gauge.charge(Cost::MAX);
            assert!(pod.capacity().is_finite() && pod.capacity() > 0.0);
            assert!(pod.longest_wait_ms(at(0)).is_finite());
        }
    }

    /// A Triton comes back at its address with other instances: neither the old figure may stay, nor that of a model hide
    /// another's, nor what was read win over what was given.
    #[test]
    fn shapes_are_those_of_now() {
        let models = super::super::Models::new(Default::default());
        let (a, b) = (models.get("a"), models.get("b"));
        let shape = |slots, batch| ModelShape { slots, batch, max_queue: None };
        let pod = Pod::new(PodSpec::new("p", "p:1"), 0, Arc::default());
        assert_eq!((pod.slots(), pod.shape(a)), (1, ModelShape::ONE));
        pod.set_shape(a, shape(5, Some(Batching::padded(8))));
        pod.set_shape(b, shape(2, None));
        assert_eq!((pod.slots(), pod.shape(b).slots, pod.gauge.batches()), (5, 2, true));
        pod.set_shape(a, shape(3, None));
        assert_eq!((pod.slots(), pod.gauge.batches()), (3, false));
        let given = Pod::new(PodSpec { slots: 4, ..PodSpec::new("p", "p:1") }, 0, Arc::default());
        given.set_shape(a, shape(9, None));
        assert_eq!((given.slots(), given.shape(a).slots), (4, 4));
    }

    /// Two threads that meet a model at the same time must count in the same lane.
    #[test]
    fn a_lane_is_made_once() {
        let models = super::super::Models::new(super::super::Formulas::new());
        let pod = Pod::new(PodSpec::new("p", "p:1"), 0, Arc::default());
        let (a, b) = (models.get("a"), models.get("b"));
        assert!(Arc::ptr_eq(&pod.lane(b), &pod.lane(b)));
        pod.lane(a);
        assert_eq!(pod.lanes().iter().map(|l| l.model.name().to_owned()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
