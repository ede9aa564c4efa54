//! The same plan gives the same run: played again, elsewhere, built otherwise, beside others.
//!
//! Every way of playing is reduced to prints: the hash of all that happened, and a checkpoint every 1,024 records to tell
//! where two ways part. What is compared are plans of the swarm, cut short: all faults and all options, because the one
//! map whose order leaks is in the part that nobody looks at.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::swarm::{self, play};
use crate::trace::{STRETCH, first_difference};

/// What is left of a run to compare it with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Print {
    /// Its seed.
    pub seed: u64,
    /// The hash of all that happened.
    pub trace: u64,
    /// The hash after every 1,024 records.
    pub checkpoints: Vec<u64>,
    /// Inputs that cores were turned by.
    pub inputs: u64,
    /// The rule that was broken, if one was.
    pub broken: Option<String>,
}

/// Where two prints of one seed part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The seed.
    pub seed: u64,
    /// The first records among which they do; none where only what was counted differs.
    pub records: Option<(u64, u64)>,
}

/// So short that a build without optimisation plays it in seconds, ms: forming, asking, the ending.
const LASTS_MS: [u64; 4] = [2000, 5000, 2000, 2000];

/// The plan of `seed`: the swarm's, cut short.
pub fn plan(seed: u64) -> Plan {
    let mut plan = swarm::plan(seed);
    let [form_ms, ask_ms, live_ms, quiet_ms] = LASTS_MS;
    let before = plan.ask_ms;
    plan.form_ms = plan.form_ms.min(form_ms);
    plan.ask_ms = plan.ask_ms.min(ask_ms);
    // All of the faults, closer together.
    plan.faults.iter_mut().for_each(|planned| planned.at_ms = planned.at_ms * plan.ask_ms / before);
    (plan.ending.live_ms, plan.ending.quiet_ms) = (live_ms, quiet_ms);
    plan
}

/// The print of `seed`.
pub fn print(seed: u64) -> Print {
    let played = play(&plan(seed));
    let broken = played.failure.map(|failure| failure.checker.to_owned());
    Print { seed, trace: played.trace, checkpoints: played.checkpoints, inputs: played.inputs, broken }
}

/// The prints of `seeds`, played on `jobs` threads at once, in the order of the seeds.
pub fn prints_in_parallel(seeds: std::ops::Range<u64>, jobs: usize) -> Vec<Print> {
    let next = Mutex::new(seeds);
    let prints = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(seed) = next.lock().expect("nobody panics while taking a seed").next() {
                    let print = print(seed);
                    prints.lock().expect("nobody panics while adding one").push(print);
                }
            });
        }
    });
    let mut prints = prints.into_inner().expect("all threads have ended well");
    prints.sort_unstable_by_key(|print| print.seed);
    prints
}

/// The first of the seeds that two ways of playing print differently.
pub fn differs(ones: &[Print], others: &[Print]) -> Option<Differs> {
    let (one, other) = ones.iter().zip(others).find(|(one, other)| one != other).or_else(|| {
        // One way printed more than the other.
        let longer = if ones.len() > others.len() { ones } else { others };
        longer.get(ones.len().min(others.len())).map(|print| (print, print))
    })?;
    let stretch = first_difference(&one.checkpoints, &other.checkpoints) as u64;
    let records = (one.trace != other.trace).then_some((stretch * STRETCH + 1, (stretch + 1) * STRETCH));
    Some(Differs { seed: one.seed, records })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(seed: u64) -> Print {
        Print { seed, trace: 7, checkpoints: vec![1, 2, 3], inputs: 9, broken: None }
    }

    /// A comparison that overlooked something would call a broken promise kept.
    #[test]
    fn every_difference_is_seen_and_placed() {
        let ones = [some(3), some(4)];
        assert_eq!(differs(&ones, &ones.clone()), None);
        let other = |print: Print| differs(&ones, &[some(3), print]);
        assert_eq!(
            other(Print { trace: 8, checkpoints: vec![1, 9, 9], ..some(4) }).unwrap().records,
            Some((1025, 2048))
        );
        assert_eq!(other(Print { trace: 8, ..some(4) }).unwrap().records, Some((3073, 4096)));
        assert_eq!(other(Print { inputs: 8, ..some(4) }), Some(Differs { seed: 4, records: None }));
        assert_eq!(other(Print { broken: Some("leak".into()), ..some(4) }), Some(Differs { seed: 4, records: None }));
        assert_eq!(differs(&ones, &ones[..1]).map(|differs| differs.seed), Some(4));
    }
}
