//! Where a request's bytes come from, and how long they may take.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use metrics::counter;
use tokio::sync::mpsc;
use tokio::time::{Duration, Sleep, sleep};
use tonic::Status;

use super::body::BoxError;
use super::replay::Sending;

/// Where a request's bytes come from.
pub(super) enum Source {
    /// From the front's caller.
    Incoming(Incoming),
    /// From a client of the channel.
    Client(tonic::body::Body),
    /// From a stream's messages, those that go to one pod.
    Leg(mpsc::Receiver<Bytes>),
    /// From any of these, by way of what is kept of it.
    Kept(Sending),
}

impl Source {
    /// What a caller sends, where it may stand still for `limit`, or for ever.
    pub(super) fn of_caller(body: hyper::body::Incoming, limit: Option<Duration>) -> Source {
        Source::Incoming(Incoming { body, limit, clock: None, waits: false })
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Source::Incoming(body) => body.poll_frame(cx),
            Source::Client(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Source::Leg(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            Source::Kept(sending) => Pin::new(sending).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Source::Incoming(body) => body.body.is_end_stream(),
            Source::Client(body) => body.is_end_stream(),
            Source::Leg(_) => false,
            Source::Kept(sending) => sending.is_end_stream(),
        }
    }
}

/// What a caller sends.
pub(super) struct Incoming {
    body: hyper::body::Incoming,
    /// How long it may stand still; none for ever.
    limit: Option<Duration>,
    /// Runs out while it does; made when it is first waited for.
    clock: Option<Pin<Box<Sleep>>>,
    /// Whether it is waited for.
    waits: bool,
}

impl Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waits = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let Some(limit) = self.limit else { return Poll::Pending };
        let clock = match &mut self.clock {
            Some(clock) => {
                if !self.waits {
                    clock.as_mut().set(sleep(limit));
                }
                clock
            }
            None => self.clock.insert(Box::pin(sleep(limit))),
        };
        self.waits = true;
        ready!(clock.as_mut().poll(cx));
        counter!("plimsoll_bodies_stalled_total").increment(1);
        Poll::Ready(Some(Err(Late::Stalled(limit).into())))
    }
}

/// A body did not come as fast as it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Late {
    /// Nothing of it came for so long.
    #[error(
        "the request's body stood still for {0:?}: send it without such a pause, or raise this node's limits.body_idle_s"
    )]
    Stalled(Duration),
    /// All of it was to be here.
    #[error("the request's {bytes} bytes did not come within {allowed:?}")]
    Slow { bytes: u64, allowed: Duration },
}

impl From<Late> for Status {
    /// With itself as the source: HTTP has a status of its own for it.
    fn from(late: Late) -> Status {
        let mut status = Status::deadline_exceeded(late.to_string());
        status.set_source(Arc::new(late));
        status
    }
}
