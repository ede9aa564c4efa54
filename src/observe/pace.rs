//! How fast one pod is beside the others: what this node and its peers saw of it lately, in requests that found it idle. And
//! which of those did not find it idle after all.
//!
//! A node of a hundred sees a pod idle once in ten seconds: by itself it would take minutes to tell a slow pod from chance.
//! So nodes tell each other what they saw since they told it last, each sample once; and whoever hears it treats it as seen,
//! but for bounds on what one peer's word counts. A liar alone makes no pod slow and none fast; it can hide that one is slow,
//! because words that are at odds prove nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use smallvec::SmallVec;

use crate::id::NodeId;
use crate::time::Time;

/// A sample counts for no more than so many times what it should have taken, and no less than one over it.
const CLIP: f64 = 8.0;
/// Words about one pod that are kept, the latest; of a peer, its last.
const WORDS: usize = 48;
/// A word of a peer's counts for so many samples at most.
const MAX_SAMPLES: u32 = 2;
/// Of the samples, by size, this share is left out at either end: one liar's. Much more would leave out the few long requests
/// among many short ones, where sizes tell nothing, and a mean without them wobbles by more than it seems.
const TRIMMED: f32 = 0.06;
/// After so long a word counts half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// A pace is not the others' where it is further from them than so many standard errors. So many because few long requests
/// among many short ones are far from a normal law, pods are many, and a pod that is wrongly slow is starved for minutes:
/// at four, 2 % of equal pods were wrong where sizes tell nothing.
const SURE: f32 = 8.0;
/// From the mean size of errors to their standard deviation: the root of pi / 2 for a normal law.
const DEVIATION: f32 = 1.2533;
/// Samples before a pace means anything: a pod that is twenty times as slow is known by eight.
const ENOUGH: f32 = 8.0;
/// Paces within this of the others' are theirs: what is noise must not move traffic.
const ALIKE: f32 = 0.25;
/// Bounds of a learned speed. A pod that is slower than the least is ill, and will be avoided for what is in flight there.
const SPEEDS: (f32, f32) = (0.1, 10.0);

/// What picks and tickets touch of a pod's pace.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Samples since the core took them last: how many, above [`Pace::SUM_BITS`], and the sum of what each took over what it
    /// should have, in 1/65,536. One number, so that the two are of the same samples.
    seen: AtomicU64,
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
            seen: AtomicU64::new(0),
            speed: AtomicU32::new(1.0_f32.to_bits()),
            timed_since: AtomicU64::new(0),
            surprises: AtomicU32::new(0),
        }
    }
}

impl Pace {
    /// Above it 65,535 samples have room, and below it as many that were all clipped.
    const SUM_BITS: u32 = 48;
    const ONE: f64 = 65_536.0;

    pub(crate) fn speed(&self) -> f64 {
        f64::from(f32::from_bits(self.speed.load(Relaxed)))
    }

    /// A request that found the pod idle took `ratio` times what it should have.
    pub(crate) fn saw(&self, ratio: f64) {
        let full = self.seen.load(Relaxed) >> Pace::SUM_BITS >= 60_000;
        if ratio.is_finite() && ratio > 0.0 && !full {
            let sample = (ratio.clamp(1.0 / CLIP, CLIP) * Pace::ONE) as u64;
            self.seen.fetch_add((1 << Pace::SUM_BITS) + sample, Relaxed);
        }
    }

    /// The samples since the last call: how many, and their mean.
    pub(crate) fn take(&self) -> Option<(u32, f32)> {
        let seen = if self.seen.load(Relaxed) == 0 { 0 } else { self.seen.swap(0, Relaxed) };
        let (count, sum) = (seen >> Pace::SUM_BITS, seen & ((1 << Pace::SUM_BITS) - 1));
        (count > 0).then(|| (count as u32, (sum as f64 / Pace::ONE / count as f64) as f32))
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
}

/// What was said of one pod, by this node and by others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// In the order in which they came.
    words: VecDeque<Word>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    /// None: this node's own.
    from: Option<NodeId>,
    ratio: f32,
    samples: u32,
    at: Time,
}

/// What its words say of a pod.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// What requests take over what they should.
    ratio: f32,
    /// Samples behind it.
    samples: f32,
    /// The mean size of one sample's error.
    spread: f32,
}

