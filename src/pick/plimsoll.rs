//! The default: staleness-aware water-filling.
//!
//! Each part of a pod (a slot, or the batch that is open) has a *height*: how long a new request would wait there, by all
//! that is known; for a batch, what it costs the pod's requests together. What is not known is the work
//! that other nodes put on pods and that this node has not heard of yet; its amount is known, though (rate of work times
//! age of the news). So: pour that much work over the pods as if it were water, and of the request itself the share that
//! others may be placing just now; it settles in the low ones, up to one level; and put the request where a random drop
//! of it falls. Alone or on fresh news: little water, all of it in the lowest pod, greedy and exact. Old news: much
//! water, spread wide, no herd. How much is poured hardly matters: half of the unseen work, or half as much again, makes the
//! mean at most 2 % worse, so the estimates of rates and ages may be that wrong.
//!
//! After Dahlin (interpreting stale load information) and Goren, Vargaftik, Moses (stochastic coordination, DISC 2020),
//! with a residual clock, an even draw, and heavy requests spread wider.

use std::cell::Cell;

use super::candidates::{Candidate, Candidates};
use super::p2c::better_of_two;
use super::policy::{Context, Policy, PolicyKind, Rung};
use super::round_robin::shuffled;
use super::scratch::Scratch;
use crate::mutant::{self, Mutant};
use crate::observe::Part;

/// Heavy requests pour this much more: a heavy one on a wrong pod costs everybody behind it. Worth 10 % of the wait on
/// two-sized mixes at 10 ms of age, within 2.5 % elsewhere.
const HEAVY_SPREAD: f32 = 3.0;
/// A request in batches pours more: what batches gain (4, say) to the power of this times how like the mean request it is,
/// up to so many times as much. Batches of requests that are alike fill by themselves, and aiming at one that is open brings
/// everybody there; unlike ones must find their like, and pour hardly more. All of 20 ms, at three times the load that pods
/// could do one by one (seed 12, 5 s): 56 / 87 ms instead of 65 / 111 (mean / p99), with news 10 ms old 69 instead of 86;
/// 5 and 120 ms, at twice that load: 87.3 / 663 and 86.7 / 669.
const ALIKE_POWER: f32 = 2.0;
const MOST_FOR_ALIKE: f32 = 16.0;
/// The least that is poured, ms: a request without cost still goes to the lowest pod.
const LEAST_POURED: f32 = 1e-3;

thread_local! {
    static VESSELS: Cell<Vec<Vessel>> = const { Cell::new(Vec::new()) };
    static WET: Cell<Vec<Vessel>> = const { Cell::new(Vec::new()) };
    static OWNERS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

pub(super) struct Plimsoll;

impl Policy for Plimsoll {
    fn name(&self) -> &'static str {
        PolicyKind::Plimsoll.name()
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        match context.rung {
            Rung::Fill => fill(pods, context),
            Rung::TwoChoices => better_of_two(pods.len(), context, |k| lowest(&pods.at(k), context).bottom),
            Rung::Shuffled => shuffled(pods.len(), context),
        }
    }

    fn reads_parts(&self) -> bool {
        true
    }
}

fn fill(pods: &Candidates<'_>, context: &Context) -> usize {
    let spread = if context.heavy { HEAVY_SPREAD } else { 1.0 };
    let water = (context.unseen_ms * spread + context.others * context.cost_ms).max(LEAST_POURED);
    let water = water * more_for_alike(context);
    let mut vessels = Scratch::of(&VESSELS);
    pods.collect(&mut vessels, |pod| lowest(&pod, context));
    let lowest = lowest_of(&vessels);
    // All the water in the lowest alone would stand so high: nothing above takes any.
    let most = vessels[lowest].bottom + water / vessels[lowest].width;
    let (mut wet, mut owners) = (Scratch::of(&WET), Scratch::of(&OWNERS));
    for (k, vessel) in vessels.iter().enumerate().filter(|(_, vessel)| vessel.bottom < most) {
        wet.push(*vessel);
        owners.push(k as u32);
    }
    if mutant::is(Mutant::FirstOfEquals) {
        return lowest;
    }
    let mut surface = level(&wet, water, most);
    if owners.iter().any(|k| pods.at(*k as usize).has_others()) {
        // The other parts of a pod take water only below the level that stands without them, and lower it.
        wet.clear();
        owners.clear();
        for (k, vessel) in vessels.iter().enumerate().filter(|(_, vessel)| vessel.bottom <= surface) {
            let pod = pods.at(k);
            let mut add = |vessel: Vessel| {
                wet.push(vessel);
                owners.push(k as u32);
            };
            add(*vessel);
            pod.others(|part| {
                let vessel = Vessel::of(&part, &pod, context);
                let takes = vessel.bottom < surface;
                if takes {
                    add(vessel);
                }
                takes
            });
        }
        surface = level(&wet, water, surface);
    }
    if wet.is_empty() {
        // Too little water to be told from none.
        return lowest;
    }
    // Nodes begin at pods of their own.
    let start = (context.draw.phase() % pods.len() as u64) as u32;
    let start = owners.partition_point(|owner| *owner < start);
    owners[drop_into(&wet, surface, water * context.draw.even(), start)] as usize
}

