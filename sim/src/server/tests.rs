use super::*;
use crate::law::Law;
use crate::rng::Rng;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

/// Job `id` of so many ms.
const fn job(id: u64, service_ms: u64) -> Job {
    Job { id, service: ms(service_ms) }
}

fn batching(max: u32, delay_ms: u64, law: BatchLaw) -> ServerSpec {
    ServerSpec { batching: Some(Batching { max, queue_delay: ms(delay_ms), law }), ..ServerSpec::default() }
}

const PADDED: BatchLaw = BatchLaw::Padded { slope: 0.15 };

/// What finished, as (id, start, end) in ms.
fn run(server: &mut Server, until_ms: u64) -> Vec<(u64, u64, u64)> {
    let mut finished = Vec::new();
    server.advance(at(until_ms), &mut finished);
    let in_ms = |time: Time| {
        assert_eq!(time.as_nanos() % 1_000_000, 0, "{time:?}");
        time.as_nanos() / 1_000_000
    };
    finished.iter().map(|done| (done.id, in_ms(done.started), in_ms(done.ended))).collect()
}

/// The queue is the model: one at a time, in the order of arrival, each from the end of the one before; a short job does
/// not overtake a long one.
#[test]
fn one_slot_serves_in_the_order_of_arrival() {
    let mut server = Server::new(&ServerSpec::default());
    assert_eq!(server.next(), None);
    for job in [job(1, 10), job(2, 5), job(3, 1)] {
        server.arrive(at(0), job).unwrap();
    }
    assert_eq!((server.in_flight(), server.waiting(), server.next()), (3, 2, Some(at(10))));
    assert_eq!(run(&mut server, 12), [(1, 0, 10)]);
    assert_eq!((server.work_left(at(12)), server.earliest_start(at(12))), (ms(4), ms(4)));
    assert_eq!(run(&mut server, 100), [(2, 10, 15), (3, 15, 16)]);
    assert_eq!((server.in_flight(), server.busy(), server.next()), (0, ms(16), None));
    assert_eq!(server.earliest_start(at(100)), Duration::ZERO);
}

/// Two slots take two at once, the next in line goes to whichever is free first, and what ends at one instant is told in
/// the order it started: an output must not hang on a heap's whims.
#[test]
fn several_slots_share_one_queue() {
    let mut server = Server::new(&ServerSpec { slots: 2, ..ServerSpec::default() });
    for job in [job(1, 10), job(2, 4), job(3, 6), job(4, 5)] {
        server.arrive(at(0), job).unwrap();
    }
    // 3 starts at 4 and ends at 10 with 1; 4 and a newcomer start there.
    assert_eq!(server.earliest_start(at(0)), ms(10));
    assert_eq!(run(&mut server, 10), [(2, 0, 4), (1, 0, 10), (3, 4, 10)]);
    assert_eq!(server.earliest_start(at(10)), Duration::ZERO);
    assert_eq!(server.busy(), ms(20));
    assert_eq!(run(&mut server, 20), [(4, 10, 15)]);
}

/// A limit refuses what comes when the queue is full, and only then: a free slot takes a request even if none may wait.
#[test]
fn a_full_queue_refuses() {
    let mut server = Server::new(&ServerSpec { max_queue: Some(1), ..ServerSpec::default() });
    server.arrive(at(0), job(1, 10)).unwrap();
    server.arrive(at(0), job(2, 10)).unwrap();
    assert_eq!(server.arrive(at(0), job(3, 10)), Err(Refused));
    assert_eq!(run(&mut server, 10), [(1, 0, 10)]);
    server.arrive(at(10), job(4, 10)).unwrap();
    assert_eq!(run(&mut server, 100), [(2, 10, 20), (4, 20, 30)]);

    let mut server = Server::new(&ServerSpec { max_queue: Some(0), ..ServerSpec::default() });
    server.arrive(at(0), job(1, 10)).unwrap();
    assert_eq!(server.arrive(at(5), job(2, 10)), Err(Refused));
    assert_eq!(run(&mut server, 100), [(1, 0, 10)]);
}

