//! What is told at once and what waits, so that the news that matters most fits the budget.
//!
//! Telling one change costs a datagram to every peer, and the datagram's own overhead is most of it: what waits rides along
//! for nearly nothing. So one number decides all: *theta*, the size class from which a change is worth datagrams of its
//! own. It is not found by feedback. How often requests of each class come and go is counted, what a push to all peers
//! costs is known, and theta is the lowest class whose pushes, with those of all costlier ones, fit. What is left of the
//! budget goes into flushes of what waits.

use std::time::Duration;

use super::wire::OVERHEAD;
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
/// A relay holds news for so long, that more of it goes in one datagram. Of requests of 22 ms at 2 Mbit/s, with 300 nodes
/// and 150 pods: at 5 ms the mean was 47.3 ms instead of 43.3 at 15, for a tenth more bytes; of 50 ms at 1 Mbit/s 117 ms
/// at 15, 115 at 30.
pub(crate) const HOLD_BY_RELAYS: Duration = Duration::from_millis(30);
/// Relays are used where they tell what waits so many times as often as telling it directly: news is one hop and the hold
/// older. Once used, they are until it is less than so many times.
const PAYS: f64 = 1.5;
const PAYS_STILL: f64 = 1.3;
/// And where so much of the work is in requests that cost about alike, of which none matters more than the others. Where
/// costs are spread, what matters goes at once and the rest is hardly worth a datagram, relayed or not: with costs as
/// by chance (0.6 of the work) the mean was 72 ms with relays and 68 without, with 5 ms beside 120 ms (0.2) 34 and 31.
const ALIKE: f64 = 0.8;
const ALIKE_STILL: f64 = 0.7;
/// With relays, what costs less than so many times the mean is not told at once.
const MATTERS: f64 = 2.0;
/// Bytes of a piece of news that is passed on: whose, which, how old, and an entry or two.
const PIECE: f64 = 22.0;
/// Memory of what is passed on for others, seconds: all slow down together where that is too much, and must not
/// overshoot.
const RELAY_MEMORY: f64 = 2.0;
/// At least this share of what is left for flushes goes into one's own, however much others ask for.
const LEAST_OWN: f64 = 0.03;
/// Between two flushes: less makes no difference to news that is a hop old, more is the full row's.
const LEAST_FLUSH: Duration = Duration::from_millis(2);
const MOST_FLUSH: Duration = Duration::from_secs(1);
/// What waits is told when it has lasted this long, at the earliest. Told sooner, a request of 5 ms stands in everybody's
/// view until the next push, twenty times as long as it lasts: at 100 nodes on 1 Mbit/s that cost 2 % of the mean and 17 %
/// of the bytes; 80 ms are as good there.
const HOLD: Duration = Duration::from_millis(20);
/// Bytes of a push to one peer until one was measured, with all overhead.
const FIRST_COPY: f64 = 110.0;

/// What a plan with relays must know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relays {
    /// How many groups the users of a pod are in.
    pub(crate) groups: f64,
    /// The mean cost of requests, ms.
    pub(crate) mean_ms: f64,
    /// Whether they are used even where that is worth nothing.
    pub(crate) always: bool,
}

#[derive(Debug)]
pub(crate) struct Pace {
    started: Time,
    looked_at: Time,
    /// Requests that came so far, by class, at the last look; each comes and goes.
    picked: [u64; SizeClass::COUNT],
    /// Changes per second, by class.
    rates: [f64; SizeClass::COUNT],
    /// Bytes since the last look: all, those of pushes with their copies, those of flushes by relays with how many these
    /// were, and what was passed on for others.
    spent: u64,
    pushed: (u64, u64),
    flushed: (u64, u64),
    relayed: u64,
    /// Bytes per second that are none of these.
    other: f64,
    /// Bytes of a push to one peer.
    copy: f64,
    /// Bytes of a flush by relays; none where none was measured yet.
    relayed_flush: Option<f64>,
    /// Bytes per second that are passed on for others.
    for_others: f64,
    theta: usize,
    /// Whether flushes go by relays.
    by_relays: bool,
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
            flushed: (0, 0),
            relayed: 0,
            other: 0.0,
            copy: FIRST_COPY,
            relayed_flush: None,
            for_others: 0.0,
            theta: 0,
            by_relays: false,
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

