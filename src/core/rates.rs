//! How much work nodes pick for, how old their news is, and so how much of it is unseen.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::pick::Picker;
use crate::time::Time;

/// Memory of the own rate: long enough to smooth a burst, short enough to follow a deploy.
const MEMORY: f64 = 5.0;
/// Weight of one piece of news in the mean age: about the last twenty.
const AGE: f64 = 0.05;
/// Until there is news: a network hop and a flush.
const FIRST_AGE_MS: f64 = 2.0;

#[derive(Debug)]
pub(super) struct Rates {
    looked_at: Time,
    picked_us: [u64; 2],
    /// Own rate in pods: milliseconds of work per millisecond, small and heavy.
    own: [f64; 2],
    age_ms: [f64; 2],
    unseen_ms: f64,
    /// All work there is, over what all pods can do; and how old news of the others' is, ms.
    load: f64,
    unseen_age_ms: f64,
}

impl Rates {
    pub(super) fn new(now: Time) -> Rates {
        Rates {
            looked_at: now,
            picked_us: [0; 2],
            own: [0.0; 2],
            age_ms: [FIRST_AGE_MS; 2],
            unseen_ms: 0.0,
            load: 0.0,
            unseen_age_ms: 0.0,
        }
    }

    /// News of a heavy or small change arrived, this old.
    pub(super) fn hear(&mut self, heavy: bool, age: Duration) {
        let mean = &mut self.age_ms[usize::from(heavy)];
        // One stalled peer's backlog must not widen every pick for long.
        let ms = (age.as_secs_f64() * 1e3).min(1000.0);
        *mean += AGE * (ms - *mean);
    }

    /// Measures the own rate and publishes what picks need of the others'.
    pub(super) fn tick(&mut self, now: Time, picker: &Picker, others: [f64; 2], capacity: f64) {
        let seen = &picker.shared().seen;
        let seconds = now.since(self.looked_at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        self.looked_at = now;
        let share = seconds / (seconds + MEMORY);
        self.unseen_ms = 0.0;
        for (class, others) in others.iter().enumerate() {
            let picked = seen.picked_us[class].load(Relaxed);
            let rate = (picked - self.picked_us[class]) as f64 / 1e6 / seconds;
            self.picked_us[class] = picked;
            self.own[class] += share * (rate - self.own[class]);
            // Work can be unseen no longer than it takes to be done (Little): what is older is not there any more.
            let sojourn = f64::from(f32::from_bits(seen.sojourn_ms[class].load(Relaxed)));
            let age = if sojourn > 0.0 { self.age_ms[class].min(sojourn) } else { self.age_ms[class] };
            self.unseen_ms += others * age;
        }
        let (own, others): (f64, f64) = (self.own.iter().sum(), others.iter().sum());
        self.load = if capacity > 0.0 { (own + others) / capacity } else { 0.0 };
        self.unseen_age_ms = if others > 0.0 { self.unseen_ms / others } else { 0.0 };
        let others_share = if others > 0.0 { others / (own + others) } else { 0.0 };
        let published = &picker.shared().published;
        published.unseen_ms.store((self.unseen_ms as f32).to_bits(), Relaxed);
        published.others.store((others_share as f32).to_bits(), Relaxed);
    }

    /// Own rates in thousandths of a pod, as the wire has them.
    pub(super) fn own_millis(&self) -> (u32, u32) {
        let milli = |rate: f64| (rate * 1e3) as u32;
        (milli(self.own[0]), milli(self.own[1]))
    }

    pub(super) fn load(&self) -> f64 {
        self.load
    }

    /// How old news is beside the age at which a view stops being of use: what arrives unseen then would fill all that is
    /// free, `mean x (1 - load) / load`. Where nothing is free it is of no use at any age.
    pub(super) fn age_over_critical(&self, mean_cost_ms: f64) -> f64 {
        let free = 1.0 - self.load.min(0.999);
        if mean_cost_ms > 0.0 { self.unseen_age_ms * self.load / (mean_cost_ms * free) } else { 0.0 }
    }

    pub(super) fn unseen_ms(&self) -> f64 {
        self.unseen_ms
    }

    pub(super) fn news_age_ms(&self, heavy: bool) -> f64 {
        self.age_ms[usize::from(heavy)]
    }
}
