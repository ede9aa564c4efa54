//! A model, and what its requests cost.
//!
//! A request's cost is what it will take of a pod's time. The payload's bytes say most of it: per model, each half
//! power of two of bytes has its own running mean, learned from requests that found their pod idle, so that no queueing
//! is in the sample. Peers tell each other what they learned, so that one request somewhere is enough for all; between
//! sizes that are known it is interpolated; where nothing is known, a formula, Triton's own mean or a guess stands in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::batches::Batches;
use super::cost::Formula;
use super::heard::{Heard, QUORUM, belief};
use super::learn::Learned;
use super::{Cost, CostView};
use crate::id::NodeId;
use crate::sync::{Held, Turn};
use crate::time::Time;

/// Half powers of two of bytes: the last one starts at 2^31.5.
const BUCKETS: usize = 64;
/// What a request costs when nothing was learned yet and no prior is configured. Any positive number makes picks
/// count requests; it only has to be of the order of real costs, so that the first samples do not look absurd.
const PRIOR_MS: f32 = 10.0;
/// A mean is told from so many samples on, one may have been anything; unless hardly anybody has said anything yet.
const WORTH_TELLING: f32 = 2.0;
/// With so many samples a mean is known well enough to say that a pod is slow, and not the request.
const SURE: f32 = 8.0;

/// One model, as this node knows it.
#[derive(Debug)]
pub struct Model {
    pub(crate) index: usize,
    name: Box<str>,
    /// What its requests cost.
    pub cost: CostModel,
    /// What its batches are like.
    pub(crate) batches: Batches,
    /// When it was last loaded or unloaded somewhere, in nanoseconds of [`Time`]; 0 where it never was.
    moved_at: AtomicU64,
}

impl Model {
    pub(super) fn new(index: usize, name: &str, cost: CostModel) -> Model {
        Model { index, name: name.into(), cost, batches: Batches::default(), moved_at: AtomicU64::new(0) }
    }

    /// It was loaded or unloaded somewhere.
    pub(crate) fn moves(&self, now: Time) {
        self.moved_at.fetch_max(now.as_nanos().max(1), Relaxed);
    }

    /// Whether it was, so shortly before `now`.
    pub(crate) fn moved_within(&self, span: Duration, now: Time) -> bool {
        let at = self.moved_at.load(Relaxed);
        at > 0 && now.since(Time::from_nanos(at)) < span
    }

    /// Its name; empty for the one that stands for all names beyond the bound of 1,024.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What requests of one model cost, by payload size. Picks read it without a lock; whoever teaches it skips its turn
/// rather than wait for another.
#[derive(Debug)]
pub struct CostModel {
    /// What is believed in ms per bucket of bytes, as `f32` bits; zero where nothing is.
    believed_ms: [AtomicU32; BUCKETS],
    /// Where that comes from.
    known: Turn<Known>,
    formula: Option<Formula>,
    /// Triton's own mean over all sizes, ms, as `f32` bits; zero where it was not asked.
    stated_ms: AtomicU32,
    /// Something was learned since it was last looked through for news.
    pub(crate) fresh: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    own: BTreeMap<u8, Learned>,
    heard: Sizes,
    /// What was told of each last.
    told: BTreeMap<u8, f32>,
}

/// What was heard, by bucket of bytes.
pub(super) type Sizes = BTreeMap<u8, Heard>;

/// What one size costs, as nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeCost {
    /// `floor(2 log2 bytes)`, below 64.
    pub bucket: u8,
    /// Its mean, µs.
    pub mean_us: u32,
    /// Samples that stand behind it.
    pub samples: u8,
}

impl SizeCost {
    /// In ms; none where it is nothing that a request can cost.
    pub(super) fn ms(self) -> Option<f32> {
        let possible = self.mean_us > 0 && f64::from(self.mean_us) <= 1e3 * Cost::MAX.as_ms();
        (possible && usize::from(self.bucket) < BUCKETS && self.samples > 0).then(|| self.mean_us as f32 / 1e3)
    }
}

impl Default for CostModel {
    fn default() -> CostModel {
        CostModel::new(None, Sizes::default())
    }
}

