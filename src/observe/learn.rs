//! What one node learned of one size of one model: a running mean that one absurd sample cannot carry off, and that
//! nevertheless follows a change within a dozen samples.

use std::time::Duration;

use crate::time::Time;

/// A sample counts for no more than this many times what is believed, and no less than one over it. Half of it would
/// never believe the heavy half of a mix of 5 and 120 ms that comes in one size (mean 22 ms); without a bound, one request
/// that hung for a minute would be believed for dozens.
pub(super) const CLIP: f32 = 8.0;
/// The mean is over about so many samples. Fewer follow faster and wobble more.
const MEMORY: f32 = 32.0;
/// What the mean is over after a change: the last few samples, which become the mean.
const AFTER_CHANGE: f32 = 3.0;
/// It is a change where the mean of the last few errors is this many times their usual size. Noise of any law stays below
/// it nearly always: the few wobble by less than half of the usual size.
const CHANGED: f32 = 1.5;
/// Weight of a sample among the last few.
const LAST_FEW: f32 = 0.25;
/// One error counts for so many usual ones, so that a change takes three samples to be one.
const MOST_OF_ONE: f32 = 3.0;
/// Errors are usually no smaller than this share of the mean: else the second digit of a constant would be a change.
const LEAST_ERROR: f32 = 0.1;
/// After so long without a sample, what was learned is worth half: the others' word on what changed then counts more.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// The least a sample can be, ms: zero would read as "nothing learned".
const LEAST_MS: f32 = 0.001;

/// See the module's description.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learned {
    mean_ms: f32,
    /// Samples that the mean is over, at most [`MEMORY`].
    samples: f32,
    /// Mean of the last few errors, each bounded: tells a change.
    lean: f32,
    /// Mean of the last few samples.
    recent_ms: f32,
    /// Mean size of all errors.
    spread: f32,
    at: Time,
}

