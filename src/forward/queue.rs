//! Requests that wait at the node until a pod has a place for them: by priority, then by deadline, then in the order in which
//! they came. Used only where requests in flight per pod are bounded.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::options::Limits;
use crate::id::PodId;
use crate::node::Ticket;
use crate::pick::PickError;
use crate::time::Time;

/// How often the first in the queue looks again by itself: what peers have on the pods changes without a word to it. Less
/// would be work for nothing, more idles a pod.
const LOOK: Duration = Duration::from_millis(2);

/// The queue. One for all; each line in it has its own first.
#[derive(Debug)]
pub(super) struct WaitQueue {
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    places: BTreeMap<Place, Arc<Waiter>>,
    entered: u64,
}

/// Somebody who waits.
#[derive(Debug, Default)]
struct Waiter {
    woken: Notify,
    /// Whether it lost its place to a more urgent one.
    displaced: AtomicBool,
}

/// Requests that are served one after the other: those of one model that may go to the same pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    model: Arc<str>,
    /// None where all pods may be asked.
    among: SmallVec<[PodId; 4]>,
}

impl Line {
    pub(super) fn new(model: &str, among: &[PodId]) -> Line {
        Line { model: model.into(), among: among.into() }
    }
}

/// A place in the queue, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: Line,
    /// 0 is Triton's "as configured": behind what names a priority.
    priority: u64,
    /// When it is of no use any more; none is last.
    until: Time,
    number: u64,
}

/// Less is served first: priority, deadline, number.
type Urgency = (u64, Time, u64);

impl Place {
    fn urgency(&self) -> Urgency {
        (self.priority, self.until, self.number)
    }
}

/// Why a request was not let in, or lost its place to one of a higher priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests wait for a pod already, which is the limit (limits.queue)")]
pub(super) struct QueueFull {
    waiting: usize,
}

impl WaitQueue {
    pub(super) fn new(limits: &Limits) -> WaitQueue {
        WaitQueue { most: limits.queue, waiting: Mutex::default() }
    }

    /// A ticket as soon as `pick` gives one other than that all pods are full, and it is this one's turn. Dropping it leaves
    /// the queue.
    ///
    /// # Errors
    /// [`QueueFull`]; what `pick` says otherwise.
    pub(super) async fn wait(
        &self,
        line: Line,
        priority: u64,
        until: Option<Time>,
        mut pick: impl FnMut() -> Result<Ticket, PickError>,
    ) -> Result<Result<Ticket, PickError>, QueueFull> {
        let is_full = |picked: &Result<Ticket, PickError>| matches!(picked, Err(PickError::Full { .. }));
        let place = {
            let mut waiting = self.lock();
            if !waiting.has(&line) {
                drop(waiting);
                let picked = pick();
                if !is_full(&picked) {
                    return Ok(picked);
                }
                waiting = self.lock();
            }
            self.enter(waiting, line, priority, until)?
        };
        let mut woken = false;
        loop {
            if place.waiter.displaced.load(Relaxed) {
                return Err(QueueFull { waiting: self.most });
            }
            if place.is_first() {
                let picked = pick();
                if !is_full(&picked) {
                    return Ok(picked);
                }
                // What has room is not for this one: the next looks.
                if std::mem::take(&mut woken) {
                    self.wake_after(Some(place.place.urgency()));
                }
            }
            tokio::select! {
                () = place.waiter.woken.notified() => woken = true,
                () = tokio::time::sleep(LOOK), if place.is_first() => {}
            }
        }
    }

    /// A pod has room for one more: the most urgent of those who are first looks, and then, where it is not for that one, the next.
    pub(super) fn wake(&self) {
        self.wake_after(None);
    }

    /// The same of those who are less urgent.
    fn wake_after(&self, after: Option<Urgency>) {
        let waiting = self.lock();
        let less_urgent = |(place, _): &(&Place, _)| after.is_none_or(|after| place.urgency() > after);
        if let Some((_, next)) = waiting.firsts().filter(less_urgent).min_by_key(|(place, _)| place.urgency()) {
            next.woken.notify_one();
        }
    }

