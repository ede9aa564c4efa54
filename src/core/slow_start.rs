//! Slow start: a pod that is new, or back after it was ejected, is a candidate of a growing share of the picks.
//!
//! What starts is cold (caches, kernels that are compiled at the first request), and looks idler than any other to every
//! caller at once. A pod that counts as slower for a while, as proxies do it, would not do here: picks fill the lowest, and
//! where others are idle it would get nothing until the end, and everything then. So chance decides, pick by pick, whether
//! it takes part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use crate::id::PodId;
use crate::observe::Pod;
use crate::time::Time;

/// The share of picks that a pod takes part in at its start.
const FIRST_SHARE: f64 = 0.1;

/// Which pods start slowly, since when.
#[derive(Debug, Default)]
pub(super) struct SlowStarts(BTreeMap<PodId, Time>);

impl SlowStarts {
    /// `pod` is new here.
    pub(super) fn begin(&mut self, now: Time, pod: &Pod) {
        self.0.insert(pod.id(), now);
        pod.set_start_share(FIRST_SHARE);
    }

    /// Lets each take part as long as it is here over `window`, and begins for who was readmitted.
    fn step(&mut self, now: Time, window: Duration, pods: &BTreeMap<PodId, Arc<Pod>>) {
        for pod in pods.values().filter(|pod| pod.take_readmitted()) {
            self.begin(now, pod);
        }
        self.0.retain(|id, since| {
            let Some(pod) = pods.get(id) else { return false };
            let share = now.since(*since).as_secs_f64() / window.as_secs_f64();
            pod.set_start_share(share.max(FIRST_SHARE));
            share < 1.0
        });
    }
}

impl Core {
    /// See the module's description.
    pub(super) fn step_slow_starts(&mut self, now: Time) {
        if !self.config.slow_start.is_zero() {
            self.slow_starts.step(now, self.config.slow_start, &self.pods);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::CoreConfig;
    use crate::observe::{Cost, PodSpec};
    use crate::pick::{PolicyKind, Request, Wake};

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn specs(pods: std::ops::Range<u8>) -> Vec<PodSpec> {
        pods.map(|k| PodSpec::new(format!("pod-{k}"), format!("http://10.1.0.{k}:1"))).collect()
    }

    /// A core that has had ten pods for a second.
    fn core(slow_start: Duration) -> Core {
        let config = CoreConfig::new("a", ([127, 0, 0, 1], 7600).into());
        let mut core =
            Core::new(CoreConfig { policy: PolicyKind::Random, slow_start, ..config }, at(0), Box::new(NoWake));
        core.set_pods(at(0), specs(0..10));
        core.handle_timeout(at(1000));
        core
    }

    /// Of a thousand picks, those that fall on the last pod.
    fn on_the_last(core: &mut Core, ms: u64) -> usize {
        core.handle_timeout(at(ms));
        let pods = core.picker().pods();
        let last = pods.last().unwrap();
        let request = Request::new("m").cost(Cost::from_ms(20.0).unwrap());
        (0..1000).filter(|_| core.picker().pick(at(ms), &request).unwrap().pod().id() == last.id()).count()
    }

    /// Pods that were there at the start are not new; one that comes later gets a tenth of its share at first and all of it
    /// in the end; one that is readmitted starts anew. A share of ten pods is a hundred of a thousand, give or take thirty.
    #[test]
    fn who_is_new_or_back_gets_a_growing_share() {
        let mut core = core(Duration::from_secs(10));
        assert!((70..130).contains(&on_the_last(&mut core, 1100)));
        core.set_pods(at(2000), specs(0..11));
        assert!((2..25).contains(&on_the_last(&mut core, 2000)));
        // Other pods that come or stay do not end it.
        core.set_pods(at(6900), specs(0..11));
        assert!((25..70).contains(&on_the_last(&mut core, 7000)));
        assert!((65..120).contains(&on_the_last(&mut core, 12_100)));
        let pods = core.picker().pods();
        let last = pods.last().unwrap();
        assert_eq!(last.start_share(), 1.0);
        last.eject();
        assert_eq!(on_the_last(&mut core, 13_000), 0);
        last.readmit();
        assert!((2..25).contains(&on_the_last(&mut core, 14_000)));
        assert!((65..120).contains(&on_the_last(&mut core, 24_100)));
    }

    /// A deploy that replaces most pods at once must not pile everything on the few that are left; nor may anything start
    /// slowly where nobody wants it.
    #[test]
    fn who_is_new_together_with_most_others_gets_a_whole_share() {
        let mut deployed = core(Duration::from_secs(10));
        deployed.set_pods(at(2000), specs(4..14));
        let last = on_the_last(&mut deployed, 2000);
        assert!((70..130).contains(&last), "{last}");
        let mut off = core(Duration::ZERO);
        off.set_pods(at(2000), specs(0..11));
        assert!((65..120).contains(&on_the_last(&mut off, 2000)));
    }
}
