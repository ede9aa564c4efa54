//! Requests that wait at the node until a pod has a place for them: by priority, then by deadline, then in the order in which
//! they came. Used only where requests in flight per pod are bounded.

use std::collections::BTreeMap;
use std::ops::Bound;
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
    places: BTreeMap<Place, Arc<Notify>>,
    entered: u64,
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

/// Why a request was not let in.
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
        loop {
            if place.is_first() {
                let picked = pick();
                if !is_full(&picked) {
                    return Ok(picked);
                }
            }
            tokio::select! {
                () = place.woken.notified() => {}
                () = tokio::time::sleep(LOOK), if place.is_first() => {}
            }
        }
    }

    /// A pod has room for one more: whoever is first looks.
    pub(super) fn wake(&self) {
        let waiting = self.lock();
        let mut next = waiting.places.iter().next();
        while let Some((place, woken)) = next {
            woken.notify_one();
            let end =
                Place { priority: u64::MAX, until: Time::from_nanos(u64::MAX), number: u64::MAX, ..place.clone() };
            next = waiting.places.range((Bound::Excluded(end), Bound::Unbounded)).next();
        }
    }

    fn enter(
        &self,
        mut waiting: MutexGuard<'_, Waiting>,
        line: Line,
        priority: u64,
        until: Option<Time>,
    ) -> Result<Entered<'_>, QueueFull> {
        if waiting.places.len() >= self.most {
            return Err(QueueFull { waiting: waiting.places.len() });
        }
        waiting.entered += 1;
        let priority = if priority == 0 { u64::MAX } else { priority };
        let until = until.unwrap_or(Time::from_nanos(u64::MAX));
        let place = Place { line, priority, until, number: waiting.entered };
        let woken = Arc::new(Notify::new());
        waiting.places.insert(place.clone(), woken.clone());
        Ok(Entered { queue: self, place, woken })
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

    fn has(&self, line: &Line) -> bool {
        !self.places.is_empty() && self.first(line).is_some()
    }
}

/// One request in the queue.
struct Entered<'a> {
    queue: &'a WaitQueue,
    place: Place,
    woken: Arc<Notify>,
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
            && let Some(woken) = waiting.places.get(&next)
        {
            woken.notify_one();
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