impl CostModel {
    pub(super) fn new(formula: Option<Formula>, heard: Sizes) -> CostModel {
        let model = CostModel {
            believed_ms: std::array::from_fn(|_| AtomicU32::new(0)),
            known: Turn::new(Known { heard, ..Known::default() }),
            formula,
            stated_ms: AtomicU32::new(0),
            fresh: AtomicBool::new(false),
        };
        let known = model.known();
        known.heard.keys().for_each(|bucket| model.believe(&known, *bucket, Time::ZERO));
        drop(known);
        model
    }

    /// The cost of a request with `bytes` of payload: what is believed of its size; else what lies between the sizes that
    /// something is believed of, or the nearest; else the formula, what Triton states of the model, or 10 ms.
    pub fn estimate(&self, bytes: u64) -> Cost {
        let bucket = bucket(bytes);
        let of_formula = |bytes| self.formula.as_ref().map(|formula| formula.ms(bytes) as f32);
        if self.formula.as_ref().is_some_and(|formula| !formula.learn) {
            return cost(of_formula(bytes).unwrap_or(PRIOR_MS));
        }
        if let Some(ms) = self.believed(bucket) {
            return cost(ms);
        }
        // What is believed over what the formula says: the formula's shape holds between and beyond.
        let ratio = |b: usize| Some((b, self.believed(b)? / of_formula(middle_of(b)).unwrap_or(1.0)));
        let below = (0..bucket).rev().find_map(ratio);
        let above = (bucket + 1..BUCKETS).find_map(ratio);
        let ratio = match (below, above) {
            (Some((low, a)), Some((high, b))) => Some(between(a, b, (bucket - low) as f32 / (high - low) as f32)),
            (one, other) => one.or(other).map(|(_, ratio)| ratio),
        };
        let stated = f32::from_bits(self.stated_ms.load(Relaxed));
        cost(match (ratio, of_formula(bytes)) {
            (Some(ratio), shape) => ratio * shape.unwrap_or(1.0),
            (None, Some(ms)) => ms,
            (None, None) if stated > 0.0 => stated,
            (None, None) => PRIOR_MS,
        })
    }

    /// Learns from one request of `bytes` that found its pod idle and took `ms` of a pod of usual speed. Returns what it was
    /// believed to take, ms, where that was well enough known to judge a pod by.
    pub fn learn(&self, bytes: u64, ms: f64, now: Time) -> Option<f64> {
        let sample = Cost::from_ms(ms)?;
        // Another sample is being taken: one of two is enough for a running mean.
        let mut known = self.known.take()?;
        let bucket = bucket(bytes) as u8;
        let believed = self.believed(bucket.into());
        let own = known.own.get(&bucket).and_then(|own| own.mean(now)).map_or(0.0, |(_, samples)| samples);
        let is_sure = own >= SURE || known.heard.get(&bucket).is_some_and(|heard| heard.voices() >= QUORUM);
        known.own.entry(bucket).or_default().take(sample.as_ms() as f32, believed, now);
        self.believe(&known, bucket, now);
        self.fresh.store(true, Relaxed);
        believed.filter(|_| is_sure).map(f64::from)
    }

    /// Hears what `from` learned of one size. False if that is nothing that a request can cost.
    pub(crate) fn hear(&self, from: NodeId, size: SizeCost, now: Time) -> bool {
        let Some(ms) = size.ms() else { return false };
        let mut known = self.known();
        let heard = known.heard.entry(size.bucket).or_default();
        heard.take(from, ms, size.samples, now);
        if let Some(ms) = heard.news(now)
            && let Some(own) = known.own.get_mut(&size.bucket)
        {
            own.doubt(ms);
        }
        self.believe(&known, size.bucket, now);
        true
    }

    /// Triton says that requests of this model take `ms` on the mean: what is believed while nothing was learned. Ignored
    /// where that is no cost.
    pub fn state(&self, ms: f64) {
        if let Some(ms) = Cost::from_ms(ms).filter(|ms| *ms > Cost::ZERO) {
            self.stated_ms.store((ms.as_ms() as f32).to_bits(), Relaxed);
        }
    }

