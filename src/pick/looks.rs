//! When a pod is asked which models it has.

use std::time::Duration;

use super::{Draw, Readmission};
use crate::mutant::{self, Mutant};

/// So many questions follow each other soon after something changed: the last of them comes four to eight seconds later. A
/// model that is loaded anew, or a server that starts again, is there by then.
const HURRIED: u32 = 7;

/// The pauses between the questions to one pod: as long as was set, and short for a while after it said something new.
#[derive(Clone, Debug)]
pub struct Looks {
    seed: u64,
    turn: u64,
    every: Duration,
    hurry: Option<(Readmission, u32)>,
}

impl Looks {
    /// One question `every` so often. `seed` decides the chance in it, so it should be another for every pod on every node.
    pub fn new(seed: u64, every: Duration) -> Looks {
        Looks { seed, turn: 0, every, hurry: None }
    }

    /// Something changed: the next questions come soon.
    pub fn hurry(&mut self) {
        self.turn += 1;
        self.hurry = Some((Readmission::new(self.seed ^ self.turn), HURRIED));
    }

    /// How long to wait before the next question: half to one and a half of what was set, because nodes that started together
    /// should not ask together; less while there is reason to.
    pub fn next_pause(&mut self) -> Duration {
        self.turn += 1;
        let part = Draw::new(self.seed, self.turn).below(0, 1024) as u32;
        let usual = self.every / 2 + self.every * part / 1024;
        let Some((soon, left)) = &mut self.hurry else { return usual };
        let pause = if mutant::is(Mutant::LookNoMore) { Duration::MAX } else { soon.next_pause().min(usual) };
        *left -= 1;
        if *left == 0 {
            self.hurry = None;
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand pods that are asked by a hundred nodes must not be asked in step, and one that lost a model must be asked soon
    /// and not for ever: every answer of a model that comes and goes would be a second's delay or a flood.
    #[test]
    fn questions_come_soon_after_a_change_and_at_leisure_otherwise() {
        let every = Duration::from_secs(5);
        let mut looks = Looks::new(1, every);
        let pauses: Vec<Duration> = (0..1000).map(|_| looks.next_pause()).collect();
        assert!(pauses.iter().all(|pause| (every / 2..every * 3 / 2).contains(pause)));
        let mean = pauses.iter().sum::<Duration>() / 1000;
        assert!((every * 95 / 100..every * 105 / 100).contains(&mean), "{mean:?}");
        looks.hurry();
        let soon: Vec<Duration> = (0..HURRIED).map(|_| looks.next_pause()).collect();
        assert!(soon[0] <= Duration::from_millis(100) && soon.iter().sum::<Duration>() <= Duration::from_secs(8));
        assert!(looks.next_pause() >= every / 2);
        let mut brief = Looks::new(1, Duration::from_millis(10));
        brief.hurry();
        assert!(brief.next_pause() <= Duration::from_millis(15), "sooner than was set is never later");
    }
}
