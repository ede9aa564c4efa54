//! A list: a ring of elements, and what they take together.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::ops::Range;

use super::PER_ELEMENT;

/// A list.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    elements: VecDeque<Box<[u8]>>,
    payload_bytes: usize,
}

/// One of its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Left,
    Right,
}

impl List {
    pub(crate) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload_bytes + self.len() * PER_ELEMENT
    }

    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.elements.get(index).map(|element| &**element)
    }

    pub(crate) fn iter(&self) -> Iter<'_, Box<[u8]>> {
        self.elements.iter()
    }

    /// The elements of `range`, which must not reach beyond the end.
    pub(crate) fn range(&self, range: Range<usize>) -> Iter<'_, Box<[u8]>> {
        self.elements.range(range)
    }

    pub(crate) fn push(&mut self, end: End, element: &[u8]) {
        self.payload_bytes += element.len();
        match end {
            End::Left => self.elements.push_front(element.into()),
            End::Right => self.elements.push_back(element.into()),
        }
    }

    pub(crate) fn pop(&mut self, end: End) -> Option<Box<[u8]>> {
        let element = match end {
            End::Left => self.elements.pop_front(),
            End::Right => self.elements.pop_back(),
        }?;
        self.payload_bytes -= element.len();
        self.shrink();
        Some(element)
    }

    /// Puts `element` before what is at `index`.
    pub(crate) fn insert(&mut self, index: usize, element: &[u8]) {
        self.payload_bytes += element.len();
        self.elements.insert(index, element.into());
    }

    /// Puts `element` in the place of what is at `index`; whether there was something.
    pub(crate) fn replace(&mut self, index: usize, element: &[u8]) -> bool {
        let Some(slot) = self.elements.get_mut(index) else { return false };
        self.payload_bytes = self.payload_bytes - slot.len() + element.len();
        *slot = element.into();
        true
    }

    /// Takes out up to `most` elements that equal `element`, from `end` on; how many.
    pub(crate) fn remove_equal(&mut self, element: &[u8], end: End, most: usize) -> usize {
        let equal = self.elements.iter().filter(|other| ***other == *element).count();
        let removed = equal.min(most);
        // From the right, the first ones stay.
        let mut kept_first = if end == End::Right { equal - removed } else { 0 };
        let mut to_remove = removed;
        self.elements.retain(|other| {
            if to_remove == 0 || **other != *element {
                return true;
            }
            if kept_first > 0 {
                kept_first -= 1;
                return true;
            }
            to_remove -= 1;
            false
        });
        self.payload_bytes -= removed * element.len();
        self.shrink();
        removed
    }

    /// Keeps the elements of `range` only, which must not reach beyond the end.
    pub(crate) fn keep(&mut self, range: Range<usize>) {
        self.elements.truncate(range.end);
        self.elements.drain(..range.start);
        self.payload_bytes = self.elements.iter().map(|element| element.len()).sum();
        self.shrink();
    }

    /// A queue that was long once does not hold its room for ever.
    fn shrink(&mut self) {
        if self.elements.capacity() > 64 && self.elements.len() < self.elements.capacity() / 4 {
            self.elements.shrink_to(self.elements.len() * 2);
        }
    }
}