    /// Whether it is a guess what its requests cost.
    pub fn is_unknown(&self) -> bool {
        let stated = self.stated_ms.load(Relaxed) > 0;
        !stated && self.formula.is_none() && (0..BUCKETS).all(|bucket| self.believed(bucket).is_none())
    }

    /// What was learned here and the peers do not know yet: what was never told, or has moved since, unless enough of them
    /// say the same. Marks it as told.
    pub(crate) fn news(&self, now: Time, at_most: usize) -> Vec<SizeCost> {
        if !self.fresh.swap(false, Relaxed) {
            return Vec::new();
        }
        let mut known = self.known();
        let Known { own, heard, told } = &mut *known;
        let mut news = Vec::new();
        for (bucket, learned) in own.iter() {
            let heard = heard.get(bucket).filter(|heard| heard.voices() >= QUORUM);
            let least = if heard.is_some() { WORTH_TELLING } else { 0.0 };
            let Some((ms, samples)) = learned.mean(now).filter(|(_, samples)| *samples >= least) else { continue };
            let agreed = heard.and_then(|heard| heard.middle(now));
            let agreed = agreed.is_some_and(|(heard, _)| !learned.differs_from(heard));
            let known = told.get(bucket).is_some_and(|told| !learned.differs_from(*told));
            if known || (agreed && !told.contains_key(bucket)) {
                continue;
            }
            if news.len() == at_most {
                self.fresh.store(true, Relaxed);
                break;
            }
            news.push(size_cost(*bucket, ms, samples));
            told.insert(*bucket, ms);
        }
        news
    }

    /// All that was learned here, at most so much, to be told to somebody new.
    pub(crate) fn learned(&self, now: Time, at_most: usize) -> Vec<SizeCost> {
        let known = self.known();
        let worth = |(bucket, learned): (&u8, &Learned)| {
            let (ms, samples) = learned.mean(now)?;
            // However long ago: somebody new knows nothing.
            Some(size_cost(*bucket, ms, samples.max(1.0)))
        };
        known.own.iter().filter_map(worth).take(at_most).collect()
    }

    /// What is believed, by size.
    pub(crate) fn view(&self, model: &str) -> Vec<CostView> {
        let believed = (0..BUCKETS).filter_map(|bucket| Some((bucket, self.believed(bucket)?)));
        let view = |(bucket, ms)| CostView { model: model.to_owned(), bytes: least_of(bucket), ms: f64::from(ms) };
        believed.map(view).collect()
    }

    fn believed(&self, bucket: usize) -> Option<f32> {
        Some(f32::from_bits(self.believed_ms[bucket].load(Relaxed))).filter(|ms| *ms > 0.0)
    }

    fn believe(&self, known: &Known, bucket: u8, now: Time) {
        let own = known.own.get(&bucket).and_then(|learned| learned.mean(now));
        let heard = known.heard.get(&bucket).and_then(|heard| heard.middle(now));
        if let Some(ms) = belief(own, heard) {
            self.believed_ms[usize::from(bucket)].store(ms.to_bits(), Relaxed);
        }
    }

    /// For the core, which may wait: who teaches has it for less than a microsecond.
    fn known(&self) -> Held<'_, Known> {
        self.known.wait()
    }
}

fn cost(ms: f32) -> Cost {
    Cost::from_ms(f64::from(ms)).unwrap_or_default()
}

fn size_cost(bucket: u8, ms: f32, samples: f32) -> SizeCost {
    // In range: a mean is at most an hour, and over at most a few dozen samples.
    SizeCost { bucket, mean_us: ((ms * 1e3) as u32).max(1), samples: (samples as u8).max(1) }
}

/// Geometrically between `a` and `b`, `share` of the way to `b` and to a sixteenth of it: by square roots alone, which every
/// machine rounds alike.
fn between(a: f32, b: f32, share: f32) -> f32 {
    let (mut low, mut high, mut share) = (a, b, share);
    for _ in 0..4 {
        let middle = (low * high).sqrt();
        if share < 0.5 {
            high = middle
        } else {
            low = middle
        }
        share = if share < 0.5 { 2.0 * share } else { 2.0 * share - 1.0 };
    }
    if share < 0.5 { low } else { high }
}

