//! How fast one pod is beside the others, learned from the requests that found it idle; and which of those did not find it
//! idle after all.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::learn::CLIP;
use crate::time::Time;

/// Weight of a sample in a pod's pace: about the last fifty.
const LEARN: f32 = 0.02;
/// A pace is not the others' where it is further from them than so many standard errors. Where sizes tell nothing, equal
/// pods wobble by a fifth: with a fixed bound alone, that moved traffic and doubled the wait.
const SURE: f32 = 4.0;
/// The standard error of a running mean over the mean size of its errors is the root of its memory in samples, and a quarter
/// more, from mean size to standard deviation.
const DEVIATION: f32 = 1.25;
/// Samples before a pace means anything: a pod that is twenty times as slow is known by eight.
const ENOUGH: u32 = 8;
/// Paces within this of the others' are theirs: what is noise must not move traffic.
const ALIKE: f32 = 0.25;
/// Bounds of a learned speed. A pod that is slower than the least is ill, and will be avoided for what is in flight there.
const SPEEDS: (f32, f32) = (0.1, 10.0);

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Running mean of what requests took over what they should have, as `f32` bits.
    ratio: AtomicU32,
    /// Mean size of its errors, as `f32` bits.
    spread: AtomicU32,
    samples: AtomicU32,
    /// Relative to the other pods, as `f32` bits: published by [`compare`].
    speed: AtomicU32,
    /// When the last request started that found this pod idle, in nanoseconds of [`Time`].
    timed_since: AtomicU64,
    /// How often news came of a request that had been here when one seemed to find it idle.
    surprises: AtomicU32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            ratio: AtomicU32::new(1.0_f32.to_bits()),
            spread: AtomicU32::new(1.0_f32.to_bits()),
            samples: AtomicU32::new(0),
            speed: AtomicU32::new(1.0_f32.to_bits()),
            timed_since: AtomicU64::new(0),
            surprises: AtomicU32::new(0),
        }
    }
}

impl Pace {
    pub(crate) fn speed(&self) -> f64 {
        f64::from(f32::from_bits(self.speed.load(Relaxed)))
    }

    /// A request that found the pod idle took `ratio` times what it should have.
    pub(crate) fn saw(&self, ratio: f64) {
        let old = f32::from_bits(self.ratio.load(Relaxed));
        let sample = (ratio as f32).clamp(old / CLIP, old * CLIP);
        if sample.is_finite() && sample > 0.0 {
            // Two at once may lose one: it is a mean.
            let seen = self.samples.fetch_add(1, Relaxed).saturating_add(1);
            let weight = LEARN.max(1.0 / (seen as f32 + 1.0));
            let spread = f32::from_bits(self.spread.load(Relaxed));
            self.spread.store((spread + weight * ((sample - old).abs() - spread)).to_bits(), Relaxed);
            self.ratio.store((old + weight * (sample - old)).clamp(1e-3, 1e3).to_bits(), Relaxed);
        }
    }

    /// A request starts that finds the pod idle: what it takes will be its time alone, if nothing is heard that says
    /// otherwise. Returns what [`Pace::was_idle`] wants to know.
    pub(crate) fn time(&self, now: Time) -> u32 {
        self.timed_since.fetch_max(now.as_nanos(), Relaxed);
        self.surprises.load(Relaxed)
    }

    /// News: a request of a peer's was sent here at `at`.
    pub(crate) fn hear(&self, at: Time) {
        if at.as_nanos() <= self.timed_since.load(Relaxed) {
            self.surprises.fetch_add(1, Relaxed);
        }
    }

    /// A request may run together with those that found the pod idle.
    pub(crate) fn join(&self) {
        self.surprises.fetch_add(1, Relaxed);
    }

    /// Whether nothing was heard since that says otherwise.
    pub(crate) fn was_idle(&self, surprises: u32) -> bool {
        self.surprises.load(Relaxed) == surprises
    }

