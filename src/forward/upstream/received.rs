//! The body of a pod's response, and with it the connection that it comes on, where that is one of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Lost;
use super::http::{Lent, Pool};
use super::ties::Ties;

/// See the module's description.
pub(in crate::forward) struct Received {
    body: Incoming,
    /// None over gRPC, and once the body ended.
    lent: Option<(Lent, Arc<Pool>)>,
    /// What it is cut with, and how often that was when it began.
    ties: Option<(Arc<Ties>, u64)>,
}

impl Received {
    /// On a connection that others use too.
    pub(super) fn shared(body: Incoming) -> Received {
        Received { body, lent: None, ties: None }
    }

    /// On a connection that goes back to `pool` with the body's last byte.
    pub(super) fn lent(response: Response<Incoming>, lent: Lent, pool: Arc<Pool>) -> Response<Received> {
        response.map(|body| {
            let mut received = Received { body, lent: Some((lent, pool)), ties: None };
            received.give_back_at_end();
            received
        })
    }

    /// Its request began when `ties` had been cut so often.
    pub(super) fn cut_with(mut self, ties: &Arc<Ties>, cuts: u64) -> Received {
        self.ties = Some((ties.clone(), cuts));
        self
    }

    fn lost(&self, error: hyper::Error) -> Lost {
        match &self.ties {
            Some((ties, cuts)) if ties.cuts() != *cuts => Lost::Hangs,
            _ => Lost::Broke(error),
        }
    }

    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((lent, pool)) = self.lent.take() {
            pool.take_back(lent);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) => self.give_back_at_end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(|error| self.lost(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