/// `floor(2 log2 bytes)`, by integers.
fn bucket(bytes: u64) -> usize {
    let bytes = bytes.clamp(1, u64::from(u32::MAX));
    let whole = bytes.ilog2();
    // The upper half of the octave starts at 2^(whole + 1/2): bytes^2 >= 2^(2 whole + 1).
    let half = usize::from(u128::from(bytes) * u128::from(bytes) >= 1 << (2 * whole + 1));
    (2 * whole as usize + half).min(BUCKETS - 1)
}

/// The fewest bytes of a bucket, to a twentieth.
fn least_of(bucket: usize) -> u64 {
    let octave = 1_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { octave } else { octave * 23 / 16 }
}

/// Bytes in the middle of a bucket, to a twelfth.
fn middle_of(bucket: usize) -> u64 {
    let octave = 1_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { octave * 19 / 16 } else { octave * 27 / 16 }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::observe::{Formulas, Models};

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
        cost.learn(5000, 120.0, Time::ZERO);
        assert_eq!(cost.estimate(100).as_ms(), 120.0);
        cost.learn(100, 5.0, Time::ZERO);
        assert_eq!(cost.estimate(100).as_ms(), 5.0);
        assert_eq!(cost.estimate(5000).as_ms(), 120.0);
        for _ in 0..40 {
            cost.learn(100, 8.0, Time::ZERO);
        }
        assert!((cost.estimate(100).as_ms() - 8.0).abs() < 0.5);
        cost.learn(100, f64::NAN, Time::ZERO);
        assert!(cost.estimate(100).as_ms() > 0.0);
    }

    /// A size between two that are known costs something between: the largest image seen is no guess for the smallest but one.
    #[test]
    fn between_known_sizes_it_is_interpolated() {
        let cost = CostModel::default();
        cost.learn(1 << 10, 10.0, Time::ZERO);
        cost.learn(1 << 20, 1000.0, Time::ZERO);
        let middle = cost.estimate(1 << 15).as_ms();
        assert!((middle - 100.0).abs() < 1.0, "{middle}");
        assert_eq!([1 << 8, 1 << 22].map(|bytes| cost.estimate(bytes).as_ms()), [10.0, 1000.0]);
        assert_eq!((between(10.0, 1000.0, 0.0), between(7.0, 7.0, 0.3)), (10.0, 7.0));
    }

    /// Who knows the model writes its shape down: it decides where nothing was learned, and between and beyond what was.
    #[test]
    fn a_formula_gives_the_shape_and_learning_the_scale() {
        let formula = Formula { per_kib_ms: 1.0, min_ms: 2.0, ..Formula::new(1.0) };
        let models = Models::new(Formulas::from([("m".into(), formula.clone())]));
        let cost = &models.get("m").cost;
        assert_eq!([0, 100 << 10].map(|bytes| cost.estimate(bytes).as_ms()), [2.0, 101.0]);
        // Everything takes twice as long as it says.
        cost.learn(100 << 10, 202.0, Time::ZERO);
        let half = cost.estimate(50 << 10).as_ms();
        assert!((85.0..125.0).contains(&half), "{half}");
        assert_eq!(models.get("other").cost.estimate(100 << 10).as_ms(), 10.0);
        let fixed = Models::new(Formulas::from([("".into(), Formula { learn: false, ..formula })]));
        fixed.get("any").cost.learn(100 << 10, 202.0, Time::ZERO);
        assert_eq!(fixed.get("any").cost.estimate(100 << 10).as_ms(), 101.0);
    }

    /// Triton's own mean stands in while nothing was learned, and is no match for what was.
    #[test]
    fn what_triton_states_stands_in_until_something_is_learned() {
        let cost = CostModel::default();
        [f64::NAN, -1.0, 0.0].into_iter().for_each(|ms| cost.state(ms));
        assert_eq!(cost.estimate(7).as_ms(), 10.0);
        cost.state(40.0);
        assert_eq!(cost.estimate(7).as_ms(), 40.0);
        cost.learn(7, 60.0, Time::ZERO);
        assert_eq!(cost.estimate(7).as_ms(), 60.0);
    }

    fn size(bytes: u64, ms: u32) -> SizeCost {
        SizeCost { bucket: bucket(bytes) as u8, mean_us: 1000 * ms, samples: 32 }
    }

    /// What is told once is not told again until it moved; and not at all where enough others say the same.
    #[test]
    fn news_is_what_moved_and_is_not_known() {
        let cost = CostModel::default();
        cost.learn(100, 5.0, Time::ZERO);
        assert_eq!(cost.news(Time::ZERO, 64), [SizeCost { samples: 1, ..size(100, 5) }]);
        cost.learn(100, 5.1, Time::ZERO);
        assert_eq!(cost.news(Time::ZERO, 64), []);
        (0..16).for_each(|_| _ = cost.learn(100, 15.0, Time::ZERO));
        assert_eq!(cost.news(Time::ZERO, 64).len(), 1);
        let agreed = CostModel::default();
        (1..4).for_each(|peer| assert!(agreed.hear(NodeId(peer), size(100, 5), Time::ZERO)));
        (0..8).for_each(|_| _ = agreed.learn(100, 5.1, Time::ZERO));
        assert_eq!(agreed.news(Time::ZERO, 64), []);
    }

    /// Costs come from configuration, samples and strangers: whatever they are, an estimate is a cost.
    #[test]
    fn absurd_costs_are_refused_and_never_believed() {
        let cost = CostModel::default();
        for bad in [
            SizeCost { mean_us: 0, ..size(1, 1) },
            SizeCost { mean_us: u32::MAX, ..size(1, 1) },
            SizeCost { bucket: 64, ..size(1, 1) },
            SizeCost { samples: 0, ..size(1, 1) },
        ] {
            assert!(!cost.hear(NodeId(1), bad, Time::ZERO));
        }
        for formula in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 1e300].map(Formula::new) {
            let models = Models::new(Formulas::from([("".into(), Formula { per_kib_ms: f64::NAN, ..formula })]));
            let ms = models.get("m").cost.estimate(u64::MAX).as_ms();
            assert!(ms > 0.0 && ms <= Cost::MAX.as_ms(), "{ms}");
        }
    }

    proptest! {
        /// Whatever is learned, heard and stated, of whichever sizes and at whichever times, forwards or back: every estimate
        /// is a cost above nothing; and one liar among honest samples moves it by a bounded factor.
        #[test]
        fn estimates_are_costs_whatever_happens(
            events in vec((0_u8..3, any::<u64>(), any::<f64>(), any::<u64>(), 0_u64..4), 0..60),
            asked in any::<u64>(),
        ) {
            let cost = CostModel::default();
            for (what, bytes, ms, at, peer) in events {
                let (now, mean_us) = (Time::from_nanos(at), ms.abs() as u32);
                match what {
                    0 => _ = cost.learn(bytes, ms, now),
                    1 => _ = cost.hear(NodeId(peer), SizeCost { bucket: bytes as u8, mean_us, samples: at as u8 }, now),
                    _ => cost.state(ms),
                }
            }
            let ms = cost.estimate(asked).as_ms();
            prop_assert!(ms > 0.0 && ms <= Cost::MAX.as_ms(), "{}", ms);
        }

        /// One liar, whatever it says and however often, beside eight samples of one's own: within the bound.
        #[test]
        fn one_liar_moves_an_estimate_by_a_bounded_factor(lies in vec(1_u32.., 1..40), honest in 1.0_f64..1000.0) {
            let cost = CostModel::default();
            (0..8).for_each(|_| _ = cost.learn(100, honest, Time::ZERO));
            for mean_us in lies {
                let _ = cost.hear(NodeId(9), SizeCost { bucket: bucket(100) as u8, mean_us, samples: 255 }, Time::ZERO);
            }
            let ratio = cost.estimate(100).as_ms() / honest;
            prop_assert!((0.5..=2.6).contains(&ratio), "{}", ratio);
        }
    }
}
