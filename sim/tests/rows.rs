//! What nodes know of each other's counts: exact when things are quiet, gone when their owner is, never twice.

use std::time::Duration;

use plimsoll::pick::{Outcome, PolicyKind, Ticket};
use plimsoll_sim::{Config, Link, Policy, World, spec};

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn formed(config: Config) -> World {
    let mut world = World::new(config);
    assert!(world.run_until(secs(10), World::all_know_all).is_some());
    world
}

fn lossy(nodes: usize, loss: f64, seed: u64) -> World {
    formed(Config { nodes, seed, link: Link::lossy(loss), ..Config::default() })
}

fn hold(world: &mut World, n: usize, count: usize, cost_ms: f64) -> Vec<Ticket> {
    (0..count).map(|_| world.pick(n, "model", cost_ms)).collect()
}

fn end(world: &mut World, n: usize, tickets: Vec<Ticket>, outcome: Outcome) {
    tickets.into_iter().for_each(|ticket| world.finish(n, ticket, outcome));
}

/// The views are what picks go by: when nothing changes any more, every node must know every other's counts exactly.
#[test]
fn after_a_second_of_quiet_every_view_is_the_truth() {
    for (nodes, loss, seed) in [(3, 0.0, 1), (5, 0.05, 2), (10, 0.05, 3), (10, 0.1, 4)] {
        let mut world = lossy(nodes, loss, seed);
        let mut held = Vec::new();
        for n in 0..nodes {
            held.push(hold(&mut world, n, 3 + n, 5.0));
            world.run_for(ms(7));
            held[n].extend(hold(&mut world, n, 2, 120.0));
        }
        for (n, held) in held.iter_mut().enumerate() {
            let some = held.split_off(2);
            end(&mut world, n, some, Outcome::Served);
        }
        let took = world.run_until(secs(5), World::views_are_true);
        let within = if loss > 0.05 { secs(4) } else { ms(2100) };
        assert!(took.is_some_and(|took| took <= within), "{nodes} nodes, loss {loss}: {took:?}");
        for (n, held) in held.into_iter().enumerate() {
            end(&mut world, n, held, Outcome::Served);
        }
        world.run_for(secs(3));
        assert!(world.views_are_true() && world.all_is_idle());
    }
}

/// Without loss, news takes one hop: immediate push is what the default policy lives on.
#[test]
fn a_change_is_known_everywhere_after_one_hop() {
    let mut world = lossy(4, 0.0, 5);
    // The first one pays for the index table.
    let first = hold(&mut world, 0, 8, 5.0);
    world.run_for(secs(2));
    end(&mut world, 0, first, Outcome::Served);
    world.run_for(ms(200));
    for _ in 0..20 {
        let held = hold(&mut world, 0, 1, 5.0);
        world.run_for(Duration::from_micros(1050));
        assert!(world.views_are_true());
        end(&mut world, 0, held, Outcome::Served);
        world.run_for(ms(50));
        assert!(world.views_are_true());
    }
}

/// A row may overtake the index table that it goes by: it must count as soon as the table is there.
#[test]
fn rows_that_overtake_their_names_count_within_a_tenth_of_a_second() {
    for seed in 0..20 {
        let mut world = lossy(4, 0.0, seed);
        let held = hold(&mut world, 1, 4, 50.0);
        world.run_for(ms(100));
        assert!(world.views_are_true(), "seed {seed}");
        // New models get new indexes on a connection that knows some already.
        let more: Vec<Ticket> = (0..5).map(|k| world.pick(1, &format!("model-{k}"), 50.0)).collect();
        world.run_for(ms(100));
        assert!(world.views_are_true(), "seed {seed}");
        end(&mut world, 1, held, Outcome::Served);
        end(&mut world, 1, more, Outcome::Served);
    }
}

