//! What can befall a server: it hangs, crashes, starts cold, runs slow, loses interest.

use super::*;
use crate::rng::Rng;

/// SIGSTOP: nothing progresses, requests are still accepted, beyond any limit, and all of it is answered afterwards,
/// later by exactly the time it hung.
#[test]
fn what_hangs_ends_later_by_as_much() {
    let mut server = Server::new(&ServerSpec { slots: 2, max_queue: Some(0), ..ServerSpec::default() });
    server.arrive(at(0), job(1, 10)).unwrap();
    server.hang(at(4));
    server.hang(at(6));
    assert_eq!((server.next(), run(&mut server, 1000)), (None, vec![]));
    for id in [2, 3] {
        server.arrive(at(1000), job(id, 5)).unwrap();
    }
    assert_eq!((server.in_flight(), server.busy(), server.work_left(at(1001))), (3, ms(4), ms(16)));
    server.resume(at(1004));
    assert_eq!((server.next(), server.waiting()), (Some(at(1009)), 1));
    assert_eq!(run(&mut server, 2000), [(2, 1004, 1009), (1, 0, 1010), (3, 1009, 1014)]);
    assert_eq!(server.busy(), ms(20));
    server.resume(at(2000));
    assert_eq!(server.next(), None);

    let mut server = Server::new(&ServerSpec { max_queue: Some(0), ..ServerSpec::default() });
    server.arrive(at(0), job(1, 10)).unwrap();
    server.hang(at(4));
    server.arrive(at(5), job(2, 10)).unwrap();
    server.resume(at(6));
    assert_eq!(server.arrive(at(7), job(3, 10)), Err(Refused));
    assert_eq!(run(&mut server, 100), [(1, 0, 12), (2, 12, 22)]);
}

/// A crash loses everything, what ran first; the new process starts empty, and the time worked before counts.
#[test]
fn a_crash_loses_all_and_a_restart_starts_anew() {
    let mut server = Server::new(&ServerSpec { slots: 2, ..ServerSpec::default() });
    for job in [job(7, 30), job(5, 20), job(6, 10), job(4, 10)] {
        server.arrive(at(0), job).unwrap();
    }
    assert_eq!(run(&mut server, 12), []);
    assert_eq!(server.crash(), [7, 5, 6, 4]);
    assert_eq!((server.in_flight(), server.next(), server.busy()), (0, None, ms(24)));
    assert_eq!(server.work_left(at(12)), Duration::ZERO);
    server.restart(at(50));
    server.arrive(at(50), job(8, 10)).unwrap();
    assert_eq!(run(&mut server, 100), [(8, 50, 60)]);
    // Also one that hangs can be killed.
    server.arrive(at(100), job(9, 10)).unwrap();
    server.hang(at(103));
    assert_eq!((server.crash(), server.busy()), (vec![9], ms(37)));
    server.restart(at(120));
    server.arrive(at(120), job(10, 1)).unwrap();
    assert_eq!(run(&mut server, 200), [(10, 120, 121)]);
}

/// A cold start is paid by the first requests after each start, and oracles know of it.
#[test]
fn the_first_requests_after_a_start_run_cold() {
    let mut server = Server::new(&ServerSpec::default());
    server.set_cold(2, 300);
    for id in 0..3 {
        server.arrive(at(0), job(id, 10)).unwrap();
    }
    assert_eq!(server.earliest_start(at(0)), ms(70));
    assert_eq!(run(&mut server, 100), [(0, 0, 30), (1, 30, 60), (2, 60, 70)]);
    assert!(server.crash().is_empty());
    server.restart(at(100));
    server.arrive(at(100), job(3, 10)).unwrap();
    assert_eq!(run(&mut server, 200), [(3, 100, 130)]);

    // A batch is cold if its first is, and all of it has then been warmed up: 20 x 1.15 x 3 = 69 ms, then as normal.
    let mut server = Server::new(&batching(2, 0, PADDED));
    server.set_cold(3, 300);
    for id in 0..5 {
        server.arrive(at(0), job(id, 20)).unwrap();
    }
    let all = [(0, 0, 60), (1, 60, 129), (2, 60, 129), (3, 129, 152), (4, 129, 152)];
    assert_eq!((server.earliest_start(at(0)), run(&mut server, 200)), (ms(152), all.to_vec()));
}

/// Grey: alive, and slow, for what starts from now on, until told otherwise; a restart of the process does not mend the
/// machine.
#[test]
fn a_grey_pod_is_slow_for_what_starts_from_now() {
    let mut server = Server::new(&ServerSpec::default());
    server.arrive(at(0), job(1, 10)).unwrap();
    server.arrive(at(0), job(2, 10)).unwrap();
    server.set_slowdown(250);
    assert_eq!((server.work_left(at(0)), server.earliest_start(at(0))), (ms(35), ms(35)));
    assert_eq!(run(&mut server, 20), [(1, 0, 10)]);
    server.set_slowdown(100);
    server.arrive(at(20), job(3, 10)).unwrap();
    assert_eq!(run(&mut server, 100), [(2, 10, 35), (3, 35, 45)]);
    server.set_slowdown(200);
    assert!(server.crash().is_empty());
    server.restart(at(100));
    server.arrive(at(100), job(4, 10)).unwrap();
    assert_eq!(run(&mut server, 200), [(4, 100, 120)]);
}

