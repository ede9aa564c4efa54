//! The models met so far, by name: found by every pick, added once per new name, never taken away.
//!
//! So a table that only grows does: a pick that finds its model there reads two words and the name, and writes nothing,
//! not even a count of readers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::cost::Formula;
use super::model::{CostModel, Model, SizeCost, Sizes};
use crate::id::NodeId;
use crate::time::Time;

/// Models that one node keeps apart; further names share one. Bounds what clients who invent names can make us store.
pub(crate) const MAX_MODELS: usize = 1024;
/// Places in the table: twice as many, so that half are free and most names stand in their first place. Whoever invents
/// names that all belong in one makes a pick look at a thousand, and no more.
const PLACES: usize = 2 * MAX_MODELS;
/// The longest model name that is kept.
const MAX_NAME: usize = 256;
/// The model that stands for all names beyond the bounds.
const OTHER_MODEL: &str = "";
/// Models that peers told of and nobody asked for here yet; and how many of them one peer may have brought up.
const MAX_TOLD: usize = 1024;
const MAX_TOLD_BY_ONE: usize = 256;

/// Formulas by model; the one of the empty name is for all others.
pub(crate) type Formulas = BTreeMap<Box<str>, Formula>;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Models {
    /// Each name from its place on, up to the first free one.
    places: Box<[OnceLock<Arc<Model>>]>,
    /// By index; the first is the nameless one.
    all: Box<[OnceLock<Arc<Model>>]>,
    formulas: Formulas,
    /// Held by whoever adds a model, and by the core: looked at once per new name.
    told: Mutex<Told>,
}

/// What peers told of models that nobody asked for here yet.
#[derive(Debug, Default)]
struct Told {
    by_name: BTreeMap<Box<str>, (NodeId, Sizes)>,
    /// How many of those each peer brought up.
    by_peer: BTreeMap<NodeId, usize>,
}

/// What became of what a peer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    Taken,
    /// Nothing that a request can cost.
    Absurd,
    /// Of too many models that nobody asks for here.
    TooMany,
}

impl Models {
    pub(crate) fn new(formulas: Formulas) -> Models {
        let empty = |places: usize| (0..places).map(|_| OnceLock::new()).collect();
        let models = Models { places: empty(PLACES), all: empty(MAX_MODELS), formulas, told: Mutex::default() };
        models.add(OTHER_MODEL, &mut models.told());
        models
    }

    /// The model called `name`; the nameless one where `name` is too long or there are too many.
    pub(crate) fn get(&self, name: &str) -> &Arc<Model> {
        match self.find(name) {
            Ok(model) => model,
            Err(_) if name.len() > MAX_NAME || self.all[MAX_MODELS - 1].get().is_some() => self.nameless(),
            Err(_) => self.add(name, &mut self.told()),
        }
    }

    fn nameless(&self) -> &Arc<Model> {
        self.all[0].get_or_init(|| self.fresh(0, OTHER_MODEL, Sizes::default()))
    }

    /// The model called `name`, or the free place where it would stand.
    pub(crate) fn find(&self, name: &str) -> Result<&Arc<Model>, &OnceLock<Arc<Model>>> {
        let first = hash(name.as_bytes()) as usize;
        for k in 0..PLACES {
            let place = &self.places[first.wrapping_add(k) % PLACES];
            match place.get() {
                Some(model) if model.name() == name => return Ok(model),
                Some(_) => {}
                None => return Err(place),
            }
        }
        unreachable!("no more than half of the places are ever taken");
    }

    /// Adds the model called `name` if there is room; one at a time, as `told` proves.
    fn add(&self, name: &str, told: &mut Told) -> &Arc<Model> {
        // Somebody else may have added it, or another that took the place.
        let place = match self.find(name) {
            Ok(model) => return model,
            Err(place) => place,
        };
        let model = match self.all.iter().position(|model| model.get().is_none()) {
            Some(0) => self.nameless(),
            Some(index) => self.all[index].get_or_init(|| self.fresh(index, name, told.take(name))),
            None => return self.nameless(),
        };
        place.get_or_init(|| model.clone())
    }

    fn fresh(&self, index: usize, name: &str, heard: Sizes) -> Arc<Model> {
        let formula = self.formulas.get(name).or_else(|| self.formulas.get(OTHER_MODEL)).cloned();
        Arc::new(Model::new(index, name, CostModel::new(formula, heard)))
    }

    /// How many there are, the nameless one included.
    pub(crate) fn count(&self) -> usize {
        self.all.partition_point(|model| model.get().is_some())
    }

    /// All models, by index.
    pub(crate) fn all(&self) -> Vec<Arc<Model>> {
        self.all.iter().map_while(OnceLock::get).cloned().collect()
    }

