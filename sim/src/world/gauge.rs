//! Pods' gauges of what waits there, as the product's driver reads them where its node has remainders.

use std::time::Duration;

use plimsoll::time::Time;

use super::ask::pod_index;
use super::{Happening, World};

/// How often a node reads the gauge of one pod.
const EVERY: Duration = Duration::from_millis(250);

impl World {
    /// Node `n` reads the gauges of those of its pods that run requests which it cancelled.
    pub(super) fn read_gauges(&mut self, n: usize) {
        if !self.config.gauges {
            return;
        }
        let (now, pods) = (self.local(n), self.core(n).picker().pods());
        for pod in pods.iter().filter(|pod| !pod.is_ejected() && pod.own_remainders() > 0) {
            let k = pod_index(pod.name());
            let last = self.nodes[n].seen.gauges.get(&k);
            if last.is_some_and(|last| now.since(*last) < EVERY) {
                continue;
            }
            self.nodes[n].seen.gauges.insert(k, now);
            let (hop, life) = (Duration::from_micros(self.config.hop_us), self.nodes[n].life);
            self.later(hop, Happening::Gauge { node: n as u32, life, pod: k as u32, asked: now });
        }
    }

    /// Pod `k` shows its gauge to node `n`. All models wait in one queue here, so it is a bound for each of them.
    pub(super) fn gauge(&mut self, n: usize, life: u32, k: usize, asked: Time) {
        if !self.is(n, life) || self.nodes[n].paused || !self.pods[k].up || self.pods[k].hung {
            return;
        }
        let (now, picker) = (self.local(n), self.core(n).picker().clone());
        let Some(pod) = picker.pods().iter().find(|pod| pod_index(pod.name()) == k).cloned() else { return };
        let spec = &self.config.server;
        let at_once = spec.slots * spec.batching.as_ref().map_or(1, |batching| batching.max);
        let most = u32::try_from(self.server(k).waiting()).unwrap_or(u32::MAX).saturating_add(at_once);
        for model in picker.models().iter().skip(1) {
            picker.bound_remainders(pod.id(), model.name(), (asked, now), most);
        }
        self.note("gauge", [n as u64, k as u64, u64::from(most)]);
    }
}
