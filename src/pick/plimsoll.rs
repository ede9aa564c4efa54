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

use smallvec::SmallVec;

use super::p2c::better_of_two;
use super::policy::{Context, Policy, PolicyKind, Rung};
use super::round_robin::shuffled;
use crate::mutant::{self, Mutant};
use crate::observe::{Part, PodLoad};

/// Heavy requests pour this much more: a heavy one on a wrong pod costs everybody behind it. Worth 10 % of the wait on
/// two-sized mixes at 10 ms of age, within 2.5 % elsewhere.
const HEAVY_SPREAD: f32 = 3.0;
/// The least that is poured, ms: a request without cost still goes to the lowest pod.
const LEAST_POURED: f32 = 1e-3;

pub(super) struct Plimsoll;

impl Policy for Plimsoll {
    fn name(&self) -> &'static str {
        PolicyKind::Plimsoll.name()
    }

    fn choose(&self, loads: &[PodLoad], context: &Context<'_>) -> usize {
        match context.rung {
            Rung::Fill => fill(loads, context),
            Rung::TwoChoices => better_of_two(loads, context, |load| lowest(load, context, load.weight).bottom),
            Rung::Shuffled => shuffled(loads, context),
        }
    }

    fn reads_parts(&self) -> bool {
        true
    }
}

fn fill(loads: &[PodLoad], context: &Context<'_>) -> usize {
    let fastest = loads.iter().map(|load| load.weight).fold(f32::MIN_POSITIVE, f32::max);
    let mut vessels: SmallVec<[Vessel; 64]> = loads.iter().map(|load| lowest(load, context, fastest)).collect();
    let spread = if context.heavy { HEAVY_SPREAD } else { 1.0 };
    let water = (context.unseen_ms * spread + context.others * context.cost_ms).max(LEAST_POURED);
    let mut surface = level(&vessels, water);
    // The other parts of a pod take water only below the level that stands without them, and lower it.
    let mut owners: SmallVec<[u32; 64]> = SmallVec::new();
    for (position, load) in loads.iter().enumerate().filter(|(_, load)| load.parts > 1) {
        let parts = context.parts_of(load)[1..].iter().map(|part| Vessel::of(part, load, context, fastest));
        for vessel in parts.take_while(|vessel| vessel.bottom < surface) {
            vessels.push(vessel);
            owners.push(position as u32);
        }
    }
    if !owners.is_empty() {
        surface = level(&vessels, water);
    }
    let (depth, phase) = match mutant::is(Mutant::FirstOfEquals) {
        true => (0.0, 0),
        false => (water * context.draw.even(), context.draw.phase()),
    };
    let vessel = drop_into(&vessels, surface, depth, phase);
    vessel.checked_sub(loads.len()).map_or(vessel, |other| owners[other] as usize)
}

/// The lowest part of the pod; all of it as a sum where nothing was played through.
fn lowest(load: &PodLoad, context: &Context<'_>, fastest: f32) -> Vessel {
    match context.parts_of(load).first() {
        Some(part) => Vessel::of(part, load, context, fastest),
        None => {
            let slots = load.slots as f32;
            let wait_ms = if load.in_flight < slots { 0.0 } else { load.cost_ms / (load.weight * slots) };
            Vessel::of(&Part { wait_ms, slots, open: None }, load, context, fastest)
        }
    }
}

/// A part of a pod as a vessel: it is `bottom` full, and one ms of level takes `width` ms of work.
#[derive(Clone, Copy)]
struct Vessel {
    bottom: f32,
    width: f32,
}