    /// Of these, `bytes` were a flush by relays.
    pub(crate) fn flushed_by_relays(&mut self, bytes: u64) {
        self.flushed.0 += 1;
        self.flushed.1 += bytes;
    }

    /// Of these, `bytes` were passed on for others.
    pub(crate) fn relayed(&mut self, bytes: u64) {
        self.relayed += bytes;
    }

    /// Whether a change of `class` is told at once.
    pub(crate) fn at_once(&self, class: SizeClass) -> bool {
        class.index() >= self.theta || mutant::is(Mutant::IgnoreBudget)
    }

    /// Whether what waits is flushed by relays.
    pub(crate) fn by_relays(&self) -> bool {
        self.by_relays
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
    /// push goes to; `relays` is for where flushes may go by relays.
    pub(crate) fn tick(
        &mut self,
        now: Time,
        picked: &[u64; SizeClass::COUNT],
        bytes_per_s: f64,
        copies: f64,
        relays: Option<Relays>,
    ) {
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
        let of_news = self.pushed.1 + self.flushed.1 + self.relayed;
        let other = self.spent.saturating_sub(of_news) as f64 / seconds;
        self.other += seconds / (seconds + OTHER_MEMORY) * (other - self.other);
        self.for_others += seconds / (seconds + RELAY_MEMORY) * (self.relayed as f64 / seconds - self.for_others);
        if self.pushed.0 > 0 {
            self.copy += share * (self.pushed.1 as f64 / self.pushed.0 as f64 - self.copy);
        }
        if self.flushed.0 > 0 {
            let each = self.flushed.1 as f64 / self.flushed.0 as f64;
            let before = self.relayed_flush.unwrap_or(each);
            self.relayed_flush = Some(before + share * (each - before));
        }
        (self.spent, self.pushed, self.flushed, self.relayed) = (0, (0, 0), (0, 0), 0);
        self.plan(bytes_per_s, copies, relays);
    }

    fn plan(&mut self, bytes_per_s: f64, copies: f64, relays: Option<Relays>) {
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
        // A few requests say nothing of how costs are spread.
        let knows = self.looked_at.since(self.started).as_secs_f64() >= MEMORY;
        let relays = relays.filter(|relays| theta > 0 && (knows || relays.always));
        self.by_relays = relays.is_some_and(|relays| self.plan_relays(planned, copies, relays));
        let all = self.work(0);
        self.share = if all > 0.0 { self.work(self.theta) / all } else { 1.0 };
    }

    /// How much work a second is in changes of the classes from `from` on, ms.
    fn work(&self, from: usize) -> f64 {
        let cost = |class: SizeClass| self.rates[class.index()] * class.typical().as_ms();
        SizeClass::all().skip(from).map(cost).sum()
    }

    /// Plans with relays, where that is worth it; says whether it is. Then only what matters more than others goes at once.
    fn plan_relays(&mut self, planned: f64, copies: f64, relays: Relays) -> bool {
        let matters = |class: &SizeClass| class.typical().as_ms() >= MATTERS * relays.mean_ms;
        let heavy = SizeClass::all().filter(matters).map(SizeClass::index).min().unwrap_or(SizeClass::COUNT);
        let pushes = self.rates[heavy..].iter().sum::<f64>();
        let (alike, gain) = if self.by_relays { (ALIKE_STILL, PAYS_STILL) } else { (ALIKE, PAYS) };
        let push = copies.max(1.0) * self.copy;
        let room = (planned - pushes).max(0.0) * push;
        let spread = self.work(heavy) > (1.0 - alike) * self.work(0);
        let flushes = flushes_by_relays(room, copies, relays.groups, self.copy);
        let rarely = flushes <= gain * room / push;
        if (spread || rarely) && !relays.always {
            return false;
        }
        self.theta = heavy;
        // What is passed on for others is the price of one's own flushes: they pass these on. It is taken off here, never
        // from what goes at once.
        let left = (room - self.for_others).max(LEAST_OWN * room);
        let each = self.relayed_flush.unwrap_or(relays.groups * self.copy);
        self.flush = flush_after(pushes, pushes + (left / each).min(flushes).max(1e-6));
        true
    }
}

/// How often per second `room` bytes per second pay for a flush to `copies` users in `groups`, on every node: each of
/// them tells one relay of each group and passes on as much as is told by it, and in one datagram whatever comes while it
/// holds news. The oftener all flush, the more that is, and the less each costs.
fn flushes_by_relays(room: f64, copies: f64, groups: f64, copy: f64) -> f64 {
    let (copies, groups) = (copies.max(1.0), groups.max(1.0));
    let mut flushes = 0.0;
    // From below: each step makes it cheaper, by less each time.
    for _ in 0..32 {
        let together = 1.0 + flushes * groups * HOLD_BY_RELAYS.as_secs_f64();
        flushes = room / (groups * copy + copies * (PIECE + OVERHEAD as f64 / together));
    }
    flushes
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
            pace.tick(at(tick * 100), &picked, bits / 8.0, copies as f64, None);
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
        // Nothing is left for flushes of what waits but the next whole row.
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

    /// Requests of 50 ms alone, 8.5 a second on each of 300 nodes of which 128 use a pod: 17 pushes a second of 12,800 bytes
    /// are 218 kB/s, and 100 are planned, so that direct flushes come 7.8 a second. By relays in twelve groups a flush is
    /// 1,200 bytes of one's own and, eight pieces in a datagram, 4,000 for others: 2.5 times as many. Of 5 ms beside 120 ms
    /// most of the work is told at once, and relays are not for the rest.
    #[test]
    fn relays_are_used_where_most_is_small_news_and_they_tell_it_oftener() {
        let plan = |costs: &[(f64, f64)], mean_ms: f64, bits: f64, always: bool| {
            let mut pace = paced(Pace::new(at(0)), 0, 20, costs, 128, bits);
            pace.plan(bits / 8.0, 128.0, Some(Relays { groups: 12.0, mean_ms, always }));
            pace
        };
        let alike = plan(&[(50.0, 8.5)], 50.0, 1e6, false);
        assert!(alike.by_relays() && !alike.at_once(class(50.0)));
        assert!((0.02..0.1).contains(&alike.flush().as_secs_f64()), "{:?}", alike.flush());
        let by_relays = flushes_by_relays(1e5, 128.0, 12.0, 100.0);
        assert!((18.0..21.0).contains(&by_relays), "{by_relays}");
        // What it says it can do is what it costs.
        let together = 1.0 + by_relays * 12.0 * 0.03;
        let cost = by_relays * (12.0 * 100.0 + 128.0 * (22.0 + 73.0 / together));
        assert!((cost / 1e5 - 1.0).abs() < 0.01, "{cost}");
        let mixed = [(120.0, 2.9), (5.0, 16.3)];
        assert!(!plan(&mixed, 22.0, 1e6, false).by_relays());
        let forced = plan(&mixed, 22.0, 1e6, true);
        assert!(forced.by_relays() && forced.at_once(class(120.0)) && !forced.at_once(class(5.0)));
        // Everything fits at once: nothing is left for relays, wanted or not.
        assert!(!plan(&[(50.0, 8.5)], 50.0, 4e6, true).by_relays());
    }

    /// What is passed on for others comes out of one's own flushes, never out of what goes at once.
    #[test]
    fn what_is_passed_on_slows_flushes_and_leaves_theta() {
        let mixed = [(120.0, 2.9), (5.0, 16.3)];
        let relays = Some(Relays { groups: 12.0, mean_ms: 22.0, always: true });
        let mut pace = paced(Pace::new(at(0)), 0, 20, &mixed, 128, 1e6);
        pace.plan(1e6 / 8.0, 128.0, relays);
        let (theta, flush) = (pace.theta_ms(), pace.flush());
        for tick in 201..260 {
            pace.spent(2500);
            pace.relayed(2500);
            let mut picked = pace.picked;
            picked[class(120.0).index()] += u64::from(tick % 3 == 0);
            pace.tick(at(tick * 100), &picked, 1e6 / 8.0, 128.0, relays);
        }
        assert_eq!(pace.theta_ms(), theta);
        assert!(pace.flush() > flush, "{:?} {flush:?}", pace.flush());
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
