//! The body of a pod's response on its way back, with the ticket inside: it ends with the last frame, and whoever drops
//! the body before that has cancelled.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tonic::Status;

use super::body::{Passed, Stream};
use super::deadline::Deadline;
use super::outcome::{is_ok, outcome_of};
use super::upstream::causes;
use crate::node::Ticket;
use crate::pick::Outcome;

/// A response's body. Frames pass as they come; what goes wrong on the way ends it with trailers that say so.
pub(super) struct ResponseBody {
    /// None once nothing more comes from the pod; dropping it earlier resets the pod's stream.
    pod: Option<Incoming>,
    /// None once it ended.
    ticket: Option<Ticket>,
    deadline: Deadline,
    passed: Passed,
}

impl ResponseBody {
    /// The pod's response, carrying `ticket`; none where that ended already.
    pub(super) fn carry(
        response: Response<Incoming>,
        ticket: Option<Ticket>,
        deadline: Deadline,
        passed: Passed,
    ) -> Response<ResponseBody> {
        let (parts, pod) = response.into_parts();
        let whole = pod.is_end_stream();
        let mut body = ResponseBody { pod: Some(pod), ticket, deadline, passed };
        if whole {
            // Only a head: its status is all there is, and nobody polls an empty body.
            body.end_by(&parts.headers);
        }
        Response::from_parts(parts, body)
    }

    /// A piece of an answer came; a stream may stay open long after the last one.
    fn answered(&mut self) {
        if self.passed.is_some()
            && let Some(ticket) = &mut self.ticket
        {
            ticket.answered();
        }
    }

    /// Ends with the pod's own status.
    fn end_by(&mut self, status: &HeaderMap) {
        let shared = self.passed.as_deref().is_some_and(|stream| !stream.is_single());
        if let Some(ticket) = &mut self.ticket
            && (shared || !is_ok(status))
        {
            ticket.teaches_nothing();
        }
        self.end(outcome_of(status));
    }

    fn end(&mut self, outcome: Outcome) {
        self.pod = None;
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(outcome);
        }
    }

    /// What is told of a pod that broke off.
    fn died(&self, error: &hyper::Error) -> Status {
        if let Some(too_large) = self.passed.as_deref().and_then(Stream::too_large) {
            return Status::from(*too_large);
        }
        let pod = self.ticket.as_ref().map_or("", |ticket| ticket.pod().name());
        Status::unavailable(format!("pod `{pod}` broke off while it answered: {}", causes(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(pod) = &mut self.pod else { return Poll::Ready(None) };
        let frame = match Pin::new(&mut *pod).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                match frame.trailers_ref() {
                    Some(trailers) => self.end_by(trailers),
                    None if pod.is_end_stream() => self.end(Outcome::Failed),
                    None => self.answered(),
                }
                frame
            }
            Poll::Ready(Some(Err(error))) => {
                let status = self.died(&error);
                self.end(Outcome::Failed);
                trailers(&status)
            }
            Poll::Ready(None) => {
                self.end(Outcome::Failed);
                return Poll::Ready(None);
            }
            Poll::Pending => match self.deadline.poll_passed(cx) {
                Poll::Ready(status) => {
                    self.end(Outcome::Cancelled);
                    trailers(&status)
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.pod.is_none()
    }
}

/// The end of a body that says `status`.
pub(super) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Fails only for metadata that is no header; there is none.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}
