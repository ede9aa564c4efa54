//! What is told at once and what waits, so that the news that matters most fits the budget.
//!
//! Telling one change costs a datagram to every peer, and the datagram's own overhead is most of it: what waits rides along
//! for nearly nothing. So one number decides all: *theta*, the size class from which a change is worth datagrams of its
//! own. It is not found by feedback. How often requests of each class come and go is counted, what a push to all peers
//! costs is known, and theta is the lowest class whose pushes, with those of all costlier ones, fit. What is left of the
//! budget goes into flushes of what waits.

use std::time::Duration;

use crate::mutant::{self, Mutant};
use crate::observe::SizeClass;
use crate::time::Time;

/// The share of the budget that is planned with: counts are of chance, and the rest is for their swings.
const PLANNED: f64 = 0.8;
/// What is told at once stays so until it takes this share, so that theta does not flutter between two classes.
const KEPT: f64 = 0.95;
/// At least this share is planned for changes whatever else is sent: introductions pass, and what changes meanwhile is
/// still worth most.
const AT_LEAST: f64 = 0.2;
/// Memory of rates, seconds: the costliest class comes a few times a second on a node, and theta must not follow each.
const MEMORY: f64 = 5.0;
/// Memory of what else is sent, seconds: a hundred nodes that meet spend ten seconds' worth on introductions, which says
/// nothing of what comes after.
const OTHER_MEMORY: f64 = 0.5;
/// Between two flushes: less makes no difference to news that is a hop old, more is the full row's.
const LEAST_FLUSH: Duration = Duration::from_millis(2);
const MOST_FLUSH: Duration = Duration::from_secs(1);
/// What waits is told when it has lasted this long, at the earliest. Told sooner, a request of 5 ms stands in everybody's
/// view until the next push, twenty times as long as it lasts: at 100 nodes on 1 Mbit/s that cost 2 % of the mean and 17 %
/// of the bytes; 80 ms are as good there.
const HOLD: Duration = Duration::from_millis(20);
/// Bytes of a push to one peer until one was measured, with all overhead.
const FIRST_COPY: f64 = 110.0;

#[derive(Debug)]
pub(crate) struct Pace {
    started: Time,
    looked_at: Time,
    /// Requests that came so far, by class, at the last look; each comes and goes.
    picked: [u64; SizeClass::COUNT],
    /// Changes per second, by class.
    rates: [f64; SizeClass::COUNT],
    /// Bytes since the last look: all, and those of pushes with their copies.
    spent: u64,
    pushed: (u64, u64),
    /// Bytes per second that are no pushes.
    other: f64,
    /// Bytes of a push to one peer.
    copy: f64,
    theta: usize,
    flush: Duration,
    /// The share of the work that goes at once.
    share: f64,
}

impl Pace {
    pub(crate) fn new(now: Time) -> Pace {
        Pace {
            started: now,
            looked_at: now,
            picked: [0; SizeClass::COUNT],
            rates: [0.0; SizeClass::COUNT],
            spent: 0,
            pushed: (0, 0),
            other: 0.0,
            copy: FIRST_COPY,
            theta: 0,
            flush: LEAST_FLUSH,
            share: 1.0,
        }
    }

    /// So many bytes were sent, whatever for.
    pub(crate) fn spent(&mut self, bytes: u64) {
        self.spent += bytes;
    }

    /// Of these, `bytes` were `copies` of a push.
    pub(crate) fn pushed(&mut self, copies: u64, bytes: u64) {
        self.pushed.0 += copies;
        self.pushed.1 += bytes;
    }

    /// Whether a change of `class` is told at once.
    pub(crate) fn at_once(&self, class: SizeClass) -> bool {
        class.index() >= self.theta || mutant::is(Mutant::IgnoreBudget)
    }

    /// About how many bytes a push to `copies` peers takes.
    pub(crate) fn push_bytes(&self, copies: f64) -> f64 {
        copies * self.copy
    }

    /// The costs from which changes are told at once, ms; 0 where all are.
    pub(crate) fn theta_ms(&self) -> f64 {
        if self.theta == 0 { 0.0 } else { SizeClass::new(self.theta as u8).map_or(f64::MAX, SizeClass::least_ms) }
    }

