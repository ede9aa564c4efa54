//! Clients: what they ask for, of whom, and how it ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::core::Reserved;
use plimsoll::id::PodId;
use plimsoll::observe::{Because, Cost, Pod, Rank};
use plimsoll::pick::{Outcome, PickError, Request, Ticket};
use plimsoll::time::Time;
use smallvec::SmallVec;

use super::pods::model_name;
use super::{Happening, World};
use crate::arrivals::Arrivals;
use crate::check::Rule;
use crate::config::{Config, Costs};
use crate::files::Trace;
use crate::law::Ask;
use crate::policy::{Baseline, Policy};
use crate::rng::{Rng, Share, hash};
use crate::server::Job;

/// The one policy that goes by latencies.
const PEAK_EWMA: Policy = Policy::Baseline(Baseline::PeakEwma);

/// A request, by place and number: a place is used again, a number never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

/// Places take the low bits: so many requests can be under way at once.
const PLACES: u32 = 24;

impl Key {
    fn new(place: usize, serial: u64) -> Key {
        debug_assert!(place < 1 << PLACES, "fewer requests than that fit a machine");
        Key(serial << PLACES | place as u64)
    }

    fn place(self) -> usize {
        (self.0 & ((1 << PLACES) - 1)) as usize
    }
}

impl From<u64> for Key {
    fn from(job: u64) -> Key {
        Key(job)
    }
}

impl From<Key> for u64 {
    fn from(key: Key) -> u64 {
        key.0
    }
}

/// A request under way.
pub(super) struct Asked {
    key: Key,
    pub(super) node: usize,
    /// Which life of the node asked.
    life: u32,
    pub(super) model: usize,
    pub(super) ask: Ask,
    cost: Option<Cost>,
    pub(super) asked_at: Time,
    retries: u32,
    /// Whether it was news of a pod that it lacks the model.
    pub(super) news: bool,
    pub(super) tried: SmallVec<[PodId; 2]>,
    /// What chance has in store for it, whoever picks and whatever else is going on.
    pub(super) chance: u64,
    /// Since when it waits for somebody outside to decide.
    pub(super) waits_since: Option<Time>,
    held: Option<Held>,
    /// When its ticket is predicted to end, by its node's clock.
    predicted_end: Time,
    /// What its ticket was charged.
    charged: Option<Duration>,
    pub(super) pod: usize,
    pod_incarnation: u32,
}

/// What a request holds of its pod.
pub(super) enum Held {
    /// A pick of its node's.
    Ticket(Ticket),
    /// A place that somebody outside decided, and what that one charged for it.
    Place { pod: Arc<Pod>, charged_us: Option<u64> },
}

impl Held {
    fn pod(&self) -> &Arc<Pod> {
        match self {
            Held::Ticket(ticket) => ticket.pod(),
            Held::Place { pod, .. } => pod,
        }
    }
}

impl Asked {
    /// Its cost as whoever decides outside is told: what the client says, or what its kind takes on the mean, which is
    /// the best that anybody could have learned.
    pub(super) fn cost_us(&self) -> u64 {
        self.cost.map_or(self.ask.kind.as_micros() as u64, |cost| (cost.as_ms() * 1e3 + 0.5) as u64)
    }

    /// A stream of chance of its own.
    fn chance(&self, what: u64) -> Rng {
        Rng::from_hash(hash(&[self.chance, what, self.tried.len() as u64]))
    }
}

/// What comes back to a caller.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Served {
        started: Time,
        ended: Time,
    },
    Error,
    QueueFull,
    /// It does not have the model.
    NoModel,
    /// Nobody listens there.
    NoConnection,
    /// The connection broke while it waited.
    Broken,
}

/// How a request ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Served,
    /// With an error of the pod, or a broken connection.
    Failed,
    /// Every pod that was tried was full, or none was left.
    Refused,
    /// The caller gave up.
    Cancelled,
}

