//! What policies are worth against each other, on the same arrivals: the order that theory and earlier measurements give
//! them, and the published result that this project began with.

use std::collections::BTreeMap;

use plimsoll_sim::compare::{Comparison, Length, play};
use plimsoll_sim::fault::Fault;
use plimsoll_sim::measure::measure;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::report::{Row, equal_p99, mean_of};
use plimsoll_sim::{Config, Costs, Fallback, Policy, Redis};

/// The reference mix with costs that are known, on ten callers and sixteen pods.
fn small() -> Config {
    let mut config = Config { nodes: 10, pods: 16, ..Config::default() };
    config.clients.costs = Costs::Given;
    config
}

fn policies(names: &str) -> Vec<Policy> {
    names.split(' ').map(|name| name.parse().expect("it is a policy's name")).collect()
}

/// The averages over the seeds.
fn compare(world: Config, names: &str, loads: &[f64], seeds: &[u64], requests: u64) -> Vec<Row> {
    let (policies, loads, seeds) = (policies(names), loads.to_vec(), seeds.to_vec());
    let (length, scenario) = (Length::Requests(requests), "steady".to_owned());
    let comparison = Comparison { worlds: vec![world], policies, loads, seeds, length, scenario };
    let played = play(&comparison.plans().expect("they are possible"), 2, &|_| {});
    for one in &played {
        assert_eq!(one.failures, [], "{}", one.row.policy);
        assert_eq!(one.row.errors, 0, "{}", one.row.policy);
    }
    mean_of(&played.into_iter().map(|one| one.row).collect::<Vec<_>>())
}

fn of<'a>(rows: &'a [Row], policy: &str, load: f64) -> &'a Row {
    rows.iter().find(|row| row.policy == policy && row.load == load).expect("it was played")
}

/// If a policy moved the arrivals, it would be compared with another on another day. Every request of every policy must
/// be asked for at the same moment, on the same node, of the same kind, and be as long.
#[test]
fn all_policies_get_the_same_requests() {
    // When, where, of which kind, how long.
    type Requests = Vec<(u64, usize, u64, u64)>;
    let mut seen: BTreeMap<Requests, Vec<&str>> = BTreeMap::new();
    for (policy, _) in Policy::ALL {
        let plan = Plan::new("steady", Config { policy, ..small() }, 3000);
        let (measured, _) = measure(&plan);
        let request = |done: &plimsoll_sim::Done| {
            let nanos = |d: std::time::Duration| d.as_nanos() as u64;
            (done.asked_at.as_nanos(), done.node, nanos(done.kind), nanos(done.served))
        };
        let mut requests: Vec<_> = measured.done.iter().map(request).collect();
        requests.sort_unstable();
        seen.entry(requests).or_default().push(policy.name());
    }
    let groups: Vec<_> = seen.values().collect();
    assert_eq!(groups.len(), 1, "these go together: {groups:?}");
    assert!(seen.keys().all(|requests| requests.len() > 1500), "there were requests at all");
}

/// Whatever is wrong with a world, a policy that knows more must not do worse than one that knows less. Measured
/// elsewhere (ratio to the oracle's mean at this shape): exact store 1.07, gossip 1.04, own view 3.4, own two choices 4.2,
/// round robin 7.3. The bounds leave what 15,000 requests move.
#[test]
fn who_knows_more_waits_less() {
    let names = "central_queue least_work redis plimsoll own_least_in_flight own_p2c round_robin random";
    let rows = compare(small(), names, &[0.85], &[11], 15_000);
    let mean = |policy| of(&rows, policy, 0.85).mean_ms;
    let order = [
        ("central_queue", 1.002, "least_work"),
        ("least_work", 1.0, "redis"),
        // The store knows every request, but not when it began; gossip knows that a moment late.
        ("least_work", 1.0, "plimsoll"),
        ("redis", 0.5, "own_least_in_flight"),
        ("plimsoll", 0.5, "own_least_in_flight"),
        ("own_least_in_flight", 1.0, "own_p2c"),
        ("own_p2c", 0.75, "round_robin"),
        ("round_robin", 0.95, "random"),
    ];
    for (better, factor, worse) in order {
        let (better_ms, worse_ms) = (mean(better), mean(worse));
        assert!(better_ms <= factor * worse_ms, "{better} {better_ms:.1} ms, {worse} {worse_ms:.1} ms");
    }
    // And gossip, fresh as it is in a fleet this small, is as good as a store that is exact.
    assert!(mean("plimsoll") < 1.06 * mean("redis"), "{} and {}", mean("plimsoll"), mean("redis"));
}

