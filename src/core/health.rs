//! How nodes look after the health of pods.
//!
//! What can be asked is asked by the driver: whether a pod lives, and which models it has. What cannot be asked is seen here, in
//! how requests end.

mod evidence;
mod sickbay;

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use crate::observe::{ModelOut, Pod};
use crate::pick::Draw;
use crate::time::Time;

pub(super) use sickbay::Sickbay;
use sickbay::{Change, Patient};

/// Models of one pod in a view: enough to see what is wrong with it.
const MOST_IN_VIEW: usize = 100;

/// How a node finds out which pods are fit for which models.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// How often each pod is asked which models it has ready, on the mean. What a pod refuses as unknown is found at once;
    /// this finds what comes and goes unasked. Shorter finds it sooner and costs each pod a question of 0.4 ms from every node;
    /// zero: pods are not asked.
    pub interval: Duration,
    /// So many requests of a model that a pod fails in a row, while others serve it, have it left alone for that model. Fewer find
    /// a broken pod sooner, and a pod that had bad luck; zero: no pod is left alone for how its requests end.
    pub failures: u32,
    /// How long a pod is left alone at first, give or take a quarter; each time again so much longer, up to five minutes. Shorter
    /// costs a request more often where the pod is still broken.
    pub eject: Duration,
    /// Where fewer than this share of a model's pods would be left, nobody is left alone for how requests end. Less lets a few good
    /// pods do it all; 1 leaves nobody alone.
    pub panic_share: f64,
    /// How long a pod that hangs, and is left alone for it, may go on saying nothing, neither to any request nor to the
    /// question whether it lives, until what is in flight there is given up: sent to another pod where it may run
    /// twice, failed with UNAVAILABLE where not. Less would cost requests at a pod that was stopped for a moment (a
    /// snapshot, a host that swaps) and could still end well; more keeps callers without a deadline waiting. 15 s, as a
    /// machine that is gone without a word has; zero: never.
    pub give_up: Duration,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            interval: Duration::from_secs(5),
            failures: 5,
            eject: Duration::from_secs(10),
            panic_share: 0.5,
            give_up: Duration::from_secs(15),
        }
    }
}

impl Core {
    /// Looks how requests ended: at every tick, and when a pick says that something looks sick.
    pub(super) fn look_at_health(&mut self, now: Time, tick: bool) {
        let (health, pods) = (self.config.health, self.picker.pods());
        let models = self.sickbay.models_to_look_at(now, tick, &pods);
        let mut changes = Vec::new();
        for model in models {
            let patients = pods.iter().filter_map(|pod| Some(Patient::new(now, pod, pod.lane_at(model)?)));
            let patients: Vec<Patient<'_>> = patients.collect();
            let seed = self.config.seed ^ self.id.0;
            let draw = |pod: &Pod| Draw::new(seed ^ pod.id().0, now.as_nanos() ^ model as u64);
            self.sickbay.look_at(now, &health, &patients, &draw, &mut changes);
            // Those that were never asked for it are there too.
            let has = |pod: &&Arc<Pod>| {
                let model = patients.first().map(|patient| &patient.lane.model);
                model.is_some_and(|model| pod.serves(model) && !pod.fitness.lacks.has(model.index))
            };
            let all = pods.iter().filter(has).count();
            let reachable = pods.iter().filter(has).filter(|pod| !pod.is_ejected()).count();
            self.sickbay.keep_away(now, &health, (model, &patients), (reachable, all), &mut changes);
        }
        if changes.iter().any(|change| matches!(change, Change::Told)) {
            self.picker.renew_table();
        }
        self.events.extend(changes.into_iter().filter_map(Change::event));
    }