/// By hand: the first runs alone; the three that came meanwhile are padded to the longest, 40 x (1 + 0.15 x 2) = 52 ms;
/// the limit of three leaves the fifth for itself.
#[test]
fn a_padded_batch_runs_as_its_longest() {
    let mut server = Server::new(&batching(3, 0, PADDED));
    for job in [job(1, 10), job(2, 20), job(3, 40), job(4, 5), job(5, 10)] {
        server.arrive(at(0), job).unwrap();
    }
    assert_eq!(server.earliest_start(at(0)), ms(62));
    let all = [(1, 0, 10), (2, 10, 62), (3, 10, 62), (4, 10, 62), (5, 62, 72)];
    assert_eq!(run(&mut server, 100), all);
    assert_eq!(server.busy(), ms(72));
}

/// By hand: alone, 16 + 0.2 x 20 = 20 ms; three together, 16 + 0.2 x (10 + 20 + 40) = 30 ms.
#[test]
fn an_additive_batch_runs_as_its_sum() {
    let mut server = Server::new(&batching(8, 0, BatchLaw::Additive { fixed_ms: 16.0, per: 0.2 }));
    for job in [job(1, 20), job(2, 10), job(3, 20), job(4, 40)] {
        server.arrive(at(0), job).unwrap();
    }
    assert_eq!(run(&mut server, 100), [(1, 0, 20), (2, 20, 50), (3, 20, 50), (4, 20, 50)]);
}

/// An idle slot waits for company: until the batch is full, or the oldest has waited as long as it may; a slot that has
/// just ended work takes at once what has waited that long already.
#[test]
fn a_queue_delay_waits_for_a_full_batch_or_its_time() {
    let mut server = Server::new(&batching(2, 10, BatchLaw::Additive { fixed_ms: 30.0, per: 0.0 }));
    assert_eq!(server.earliest_start(at(0)), ms(10));
    server.arrive(at(0), job(1, 1)).unwrap();
    // A second would fill it, and start at once.
    assert_eq!((server.next(), server.waiting(), server.earliest_start(at(4))), (Some(at(10)), 1, Duration::ZERO));
    assert_eq!(run(&mut server, 4), []);
    server.arrive(at(4), job(2, 1)).unwrap();
    assert_eq!((server.next(), server.waiting()), (Some(at(34)), 0));
    server.arrive(at(20), job(3, 1)).unwrap();
    assert_eq!(run(&mut server, 34), [(1, 4, 34), (2, 4, 34)]);
    assert_eq!(server.next(), Some(at(64)));
    assert_eq!(run(&mut server, 64), [(3, 34, 64)]);
    server.arrive(at(70), job(4, 1)).unwrap();
    assert_eq!(run(&mut server, 200), [(4, 80, 110)]);
}

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
    assert_eq!(server.crash(), []);
    server.restart(at(100));
    server.arrive(at(100), job(3, 10)).unwrap();
    assert_eq!(run(&mut server, 200), [(3, 100, 130)]);
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
    assert_eq!(server.crash(), []);
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

/// The waits of a server at load 0.9, and what it foretold of them; work conservation beside it.
fn waits(spec: &ServerSpec, jobs: &[(Time, Duration)]) -> Vec<Duration> {
    let mut server = Server::new(spec);
    let (mut waits, mut finished) = (vec![Duration::ZERO; jobs.len()], Vec::new());
    for (id, (arrived, service)) in jobs.iter().enumerate() {
        server.advance(*arrived, &mut finished);
        let foretold = server.earliest_start(*arrived);
        server.arrive(*arrived, Job { id: id as u64, service: *service }).unwrap();
        waits[id] = foretold;
    }
    while let Some(due) = server.next() {
        server.advance(due, &mut finished);
    }
    assert_eq!(finished.len(), jobs.len());
    assert_eq!(server.busy(), jobs.iter().map(|(_, service)| *service).sum());
    for Finished { id, started, ended } in finished {
        let (arrived, service) = jobs[id as usize];
        assert_eq!((started.since(arrived), ended.since(started)), (waits[id as usize], service), "job {id}");
    }
    waits
}