/// The published result (Redis instead of Kubernetes' round robin: p99 down by 70 %, 40 % more utilisation): at the loads
/// that a fleet behind round robin can stand, p99 falls by 60 % and more; and the p99 that round robin has at a load of
/// 0.65 holds to 1.4 times that load.
#[test]
fn the_published_result_comes_out() {
    let rows = compare(small(), "round_robin redis", &[0.65, 0.7, 0.75, 0.95], &[11, 12], 20_000);
    for (load, at_most) in [(0.65, 0.40), (0.7, 0.37), (0.75, 0.33)] {
        let ratio = of(&rows, "redis", load).p99_ms / of(&rows, "round_robin", load).p99_ms;
        assert!(ratio < at_most, "load {load}: {ratio:.2} of round robin's p99");
    }
    let bound = of(&rows, "round_robin", 0.65).p99_ms;
    let equal = equal_p99(&rows, "redis", "round_robin", bound).unwrap();
    assert!(equal.gain >= 0.4, "{equal:?}");
}

/// The same from gossip, without a Redis, at the default budget.
#[test]
fn gossip_does_what_the_store_does() {
    let rows = compare(small(), "round_robin plimsoll", &[0.7], &[11], 12_000);
    let (blind, ours) = (of(&rows, "round_robin", 0.7), of(&rows, "plimsoll", 0.7));
    assert!(ours.p99_ms < 0.38 * blind.p99_ms, "{} and {} ms", ours.p99_ms, blind.p99_ms);
    assert!(ours.bytes_per_node_s < 125_000.0 && blind.bytes_per_node_s == 0.0, "{}", ours.bytes_per_node_s);
}

/// A second simulator, written apart from this one, had these means over seeds 11 to 13 for 100 callers and 64 pods at
/// 0.85: least work 23.7 to 24.4 ms, a store 24.7 to 25.5, round robin 258 to 302. Within 2 % on the exact ones, which
/// hardly move with the seed, and within its own spread on round robin, which does.
#[test]
fn the_reference_fleet_is_as_another_simulator_had_it() {
    let world = Config { nodes: 100, pods: 64, ..small() };
    let rows = compare(world, "least_work redis round_robin", &[0.85], &[11], 40_000);
    let within = |policy, (low, high): (f64, f64)| {
        let mean = of(&rows, policy, 0.85).mean_ms;
        assert!((low..=high).contains(&mean), "{policy}: {mean:.1} ms, expected {low:.1} to {high:.1}");
    };
    within("least_work", (0.98 * 23.7, 1.02 * 24.4));
    within("redis", (0.98 * 24.7, 1.02 * 25.5));
    within("round_robin", (240.0, 310.0));
}

/// With several slots the published score, the sum of costs, sends requests away from pods that could start them at once:
/// a fifth more than the oracle at four slots and 0.85, where a count of requests costs next to nothing.
#[test]
fn a_sum_of_costs_misleads_where_pods_have_slots() {
    let mut world = Config { nodes: 100, pods: 16, ..small() };
    world.server.slots = 4;
    let rows = compare(world, "least_work redis least_count", &[0.85], &[1], 30_000);
    let over = |policy| of(&rows, policy, 0.85).mean_ms / of(&rows, "least_work", 0.85).mean_ms;
    assert!((1.15..1.27).contains(&over("redis")), "{}", over("redis"));
    assert!(over("least_count") < 1.06, "{}", over("least_count"));
}