    fn enter(
        &self,
        mut waiting: MutexGuard<'_, Waiting>,
        line: Line,
        priority: u64,
        until: Option<Time>,
    ) -> Result<Entered<'_>, QueueFull> {
        let priority = if priority == 0 { u64::MAX } else { priority };
        if waiting.places.len() >= self.most && !waiting.displace(priority) {
            return Err(QueueFull { waiting: waiting.places.len() });
        }
        waiting.entered += 1;
        let until = until.unwrap_or(Time::from_nanos(u64::MAX));
        let place = Place { line, priority, until, number: waiting.entered };
        let waiter = Arc::new(Waiter::default());
        waiting.places.insert(place.clone(), waiter.clone());
        Ok(Entered { queue: self, place, waiter })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is one insertion or removal.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn first(&self, line: &Line) -> Option<&Place> {
        let from = Place { line: line.clone(), priority: 0, until: Time::ZERO, number: 0 };
        self.places.range(from..).next().map(|(place, _)| place).filter(|place| place.line == *line)
    }

    /// The first of each line.
    fn firsts(&self) -> impl Iterator<Item = (&Place, &Arc<Waiter>)> {
        let mut next = self.places.iter().next();
        std::iter::from_fn(move || {
            let first = next?;
            let last = (u64::MAX, Time::from_nanos(u64::MAX), u64::MAX);
            let end = Place { priority: last.0, until: last.1, number: last.2, ..first.0.clone() };
            next = self.places.range((Bound::Excluded(end), Bound::Unbounded)).next();
            Some(first)
        })
    }

    /// Takes the place of the least urgent one, where that is of a lower priority.
    fn displace(&mut self, priority: u64) -> bool {
        let last =
            self.places.keys().max_by_key(|place| place.urgency()).filter(|last| last.priority > priority).cloned();
        let Some(waiter) = last.and_then(|last| self.places.remove(&last)) else { return false };
        waiter.displaced.store(true, Relaxed);
        waiter.woken.notify_one();
        true
    }

    fn has(&self, line: &Line) -> bool {
        !self.places.is_empty() && self.first(line).is_some()
    }
}

/// One request in the queue.
struct Entered<'a> {
    queue: &'a WaitQueue,
    place: Place,
    waiter: Arc<Waiter>,
}