    /// Hears what `from` learned of one size of the model called `name`.
    pub(crate) fn hear(&self, from: NodeId, name: &str, size: SizeCost, now: Time) -> Hearing {
        let Some(ms) = size.ms() else { return Hearing::Absurd };
        let mut told = self.told();
        match self.find(name) {
            Ok(model) if model.cost.hear(from, size, now) => Hearing::Taken,
            Ok(_) => Hearing::Absurd,
            Err(_) => match told.sizes(from, name) {
                Some(sizes) => {
                    sizes.entry(size.bucket).or_default().take(from, ms, size.samples, now);
                    Hearing::Taken
                }
                None => Hearing::TooMany,
            },
        }
    }

    /// How many models peers told of that nobody asked for here.
    pub(crate) fn held(&self) -> usize {
        self.told().by_name.len()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Whoever panicked with it left names and numbers, each of them whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a name belongs: eight bytes at a time, by multiplication and the upper half folded into the lower (as wyhash
/// does). The same in every run; what a pick pays for it is a few nanoseconds.
fn hash(name: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(ODD);
        (product >> 64) as u64 ^ product as u64
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| fold(hash, u64::from_le_bytes(*word)));
    fold(hash, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

impl Told {
    /// The sizes of `name`, if there is room for it.
    fn sizes(&mut self, from: NodeId, name: &str) -> Option<&mut Sizes> {
        if !self.by_name.contains_key(name) {
            let by_it = self.by_peer.get(&from).copied().unwrap_or(0);
            if self.by_name.len() >= MAX_TOLD || by_it >= MAX_TOLD_BY_ONE || name.len() > MAX_NAME {
                return None;
            }
            *self.by_peer.entry(from).or_default() += 1;
            self.by_name.insert(name.into(), (from, Sizes::default()));
        }
        self.by_name.get_mut(name).map(|(_, sizes)| sizes)
    }

    fn take(&mut self, name: &str) -> Sizes {
        let Some((from, sizes)) = self.by_name.remove(name) else { return Sizes::default() };
        if let Some(count) = self.by_peer.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&from);
            }
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(ms: u32) -> SizeCost {
        SizeCost { bucket: 13, mean_us: 1000 * ms, samples: 32 }
    }

    /// A fresh node knows at its first request what its peers learned, whether they told it before or after.
    #[test]
    fn what_peers_told_is_known_at_the_first_request() {
        let models = Models::new(Formulas::new());
        let peer = NodeId(1);
        assert_eq!(models.hear(peer, "m", size(5), Time::ZERO), Hearing::Taken);
        assert_eq!((models.all().len(), models.count(), models.held()), (1, 1, 1));
        assert_eq!(models.get("m").cost.estimate(100).as_ms(), 5.0);
        assert_eq!(models.held(), 0);
        models.hear(peer, "m", SizeCost { bucket: 24, ..size(120) }, Time::ZERO);
        assert_eq!(models.get("m").cost.estimate(5000).as_ms(), 120.0);
    }

    /// A peer that invents models must not fill the memory, nor keep out what others tell.
    #[test]
    fn models_that_one_peer_invents_are_bounded() {
        let models = Models::new(Formulas::new());
        let heard = |from: u64, k: usize| models.hear(NodeId(from), &format!("model-{k}"), size(5), Time::ZERO);
        let taken = (0..2 * MAX_TOLD).filter(|k| heard(1, *k) == Hearing::Taken).count();
        assert_eq!((taken, models.held()), (MAX_TOLD_BY_ONE, MAX_TOLD_BY_ONE));
        assert_eq!(heard(2, 7777), Hearing::Taken);
        assert_eq!(models.hear(NodeId(2), &"x".repeat(MAX_NAME + 1), size(1), Time::ZERO), Hearing::TooMany);
        assert_eq!(models.all().len(), 1);
    }

    /// Clients choose model names: they must not be able to fill the memory.
    #[test]
    fn invented_names_share_one_model() {
        let models = Models::new(Formulas::new());
        assert_eq!(models.get("resnet").name(), "resnet");
        assert!(Arc::ptr_eq(models.get("resnet"), models.get("resnet")));
        for k in 0..2 * MAX_MODELS {
            models.get(&format!("model-{k}"));
        }
        assert_eq!((models.all().len(), models.count()), (MAX_MODELS, MAX_MODELS));
        assert_eq!(models.get("one more").name(), OTHER_MODEL);
        assert_eq!(models.get("model-7").name(), "model-7");
        assert_eq!(models.get(&"x".repeat(MAX_NAME + 1)).name(), OTHER_MODEL);
    }

    /// Two callers that bring up a model at the same time must count in the same one, whoever else adds some meanwhile.
    #[test]
    fn a_model_is_made_once_whoever_asks_at_the_same_time() {
        let models = Models::new(Formulas::new());
        let all = |first: usize| -> Vec<usize> {
            let names = (0..200).map(|k| format!("model-{}", (first + k) % 200));
            let mut indexes: Vec<usize> = names.map(|name| models.get(&name).index).collect();
            indexes.rotate_right(first);
            indexes
        };
        let found: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let threads: Vec<_> = [0, 50, 100].map(|first| scope.spawn(move || all(first))).into();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|indexes| *indexes == found[0]));
        assert_eq!(models.all().len(), 201);
    }
}
