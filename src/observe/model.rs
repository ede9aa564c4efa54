//! Models by name, and what their requests cost.
//!
//! A request's cost is what it will take of a pod's time. The payload's bytes say most of it: per model, each half
//! power of two of bytes has its own running mean, learned from requests that found their pod idle, so that no queueing
//! is in the sample.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arc_swap::ArcSwap;

use super::Cost;
use super::batches::Batches;

/// Models that one node keeps apart; further names share one. Bounds what clients who invent names can make us store.
pub(crate) const MAX_MODELS: usize = 1024;
/// The longest model name that is kept.
const MAX_NAME: usize = 256;
/// The model that stands for all names beyond the bounds.
const OTHER_MODEL: &str = "";
/// Half powers of two of bytes: the last one starts at 2^31.5.
const BUCKETS: usize = 64;
/// What a request costs when nothing was learned yet and no prior is configured. Any positive number makes picks
/// count requests; it only has to be of the order of real costs, so that the first samples do not look absurd.
const PRIOR_MS: f32 = 10.0;
/// Weight of a new sample: the last dozen requests of a size decide, so a model change shows within seconds.
const LEARN: f32 = 0.15;

/// One model, as this node knows it.
#[derive(Debug)]
pub struct Model {
    pub(crate) index: usize,
    name: Box<str>,
    /// What its requests cost.
    pub cost: CostModel,
    /// What its batches are like.
    pub(crate) batches: Batches,
}

impl Model {
    fn new(index: usize, name: &str) -> Model {
        Model { index, name: name.into(), cost: CostModel::default(), batches: Batches::default() }
    }

    /// Its name; empty for the one that stands for all names beyond the bound of 1,024.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What requests of one model cost, by payload size. Lock-free: read by every pick, fed by every idle-start request.
#[derive(Debug)]
pub struct CostModel {
    /// Running mean in ms per bucket of bytes, as `f32` bits; zero means nothing learned.
    mean_ms: [AtomicU32; BUCKETS],
}

impl Default for CostModel {
    fn default() -> CostModel {
        CostModel { mean_ms: std::array::from_fn(|_| AtomicU32::new(0)) }
    }
}

impl CostModel {
    /// The cost of a request with `bytes` of payload: what was learned for its size, else for the nearest size, else
    /// 10 ms.
    pub fn estimate(&self, bytes: u64) -> Cost {
        let bucket = bucket(bytes);
        let learned = |b: usize| f32::from_bits(self.mean_ms[b].load(Relaxed));
        let nearest = (0..BUCKETS)
            .flat_map(|d| [bucket.checked_sub(d), Some(bucket + d).filter(|b| *b < BUCKETS)])
            .flatten()
            .map(learned)
            .find(|ms| *ms > 0.0);
        Cost::from_ms(f64::from(nearest.unwrap_or(PRIOR_MS))).unwrap_or_default()
    }

    /// Learns from one request of `bytes` that found its pod idle and took `ms`.
    pub fn learn(&self, bytes: u64, ms: f64) {
        let Some(sample) = Cost::from_ms(ms) else { return };
        // A zero would read as "nothing learned".
        let sample = (sample.as_ms() as f32).max(0.001);
        let cell = &self.mean_ms[bucket(bytes)];
        let old = f32::from_bits(cell.load(Relaxed));
        let new = if old > 0.0 { old + LEARN * (sample - old) } else { sample };
        // Two samples at once may lose one of them: it is a running mean.
        cell.store(new.to_bits(), Relaxed);
    }
}

/// `floor(2 log2 bytes)`, by integers.
fn bucket(bytes: u64) -> usize {
    let bytes = bytes.clamp(1, u64::from(u32::MAX));
    let whole = bytes.ilog2();
    // The upper half of the octave starts at 2^(whole + 1/2): bytes^2 >= 2^(2 whole + 1).
    let half = usize::from(u128::from(bytes) * u128::from(bytes) >= 1 << (2 * whole + 1));
    (2 * whole as usize + half).min(BUCKETS - 1)
}

/// The models met so far. Read without a lock; grows by copying, which happens once per new name.
#[derive(Debug)]
pub(crate) struct Models {
    table: ArcSwap<Table>,
}

#[derive(Debug, Clone)]
struct Table {
    by_name: HashMap<Box<str>, Arc<Model>>,
    all: Vec<Arc<Model>>,
}

impl Models {
    pub(crate) fn new() -> Models {
        let other = Arc::new(Model::new(0, OTHER_MODEL));
        let by_name = HashMap::from([(OTHER_MODEL.into(), other.clone())]);
        Models { table: ArcSwap::from_pointee(Table { by_name, all: vec![other] }) }
    }

    /// The model called `name`; the nameless one where `name` is too long or there are too many.
    pub(crate) fn get(&self, name: &str) -> Arc<Model> {
        if let Some(model) = self.table.load().by_name.get(name) {
            return model.clone();
        }
        if name.len() > MAX_NAME {
            return self.table.load().all[0].clone();
        }
        let table = self.table.rcu(|old| old.with(name));
        // `rcu` returns the table before the change; the one after it has the name, or is full.
        drop(table);
        let table = self.table.load();
        table.by_name.get(name).unwrap_or(&table.all[0]).clone()
    }

    /// How many models there are; their indexes are 0..len.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.load().all.len()
    }
}

impl Table {
    fn with(&self, name: &str) -> Table {
        let mut table = self.clone();
        if table.all.len() < MAX_MODELS && !table.by_name.contains_key(name) {
            let model = Arc::new(Model::new(table.all.len(), name));
            table.by_name.insert(name.into(), model.clone());
            table.all.push(model);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_half_powers_of_two_of_bytes() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 100, 5000].map(bucket), [0, 0, 2, 3, 4, 4, 5, 13, 24]);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    /// A first request has no history: it must still cost something, and the first samples must show at once.
    #[test]
    fn a_cost_is_the_prior_then_the_nearest_size_then_what_was_learned() {
        let cost = CostModel::default();
        assert_eq!(cost.estimate(100).as_ms(), 10.0);
        cost.learn(5000, 120.0);
        assert_eq!(cost.estimate(100).as_ms(), 120.0);
        cost.learn(100, 5.0);
        assert_eq!(cost.estimate(100).as_ms(), 5.0);
        assert_eq!(cost.estimate(5000).as_ms(), 120.0);
        for _ in 0..40 {
            cost.learn(100, 8.0);
        }
        assert!((cost.estimate(100).as_ms() - 8.0).abs() < 0.01);
        cost.learn(100, f64::NAN);
        assert!(cost.estimate(100).as_ms() > 0.0);
    }

    /// Clients choose model names: they must not be able to fill the memory.
    #[test]
    fn invented_names_share_one_model() {
        let models = Models::new();
        assert_eq!(models.get("resnet").name(), "resnet");
        assert_eq!(models.get("resnet").index, models.get("resnet").index);
        for k in 0..2 * MAX_MODELS {
            models.get(&format!("model-{k}"));
        }
        assert_eq!(models.len(), MAX_MODELS);
        assert_eq!(models.get("one more").name(), OTHER_MODEL);
        assert_eq!(models.get(&"x".repeat(MAX_NAME + 1)).name(), OTHER_MODEL);
    }
}
