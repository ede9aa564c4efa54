//! Room for one pick's lists, kept per thread: a pick must not allocate, however many pods there are.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Where a thread keeps a list while nobody uses it.
pub(super) type Home<T> = LocalKey<Cell<Vec<T>>>;

/// An empty list, of this thread's for the time being.
pub(super) struct Scratch<T: 'static> {
    list: Vec<T>,
    home: &'static Home<T>,
}

impl<T> Scratch<T> {
    /// The one that is kept at `home`; a new one where that is in use, or the thread is about to end.
    pub(super) fn of(home: &'static Home<T>) -> Scratch<T> {
        Scratch { list: home.try_with(Cell::take).unwrap_or_default(), home }
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.list);
        list.clear();
        // Of a thread that ends it is freed instead.
        let _ended = self.home.try_with(|home| home.set(list));
    }
}

impl<T> Deref for Scratch<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.list
    }
}

impl<T> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.list
    }
}
