//! Oracles: they see the pods as they are, and what is on the way to them. No network can, which makes them limits.

use std::time::Duration;

use plimsoll::time::Time;

use super::{Exact, Look, least};
use crate::config::Config;

/// Where a request would start first; with batches, where the least work is left.
pub(super) struct LeastWork {
    coming: Coming,
    batches: bool,
}

/// Where the fewest requests are.
pub(super) struct LeastCount(Coming);

/// There is but one: a central queue.
pub(super) struct OnePod;

/// What was placed and has not arrived, by pod.
struct Coming {
    by_pod: Vec<Vec<(Time, Duration)>>,
    turn: usize,
}

impl LeastWork {
    pub(super) fn new(config: &Config) -> LeastWork {
        LeastWork { coming: Coming::new(config.pods), batches: config.server.batching.is_some() }
    }
}

impl LeastCount {
    pub(super) fn new(config: &Config) -> LeastCount {
        LeastCount(Coming::new(config.pods))
    }
}

impl Exact for LeastWork {
    fn place(&mut self, now: Time, _: u64, candidates: &[usize], look: Look<'_>) -> usize {
        let LeastWork { coming, batches } = self;
        let turn = coming.turn();
        least(candidates, turn, |pod| {
            let coming = coming.to(pod, now);
            let Some(server) = look(pod) else { return Duration::MAX };
            match batches {
                true => server.work_left(now) + coming.iter().map(|(_, service)| *service).sum::<Duration>(),
                false => server.earliest_start_behind(now, coming.iter().map(|(_, service)| *service)),
            }
        })
    }

    fn sent(&mut self, pod: usize, arrives: Time, service: Duration) {
        self.coming.sent(pod, arrives, service);
    }
}

impl Exact for LeastCount {
    fn place(&mut self, now: Time, _: u64, candidates: &[usize], look: Look<'_>) -> usize {
        let turn = self.0.turn();
        least(candidates, turn, |pod| {
            let coming = self.0.to(pod, now).len();
            look(pod).map_or(usize::MAX, |server| server.in_flight() + coming)
        })
    }

    fn sent(&mut self, pod: usize, arrives: Time, service: Duration) {
        self.0.sent(pod, arrives, service);
    }
}

impl Exact for OnePod {
    fn place(&mut self, _: Time, _: u64, candidates: &[usize], _: Look<'_>) -> usize {
        candidates[0]
    }
}

impl Coming {
    fn new(pods: usize) -> Coming {
        Coming { by_pod: vec![Vec::new(); pods], turn: 0 }
    }

    fn turn(&mut self) -> usize {
        self.turn += 1;
        self.turn
    }

    fn sent(&mut self, pod: usize, arrives: Time, service: Duration) {
        self.by_pod[pod].push((arrives, service));
    }

    fn to(&mut self, pod: usize, now: Time) -> &[(Time, Duration)] {
        let coming = &mut self.by_pod[pod];
        coming.retain(|(arrives, _)| *arrives > now);
        coming
    }
}