    /// The models that picks are kept away from on `pod`, and why, as people read it.
    pub(super) fn models_out(&self, now: Time, pod: &Pod) -> Vec<ModelOut> {
        let models = self.picker.models();
        let lacks = pod.lacks().filter_map(|index| models.get(index));
        let lacks = lacks.map(|model| ModelOut { model: model.name().to_owned(), why: "lacking", for_ms: None });
        let fails = self.sickbay.of(now, pod);
        lacks.chain(fails).take(MOST_IN_VIEW).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{CoreConfig, Event};
    use crate::observe::{Because, Cost, PodSpec};
    use crate::pick::{Outcome, PolicyKind, Request, Wake};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A core and its time: requests come one after the other, round robin, 10 ms apart.
    struct World {
        core: Core,
        ms: u64,
    }

    impl World {
        fn new(pods: usize, change: impl FnOnce(&mut Health)) -> World {
            let config = CoreConfig::new("a", ([127, 0, 0, 1], 7600).into());
            let mut config = CoreConfig { policy: PolicyKind::RoundRobin, ..config };
            change(&mut config.health);
            let mut core = Core::new(config, at(0), Box::new(NoWake));
            let spec = |k| PodSpec::new(format!("pod-{k}"), format!("http://10.1.0.{k}:1"));
            core.set_pods(at(0), (0..pods).map(spec).collect());
            World { core, ms: 0 }
        }

        fn pod(&self, k: usize) -> Arc<Pod> {
            self.core.picker().pods()[k].clone()
        }

        /// So many requests of `model`, of which each ends as `ends` says of the pod and how manyeth it is; how many went where.
        fn ask(&mut self, model: &str, requests: usize, ends: impl Fn(usize, usize) -> Outcome) -> Vec<usize> {
            let mut went = vec![0; self.core.picker().pods().len()];
            for k in 0..requests {
                self.ms += 10;
                self.core.handle_timeout(at(self.ms));
                let request = Request::new(model).cost(Cost::from_ms(5.0).unwrap());
                let ticket = self.core.picker().pick(at(self.ms), &request).unwrap();
                let pod: usize = ticket.pod().name().trim_start_matches("pod-").parse().unwrap();
                went[pod] += 1;
                ticket.finish(at(self.ms + 1), ends(pod, k));
                self.core.handle_changes(at(self.ms + 1));
            }
            went
        }

        fn wait(&mut self, ms: u64) {
            (0..ms / 100).for_each(|k| self.core.handle_timeout(at(self.ms + 100 * k)));
            self.ms += ms;
            self.core.handle_timeout(at(self.ms));
        }

        fn events(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.core.poll_event()).collect()
        }
    }

    fn fails(pods: &[usize]) -> impl Fn(usize, usize) -> Outcome {
        move |pod, _| if pods.contains(&pod) { Outcome::Failed } else { Outcome::Served }
    }

    fn serves(_: usize, _: usize) -> Outcome {
        Outcome::Served
    }