/// Poisson arrivals of the reference mix, for `slots` at load 0.9.
fn jobs(slots: u32) -> Vec<(Time, Duration)> {
    let sizes = Law::default().load().unwrap();
    let mut rng = Rng::new(u64::from(slots), "jobs", 0);
    let gap = sizes.mean().as_nanos() as f64 / 0.9 / f64::from(slots);
    let mut now = Time::ZERO;
    let job = |_| {
        now = now + Duration::from_nanos((gap * rng.exponential()) as u64);
        (now, sizes.draw(&mut rng).service)
    };
    (0..50_000).map(job).collect()
}

/// An independent account of one slot, to the nanosecond over 50,000 jobs: Lindley's recursion, W' = max(0, W + S - A).
/// What an oracle is foretold must come true as exactly.
#[test]
fn one_slot_waits_as_lindley_says() {
    let jobs = jobs(1);
    let mut expected = vec![Duration::ZERO];
    for pair in jobs.windows(2) {
        let [(came, service), (comes, _)] = pair else { unreachable!("windows of two") };
        expected.push((expected[expected.len() - 1] + *service).saturating_sub(comes.since(*came)));
    }
    assert_eq!(waits(&ServerSpec::default(), &jobs), expected);
}

/// And of several: the Kiefer-Wolfowitz recursion, sorted workloads of the slots, the least of which takes the next job.
#[test]
fn several_slots_wait_as_kiefer_and_wolfowitz_say() {
    for slots in [2, 4, 16] {
        let jobs = jobs(slots);
        let (mut loads, mut last) = (vec![Duration::ZERO; slots as usize], Time::ZERO);
        let wait = |(arrived, service): &(Time, Duration)| {
            loads.iter_mut().for_each(|load| *load = load.saturating_sub(arrived.since(last)));
            last = *arrived;
            let least = loads.iter_mut().min().expect("there are slots");
            let wait = *least;
            *least += *service;
            wait
        };
        let expected: Vec<Duration> = jobs.iter().map(wait).collect();
        assert_eq!(waits(&ServerSpec { slots, ..ServerSpec::default() }, &jobs), expected, "{slots} slots");
    }
}

/// A pod of a plan: short to write, read back as it was, and what cannot be is refused by name.
#[test]
fn specs_are_read_written_and_checked() {
    let read = |text: &str| toml::from_str::<ServerSpec>(text);
    assert_eq!(read("").unwrap(), ServerSpec::default());
    let text = "slots = 2\n[batching]\nmax = 4\nqueue_delay_us = 1500\nlaw = { kind = \"padded\" }";
    let spec = read(text).unwrap();
    let batches = Batching { max: 4, queue_delay: Duration::from_micros(1500), law: PADDED };
    assert_eq!(spec, ServerSpec { slots: 2, batching: Some(batches), ..ServerSpec::default() });
    let additive = batching(8, 3, BatchLaw::Additive { fixed_ms: 16.0, per: 0.2 });
    for spec in [spec, additive.clone(), ServerSpec { max_queue: Some(3), drops_cancelled: true, ..additive }] {
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(read(&toml::to_string(&spec).unwrap()).unwrap(), spec);
    }
    assert!(read("slotss = 2").unwrap_err().to_string().contains("slotss"));
    let cases = [
        (ServerSpec { slots: 0, ..ServerSpec::default() }, "slots = `0` is out of range: write a whole number from 1"),
        (batching(0, 0, PADDED), "max = `0`"),
        (batching(1, 60_001, PADDED), "queue_delay_us = `60001000`"),
        (batching(1, 0, BatchLaw::Padded { slope: -0.1 }), "slope = `-0.1`"),
        (batching(1, 0, BatchLaw::Additive { fixed_ms: f64::NAN, per: 0.2 }), "fixed_ms = `NaN`"),
        (batching(1, 0, BatchLaw::Additive { fixed_ms: 1.0, per: -1.0 }), "per = `-1`"),
    ];
    for (spec, says) in cases {
        let error = spec.check().unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}
