//! SWIM: how long until anybody suspects a node that died.

use std::time::Duration;

use plimsoll::gossip::{PROBE_PERIOD, SUSPECT_FOR};
use plimsoll_sim::Share;
use plimsoll_sim::detect::{Death, Noticed, STEP, rounds_to_first_probe};

use crate::estimate::{Estimate, Table, effort};

/// A node that dies between two probes is suspected when the first probe to it has failed: half a period until the next round,
/// on average e / (e - 1) rounds in all until one of the others has probed it, the last of which ends with the verdict. The
/// paper has nodes draw whom to probe; here they go through shuffled lists, which for few nodes is a little sooner:
/// `rounds_to_first_probe` has the exact sum. It is down when it did not refute for as long as a suspect may.
#[test]
fn a_death_is_suspected_after_e_over_e_minus_one_periods() {
    let mut table = Table::default();
    for (nodes, seeds, most) in [(4, 120, 0.3), (8, 60, 0.4), (16, 24, 0.6)] {
        compare(&mut table, nodes, (f64::from(seeds) * effort()) as u64, most);
    }
}

/// The same for the sizes of real fleets, and for the limit itself.
#[test]
#[ignore = "takes a quarter of an hour in a debug build"]
fn a_death_in_a_large_fleet_is_suspected_as_soon() {
    let mut table = Table::default();
    for (nodes, seeds) in [(64, 100), (128, 40)] {
        compare(&mut table, nodes, seeds, 0.5);
    }
}

fn compare(table: &mut Table, nodes: usize, seeds: u64, most: f64) {
    let watch = Duration::from_secs(6);
    let play = |seed| Death { nodes, loss: Share::NEVER, seed, watch }.play();
    let noticed: Vec<Noticed> = (0..seeds).map(play).collect();
    let at = |what: &str| format!("SWIM, {nodes} nodes: {what}");
    // A moment is seen half a step late.
    let periods = |moment: Option<Duration>| {
        let moment = moment.expect("without loss a death is noticed within 6 s") - STEP / 2;
        moment.as_secs_f64() / PROBE_PERIOD.as_secs_f64()
    };
    let rounds: f64 =
        noticed.iter().map(|one| rounds_to_first_probe(nodes, one.probes_before)).sum::<f64>() / seeds as f64;
    let suspected: Vec<f64> = noticed.iter().map(|one| periods(one.suspected)).collect();
    table.row(&at("first suspicion, periods"), rounds + 0.5, Estimate::of(&suspected), most);
    // Whole rounds: the first one is enough unless all others miss it, each with the chance 1 - 1 / others.
    let others = nodes as i32 - 1;
    let first_round = 1.0 - (1.0 - 1.0 / f64::from(others)).powi(others);
    let in_first: Vec<f64> = suspected.iter().map(|periods| if *periods < 2.0 { 1.0 } else { 0.0 }).collect();
    table.row(&at("share suspected by the first round"), first_round, Estimate::of(&in_first), most);
    let suspicion: Vec<f64> = noticed.iter().map(|one| periods(one.down) - periods(one.suspected)).collect();
    let refuting = SUSPECT_FOR.as_secs_f64() / PROBE_PERIOD.as_secs_f64();
    let late = suspicion.iter().map(|periods| (periods - refuting).abs()).fold(0.0, f64::max);
    assert!(
        late * PROBE_PERIOD.as_secs_f64() <= 2.0 * STEP.as_secs_f64(),
        "{nodes} nodes: down after {suspicion:?} periods of suspicion"
    );
    assert!(noticed.iter().all(|one| one.false_downs == 0));
}
