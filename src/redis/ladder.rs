//! Whether the shared Redis is asked for a pick now, or the gossiped view decides at once.
//!
//! A pick may wait for Redis only so long (the deadline), and after a few that waited in vain nobody should wait any more:
//! the ladder steps down, and picks go by the view as if there were no Redis. From then on only probes ask it, in the
//! background, and the ladder steps up when they are answered in time. So an outage costs three requests the deadline, and
//! all others nothing. Below the view there is another ladder, the core's, for a node whose peers fall silent too.
//!
//! Nothing here reads a clock or a socket: whoever asks tells what came of it.

use std::time::Duration;

use crate::time::Time;

/// A miss counts as much as so many answers: a Redis that is late for more than a fifth of the picks is as good as none,
/// though three in a row may never come.
const PAYS: u32 = 4;
/// Who stepped up and falls within this long has not recovered: it must show more before the next step up.
const RELAPSE: Duration = Duration::from_secs(10);
/// Probes in a row that are asked for at most: with one every quarter of a second, that is one second.
const MOST_PROBES: u32 = 4;

/// When to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LadderConfig {
    /// How long a pick waits for an answer, and a probe too. Five times what Redis takes on a busy day in one zone; more is
    /// what each of the first picks of an outage waits, less sends picks to the view that need not go.
    pub deadline: Duration,
    /// After how many misses in a row it steps down. One would make a step of every hiccup, ten would make an outage felt.
    pub misses: u32,
    /// How often a probe asks while it is down. With the time that a connection takes it must stay well below the two seconds
    /// within which a Redis that is back is used again.
    pub probe_every: Duration,
}

impl Default for LadderConfig {
    fn default() -> LadderConfig {
        LadderConfig { deadline: Duration::from_millis(5), misses: 3, probe_every: Duration::from_millis(250) }
    }
}

/// Who decides picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rung {
    /// The shared Redis.
    Redis,
    /// This node, by the gossiped view.
    #[default]
    Gossip,
}

impl Rung {
    /// As metrics and logs say it.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Redis => "redis",
            Rung::Gossip => "gossip",
        }
    }
}

/// A step that was just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From Redis to the view.
    Down,
    /// From the view to Redis.
    Up,
}

/// See the module's description. It begins on the view, because nobody has heard of Redis yet; a probe is due at once.
#[derive(Clone, Debug)]
pub struct Ladder {
    config: LadderConfig,
    rung: Rung,
    /// What misses have added and answers have not paid off.
    debt: u32,
    /// The last step up, if any.
    up_since: Option<Time>,
    /// Probes in a row that were answered, and how many it takes.
    good: u32,
    needed: u32,
    /// When the next probe is due; none while one is under way.
    probe_at: Option<Time>,
    steps_down: u64,
    steps_up: u64,
}

impl Ladder {
    /// A ladder that starts at `now`.
    pub fn new(config: LadderConfig, now: Time) -> Ladder {
        Ladder {
            config,
            rung: Rung::Gossip,
            debt: 0,
            up_since: None,
            good: 0,
            needed: 1,
            probe_at: Some(now),
            steps_down: 0,
            steps_up: 0,
        }
    }

    /// Who decides now.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Whether a pick asks Redis now.
    pub fn asks(&self) -> bool {
        self.rung == Rung::Redis
    }

    /// How long it waits for the answer.
    pub fn deadline(&self) -> Duration {
        self.config.deadline
    }

    /// Steps down and up so far.
    pub fn steps(&self) -> (u64, u64) {
        (self.steps_down, self.steps_up)
    }

    /// A pick was answered in time.
    pub fn answered(&mut self) {
        self.debt = self.debt.saturating_sub(1);
    }

    /// A pick was answered too late, by an error, or not at all. Who still waits when it is down already is no reason for
    /// another step.
    pub fn missed(&mut self, now: Time) -> Option<Step> {
        if self.rung == Rung::Gossip {
            return None;
        }
        self.debt += PAYS;
        if self.debt < PAYS * self.config.misses.max(1) { None } else { self.lost(now) }
    }

    /// There is nobody to ask any more: the connection is gone, or Redis refuses.
    pub fn lost(&mut self, now: Time) -> Option<Step> {
        if self.rung == Rung::Gossip {
            (self.good, self.probe_at) = (0, Some(now + self.config.probe_every));
            return None;
        }
        let relapsed = self.up_since.is_some_and(|since| now.since(since) < RELAPSE);
        self.needed = if relapsed { (2 * self.needed).min(MOST_PROBES) } else { 1 };
        (self.rung, self.debt, self.good) = (Rung::Gossip, 0, 0);
        self.probe_at = Some(now + self.config.probe_every);
        self.steps_down += 1;
        Some(Step::Down)
    }

    /// When the next probe is due: none while Redis is asked for picks, and while a probe is under way.
    pub fn probe_at(&self) -> Option<Time> {
        self.probe_at
    }