/// Streams are lost and repaired one by one, so index tables arrive out of order: a gap must close, not stay.
#[test]
fn names_that_arrive_out_of_order_are_made_good() {
    for seed in 0..20 {
        let mut world = lossy(4, 0.3, seed);
        let mut held = Vec::new();
        for k in 0..12 {
            held.push(world.pick(2, &format!("model-{k}"), 50.0));
            world.run_for(ms(3));
        }
        let took = world.run_until(secs(12), World::views_are_true);
        assert!(took.is_some(), "seed {seed}: {:?} is believed, {:?} is true", world.believed(0), world.truth(0));
        end(&mut world, 2, held, Outcome::Served);
    }
}

/// A dead caller's load is not there any more, whatever membership thinks; nor may it come back.
#[test]
fn a_killed_nodes_counts_are_gone_three_seconds_after_its_last_row() {
    for seed in 0..5 {
        let mut world = lossy(5, 0.02, seed);
        let held = hold(&mut world, 4, 10, 120.0);
        world.run_for(secs(2));
        assert!(world.views_are_true());
        drop(held);
        world.crash(4);
        world.run_for(ms(3150));
        for n in 0..4 {
            assert!(world.believed(n).is_empty(), "seed {seed}: {:?}", world.believed(n));
        }
        world.start(4, 1);
        world.run_for(secs(5));
        assert!(world.views_are_true() && world.all_is_idle());
        let held = hold(&mut world, 4, 6, 120.0);
        world.run_for(secs(2));
        assert!(world.views_are_true(), "the reborn node's rows count");
        end(&mut world, 4, held, Outcome::Served);
    }
}

/// The reborn node must be told of as itself though its first words were spoken under an epoch that it had to give up.
#[test]
fn a_node_that_outdoes_its_past_tells_its_names_again() {
    for seed in 0..20 {
        let mut world = lossy(4, 0.05, seed);
        let held = hold(&mut world, 3, 8, 120.0);
        world.run_for(secs(1));
        drop(held);
        // Only one of the others remembers: the rest are new, and hear of the past last.
        world.partition(&[0]);
        world.crash(1);
        world.crash(2);
        world.crash(3);
        for n in 1..4 {
            world.start(n, 1);
        }
        world.run_for(secs(3));
        let held: Vec<_> = (1..4).map(|n| hold(&mut world, n, 5, 120.0)).collect();
        world.run_for(secs(3));
        world.heal();
        world.run_for(secs(15));
        assert!(world.all_know_all(), "seed {seed}");
        assert!(
            world.views_are_true(),
            "seed {seed}: {:?} is believed, {:?} is true",
            world.believed(1),
            world.truth(1)
        );
        for (n, held) in (1..4).zip(held) {
            end(&mut world, n, held, Outcome::Served);
        }
    }
}

/// Leaving hands everything back at once: no tail of three seconds after every deploy.
#[test]
fn a_leaving_nodes_counts_are_zero_at_once() {
    let mut world = lossy(5, 0.0, 6);
    let held = hold(&mut world, 2, 12, 120.0);
    world.run_for(secs(2));
    world.leave(2);
    drop(held);
    world.run_for(ms(5));
    assert!((0..5).filter(|n| *n != 2).all(|n| world.believed(n).is_empty()));
}

/// 300 pods with several classes each do not fit one datagram: the row must arrive whole and vanish whole.
#[test]
fn a_row_of_many_datagrams_arrives_whole_and_vanishes_whole() {
    for loss in [0.0, 0.05] {
        let config = Config {
            nodes: 3,
            pods: 300,
            policy: Policy::Product(PolicyKind::RoundRobin),
            link: Link::lossy(loss),
            ..Config::default()
        };
        let mut world = formed(config);
        let mut held = Vec::new();
        for cost_ms in [1.0, 8.0, 64.0, 512.0] {
            held.extend(hold(&mut world, 0, 300, cost_ms));
            world.run_for(ms(30));
        }
        let took = world.run_until(secs(8), World::views_are_true);
        assert!(took.is_some(), "loss {loss}");
        assert_eq!(world.believed(1).len(), 300);
        assert_eq!(world.believed(1).values().sum::<u32>(), 1200);
        end(&mut world, 0, held, Outcome::Served);
        world.run_for(secs(5));
        assert!(world.views_are_true() && world.all_is_idle(), "loss {loss}");
    }
}

