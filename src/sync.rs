//! What threads share, in one place.
//!
//! With the feature `loom` the same code runs on models of these (`loom` tries every order in which threads can take their
//! steps, and every value that a read may see): see `interleavings.rs`. Never in production.

use std::fmt;
use std::ops::{Deref, DerefMut};

#[cfg(feature = "loom")]
pub(crate) use self::modelled::{AtomicU32, AtomicU64, Cell, Queue, fence_of_model, yield_now};
#[cfg(not(feature = "loom"))]
pub(crate) use self::real::{AtomicU32, AtomicU64, Cell, Queue, fence_of_model, yield_now};

#[cfg(not(feature = "loom"))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};
    pub(crate) use std::thread::yield_now;

    pub(crate) use crossbeam::queue::ArrayQueue as Queue;

    /// A box that is there or not; one word, exchanged without a lock.
    pub(crate) type Cell<T> = crossbeam::atomic::AtomicCell<Option<Box<T>>>;

    /// Nothing: see the model's.
    #[inline(always)]
    pub(crate) fn fence_of_model() {}
}

#[cfg(feature = "loom")]
mod modelled {
    use std::collections::VecDeque;

    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
    pub(crate) use loom::thread::yield_now;

    /// `loom` takes `SeqCst` loads and stores for weaker than they are, but knows fences: where code relies on the one order
    /// of its `SeqCst` steps, this says so to the model.
    pub(crate) fn fence_of_model() {
        loom::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// As in production: a step of its own, whatever it is made of.
    pub(crate) struct Cell<T>(loom::sync::Mutex<Option<Box<T>>>);

    impl<T> Cell<T> {
        pub(crate) fn new(value: Option<Box<T>>) -> Cell<T> {
            Cell(loom::sync::Mutex::new(value))
        }

        pub(crate) fn take(&self) -> Option<Box<T>> {
            self.0.lock().expect("no thread panics with it").take()
        }

        pub(crate) fn store(&self, value: Option<Box<T>>) {
            *self.0.lock().expect("no thread panics with it") = value;
        }
    }

    pub(crate) struct Queue<T>(loom::sync::Mutex<VecDeque<T>>, usize);

    impl<T> Queue<T> {
        pub(crate) fn new(room: usize) -> Queue<T> {
            Queue(loom::sync::Mutex::new(VecDeque::new()), room)
        }

        pub(crate) fn push(&self, value: T) -> Result<(), T> {
            let mut queue = self.0.lock().expect("no thread panics with it");
            if queue.len() == self.1 {
                return Err(value);
            }
            queue.push_back(value);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().expect("no thread panics with it").pop_front()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.lock().expect("no thread panics with it").len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    impl<T> std::fmt::Debug for Queue<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Queue").finish_non_exhaustive()
        }
    }
}

/// A value that one thread at a time works on, and nobody has to wait for: whoever finds it taken goes on without it.
///
/// It stands in a box; to take it is to take the box. A thread that is stopped while it has the box stops nobody else.
pub(crate) struct Turn<T>(Cell<T>);

/// The value, until this is dropped.
pub(crate) struct Held<'a, T> {
    turn: &'a Turn<T>,
    /// There until the drop.
    value: Option<Box<T>>,
}

impl<T> Turn<T> {
    pub(crate) fn new(value: T) -> Turn<T> {
        Turn(Cell::new(Some(Box::new(value))))
    }

    /// The value, unless somebody has it.
    pub(crate) fn take(&self) -> Option<Held<'_, T>> {
        self.0.take().map(|value| Held { turn: self, value: Some(value) })
    }

    /// The value, as soon as nobody has it: not for picks.
    pub(crate) fn wait(&self) -> Held<'_, T> {
        loop {
            match self.take() {
                Some(held) => return held,
                None => yield_now(),
            }
        }
    }
}

impl<T: Default> Default for Turn<T> {
    fn default() -> Turn<T> {
        Turn::new(T::default())
    }
}

impl<T> fmt::Debug for Turn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is given back by the drop alone")
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is given back by the drop alone")
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // Also of a thread that panics: it leaves a value like any other.
        self.turn.0.store(self.value.take());
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    /// A lock inside the cell would make a pick wait for a thread that was stopped.
    #[test]
    fn a_turn_is_one_word_without_a_lock() {
        assert!(Cell::<[u64; 9]>::is_lock_free());
        assert!(Queue::<u8>::new(1).is_empty());
    }

    /// Who comes second goes on without it, and a panic gives it back.
    #[test]
    fn a_turn_is_given_back_by_whoever_has_it() {
        let turn = Turn::new(1);
        let mut held = turn.take().expect("nobody has it");
        assert!(turn.take().is_none());
        *held += 1;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = held;
            panic!("a bug");
        }));
        assert!(panicked.is_err());
        assert_eq!(*turn.wait(), 2);
    }
}
