//! The server against independent accounts of the same queue, to the nanosecond.

use super::*;
use crate::law::Law;
use crate::rng::Rng;

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
    assert_eq!(server.busy(), jobs.iter().map(|(_, service)| *service).sum::<Duration>());
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
