//! The pods that picks go to, and which of them serve which model.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::Hub;
use crate::gossip::Interest;
use crate::mutant::{self, Mutant};
use crate::observe::{Lane, MAX_MODELS, Model, Parts, Pod, Rank};
use crate::time::Time;

/// One set of pods. Replaced as a whole when there are others.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) pods: Arc<Vec<Arc<Pod>>>,
    /// Those that this node uses while enough of them are usable.
    pub(super) interest: Interest,
    /// By model index, made on first use: a pick must not compare names with every pod's list.
    serving: Box<[OnceLock<Serving>]>,
}

/// The pods that serve one model, by rank, and of the first rank first those that this node uses also while others are
/// usable.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) places: Box<[Place]>,
    /// How many those are that are used.
    pub(super) used: usize,
    /// How many are of the first rank: picks fall among these while one that was not tried can be reached. Where none is
    /// fit, the best there are: an answer of a pod's own beats none.
    pub(super) first: usize,
    /// How many have the model, as far as is known.
    pub(super) have: usize,
}

/// A pod that serves a model, and what its tickets are charged to.
#[derive(Debug)]
pub(super) struct Place {
    /// Its place in the table.
    pub(super) index: usize,
    pub(super) pod: Arc<Pod>,
    /// How fit it is for the model, as far as was known when the table was made.
    pub(super) rank: Rank,
    /// The model's lane there, once there is one; and how many lanes the pod had when it was looked for in vain.
    lane: OnceLock<Arc<Lane>>,
    looked_at: AtomicU32,
    account: OnceLock<Arc<Account>>,
}

/// What the tickets of one model on one pod are charged to. They hold it as one, so that a pick counts one holder more, not
/// one each of pod, lane and picker, of which all threads share the last.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) pod: Arc<Pod>,
    pub(super) lane: Arc<Lane>,
    pub(super) hub: Arc<Hub>,
}

impl Default for Table {
    fn default() -> Table {
        Table::new(Arc::default(), Interest::All)
    }
}

impl Table {
    pub(super) fn new(pods: Arc<Vec<Arc<Pod>>>, interest: Interest) -> Table {
        Table { pods, interest, serving: (0..MAX_MODELS).map(|_| OnceLock::new()).collect() }
    }

    /// The pods that serve `model`, as far as is known.
    pub(super) fn serving(&self, model: &Model) -> &Serving {
        self.serving[model.index].get_or_init(|| {
            let serves = |pod: &Arc<Pod>| pod.serves(model) || mutant::is(Mutant::AnyPodServes);
            let all = self.pods.iter().enumerate().filter(|(_, pod)| serves(pod));
            // What is known of each may change meanwhile: it is asked once.
            let ranked = |(index, pod): (usize, &Arc<Pod>)| {
                let rank = if mutant::is(Mutant::PickUnfit) { Rank::Fit } else { pod.rank(model) };
                let order = (rank, !self.interest.uses(pod.id()));
                (order, Place { rank, ..Place::new(index, pod.clone()) })
            };
            let mut ranked: Vec<_> = all.map(ranked).collect();
            ranked.sort_by_key(|(order, _)| *order);
            let best = ranked.first().map(|((rank, _), _)| *rank);
            let count =
                |of: &dyn Fn(Rank, bool) -> bool| ranked.iter().filter(|((r, other), _)| of(*r, *other)).count();
            let used = count(&|rank, other| Some(rank) == best && !other);
            let first = count(&|rank, _| Some(rank) == best);
            let have = count(&|rank, _| rank < Rank::Lacking);
            let places = ranked.into_iter().map(|(_, place)| place).collect();
            Serving { places, used, first, have }
        })
    }
}

impl Serving {
    /// Those among which a pick falls by itself.
    pub(super) fn firsts(&self) -> &[Place] {
        &self.places[..self.first]
    }
}

impl Place {
    pub(super) fn new(index: usize, pod: Arc<Pod>) -> Place {
        Place {
            index,
            pod,
            rank: Rank::Fit,
            lane: OnceLock::new(),
            looked_at: AtomicU32::new(0),
            account: OnceLock::new(),
        }
    }

    /// The model's lane, if there is one yet. A look does not make one: names that clients invent would fill the memory.
    #[inline]
    pub(super) fn lane(&self, model: &Model) -> Option<&Lane> {
        self.lane.get().or_else(|| self.look_for_lane(model)).map(Arc::as_ref)
    }

    /// What a new request of `model` would meet here, where `extra_us` of work more stand behind all that is known.
    #[inline]
    pub(super) fn parts<'a>(&'a self, model: &Model, extra_us: f32, now: Time) -> Parts<'a> {
        self.pod.parts(self.busy_lane(model), extra_us, now)
    }

    /// Where nothing is in flight there is nothing to look at.
    #[inline]
    fn busy_lane(&self, model: &Model) -> Option<&Lane> {
        if self.pod.gauge.all_us() > 0 { self.lane(model) } else { None }
    }

    /// Whether the model is on trial here, and a request of it in flight.
    pub(super) fn is_tried_now(&self, model: &Model) -> bool {
        self.lane(model).is_some_and(|lane| lane.ends.is_on_trial() && lane.is_busy())
    }

    fn look_for_lane(&self, model: &Model) -> Option<&Arc<Lane>> {
        let lanes = self.pod.lane_count();
        if lanes == self.looked_at.load(Relaxed) {
            return None;
        }
        let lane = self.pod.existing_lane(model);
        self.looked_at.store(lanes, Relaxed);
        lane.map(|lane| self.lane.get_or_init(|| lane))
    }

    /// What a ticket here is charged to; made on first use.
    pub(super) fn account(&self, model: &Arc<Model>, hub: &Arc<Hub>) -> &Arc<Account> {
        self.account
            .get_or_init(|| Arc::new(Account { pod: self.pod.clone(), lane: self.pod.lane(model), hub: hub.clone() }))
    }
}