    /// The black hole: it fails one model and says that it is ready. It must lose that model's requests, keep the other's, and
    /// be tried again one by one until it serves.
    #[test]
    fn a_pod_that_fails_a_model_is_left_alone_for_that_model() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 40, serves);
        let went = world.ask("m", 100, fails(&[1]));
        assert!((5..=7).contains(&went[1]), "{went:?}");
        let [Event::ModelEjected { pod, model, because, span }] = &world.events()[..] else { panic!() };
        assert_eq!((&**pod, &**model, *because), ("pod-1", "m", Because::FailsInARow));
        assert!((Duration::from_millis(7500)..Duration::from_millis(12_500)).contains(span));
        assert_eq!(world.pod(1).stats().ejected_because(Because::FailsInARow), 1);
        let view = world.core.view(at(world.ms));
        assert!(view.pods[1].ejected, "all that it was asked for is out");
        assert_eq!((&*view.pods[1].models_out[0].model, view.pods[1].models_out[0].why), ("m", "failing"));

        assert_eq!(world.ask("n", 8, serves)[1], 2, "its other models are served");
        assert!(!world.core.view(at(world.ms)).pods[1].ejected);
        // It is broken still: one request finds out, and it is out for longer.
        world.wait(13_000);
        assert_eq!(world.events().len(), 1, "it is tried again");
        let went = world.ask("m", 100, fails(&[1]));
        assert_eq!(went[1], 1, "{went:?}");
        let [Event::ModelEjected { span, .. }] = &world.events()[..] else { panic!() };
        assert!((Duration::from_secs(15)..Duration::from_secs(25)).contains(span));
        // It is mended: its first request brings it back.
        world.wait(26_000);
        let went = world.ask("m", 100, serves);
        assert!((24..=26).contains(&went[1]), "{went:?}");
        assert!(world.core.view(at(world.ms)).pods[1].models_out.is_empty());
    }

    /// A node that has just started asks a broken pod first: those that are asked for the model only after that vouch for it as well as
    /// any.
    #[test]
    fn who_was_not_asked_before_a_row_of_failures_counts_too() {
        let mut world = World::new(4, |_| {});
        let went = world.ask("m", 100, fails(&[0]));
        assert!((5..=9).contains(&went[0]), "{went:?}");
        assert!(matches!(world.events()[..], [Event::ModelEjected { because: Because::FailsInARow, .. }]));
    }

    /// A model that fails everywhere, or for some of its callers, is no pod's fault, and a pod that fails as much as all others
    /// is none either: nobody may be left alone.
    #[test]
    fn what_fails_everywhere_is_nobodys_fault() {
        for share in [100, 60, 20] {
            let mut world = World::new(4, |_| {});
            world.ask("m", 400, serves);
            let draw = |pod, k| Draw::new(share, k as u64).below(pod as u64, 100) < share as usize;
            let went = world.ask("m", 4000, |pod, k| if draw(pod, k) { Outcome::Failed } else { Outcome::Served });
            assert!(went.iter().all(|went| *went == 1000), "{share}: {went:?}");
            assert!(world.events().is_empty());
        }
    }

    /// A pod that fails a third of its requests never fails many in a row, and costs its callers as much in the long run.
    #[test]
    fn a_pod_that_fails_a_share_is_found_too() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 40, serves);
        let went = world.ask("m", 400, |pod, k| if pod == 2 && k % 3 == 0 { Outcome::Failed } else { Outcome::Served });
        assert!(went[2] < 60, "{went:?}");
        assert!(matches!(world.events()[..], [Event::ModelEjected { because: Because::FailsMore, .. }]));
    }

    /// Refusals, cancels and calls without work say nothing of a pod, and a metadata call that it answers must not hide that it
    /// fails what it is there for.
    #[test]
    fn only_work_that_was_failed_counts() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 40, serves);
        for outcome in [Outcome::Refused, Outcome::Cancelled] {
            let went = world.ask("m", 200, |pod, _| if pod == 0 { outcome } else { Outcome::Served });
            assert_eq!(went[0], 50);
        }
        let mut failed = 0;
        for k in 0..400 {
            failed += world.ask("m", 1, fails(&[0]))[0];
            let request = Request::new("m").cost(Cost::ZERO).exclude(&[]);
            if k % 4 == 0 {
                world.core.picker().pick(at(world.ms), &request).unwrap().finish(at(world.ms), Outcome::Served);
            }
        }
        assert!(failed < 10, "{failed}");
    }

    /// Two of four are broken and left alone; when the third breaks too, one could not bear it all: all are picked, as if none
    /// were. The same where others are lost otherwise.
    #[test]
    fn where_too_few_would_be_left_all_are_picked() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 40, serves);
        world.ask("m", 200, fails(&[0, 1]));
        assert_eq!(world.ask("m", 20, serves), [0, 0, 10, 10]);
        world.events();
        world.pod(3).eject();
        world.wait(100);
        let [Event::Panic { model, left: 1, of: 4, over: false }] = &world.events()[..] else { panic!() };
        assert_eq!(model, "m");
        assert_eq!(world.ask("m", 21, fails(&[0, 1])), [7, 7, 7, 0], "all but the one that cannot be reached");
        assert!(world.core.view(at(world.ms)).pods[0].models_out[0].why == "panic");
        world.pod(3).readmit();
        world.wait(100);
        assert!(matches!(world.events()[..], [Event::Panic { over: true, .. }]));
        assert_eq!(world.ask("m", 100, serves)[0], 0);
    }

    /// A pod that is the only one with its model has nobody to be held against, and nobody to do its work.
    #[test]
    fn the_only_pod_is_never_left_alone() {
        let mut world = World::new(1, |_| {});
        world.ask("m", 40, serves);
        assert_eq!(world.ask("m", 100, fails(&[0])), [100]);
        assert_eq!(world.ask("n", 10, serves), [10]);
    }

    /// Where nobody wants it, nothing is left alone for how requests end.
    #[test]
    fn it_can_be_switched_off() {
        let mut world = World::new(4, |health| health.failures = 0);
        world.ask("m", 40, serves);
        assert_eq!(world.ask("m", 100, fails(&[1]))[1], 25);
    }

    /// A server that died and came back is another one: what the old one failed is forgotten, but for one request at a time.
    #[test]
    fn a_new_life_starts_over() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 40, serves);
        world.ask("m", 100, fails(&[1]));
        world.pod(1).eject();
        world.wait(1000);
        world.pod(1).readmit();
        world.wait(11_000);
        let went = world.ask("m", 40, serves);
        assert!(went[1] >= 9, "{went:?}");
    }

    /// A pod that asks to be spared is, for as long as it says and no longer than a minute, and for that model alone.
    #[test]
    fn who_asks_to_be_spared_is_for_a_while() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 8, serves);
        let pod = world.pod(2);
        world.core.picker().hold_off(at(world.ms), pod.id(), "m", Duration::from_secs(1));
        world.core.handle_changes(at(world.ms));
        assert_eq!(world.ask("m", 60, serves)[2], 0);
        assert_eq!(world.core.view(at(world.ms)).pods[2].models_out[0].why, "held_off");
        assert_eq!(world.ask("n", 8, serves)[2], 2);
        world.wait(600);
        assert_eq!(world.ask("m", 8, serves)[2], 2);
        world.core.picker().hold_off(at(world.ms), pod.id(), "m", Duration::MAX);
        world.wait(59_000);
        assert_eq!(world.ask("m", 8, serves)[2], 0);
        world.wait(2000);
        assert_eq!(world.ask("m", 8, serves)[2], 2);
        // All ask for it: somebody must do it.
        (0..4).for_each(|k| world.core.picker().hold_off(at(world.ms), world.pod(k).id(), "m", Duration::from_secs(9)));
        world.wait(100);
        assert_eq!(world.ask("m", 8, serves), [2; 4]);
    }

    /// A pod that is tried again gets one request at a time until one is served: it must not get its share of all that comes in
    /// the second that a black hole takes to fail. So does one where a model was loaded just now.
    #[test]
    fn what_is_tried_gets_one_request_at_a_time() {
        let mut world = World::new(4, |_| {});
        world.ask("m", 40, serves);
        let picker = world.core.picker().clone();
        let pod = world.pod(1);
        picker.set_available(at(world.ms), pod.id(), "m", false);
        picker.set_available(at(world.ms), pod.id(), "m", true);
        let request = Request::new("m").cost(Cost::from_ms(5.0).unwrap());
        let mut held: Vec<_> = (0..40).map(|_| picker.pick(at(world.ms), &request).unwrap()).collect();
        let on_it = held.iter().position(|ticket| ticket.pod().id() == pod.id()).unwrap();
        assert_eq!(pod.own_in_flight(), 1);
        // A cancelled one says nothing.
        drop(held.swap_remove(on_it));
        held.extend((0..8).map(|_| picker.pick(at(world.ms), &request).unwrap()));
        assert_eq!(pod.own_in_flight(), 1);
        let on_it = held.iter().position(|ticket| ticket.pod().id() == pod.id()).unwrap();
        held.swap_remove(on_it).finish(at(world.ms), Outcome::Served);
        held.extend((0..8).map(|_| picker.pick(at(world.ms), &request).unwrap()));
        assert_eq!(pod.own_in_flight(), 2);
        assert!(!picker.out().is_any(), "nothing is on trial any more");
    }

    /// A pod that begins to drain, or whose zone is told late, is the same pod: its tickets, its ejection and its connection
    /// must outlive the news, and picks must go by it at once.
    #[test]
    fn a_pod_that_drains_stays_the_same_pod() {
        let config = CoreConfig::new("a", ([127, 0, 0, 1], 7600).into());
        let mut core = Core::new(config, at(0), Box::new(NoWake));
        let mut specs: Vec<PodSpec> =
            (0..3).map(|k| PodSpec::new(format!("pod-{k}"), format!("10.1.0.{k}:1"))).collect();
        core.set_pods(at(0), specs.clone());
        let old = core.picker().pods();
        let request = Request::new("m");
        let held: Vec<_> = (0..6).map(|_| core.picker().pick(at(1), &request).unwrap()).collect();
        old[1].eject();

        (specs[0].draining, specs[0].zone) = (true, Some("north".into()));
        core.set_pods(at(2), specs.clone());
        let new = core.picker().pods();
        assert!(old.iter().zip(new.iter()).all(|(old, new)| Arc::ptr_eq(old, new)));
        assert_eq!((new[0].is_draining(), new[0].zone().unwrap().as_str()), (true, "north"));
        assert_eq!((new.iter().map(|pod| pod.own_in_flight()).sum::<u32>(), new[1].is_ejected()), (6, true));
        let picked = |core: &Core| core.picker().pick(at(3), &request).unwrap().pod().name().to_owned();
        assert!((0..6).all(|_| picked(&core) == "pod-2"));

        (specs[0].draining, specs[2].draining) = (false, true);
        core.set_pods(at(4), specs.clone());
        assert!((0..6).all(|_| picked(&core) == "pod-0"));
        drop(held);

        specs[0].weight = 2.0;
        core.set_pods(at(5), specs);
        assert!(!Arc::ptr_eq(&core.picker().pods()[0], &old[0]), "other settings make another pod");
    }
}
