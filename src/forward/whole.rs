//! The body of an answer that is here as a whole: one message, or none, and (over gRPC) how it ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};

use super::ask::Reply;

/// See the module's description. The default is empty: the head says it all.
#[derive(Debug, Default)]
pub(super) struct Whole {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    /// A gRPC answer: `message` (with its prefix) and an OK.
    pub(super) fn ok(message: Bytes) -> Response<Whole> {
        let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        let mut response = Response::new(Whole { message: Some(message), trailers: Some(HeaderMap::from_iter([ok])) });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }

    /// Bytes and nothing else.
    pub(super) fn plain(bytes: Bytes) -> Whole {
        Whole { message: (!bytes.is_empty()).then_some(bytes), trailers: None }
    }

    /// What a pod said, as it said it.
    pub(super) fn of(reply: Reply) -> Response<Whole> {
        let Reply { head, message, trailers } = reply;
        let trailers = (!trailers.is_empty()).then_some(trailers);
        Response::from_parts(head, Whole { message: (!message.is_empty()).then_some(message), trailers })
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = self.message.take().map(Frame::data);
        Poll::Ready(message.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.message.as_ref().map_or(0, Bytes::len) as u64)
    }
}