impl Words {
    /// `from` (this node itself for none) saw `samples` requests take `ratio` times what they should have.
    pub(crate) fn take(&mut self, from: Option<NodeId>, (samples, ratio): (u32, f32), now: Time) {
        let samples = if from.is_some() { samples.min(MAX_SAMPLES) } else { samples };
        if samples == 0 || ratio.is_nan() || ratio <= 0.0 {
            return;
        }
        if from.is_some() {
            self.words.retain(|word| word.from != from);
        }
        if self.words.len() == WORDS {
            self.words.pop_front();
        }
        let ratio = ratio.clamp(1.0 / CLIP as f32, CLIP as f32);
        self.words.push_back(Word { from, ratio, samples, at: now });
    }

    /// What this node saw itself: how many samples, as they count now, and their mean.
    pub(crate) fn own(&self, now: Time) -> Option<(u32, f32)> {
        let own = || self.words.iter().filter(|word| word.from.is_none());
        let samples: f32 = own().map(|word| word.weight(now)).sum();
        let sum: f32 = own().map(|word| word.weight(now) * word.ratio).sum();
        (samples >= 1.0).then(|| (samples as u32, sum / samples))
    }

    /// None where too little was said.
    fn estimate(&self, now: Time) -> Option<Estimate> {
        let ratios: Weighted = self.words.iter().map(|word| (word.ratio, word.weight(now))).collect();
        let samples: f32 = ratios.iter().map(|(_, weight)| weight).sum();
        if samples < ENOUGH {
            return None;
        }
        let ratio = mean_between(ratios, TRIMMED);
        // Of a mean of n, the error is a single one's over the root of n.
        let error = |word: &Word| (word.ratio - ratio).abs() * (word.samples as f32).sqrt();
        let errors: Weighted = self.words.iter().map(|word| (error(word), word.weight(now))).collect();
        Some(Estimate { ratio, samples, spread: mean_between(errors, TRIMMED) })
    }
}

