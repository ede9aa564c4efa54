//! Choose and charge: one step, in the caller's thread, without a lock and without asking anyone.
//!
//! A [`Picker`] is cheap to clone and shared by the callers and the core. [`Picker::pick`] reads every candidate's load
//! (own counts live, the peers' part as last heard), lets the [`Policy`] choose, and charges the chosen pod before it
//! returns; the [`Ticket`] takes the charge back when it ends, however it ends.

mod candidates;
mod draw;
mod elsewhere;
mod fitness;
mod hub;
mod least_cost;
mod least_in_flight;
mod looks;
mod p2c;
mod places;
mod plimsoll;
mod policy;
mod random;
mod readmission;
mod round_robin;
mod scratch;
mod strict;
mod ticket;

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tracing::trace;

pub use self::candidates::Candidates;
use self::candidates::Choice;
pub use self::draw::Draw;
pub(crate) use self::draw::mix;
pub use self::hub::Wake;
pub(crate) use self::hub::{Hub, Remainder, Waiting};
pub use self::looks::Looks;
use self::places::{Place, Table};
pub use self::policy::{Context, Policy, PolicyKind, Rung, UnknownPolicy};
pub use self::readmission::Readmission;
pub use self::strict::OwnedRequest;
use self::ticket::Expected;
pub use self::ticket::{Outcome, Ticket};
use crate::gossip::Interest;
use crate::id::{NodeId, PodId};
use crate::observe::{Cost, Formulas, Hearing, Model, ModelShape, Models, Out, Pod, SizeCost};
use crate::time::Time;

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
    among: &'a [PodId],
    at_most: Option<u32>,
}