impl Vessel {
    /// How long the request would wait at a slot, and how much longer it runs there than on the fastest pod. In a batch:
    /// until that is over, and what it costs the others in it and those after it; and a batch does the work of several.
    fn of(part: &Part, load: &PodLoad, context: &Context<'_>, fastest: f32) -> Vessel {
        let width = load.weight * part.slots;
        match part.open {
            None => {
                let slower = 1.0 / load.weight - 1.0 / fastest;
                Vessel { bottom: part.wait_ms + context.cost_ms * slower, width }
            }
            Some(open) => {
                let law = &context.batches;
                let here = law.marginal(open.requests, open.ms, context.class_ms / load.weight);
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

/// The level at which the vessels together hold `water`: sum of width x (level - bottom)+ = water.
///
/// Each pass drops the vessels that stand above the level, which lowers it; it settles in three to six passes, and
/// after as many passes as there are vessels at the latest.
fn level(pods: &[Vessel], water: f32) -> f32 {
    let mut level = f32::INFINITY;
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

/// The vessel in which the drop at `depth` of all the water lies, counted from a vessel of the node's own.
fn drop_into(pods: &[Vessel], level: f32, depth: f32, phase: u64) -> usize {
    let start = (phase % pods.len() as u64) as usize;
    let mut left = depth;
    let (before, after) = pods.split_at(start);
    for (k, pod) in after.iter().chain(before).enumerate() {
        let holds = pod.holds(level);
        if holds > left {
            return if k < after.len() { start + k } else { k - after.len() };
        }
        left -= holds;
    }
    // Rounding can leave a last drop over: it belongs to the lowest.
    let lowest = (0..pods.len()).min_by(|a, b| pods[*a].bottom.total_cmp(&pods[*b].bottom));
    lowest.unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::Draw;

    fn load(index: usize, cost_ms: f32) -> PodLoad {
        PodLoad {
            index,
            own_in_flight: 0,
            in_flight: if cost_ms > 0.0 { 1.0 } else { 0.0 },
            own_cost_ms: 0.0,
            cost_ms,
            slots: 1,
            weight: 1.0,
            first_part: 0,
            parts: 0,
        }
    }

    fn choices(loads: &[PodLoad], unseen_ms: f32, cost_ms: f32) -> Vec<usize> {
        let mut hits = vec![0; loads.len()];
        for turn in 0..1000 {
            let others = if unseen_ms > 0.0 { 1.0 } else { 0.0 };
            let context = Context { unseen_ms, others, ..Context::alone(cost_ms, Draw::new(3, turn)) };
            hits[Plimsoll.choose(loads, &context)] += 1;
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

    /// Without parts a pod with a free slot still starts a request at once, however much work its other slots have.
    #[test]
    fn a_free_slot_is_height_zero() {
        let context = Context::alone(5.0, Draw::new(3, 0));
        let busy = PodLoad { slots: 4, in_flight: 3.0, ..load(0, 300.0) };
        assert_eq!(lowest(&busy, &context, 1.0).bottom, 0.0);
        assert_eq!(lowest(&PodLoad { in_flight: 4.0, ..busy }, &context, 1.0).bottom, 75.0);
    }

    /// A pod with three free slots takes three times the unseen work of a pod with one, and busy slots below the level some.
    #[test]
    fn water_is_poured_over_slots() {
        let part = |wait_ms, slots| Part { wait_ms, slots, open: None };
        let parts = [part(0.0, 3.0), part(10.0, 1.0), part(0.0, 1.0), part(100.0, 3.0)];
        let two =
            [0, 2].map(|first_part| PodLoad { slots: 4, first_part, parts: 2, ..load(first_part as usize / 2, 90.0) });
        let mut hits = [0.0; 2];
        for turn in 0..1000 {
            let draw = Draw::new(3, turn);
            let context = Context { unseen_ms: 100.0, others: 0.0, parts: &parts, ..Context::alone(5.0, draw) };
            hits[Plimsoll.choose(&two, &context)] += 1.0;
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
        let parts = [part(10.0, 1.0, 120.0), part(10.0, 7.0, 5.0)];
        let two = [0, 1].map(|k| PodLoad { first_part: k, parts: 1, ..load(k as usize, 100.0) });
        let pick =
            |cost_ms| Plimsoll.choose(&two, &Context { parts: &parts, ..Context::alone(cost_ms, Draw::new(3, 0)) });
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
        assert_eq!(level(&vessels, 1.0), 2.0);
        assert_eq!(level(&vessels, 3.0), 3.0);
        assert_eq!(level(&vessels, 6.0), 4.0);
        let level = level(&vessels, 1e-6);
        assert!((1.0..1.01).contains(&level));
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
                    hits[Plimsoll.choose(&loads, &context)] += 1;
                }
                assert!(hits.iter().all(|hit| *hit > 0), "{rung:?} with {n} pods: {hits:?}");
            }
        }
    }
}
