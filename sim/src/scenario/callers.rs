//! What callers ask for, and what happens to them: deploys, deaths, stops, lies.

use super::{Day, Scenario};
use crate::arrivals::Arrivals;
use crate::config::Join;
use crate::fault::{Fault, Trick};
use crate::rng::Share;

pub(super) const LOADS: [Scenario; 7] = [
    Scenario { name: "steady", help: "Nothing goes wrong", make: |_| {} },
    Scenario {
        name: "burst",
        help: "The whole fleet's load swings between a fifth and nine fifths, a quarter of a second at a time",
        make: |day| day.world().arrivals = Arrivals::Bursty { swing: Share::millionths(800_000), dwell_ms: 250 },
    },
    Scenario {
        name: "spikes",
        help: "Every ten seconds, one second of three times the load",
        make: |day| day.world().arrivals = Arrivals::Spikes { factor: 3, every_ms: 10_000, lasts_ms: 1000 },
    },
    Scenario {
        name: "surge",
        help: "Half as much again for a tenth of the time, once; then next to nothing for as long",
        make: |day| {
            let for_ms = day.percent(10);
            day.at(30, Fault::Surge { percent: 150, for_ms });
            day.at(60, Fault::Surge { percent: 5, for_ms });
        },
    },
    Scenario {
        name: "overload",
        help: "A third more than the pods can do: queues of 8 that refuse, a retry, a deadline of a second",
        make: |day| {
            let world = day.world();
            world.load = 1.3;
            world.server.max_queue = Some(8);
            world.server.drops_cancelled = true;
            (world.clients.deadline_ms, world.clients.retries) = (Some(1000), 1);
        },
    },
    Scenario {
        name: "cancels",
        help: "Every third caller gives up at some moment, and its pod works on for nobody",
        make: |day| day.world().clients.cancel = Share::millionths(333_333),
    },
    Scenario {
        name: "models",
        help: "Eight models, each on half of the pods",
        make: |day| {
            let world = day.world();
            (world.clients.models, world.clients.served_by) = (8, Share::millionths(500_000));
            // Which pods serve what is drawn by chance: some are asked for more than others.
            world.load = world.load.min(0.45);
        },
    },
];

pub(super) const NODES: [Scenario; 11] = [
    Scenario {
        name: "rolling-deploy",
        help: "Every caller says goodbye and comes back, one after the other",
        make: |day| day.one_by_one(day.nodes(), |node, step| Fault::NodeRestart { node, for_ms: step.min(2000) / 2 }),
    },
    Scenario {
        name: "mass-deploy",
        help: "All callers are restarted within a second, and again",
        make: |day| {
            for percent in [25, 60] {
                for node in 0..day.nodes() {
                    let at_ms = day.percent(percent) + 1000 * node as u64 / day.nodes() as u64;
                    day.at_ms(at_ms, Fault::NodeRestart { node, for_ms: 500 });
                }
            }
        },
    },
    Scenario {
        name: "cold-start",
        help: "All nodes start at once, told of two of them, and are asked from the first moment; pods are cold",
        make: |day| {
            day.plan.form_ms = 0;
            let world = day.world();
            world.join = Join::First(2);
            (world.cold_requests, world.cold_percent) = (20, 1000);
            for pod in 0..day.pods() {
                day.at_ms(0, Fault::PodCrash { pod, for_ms: 1 });
            }
        },
    },
    Scenario {
        name: "join-loss",
        help: "Everybody is told to join the same three nodes; they die, the others are deployed, they come back",
        make: |day| {
            let named = 3.min(day.nodes().saturating_sub(1));
            day.world().join = Join::First(named.max(1));
            let away = day.percent(60);
            (0..named).for_each(|node| day.at(10, Fault::NodeCrash { node, for_ms: away, clock_back: false }));
            for node in named..day.nodes() {
                let at_ms = day.percent(25) + day.percent(30) * node as u64 / day.nodes() as u64;
                day.at_ms(at_ms, Fault::NodeRestart { node, for_ms: 1000 });
            }
        },
    },
    Scenario {
        name: "crashes",
        help: "Callers are killed one after the other, and start again on their addresses",
        make: |day| {
            let crash = |node, step: u64| Fault::NodeCrash { node, for_ms: step / 2, clock_back: false };
            day.one_by_one(day.nodes(), crash);
        },
    },
    Scenario {
        name: "clock-back",
        help: "Callers are killed one after the other, and start again with a clock in the past",
        make: |day| {
            let crash = |node, step: u64| Fault::NodeCrash { node, for_ms: step.min(4000) / 2, clock_back: true };
            day.one_by_one(day.nodes(), crash);
        },
    },
    Scenario {
        name: "swap-addresses",
        help: "Pairs of callers die, and start again on each other's addresses",
        make: |day| {
            let swap = |k, step| Fault::NodeSwap { node: 2 * k, with: 2 * k + 1, for_ms: step / 2 };
            day.one_by_one(day.nodes() / 2, swap);
        },
    },
    Scenario {
        name: "paused-node",
        help: "A quarter of the callers stop in their tracks for a second, then for so long that they count as dead",
        make: |day| {
            for node in 0..Day::share(day.nodes(), 25) {
                day.at(20, Fault::NodePause { node, for_ms: 1000 });
                let for_ms = day.percent(20).min(20_000);
                day.at(50, Fault::NodePause { node, for_ms });
            }
        },
    },
    Scenario {
        name: "slow-node",
        help: "One caller takes five milliseconds over everything it hears",
        make: |day| {
            let for_ms = day.percent(60);
            day.at(20, Fault::NodeSlow { node: 0, us: 5000, for_ms });
        },
    },
    Scenario {
        name: "hostile",
        help: "One member turns on the others: noise, forgeries, ghosts, everybody declared down; it is thrown out",
        make: |day| {
            let node = day.nodes() - 1;
            let strikes = Trick::ALL.iter().zip((10..).step_by(10));
            strikes.for_each(|(trick, percent)| day.at(percent, Fault::Hostile { node, trick: *trick, count: 5 }));
            // Then it is thrown out.
            day.plan.ending.nodes = (0..node).collect();
        },
    },
    Scenario {
        name: "replays",
        help: "Old datagrams arrive again, at everybody",
        make: |day| {
            for percent in (10..90).step_by(10) {
                (0..day.nodes()).for_each(|node| day.at(percent, Fault::Replay { node, count: 100 }));
            }
        },
    },
];
