//! What happens next: a heap by time, and by order of planning among equals, so that a run is one fixed sequence.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use plimsoll::time::Time;
use slab::Slab;

/// Planned happenings. The heap holds 24 bytes for each and the rest stays put, so that sifting is cheap.
#[derive(Debug)]
pub(crate) struct Queue<H> {
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    planned: Slab<H>,
    turn: u64,
}

impl<H> Default for Queue<H> {
    fn default() -> Queue<H> {
        Queue { heap: BinaryHeap::new(), planned: Slab::new(), turn: 0 }
    }
}

impl<H> Queue<H> {
    pub(crate) fn push(&mut self, at: Time, happening: H) {
        self.turn += 1;
        let slot = self.planned.insert(happening);
        self.heap.push(Reverse((at, self.turn, slot)));
    }

    /// The next happening, if it is due at `end` at the latest.
    pub(crate) fn pop_until(&mut self, end: Time) -> Option<(Time, H)> {
        let Reverse((at, _, slot)) = *self.heap.peek().filter(|Reverse((at, ..))| *at <= end)?;
        self.heap.pop();
        Some((at, self.planned.remove(slot)))
    }

    /// How many are planned.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two happenings at one instant in another order would be another run.
    #[test]
    fn equals_come_in_the_order_in_which_they_were_planned() {
        let mut queue = Queue::default();
        for (at, name) in [(2, "c"), (1, "a"), (2, "d"), (1, "b"), (9, "late")] {
            queue.push(Time::from_nanos(at), name);
        }
        let due: Vec<_> = std::iter::from_fn(|| queue.pop_until(Time::from_nanos(5))).map(|(_, name)| name).collect();
        assert_eq!((due, queue.len()), (vec!["a", "b", "c", "d"], 1));
    }
}