/// How many times as much is poured for a request in batches of its like.
fn more_for_alike(context: &Context) -> f32 {
    let gain = context.batches.gain;
    if gain <= 1.0 { 1.0 } else { gain.powf(ALIKE_POWER * context.alike).min(MOST_FOR_ALIKE) }
}

/// The lowest part of the pod.
#[inline]
fn lowest(pod: &Candidate<'_>, context: &Context) -> Vessel {
    Vessel::of(&pod.lowest(), pod, context)
}

/// Where the lowest of `vessels` stands; the first of equals. In four running minima first, for vector code.
fn lowest_of(vessels: &[Vessel]) -> usize {
    let mut least = [f32::INFINITY; 4];
    let (fours, rest) = vessels.as_chunks::<4>();
    for four in fours {
        (0..4).for_each(|lane| least[lane] = lower(least[lane], four[lane].bottom));
    }
    let least = rest.iter().map(|vessel| vessel.bottom).chain(least).fold(f32::INFINITY, lower);
    vessels.iter().position(|vessel| vessel.bottom == least).unwrap_or(0)
}

fn lower(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// A part of a pod as a vessel: it is `bottom` full, and one ms of level takes `width` ms of work.
#[derive(Clone, Copy, Debug)]
struct Vessel {
    bottom: f32,
    width: f32,
}

impl Vessel {
    /// How long until the request would be done at a slot. In a batch: until that is over, and what it costs the others in
    /// it and those after it; and a batch does the work of several.
    #[inline]
    fn of(part: &Part, pod: &Candidate<'_>, context: &Context) -> Vessel {
        let (weight, slowness) = pod.speed();
        let width = weight * part.slots;
        match part.open {
            None => Vessel { bottom: part.wait_ms + context.cost_ms * slowness, width },
            Some(open) => {
                let law = &context.batches;
                let here = law.marginal(open.requests, open.ms, context.class_ms * slowness);
                Vessel { bottom: part.wait_ms + here, width: width * law.gain }
            }
        }
    }
}

impl Vessel {
    /// Its width, or nothing where it stands above `level`.
    fn wet_width(&self, level: f32) -> f32 {
        if self.bottom < level { self.width } else { 0.0 }
    }

    fn holds(&self, level: f32) -> f32 {
        self.width * (level - self.bottom).max(0.0)
    }
}

/// The level at which the vessels together hold `water`: sum of width x (level - bottom)+ = water. It is not above `most`.
///
/// Each pass drops the vessels that stand above the level, which lowers it; it settles in two to five passes, and after as
/// many passes as there are vessels at the latest.
fn level(pods: &[Vessel], water: f32, most: f32) -> f32 {
    let mut level = most;
    for _ in 0..=pods.len() {
        let next = level_of_wet(pods, level, water);
        if next < level {
            level = next;
        } else {
            // Settled; or nothing is wet (not a number), and the level before is as good as floating point gets.
            break;
        }
    }
    level
}

/// The level that `water` would reach in the vessels whose bottom is below `level`, if it stood in all of them. Without
/// branches and in four sums, which the compiler turns into vector code: three times as fast as one sum over a filter.
fn level_of_wet(pods: &[Vessel], level: f32, water: f32) -> f32 {
    let (mut sums, mut widths) = ([0.0; 4], [0.0; 4]);
    let (fours, rest) = pods.as_chunks::<4>();
    for four in fours {
        for lane in 0..4 {
            let width = four[lane].wet_width(level);
            sums[lane] += width * four[lane].bottom;
            widths[lane] += width;
        }
    }
    for (lane, pod) in rest.iter().enumerate() {
        let width = pod.wet_width(level);
        sums[lane] += width * pod.bottom;
        widths[lane] += width;
    }
    (water + sums.iter().sum::<f32>()) / widths.iter().sum::<f32>()
}

/// The vessel in which the drop at `depth` of all the water lies, counted from the one at `start`. Eight at a time, as long
/// as it lies beyond.
fn drop_into(pods: &[Vessel], level: f32, depth: f32, start: usize) -> usize {
    let (before, after) = pods.split_at(start.min(pods.len()));
    let mut left = depth;
    for (first, part) in [(before.len(), after), (0, before)] {
        for (eight, chunk) in part.chunks(8).enumerate() {
            let holds: f32 = chunk.iter().map(|pod| pod.holds(level)).sum();
            if holds > left {
                let mut beyond = |pod: &Vessel| {
                    left -= pod.holds(level);
                    left < 0.0
                };
                // Rounding can leave a last drop over: it belongs to the last of them.
                let place = chunk.iter().position(&mut beyond).unwrap_or(chunk.len() - 1);
                return first + 8 * eight + place;
            }
            left -= holds;
        }
    }
    // Or over all: it belongs to the lowest.
    lowest_of(pods)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{BatchLaw, PodLoad};
    use crate::pick::Draw;

    fn load(index: usize, cost_ms: f32) -> PodLoad {
        let in_flight = if cost_ms > 0.0 { 1.0 } else { 0.0 };
        PodLoad { in_flight, cost_ms, ..PodLoad::idle(index) }
    }

    fn choices(loads: &[PodLoad], unseen_ms: f32, cost_ms: f32) -> Vec<usize> {
        let mut hits = vec![0; loads.len()];
        for turn in 0..1000 {
            let others = if unseen_ms > 0.0 { 1.0 } else { 0.0 };
            let context = Context { unseen_ms, others, ..Context::alone(cost_ms, Draw::new(3, turn)) };
            hits[Plimsoll.choose(&Candidates::given(loads), &context)] += 1;
        }
        hits
    }

    /// Fresh news must be used exactly: the request goes where it waits least, every time.
    #[test]
    fn on_fresh_news_the_lowest_pod_takes_it() {
        let loads = [load(0, 20.0), load(1, 5.0), load(2, 40.0)];
        assert_eq!(choices(&loads, 0.0, 5.0), [0, 1000, 0]);
    }

    /// On old news the lowest pod is everybody's: the unseen work must spread in proportion to the room under the level.
    /// 100 + 5 = 105 ms of water over bottoms 20, 5 and 40 stand at (105 + 65) / 3 = 56.7: rooms 36.7, 51.7, 16.7.
    #[test]
    fn on_old_news_it_spreads_by_the_room_under_the_level() {
        let loads = [load(0, 20.0), load(1, 5.0), load(2, 40.0)];
        let hits = choices(&loads, 100.0, 5.0);
        for (hit, room) in hits.iter().zip([36.7_f32, 51.7, 16.7]) {
            let expected = 1000.0 * room / 105.0;
            assert!((*hit as f32 - expected).abs() < 15.0, "{hits:?}");
        }
    }

    /// Batches of eight that gain four, of requests that are all alike, pour sixteen times as much; of such as are five times
    /// as long as the mean, 1.7 times. One by one, nothing changes.
    #[test]
    fn more_is_poured_where_batches_fill_by_themselves() {
        let alone = Context::alone(20.0, Draw::new(3, 1));
        let with = |gain: f32, alike: f32| {
            more_for_alike(&Context { alike, batches: BatchLaw { gain, ..alone.batches }, ..alone })
        };
        assert_eq!(with(4.0, 1.0), 16.0);
        assert!((with(4.0, 0.2) - 1.74).abs() < 0.01);
        assert_eq!((with(1.0, 1.0), with(60.0, 1.0)), (1.0, MOST_FOR_ALIKE));
    }

    /// Without parts a pod with a free slot still starts a request at once, however much work its other slots have.
    #[test]
    fn a_free_slot_is_height_zero() {
        let busy = PodLoad { slots: 4, in_flight: 3.0, ..load(0, 300.0) };
        let loads = [busy, PodLoad { in_flight: 4.0, ..busy }];
        let pods = Candidates::given(&loads);
        assert_eq!([0, 1].map(|k| pods.at(k).lowest().wait_ms), [0.0, 75.0]);
    }

    /// A pod with three free slots takes three times the unseen work of a pod with one, and busy slots below the level some.
    #[test]
    fn water_is_poured_over_slots() {
        let part = |wait_ms, slots| Part { wait_ms, slots, open: None };
        let parts = [vec![part(0.0, 3.0), part(10.0, 1.0)], vec![part(0.0, 1.0), part(100.0, 3.0)]];
        let two = [0, 1].map(|k| PodLoad { slots: 4, ..load(k, 90.0) });
        let mut hits = [0.0; 2];
        for turn in 0..1000 {
            let draw = Draw::new(3, turn);
            let context = Context { unseen_ms: 100.0, others: 0.0, ..Context::alone(5.0, draw) };
            hits[Plimsoll.choose(&Candidates::with_parts(&two, &parts), &context)] += 1.0;
        }
        // 100 ms of water stand 22 ms high in four free slots and one that is free in 10 ms: 3 x 22 + 12 against 22.
        assert!((hits[1] / 1000.0 - 22.0 / 100.0_f32).abs() < 0.015, "{hits:?}");
    }

    /// A short request must not share a padded batch with a long one while another pod has none open; a long one joins its
    /// like rather than delay seven short ones.
    #[test]
    fn unlike_sizes_stay_apart() {
        let part =
            |wait_ms, requests, ms| Part { wait_ms, slots: 1.0, open: Some(crate::observe::Open { requests, ms }) };
        let parts = [vec![part(10.0, 1.0, 120.0)], vec![part(10.0, 7.0, 5.0)]];
        let two = [0, 1].map(|k| load(k, 100.0));
        let pods = Candidates::with_parts(&two, &parts);
        let pick = |cost_ms| Plimsoll.choose(&pods, &Context::alone(cost_ms, Draw::new(3, 0)));
        assert_eq!([pick(5.0), pick(120.0)], [1, 0]);
    }

    /// Twice as fast takes twice the water, and a long request prefers the fast pod though it has to wait a little.
    #[test]
    fn a_faster_pod_is_wider_and_lower() {
        let fast = PodLoad { weight: 2.0, ..load(0, 20.0) };
        let slow = load(1, 0.0);
        assert_eq!(choices(&[PodLoad { cost_ms: 20.0, in_flight: 1.0, ..fast }, slow], 0.0, 100.0), [1000, 0]);
    }

    /// The level is exact where arithmetic can be checked by hand, and survives vessels of equal height and no water.
    #[test]
    fn the_level_holds_the_water() {
        let vessels = [3.0, 1.0, 2.0].map(|bottom| Vessel { bottom, width: 1.0 });
        let level = |water| level(&vessels, water, 1.0 + water);
        assert_eq!([1.0, 3.0, 6.0].map(level), [2.0, 3.0, 4.0]);
        let level = level(1e-6);
        assert!((1.0..1.01).contains(&level));
    }

    /// In front of an hour of work a thousandth of a millisecond is nothing to a floating point number: a pick must not look
    /// for the water that it cannot see.
    #[test]
    fn water_that_rounds_to_nothing_goes_to_the_lowest() {
        let loads = [load(0, 7e6), load(1, 3.6e6), load(2, 3.6e6)];
        assert_eq!(choices(&loads, 0.0, 0.0)[0], 0);
        let part = |wait_ms| Part { wait_ms, slots: 1.0, open: None };
        let parts = [vec![part(7e6), part(7e6)], vec![part(3.6e6), part(3.6e6)]];
        let pods = Candidates::with_parts(&loads[..2], &parts);
        assert_eq!(Plimsoll.choose(&pods, &Context::alone(0.0, Draw::new(3, 0))), 1);
    }

    /// Every rung of the ladder must name a pod that exists, for any number of pods.
    #[test]
    fn every_rung_reaches_every_pod() {
        for n in 1..20 {
            let loads: Vec<PodLoad> = (0..n).map(|k| load(k, 1.0)).collect();
            for rung in [Rung::Fill, Rung::TwoChoices, Rung::Shuffled] {
                let mut hits = vec![0; n];
                for turn in 0..64 * n as u64 {
                    let context = Context { rung, ..Context::alone(1.0, Draw::new(9, turn)) };
                    hits[Plimsoll.choose(&Candidates::given(&loads), &context)] += 1;
                }
                assert!(hits.iter().all(|hit| *hit > 0), "{rung:?} with {n} pods: {hits:?}");
            }
        }
    }
}
