//! What a request pays for being routed: one pick, its charge, and the release, on a busy fleet, in one thread and in more.
//! Beside it, in the same run, what a machine takes for one atomic step, one look at the clock, and one round trip to a
//! socket on loopback: the least that asking anybody would take.
//!
//! ```sh
//! cargo bench --no-default-features --bench pick
//! benches/instructions      # instructions per pick and release, by valgrind
//! ```

mod busy;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use divan::{Bencher, black_box};
use plimsoll::pick::{Outcome, Picker, PolicyKind, Request};
use plimsoll::time::Time;

use crate::busy::{Busy, Kind};

const PODS: [usize; 5] = [4, 16, 64, 256, 500];
const THREADS: [usize; 3] = [1, 2, 4];

// Samples are long, because threads must have begun before the first of them ends: else they take turns.
fn pick_and_release(picker: &Picker, now: Time) {
    let ticket = picker.pick(now, &Request::new("resnet50").bytes(5000)).expect("there are pods");
    ticket.finish(now, Outcome::Served);
}

fn bench(bencher: Bencher<'_, '_>, policy: PolicyKind, pods: usize, kind: Kind) {
    let busy = Busy::new(policy, pods, kind);
    let (picker, now) = (&busy.picker, busy.now);
    bencher.bench(|| pick_and_release(picker, now));
}

#[divan::bench(args = PODS, threads = THREADS, sample_count = 20, sample_size = 5000)]
fn least_cost(bencher: Bencher<'_, '_>, pods: usize) {
    bench(bencher, PolicyKind::LeastCost, pods, Kind::OneSlot);
}

#[divan::bench(args = PODS, threads = THREADS, sample_count = 20, sample_size = 5000)]
fn plimsoll(bencher: Bencher<'_, '_>, pods: usize) {
    bench(bencher, PolicyKind::Plimsoll, pods, Kind::OneSlot);
}

#[divan::bench(args = PODS, threads = THREADS, sample_count = 20, sample_size = 5000)]
fn plimsoll_four_slots(bencher: Bencher<'_, '_>, pods: usize) {
    bench(bencher, PolicyKind::Plimsoll, pods, Kind::FourSlots);
}

#[divan::bench(args = PODS, threads = THREADS, sample_count = 20, sample_size = 5000)]
fn plimsoll_batches(bencher: Bencher<'_, '_>, pods: usize) {
    bench(bencher, PolicyKind::Plimsoll, pods, Kind::Batches);
}

#[divan::bench(args = PODS)]
fn p2c(bencher: Bencher<'_, '_>, pods: usize) {
    bench(bencher, PolicyKind::P2c, pods, Kind::OneSlot);
}

#[divan::bench(args = PODS)]
fn round_robin(bencher: Bencher<'_, '_>, pods: usize) {
    bench(bencher, PolicyKind::RoundRobin, pods, Kind::OneSlot);
}

/// What nobody can do without, to measure the above by.
mod reference {
    use super::*;

    /// One counter, one step; with more threads, all on the same.
    #[divan::bench(threads = THREADS, sample_count = 20, sample_size = 200_000)]
    fn atomic_step(bencher: Bencher<'_, '_>) {
        let counter = AtomicU64::new(0);
        bencher.bench(|| black_box(&counter).fetch_add(1, Relaxed));
    }

    #[divan::bench]
    #[expect(clippy::disallowed_methods, reason = "the clock is what is measured")]
    fn clock() -> Instant {
        Instant::now()
    }

    /// To another thread's UDP socket and back, 64 bytes.
    #[divan::bench]
    fn loopback_round_trip(bencher: Bencher<'_, '_>) {
        let (near, far) = (socket(), socket());
        let to = far.local_addr().expect("it is bound");
        let echo = std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((64, from)) = far.recv_from(&mut bytes) {
                let _sent = far.send_to(&bytes, from);
            }
        });
        let mut bytes = [0; 64];
        bencher.bench_local(|| {
            near.send_to(&bytes, to).expect("loopback takes it");
            near.recv(&mut bytes).expect("it comes back")
        });
        // Shorter than a question: the end.
        near.send_to(&[0], to).expect("loopback takes it");
        echo.join().expect("it ends");
    }

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").expect("loopback is there")
    }
}

/// The instructions in here are counted by `benches/instructions`.
#[inline(never)]
fn counted_picks(picker: &Picker, now: Time, picks: usize) {
    (0..picks).for_each(|_| pick_and_release(picker, now));
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, policy, kind, pods, picks, ..] = &args[..]
        && first == "count"
    {
        let kind = match kind.as_str() {
            "slots" => Kind::FourSlots,
            "batches" => Kind::Batches,
            _ => Kind::OneSlot,
        };
        let busy = Busy::new(policy.parse().expect("a policy"), pods.parse().expect("a number of pods"), kind);
        // The first ones make room.
        (0..100).for_each(|_| pick_and_release(&busy.picker, busy.now));
        return counted_picks(&busy.picker, busy.now, picks.parse().expect("a number of picks"));
    }
    divan::main();
}