/// A request that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// When it was asked for.
    pub asked_at: Time,
    /// From then to its end.
    pub took: Duration,
    /// How long it was served.
    pub served: Duration,
    /// What its kind takes on the mean.
    pub kind: Duration,
    /// What its last ticket was charged; none where it had none.
    pub charged: Option<Duration>,
    /// On which node.
    pub node: usize,
    /// At which pod, the last one.
    pub pod: usize,
    /// How it ended.
    pub end: End,
}

/// Arrivals from a file, and when its first moment is.
pub(super) struct Recording {
    trace: Trace,
    starts: Option<Time>,
    pub(super) models: Vec<String>,
}

/// The recording that `config` names, if it does.
pub(super) fn recording(config: &Config) -> Option<Recording> {
    let Arrivals::Recorded { file } = &config.arrivals else { return None };
    let trace = Trace::read(file).expect("whoever makes a world has read its files before");
    let names: BTreeSet<&str> = trace.arrivals.iter().map(|arrival| arrival.model.as_str()).collect();
    let models = names.into_iter().map(str::to_owned).collect();
    Some(Recording { trace, starts: None, models })
}

impl World {
    /// Plays the recording on from where it stands; from its beginning, if it never was.
    pub(super) fn play_recording(&mut self) {
        let (now, wave) = (self.now, self.wave);
        let Some(recording) = &mut self.recorded else { return };
        let starts = *recording.starts.get_or_insert(now);
        let next = recording.trace.arrivals.iter().position(|arrival| starts + arrival.at >= now);
        let Some(arrival) = next else { return };
        let at = starts + recording.trace.arrivals[arrival].at;
        self.later(at.since(now), Happening::Recorded { arrival, wave });
    }

    pub(super) fn arrive_recorded(&mut self, arrival: usize) {
        let (now, wave) = (self.now, self.wave);
        let Some(recording) = &self.recorded else { return };
        let this = &recording.trace.arrivals[arrival];
        let n = this.node % self.nodes.len();
        let model = recording.models.binary_search(&this.model).unwrap_or(0);
        let ask = Ask { bytes: this.bytes, kind: this.service, service: this.service };
        if let (Some(next), Some(starts)) = (recording.trace.arrivals.get(arrival + 1), recording.starts) {
            let after = (starts + next.at).since(now);
            self.later(after, Happening::Recorded { arrival: arrival + 1, wave });
        }
        if self.nodes[n].core.is_some() && !self.nodes[n].paused && !self.silenced[n] {
            self.ask(n, model, ask);
        }
    }

    pub(super) fn ask_later(&mut self, n: usize) {
        if self.load <= 0.0 || self.surge_percent == 0 || self.recorded.is_some() {
            return;
        }
        let slots = self.config.server.slots_of(self.pods.len());
        let load = self.load * f64::from(self.surge_percent) / 100.0;
        let share = self.config.clients.share(n, self.nodes.len());
        let gap = self.sizes.mean().as_nanos() as f64 / (load * slots * share);
        let now = self.now;
        let gap = self.nodes[n].arrivals.next(now, Duration::from_nanos(gap as u64));
        let wave = self.wave;
        self.later(gap, Happening::Arrive { node: n as u32, wave });
    }

    pub(super) fn arrive(&mut self, n: usize) {
        if self.nodes[n].core.is_none() {
            return;
        }
        // A stopped process asks for nothing; its clients are served elsewhere.
        if !self.nodes[n].paused && !self.silenced[n] {
            let node = &mut self.nodes[n];
            let ask = self.sizes.draw_telling(&mut node.sizes, self.config.clients.bytes_tell);
            let ask = ask.scaled(self.service_percent);
            let models = self.config.clients.models as u64;
            let model = if models > 1 { node.clients.below(models) as usize } else { 0 };
            self.ask(n, model, ask);
        }
        self.ask_later(n);
    }

