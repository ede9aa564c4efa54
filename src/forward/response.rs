//! The body of a pod's response on its way back, with the ticket inside: it ends with the last frame, and whoever drops
//! the body before that has cancelled.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::answer::Answer;
use super::body::{BoxError, Fault, wrong};
use super::call::Face;
use super::deadline::Deadline;
use super::line::{Entry, code_in};
use super::outcome::{is_ok, of_code, outcome_of};
use super::send::Forwarder;
use super::upstream::Received;
use crate::node::Ticket;
use crate::pick::Outcome;

/// A response's body. Frames pass as they come; what goes wrong on the way ends it with trailers that say so, or breaks it off
/// where there are none.
pub(super) struct ResponseBody {
    face: Face,
    /// What was read of it already.
    held: Bytes,
    /// None once nothing more comes from the pod; dropping it earlier resets the pod's stream.
    pod: Option<Received>,
    /// How it ends where that was in its head: over HTTP.
    status: Option<Outcome>,
    /// None once it ended.
    ticket: Option<Ticket>,
    deadline: Deadline,
    /// Whom to tell of the end.
    freed: Option<Arc<Forwarder>>,
    /// What the access log is told of it.
    line: Option<Box<Entry>>,
    /// The code that it ends with, where one is known: HTTP's from the head on, gRPC's from the trailers.
    code: Option<i32>,
    /// What its caller does wrong meanwhile.
    fault: Fault,
}

impl ResponseBody {
    /// The pod's response, carrying `ticket`; none where that ended already.
    pub(super) fn carry(
        face: Face,
        answer: Answer,
        mut ticket: Option<Ticket>,
        deadline: Deadline,
        freed: Option<Arc<Forwarder>>,
        line: Option<Box<Entry>>,
        fault: Fault,
    ) -> Response<ResponseBody> {
        let Answer { head, body: pod, held, error } = answer;
        if let Some(ticket) = ticket.as_mut().filter(|_| error.is_some()) {
            ticket.teaches_nothing();
        }
        let status =
            (face == Face::Http).then(|| error.map_or(Outcome::Served, |error| of_code(error.code(), error.message())));
        let whole = pod.as_ref().is_none_or(Received::is_end_stream);
        let code = (face == Face::Http).then(|| head.status.as_u16().into());
        let mut body = ResponseBody { face, held, pod, status, ticket, deadline, freed, line, code, fault };
        if whole {
            // Nothing more comes, and nobody polls an empty body.
            body.end_by_head(&head.headers);
        }
        Response::from_parts(head, body)
    }

    /// All is here that the pod sent.
    fn end_by_head(&mut self, headers: &HeaderMap) {
        match self.status {
            Some(outcome) => self.end(outcome),
            None => self.end_by(headers),
        }
    }

    /// The answer came to its end.
    fn end_whole(&mut self) {
        match self.status {
            Some(outcome) => self.end(outcome),
            // Trailers were to come.
            None => self.end(Outcome::Failed),
        }
    }

    /// Ends with the pod's own status.
    fn end_by(&mut self, status: &HeaderMap) {
        if let Some(ticket) = self.ticket.as_mut().filter(|_| !is_ok(status)) {
            ticket.teaches_nothing();
        }
        self.code = code_in(status);
        self.end(outcome_of(status));
    }

    fn end(&mut self, outcome: Outcome) {
        self.pod = None;
        if let Some(mut line) = self.line.take() {
            line.passed(self.held.len() as u64);
            line.ends(outcome, self.code);
        }
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(outcome);
        }
        if let Some(forwarder) = self.freed.take() {
            forwarder.freed();
        }
    }

    /// The end that says `status`.
    fn break_off(&mut self, status: &Status, outcome: Outcome) -> Result<Frame<Bytes>, BoxError> {
        if self.face == Face::Grpc {
            self.code = Some(status.code() as i32);
        }
        self.end(outcome);
        match self.face {
            Face::Grpc => Ok(trailers(status)),
            // Its status is on its way already: only a connection that breaks tells that the body is not whole.
            Face::Http => Err(status.message().into()),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.held)))));
        }
        let face = self.face;
        let Some(pod) = &mut self.pod else { return Poll::Ready(None) };
        let frame = match Pin::new(&mut *pod).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let is_last = pod.is_end_stream();
                if let Some(line) = &mut self.line {
                    line.passed(frame.data_ref().map_or(0, Bytes::len) as u64);
                }
                match frame.trailers_ref() {
                    Some(trailers) if face == Face::Grpc => self.end_by(trailers),
                    Some(_) => self.end_whole(),
                    None if is_last => self.end_whole(),
                    None => {}
                }
                Ok(frame)
            }
            Poll::Ready(Some(Err(lost))) => match wrong(&self.fault) {
                Some(wrong) => self.break_off(&wrong.into(), Outcome::Cancelled),
                None => {
                    let told = |ticket: &Ticket| lost.status(ticket.pod(), true);
                    let status = self.ticket.as_ref().map_or_else(|| Status::unavailable(lost.to_string()), told);
                    self.break_off(&status, lost.outcome())
                }
            },
            Poll::Ready(None) => {
                self.end_whole();
                return Poll::Ready(None);
            }
            Poll::Pending => match self.deadline.poll_passed(cx) {
                Poll::Ready(status) => self.break_off(&status, Outcome::Cancelled),
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.pod.is_none() && self.held.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.pod {
            Some(pod) if self.held.is_empty() => pod.size_hint(),
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.held.len() as u64),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // The ticket first: who is told looks for the place that it gives back.
        drop(self.ticket.take());
        if let Some(forwarder) = self.freed.take() {
            forwarder.freed();
        }
    }
}

/// The end of a body that says `status`.
pub(super) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Fails only for metadata that is no header; there is none.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}
