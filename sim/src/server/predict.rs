//! What an oracle knows of a pod: everything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use plimsoll::time::Time;

use super::{NORMAL_PERCENT, Server};

impl Server {
    /// The work left at `now`: what is left of what runs, and the services of what waits, each on a slot of its own (no
    /// batch, no cold start), as slow as the pod is.
    pub fn work_left(&self, now: Time) -> Duration {
        let running: Duration = self.ends.iter().map(|Reverse((end, ..))| self.remainder(*end, now)).sum();
        running + self.health.paced(self.queued)
    }

    /// Whether it runs, as fast as ever.
    pub fn is_normal(&self) -> bool {
        self.health.hung_since.is_none() && self.health.slowdown_percent == NORMAL_PERCENT
    }

    /// How long a request that arrived at `now` would wait, if none came after it: to the nanosecond without batching;
    /// with it, another arrival may complete its batch, or make it a larger one. A server that hangs is taken to go on
    /// at `now`.
    pub fn earliest_start(&self, now: Time) -> Duration {
        let waits_for_company = self.spec.batch_at_most() > 1;
        if !waits_for_company && self.queue.is_empty() && !self.free.is_empty() {
            return Duration::ZERO;
        }
        match self.ends.peek() {
            Some(Reverse((end, ..))) if self.slots.len() == 1 && !waits_for_company && self.health.is_usual() => {
                self.remainder(*end, now) + self.queued
            }
            _ => self.replay(now),
        }
    }

    /// The same for a request that comes after those that are `coming`, as if they had arrived. Without batching.
    pub fn earliest_start_behind(&self, now: Time, coming: impl ExactSizeIterator<Item = Duration>) -> Duration {
        if coming.len() == 0 {
            return self.earliest_start(now);
        }
        if self.slots.len() == 1 {
            return self.earliest_start(now)
                + coming.map(|service| self.health.length(&self.spec, [service].into_iter())).sum::<Duration>();
        }
        if self.queue.is_empty() && coming.len() < self.free.len() {
            return Duration::ZERO;
        }
        let mut slots = self.slot_ends(now);
        for service in self.queue.iter().map(|waiting| waiting.job.service).chain(coming) {
            let Some(Reverse(free)) = slots.pop() else { break };
            slots.push(Reverse(free + self.health.length(&self.spec, [service].into_iter())));
        }
        slots.pop().map_or(Duration::ZERO, |Reverse(free)| free)
    }

    /// When each slot is free, counted from `now`, the first on top.
    fn slot_ends(&self, now: Time) -> BinaryHeap<Reverse<Duration>> {
        let free = self.free.iter().map(|_| Reverse(Duration::ZERO));
        free.chain(self.ends.iter().map(|Reverse((end, ..))| Reverse(self.remainder(*end, now)))).collect()
    }

    /// Plays the queue on the slots, with the newcomer at its end.
    fn replay(&self, now: Time) -> Duration {
        let mut slots = self.slot_ends(now);
        let most = self.spec.batch_at_most();
        let mut health = self.health;
        let mut first = 0;
        while let Some(Reverse(free)) = slots.pop() {
            let left = self.queue.len() - first;
            if left < most {
                // The newcomer's batch: full with it, or it waits until its oldest has waited long enough.
                let oldest = self.queue.get(first).map_or(now, |waiting| waiting.arrived);
                let due = (oldest + self.spec.queue_delay()).since(now);
                return if left + 1 == most { free } else { free.max(due) };
            }
            let services = self.queue.range(first..first + most).map(|waiting| waiting.job.service);
            slots.push(Reverse(free + health.length(&self.spec, services)));
            health.cold_left = health.cold_left.saturating_sub(most as u32);
            first += most;
        }
        // There is no server without a slot.
        Duration::ZERO
    }
}
