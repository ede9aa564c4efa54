//! A pick and its release allocate nothing once a thread has picked before: an allocator takes locks of its own, and its
//! slow moments would be the tail of every request.

#[path = "../benches/busy/mod.rs"]
mod busy;

use std::time::Duration;

use allocation_counter::measure;
use busy::{Busy, Kind};
use plimsoll::observe::Cost;
use plimsoll::pick::{Outcome, PolicyKind, Request};

/// One list that outgrows its place on the stack would do, or a lane told for the first time: so pods of every kind, more
/// of them than any list has places, with costs given and estimated, some of them ejected or tried, and every way out.
#[test]
fn a_pick_and_its_release_allocate_nothing() {
    for policy in PolicyKind::ALL {
        for (kind, pods) in [(Kind::OneSlot, 200), (Kind::FourSlots, 70), (Kind::Batches, 70)] {
            let mut busy = Busy::new(policy, pods, kind);
            let all = busy.picker.pods();
            let tried = [all[1].id(), all[2].id()];
            let pick = |busy: &Busy, k: u64| {
                let given = (k.is_multiple_of(3)).then(|| Cost::from_ms(7.0).expect("a number"));
                let request =
                    Request::new("resnet50").bytes(1000 * k).exclude(if k.is_multiple_of(5) { &tried } else { &[] });
                let request = given.map_or(request, |cost| request.cost(cost));
                let ticket = busy.picker.pick(busy.now, &request).expect("there are pods");
                match k % 4 {
                    0 => ticket.finish(busy.now, Outcome::Served),
                    1 => ticket.finish(busy.now, Outcome::Failed),
                    2 => ticket.finish(busy.now, Outcome::Refused),
                    _ => drop(ticket),
                }
            };
            let round = |busy: &Busy| (0..2000).for_each(|k| pick(busy, k));
            // Warm: every pod was picked, and the lists have room. Then the core looks, so that what is told is told anew, and
            // what was cancelled is over: a pod with more in flight than ever before makes room for that.
            all[0].eject();
            for _ in 0..20 {
                round(&busy);
                busy.run(Duration::from_millis(400));
            }
            let counted = measure(|| round(&busy));
            assert_eq!(counted.count_total, 0, "{policy} on {kind:?}");
        }
    }
}
