//! What passes on one connection, as far as tells whether it is still of use to its caller.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::sleep;

use super::super::body::BoxError;
use super::answer::Answer;
use crate::driver::clock;
use crate::time::Time;

/// The requests on one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Those that are not answered to the end.
    open: AtomicUsize,
    /// When the last one ended, ns; before there was one, when the connection began.
    quiet_since: AtomicU64,
}

impl Traffic {
    /// Of a connection that begins.
    pub(super) fn new() -> Arc<Traffic> {
        Arc::new(Traffic { open: AtomicUsize::new(0), quiet_since: AtomicU64::new(clock::now().as_nanos()) })
    }

    /// A request came.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::SeqCst);
        Open(self.clone())
    }

    /// Returns when there was no request for `limit`, however long one takes.
    pub(super) async fn quiet_for(&self, limit: Duration) {
        loop {
            let is_open = self.open.load(Ordering::SeqCst) > 0;
            let since = Time::from_nanos(self.quiet_since.load(Ordering::SeqCst));
            let left = if is_open { limit } else { limit.saturating_sub(clock::now().since(since)) };
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// A request that is not answered to the end: to its last byte as hyper takes it, which keeps what its caller does not read.
pub(super) struct Open(Arc<Traffic>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.quiet_since.store(clock::now().as_nanos(), Ordering::SeqCst);
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer with what says that its request is open.
pub(super) struct Counted {
    pub(super) answer: Answer,
    pub(super) _open: Open,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.answer).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    /// A connection with a request on it must never be taken for one that nobody needs.
    #[tokio::test]
    async fn nothing_is_quiet_while_a_request_is_open() {
        let traffic = Traffic::new();
        let (first, second) = (traffic.begin(), traffic.begin());
        drop(first);
        assert!(tokio::time::timeout(4 * LIMIT, traffic.quiet_for(LIMIT)).await.is_err());
        drop(second);
        let ended = clock::now();
        traffic.quiet_for(LIMIT).await;
        assert!(clock::now().since(ended) >= LIMIT);
    }
}
