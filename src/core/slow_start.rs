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
use crate::observe::{FIRST_SHARE, Pod};
use crate::time::Time;

/// All that start slowly at a time stay out of no more than what so many of the pods would do: where a fleet is replaced, the
/// few that are left must not have to do it all.
const MOST_OUT: f64 = 0.25;
/// What is found so soon after the first pods was there when the node started: sources answer one after the other.
const FOUND_TOGETHER: Duration = Duration::from_secs(5);

/// Which pods start slowly, since when.
#[derive(Debug, Default)]
pub(super) struct SlowStarts {
    since: BTreeMap<PodId, Time>,
    /// When there were pods first.
    first: Option<Time>,
}

impl SlowStarts {
    /// From now on there are `pods`, and there were `old`.
    fn note_pods(&mut self, now: Time, old: &[Arc<Pod>], pods: &[Arc<Pod>]) {
        if pods.is_empty() {
            return;
        }
        let together = now.since(*self.first.get_or_insert(now)) < FOUND_TOGETHER;
        for pod in pods {
            if !together && !old.iter().any(|old| old.id() == pod.id()) {
                self.since.insert(pod.id(), now);
            }
        }
    }

    /// Lets each take part as long as it is here over `window`, and begins for who was readmitted.
    fn step<'a>(&mut self, now: Time, window: Duration, pods: impl ExactSizeIterator<Item = &'a Arc<Pod>> + Clone) {
        for pod in pods.clone().filter(|pod| pod.take_readmitted()) {
            self.since.insert(pod.id(), now);
        }
        if self.since.is_empty() {
            return;
        }
        let count = pods.len() as f64;
        let share = |since: &Time| (now.since(*since).as_secs_f64() / window.as_secs_f64()).max(FIRST_SHARE);
        let starting = pods.filter_map(|pod| Some((pod, share(self.since.get(&pod.id())?))));
        let starting: Vec<(&Arc<Pod>, f64)> = starting.collect();
        let out: f64 = starting.iter().map(|(_, share)| (1.0 - share).max(0.0)).sum();
        let part = (MOST_OUT * count / out.max(1e-9)).min(1.0);
        for (pod, share) in &starting {
            pod.set_start_share(1.0 - part * (1.0 - share).max(0.0));
        }
        let since = starting.iter().filter(|(_, share)| *share < 1.0).map(|(pod, _)| (pod.id(), self.since[&pod.id()]));
        self.since = since.collect();
    }
}

impl Core {
    /// From now on there are `pods`, and there were `old`.
    pub(super) fn note_new_pods(&mut self, now: Time, old: &[Arc<Pod>], pods: &[Arc<Pod>]) {
        if !self.config.slow_start.is_zero() {
            self.slow_starts.note_pods(now, old, pods);
            self.slow_starts.step(now, self.config.slow_start, pods.iter());
        }
    }

    /// See the module's description.
    pub(super) fn step_slow_starts(&mut self, now: Time) {
        if !self.config.slow_start.is_zero() {
            self.slow_starts.step(now, self.config.slow_start, self.pods.values());
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
    /// in the end; one that is readmitted starts anew, at once. A share of ten pods is a hundred of a thousand, give or take
    /// thirty.
    #[test]
    fn who_is_new_or_back_gets_a_growing_share() {
        let mut core = core(Duration::from_secs(10));
        assert!((70..130).contains(&on_the_last(&mut core, 1100)));
        core.set_pods(at(6000), specs(0..11));
        assert!((2..25).contains(&on_the_last(&mut core, 6000)));
        // Other pods that come or stay do not end it.
        core.set_pods(at(10_900), specs(0..11));
        assert!((25..70).contains(&on_the_last(&mut core, 11_000)));
        assert!((65..120).contains(&on_the_last(&mut core, 16_100)));
        let pods = core.picker().pods();
        let last = pods.last().unwrap();
        assert_eq!(last.start_share(), 1.0);
        last.eject();
        assert_eq!(on_the_last(&mut core, 17_000), 0);
        last.readmit();
        assert_eq!(last.start_share(), f64::from((FIRST_SHARE * 65_536.0) as u32) / 65_536.0);
        assert!((2..25).contains(&on_the_last(&mut core, 18_000)));
        assert!((65..120).contains(&on_the_last(&mut core, 28_100)));
    }

    /// A node's sources answer one after the other: none of what they say at its start is new, and a pod whose settings
    /// change is neither.
    #[test]
    fn what_is_found_at_the_start_is_not_new() {
        let mut core = core(Duration::from_secs(10));
        core.set_pods(at(4000), specs(0..11));
        assert!((65..120).contains(&on_the_last(&mut core, 4000)));
        core.set_pods(at(8000), specs(0..12));
        let mut changed = specs(0..12);
        changed.iter_mut().for_each(|spec| spec.weight = 2.0);
        core.set_pods(at(9000), changed);
        let shares: Vec<f64> = core.picker().pods().iter().map(|pod| pod.start_share()).collect();
        assert!(shares[..11].iter().all(|share| *share == 1.0) && shares[11] < 0.2, "{shares:?}");
    }

    /// A deploy that replaces many pods must not pile everything on the few that are left, and their share grows from one
    /// moment to the next; nor may anything start slowly where nobody wants it.
    #[test]
    fn many_that_are_new_stay_out_of_a_quarter_together() {
        for (old, new) in [(10, 1), (5, 3), (2, 1), (44, 20), (48, 16), (3, 13)] {
            let mut core = core(Duration::from_secs(10));
            core.set_pods(at(1000), specs(0..old));
            core.set_pods(at(6000), specs(0..old + new));
            let mut before = 0.0;
            for second in 6..=16 {
                core.handle_timeout(at(1000 * second));
                let pods = core.picker().pods();
                let shares: Vec<f64> = pods.iter().map(|pod| pod.start_share()).collect();
                let out: f64 = shares.iter().map(|share| 1.0 - share).sum();
                let last = *shares.last().unwrap();
                assert!(
                    out <= 0.251 * pods.len() as f64 && last >= before,
                    "{old} and {new} at {second} s: {shares:?}"
                );
                before = last;
            }
            assert_eq!(before, 1.0);
        }
        let mut off = core(Duration::ZERO);
        off.set_pods(at(6000), specs(0..11));
        assert!((65..120).contains(&on_the_last(&mut off, 6000)));
    }
}
