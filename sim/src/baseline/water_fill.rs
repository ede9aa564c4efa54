//! Plain water-filling (Goren, Vargaftik, Moses, DISC 2020; Dahlin's load interpretation before it): the work that others
//! place unseen is poured over the pods, and the request goes to each in proportion to what it takes.
//!
//! What the default policy adds is left out: no residual clock (a pod's height is all the work known there, however much
//! of it is done), no wider spread for heavy requests, independent draws.

use plimsoll::observe::PodLoad;
use plimsoll::pick::{Candidates, Context, Policy};

pub(super) struct WaterFill;

/// The least that is poured, ms: on news without any age the request goes to the lowest.
const LEAST_POURED: f64 = 1e-3;
/// Steps of a draw in [0, 1).
const STEPS: usize = 1 << 30;

impl Policy for WaterFill {
    fn name(&self) -> &'static str {
        "water_fill"
    }

    fn choose(&self, pods: &Candidates<'_>, context: &Context) -> usize {
        let vessels: Vec<Vessel> = (0..pods.len()).map(|k| Vessel::of(&pods.load(k))).collect();
        let water = f64::from(context.unseen_ms).max(LEAST_POURED);
        let level = level(&vessels, water);
        let mut left = context.draw.below(0, STEPS) as f64 / STEPS as f64 * water;
        for (place, vessel) in vessels.iter().enumerate() {
            let holds = vessel.holds(level);
            if holds > left {
                return place;
            }
            left -= holds;
        }
        // Rounding can leave a last drop over: it belongs to the lowest.
        (0..vessels.len()).min_by(|a, b| vessels[*a].bottom.total_cmp(&vessels[*b].bottom)).unwrap_or(0)
    }
}

struct Vessel {
    bottom: f64,
    width: f64,
}

impl Vessel {
    fn of(load: &PodLoad) -> Vessel {
        let width = f64::from(load.weight * load.slots as f32);
        Vessel { bottom: f64::from(load.cost_ms) / width, width }
    }

    fn holds(&self, level: f64) -> f64 {
        self.width * (level - self.bottom).max(0.0)
    }
}

/// Where `water` stands: from the lowest vessel up, each is flooded if the water of those below would rise above it.
fn level(vessels: &[Vessel], water: f64) -> f64 {
    let mut order: Vec<&Vessel> = vessels.iter().collect();
    order.sort_by(|a, b| a.bottom.total_cmp(&b.bottom));
    let (mut volume, mut width) = (water, 0.0);
    for vessel in order {
        if width > 0.0 && volume / width <= vessel.bottom {
            break;
        }
        volume += vessel.width * vessel.bottom;
        width += vessel.width;
    }
    volume / width
}

#[cfg(test)]
mod tests {
    use plimsoll::pick::Draw;

    use super::*;

    fn load(index: usize, cost_ms: f32) -> PodLoad {
        let mut load = PodLoad::idle(index);
        (load.in_flight, load.cost_ms) = (1.0, cost_ms);
        load
    }

    /// A baseline that was worse than its paper would make ours look good. 75 ms over bottoms 20, 5 and 40 stand at 46.7
    /// with rooms 26.7, 41.7 and 6.7; over 100 they stand in two; and without any the lowest takes all.
    #[test]
    fn the_draw_is_in_proportion_to_the_room_under_the_level() {
        let loads = [load(0, 20.0), load(1, 5.0), load(2, 40.0), load(3, 100.0)];
        for (unseen_ms, rooms) in [(75.0, [26.7, 41.7, 6.7, 0.0]), (0.0, [0.0, 1.0, 0.0, 0.0])] {
            let mut hits = [0.0; 4];
            for turn in 0..10_000 {
                let mut context = Context::alone(5.0, Draw::new(3, turn));
                context.unseen_ms = unseen_ms;
                hits[WaterFill.choose(&Candidates::given(&loads), &context)] += 1.0;
            }
            let sum: f64 = rooms.iter().sum();
            for (hit, room) in hits.iter().zip(rooms) {
                // Four standard deviations of 10,000 draws at a half are 200.
                assert!((hit - 10_000.0 * room / sum).abs() < 200.0, "{unseen_ms}: {hits:?}");
            }
        }
    }
}
