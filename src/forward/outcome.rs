//! What a gRPC status says about the pod that sent it.

use http::HeaderMap;
use tonic::{Code, Status};

use crate::pick::Outcome;

/// Triton's text (2.51) when a model's queue is full: the one UNAVAILABLE after which nothing runs.
const QUEUE_FULL: &str = "Exceeds maximum queue size";

/// The outcome that the status in `headers` (a response's trailers, or its head where there is nothing else) stands
/// for; a missing status is a pod that broke off.
pub(super) fn outcome_of(headers: &HeaderMap) -> Outcome {
    // The usual case, without parsing the rest.
    if is_ok(headers) {
        return Outcome::Served;
    }
    match Status::from_header_map(headers) {
        Some(status) => of_status(&status),
        None => Outcome::Failed,
    }
}

/// Whether the status in `headers` is OK: all else says nothing about the time that such a request takes.
pub(super) fn is_ok(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}

/// Whether the status in `headers` says that the pod took nothing, because the model's queue is full. Only a head can say it
/// before anything ran for the caller.
pub(super) fn is_queue_full(headers: &HeaderMap) -> bool {
    // The usual case, without parsing the rest.
    headers.get("grpc-status").is_some_and(|status| status == "14") && outcome_of(headers) == Outcome::Refused
}

fn of_status(status: &Status) -> Outcome {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => Outcome::Cancelled,
        Code::Unavailable if status.message().contains(QUEUE_FULL) => Outcome::Refused,
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss => Outcome::Failed,
        // The rest blames the request: the pod did its work.
        _ => Outcome::Served,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong reading here would eject healthy pods for their callers' mistakes, or keep broken ones.
    #[test]
    fn a_status_tells_a_pods_failure_from_its_callers() {
        let outcome = |code, message: &str| {
            let mut headers = HeaderMap::new();
            Status::new(code, message).add_header(&mut headers).unwrap();
            outcome_of(&headers)
        };
        assert_eq!(outcome(Code::Ok, ""), Outcome::Served);
        assert_eq!(outcome(Code::InvalidArgument, "bad shape"), Outcome::Served);
        assert_eq!(outcome(Code::NotFound, "unknown model"), Outcome::Served);
        assert_eq!(outcome(Code::Unavailable, "[request id: x1] Exceeds maximum queue size"), Outcome::Refused);
        assert_eq!(outcome(Code::Unavailable, "Request timeout expired"), Outcome::Failed);
        assert_eq!(outcome(Code::Internal, "Stub process is not healthy."), Outcome::Failed);
        assert_eq!(outcome(Code::DeadlineExceeded, ""), Outcome::Cancelled);
        assert_eq!(outcome_of(&HeaderMap::new()), Outcome::Failed);
    }
}
