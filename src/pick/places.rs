//! The pods that picks go to, and which of them serve which model.

use std::sync::{Arc, OnceLock};

use crate::gossip::Interest;
use crate::mutant::{self, Mutant};
use crate::observe::{Lane, MAX_MODELS, Model, Pod};

/// One set of pods. Replaced as a whole when there are others.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) pods: Arc<Vec<Arc<Pod>>>,
    /// Those that this node uses while enough of them are usable.
    interest: Interest,
    /// By model index, made on first use: a pick must not compare names with every pod's list.
    serving: Box<[OnceLock<Box<[Place]>>]>,
}

/// A pod that serves a model, and the model's lane there.
#[derive(Debug)]
pub(super) struct Place {
    /// Its place in the table.
    pub(super) index: usize,
    pub(super) pod: Arc<Pod>,
    /// Whether this node uses it also while others are usable.
    pub(super) used: bool,
    lane: OnceLock<Arc<Lane>>,
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

    /// The pods that serve `model`, as far as configured.
    pub(super) fn serving(&self, model: &Model) -> &[Place] {
        self.serving[model.index].get_or_init(|| {
            let serves = |pod: &Arc<Pod>| pod.serves(model) || mutant::is(Mutant::AnyPodServes);
            let all = self.pods.iter().enumerate().filter(|(_, pod)| serves(pod));
            let used = |pod: &Pod| self.interest.uses(pod.id());
            all.map(|(index, pod)| Place { index, used: used(pod), pod: pod.clone(), lane: OnceLock::new() }).collect()
        })
    }

    /// Whether there are pods that this node does not use while others are usable.
    pub(super) fn is_parted(&self) -> bool {
        self.interest != Interest::All
    }
}

impl Place {
    /// The model's lane, if there is one yet.
    pub(super) fn lane(&self, model: &Model) -> Option<&Arc<Lane>> {
        let known = self.lane.get();
        known.or_else(|| self.pod.existing_lane(model).map(|lane| self.lane.get_or_init(|| lane)))
    }
}
