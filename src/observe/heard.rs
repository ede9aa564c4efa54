//! What peers said that one size of one model costs: a few voices, of which the middle one is believed, and never far from
//! what this node saw itself.

use std::time::Duration;

use smallvec::SmallVec;

use crate::id::NodeId;
use crate::time::Time;

/// Voices that are kept, the latest of so many peers: of five, two may lie.
const VOICES: usize = 5;
/// From so many on, a liar alone does not decide.
pub(super) const QUORUM: usize = 3;
/// What was heard counts for at most so many samples of one's own.
const COUNTS_FOR: f32 = 8.0;
/// Beside samples of one's own, what was heard is taken for no more than so many times their mean, and no less than one
/// over it.
const WITHIN: f32 = 4.0;
/// After so long a voice counts half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Voices this young may say that one's own mean is outdated.
const NEWS: Duration = Duration::from_secs(10);

/// See the module's description.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    voices: SmallVec<[Voice; VOICES]>,
}

#[derive(Clone, Copy, Debug)]
struct Voice {
    from: NodeId,
    ms: f32,
    samples: u8,
    at: Time,
}

impl Heard {
    /// `from` says that it takes `ms`, on the word of so many samples.
    pub(super) fn take(&mut self, from: NodeId, ms: f32, samples: u8, now: Time) {
        self.voices.retain(|voice| voice.from != from);
        if self.voices.len() == VOICES {
            // The oldest: they stand in the order in which they spoke.
            self.voices.remove(0);
        }
        self.voices.push(Voice { from, ms, samples, at: now });
    }

    /// The middle voice (the lower of two), and how many samples it counts for at `now`.
    pub(super) fn middle(&self, now: Time) -> Option<(f32, f32)> {
        let lately = self.news(now);
        let middle = lately.or_else(|| middle_of(self.voices.iter()))?;
        let samples: f32 = self.voices.iter().map(|voice| voice.weight(now)).sum();
        Some((middle, samples.min(COUNTS_FOR)))
    }

    /// The middle one of the voices that spoke lately, if they are enough: what changed is told by a few before the rest
    /// have seen it.
    pub(super) fn news(&self, now: Time) -> Option<f32> {
        let lately = || self.voices.iter().filter(|voice| now.since(voice.at) <= NEWS);
        (lately().count() >= QUORUM).then(|| middle_of(lately())).flatten()
    }

    /// How many spoke.
    pub(super) fn voices(&self) -> usize {
        self.voices.len()
    }
}

/// The lower of two.
fn middle_of<'a>(voices: impl Iterator<Item = &'a Voice>) -> Option<f32> {
    let mut sorted: SmallVec<[f32; VOICES]> = voices.map(|voice| voice.ms).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

impl Voice {
    fn weight(&self, now: Time) -> f32 {
        let halves = now.since(self.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
        f32::from(self.samples) / (1.0 + halves)
    }
}

/// What to believe, given what was learned and what was heard: each a mean and the samples that stand behind it.
pub(super) fn belief(own: Option<(f32, f32)>, heard: Option<(f32, f32)>) -> Option<f32> {
    match (own, heard) {
        (Some((own, samples)), Some((heard, more))) => {
            let heard = heard.clamp(own / WITHIN, own * WITHIN);
            Some((own * samples + heard * more) / (samples + more))
        }
        (one, other) => one.or(other).map(|(ms, _)| ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn heard(voices: &[(u64, f32)]) -> Heard {
        let mut heard = Heard::default();
        voices.iter().for_each(|(from, ms)| heard.take(NodeId(*from), *ms, 32, Time::ZERO));
        heard
    }

    /// A peer that says the same a hundred times is one voice.
    #[test]
    fn of_five_voices_two_may_lie_however_often_they_speak() {
        let mut said = vec![(1, 5.0), (2, 5.2), (3, 4.9)];
        said.extend((0..100).map(|k| (4 + k % 2, 3.6e6)));
        assert_eq!(heard(&said).middle(Time::ZERO).map(|(ms, _)| ms), Some(5.2));
        assert_eq!(heard(&[(1, 5.0), (2, 3.6e6)]).middle(Time::ZERO), Some((5.0, COUNTS_FOR)));
        assert_eq!(heard(&[]).middle(Time::ZERO), None);
    }

    /// Own samples win: the more there are, the less the others' word moves them, and never by more than the bound.
    #[test]
    fn own_samples_win_over_what_was_heard() {
        let lie = Some((3.6e6, COUNTS_FOR));
        let believed = |samples| belief(Some((5.0, samples)), lie).unwrap();
        assert!(believed(1.0) <= 5.0 * WITHIN && believed(8.0) <= 5.0 * 2.5 + 1e-3 && believed(32.0) <= 5.0 * 1.61);
        assert_eq!(belief(None, lie), Some(3.6e6));
        assert_eq!(belief(Some((5.0, 1.0)), None), Some(5.0));
    }

    proptest! {
        /// Whoever says what, a belief with own samples stays within the bound of them.
        #[test]
        fn no_voices_carry_a_belief_away(own in 0.001_f32..3.6e6, samples in 0.01_f32..32.0,
            said in vec((0_u64..9, 0.001_f32..3.6e6), 1..30)) {
            let believed = belief(Some((own, samples)), heard(&said).middle(Time::ZERO)).unwrap();
            prop_assert!(believed >= own / WITHIN * 0.999 && believed <= own * WITHIN * 1.001);
        }
    }
}
