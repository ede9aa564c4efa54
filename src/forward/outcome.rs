//! What a status says about the pod that sent it, and whether anything ran there.

use http::{HeaderMap, StatusCode};
use tonic::{Code, Status};

use super::models::{Missing, missing_of};
use crate::pick::Outcome;

/// A pod took nothing of the request: why. It may be sent to another pod, whatever it is. By Triton's texts (2.51), which are
/// the same over gRPC and HTTP; other servers that say so mean it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The model's queue is full.
    QueueFull,
    /// The model is not there, or not that version of it. A Triton that unloads it, or shuts down, answers so for about two
    /// seconds, at once: it would look like the least loaded of all.
    Missing(Missing),
    /// The server ends.
    Leaving,
    /// The process that ran the model is dead. The server goes on saying that it is ready.
    DeadStub,
    /// It has not seen the beginning of the request's sequence.
    NoSequence,
}

impl Refusal {
    /// What `code` and `text` say, if the server says that nothing ran. A model may answer what it likes, also what another server
    /// told it: only what begins as the server's own texts do is taken for one.
    pub(super) fn of(code: Code, text: &str) -> Option<Refusal> {
        let text = without_id(text);
        let begins = |words: &str| text.starts_with(words);
        match code {
            Code::Unavailable if begins("Exceeds maximum queue size") => Some(Refusal::QueueFull),
            Code::Unavailable if begins("Server exiting") || begins("Server not ready") => Some(Refusal::Leaving),
            Code::Internal if begins("Stub process '") && text.ends_with("is not healthy.") => Some(Refusal::DeadStub),
            Code::InvalidArgument if begins("inference request for sequence ") => {
                text.contains("must specify the START flag").then_some(Refusal::NoSequence)
            }
            _ if begins("Request for unknown model: ") || begins("Server is stopping, scheduler for model") => {
                missing_of(code, text).map(Refusal::Missing)
            }
            _ => None,
        }
    }

    /// How a ticket ends by it.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Refusal::QueueFull | Refusal::Missing(_) | Refusal::Leaving | Refusal::NoSequence => Outcome::Refused,
            Refusal::DeadStub => Outcome::Failed,
        }
    }
}

/// A text of a Triton's without the request's id, where it begins with one.
pub(super) fn without_id(text: &str) -> &str {
    text.strip_prefix("[request id: ").and_then(|rest| rest.split_once("] ")).map_or(text, |(_, text)| text)
}

/// The outcome that the status in `headers` (a response's trailers, or its head where there is nothing else) stands
/// for; a missing status is a pod that broke off.
pub(super) fn outcome_of(headers: &HeaderMap) -> Outcome {
    // The usual case, without parsing the rest.
    if is_ok(headers) {
        return Outcome::Served;
    }
    match Status::from_header_map(headers) {
        Some(status) => of_code(status.code(), status.message()),
        None => Outcome::Failed,
    }
}

/// Whether the status in `headers` is OK: all else says nothing about the time that such a request takes.
pub(super) fn is_ok(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}

/// The outcome that `code` with `text` stands for.
pub(super) fn of_code(code: Code, text: &str) -> Outcome {
    match code {
        Code::Cancelled | Code::DeadlineExceeded => Outcome::Cancelled,
        Code::Unavailable if Refusal::of(code, text) == Some(Refusal::QueueFull) => Outcome::Refused,
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss => Outcome::Failed,
        // The rest blames the request: the pod did its work.
        _ => Outcome::Served,
    }
}

/// The code that an HTTP status stands for, as Triton maps them.
pub(super) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        0..400 => Code::Ok,
        404 => Code::NotFound,
        409 => Code::AlreadyExists,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        400..=499 => Code::InvalidArgument,
        _ => Code::Internal,
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

    /// What is sent again although it ran would run twice; these are the texts after which nothing did.
    #[test]
    fn only_what_took_nothing_is_a_refusal() {
        let unknown = "Request for unknown model: 'nope' is not found";
        let unloaded = "Request for unknown model: 'm' has no available versions";
        let stub = "Stub process 'sim_gpu_0_0' is not healthy.";
        let sequence =
            "inference request for sequence 42 to model 's' must specify the START flag on the first request";
        for (code, text, refusal) in [
            (Code::Unavailable, "[request id: x1] Exceeds maximum queue size", Some(Refusal::QueueFull)),
            (Code::Unavailable, "Server exiting", Some(Refusal::Leaving)),
            (Code::NotFound, unloaded, Some(Refusal::Missing(Missing::Model))),
            (Code::NotFound, unknown, Some(Refusal::Missing(Missing::Model))),
            (Code::Internal, stub, Some(Refusal::DeadStub)),
            (Code::InvalidArgument, sequence, Some(Refusal::NoSequence)),
            (Code::Unavailable, "[request id: <id_unknown>] Exceeds maximum queue size", Some(Refusal::QueueFull)),
            (Code::Unavailable, "Request timeout expired", None),
            // What a model says of another server that it asked.
            (Code::Unavailable, "inner call: Exceeds maximum queue size", None),
            (Code::Internal, "upstream said: Stub process 'x' is not healthy.", None),
            (Code::NotFound, "in step 2, Request for unknown model: 'inner' is not found", None),
            (Code::Internal, unloaded, None),
            (Code::NotFound, "no such user", None),
            (Code::Ok, "", None),
        ] {
            assert_eq!(Refusal::of(code, text), refusal, "{text}");
        }
    }
}