fn with_store(fallback: Fallback, faults: &[(u64, Fault)]) -> Plan {
    let mut world = Config { load: 0.7, policy: "redis".parse().expect("it is a policy's name"), ..small() };
    world.redis = Redis { fallback, ..Redis::default() };
    let mut plan = Plan::new("redis", world, 20_000);
    plan.ending.quiet_ms = 0;
    faults.iter().fold(plan, |plan, (at_ms, fault)| plan.with(*at_ms, fault.clone()))
}

/// A store that dies takes the fleet with it, or leaves it to chance, for as long as it is away; it must not poison what
/// comes after, though it comes back empty and is told of ends whose beginnings it never saw.
#[test]
fn a_store_that_dies_is_missed_and_then_is_not() {
    let death = [(8000, Fault::RedisDeath { for_ms: 4000 })];
    let row = |plan: &Plan| {
        let (measured, world) = measure(plan);
        assert_eq!(world.failures, []);
        measured.row(plan)
    };
    let well = row(&with_store(Fallback::Random, &[]));
    let errors = row(&with_store(Fallback::Error, &death));
    // 4 of the 18 measured seconds.
    let share = errors.errors as f64 / errors.requests as f64;
    assert!((share - 4.0 / 18.0).abs() < 0.02, "{share}");
    let random = row(&with_store(Fallback::Random, &death));
    assert_eq!(random.errors, 0);
    assert!(random.mean_ms > 1.5 * well.mean_ms, "{} and {}", random.mean_ms, well.mean_ms);
    let late = |faults: &[(u64, Fault)]| {
        let (measured, _) = measure(&with_store(Fallback::Random, faults));
        let late = |done: &&plimsoll_sim::Done| done.asked_at.as_nanos() > 18_000_000_000;
        let took: Vec<f64> = measured.done.iter().filter(late).map(|done| done.took.as_secs_f64()).collect();
        took.iter().sum::<f64>() / took.len() as f64
    };
    let (after, never) = (late(&death), late(&[]));
    assert!(after < 1.05 * never, "{after} s after it came back, {never} s without");
}

/// A stall is shorter than a death and loses nothing; those that waited for it go elsewhere after their deadline.
#[test]
fn a_store_that_stalls_is_waited_for_no_longer_than_the_deadline() {
    let plan = with_store(Fallback::Random, &[(8000, Fault::RedisStall { for_ms: 500 })]);
    let (stalled, well) = (measure(&plan).0, measure(&with_store(Fallback::Random, &[])).0);
    assert_eq!(stalled.done.len(), well.done.len());
    let slowest = |done: &[plimsoll_sim::Done]| done.iter().map(|done| done.took - done.served).max().unwrap();
    assert!(slowest(&stalled.done) < std::time::Duration::from_secs(3), "{:?}", slowest(&stalled.done));
    let error = measure(&with_store(Fallback::Error, &[(8000, Fault::RedisStall { for_ms: 500 })])).0;
    let failed = error.done.iter().filter(|done| done.end == plimsoll_sim::End::Failed);
    let took: Vec<_> = failed.map(|done| done.took.as_millis()).collect();
    assert!(took.len() > 200 && took.iter().all(|took| *took == 5), "{}", took.len());
}

/// Whoever does not ask a store must not notice that there was one.
#[test]
fn gossip_does_not_notice_a_store_that_dies() {
    let plan = |faults: &[(u64, Fault)]| {
        let mut plan = with_store(Fallback::Random, faults);
        plan.world.policy = Policy::default();
        plan.ask_ms = 4000;
        plan
    };
    let ends = |faults: &[(u64, Fault)]| measure(&plan(faults)).0.done;
    assert_eq!(ends(&[(1000, Fault::RedisDeath { for_ms: 1000 })]), ends(&[]));
}
