//! Why a pod that had a request does not answer it.

use std::error::Error as _;
use std::fmt;

use tonic::Status;

use super::causes;
use crate::observe::Pod;
use crate::pick::Outcome;

/// The pod may have begun the request.
#[derive(Debug)]
pub(in crate::forward) enum Lost {
    /// It broke off.
    Broke(hyper::Error),
    /// The same over HTTP/1.1, before its answer began. A Triton that ends (2.51) answers what it has begun, and closes connections
    /// whatever is on its way there: so by one that ends it was not even read.
    Unanswered(hyper::Error),
    /// It hangs, and was given up.
    Hangs,
}

impl std::error::Error for Lost {}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Broke(error) | Lost::Unanswered(error) => f.write_str(&causes(error)),
            Lost::Hangs => f.write_str("it answers nothing, not even whether it lives"),
        }
    }
}

impl Lost {
    /// Whether it was the request's own body that went wrong.
    pub(in crate::forward) fn is_callers(&self) -> bool {
        match self {
            Lost::Broke(error) | Lost::Unanswered(error) => error.is_user(),
            Lost::Hangs => false,
        }
    }

    /// Whether the pod took nothing of it, as HTTP/2 says (RFC 9113, 8.7): it refused the stream, or said goodbye to the
    /// connection and left the stream out. A server that ends does so, and one, or a proxy before it, that wants connections
    /// to be no older than it likes.
    pub(in crate::forward) fn is_unread(&self) -> bool {
        let Lost::Broke(error) = self else { return false };
        let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else { return false };
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || is_refused)
    }

    /// How a ticket ends by it. A pod that hangs has not answered; when it goes on, it runs what it has.
    pub(in crate::forward) fn outcome(&self) -> Outcome {
        match self {
            _ if self.is_unread() => Outcome::Refused,
            Lost::Broke(_) | Lost::Unanswered(_) => Outcome::Failed,
            Lost::Hangs => Outcome::Cancelled,
        }
    }

    /// What the caller is told; `begun` says whether it has something of the answer.
    pub(in crate::forward) fn status(&self, pod: &Pod, begun: bool) -> Status {
        let what = match (self, begun) {
            (Lost::Hangs, false) => "was given up before it answered, and may have begun the request",
            (Lost::Hangs, true) => "was given up while it answered",
            (_, false) => "broke off before it answered, and may have begun the request",
            (_, true) => "broke off while it answered",
        };
        Status::unavailable(format!("pod `{}` {what}: {self}", pod.name()))
    }
}