    /// Whether a probe is due; it is under way then, until [`Ladder::probed`] says what came of it.
    pub fn probes(&mut self, now: Time) -> bool {
        let due = self.probe_at.is_some_and(|at| at <= now);
        if due {
            self.probe_at = None;
        }
        due
    }

    /// The probe was answered in time and everything is told that Redis must know; or not.
    pub fn probed(&mut self, now: Time, in_time: bool) -> Option<Step> {
        if self.rung == Rung::Redis {
            return None;
        }
        self.good = if in_time { self.good + 1 } else { 0 };
        if self.good < self.needed {
            self.probe_at = Some(now + self.config.probe_every);
            return None;
        }
        (self.rung, self.debt, self.up_since) = (Rung::Redis, 0, Some(now));
        self.probe_at = None;
        self.steps_up += 1;
        Some(Step::Up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn up(now: Time) -> Ladder {
        let mut ladder = Ladder::new(LadderConfig::default(), now);
        assert!(ladder.probes(now));
        assert_eq!(ladder.probed(now, true), Some(Step::Up));
        ladder
    }

    fn fall(ladder: &mut Ladder, now: Time) {
        for _ in 0..3 {
            ladder.missed(now);
        }
        assert!(!ladder.asks());
    }

    /// A node that starts before its Redis must serve at once, by its view, and find Redis when that is there.
    #[test]
    fn it_begins_on_the_view_and_steps_up_when_a_probe_is_answered() {
        let mut ladder = Ladder::new(LadderConfig::default(), at(7));
        assert!(!ladder.asks() && !ladder.probes(at(6)) && ladder.probes(at(7)));
        assert!(!ladder.probes(at(60_000)), "one probe at a time");
        assert_eq!(ladder.probed(at(8), false), None);
        assert_eq!(ladder.probe_at(), Some(at(258)));
        assert!(ladder.probes(at(258)));
        assert_eq!(ladder.probed(at(259), true), Some(Step::Up));
        assert!(ladder.asks());
        assert_eq!((ladder.probe_at(), ladder.steps()), (None, (0, 1)));
    }

    /// In an outage each request would wait the deadline in vain: three may, and it is one step whoever else waits still.
    #[test]
    fn three_misses_in_a_row_are_one_step_down() {
        let mut ladder = up(at(0));
        assert_eq!((ladder.missed(at(1)), ladder.missed(at(2))), (None, None));
        assert_eq!(ladder.missed(at(3)), Some(Step::Down));
        assert_eq!((ladder.missed(at(4)), ladder.missed(at(5))), (None, None));
        assert!(!ladder.asks());
        assert_eq!(ladder.steps(), (1, 1));
    }

    /// Who is gone answers nobody: no request should have to find out.
    #[test]
    fn a_lost_connection_is_a_step_at_once() {
        let mut ladder = up(at(0));
        assert_eq!(ladder.lost(at(1)), Some(Step::Down));
        assert_eq!(ladder.lost(at(100)), None);
        assert_eq!((ladder.probe_at(), ladder.steps()), (Some(at(350)), (1, 1)));
    }

    /// One late answer in ten is a busy Redis, one in three is one that nobody should wait for.
    #[test]
    fn it_stays_for_a_hiccup_and_leaves_who_is_often_late() {
        let steps = |every: u64| {
            let mut ladder = up(at(0));
            for ms in 1..1000 {
                match ms % every {
                    0 => {
                        ladder.missed(at(ms));
                    }
                    _ => ladder.answered(),
                }
            }
            ladder.steps().0
        };
        assert_eq!((steps(10), steps(6), steps(3)), (0, 0, 1));
    }

    /// A Redis that comes and goes must not make a step, and a line in the log, four times a second; one that is well
    /// again must be used within two seconds however often it failed.
    #[test]
    fn who_relapses_must_show_more_and_is_believed_within_two_seconds() {
        let mut ladder = up(at(0));
        let mut now = at(0);
        for probes in [2, 4, 4] {
            now = now + Duration::from_millis(10);
            fall(&mut ladder, now);
            let fell = now;
            let mut took = 0;
            while !ladder.asks() {
                now = ladder.probe_at().unwrap();
                assert!(ladder.probes(now));
                ladder.probed(now, true);
                took += 1;
            }
            assert_eq!(took, probes);
            assert!(now.since(fell) <= Duration::from_secs(1));
        }
        now = now + RELAPSE;
        fall(&mut ladder, now);
        let next = ladder.probe_at().unwrap();
        assert!(ladder.probes(next));
        assert_eq!(ladder.probed(next, true), Some(Step::Up), "it had been well for long enough");
    }

    /// Half of a recovery is none: a probe that is late begins the count again.
    #[test]
    fn probes_must_be_answered_in_a_row() {
        let mut ladder = up(at(0));
        fall(&mut ladder, at(1));
        let mut now = at(1);
        let mut probe = |in_time| {
            now = now + Duration::from_millis(250);
            assert!(ladder.probes(now));
            ladder.probed(now, in_time)
        };
        assert_eq!((probe(true), probe(false), probe(true)), (None, None, None));
        assert_eq!(probe(true), Some(Step::Up));
    }
}
