//! What a request pays for being routed: one pick, its charge, and the release, in one thread and in two.
//!
//! `cargo bench --no-default-features --bench pick`

use divan::Bencher;
use plimsoll::core::{Core, CoreConfig};
use plimsoll::observe::{Cost, PodSpec};
use plimsoll::pick::{Outcome, Picker, PolicyKind, Request, Wake};
use plimsoll::time::Time;

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

const PODS: [usize; 4] = [4, 16, 64, 256];

/// A picker over `pods` pods that each have something in flight, as in a busy fleet.
fn picker(policy: PolicyKind, pods: usize) -> (Picker, Vec<plimsoll::pick::Ticket>) {
    let mut config = CoreConfig::new("bench", ([127, 0, 0, 1], 7600).into());
    config.policy = policy;
    let mut core = Core::new(config, Time::ZERO, Box::new(NoWake));
    let spec = |k| PodSpec::new(format!("pod-{k}"), format!("http://10.1.0.{k}:8001"));
    core.set_pods(Time::ZERO, (0..pods).map(spec).collect());
    let picker = core.picker().clone();
    let cost = |k: usize| Cost::from_ms(if k.is_multiple_of(7) { 120.0 } else { 5.0 }).expect("a number");
    let hold = |k| picker.pick(Time::ZERO, &Request::new("resnet").cost(cost(k))).expect("there are pods");
    let held = (0..2 * pods).map(hold).collect();
    (picker, held)
}

fn pick_and_release(bencher: Bencher<'_, '_>, policy: PolicyKind, pods: usize) {
    let (picker, _held) = picker(policy, pods);
    let now = Time::from_nanos(1_000_000);
    bencher.bench(|| {
        let ticket = picker.pick(now, &Request::new("resnet").bytes(5000)).expect("there are pods");
        ticket.finish(now, Outcome::Refused);
    });
}

#[divan::bench(args = PODS, threads = [1, 2])]
fn plimsoll(bencher: Bencher<'_, '_>, pods: usize) {
    pick_and_release(bencher, PolicyKind::Plimsoll, pods);
}

#[divan::bench(args = PODS, threads = [1, 2])]
fn least_cost(bencher: Bencher<'_, '_>, pods: usize) {
    pick_and_release(bencher, PolicyKind::LeastCost, pods);
}

#[divan::bench(args = PODS, threads = [1, 2])]
fn p2c(bencher: Bencher<'_, '_>, pods: usize) {
    pick_and_release(bencher, PolicyKind::P2c, pods);
}

#[divan::bench(args = PODS, threads = [1, 2])]
fn round_robin(bencher: Bencher<'_, '_>, pods: usize) {
    pick_and_release(bencher, PolicyKind::RoundRobin, pods);
}

fn main() {
    divan::main();
}
