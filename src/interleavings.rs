//! Picks, releases and the core at the same time, in every order in which their steps can fall (`loom`): what must hold
//! whatever the order.
//!
//! ```sh
//! cargo test --release --no-default-features --features loom --lib interleavings
//! ```
//! The steps are those on the atomics, queues and turns of `sync.rs`. Orders with more than a few switches away from a
//! thread that could go on are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use loom::thread;

use crate::gossip::Interest;
use crate::gossip::own::OwnRow;
use crate::observe::{By, Change, Cost, Formulas, Lane, Pod, PodSpec, SizeClass};
use crate::pick::{Outcome, Picker, PolicyKind, Request, Wake};
use crate::time::Time;

/// Switches away from a thread that could go on. Every bug that was put in to try showed by the third; four take twenty times
/// as long.
const SWITCHES: usize = 3;

fn every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut orders = loom::model::Builder::new();
    orders.preemption_bound = Some(SWITCHES);
    orders.max_branches = 100_000;
    orders.check(model);
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A picker with one pod where everything is made that a first pick makes: what threads hand to each other by means other
/// than those of `sync.rs`, `loom` does not see.
fn picker(policy: PolicyKind) -> (Picker, Arc<Pod>) {
    let picker = Picker::new(policy.policy(), 1, Formulas::new(), Box::new(NoWake));
    let pod = Arc::new(Pod::new(PodSpec::new("p", "p:1"), 1, picker.out().clone()));
    picker.set_pods(Arc::new(vec![pod.clone()]), Interest::All);
    picker.pick(NOW, &request()).expect("there is a pod").finish(NOW, Outcome::Served);
    (picker, pod)
}

fn ms(ms: f64) -> Cost {
    Cost::from_ms(ms).expect("a number")
}

fn request() -> Request<'static> {
    Request::new("m").cost(ms(5.0))
}

const NOW: Time = Time::from_nanos(1_000_000);

/// What the core tells of `picker`'s tickets, the way it does: it takes in what changed, then the counts.
fn tell(own: &mut OwnRow, picker: &Picker, told: &mut BTreeMap<SizeClass, u32>) {
    own.collect(picker);
    if own.costliest_change().is_some() {
        own.take_changes(NOW, |_| true).iter().for_each(|entry| _ = told.insert(entry.key.class, entry.count));
    }
}

/// A count that changes just when the core has looked, and nobody tells it: peers would believe the old one until
/// something else happens on that pod, or for ever.
#[test]
fn no_change_is_missed_by_the_core() {
    every_order(|| {
        let (picker, pod) = picker(PolicyKind::LeastCost);
        let (mut own, mut told) = (OwnRow::new(), BTreeMap::new());
        own.learn_pods(std::slice::from_ref(&pod));
        tell(&mut own, &picker, &mut told);
        let of_another = picker.clone();
        let held = thread::spawn(move || of_another.pick(NOW, &request()).expect("there is a pod"));
        tell(&mut own, &picker, &mut told);
        picker.pick(NOW, &request()).expect("there is a pod").finish(NOW, Outcome::Served);
        tell(&mut own, &picker, &mut told);
        let held = held.join().expect("it does not panic");
        tell(&mut own, &picker, &mut told);
        assert_eq!(told.values().sum::<u32>(), 1, "one is in flight, and the core knows it");
        held.finish(NOW, Outcome::Served);
        tell(&mut own, &picker, &mut told);
        assert_eq!(told.values().sum::<u32>(), 0);
    });
}

/// Sums that threads and the core change at the same time must come back to nothing, and never be below it on the way: a
/// pod whose sum wrapped is never picked again.
#[test]
fn sums_return_to_zero_and_are_never_below() {
    every_order(|| {
        let pod = Arc::new(Pod::new(PodSpec::new("p", "p:1"), 1, Arc::default()));
        let of_ticket = pod.clone();
        let ticket = thread::spawn(move || {
            of_ticket.gauge.charge(ms(5.0));
            of_ticket.gauge.release(ms(5.0));
        });
        let of_core = pod.clone();
        let core = thread::spawn(move || {
            of_core.adjust_peers(256, 7000);
            of_core.adjust_peers(256_u64.wrapping_neg(), 7000_u64.wrapping_neg());
        });
        let load = pod.load(0);
        assert!(load.cost_ms <= 12.0 && load.in_flight <= 2.0, "{load:?}");
        ticket.join().expect("it does not panic");
        core.join().expect("it does not panic");
        let load = pod.load(0);
        assert_eq!((load.cost_ms, load.in_flight, load.own_in_flight), (0.0, 0.0, 0));
    });
}

/// A cancelled request's cost goes on counting under another name until the core takes it back: were it handed over before
/// it is charged, the core could take back what is not there yet.
#[test]
fn a_remainder_is_charged_before_the_core_can_take_it_back() {
    every_order(|| {
        let (picker, pod) = picker(PolicyKind::LeastCost);
        let of_ticket = picker.clone();
        let ticket = thread::spawn(move || drop(of_ticket.pick(NOW, &request()).expect("there is a pod")));
        for _ in 0..2 {
            while let Some(remainder) = picker.hub().remainders.pop() {
                remainder.pod.remove_remainder(remainder.cost);
                assert!(pod.load(0).cost_ms <= 5.0, "{:?}", pod.load(0));
            }
        }
        ticket.join().expect("it does not panic");
        while let Some(remainder) = picker.hub().remainders.pop() {
            remainder.pod.remove_remainder(remainder.cost);
        }
        let load = pod.load(0);
        assert_eq!((load.cost_ms, load.in_flight), (0.0, 0.0));
    });
}

/// Whoever finds a schedule taken leaves its change to who has it: were it left just when that one went, the request would
/// stand in no height until somebody else came by.
#[test]
fn no_change_is_left_unplayed() {
    every_order(|| {
        let (picker, pod) = picker(PolicyKind::Plimsoll);
        let lane = pod.lane(picker.model("m"));
        // Made by whoever comes late first.
        lane.make_room();
        let sent = |number| Change::Sent { by: By::Own(number), class: SizeClass::of(ms(5.0)), cost_ms: 5.0, at: NOW };
        let ended = |number| Change::Ended { by: By::Own(number), class: SizeClass::of(ms(5.0)), at: NOW };
        let of_another = (lane.clone(), pod.clone());
        let another = thread::spawn(move || {
            let (lane, pod) = of_another;
            lane.tell(&pod, sent(1), 1, NOW);
            lane.tell(&pod, ended(1), 1, NOW);
        });
        lane.tell(&pod, sent(2), 1, NOW);
        assert!(waits(&lane) <= 10.0, "no height is above all that was sent: {}", waits(&lane));
        another.join().expect("it does not panic");
        assert_eq!((lane.heights.listed_us(), waits(&lane)), (5000.0, 5.0));
        lane.tell(&pod, ended(2), 1, NOW);
        assert_eq!((lane.heights.listed_us(), waits(&lane)), (0.0, 0.0));
    });
}

fn waits(lane: &Lane) -> f32 {
    if lane.heights.len() == 0 { 0.0 } else { lane.heights.part(0, NOW).wait_ms }
}
