//! Who is a member: forming, failing, coming back, leaving, and never by mistake.

use std::time::Duration;

use plimsoll::core::Event;
use plimsoll_sim::{Config, Join, Link, World};

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn world(nodes: usize, loss: f64, seed: u64) -> World {
    World::new(Config { nodes, seed, link: Link::lossy(loss), ..Config::default() })
}

fn formed(nodes: usize, loss: f64, seed: u64) -> World {
    let mut world = world(nodes, loss, seed);
    assert!(world.run_until(secs(10), World::all_know_all).is_some(), "seed {seed}: not all know all");
    world
}

fn downs(world: &World) -> Vec<String> {
    let down = |(_, n, event): &(_, usize, Event)| match event {
        Event::MemberDown(name) => Some(format!("{n}: {name}")),
        _ => None,
    };
    world.events.iter().filter_map(down).collect()
}

/// How many SWIM identities all live nodes took beyond their first.
fn renewals(world: &World) -> u32 {
    let own = |n: usize| world.core(n).members(world.local(n))[0].r#gen;
    world.live().into_iter().map(own).sum()
}

fn no_internal_errors(world: &World) {
    for n in world.live() {
        assert_eq!(world.core(n).stats().swim_internal_errors, 0, "node {n}");
    }
}

/// A deploy starts all callers at once; until they know each other they pick blindly.
#[test]
fn all_know_all_within_two_seconds() {
    for nodes in [3, 5, 10] {
        for (loss, seed) in [(0.0, 1), (0.0, 2), (0.05, 1), (0.05, 2), (0.05, 3)] {
            let mut world = world(nodes, loss, seed);
            let took = world.run_until(secs(10), World::all_know_all);
            assert!(took.is_some_and(|took| took <= secs(2)), "{nodes} nodes, loss {loss}, seed {seed}: {took:?}");
            world.run_for(secs(5));
            no_internal_errors(&world);
            assert_eq!(downs(&world), [""; 0]);
            assert_eq!(renewals(&world), 0);
        }
    }
}

/// Each configuration names only one other node: greeting one address until anybody answers would leave islands.
#[test]
fn join_lists_that_overlap_by_one_make_one_cluster() {
    let rings: Vec<Vec<Vec<usize>>> = vec![
        // A chain, a star, pairs that meet only through one of each, a ring, and late joiners of one who knows nobody.
        (0..8_usize).map(|n| vec![n.saturating_sub(1)]).collect(),
        (0..8).map(|_| vec![0]).collect(),
        vec![vec![1], vec![0, 2], vec![3], vec![2], vec![5], vec![4, 6], vec![7], vec![6, 1]],
        (0..8).map(|n| vec![(n + 1) % 8]).collect(),
        vec![vec![], vec![0], vec![0], vec![0], vec![1, 2], vec![4], vec![4], vec![6]],
    ];
    for (k, join) in rings.into_iter().enumerate() {
        for seed in 0..4 {
            let config = Config {
                nodes: 8,
                seed,
                join: Join::Lists(join.clone()),
                link: Link::lossy(0.05),
                ..Config::default()
            };
            let mut world = World::new(config);
            let took = world.run_until(secs(15), World::all_know_all);
            assert!(took.is_some(), "graph {k}, seed {seed}: islands");
        }
    }
}

/// A lossy network must not look like failing nodes: every false Down is a dip in every view.
#[test]
fn nobody_is_declared_down_at_five_percent_loss() {
    for nodes in [3, 5, 10] {
        let mut world = formed(nodes, 0.05, 11);
        world.run_for(secs(120));
        assert_eq!(downs(&world), [""; 0], "{nodes} nodes");
        assert!(world.all_know_all());
        no_internal_errors(&world);
    }
}