    fn ask(&mut self, n: usize, model: usize, ask: Ask) {
        let clients = &self.config.clients;
        let node = &mut self.nodes[n];
        let cost = match clients.costs {
            Costs::Learned => None,
            Costs::Given if clients.cost_error > 0.0 => {
                Cost::from_ms(ask.kind.as_secs_f64() * 1e3 * node.clients.lognormal(clients.cost_error))
            }
            Costs::Given => Cost::from_ms(ask.kind.as_secs_f64() * 1e3),
        };
        node.asked += 1;
        let cancel = node.clients.hits(clients.cancel);
        let patience = cancel.then(|| node.clients.between(Duration::ZERO, 4 * self.sizes.mean()));
        let deadline = clients.deadline_ms.map(Duration::from_millis);
        let asked = Asked {
            key: Key(0),
            node: n,
            life: node.life,
            model,
            ask,
            cost,
            asked_at: self.now,
            retries: clients.retries,
            news: false,
            tried: SmallVec::new(),
            chance: hash(&[self.config.seed, 14, n as u64, node.asked]),
            waits_since: None,
            held: None,
            predicted_end: Time::ZERO,
            charged: None,
            pod: 0,
            pod_incarnation: 0,
        };
        self.serial += 1;
        self.tally.asked += 1;
        let place = self.requests.insert(asked);
        let key = Key::new(place, self.serial);
        self.requests[place].key = key;
        if let Some(patience) = [patience, deadline].into_iter().flatten().min() {
            self.later(patience, Happening::GiveUp { request: key });
        }
        self.try_once(key);
    }

    pub(super) fn asked(&mut self, key: Key) -> Option<&mut Asked> {
        self.requests.get_mut(key.place()).filter(|asked| asked.key == key)
    }

    /// Picks for a request, and sends it on its way.
    pub(super) fn try_once(&mut self, key: Key) {
        if self.outside.is_some() {
            return self.ask_outside(key);
        }
        let Some(asked) = self.requests.get(key.place()).filter(|asked| asked.key == key) else { return };
        let n = asked.node;
        let Some(core) = &self.nodes[n].core else { return };
        let (picker, now) = (core.picker().clone(), self.local(n));
        let model = self.model_name(asked.model);
        let request = Request::new(&model).bytes(asked.ask.bytes).exclude(&asked.tried);
        let request = asked.cost.map_or(request, |cost| request.cost(cost));
        self.inputs += 1;
        if self.config.policy == PEAK_EWMA {
            self.nodes[n].latencies.tell(now);
        }
        if self.config.policy == Policy::Strict {
            if let Some(core) = &mut self.nodes[n].core {
                let ask = core.reserve(now, &request);
                self.nodes[n].reserving.insert(ask, (key, self.now));
            }
            return self.turn(n);
        }
        match picker.pick(now, &request) {
            Ok(ticket) => {
                self.count_charge(n, &ticket);
                self.picked(key, n, ticket);
            }
            Err(error) => self.nothing_picked(key, &error),
        }
        self.turn(n);
    }

    /// Strict mode has picked on node `n`: for a request that is still wanted, or for nobody.
    pub(super) fn reserved(&mut self, n: usize, reserved: Reserved) {
        let now = self.local(n);
        let asked = self.nodes[n].reserving.remove(&reserved.ask);
        asked.into_iter().for_each(|(_, since)| self.tally_decided(n, since));
        let wanted = asked.map(|(key, _)| key).filter(|key| self.asked(*key).is_some());
        match (wanted, reserved.picked) {
            (Some(key), Ok(ticket)) => self.picked(key, n, ticket),
            (Some(key), Err(error)) => self.nothing_picked(key, &error),
            // As the product's driver does: nothing was sent, so nothing runs.
            (None, Ok(ticket)) => {
                self.nodes[n].ledger[pod_index(ticket.pod().name())] -= 1;
                ticket.finish(now, Outcome::Refused);
            }
            (None, Err(_)) => {}
        }
    }

    /// Node `n` charged a pod: the ledger has it from here on.
    pub(super) fn count_charge(&mut self, n: usize, ticket: &Ticket) {
        self.nodes[n].ledger[pod_index(ticket.pod().name())] += 1;
    }

