//! Requests: each ends once, in time, and while things work they go on ending.

use std::time::Duration;

use plimsoll::time::Time;

use super::{Family, Found, Look, Rule};
use crate::plan::Plan;
use crate::run::Phase;
use crate::world::World;

/// After its deadline a request has so much time to end.
const SLACK: Duration = Duration::from_secs(1);
/// From the last thing that went wrong to when requests must be served again, and over how long.
const HEALS: Duration = Duration::from_secs(5);
/// Where so many were asked for in that time.
const ENOUGH: u64 = 20;

pub(super) struct Requests {
    deadline: Option<Duration>,
    /// The longest that a request is on its way between pods, if each of them refuses it.
    hops: Duration,
    empty_since: Option<Time>,
    stretch: Option<Stretch>,
}

/// A stretch of time in which requests should be served: what had been by its beginning.
#[derive(Clone)]
struct Stretch {
    since: Time,
    asked: u64,
    served: u64,
    busy: Vec<Duration>,
}

impl Requests {
    pub(super) fn new(plan: &Plan) -> Requests {
        let config = &plan.world;
        let hop = Duration::from_micros(config.hop_us + config.hop_jitter_us);
        Requests {
            deadline: config.clients.deadline_ms.map(Duration::from_millis),
            hops: 2 * hop * (config.pods as u32 + config.clients.retries + 1) + Duration::from_secs(1),
            empty_since: None,
            stretch: None,
        }
    }
}

impl Family for Requests {
    fn look(&mut self, look: &Look, world: &World, found: &mut Found) {
        let tally = world.tally();
        let under_way = world.under_way() as u64;
        let counted = tally.ended + tally.forgotten + under_way;
        found.judge(Rule::EndsOnce, None, None, tally.asked == counted, || {
            format!("expected {} requests accounted for; got {counted}, {under_way} of them under way", tally.asked)
        });
        if let Some(deadline) = self.deadline
            && look.number.is_multiple_of(10)
        {
            let overdue = world.oldest_awake();
            let late = overdue.is_some_and(|(_, asked_at)| look.now.since(asked_at) > deadline + SLACK);
            found.judge(Rule::InTime, overdue.map(|(n, _)| n), None, !late, || {
                format!("expected an end within {deadline:?} and 1 s; {overdue:?} is still under way")
            });
        }
        if look.phase == Phase::Quiet {
            self.look_for_lost(look, world, found);
        }
        if look.phase == Phase::Living {
            self.look_for_progress(look, world, found);
        }
    }
}

impl Requests {
    fn look_for_lost(&mut self, look: &Look, world: &World, found: &mut Found) {
        let pods = world.config().pods;
        let stopped = world.live().into_iter().any(|n| world.is_paused(n));
        if stopped || (0..pods).any(|k| world.server(k).in_flight() > 0) {
            self.empty_since = None;
            return;
        }
        let since = *self.empty_since.get_or_insert(look.now);
        if look.now.since(since) > self.hops {
            let left = world.under_way();
            found.judge(Rule::NoneLost, None, None, left == 0, || {
                format!("expected no request under way, as all pods are empty since {since:?}; got {left}")
            });
        }
    }

    fn look_for_progress(&mut self, look: &Look, world: &World, found: &mut Found) {
        if self.deadline.is_some() || look.lasted() < HEALS {
            return;
        }
        let (asked, served, busy) = (world.tally().asked, world.tally().served, world.busy());
        let now = Stretch { since: look.now, asked, served, busy };
        let began = self.stretch.get_or_insert_with(|| now.clone());
        if look.now.since(began.since) < HEALS {
            return;
        }
        let began = std::mem::replace(began, now);
        // One batch of heavy requests on a cold pod may take longer than that.
        let worked = |k: usize, busy: &Duration| *busy >= began.busy[k] + HEALS / 2;
        let works = world.busy().iter().enumerate().any(|(k, busy)| worked(k, busy));
        if asked - began.asked >= ENOUGH {
            found.judge(Rule::Progress, None, None, served > began.served || works, || {
                format!("expected requests to be served; got none of {} in {HEALS:?}", asked - began.asked)
            });
        }
    }
}
