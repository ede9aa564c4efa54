//! A GPU that costs nothing: requests occupy its slots first come, first served, for as long as they say.
//!
//! When a request will end is known the moment it arrives, because nothing overtakes: it starts when the first slot
//! is free, `max(arrival, free)`, and ends one service time later. So there is no queue to run, only deadlines to
//! meet, and one thread meets them in order. Nobody can take a request back: like on a real Triton, cancelling does
//! not free the slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pace::sharpen_timer;

/// The slots of one pod. Dropping it ends its thread and abandons what is in flight.
#[derive(Debug)]
pub(super) struct Gpu {
    shared: Arc<Shared>,
}

/// What one request met: how long it stood in line, and how long it held a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) queued: Duration,
    pub(super) served: Duration,
}

impl Gpu {
    pub(super) fn start(name: &str, slots: NonZeroUsize) -> std::io::Result<Self> {
        let state =
            State { free_at: vec![Instant::now(); slots.get()], due: BinaryHeap::new(), taken: 0, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let worker = Arc::clone(&shared);
        std::thread::Builder::new().name(format!("gpu {name}")).spawn(move || worker.work())?;
        Ok(Self { shared })
    }

    /// Takes a request that needs a slot for `service` and calls `done` when it has had it.
    pub(super) fn run(&self, service: Duration, done: impl FnOnce(Ran) + Send + 'static) {
        let mut state = self.shared.lock();
        state.admit(Instant::now(), service, Box::new(done));
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free_at: Vec<Instant>,
    due: BinaryHeap<Reverse<Due>>,
    taken: u64,
    closed: bool,
}

impl State {
    fn admit(&mut self, arrived: Instant, service: Duration, done: Box<dyn FnOnce(Ran) + Send>) {
        let slot = self.free_at.iter_mut().min().expect("the slots are NonZero");
        let started = arrived.max(*slot);
        let at = started + service;
        *slot = at;
        self.taken += 1;
        let ran = Ran { queued: started - arrived, served: service };
        self.due.push(Reverse(Due { at, order: self.taken, ran, done }));
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("slots", &self.free_at.len()).field("in_flight", &self.due.len()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        sharpen_timer();
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            state = match state.due.peek() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Reverse(next)) if next.at > now => {
                    let left = next.at - now;
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => self.finish_first(state),
            };
        }
    }

    /// Tells the caller without holding the lock, so that a slow caller delays nobody's arrival.
    fn finish_first<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let first = state.due.pop();
        drop(state);
        if let Some(Reverse(due)) = first {
            (due.done)(due.ran);
        }
        self.lock()
    }
}

struct Due {
    at: Instant,
    /// Breaks ties in the order of arrival.
    order: u64,
    ran: Ran,
    done: Box<dyn FnOnce(Ran) + Send>,
}

impl Due {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.order)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn slots(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("tests ask for slots")
    }

    /// A pod that answered short requests first would make every policy look good.
    #[test]
    fn requests_leave_in_the_order_they_came() {
        let gpu = Gpu::start("test", slots(1)).expect("a thread starts");
        let (tx, rx) = mpsc::channel();
        for (index, service) in [30, 1, 10].into_iter().enumerate() {
            let tx = tx.clone();
            gpu.run(ms(service), move |ran| tx.send((index, ran)).expect("the test listens"));
        }
        let seen: Vec<_> = rx.iter().take(3).collect();
        assert_eq!(seen.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(seen[0].1.queued, Duration::ZERO);
        assert!(seen[2].1.queued > ms(25), "two services stand before it: {:?}", seen[2].1);
    }

    /// Twenty services of 5 ms end after 100 ms, not after twenty times whatever the timer adds: 1 ms each would make
    /// 120. A busy machine can stall any one try, so the best of five counts.
    #[test]
    fn lateness_does_not_add_up() {
        let gpu = Gpu::start("test", slots(1)).expect("a thread starts");
        let best = (0..5).map(|_| time_of_twenty(&gpu)).min().expect("five tries");
        assert!(best >= ms(100) && best < ms(115), "{best:?}");
    }

    fn time_of_twenty(gpu: &Gpu) -> Duration {
        let (tx, rx) = mpsc::channel();
        let start = Instant::now();
        for _ in 0..20 {
            let tx = tx.clone();
            gpu.run(ms(5), move |_| tx.send(start.elapsed()).expect("the test listens"));
        }
        rx.iter().take(20).last().expect("twenty came")
    }

    #[test]
    fn two_slots_serve_two_requests_at_once() {
        let mut state = State { free_at: vec![Instant::now(); 2], due: BinaryHeap::new(), taken: 0, closed: false };
        let now = Instant::now();
        for service in [10, 10, 10] {
            state.admit(now, ms(service), Box::new(|_| ()));
        }
        let ends: Vec<_> = std::iter::from_fn(|| state.due.pop()).map(|Reverse(due)| due.at - now).collect();
        assert_eq!(ends, [ms(10), ms(10), ms(20)]);
    }
}
