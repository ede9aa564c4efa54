//! What was read of a connection and not yet understood.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Room for what an ordinary client sends at once.
const ROOM: usize = 16 << 10;
/// As much is read at once where a client sends much.
const MOST_ROOM: usize = 64 << 10;

/// Bytes that came and were not yet used up. Grows with what comes, never with what is announced.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { bytes: Vec::new(), start: 0, end: 0 }
    }

    /// Gives back its room, if nothing is in it.
    pub(crate) fn rest(&mut self) {
        if self.start == self.end {
            *self = Inbox::new();
        }
    }

    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The first `count` bytes are used up.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// What it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Reads once; 0 at the end of the stream.
    pub(crate) fn poll_read<S: AsyncRead>(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut S>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(from.poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// Where it is full, what is left moves to its front, or it doubles. What one large request took is given back when
    /// nothing of it is left.
    fn make_room(&mut self) {
        if self.end == 0 && self.bytes.len() > MOST_ROOM {
            self.bytes = vec![0; MOST_ROOM];
        }
        if self.end < self.bytes.len() {
            return;
        }
        let used = self.end - self.start;
        if self.bytes.is_empty() {
            self.bytes = vec![0; ROOM];
        } else if used > self.bytes.len() / 2 {
            self.bytes.resize(self.bytes.len() * 2, 0);
        } else if self.bytes.len() < MOST_ROOM {
            // It was filled to the last byte, so more waits: a larger piece costs fewer reads.
            self.bytes.resize(MOST_ROOM.min(self.bytes.len() * 4), 0);
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, used);
    }
}
