//! What happens between nodes.

use super::{Day, Scenario};
use crate::fault::Fault;
use crate::link::Link;
use crate::rng::Share;

pub(super) const ALL: [Scenario; 9] = [
    Scenario {
        name: "loss",
        help: "One datagram in twenty is lost",
        make: |day| day.world().link.loss = Share::millionths(50_000),
    },
    Scenario {
        name: "bursty-loss",
        help: "Links are dead for 200 ms at a time, a fiftieth of it all; for a while they lose two fifths besides",
        make: |day| {
            let link = day.world().link;
            day.world().link = Link { burst: Share::millionths(20_000), burst_ms: 200, ..link };
            let for_ms = day.percent(20);
            day.at(40, Fault::Loss { share: Share::millionths(400_000), for_ms });
        },
    },
    Scenario {
        name: "far-apart",
        help: "Between regions: 40 to 80 ms one way, some datagrams doubled, some late by half a second",
        make: |day| {
            let link = day.world().link;
            let (duplicate, spike) = (Share::millionths(20_000), Share::millionths(5000));
            day.world().link = Link { delay_us: 40_000, jitter_us: 40_000, duplicate, spike, spike_ms: 500, ..link };
        },
    },
    Scenario {
        name: "delay",
        help: "All links take a tenth of a second more for a while, then two seconds",
        make: |day| {
            let for_ms = day.percent(20);
            day.at(20, Fault::Delay { add_ms: 100, for_ms });
            day.at(60, Fault::Delay { add_ms: 2000, for_ms });
        },
    },
    Scenario {
        name: "partition",
        help: "The nodes fall apart into two halves that do not see each other",
        make: |day| {
            let (group, for_ms) = (half(day), day.percent(40));
            day.at(20, Fault::Partition { group, for_ms });
        },
    },
    Scenario {
        name: "isolated-node",
        help: "One node sees no other, and goes on picking alone",
        make: |day| {
            let for_ms = day.percent(40);
            day.at(20, Fault::Partition { group: vec![0], for_ms });
        },
    },
    Scenario {
        name: "asymmetric-partition",
        help: "One half hears the other, which hears nothing back",
        make: |day| {
            let (group, for_ms) = (half(day), day.percent(40));
            for from in &group {
                let others = (0..day.nodes()).filter(|n| !group.contains(n));
                others.for_each(|to| day.at(20, Fault::Wall { from: *from, to, for_ms }));
            }
        },
    },
    Scenario {
        name: "flapping",
        help: "The wall between two halves comes and goes every other second",
        make: |day| {
            let mut at_ms = day.percent(20);
            while at_ms < day.percent(80) {
                let group = half(day);
                day.at_ms(at_ms, Fault::Partition { group, for_ms: 2000 });
                at_ms += 4000;
            }
        },
    },
    Scenario {
        name: "clog",
        help: "A node's links stop one by one, hold what they are given, and let it go at once",
        make: |day| {
            for (k, to) in (1..day.nodes()).enumerate() {
                let at_ms = day.percent(30) + 50 * k as u64;
                day.at_ms(at_ms, Fault::Clog { from: 0, to, for_ms: 3000 });
            }
        },
    },
];

/// Half of the nodes, less where there is only one.
fn half(day: &Day) -> Vec<usize> {
    (0..day.nodes() / 2).collect()
}
