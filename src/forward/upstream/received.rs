//! The body of a pod's response, and with it the connection that it comes on, where that is one of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http::{Lent, Pool};

/// See the module's description.
pub(in crate::forward) struct Received {
    body: Incoming,
    /// None over gRPC, and once the body ended.
    lent: Option<(Lent, Arc<Pool>)>,
}

impl Received {
    /// On a connection that others use too.
    pub(super) fn shared(response: Response<Incoming>) -> Response<Received> {
        response.map(|body| Received { body, lent: None })
    }

    /// On a connection that goes back to `pool` with the body's last byte.
    pub(super) fn lent(response: Response<Incoming>, lent: Lent, pool: Arc<Pool>) -> Response<Received> {
        response.map(|body| {
            let mut received = Received { body, lent: Some((lent, pool)) };
            received.give_back_at_end();
            received
        })
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
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) => self.give_back_at_end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
