use std::time::Duration;

use plimsoll::time::Time;

use super::*;
use crate::config::Config;
use crate::swarm;

fn failure(checker: &'static str, at_ms: u64) -> Failure {
    let at = Time::ZERO + Duration::from_millis(at_ms);
    Failure { checker, at, node: None, pod: None, what: String::new() }
}

/// A plan of 60 faults of which two have to come together, in a fleet of which three nodes matter: everything else must
/// go, or people look for a needle in what the swarm threw in.
#[test]
fn what_has_no_part_in_a_failure_goes() {
    let mut plan = Plan::new("test", Config { nodes: 12, pods: 9, drift_ppm: 50, ..Config::default() }, 60_000);
    plan.ending.live_ms = 12_000;
    for k in 0..29 {
        plan.add(k * 1000, Fault::PodCrash { pod: k as usize % 9, for_ms: 500 });
        plan.add(k * 2000, Fault::NodePause { node: k as usize % 12, for_ms: 700 });
    }
    plan.add(20_500, Fault::Partition { group: vec![1, 7], for_ms: 9000 });
    plan.add(22_000, Fault::NodeCrash { node: 7, for_ms: 3000, clock_back: true });
    // Breaks the rule while a partition holds a node that dies behind it with its clock set back, if that lasts a second.
    let mut play = |plan: &Plan| {
        let walled = |n: usize, at: u64| {
            plan.faults.iter().any(|p| match &p.fault {
                Fault::Partition { group, for_ms } => group.contains(&n) && (p.at_ms..p.at_ms + for_ms).contains(&at),
                _ => false,
            })
        };
        let dies = plan.faults.iter().find(|p| match p.fault {
            Fault::NodeCrash { node, for_ms, clock_back } => clock_back && for_ms >= 1000 && walled(node, p.at_ms),
            _ => false,
        })?;
        (dies.at_ms < plan.ask_ms).then(|| failure("test", plan.form_ms + dies.at_ms))
    };
    let mut steps = 0;
    let shrunk = shrink(&plan, 400, &mut play, &mut |_, _, _| steps += 1).unwrap();
    let kinds: Vec<&str> = shrunk.plan.faults.iter().map(|planned| planned.fault.kind()).collect();
    assert_eq!(kinds, ["partition", "node-crash"], "{}", shrunk.plan.to_toml());
    let crash = &shrunk.plan.faults[1].fault;
    assert!((1000..2000).contains(&crash.lasts_ms()), "{crash:?}");
    assert_eq!((shrunk.plan.world.nodes, shrunk.plan.world.pods, shrunk.plan.world.drift_ppm), (1, 1, 0));
    assert!(shrunk.plan.lasts_ms() < 8000, "{}", shrunk.plan.to_toml());
    assert!(steps > 5 && shrunk.runs <= 400);
    // What it is handed back still fails, in the same way, and can be read from its file.
    let again = Plan::parse(std::path::Path::new("min"), &shrunk.plan.to_toml()).unwrap();
    assert_eq!(play(&again), Some(shrunk.failure));
}

/// Two rules broken by one plan are two failures: a shrink that slid from one to the other would hide the first.
#[test]
fn another_rule_is_another_failure() {
    let plan = Plan::new("test", Config::default(), 10_000)
        .with(1000, Fault::PodCrash { pod: 0, for_ms: 500 })
        .with(2000, Fault::NodePause { node: 0, for_ms: 700 });
    let mut play = |plan: &Plan| {
        let has = |kind: &str| plan.faults.iter().any(|planned| planned.fault.kind() == kind);
        match (has("pod-crash"), has("node-pause")) {
            (true, _) => Some(failure("first", 3000)),
            (_, true) => Some(failure("second", 4000)),
            _ => None,
        }
    };
    let shrunk = shrink(&plan, 200, &mut play, &mut |_, _, _| {}).unwrap();
    assert_eq!(shrunk.failure.checker, "first");
    assert_eq!(shrunk.plan.faults.len(), 1);
    assert_eq!(shrink(&Plan::new("test", Config::default(), 1), 9, &mut play, &mut |_, _, _| {}), None);
}

/// Plans with fewer nodes and pods are real plans: of any fleet the swarm draws, every part must be one that can be
/// written, read and made a world of.
#[test]
fn every_part_of_a_fleet_is_a_plan() {
    for seed in 0..60 {
        let whole = swarm::plan(seed);
        for keep in [1, 2, 3] {
            let some = |of: usize| (0..of).filter(|k| k % keep == 0).collect::<Vec<_>>();
            let mut plan = whole.clone();
            if !fewer::nodes(&whole, &mut plan, &some(whole.world.nodes)) {
                continue;
            }
            let (fewer_nodes, kept) = (plan.clone(), some(whole.world.pods));
            if !fewer::pods(&fewer_nodes, &mut plan, &kept) {
                continue;
            }
            assert_eq!(plan.world.check(), Ok(()), "seed {seed}");
            let again = Plan::parse(std::path::Path::new("part"), &plan.to_toml());
            assert_eq!(again.map_err(|error| error.to_string()), Ok(plan), "seed {seed}");
        }
    }
}
