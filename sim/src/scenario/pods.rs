//! What happens to pods: death, silence, age, replacement.

use super::{Day, Scenario};
use crate::fault::Fault;
use crate::rng::Share;
use crate::server::Batching;

pub(super) const ALL: [Scenario; 12] = [
    Scenario {
        name: "dead-pod",
        help: "A tenth of the pods die with all they have, and come back cold",
        make: |day| {
            let for_ms = day.percent(30);
            (day.world().cold_requests, day.world().cold_percent) = (20, 1000);
            (0..tenth(day)).for_each(|pod| day.at(30, Fault::PodCrash { pod, for_ms }));
        },
    },
    Scenario {
        name: "hung-pod",
        help: "A tenth of the pods take everything and answer nothing; callers wait two seconds at most",
        make: |day| {
            let for_ms = day.percent(30);
            day.world().clients.deadline_ms = Some(2000);
            (0..tenth(day)).for_each(|pod| day.at(30, Fault::PodHang { pod, for_ms }));
        },
    },
    Scenario {
        name: "grey-pod",
        help: "A tenth of the pods take twenty times as long, and say nothing of it",
        make: |day| {
            let for_ms = day.percent(60);
            (0..tenth(day)).for_each(|pod| day.at(30, Fault::PodSlow { pod, percent: 2000, for_ms }));
        },
    },
    Scenario {
        name: "mixed-pods",
        help: "Every third pod takes twice as long as the others, always, and nobody was told",
        make: |day| {
            let for_ms = day.percent(100);
            (0..day.pods()).step_by(3).for_each(|pod| day.at(0, Fault::PodSlow { pod, percent: 200, for_ms }));
        },
    },
    Scenario {
        name: "failing-pod",
        help: "A tenth of the pods fail half of their requests at once, and look idle for it",
        make: |day| {
            let (for_ms, share) = (day.percent(40), Share::millionths(500_000));
            (0..tenth(day)).for_each(|pod| day.at(30, Fault::PodErrors { pod, share, for_ms }));
        },
    },
    Scenario {
        name: "black-hole",
        help: "A tenth of the pods fail every request after a second, and call themselves ready",
        make: |day| {
            let for_ms = day.percent(60);
            (0..tenth(day)).for_each(|pod| day.at(20, Fault::ModelHole { pod, model: 0, after_ms: 1000, for_ms }));
        },
    },
    Scenario {
        name: "fast-failer",
        help: "A tenth of the pods fail every request at once, and call themselves ready",
        make: |day| {
            let for_ms = day.percent(60);
            (0..tenth(day)).for_each(|pod| day.at(20, Fault::ModelHole { pod, model: 0, after_ms: 0, for_ms }));
        },
    },
    Scenario {
        name: "model-moves",
        help: "Every pod unloads its model and loads it again, one after the other",
        make: |day| day.one_by_one(day.pods(), |pod, step| Fault::ModelUnload { pod, model: 0, for_ms: step }),
    },
    Scenario {
        name: "pods-drain",
        help: "A third of the pods are said to be about to end, callers hear of it seconds apart, and it is not so",
        make: |day| {
            let for_ms = day.percent(40);
            (0..day.pods()).step_by(3).for_each(|pod| day.at(30, Fault::PodDrain { pod, spread_ms: 3000, for_ms }));
        },
    },
    Scenario {
        name: "pod-deploy",
        help: "Every pod is replaced by a new one of the same name, one after the other; they come cold",
        make: |day| {
            (day.world().cold_requests, day.world().cold_percent) = (20, 1000);
            let replace = |pod, step: u64| Fault::PodReplace { pod, for_ms: step.min(5000), spread_ms: 1000 };
            day.one_by_one(day.pods(), replace);
        },
    },
    Scenario {
        name: "pod-churn",
        help: "Half of the pods are replaced every fifth of the time, and callers learn of it seconds apart",
        make: |day| {
            for (turn, percent) in (10..90).step_by(20).enumerate() {
                for pod in (turn % 2..day.pods()).step_by(2) {
                    day.at(percent, Fault::PodReplace { pod, for_ms: 1000, spread_ms: 3000 });
                }
            }
        },
    },
    Scenario {
        name: "batching",
        help: "Pods run up to eight requests together, for little more than the longest of them takes",
        make: |day| day.world().server.batching = Some(Batching::default()),
    },
];

fn tenth(day: &Day) -> usize {
    Day::share(day.pods(), 10)
}
