//! A Redis that keeps a sorted set of pods by work in flight, and a script that takes the least and charges it: the
//! published way to balance a GPU fleet by load. One at a time, exact, and on the way of every request.

use std::time::Duration;

use plimsoll::time::Time;
use serde::{Deserialize, Serialize};

use super::{Exact, Look, least};
use crate::bad::{BadValue, within};

/// How far away a Redis is, and what callers do without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// From a caller to it and back, µs: on the way of every request.
    pub rtt_us: u64,
    /// Callers wait no longer than this for its answer, ms.
    pub deadline_ms: u64,
    /// What they do then.
    pub fallback: Fallback,
    /// What a caller that died had in flight is given back after this, ms, as by a reaper.
    pub lease_ms: u64,
}

/// What a caller does without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// It sends the request to any pod, which the store is not told of.
    #[default]
    Random,
    /// It fails the request.
    Error,
}

impl Default for Redis {
    fn default() -> Redis {
        Redis { rtt_us: 500, deadline_ms: 5, fallback: Fallback::Random, lease_ms: 30_000 }
    }
}

impl Redis {
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        let remedy = "microseconds, from 2 up to less than `deadline_ms`";
        within("redis.rtt_us", self.rtt_us as f64, (2.0, self.deadline_ms as f64 * 1e3 - 1.0), remedy)?;
        within(
            "redis.deadline_ms",
            self.deadline_ms as f64,
            (1.0, 60_000.0),
            "milliseconds, from 1 to 60000 (a minute)",
        )?;
        within("redis.lease_ms", self.lease_ms as f64, (1.0, 86_400_000.0), "milliseconds, from 1 to 86400000 (a day)")
    }
}

/// The sorted set.
pub(super) struct Store {
    way: Duration,
    scores_us: Vec<u64>,
    turn: usize,
}

impl Store {
    pub(super) fn new(redis: &Redis, pods: usize) -> Store {
        Store { way: Duration::from_micros(redis.rtt_us) / 2, scores_us: vec![0; pods], turn: 0 }
    }
}

impl Exact for Store {
    fn way(&self) -> Duration {
        self.way
    }

    /// By the raw sum of estimates, as published: what a request has done already is not taken off, and a pod with a
    /// free slot is not told from one without.
    fn place(&mut self, _: Time, cost_us: u64, candidates: &[usize], _: Look<'_>) -> usize {
        self.turn += 1;
        let pod = least(candidates, self.turn, |pod| self.scores_us[pod]);
        self.scores_us[pod] += cost_us;
        pod
    }

    fn give_back(&mut self, pod: usize, cost_us: u64) {
        // What was charged before it died and is given back after must not make a pod look idle for ever.
        self.scores_us[pod] = self.scores_us[pod].saturating_sub(cost_us);
    }

    fn forget(&mut self) {
        self.scores_us.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(store: &mut Store, cost_us: u64) -> usize {
        store.place(Time::ZERO, cost_us, &[0, 1, 2], &|_| panic!("a store cannot see the pods"))
    }

    /// The store's whole worth is that it is exact: three requests go to three pods, the fourth behind the smallest, and
    /// what was given back counts no more, but never less than nothing.
    #[test]
    fn the_least_charged_pod_is_next_and_what_is_given_back_is_gone() {
        let mut store = Store::new(&Redis::default(), 3);
        let mut pods = [100, 20, 50].map(|cost| place(&mut store, cost));
        let small = pods[1];
        assert_eq!(place(&mut store, 40), small);
        let heavy = pods[0];
        store.give_back(heavy, 100);
        assert_eq!(place(&mut store, 1000), heavy);
        pods.sort_unstable();
        assert_eq!(pods, [0, 1, 2]);
        store.forget();
        store.give_back(heavy, 1000);
        assert_eq!(store.scores_us, [0; 3]);
    }

    /// A deadline below the round trip would be a Redis that never answers in time, without a word.
    #[test]
    fn a_redis_that_could_never_answer_in_time_is_refused() {
        let error = Redis { rtt_us: 5000, ..Redis::default() }.check().unwrap_err().to_string();
        assert!(error.contains("redis.rtt_us = `5000`") && error.contains("deadline_ms"), "{error}");
        Redis::default().check().unwrap();
    }
}