/// A killed caller says nothing; the others must notice by themselves, and only about it.
#[test]
fn a_killed_node_is_down_everywhere_within_five_seconds() {
    for (nodes, seed) in [(3, 1), (5, 2), (10, 3), (10, 4)] {
        let mut world = formed(nodes, 0.01, seed);
        world.run_for(secs(3));
        world.crash(1);
        let took = world.run_until(secs(10), World::all_know_all);
        assert!(took.is_some_and(|took| took <= secs(5)), "{nodes} nodes, seed {seed}: {took:?}");
        assert!(downs(&world).iter().all(|down| down.ends_with("node-1")), "{:?}", downs(&world));
        no_internal_errors(&world);
    }
}

/// A clock that went back, or a lost counter, restarts a node below its own past; it must outdo that in one step and not
/// renew for ever, whether the others have noticed its death or not.
#[test]
fn a_node_restarted_with_a_lower_epoch_is_back_within_seconds() {
    for (down_for, seed) in [(0, 1), (1, 2), (3, 3), (8, 4), (30, 5)] {
        let mut world = formed(5, 0.02, seed);
        world.run_for(secs(2));
        world.crash(2);
        world.run_for(secs(down_for));
        world.start(2, 1);
        // The others may hold its past for alive: it is back when an epoch after theirs is everywhere.
        let back = |world: &World| {
            world.all_know_all()
                && world.live().into_iter().all(|n| {
                    let members = world.core(n).members(world.local(n));
                    members.iter().any(|m| m.name == "node-2" && m.epoch > 100 && m.state == "alive")
                })
        };
        let took = world.run_until(secs(10), back);
        assert!(took.is_some_and(|took| took <= secs(4)), "down for {down_for} s, seed {seed}: {took:?}");
        world.run_for(secs(10));
        assert!(back(&world));
        assert!(renewals(&world) <= 14, "{}", renewals(&world));
        no_internal_errors(&world);
    }
}

/// A higher epoch on the same address is the usual restart.
#[test]
fn a_restarted_node_is_back_within_seconds() {
    for down_for in [0, 1, 8] {
        let mut world = formed(5, 0.02, 9);
        world.crash(4);
        world.run_for(secs(down_for));
        world.start(4, 200);
        world.run_for(secs(4));
        assert!(world.all_know_all(), "down for {down_for} s");
        let epochs =
            |n: usize| world.core(n).members(world.local(n)).iter().any(|m| m.name == "node-4" && m.epoch == 200);
        assert!(world.live().into_iter().all(epochs));
    }
}