impl Word {
    fn weight(&self, now: Time) -> f32 {
        let halves = now.since(self.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
        self.samples as f32 / (1.0 + halves)
    }
}

/// Values with their weights.
type Weighted = SmallVec<[(f32, f32); WORDS]>;

/// The mean without this share of the weight at either end, by value.
fn mean_between(mut values: Weighted, trimmed: f32) -> f32 {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let all: f32 = values.iter().map(|(_, weight)| weight).sum();
    let (from, to) = (trimmed * all, (1.0 - trimmed) * all);
    let (mut before, mut sum) = (0.0, 0.0);
    for (value, weight) in values {
        // What of it lies between the two ends.
        sum += value * ((before + weight).min(to) - f32::max(before, from)).max(0.0);
        before += weight;
    }
    sum / (to - from)
}

/// Compares paces with each other, and publishes speeds. All pods getting slower at once is a model that changed, and no
/// pod's speed.
pub(crate) fn compare<'a>(paces: impl Iterator<Item = (&'a Pace, Option<&'a Words>)>, now: Time) {
    let estimates: Vec<_> = paces.map(|(pace, words)| (pace, words.and_then(|words| words.estimate(now)))).collect();
    let known = || estimates.iter().filter_map(|(_, estimate)| *estimate);
    // Of the middle one: a few that are ill move nobody else. And the spread of all, because a pod that seems fast by chance
    // seems even as well; but a pod's own where that is more, because one word that is off (of a node that was stopped, of a
    // cold start) is no speed.
    let usual = middle(known().map(|estimate| estimate.ratio));
    let spread = middle(known().map(|estimate| estimate.spread));
    for (pace, estimate) in &estimates {
        let chance = |found: &Estimate| SURE * DEVIATION * spread.max(found.spread) / found.samples.max(1.0).sqrt();
        let off = estimate.filter(|found| (found.ratio - usual).abs() > chance(found));
        let speed = off.map_or(1.0, |found| usual / found.ratio);
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

    const NOW: Time = Time::ZERO;

    fn compared(paces: &[Pace], words: &mut [Words]) -> Vec<f64> {
        for (pace, words) in paces.iter().zip(words.iter_mut()) {
            pace.take().into_iter().for_each(|seen| words.take(None, seen, NOW));
        }
        compare(paces.iter().zip(words.iter().map(Some)), NOW);
        paces.iter().map(Pace::speed).collect()
    }

    fn speeds(ratios: &[f64]) -> Vec<f64> {
        let paces: Vec<Pace> = ratios.iter().map(|_| Pace::default()).collect();
        paces.iter().zip(ratios).for_each(|(pace, ratio)| (0..300).for_each(|_| pace.saw(*ratio)));
        compared(&paces, &mut vec![Words::default(); ratios.len()])
    }

    /// One pod of four takes twice as long: it is half as fast as the others, which are as usual.
    #[test]
    fn a_slow_pod_is_slow_beside_the_others() {
        assert_eq!(speeds(&[1.0, 1.0, 2.0, 1.0]), [1.0, 1.0, 0.5, 1.0]);
    }

    /// All pods get slower where a model does: that is no pod's speed, and nothing may move.
    #[test]
    fn all_pods_slower_alike_is_no_pods_speed() {
        assert_eq!(speeds(&[3.0, 3.1, 2.9]), [1.0; 3]);
        assert_eq!(speeds(&[30.0]), [1.0]);
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

    /// Where sizes tell nothing, most requests take a fifth of the mean and a few five times it: pods that are alike must stay
    /// alike whichever few each of them drew.
    #[test]
    fn chance_is_no_speed_where_sizes_tell_nothing() {
        let draw = |k: u64| if crate::pick::mix(k) % 100 < 15 { 5.4 } else { 0.22 };
        let mut off = 0;
        for trial in 0..200 {
            let paces: Vec<Pace> = (0..32).map(|_| Pace::default()).collect();
            let mut words = vec![Words::default(); 32];
            for (pod, words) in words.iter_mut().enumerate() {
                (0..48)
                    .for_each(|k| words.take(Some(NodeId(k)), (1, draw(trial * 10_000 + pod as u64 * 100 + k)), NOW));
            }
            off += compared(&paces, &mut words).iter().filter(|speed| **speed != 1.0).count();
        }
        assert!(off <= 3, "{off} of 6400 pods");
    }

    /// Where all requests take the same there is no spread, and one node that stood still for a while says eight times the truth.
    #[test]
    fn one_word_that_is_off_is_no_speed() {
        let paces = [Pace::default(), Pace::default(), Pace::default()];
        let mut words = vec![Words::default(); 3];
        for words in &mut words {
            (0..8).for_each(|peer| words.take(Some(NodeId(peer)), (1, 1.0), NOW));
        }
        words[1].take(Some(NodeId(9)), (2, 8.0), NOW);
        assert_eq!(compared(&paces, &mut words), [1.0; 3]);
    }

    /// Many peers that saw a pod once each are as good as one that saw it often; and one that lies about it, however often
    /// it speaks and whatever it claims, does not move it.
    #[test]
    fn peers_words_count_and_a_liars_does_not() {
        let paces = [Pace::default(), Pace::default(), Pace::default()];
        let mut words = vec![Words::default(); 3];
        for peer in 0..40 {
            for (words, ratio) in words.iter_mut().zip([1.0, 1.0, 2.0]) {
                words.take(Some(NodeId(peer)), (1, ratio), NOW);
            }
        }
        for _ in 0..100 {
            words[0].take(Some(NodeId(99)), (u32::MAX, 1e9), NOW);
            words[2].take(Some(NodeId(99)), (u32::MAX, 1e-9), NOW);
        }
        assert_eq!(compared(&paces, &mut words), [1.0, 1.0, 0.5]);
    }

    /// A pod that is replaced by a faster one, or falls ill, is known by what was seen of it lately.
    #[test]
    fn what_was_seen_lately_counts() {
        let paces = [Pace::default(), Pace::default(), Pace::default()];
        let mut words = vec![Words::default(); 3];
        let mut say = |ratio, seconds: u64| {
            for (words, ratio) in words.iter_mut().zip([1.0, 1.0, ratio]) {
                (0..20).for_each(|peer| {
                    words.take(Some(NodeId(peer)), (1, ratio), Time::from_nanos(seconds * 1_000_000_000))
                });
            }
        };
        say(1.0, 0);
        say(4.0, 10);
        say(4.0, 20);
        assert_eq!(compared(&paces, &mut words), [1.0, 1.0, 0.25]);
    }

    proptest! {
        /// Whatever is seen and said, speeds are numbers within their bounds, and little is kept.
        #[test]
        fn speeds_are_bounded(
            ratios in vec(vec(any::<f64>(), 0..40), 1..6), said in vec((0..4_u64, any::<u32>(), any::<f32>()), 0..100),
        ) {
            let paces: Vec<Pace> = ratios.iter().map(|_| Pace::default()).collect();
            paces.iter().zip(&ratios).for_each(|(pace, ratios)| ratios.iter().for_each(|ratio| pace.saw(*ratio)));
            let mut words = vec![Words::default(); paces.len()];
            said.iter().for_each(|(from, samples, ratio)| words[0].take(Some(NodeId(*from)), (*samples, *ratio), NOW));
            for speed in compared(&paces, &mut words) {
                prop_assert!((0.1..=10.01).contains(&speed), "{speed}");
            }
            prop_assert!(words[0].words.len() <= WORDS);
        }
    }
}