impl Learned {
    /// The mean, and how many samples stand behind it at `now`; none where nothing was learned.
    pub(super) fn mean(&self, now: Time) -> Option<(f32, f32)> {
        let halves = now.since(self.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
        // Not two to the power of it: that is not rounded alike on every machine.
        (self.samples > 0.0).then(|| (self.mean_ms, self.samples / (1.0 + halves)))
    }

    /// Whether `ms` is beyond what it wobbles by anyway: a tenth, or twice the mean's standard error.
    pub(super) fn differs_from(&self, ms: f32) -> bool {
        (self.mean_ms - ms).abs() > (0.1 * ms).max(self.wobble())
    }

    fn wobble(&self) -> f32 {
        2.0 * self.spread / self.samples.max(1.0).sqrt()
    }

    /// Others say that it takes `ms` now: if that is far off, the next samples count as after a change.
    pub(super) fn doubt(&mut self, ms: f32) {
        // Theirs wobble too.
        let far = (self.mean_ms - ms).abs() > 2.0 * self.wobble();
        if far && (ms > CHANGED * self.mean_ms || ms * CHANGED < self.mean_ms) {
            self.samples = self.samples.min(1.0);
        }
    }

    /// One more request took `ms`; `believed` is what it was thought to take, where anybody knew.
    pub(super) fn take(&mut self, ms: f32, believed: Option<f32>, now: Time) {
        let known = if self.samples > 0.0 { Some(self.mean_ms) } else { believed };
        let sample = known.map_or(ms, |known| ms.clamp(known / CLIP, known * CLIP)).max(LEAST_MS);
        self.at = self.at.max(now);
        let first = self.samples == 0.0;
        self.samples = (self.samples + 1.0).min(MEMORY);
        if first {
            (self.mean_ms, self.recent_ms) = (sample, sample);
            return;
        }
        let error = sample - self.mean_ms;
        let usual = self.spread.max(LEAST_ERROR * self.mean_ms);
        self.lean += LAST_FEW * (error.clamp(-MOST_OF_ONE * usual, MOST_OF_ONE * usual) - self.lean);
        self.spread += (error.abs().min(MOST_OF_ONE * usual) - self.spread) / self.samples;
        self.recent_ms += LAST_FEW * (sample - self.recent_ms);
        self.mean_ms += error / self.samples;
        if self.lean.abs() > CHANGED * usual && self.samples > AFTER_CHANGE {
            (self.mean_ms, self.samples, self.lean) = (self.recent_ms, AFTER_CHANGE, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn learned(samples: impl IntoIterator<Item = f32>) -> Learned {
        let mut learned = Learned::default();
        samples.into_iter().enumerate().for_each(|(k, ms)| learned.take(ms, None, at(k as u64)));
        learned
    }

    fn mean(learned: &Learned) -> f32 {
        learned.mean(learned.at).unwrap().0
    }

    /// One request that hung for a minute must not make its kind look heavy for long: what it adds is bounded by the memory,
    /// and gone after as many more.
    #[test]
    fn one_absurd_sample_moves_the_mean_by_a_bounded_factor() {
        let mut hung = learned([5.0; 64]);
        hung.take(60_000.0, None, at(64));
        assert!((5.0..=5.0 * (1.0 + (CLIP - 1.0) / MEMORY) + 1e-3).contains(&mean(&hung)), "{}", mean(&hung));
        (0..32).for_each(|k| hung.take(5.0, None, at(65 + k)));
        assert!(mean(&hung) < 5.5, "{}", mean(&hung));
    }

    /// A first sample that hung would be believed for ever, if others could not say that it is absurd.
    #[test]
    fn a_first_sample_is_held_against_what_was_believed() {
        let mut first = Learned::default();
        first.take(60_000.0, Some(5.0), at(0));
        assert_eq!(mean(&first), 5.0 * CLIP);
    }

    /// A new version of a model takes three times as long, or a third: within a dozen samples the mean must say so.
    #[test]
    fn a_change_of_the_model_is_followed_within_a_dozen_samples() {
        for factor in [3.0, 1.0 / 3.0] {
            let noise = [0.8, 1.1, 0.9, 1.3, 1.0, 0.9];
            let sample = |k: usize| 100.0 * noise[k % 6];
            let mut changed = learned((0..64).map(sample));
            (0..12).for_each(|k| changed.take(factor * sample(k), None, at(64 + k as u64)));
            let error = mean(&changed) / (100.0 * factor) - 1.0;
            assert!(error.abs() < 0.25, "{factor}: {}", mean(&changed));
        }
    }

    /// A mix of 5 and 120 ms in one size has a mean of 22 ms: neither its many small ones nor its few heavy ones are a change.
    #[test]
    fn a_mix_in_one_size_keeps_its_mean() {
        let sample = |k: usize| if k % 20 == 7 || k % 20 == 9 || k % 20 == 18 { 120.0 } else { 5.0 };
        let mut mix = Learned::default();
        for k in 0..2000 {
            mix.take(sample(k), None, at(k as u64));
            assert!(k < 200 || (10.0..40.0).contains(&mean(&mix)), "{k}: {}", mean(&mix));
        }
    }

    proptest! {
        /// Whatever comes, in whatever order and at whatever times, the mean is a positive number within all samples, and
        /// no sample moves it by more than the clip.
        #[test]
        fn the_mean_stays_within_the_samples(samples in vec((0.0_f32..1e7, any::<u32>()), 1..200)) {
            let mut learned = Learned::default();
            let (mut least, mut most) = (f32::INFINITY, 0.0_f32);
            for (ms, now) in samples {
                let before = learned.mean(learned.at).map(|(mean, _)| mean);
                learned.take(ms, None, at(now.into()));
                (least, most) = (least.min(ms.max(LEAST_MS)), most.max(ms.max(LEAST_MS)));
                let after = mean(&learned);
                prop_assert!(after >= least * 0.999 && after <= most * 1.001, "{least} {after} {most}");
                if let Some(before) = before {
                    prop_assert!(after <= before * CLIP * 1.001 && after >= before / CLIP * 0.999);
                }
            }
        }
    }
}