    fn picked(&mut self, key: Key, n: usize, ticket: Ticket) {
        let pod = ticket.pod().clone();
        let index = pod_index(pod.name());
        let in_flight = pod.own_in_flight();
        self.note("pick", [n as u64, index as u64, key.0]);
        let ledger = self.nodes[n].ledger[index];
        self.judge(Rule::OwnExact, Some(n), Some(index), in_flight == ledger, || {
            format!("expected {ledger} in flight by the ledger; got {in_flight}")
        });
        let tried = self.asked(key).is_some_and(|asked| asked.tried.contains(&pod.id()));
        let model = self.asked(key).map_or(0, |asked| asked.model);
        self.tally_pick(n, index, &ticket, model, tried);
        let predicted_end = ticket.predicted_end();
        let charged = Some(Duration::from_nanos((ticket.cost().as_ms() * 1e6) as u64));
        self.asked(key).into_iter().for_each(|asked| (asked.predicted_end, asked.charged) = (predicted_end, charged));
        if pod.is_ejected() {
            self.check_no_other(key, n, index);
        } else {
            self.check_rank(key, n, index, &ticket);
            self.check_trial(key, n, index, &ticket);
        }
        let now = self.now;
        self.nodes[n].seen.sent(index, now);
        self.send_to_pod(key, index, Held::Ticket(ticket));
    }

    /// Sends a request to the pod of which it holds something; says how long it will be on its way.
    pub(super) fn send_to_pod(&mut self, key: Key, k: usize, held: Held) -> Duration {
        let Some(asked) = self.requests.get_mut(key.place()).filter(|asked| asked.key == key) else {
            return Duration::ZERO;
        };
        let known = self.nodes[asked.node].known[k];
        (asked.held, asked.pod, asked.pod_incarnation) = (Some(held), k, known.unwrap_or(0));
        let mut chance = asked.chance(0);
        let (hop, pod_life) = (self.hop(&mut chance), self.pods[k].life);
        self.later(hop, Happening::AtPod { request: key, pod_life });
        hop
    }

    /// An ejected pod was picked: right only if no other was left.
    fn check_no_other(&mut self, key: Key, n: usize, index: usize) {
        let Some(asked) = self.requests.get(key.place()) else { return };
        let model = self.model_name(asked.model);
        let serves = |pod: &Pod| {
            let models = &pod.spec().models;
            models.is_empty() || models.contains(&model)
        };
        let (pods, models) = (self.core(n).picker().pods(), self.core(n).picker().models());
        let lacks = |pod: &Pod| models.iter().any(|m| m.name() == model && pod.rank(m) == Rank::Lacking);
        let left = |p: &&Arc<Pod>| serves(p) && !p.is_ejected() && !asked.tried.contains(&p.id());
        let better = pods.iter().find(|p| left(p) && !lacks(p));
        let better = better.map(|pod| pod.name().to_owned());
        self.judge(Rule::NoDeadPod, Some(n), Some(index), better.is_none(), || {
            format!("expected {} to be picked, which is not out; got one that is", better.unwrap_or_default())
        });
    }

    pub(super) fn nothing_picked(&mut self, key: Key, error: &PickError) {
        let Some(asked) = self.requests.get(key.place()).filter(|asked| asked.key == key) else { return };
        let (n, model) = (asked.node, self.model_name(asked.model));
        let tried = asked.tried.clone();
        let pods = self.core(n).picker().pods();
        let left = pods.iter().find(|pod| {
            let models = &pod.spec().models;
            (models.is_empty() || models.contains(&model)) && !tried.contains(&pod.id())
        });
        let left = left.map(|pod| pod.name().to_owned());
        self.judge(Rule::SomePod, Some(n), None, left.is_none(), || {
            format!("expected {} to be picked; got `{error}`", left.unwrap_or_default())
        });
        self.end(key, End::Refused, Duration::ZERO);
    }

