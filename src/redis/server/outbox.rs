//! Replies that a connection was not yet able to write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::encode::encode;
use crate::reply::Reply;

/// What one large reply took beyond this is given back when it is written.
const KEPT_BYTES: usize = 64 << 10;

/// Replies, encoded.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    pub(crate) fn add(&mut self, reply: &Reply, protocol: u8) {
        encode(reply, protocol, &mut self.bytes);
    }

    /// Bytes that are not yet written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// What it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back its room, if nothing is in it.
    pub(crate) fn rest(&mut self) {
        if self.len() == 0 {
            *self = Outbox::default();
        }
    }

    /// Writes what is there; ready when all of it is. How much was written in all is added to `total`.
    pub(crate) fn poll_write<S>(
        &mut self,
        cx: &mut Context<'_>,
        mut to: Pin<&mut S>,
        total: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncWrite,
    {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.bytes.len() {
            match ready!(to.as_mut().poll_write(cx, &self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.written += count;
                    *total += count as u64;
                }
            }
        }
        ready!(to.poll_flush(cx))?;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}
