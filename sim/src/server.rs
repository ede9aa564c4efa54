//! One pod as a server: slots, a queue, batches, and what can befall them.
//!
//! A pure state machine: the world says what arrives and when it is, and asks when to come back. Work is first come,
//! first served, in whole nanoseconds. Every job that was taken finishes once, or is handed back by a crash or a cancel;
//! nothing else happens to it.

mod predict;
mod spec;

pub use spec::{BatchLaw, Batching, ServerSpec};

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use plimsoll::time::Time;

/// A request at a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Names it; no two here at once may have the same.
    pub id: u64,
    /// The time it takes on a slot of its own, on a healthy pod.
    pub service: Duration,
}

/// The queue is full: the request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pod's queue is full")]
pub struct Refused;

/// A request that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub id: u64,
    /// When it left the queue.
    pub started: Time,
    /// When it was done.
    pub ended: Time,
}

/// A pod, see [the module](self).
#[derive(Clone, Debug)]
pub struct Server {
    spec: ServerSpec,
    queue: VecDeque<Waiting>,
    /// The sum of the services in the queue.
    queued: Duration,
    slots: Vec<Slot>,
    /// Slots that run nothing.
    free: Vec<usize>,
    /// Slots that run, by their end; of two that end at once, the one that started first.
    ends: BinaryHeap<Reverse<(Time, u64, usize)>>,
    /// Jobs that run.
    running: usize,
    /// Batches started so far.
    started: u64,
    busy: Duration,
    /// The last time that was told.
    now: Time,
    health: Health,
}

/// What makes a server other than it should be.
#[derive(Clone, Copy, Debug)]
struct Health {
    hung_since: Option<Time>,
    speed_percent: u32,
    slowdown_percent: u32,
    /// As many requests as run cold after a restart, and how much longer they take.
    cold_requests: u32,
    cold_percent: u32,
    /// Of those, still to come.
    cold_left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    job: Job,
    arrived: Time,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    started: Time,
    /// In the order of the queue.
    ids: Vec<u64>,
    /// From start to end, without what it hung.
    length: Duration,
}

/// As it should be.
const NORMAL_PERCENT: u32 = 100;

impl Server {
    /// An empty, healthy one. A `spec` without slots gets one.
    pub fn new(spec: &ServerSpec) -> Server {
        let slots = spec.slots.max(1) as usize;
        Server {
            spec: spec.clone(),
            queue: VecDeque::new(),
            queued: Duration::ZERO,
            slots: vec![Slot::default(); slots],
            free: (0..slots).rev().collect(),
            ends: BinaryHeap::with_capacity(slots),
            running: 0,
            started: 0,
            busy: Duration::ZERO,
            now: Time::ZERO,
            health: Health {
                hung_since: None,
                speed_percent: NORMAL_PERCENT,
                slowdown_percent: NORMAL_PERCENT,
                cold_requests: 0,
                cold_percent: NORMAL_PERCENT,
                cold_left: 0,
            },
        }
    }

    /// Takes a job, which starts at once if it can. Everything due before `now` must have been [advanced](Self::advance)
    /// to; what is due at `now` still holds its slot. While it hangs, a server refuses nothing: its sockets take what
    /// it cannot read.
    ///
    /// # Errors
    ///
    /// No slot is free and the queue is full; nothing changed.
    pub fn arrive(&mut self, now: Time, job: Job) -> Result<(), Refused> {
        debug_assert!(self.next().is_none_or(|due| due >= now), "advance before the next arrival");
        self.now = now;
        let full = self.spec.max_queue.is_some_and(|most| self.queue.len() >= most as usize);
        if full && self.free.is_empty() && self.health.hung_since.is_none() {
            return Err(Refused);
        }
        self.take(now, job);
        Ok(())
    }

    /// The same, whatever waits.
    pub fn take(&mut self, now: Time, job: Job) {
        self.now = now;
        self.queue.push_back(Waiting { job, arrived: now });
        self.queued += job.service;
        self.start_what_can(now);
    }

    /// When [`Server::advance`] wants to be called next; None while nothing can happen by itself.
    pub fn next(&self) -> Option<Time> {
        if self.health.hung_since.is_some() {
            return None;
        }
        let end = self.ends.peek().map(|Reverse((end, ..))| *end);
        end.into_iter().chain(self.batch_due()).min()
    }

    /// Does everything due by `now`, in its order, and adds the jobs that finished to `finished`.
    pub fn advance(&mut self, now: Time, finished: &mut Vec<Finished>) {
        while let Some(due) = self.next().filter(|due| *due <= now) {
            match self.ends.peek().copied() {
                Some(Reverse((end, _, slot))) if end == due => self.finish(slot, end, finished),
                _ => {}
            }
            self.start_what_can(due);
        }
        self.now = self.now.max(now);
    }

    /// The caller of a job has gone. Triton runs it all the same unless it batches; only if
    /// [`ServerSpec::drops_cancelled`] is set and the job still waits is it removed. Says whether it was.
    pub fn cancel(&mut self, id: u64) -> bool {
        let waits = self.queue.iter().position(|waiting| waiting.job.id == id);
        let removed = waits.filter(|_| self.spec.drops_cancelled).and_then(|i| self.queue.remove(i));
        if let Some(Waiting { job, .. }) = removed {
            self.queued -= job.service;
        }
        removed.is_some()
    }

    /// Everything here is lost: the jobs, those that ran first. What it is like (slow, cold at its start) stays.
    pub fn crash(&mut self) -> Vec<u64> {
        self.busy = self.busy();
        let mut ends: Vec<_> = self.ends.drain().map(|Reverse((_, order, slot))| (order, slot)).collect();
        ends.sort_unstable();
        let mut lost = Vec::with_capacity(self.in_flight());
        for (_, slot) in ends {
            lost.append(&mut self.slots[slot].ids);
            self.free.push(slot);
        }
        lost.extend(self.queue.drain(..).map(|waiting| waiting.job.id));
        (self.queued, self.running, self.health.hung_since) = (Duration::ZERO, 0, None);
        lost
    }

