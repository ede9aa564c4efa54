//! Serving: order, slots, limits, batches.

mod faults;
mod recursions;

use super::*;

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
        (
            ServerSpec { slots: 0, ..ServerSpec::default() },
            "server.slots = `0` is out of range: write a whole number from 1",
        ),
        (batching(0, 0, PADDED), "server.batching.max = `0`"),
        (batching(1, 60_001, PADDED), "server.batching.queue_delay_us = `60001000`"),
        (batching(1, 0, BatchLaw::Padded { slope: -0.1 }), "server.batching.law.slope = `-0.1`"),
        (batching(1, 0, BatchLaw::Additive { fixed_ms: f64::NAN, per: 0.2 }), "server.batching.law.fixed_ms = `NaN`"),
        (batching(1, 0, BatchLaw::Additive { fixed_ms: 1.0, per: -1.0 }), "server.batching.law.per = `-1`"),
    ];
    for (spec, says) in cases {
        let error = spec.check().unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}