/// A cancelled Triton request runs on: its pod looks busy to everybody until its predicted end, and not longer.
#[test]
fn remainders_are_known_everywhere_and_expire_everywhere() {
    let mut world = lossy(3, 0.0, 8);
    let held = hold(&mut world, 0, 4, 400.0);
    world.run_for(ms(100));
    end(&mut world, 0, held, Outcome::Cancelled);
    world.run_for(ms(100));
    for n in 0..3 {
        let view = world.core(n).view(world.local(n));
        let in_flight: f64 = view.pods.iter().map(|pod| pod.in_flight).sum();
        assert!((in_flight - 4.0).abs() < 0.01, "node {n}: {in_flight}");
    }
    world.run_for(ms(400));
    assert!(world.all_is_idle());
}

/// Pods come and go on one node before another hears of it: shares must neither leak nor count twice.
#[test]
fn a_pod_that_leaves_and_returns_carries_its_peers_shares() {
    let mut world = lossy(3, 0.0, 9);
    let held = hold(&mut world, 0, 16, 120.0);
    world.run_for(ms(1200));
    let all: Vec<_> = (0..8).map(|k| spec(k, 1)).collect();
    world.set_pods(1, all[..3].to_vec());
    let sum = |world: &World, n: usize| -> f64 {
        world.core(n).view(world.local(n)).pods.iter().map(|pod| pod.peers_in_flight).sum()
    };
    assert_eq!(sum(&world, 1), 6.0);
    world.run_for(ms(1500));
    assert_eq!(sum(&world, 1), 6.0);
    // The same pods with other settings are other counters.
    let wider: Vec<_> = (0..8).map(|k| spec(k, 2)).collect();
    world.set_pods(1, wider.clone());
    assert_eq!(sum(&world, 1), 16.0);
    world.set_pods(0, wider);
    world.run_for(ms(1500));
    assert_eq!(sum(&world, 1), 16.0);
    assert_eq!(sum(&world, 2), 16.0);
    end(&mut world, 0, held, Outcome::Served);
    world.run_for(ms(1500));
    assert!(world.all_is_idle());
    // Under load, with pods in and out on every node.
    world.set_load(0.5);
    for round in 0..20 {
        world.set_pods(round % 3, all[..4 + round % 5].to_vec());
        world.run_for(ms(137));
    }
    world.set_load(0.0);
    (0..3).for_each(|n| world.set_pods(n, all.clone()));
    world.run_for(secs(30));
    assert!(world.all_is_idle());
}

/// After a storm of everything, silence: any count that stays is a leak, and a leaked count is a fenced-off pod.
#[test]
fn after_load_stops_every_view_is_zero() {
    for (nodes, loss, seed) in [(4, 0.0, 1), (5, 0.05, 2), (10, 0.02, 3)] {
        let mut world = lossy(nodes, loss, seed);
        world.set_load(0.8);
        for _ in 0..20 {
            world.run_for(ms(250));
            assert!(world.own_counts_are_exact());
        }
        world.pause(0);
        world.run_for(secs(3));
        world.resume(0);
        world.crash(1);
        world.run_for(secs(2));
        world.start(1, 50);
        world.partition(&[2]);
        world.run_for(secs(4));
        world.heal();
        world.run_for(secs(5));
        assert!(world.own_counts_are_exact());
        world.set_load(0.0);
        world.run_for(secs(30));
        assert!(world.all_is_idle(), "{nodes} nodes, loss {loss}");
        for n in world.live() {
            let stats = world.core(n).stats();
            assert_eq!((stats.swim_internal_errors, stats.missed_changes, stats.missed_remainders), (0, 0, 0));
        }
    }
}