    pub(super) fn at_pod(&mut self, key: Key, pod_life: u32) {
        let now = self.now;
        let Some(asked) = self.asked(key) else { return };
        let (k, incarnation, service, model) = (asked.pod, asked.pod_incarnation, asked.ask.service, asked.model);
        let last = asked.retries == 0;
        let mut chance = asked.chance(1);
        let pod = &mut self.pods[k];
        if !pod.up || pod.incarnation != incarnation {
            return self.answer(key, Answer::NoConnection);
        }
        if pod.life != pod_life {
            // It died and came back while this was on the way, over a connection of its old life.
            return self.answer(key, Answer::Broken);
        }
        if pod.errors > Share::NEVER && chance.hits(pod.errors) {
            return self.answer(key, Answer::Error);
        }
        if let Some((answer, after)) = self.turned_down(k, model).filter(|_| !self.pods[k].hung) {
            return self.answer_in(key, answer, after);
        }
        self.catch_up(k);
        let (job, insists) = (Job { id: key.0, service }, last && self.config.clients.insist);
        let server = &mut self.pods[k].server;
        let taken = match insists {
            true => {
                server.take(now, job);
                true
            }
            false => server.arrive(now, job).is_ok(),
        };
        self.arm(k);
        if !taken {
            self.answer(key, Answer::QueueFull);
        }
    }

    pub(super) fn answer(&mut self, request: Key, answer: Answer) {
        self.answer_in(request, answer, Duration::ZERO);
    }

    /// The same after so long.
    fn answer_in(&mut self, request: Key, answer: Answer, after: Duration) {
        let Some(asked) = self.asked(request) else { return };
        let mut chance = asked.chance(2);
        let hop = self.hop(&mut chance);
        self.later(after + hop, Happening::Answer { request, answer });
    }

