//! Threads that pick and release as fast as they can while the core plays, tells, hears and expires: run it under
//! ThreadSanitizer to find what only luck keeps in order (CONTRIBUTING.md).

#[path = "../benches/busy/mod.rs"]
mod busy;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use busy::{Busy, Kind};
use plimsoll::observe::Cost;
use plimsoll::pick::{Outcome, Picker, PolicyKind, Request};
use plimsoll::time::Time;

const THREADS: u64 = 3;
const PICKS: u64 = 3_000;

/// Picks that end in every way there is, several at a time.
fn pick(picker: &Picker, now: Time, of: u64) {
    let mut held = Vec::new();
    for k in 0..PICKS {
        let cost = (k % 3 > 0).then(|| Cost::from_ms((1 + k % 40) as f64).expect("a number"));
        let request = Request::new(if k % 7 > 0 { "resnet50" } else { "bert" }).bytes(1000 * (k % 9));
        let request = cost.map_or(request, |cost| request.cost(cost));
        held.push(picker.pick(now, &request).expect("there are pods"));
        if k % 97 == of {
            let pod = held[0].pod().clone();
            pod.eject();
            pod.readmit();
        }
        if held.len() > 4 {
            let ticket = held.swap_remove((k % 5) as usize);
            match k % 4 {
                0 => ticket.finish(now, Outcome::Served),
                1 => ticket.finish(now, Outcome::Failed),
                2 => ticket.finish(now, Outcome::Refused),
                _ => drop(ticket),
            }
        }
    }
}

/// A charge, a mark or a change that is lost between two threads would stay for ever: in the end every sum must be what it
/// was, and what is played through, too.
#[test]
fn everything_is_given_back_whoever_did_what_at_the_same_time() {
    for (policy, kind) in [
        (PolicyKind::Plimsoll, Kind::OneSlot),
        (PolicyKind::Plimsoll, Kind::FourSlots),
        (PolicyKind::Plimsoll, Kind::Batches),
        (PolicyKind::LeastCost, Kind::OneSlot),
    ] {
        let mut busy = Busy::new(policy, 6, kind);
        let loads = |busy: &Busy| -> Vec<_> {
            busy.picker
                .pods()
                .iter()
                .map(|pod| (pod.own_in_flight(), pod.own_remainders(), pod.load(0).cost_ms))
                .collect()
        };
        let before = loads(&busy);
        let picking = AtomicUsize::new(THREADS as usize);
        let (picker, start) = (busy.picker.clone(), busy.now);
        std::thread::scope(|scope| {
            for of in 0..THREADS {
                let (picker, picking) = (&picker, &picking);
                scope.spawn(move || {
                    pick(picker, start, of);
                    picking.fetch_sub(1, SeqCst);
                });
            }
            while picking.load(SeqCst) > 0 {
                busy.run(Duration::from_millis(1));
            }
        });
        // What was cancelled is over by then, and everybody has heard of everything.
        busy.run(Duration::from_secs(60));
        assert_eq!(loads(&busy), before, "{policy} on {kind:?}");
    }
}