    /// A new process in the place of the old: cold again, if it is one that starts cold.
    ///
    /// # Panics
    ///
    /// If jobs are left that no [`crash`](Self::crash) took account of.
    pub fn restart(&mut self, now: Time) {
        assert!(self.in_flight() == 0, "a restart loses what is here: crash first");
        self.now = self.now.max(now);
        self.health.hung_since = None;
        self.health.cold_left = self.health.cold_requests;
    }

    /// It is as fast as `percent` says, for good; 100 is normal.
    pub fn set_speed(&mut self, percent: u32) {
        self.health.speed_percent = percent.max(1);
    }

    /// Services that start from now on take `percent` of their time; 100 is normal.
    pub fn set_slowdown(&mut self, percent: u32) {
        self.health.slowdown_percent = percent;
    }

    /// After every start, and now, the first `requests` take `percent` of their time.
    pub fn set_cold(&mut self, requests: u32, percent: u32) {
        self.health.cold_requests = requests;
        self.health.cold_percent = percent;
        self.health.cold_left = requests;
    }

    /// Stops where it stands, as by SIGSTOP: nothing progresses, and what arrives waits.
    pub fn hang(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.health.hung_since.get_or_insert(now);
    }

    /// Goes on where it stood: what ran ends later by the time it hung.
    pub fn resume(&mut self, now: Time) {
        self.now = self.now.max(now);
        let Some(since) = self.health.hung_since.take() else { return };
        let hung = now.since(since);
        let ends = std::mem::take(&mut self.ends).into_iter();
        self.ends = ends.map(|Reverse((end, order, slot))| Reverse((end + hung, order, slot))).collect();
        self.start_what_can(now);
    }

    /// Jobs here, waiting or running.
    pub fn in_flight(&self) -> usize {
        self.queue.len() + self.running
    }

    /// Jobs in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Slot time worked so far, to the last time that was told; what hung was no work.
    pub fn busy(&self) -> Duration {
        self.busy_at(self.now)
    }

    /// The same to `now`, which nothing that is due has been passed over by.
    pub fn busy_at(&self, now: Time) -> Duration {
        let worked = |Reverse((end, _, slot)): &Reverse<(Time, u64, usize)>| {
            self.slots[*slot].length.saturating_sub(self.remainder(*end, now))
        };
        self.busy + self.ends.iter().map(worked).sum::<Duration>()
    }

    /// What is left at `now` of work that ends at `end`.
    fn remainder(&self, end: Time, now: Time) -> Duration {
        end.since(self.health.hung_since.map_or(now, |since| since.min(now)))
    }

    fn finish(&mut self, slot: usize, ended: Time, finished: &mut Vec<Finished>) {
        self.ends.pop();
        let Slot { started, ids, length } = &mut self.slots[slot];
        self.busy += *length;
        self.running -= ids.len();
        finished.extend(ids.drain(..).map(|id| Finished { id, started: *started, ended }));
        self.free.push(slot);
    }

    /// When an idle slot has waited long enough for a batch to fill.
    fn batch_due(&self) -> Option<Time> {
        let oldest = self.queue.front().filter(|_| !self.free.is_empty())?;
        Some(oldest.arrived + self.spec.queue_delay())
    }

    fn start_what_can(&mut self, at: Time) {
        if self.health.hung_since.is_some() {
            return;
        }
        let most = self.spec.batch_at_most();
        while self.queue.len() >= most || self.batch_due().is_some_and(|due| due <= at) {
            let Some(slot) = self.free.pop() else { return };
            self.start(slot, at, most.min(self.queue.len()));
        }
    }

    fn start(&mut self, slot: usize, at: Time, count: usize) {
        let services = self.queue.iter().take(count).map(|waiting| waiting.job.service);
        let length = self.health.length(&self.spec, services);
        self.health.cold_left = self.health.cold_left.saturating_sub(count as u32);
        let Slot { started, ids, length: its } = &mut self.slots[slot];
        (*started, *its) = (at, length);
        for Waiting { job, .. } in self.queue.drain(..count) {
            self.queued -= job.service;
            ids.push(job.id);
        }
        self.running += count;
        self.ends.push(Reverse((at + length, self.started, slot)));
        self.started += 1;
    }
}

impl Health {
    /// How long a batch of `services` runs if it starts now.
    fn length(&self, spec: &ServerSpec, services: impl Iterator<Item = Duration>) -> Duration {
        let healthy = spec.batch_length(services);
        let cold = if self.cold_left > 0 { self.cold_percent } else { NORMAL_PERCENT };
        percent_of(self.paced(healthy), cold)
    }

    /// What takes `d` on a usual pod, here.
    fn paced(&self, d: Duration) -> Duration {
        let slowed = percent_of(d, self.slowdown_percent);
        if self.speed_percent == NORMAL_PERCENT {
            return slowed;
        }
        Duration::from_nanos((slowed.as_nanos() * 100 / u128::from(self.speed_percent)) as u64)
    }

    /// Whether a service takes as long here as it says.
    fn is_usual(&self) -> bool {
        (self.speed_percent, self.slowdown_percent, self.cold_left) == (NORMAL_PERCENT, NORMAL_PERCENT, 0)
    }
}

/// So much of it, rounded down to the nanosecond.
fn percent_of(d: Duration, percent: u32) -> Duration {
    if percent == NORMAL_PERCENT {
        return d;
    }
    Duration::from_nanos(u64::try_from(d.as_nanos() * u128::from(percent) / 100).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