    fn ratio(&self) -> Option<f32> {
        (self.samples.load(Relaxed) >= ENOUGH).then(|| f32::from_bits(self.ratio.load(Relaxed)))
    }

    /// How far a ratio over its samples may be off by chance, if single ones are off by `spread`.
    fn chance(&self, spread: f32) -> f32 {
        let memory = (self.samples.load(Relaxed) as f32).clamp(1.0, (2.0 - LEARN) / LEARN);
        SURE * DEVIATION * spread / memory.sqrt()
    }
}

/// Compares paces with each other, and publishes speeds. All pods getting slower at once is a model that changed, and no
/// pod's speed.
pub(crate) fn compare<'a>(paces: impl Iterator<Item = &'a Pace> + Clone) {
    let known = || paces.clone().filter(|pace| pace.ratio().is_some());
    // Of the middle one: a few that are ill move nobody else. And the spread of all, because a pod that seems fast by chance
    // seems even as well.
    let usual = middle(known().filter_map(Pace::ratio));
    let spread = middle(known().map(|pace| f32::from_bits(pace.spread.load(Relaxed))));
    for pace in paces.clone() {
        let off = pace.ratio().filter(|ratio| (ratio - usual).abs() > pace.chance(spread));
        let speed = off.map_or(1.0, |ratio| usual / ratio);
        let alike = speed < 1.0 + ALIKE && speed * (1.0 + ALIKE) > 1.0;
        let speed = if alike { 1.0 } else { speed.clamp(SPEEDS.0, SPEEDS.1) };
        pace.speed.store(speed.to_bits(), Relaxed);
    }
}

/// The middle value; between the two of an even number.
fn middle(values: impl Iterator<Item = f32>) -> f32 {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_unstable_by(f32::total_cmp);
    match sorted.len() {
        0 => 1.0,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn paces(ratios: &[f64]) -> Vec<Pace> {
        let paces: Vec<Pace> = ratios.iter().map(|_| Pace::default()).collect();
        for (pace, ratio) in paces.iter().zip(ratios) {
            (0..300).for_each(|_| pace.saw(*ratio));
        }
        compare(paces.iter());
        paces
    }

    /// One pod of four takes twice as long: it is half as fast as the others, which are as usual.
    #[test]
    fn a_slow_pod_is_slow_beside_the_others() {
        let speeds: Vec<f64> = paces(&[1.0, 1.0, 2.0, 1.0]).iter().map(Pace::speed).collect();
        assert!((speeds[2] - 0.5).abs() < 0.02 && speeds[0] == 1.0 && speeds[3] == 1.0, "{speeds:?}");
    }

    /// All pods get slower where a model does: that is no pod's speed, and nothing may move.
    #[test]
    fn all_pods_slower_alike_is_no_pods_speed() {
        assert!(paces(&[3.0, 3.1, 2.9]).iter().all(|pace| pace.speed() == 1.0));
        assert!(paces(&[30.0]).iter().all(|pace| pace.speed() == 1.0));
    }

    /// News of what was there before it started spoils a sample; news of what came later does not.
    #[test]
    fn a_request_that_came_before_spoils_a_sample() {
        let pace = Pace::default();
        let surprises = pace.time(Time::from_nanos(100));
        pace.hear(Time::from_nanos(101));
        assert!(pace.was_idle(surprises));
        pace.hear(Time::from_nanos(99));
        assert!(!pace.was_idle(surprises));
    }

    proptest! {
        /// Whatever is seen, speeds are numbers within their bounds.
        #[test]
        fn speeds_are_bounded(ratios in vec(vec(any::<f64>(), 0..40), 1..6)) {
            let paces: Vec<Pace> = ratios.iter().map(|_| Pace::default()).collect();
            paces.iter().zip(&ratios).for_each(|(pace, ratios)| ratios.iter().for_each(|ratio| pace.saw(*ratio)));
            compare(paces.iter());
            for pace in &paces {
                prop_assert!((0.1..=10.01).contains(&pace.speed()), "{}", pace.speed());
            }
        }
    }
}
