//! When an ejected pod is asked whether it is back.

use std::time::Duration;

use super::Draw;
use crate::mutant::{self, Mutant};

/// The pauses between the questions to one ejected pod: short at first, doubling, each of them cut by up to half.
#[derive(Clone, Debug)]
pub struct Readmission {
    seed: u64,
    turn: u64,
    pause: Duration,
}

impl Readmission {
    /// The first question comes after this: a pod that only restarted its listener is back within a breath.
    const FIRST: Duration = Duration::from_millis(100);
    /// And then at most so rarely: what a dead pod costs, against how long a living one idles.
    const LAST: Duration = Duration::from_secs(2);
    /// How long it may take to answer: a pod that needs longer would not be fit for requests either.
    pub const ANSWER: Duration = Duration::from_secs(1);

    /// For a pod ejected just now. `seed` decides the chance in it, so it should be another on every node.
    pub fn new(seed: u64) -> Readmission {
        Readmission { seed, turn: 0, pause: Self::FIRST }
    }

    /// How long to wait before the next question: half to all of the pause, because nodes that ejected a pod together
    /// should not knock together.
    pub fn next_pause(&mut self) -> Duration {
        let half = self.pause / 2;
        let part = Draw::new(self.seed, self.turn).below(0, 1024) as u32;
        self.turn += 1;
        self.pause =
            (self.pause * 2).min(if mutant::is(Mutant::AskEverMoreRarely) { Duration::MAX } else { Self::LAST });
        half + half * part / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred nodes that lost a pod together must ask soon, ever more rarely, never in step, and never give up.
    #[test]
    fn questions_become_rarer_up_to_a_bound_and_do_not_come_together() {
        let pauses = |seed| {
            let mut readmission = Readmission::new(seed);
            std::array::from_fn::<u128, 10, _>(|_| readmission.next_pause().as_millis())
        };
        for seed in 0..100 {
            for (pause, whole) in pauses(seed).into_iter().zip([100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000])
            {
                assert!((whole / 2..whole).contains(&pause), "{pause} ms of {whole}");
            }
        }
        assert_ne!(pauses(1), pauses(2));
        assert_eq!(pauses(1), pauses(1));
    }
}