impl<'a> Request<'a> {
    /// A request for `model`, of unknown size.
    pub fn new(model: &'a str) -> Request<'a> {
        Request { model, bytes: 0, cost: None, exclude: &[], among: &[], at_most: None }
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

    /// The only pods that may take it; all where none is named.
    pub fn among(self, among: &'a [PodId]) -> Request<'a> {
        Request { among, ..self }
    }

    /// Only a pod that has fewer requests in flight may take it, of all callers together as far as this node knows.
    pub fn at_most(self, in_flight: Option<u32>) -> Request<'a> {
        Request { at_most: in_flight, ..self }
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
    /// Every pod that may take it has as many requests in flight as it may: try again when one has ended.
    #[error("all pods of model `{model}` are full: each has {at_most} requests in flight or more")]
    Full {
        /// The model that was asked for.
        model: String,
        /// [`Request::at_most`].
        at_most: u32,
    },
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
    hub: Arc<Hub>,
}

impl Picker {
    /// A picker without pods that chooses by `policy`. `seed` decides the draws; `wake` is told of changes.
    pub(crate) fn new(policy: Box<dyn Policy>, seed: u64, formulas: Formulas, wake: Box<dyn Wake>) -> Picker {
        let plays = policy.reads_parts();
        let shared = |picker: &Weak<Shared>| {
            let (table, models) = (ArcSwap::default(), Models::new(formulas));
            Shared { table, models, policy, seed, hub: Arc::new(Hub::new(plays, wake, picker.clone())) }
        };
        Picker { shared: Arc::new_cyclic(shared) }
    }

    /// Chooses a pod for `request` and charges it, in one step of about a microsecond (`cargo bench --bench pick`).
    ///
    /// Ejected pods are avoided while any other is left; where all are ejected they are picked all the same, because a
    /// pod that may answer beats a certain error.
    ///
    /// # Errors
    /// [`PickError`]; nothing is charged then.
    pub fn pick(&self, now: Time, request: &Request<'_>) -> Result<Ticket, PickError> {
        let Shared { table, models, policy, seed, hub } = &*self.shared;
        hub.saw(now);
        let model = models.get(request.model);
        let table = table.load();
        let number = hub.next_number();
        let draw = Draw::new(*seed, number);
        let choice = Choice::of((table.serving(model), model), request, hub.out.is_any(), &draw);
        let pods = choice.candidates(model, now);
        if pods.is_empty() {
            return Err(self.none_left(&table, request, choice.any_full));
        }
        let cost = request.cost.unwrap_or_else(|| model.cost.estimate(request.bytes));
        let chosen = match pods.len() {
            1 => 0,
            n => policy.choose(&pods, &hub.context(model, cost, draw)).min(n - 1),
        };
        Ok(self.charge(now, request, (model, cost, number), choice.place(chosen)))
    }

    fn none_left(&self, table: &Table, request: &Request<'_>, any_full: bool) -> PickError {
        match (table.pods.len(), request.at_most) {
            (0, _) => PickError::NoPods,
            (_, Some(at_most)) if any_full => PickError::Full { model: request.model.to_owned(), at_most },
            (known, _) => PickError::NoneLeft { model: request.model.to_owned(), known },
        }
    }

    /// Charges the pod at `place` for `request`, the pick of that number.
    fn charge(
        &self,
        now: Time,
        request: &Request<'_>,
        (model, cost, number): (&Arc<Model>, Cost, u64),
        place: &Place,
    ) -> Ticket {
        let hub = &self.shared.hub;
        let load = place.pod.load(place.index);
        let (name, in_flight) = (place.pod.name(), load.in_flight);
        trace!(pod = name, model = request.model, cost_ms = cost.as_ms(), in_flight, "pick");
        let waits_ms = if hub.plays {
            place.parts(model, 0.0, now).lowest().wait_ms
        } else if load.in_flight < load.slots as f32 {
            0.0
        } else {
            load.cost_per_capacity_ms()
        };
        let takes_ms = waits_ms + cost.as_ms() as f32 / load.weight;
        let expected = Expected { takes_ms, found_idle: load.in_flight == 0.0 };
        Ticket::charge(place.account(model, hub).clone(), request.bytes, cost, number, now, expected)
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
        self.shared.hub.rung()
    }

    /// Running mean cost of what is picked for, ms.
    pub(crate) fn mean_cost_ms(&self) -> f64 {
        f64::from(self.shared.hub.mean_cost_ms())
    }

    /// Tells how `model` is run on the pod, as its server's configuration says; what was given for the pod wins. Does
    /// nothing where no pod is of that incarnation.
    pub fn set_shape(&self, pod: PodId, model: &str, shape: ModelShape) {
        let table = self.shared.table.load();
        if let Some(pod) = table.pods.iter().find(|known| known.id() == pod) {
            pod.set_shape(self.shared.models.get(model), shape);
        }
    }

    /// Tells that a pod which was asked at `asked`, and had answered by `answered`, had `most` requests for `model` at most then,
    /// waiting or running, whoever sent them. Of the requests that were cancelled before, more than these are charged no longer,
    /// the oldest first. What failed stays charged: a pod that fails what it is sent has little waiting, and must not look empty
    /// for it. Does nothing where no pod is of that incarnation, and for models that were not asked for.
    pub fn bound_remainders(&self, pod: PodId, model: &str, (asked, answered): (Time, Time), most: u32) {
        let table = self.shared.table.load();
        let Some(pod) = table.pods.iter().find(|known| known.id() == pod) else { return };
        let Some(lane) = self.shared.models.find(model).ok().and_then(|model| pod.existing_lane(model)) else { return };
        // Where the core is that far behind, it hears of it with the next answer.
        self.shared.hub.waiting.push(Waiting { pod: pod.clone(), lane, asked, answered, most }).ok();
    }

    /// From now on picks go to `pods`, and to those of `interest` while enough of them are usable.
    pub(crate) fn set_pods(&self, pods: Arc<Vec<Arc<Pod>>>, interest: Interest) {
        self.shared.table.store(Arc::new(Table::new(pods, interest)));
    }

    /// How many models were asked for.
    pub fn model_count(&self) -> usize {
        self.shared.models.count()
    }

    /// The models that were asked for, and what is believed of their costs.
    pub fn models(&self) -> Vec<Arc<Model>> {
        self.shared.models.all()
    }

    /// What picks read of the pods is made anew: something of it changed that is read only then.
    pub(crate) fn renew_table(&self) {
        // Whoever replaces the pods meanwhile must not be undone.
        self.shared.table.rcu(|old| Table::new(old.pods.clone(), old.interest));
    }

    /// How many pods are ejected; each counts itself.
    pub(crate) fn out(&self) -> &Arc<Out> {
        &self.shared.hub.out
    }

    /// What the core shares with tickets.
    pub(crate) fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// The model called `name`.
    pub(crate) fn model(&self, name: &str) -> &Arc<Model> {
        self.shared.models.get(name)
    }

    /// Hears what `from` learned of one size of the model called `name`.
    pub(crate) fn hear_cost(&self, from: NodeId, name: &str, size: SizeCost, now: Time) -> Hearing {
        self.shared.models.hear(from, name, size, now)
    }

    /// How many models peers told of that nobody asked for here.
    pub(crate) fn told_models(&self) -> usize {
        self.shared.models.held()
    }
}
