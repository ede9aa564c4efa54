//! How much work nodes pick for, how old their news is, and so how much of it is unseen.

use std::sync::atomic::Ordering::Relaxed;

use crate::gossip::peer::News;
use crate::observe::SizeClass;
use crate::pick::Picker;
use crate::time::Time;

/// Memory of rates, seconds: long enough to smooth a burst, short enough to follow a deploy.
const MEMORY: f64 = 5.0;
/// Weight of one piece of news in the mean age of its kind: about the last twenty.
const AGE: f64 = 0.05;
/// Until there is news: a network hop and a flush.
const FIRST_AGE_MS: f64 = 2.0;
/// Older news counts as this old: one stalled peer's backlog must not widen every pick for long.
const MOST_AGE_MS: f64 = 1000.0;

#[derive(Debug)]
pub(super) struct Rates {
    looked_at: Time,
    picked: [u64; SizeClass::COUNT],
    /// Own requests per second, by class.
    own: [f64; SizeClass::COUNT],
    /// Own work, in pods: milliseconds of it per millisecond, small and heavy.
    own_work: [f64; 2],
    /// Mean age of news of small and heavy changes.
    age_ms: [f64; 2],
    /// Since the last look: work of requests that were heard of, ms, and the same times the age of the news.
    heard: (f64, f64),
    /// The same per second.
    heard_rate: (f64, f64),
    pub(super) freshness: Freshness,
}

/// How fresh the view is, against how fresh it must be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Freshness {
    /// Work of the others that was not heard of yet, ms.
    pub(super) unseen_ms: f64,
    /// The mean age of news, weighted by the work it is about.
    pub(super) age_ms: f64,
    /// The age at which the unseen work would fill the idle slots: beyond, the view is worth little. None where nothing
    /// was picked for yet.
    pub(super) critical_ms: Option<f64>,
    /// All work that is picked for, as a share of what the pods can do.
    pub(super) load: f64,
}

impl Rates {
    pub(super) fn new(now: Time) -> Rates {
        Rates {
            looked_at: now,
            picked: [0; SizeClass::COUNT],
            own: [0.0; SizeClass::COUNT],
            own_work: [0.0; 2],
            age_ms: [FIRST_AGE_MS; 2],
            heard: (0.0, 0.0),
            heard_rate: (0.0, 0.0),
            freshness: Freshness::default(),
        }
    }

    /// News arrived; `mean_ms` parts small from heavy.
    pub(super) fn hear(&mut self, news: &News, mean_ms: f64) {
        let cost_ms = news.class.typical().as_ms();
        let ms = (news.age.as_secs_f64() * 1e3).min(MOST_AGE_MS);
        let mean = &mut self.age_ms[usize::from(cost_ms > mean_ms)];
        *mean += AGE * (ms - *mean);
        if news.delta > 0 {
            let work = news.delta as f64 * cost_ms;
            self.heard.0 += work;
            self.heard.1 += work * ms;
        }
    }

    /// Measures the own rate, `picked` having been picked so far by class, and publishes what picks need of the others', who
    /// pick for `others` (in pods) where `capacity` is what the pods can do. `waits` says which classes are not told at once.
    pub(super) fn tick(
        &mut self,
        now: Time,
        picker: &Picker,
        picked: &[u64; SizeClass::COUNT],
        (others, capacity): (f64, f64),
        waits: impl Fn(SizeClass) -> bool,
    ) {
        let seconds = now.since(self.looked_at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        self.looked_at = now;
        let share = seconds / (seconds + MEMORY);
        let towards = |mean: &mut f64, sum: f64| *mean += share * (sum / seconds - *mean);
        let mean_ms = picker.mean_cost_ms();
        self.own_work = [0.0; 2];
        // Of classes that wait: work, and work times how long it is there.
        let mut waiting = (0.0, 0.0);
        for class in SizeClass::all() {
            let (k, cost_ms) = (class.index(), class.typical().as_ms());
            let rate = &mut self.own[k];
            towards(rate, picked[k].saturating_sub(self.picked[k]) as f64);
            let work = *rate * cost_ms / 1e3;
            self.own_work[usize::from(cost_ms > mean_ms)] += work;
            if waits(class) {
                let sojourn = f64::from(f32::from_bits(picker.hub().sojourn_ms[k].load(Relaxed)));
                waiting = (waiting.0 + work, waiting.1 + work * sojourn);
            }
        }
        self.picked = *picked;
        towards(&mut self.heard_rate.0, self.heard.0);
        towards(&mut self.heard_rate.1, self.heard.1);
        self.heard = (0.0, 0.0);
        // Work is unseen from its dispatch until the news of it, or for as long as it lasts where there never is any (it came
        // and went between two flushes): by Little, so much of it is there at any time.
        let never_heard = (others - self.heard_rate.0 / 1e3).max(0.0);
        let lasts = if waiting.0 > 0.0 { waiting.1 / waiting.0 } else { 0.0 };
        // Who claims absurd counts must not turn every pick into chance.
        let unseen_ms = (self.heard_rate.1 / 1e3 + never_heard * lasts).min(capacity * MOST_AGE_MS);
        let own: f64 = self.own_work.iter().sum();
        let (load, rate) = ((own + others) / capacity.max(1e-3), self.own.iter().sum::<f64>() / 1e3);
        let service_ms = (rate > 0.0).then(|| own / rate);
        self.freshness = Freshness {
            unseen_ms,
            age_ms: if others > 0.0 { unseen_ms / others } else { 0.0 },
            critical_ms: service_ms.filter(|_| load > 0.0).map(|service| service * (1.0 - load).max(0.0) / load),
            load,
        };
        let others_share = if others > 0.0 { others / (own + others) } else { 0.0 };
        let published = &picker.hub().published;
        published.unseen_ms.store((unseen_ms as f32).to_bits(), Relaxed);
        published.others.store((others_share as f32).to_bits(), Relaxed);
    }

    /// Own rates in thousandths of a pod, as the wire has them.
    pub(super) fn own_millis(&self) -> (u32, u32) {
        let milli = |rate: f64| (rate * 1e3) as u32;
        (milli(self.own_work[0]), milli(self.own_work[1]))
    }

    pub(super) fn news_age_ms(&self, heavy: bool) -> f64 {
        self.age_ms[usize::from(heavy)]
    }
}
