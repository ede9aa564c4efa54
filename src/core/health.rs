//! How nodes look after the health of pods.

use std::time::Duration;

/// How a node finds out which pods are fit for which models.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// How often each pod is asked which models it has ready, on the mean. What a pod refuses as unknown is found at once;
    /// this finds what comes and goes unasked. Shorter finds it sooner and costs each pod a question of 0.4 ms from every node;
    /// zero: pods are not asked.
    pub interval: Duration,
}

impl Default for Health {
    fn default() -> Health {
        Health { interval: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::{Core, CoreConfig};
    use crate::observe::PodSpec;
    use crate::pick::{Request, Wake};
    use crate::time::Time;

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
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
        assert!(old.iter().zip(new.iter()).all(|(old, new)| std::sync::Arc::ptr_eq(old, new)));
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
        assert!(!std::sync::Arc::ptr_eq(&core.picker().pods()[0], &old[0]), "other settings make another pod");
    }
}
