//! The room for what is kept of requests to be sent again, counted in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::options::Retry;

/// How much may be kept.
#[derive(Debug)]
pub(super) struct Room {
    /// Of one request, or of all in one stream, bytes.
    each: usize,
    /// Of all together.
    all: usize,
    taken: AtomicUsize,
}

impl Room {
    pub(super) fn new(retry: &Retry) -> Arc<Room> {
        let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Arc::new(Room { each: bytes(retry.keep_bytes), all: bytes(retry.keep_all_bytes), taken: AtomicUsize::new(0) })
    }

    /// How much is kept.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// A share of it, of nothing yet.
    pub(super) fn share(self: &Arc<Room>) -> Share {
        Share { room: self.clone(), bytes: 0 }
    }
}

/// What one request, or one stream, has of it.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Share {
    /// Takes `bytes` more; false, and nothing is taken, where that is too much.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        if self.bytes.saturating_add(bytes) > self.room.each {
            return false;
        }
        let fits = self.room.taken.fetch_add(bytes, Relaxed).saturating_add(bytes) <= self.room.all;
        match fits {
            true => self.bytes += bytes,
            false => drop(self.room.taken.fetch_sub(bytes, Relaxed)),
        }
        fits
    }

    /// What it has.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it and `others` together are no more than one may have.
    pub(super) fn fits_beside(&self, others: usize) -> bool {
        self.bytes.saturating_add(others) <= self.room.each
    }

    /// Gives `bytes` back.
    pub(super) fn give(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.room.taken.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Relaxed);
    }
}