    /// Between two pushes of what waits.
    pub(crate) fn flush(&self) -> Duration {
        self.flush
    }

    /// How long something must have changed to be flushed: what comes and goes within is never told, and what lasts longer
    /// than the like of it is what the others go wrong by.
    pub(crate) fn hold(&self) -> Duration {
        self.flush.min(HOLD)
    }

    /// The share of the work that is told at once, 0 to 1, as planned.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// Measures, and plans anew. `picked` is how many requests of each class came so far; `copies` is how many peers a
    /// push goes to.
    pub(crate) fn tick(&mut self, now: Time, picked: &[u64; SizeClass::COUNT], bytes_per_s: f64, copies: f64) {
        let seconds = now.since(self.looked_at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        self.looked_at = now;
        // A plain mean until there is enough to remember: nothing was seen before the start, not nothing at all.
        let share = seconds / now.since(self.started).as_secs_f64().min(MEMORY);
        for class in SizeClass::all() {
            let k = class.index();
            let rate = 2.0 * picked[k].saturating_sub(self.picked[k]) as f64 / seconds;
            self.rates[k] += share * (rate - self.rates[k]);
        }
        self.picked = *picked;
        let other = self.spent.saturating_sub(self.pushed.1) as f64 / seconds;
        self.other += seconds / (seconds + OTHER_MEMORY) * (other - self.other);
        if self.pushed.0 > 0 {
            self.copy += share * (self.pushed.1 as f64 / self.pushed.0 as f64 - self.copy);
        }
        (self.spent, self.pushed) = (0, (0, 0));
        self.plan(bytes_per_s, copies);
    }

    fn plan(&mut self, bytes_per_s: f64, copies: f64) {
        // Pushes per second that a share of the budget pays for.
        let pays = |share: f64| {
            let room = (share * bytes_per_s - self.other).max(AT_LEAST * bytes_per_s);
            room / (copies.max(1.0) * self.copy)
        };
        let (planned, kept) = (pays(PLANNED), pays(KEPT));
        let (mut pushes, mut theta) = (0.0, SizeClass::COUNT);
        for k in (0..SizeClass::COUNT).rev() {
            let with = pushes + self.rates[k];
            // The costliest there is goes at once whatever it takes: it matters most, and whatever waits rides along.
            let fits = pushes == 0.0 || with <= if k >= self.theta { kept } else { planned };
            if !fits {
                break;
            }
            (pushes, theta) = (with, k);
        }
        self.theta = theta;
        self.flush = flush_after(pushes, planned);
        let work = |from: usize| {
            let cost = |class: SizeClass| self.rates[class.index()] * class.typical().as_ms();
            SizeClass::all().skip(from).map(cost).sum::<f64>()
        };
        let all = work(0);
        self.share = if all > 0.0 { work(theta) / all } else { 1.0 };
    }
}

/// How long after the last push what waits is flushed, so that there are `most` pushes per second in all, where `at_once`
/// come by chance. Between two pushes lies the lesser of T and an exponential time of mean 1 / `at_once`, in the mean
/// (1 - e^(-`at_once` T)) / `at_once`; that is 1 / `most`.
fn flush_after(at_once: f64, most: f64) -> Duration {
    let chance = at_once / most;
    let seconds = if chance >= 1.0 {
        f64::MAX
    } else if chance < 1e-6 {
        1.0 / most
    } else {
        -(1.0 - chance).ln() / at_once
    };
    Duration::from_secs_f64(seconds.clamp(LEAST_FLUSH.as_secs_f64(), MOST_FLUSH.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Cost;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn class(ms: f64) -> SizeClass {
        SizeClass::of(Cost::from_ms(ms).unwrap())
    }

    /// A pace that looked for `seconds`, while so many requests of each cost came per second, from the start and evenly.
    /// Pushes take 100 bytes for each of `copies`.
    fn paced(mut pace: Pace, from: u64, seconds: u64, costs: &[(f64, f64)], copies: usize, bits: f64) -> Pace {
        for tick in from * 10 + 1..=(from + seconds) * 10 {
            pace.spent(100 * copies as u64);
            pace.pushed(copies as u64, 100 * copies as u64);
            let mut picked = pace.picked;
            for (ms, rate) in costs {
                let by = |tick: u64| (rate * tick as f64 / 10.0) as u64;
                picked[class(*ms).index()] += by(tick) - by(tick - 1);
            }
            pace.tick(at(tick * 100), &picked, bits / 8.0, copies as f64);
        }
        pace
    }

    /// The reference mix, 24.5 requests a second on each of 100 nodes: 15 % of 120 ms, the rest of 5 ms. All of it is 49
    /// pushes of 9,900 bytes: 485 kB/s. The heavy alone are 73 kB/s, and 81 % of the work.
    #[test]
    fn theta_is_the_lowest_that_fits_the_budget() {
        let mix = [(120.0, 3.68), (5.0, 20.8)];
        let of = |bits| paced(Pace::new(at(0)), 0, 20, &mix, 99, bits);
        let (poor, usual, rich) = (of(250_000.0), of(1e6), of(6e6));
        for pace in [&poor, &usual, &rich] {
            assert!(pace.at_once(class(120.0)), "the costliest goes at once whatever it takes");
        }
        assert!(!usual.at_once(class(5.0)) && (0.7..0.9).contains(&usual.share()), "{usual:?}");
        assert!((5.0..120.0).contains(&usual.theta_ms()));
        assert_eq!((rich.theta_ms(), rich.share()), (0.0, 1.0));
        // Nothing is left for flushes of what waits but the row of every second.
        assert_eq!(poor.flush(), MOST_FLUSH);
    }

    /// Ten pushes a second fit, 7.4 come by chance: with a flush where nothing came for so long, it is ten in all.
    #[test]
    fn flushes_take_what_is_left_of_the_budget() {
        assert_eq!(flush_after(0.0, 10.0), Duration::from_millis(100));
        let after = flush_after(7.4, 10.0).as_secs_f64();
        let between = (1.0 - (-7.4 * after).exp()) / 7.4;
        assert!((between - 0.1).abs() < 1e-6, "{between}");
        assert_eq!(flush_after(12.0, 10.0), MOST_FLUSH);
        assert_eq!(flush_after(0.0, 1e9), LEAST_FLUSH);
    }

    /// What fits only just must not be told at once in one second and late in the next: each class that was let in stays
    /// until it takes more than all of the plan.
    #[test]
    fn theta_does_not_flutter() {
        let mix = |small: f64| [(120.0, 1.0), (5.0, small)];
        // 100 kB/s are planned for pushes of 9,900 bytes: 10.1 a second, of which two are heavy.
        let mut pace = paced(Pace::new(at(0)), 0, 20, &mix(3.5), 99, 1e6);
        assert_eq!(pace.theta_ms(), 0.0);
        pace = paced(pace, 20, 20, &mix(4.3), 99, 1e6);
        assert_eq!(pace.theta_ms(), 0.0, "kept where it would not be taken in");
        pace = paced(pace, 40, 20, &mix(8.0), 99, 1e6);
        assert!(!pace.at_once(class(5.0)));
        pace = paced(pace, 60, 20, &mix(4.3), 99, 1e6);
        assert!(!pace.at_once(class(5.0)), "not taken in where it would be kept");
    }

    /// Introductions of a hundred nodes take ten seconds' budget; a second after them the plan must be the usual one.
    #[test]
    fn a_flood_of_introductions_is_forgotten_in_seconds() {
        let mix = [(120.0, 3.68), (5.0, 20.8)];
        let calm = paced(Pace::new(at(0)), 0, 20, &mix, 99, 6e6);
        let mut flooded = paced(Pace::new(at(0)), 0, 20, &mix, 99, 6e6);
        flooded.spent(7_500_000);
        flooded = paced(flooded, 20, 1, &mix, 99, 6e6);
        assert!(flooded.theta_ms() > 0.0, "while it lasts, only what matters goes at once");
        flooded = paced(flooded, 21, 4, &mix, 99, 6e6);
        assert_eq!(flooded.theta_ms(), calm.theta_ms());
    }

    /// The first tenth of a second is all there is to go by: a plan must not wait five seconds for its first count.
    #[test]
    fn the_first_counts_are_taken_as_they_are() {
        let pace = paced(Pace::new(at(0)), 0, 1, &[(120.0, 40.0), (5.0, 400.0)], 99, 1e6);
        assert!(!pace.at_once(class(5.0)));
    }
}