/// Triton runs what was cancelled all the same, and a balancer that forgets it sends too much; a pod that drops it drops
/// only what still waits.
#[test]
fn a_cancelled_request_runs_unless_the_pod_drops_it() {
    for drops_cancelled in [false, true] {
        let mut server = Server::new(&ServerSpec { drops_cancelled, ..ServerSpec::default() });
        for id in 1..=3 {
            server.arrive(at(0), job(id, 10)).unwrap();
        }
        assert_eq!((server.cancel(1), server.cancel(2), server.cancel(9)), (false, drops_cancelled, false));
        let ran: Vec<u64> = run(&mut server, 100).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ran, if drops_cancelled { vec![1, 3] } else { vec![1, 2, 3] });
        assert_eq!(server.work_left(at(100)), Duration::ZERO);
    }
}

/// A random walk through everything that can happen to a server with 1 to 3 slots, batches or none, refusals and
/// cancels: each job that was taken ends exactly once, or is handed back once; no start is before its arrival, no end
/// before its start, and time never goes back.
#[test]
fn every_job_ends_once_or_is_handed_back() {
    let (mut served, mut lost, mut refused, mut dropped) = (0, 0, 0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed, "server", 0);
        let batches = Batching { max: 1 + rng.below(4) as u32, queue_delay: ms(rng.below(3) * 10), law: PADDED };
        let mut server = Server::new(&ServerSpec {
            slots: 1 + rng.below(3) as u32,
            max_queue: (rng.below(2) == 0).then(|| rng.below(6) as u32),
            batching: (rng.below(2) == 0).then_some(batches),
            speeds: Vec::new(),
            drops_cancelled: rng.below(2) == 0,
        });
        server.set_cold(rng.below(4) as u32, 200);
        // By id: when it came, until it ends.
        let mut here = std::collections::BTreeMap::new();
        let (mut now, mut last, mut finished) = (Time::ZERO, Time::ZERO, Vec::new());
        for id in 0..500_u64 {
            now = now + rng.between(Duration::ZERO, ms(12));
            server.advance(now, &mut finished);
            for done in finished.drain(..) {
                let arrived = here.remove(&done.id).expect("it was taken, and ends once");
                assert!(arrived <= done.started && done.started <= done.ended && last <= done.ended);
                last = done.ended;
                served += 1;
            }
            assert_eq!((server.in_flight(), server.next().is_none_or(|due| due > now)), (here.len(), true));
            match rng.below(40) {
                0 => {
                    let handed_back = server.crash();
                    lost += handed_back.len();
                    handed_back.iter().for_each(|id| assert!(here.remove(id).is_some()));
                    assert!(here.is_empty());
                    server.restart(now);
                }
                1 => server.hang(now),
                2..5 => server.resume(now),
                5 => server.set_slowdown(100 + rng.below(2) as u32 * 150),
                6..12 => {
                    let victim = id.saturating_sub(rng.below(8));
                    if server.cancel(victim) {
                        dropped += 1;
                        assert!(here.remove(&victim).is_some());
                    }
                }
                _ => match server.arrive(now, Job { id, service: rng.between(Duration::ZERO, ms(20)) }) {
                    Ok(()) => assert_eq!(here.insert(id, now), None),
                    Err(Refused) => refused += 1,
                },
            }
        }
        server.resume(now);
        while let Some(due) = server.next() {
            server.advance(due, &mut finished);
        }
        finished.iter().for_each(|done| assert!(here.remove(&done.id).is_some()));
        assert!(here.is_empty() && server.in_flight() == 0 && server.work_left(now).is_zero());
    }
    assert!(served > 50_000 && lost > 5000 && refused > 5000 && dropped > 300, "{served} {lost} {refused} {dropped}");
}

/// By hand: a pod of 140 % takes 10 / 1.4 ms for what takes 10 ms, slowed to double 2 x that; oracles know it.
#[test]
fn a_faster_pod_takes_less_for_the_same() {
    let mut server = Server::new(&ServerSpec::default());
    server.set_speed(140);
    for (id, slowdown, expected_ns) in [(1, 100, 7_142_857), (2, 200, 14_285_714)] {
        server.set_slowdown(slowdown);
        let now = at(1000 * id);
        server.arrive(now, job(id, 10)).unwrap();
        assert_eq!(server.next().map(|end| end.since(now)), Some(Duration::from_nanos(expected_ns)));
        assert_eq!(server.work_left(now), Duration::from_nanos(expected_ns));
        server.advance(at(1000 * id + 500), &mut Vec::new());
    }
}