impl Entered<'_> {
    fn is_first(&self) -> bool {
        self.queue.lock().first(&self.place.line) == Some(&self.place)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.places.remove(&self.place);
        // The next one is first now, and nobody else would tell it.
        if let Some(next) = waiting.first(&self.place.line).cloned()
            && let Some(waiter) = waiting.places.get(&next)
        {
            waiter.woken.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::node::{Credentials, Node, NodeConfig};
    use crate::observe::PodSpec;
    use crate::pick::{Outcome, Request};

    async fn node() -> Node {
        let secret = Credentials::Secret(b"0123456789abcdef".to_vec());
        let mut config = NodeConfig::new("a", secret);
        config.pods = vec![PodSpec::new("t0", "http://127.0.0.1:1")];
        Node::join(config).await.unwrap()
    }

    fn at(ms: u64) -> Option<Time> {
        Some(Time::from_nanos(ms * 1_000_000))
    }

    /// With one place at the pod, those who wait must be served by priority, then by deadline, then as they came, one of
    /// another model not be held up by them, and whoever gives up not be waited for.
    #[tokio::test]
    async fn the_most_urgent_is_first() {
        let node = node().await;
        let queue = Arc::new(WaitQueue::new(&Limits::default()));
        let held = node.pick(&Request::new("m").at_most(Some(1))).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        let asks =
            [("late", 0, at(900)), ("none", 0, None), ("soon", 0, at(500)), ("second", 2, None), ("first", 1, None)];
        for (name, priority, until) in asks {
            let (node, queue, order) = (node.clone(), queue.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let pick = || node.pick(&Request::new("m").at_most(Some(1)));
                let ticket = queue.wait(Line::new("m", &[]), priority, until, pick).await.unwrap().unwrap();
                order.lock().unwrap().push(name);
                ticket.finish(Outcome::Served);
                queue.wake();
            }));
            tokio::task::yield_now().await;
        }
        let (gone, other) = (node.clone(), node.clone());
        let gives_up = {
            let queue = queue.clone();
            tokio::spawn(async move {
                let _ticket =
                    queue.wait(Line::new("m", &[]), 1, at(1), || gone.pick(&Request::new("m").at_most(Some(1)))).await;
            })
        };
        tokio::task::yield_now().await;
        gives_up.abort();
        let _ = gives_up.await;
        let of_another =
            queue.wait(Line::new("n", &[]), 0, None, || other.pick(&Request::new("n"))).await.unwrap().unwrap();
        of_another.finish(Outcome::Served);
        held.finish(Outcome::Served);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["first", "second", "soon", "late", "none"]);
        assert_eq!(queue.lock().places.len(), 0);
    }

    /// A request that waits for one pod, because it is pinned there or its sequence is, must not keep those that may go
    /// anywhere from the pods that are free.
    #[tokio::test]
    async fn who_waits_for_one_pod_holds_up_nobody_else() {
        let node = node().await;
        let queue = Arc::new(WaitQueue::new(&Limits::default()));
        let held = node.pick(&Request::new("m").at_most(Some(1))).unwrap();
        let pods = [held.pod().id()];
        let (bound, bound_queue) = (node.clone(), queue.clone());
        let waits = tokio::spawn(async move {
            let pick = || bound.pick(&Request::new("m").among(&pods).at_most(Some(1)));
            bound_queue.wait(Line::new("m", &pods), 1, None, pick).await.unwrap().unwrap().finish(Outcome::Served);
        });
        tokio::task::yield_now().await;
        let free = queue.wait(Line::new("m", &[]), 0, None, || node.pick(&Request::new("m"))).await;
        free.unwrap().unwrap().finish(Outcome::Served);
        held.finish(Outcome::Served);
        queue.wake();
        waits.await.unwrap();
    }

    /// Requests of several models wait for the same pod: the most urgent of all is next, not whichever line wakes up first. And
    /// where the queue is full it takes the place of the least urgent one.
    #[tokio::test]
    async fn urgency_counts_over_all_lines_and_makes_room() {
        let node = node().await;
        let queue = Arc::new(WaitQueue::new(&Limits { queue: 4, ..Limits::default() }));
        let held = node.pick(&Request::new("m").at_most(Some(1))).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for (model, priority) in [("b", 0), ("c", 3), ("a", 5), ("b", 9), ("d", 1), ("a", 0)] {
            let (node, queue, order) = (node.clone(), queue.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let pick = || node.pick(&Request::new(model).at_most(Some(1)));
                let waited = queue.wait(Line::new(model, &[]), priority, None, pick).await;
                order.lock().unwrap().push((model, priority, waited.is_ok()));
                if let Ok(ticket) = waited {
                    ticket.unwrap().finish(Outcome::Served);
                    queue.wake();
                }
            }));
            tokio::task::yield_now().await;
        }
        while order.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*order.lock().unwrap(), [("b", 0, false), ("a", 0, false)]);
        held.finish(Outcome::Served);
        queue.wake();
        for task in waiting {
            task.await.unwrap();
        }
        let served = [("d", 1, true), ("c", 3, true), ("a", 5, true), ("b", 9, true)];
        assert_eq!(order.lock().unwrap()[2..], served);
        assert_eq!(queue.lock().places.len(), 0);
    }

    /// A crowd must be told at once, not be kept.
    #[tokio::test]
    async fn the_queue_is_bounded() {
        let node = node().await;
        let queue = Arc::new(WaitQueue::new(&Limits { queue: 2, ..Limits::default() }));
        let _held = node.pick(&Request::new("m").at_most(Some(1))).unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let (node, queue, refused) = (node.clone(), queue.clone(), refused.clone());
                tokio::spawn(async move {
                    if queue
                        .wait(Line::new("m", &[]), 0, None, || node.pick(&Request::new("m").at_most(Some(1))))
                        .await
                        .is_err()
                    {
                        refused.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        while refused.load(SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(queue.lock().places.len(), 2);
        tasks.iter().for_each(|task| task.abort());
    }
}
