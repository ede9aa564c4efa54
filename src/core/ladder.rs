//! The ladder: how far the view can be trusted, by the age of the peers' rows, with hysteresis.

use std::time::Duration;

use crate::mutant::{self, Mutant};
use crate::pick::Rung;
use crate::time::Time;

/// A member that went down (and did not leave) counts as one that is not heard for this long: it may be a partition.
pub(super) const REMEMBER_DOWN: Duration = Duration::from_secs(30);
/// Things must be bad for this long before a step down, and good for this long before a step up: a single late refresh
/// must not flap.
const DOWN_AFTER: Duration = Duration::from_millis(200);
const UP_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Ladder {
    rung: Rung,
    /// Since when another rung would be right, and which.
    wanted: Option<(Rung, Time)>,
    steps: u64,
}

impl Ladder {
    pub(super) fn rung(&self) -> Rung {
        self.rung
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// `expected` peers should be there, `active` are members, `fresh` were heard of late. Returns a new rung when it
    /// is time for one.
    pub(super) fn look(&mut self, now: Time, expected: usize, active: usize, fresh: usize) -> Option<Rung> {
        let right = if active > 0 && fresh == 0 {
            Rung::Shuffled
        } else if 2 * (expected - fresh.min(expected)) > expected {
            Rung::TwoChoices
        } else {
            Rung::Fill
        };
        if right == self.rung {
            self.wanted = None;
            return None;
        }
        let since = match self.wanted {
            Some((wanted, since)) if wanted == right => since,
            _ => now,
        };
        self.wanted = Some((right, since));
        let patience = if right > self.rung { DOWN_AFTER } else { UP_AFTER };
        let stuck = if right > self.rung { Mutant::LadderNeverDown } else { Mutant::LadderNeverUp };
        if now.since(since) < patience || mutant::is(stuck) {
            return None;
        }
        (self.rung, self.wanted) = (right, None);
        self.steps += 1;
        Some(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A node alone knows everything there is; one whose peers fell silent must not trust an empty view.
    #[test]
    fn the_ladder_steps_by_the_share_of_silent_peers_and_not_at_a_flicker() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.look(at(0), 0, 0, 0), None);
        assert_eq!(ladder.look(at(100), 4, 4, 2), None);
        assert_eq!(ladder.look(at(200), 4, 4, 1), None);
        assert_eq!(ladder.look(at(300), 4, 4, 2), None);
        assert_eq!(ladder.look(at(400), 4, 4, 1), None);
        assert_eq!(ladder.look(at(600), 4, 4, 1), Some(Rung::TwoChoices));
        assert_eq!(ladder.look(at(700), 4, 4, 0), None);
        assert_eq!(ladder.look(at(900), 4, 4, 0), Some(Rung::Shuffled));
        // The members are declared down: own counts are what is left, and better than nothing.
        assert_eq!(ladder.look(at(1000), 4, 0, 0), None);
        assert_eq!(ladder.look(at(2000), 4, 0, 0), Some(Rung::TwoChoices));
        assert_eq!(ladder.look(at(2100), 4, 4, 4), None);
        assert_eq!(ladder.look(at(3100), 4, 4, 4), Some(Rung::Fill));
        assert_eq!(ladder.steps(), 4);
    }
}