    pub(super) fn answered(&mut self, key: Key, answer: Answer) {
        let Some(asked) = self.asked(key) else { return };
        let n = asked.node;
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::Answer { request: key, answer });
        }
        if matches!(answer, Answer::QueueFull | Answer::NoModel) {
            self.hear(key);
        }
        match answer {
            Answer::Served { started, ended } => {
                self.release(key, Outcome::Served);
                self.end(key, End::Served, ended.since(started));
            }
            Answer::Error | Answer::Broken => {
                self.release(key, Outcome::Failed);
                self.end(key, End::Failed, Duration::ZERO);
            }
            Answer::QueueFull => {
                let again = self.asked(key).is_some_and(|asked| asked.retries > 0);
                self.release(key, Outcome::Refused);
                if again {
                    self.asked(key).into_iter().for_each(|asked| asked.retries -= 1);
                    self.try_once(key);
                } else {
                    self.end(key, End::Refused, Duration::ZERO);
                }
            }
            Answer::NoModel => self.lacks(key),
            Answer::NoConnection => {
                self.eject(key);
                self.release(key, Outcome::Refused);
                self.try_once(key);
            }
        }
        self.turn(n);
    }

    /// A refusal is a sign of life.
    fn hear(&mut self, key: Key) {
        let Some(asked) = self.asked(key) else { return };
        let (n, pod) = (asked.node, asked.held.as_ref().map(|held| held.pod().clone()));
        let now = self.local(n);
        pod.into_iter().for_each(|pod| pod.heard(now));
    }

    /// As the product's forwarder does with a pod that refuses a connection: it is out until it answers.
    fn eject(&mut self, key: Key) {
        let Some(asked) = self.asked(key) else { return };
        let (n, k) = (asked.node, asked.pod);
        let Some(pod) = asked.held.as_ref().map(|held| held.pod().clone()) else { return };
        self.tally_refused(n, k);
        self.eject_pod(n, k, &pod, Because::Unreachable);
    }

    pub(super) fn caller_gives_up(&mut self, key: Key) {
        let Some(asked) = self.asked(key) else { return };
        let (n, k) = (asked.node, asked.pod);
        if self.nodes[n].paused {
            return self.nodes[n].inbox.push(Happening::GiveUp { request: key });
        }
        self.pods[k].server.cancel(key.0);
        self.release(key, Outcome::Cancelled);
        self.end(key, End::Cancelled, Duration::ZERO);
        self.turn(n);
    }

    /// Gives back what a request holds of its pod.
    pub(super) fn release(&mut self, key: Key, outcome: Outcome) {
        let Some(asked) = self.asked(key) else { return };
        let Some(held) = asked.held.take() else { return };
        asked.tried.push(held.pod().id());
        let (n, k, incarnation) = (asked.node, asked.pod, asked.pod_incarnation);
        let predicted_end = asked.predicted_end;
        match held {
            Held::Ticket(ticket) if matches!(outcome, Outcome::Cancelled | Outcome::Failed) => {
                let (pod, costs_ms) = (Arc::clone(ticket.pod()), ticket.cost().as_ms());
                let before = pod.own_remainders();
                self.finish_ticket(n, k, incarnation, ticket, outcome);
                self.tally_remainder((n, k), (before, pod.own_remainders()), costs_ms, predicted_end);
            }
            Held::Ticket(ticket) => self.finish_ticket(n, k, incarnation, ticket, outcome),
            Held::Place { charged_us, .. } => charged_us.into_iter().for_each(|us| self.return_charge(k, us)),
        }
    }

    fn finish_ticket(&mut self, n: usize, k: usize, incarnation: u32, ticket: Ticket, outcome: Outcome) {
        let (pod, now) = (Arc::clone(ticket.pod()), self.local(n));
        self.inputs += 1;
        self.tally.moves[k] += 1;
        self.tally.cancels[k] += u64::from(matches!(outcome, Outcome::Cancelled | Outcome::Failed));
        if self.nodes[n].known[k] == Some(incarnation) {
            self.saw_end(n, k, &ticket, outcome);
        }
        if self.config.policy == PEAK_EWMA && outcome != Outcome::Cancelled {
            self.nodes[n].latencies.saw(now, (k, incarnation), now.since(ticket.started()));
        }
        ticket.finish(now, outcome);
        if self.nodes[n].known[k] == Some(incarnation) {
            self.nodes[n].ledger[k] -= 1;
            let (ledger, counted) = (self.nodes[n].ledger[k], pod.own_in_flight());
            self.judge(Rule::OwnExact, Some(n), Some(k), ledger == counted, || {
                format!("expected {ledger} in flight by the ledger; got {counted}")
            });
        }
    }

    pub(super) fn end(&mut self, key: Key, end: End, served: Duration) {
        if self.asked(key).is_none() {
            return;
        }
        let asked = self.requests.remove(key.place());
        self.tally_end(&asked, end);
        let took = self.now.since(asked.asked_at);
        self.note("end", [asked.node as u64, (asked.pod as u64) << 8 | end as u64, key.0]);
        let (asked_at, kind, charged) = (asked.asked_at, asked.ask.kind, asked.charged);
        self.done.push(Done { asked_at, took, served, kind, charged, node: asked.node, pod: asked.pod, end });
    }

    /// The requests of a node that died end with it.
    pub(super) fn forget_requests_of(&mut self, n: usize) {
        let before = self.requests.len();
        let its = self.requests.iter().filter(|(_, asked)| asked.node == n);
        let charged = |asked: &Asked| match asked.held {
            Some(Held::Place { charged_us: Some(us), .. }) => Some((asked.pod, us)),
            _ => None,
        };
        let charges = its.filter_map(|(_, asked)| charged(asked)).collect();
        self.return_after_lease(charges);
        self.requests.retain(|_, asked| asked.node != n);
        self.tally.forgotten += (before - self.requests.len()) as u64;
    }

    /// Requests that have not ended.
    pub fn under_way(&self) -> usize {
        self.requests.len()
    }

    /// Requests that have not ended, and were asked for before `then`.
    pub fn older_than(&self, then: Time) -> usize {
        self.requests.iter().filter(|(_, asked)| asked.asked_at < then && self.is(asked.node, asked.life)).count()
    }

    pub(super) fn model_name(&self, m: usize) -> String {
        match &self.recorded {
            Some(recording) => recording.models[m].clone(),
            None => model_name(self.config.clients.models, m),
        }
    }

    /// Between a caller and a pod, one way.
    fn hop(&self, chance: &mut Rng) -> Duration {
        let least = Duration::from_micros(self.config.hop_us);
        chance.between(least, least + Duration::from_micros(self.config.hop_jitter_us))
    }
}

/// Which pod is called `pod-12`.
pub(super) fn pod_index(name: &str) -> usize {
    name.trim_start_matches("pod-").parse().unwrap_or(0)
}