/// A garbage collector or a debugger stops one caller for a while: it may be declared down itself, but nobody else may
/// lose an identity over it, and it must be back soon.
#[test]
fn a_paused_node_costs_no_innocent_an_identity() {
    for seed in 0..10 {
        for pause in [1, 3, 8] {
            let mut world = formed(5, 0.0, seed);
            world.run_for(secs(1));
            world.pause(3);
            world.run_for(secs(pause));
            world.resume(3);
            let took = world.run_until(secs(10), World::all_know_all);
            assert!(took.is_some_and(|took| took <= secs(3)), "seed {seed}, {pause} s: {took:?}");
            world.run_for(secs(10));
            assert!(world.all_know_all());
            for n in world.live().into_iter().filter(|n| *n != 3) {
                let own = &world.core(n).members(world.local(n))[0];
                assert_eq!((own.r#gen, own.epoch), (0, 100), "seed {seed}: node {n} renewed for a pause of {pause} s");
            }
            if pause == 1 {
                assert_eq!(downs(&world), [""; 0]);
            }
        }
    }
}

/// A switch fails between racks and comes back.
#[test]
fn a_partition_heals_within_ten_seconds() {
    for (nodes, cut, seed) in [(4, 2, 1), (5, 1, 2), (10, 5, 3)] {
        for lasts in [2, 6, 20, 60] {
            let mut world = formed(nodes, 0.01, seed);
            world.partition(&(0..cut).collect::<Vec<_>>());
            world.run_for(secs(lasts));
            world.heal();
            let took = world.run_until(secs(20), World::all_know_all);
            assert!(took.is_some_and(|took| took <= secs(10)), "{nodes} nodes, {lasts} s: {took:?}");
            world.run_for(secs(20));
            assert!(world.all_know_all());
            assert!(renewals(&world) <= 2 * nodes as u32 + 4, "{} renewals", renewals(&world));
            no_internal_errors(&world);
        }
    }
}

/// A firewall rule lets packets through one way only.
#[test]
fn a_one_way_partition_heals_too() {
    for lasts in [3, 10, 30] {
        let mut world = formed(5, 0.0, 4);
        world.wall(0, 1);
        world.wall(0, 2);
        world.run_for(secs(lasts));
        world.heal();
        let took = world.run_until(secs(20), World::all_know_all);
        assert!(took.is_some_and(|took| took <= secs(10)), "{lasts} s: {took:?}");
        world.run_for(secs(10));
        no_internal_errors(&world);
    }
}

/// A rolling deploy: a caller that says goodbye is no failure, on a lossy network too.
#[test]
fn a_node_that_leaves_is_gone_at_once_and_no_failure() {
    for (loss, seed) in [(0.0, 1), (0.05, 2), (0.05, 3), (0.05, 4)] {
        let mut world = formed(6, loss, seed);
        world.run_for(secs(2));
        world.leave(5);
        world.run_for(Duration::from_millis(500));
        let heard = world.events.iter().filter(|(_, _, e)| *e == Event::MemberLeft("node-5".into())).count();
        assert_eq!(heard, 5, "seed {seed}");
        world.run_for(secs(10));
        assert_eq!(downs(&world), [""; 0], "loss {loss}, seed {seed}");
        assert!(world.all_know_all());
    }
}

/// Everything is replaced, one by one and all at once: nobody may stay behind as a ghost or an island.
#[test]
fn a_rolling_restart_ends_with_one_cluster() {
    let mut world = formed(5, 0.02, 21);
    for (n, epoch) in (0..5).zip(200..) {
        world.leave(n);
        world.run_for(secs(1));
        world.start(n, epoch);
        world.run_for(secs(3));
    }
    assert!(world.run_until(secs(5), World::all_know_all).is_some());
    (0..5).for_each(|n| world.crash(n));
    (0..5).for_each(|n| world.start(n, 1));
    world.run_for(secs(10));
    assert!(world.all_know_all());
    no_internal_errors(&world);
}

/// 40 seeds of kills, restarts with the clock set back, pauses and walls at 3 % loss: afterwards all know all again,
/// nobody renews without end, and foca never contradicts itself.
#[test]
fn chaos_ends_in_one_cluster() {
    for seed in 0..40 {
        let mut world = formed(5, 0.03, seed);
        let mut chance = plimsoll_sim::Rng::new(seed, "chaos", 0);
        for _ in 0..12 {
            let (n, m) = (chance.below(5) as usize, chance.below(5) as usize);
            match chance.below(4) {
                0 => {
                    world.crash(n);
                    world.run_for(Duration::from_millis(chance.below(6000)));
                    let epoch = chance.below(300);
                    world.start(n, epoch);
                }
                1 => {
                    world.pause(n);
                    world.run_for(Duration::from_millis(chance.below(6000)));
                    world.resume(n);
                }
                2 if n != m => {
                    world.wall(n, m);
                    world.run_for(Duration::from_millis(chance.below(9000)));
                    world.heal();
                }
                _ => {
                    world.partition(&[n, m]);
                    world.run_for(Duration::from_millis(chance.below(9000)));
                    world.heal();
                }
            }
            world.run_for(Duration::from_millis(chance.below(3000)));
        }
        assert!(world.run_until(secs(10), World::all_know_all).is_some(), "seed {seed}: not one cluster");
        world.run_for(secs(15));
        assert!(world.all_know_all(), "seed {seed}");
        assert!(world.views_are_true(), "seed {seed}");
        assert!(renewals(&world) <= 60, "seed {seed}: {} renewals", renewals(&world));
        no_internal_errors(&world);
    }
}
