//! The checkers: none cries wolf on correct code, and each bites what it is there for.

mod plans;

use plimsoll_sim::check::{Checks, Marks, Rule, guarded};
use plimsoll_sim::plan::Plan;
use plimsoll_sim::run::run_in;
use plimsoll_sim::{Config, World};

/// Runs plans by chance; says how often each rule was judged.
fn run_all(seeds: std::ops::Range<u64>, plan: fn(u64) -> Plan) -> Marks {
    let mut marks = Marks::default();
    let (mut inputs, mut failed) = (0, Vec::new());
    for seed in seeds {
        let plan = plan(seed);
        match guarded(&plan) {
            Ok(passed) => {
                marks.merge(&passed.marks);
                inputs += passed.inputs;
            }
            Err(failure) => {
                println!("seed {seed}: {failure:?}");
                failed.push((seed, failure.checker));
            }
        }
    }
    println!("{inputs} inputs");
    for (rule, times) in marks.iter() {
        println!("{times:>12} {}", rule.id());
    }
    assert!(failed.is_empty(), "{failed:?}");
    marks
}

/// Runs plans of the swarm in the same way.
#[test]
#[ignore = "as long as wanted"]
fn many_plans_of_the_swarm_break_no_rule() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0..100".into());
    let (from, to) = seeds.split_once("..").expect("two numbers");
    run_all(from.parse().unwrap()..to.parse().unwrap(), plimsoll_sim::swarm::plan);
}

/// Some rules need days that chance seldom makes. Each is really judged on the day that it is for.
#[test]
fn rules_that_are_seldom_judged_are_judged_on_their_days() {
    let world = Config { nodes: 4, pods: 8, load: 0.6, ..Config::default() };
    for (day, rule) in [
        ("grey-pod", Rule::GreyPod),
        ("rolling-deploy", Rule::Goodbye),
        ("steady", Rule::Herd),
        ("steady", Rule::Starvation),
    ] {
        let plan = plimsoll_sim::scenario::plan(day, world.clone(), 30).unwrap();
        let passed = guarded(&plan).unwrap_or_else(|failure| panic!("{day}: {failure:?}"));
        assert!(passed.marks.of(rule) > 0, "nothing judged {} on the day {day}", rule.id());
    }
}

/// As many as wanted: `SEEDS=0..1000 cargo test --release -p plimsoll-sim --test checkers -- --ignored --nocapture`.
#[test]
#[ignore = "as long as wanted"]
fn many_plans_by_chance_break_no_rule() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0..100".into());
    let (from, to) = seeds.split_once("..").expect("two numbers");
    run_all(from.parse().unwrap()..to.parse().unwrap(), plans::mixed);
}

/// Says what checkers cost at 16 nodes, 32 pods and 50 requests a second and node: process CPU time, three runs each.
#[test]
#[ignore = "a measurement"]
fn what_checkers_cost() {
    let world = Config { nodes: 16, pods: 32, load: 0.556, ..Config::default() };
    let plan = Plan::new("cost", world, 30_000);
    for _ in 0..3 {
        for checked in [false, true] {
            let (before, mut world) = (cpu_seconds(), World::new(plan.world.clone()));
            match checked {
                true => run_in(&mut world, &plan, &mut Checks::new(&plan)),
                false => run_in(&mut world, &plan, &mut Vec::new()),
            }
            let took = cpu_seconds() - before;
            let rate = world.inputs as f64 / took / 1e6;
            println!("checked {checked}: {} inputs in {took:.2} CPU-s, {rate:.3} M/s", world.inputs);
        }
    }
}

/// What this process has used of the processors, from `/proc`.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit(')').next().expect("a name");
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum();
    ticks as f64 / 100.0
}

/// `SEED=7` prints that plan.
#[test]
#[ignore = "for people"]
fn a_plan_by_chance_in_words() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("{}", plans::mixed(seed).to_toml());
}

struct Tell(Vec<usize>, usize);
impl plimsoll_sim::run::Watch for Tell {
    fn look(&mut self, world: &mut World, phase: plimsoll_sim::run::Phase, _: plimsoll::time::Time, _: bool) {
        for (at, n, event) in &world.events[self.1..] {
            println!("{at:?} {phase:?} node {n}: {event:?}");
        }
        self.1 = world.events.len();
        let now = world.now();
        if now.as_nanos() % 1_000_000_000 < 100_000_000 {
            for n in &self.0 {
                if world.live().contains(n) {
                    let ms = world.core(*n).members(world.local(*n));
                    println!(
                        "  {now:?} {n}: {:?}",
                        ms.iter()
                            .map(|m| (
                                m.name.as_str(),
                                m.state,
                                m.epoch,
                                m.r#gen,
                                m.row_age_ms.map(|a| a as u64),
                                m.addr.as_str()
                            ))
                            .collect::<Vec<_>>()
                    );
                }
            }
        }
    }
}

/// `SEED=7 NODES=0,6` tells what happens.
#[test]
#[ignore = "for people"]
fn tell() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let nodes = std::env::var("NODES").unwrap_or_default().split(',').filter_map(|n| n.parse().ok()).collect();
    let mut tell = Tell(nodes, 0);
    println!("{:?}", plimsoll_sim::check::guarded_with(&plans::mixed(seed), &mut tell).0.map(|_| ()));
}

/// Which mutants are caught, after how many seeds, by which rule: `MUTANT=spin SEEDS=0..60`.
#[cfg(feature = "mutants")]
#[test]
#[ignore = "for people"]
fn mutants_are_caught() {
    use plimsoll::mutant::{Mutant, set};
    let only = std::env::var("MUTANT").ok();
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0..60".into());
    let (from, to) = seeds.split_once("..").expect("two numbers");
    let seeds: std::ops::Range<u64> = from.parse().unwrap()..to.parse().unwrap();
    for mutant in Mutant::ALL.iter().filter(|m| only.as_ref().is_none_or(|only| m.name() == only)) {
        set(Some(*mutant));
        let found = seeds.clone().find_map(|seed| Some((seed, guarded(&plimsoll_sim::swarm::plan(seed)).err()?)));
        set(None);
        match found {
            Some((seed, failure)) => println!(
                "{mutant:<24} {} seed {seed}: {} at {:?}: {}",
                mutant.caught_by(),
                failure.checker,
                failure.at,
                failure.what
            ),
            None => println!("{mutant:<24} {} NOT CAUGHT", mutant.caught_by()),
        }
    }
}
