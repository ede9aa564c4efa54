//! What keeps picks away from a pod, or from one model of it, beside load: it lacks the model, fails it, or drains.
//!
//! A pod that cannot be reached is another matter (see [`Pod::eject`](super::Pod::eject)): that is looked at by every pick.
//! What stands here changes seldom, so picks look at it when the table of pods is made, and that is made anew when something
//! here changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwapOption;

use super::marks::Marks;
use super::{Model, PodSpec};

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Fitness {
    /// Models that it says it does not have, or not ready.
    pub(crate) lacks: Marks,
    /// Models that it fails, or asked to be spared. The core's alone.
    pub(crate) fails: Marks,
    draining: AtomicBool,
    zone: ArcSwapOption<String>,
}

/// How willingly a pod is picked for a model, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Nothing is known against it.
    Fit,
    /// It has the model, and is about to end.
    Draining,
    /// It has the model, and fails it.
    Failing,
    /// It does not have the model.
    Lacking,
}

impl Fitness {
    pub(super) fn new(spec: &PodSpec) -> Fitness {
        let fitness = Fitness::default();
        fitness.update(spec);
        fitness
    }

    /// Takes over what may change in the life of a pod; picks go by it with the next table.
    pub(crate) fn update(&self, spec: &PodSpec) {
        self.draining.store(spec.draining, Relaxed);
        self.zone.store(spec.zone.clone().map(Arc::new));
    }

    pub(super) fn zone(&self) -> Option<Arc<String>> {
        self.zone.load_full()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// How willingly picks fall on it.
    pub(crate) fn rank(&self, model: &Model) -> Rank {
        if self.lacks.has(model.index) {
            Rank::Lacking
        } else if self.fails.has(model.index) {
            Rank::Failing
        } else if self.is_draining() {
            Rank::Draining
        } else {
            Rank::Fit
        }
    }
}
