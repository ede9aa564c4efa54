//! What the node itself refuses, in the words of HTTP: Triton's form of an error, and the status that it has for the code.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tonic::{Code, Status};

use super::ask::HttpNo;
use super::body::TooLarge;
use super::send::PUSHBACK;
use super::source::Late;
use super::whole::Whole;

/// Triton's form.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

/// `status` as a response; one that stands for a pod's own response is that, as it was.
pub(super) fn refusal(status: &Status) -> Response<Whole> {
    if let Some(HttpNo(reply)) = source(status) {
        return Whole::of(reply.clone());
    }
    let text = serde_json::to_vec(&ErrorBody { error: status.message() }).unwrap_or_default();
    let mut response = Response::new(Whole::plain(Bytes::from(text)));
    *response.status_mut() = http_status(status);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after(status) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// HTTP's status for what the node itself refuses.
pub(super) fn http_status(status: &Status) -> StatusCode {
    if source::<TooLarge>(status).is_some() {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    if source::<Late>(status).is_some() {
        return StatusCode::REQUEST_TIMEOUT;
    }
    match status.code() {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // A caller that broke its request off may still read.
        Code::Cancelled => StatusCode::BAD_REQUEST,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn source<E: Error + 'static>(status: &Status) -> Option<&E> {
    status.source()?.downcast_ref()
}

/// In whole seconds, as HTTP has it: rounded up, so that nobody comes too early.
fn retry_after(status: &Status) -> Option<u64> {
    let ms = status.metadata().get(PUSHBACK)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(ms).as_millis().div_ceil(1000) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Load balancers and clients act on the number alone.
    #[test]
    fn codes_have_tritons_numbers() {
        let number = |code| refusal(&Status::new(code, "x")).status().as_u16();
        assert_eq!(number(Code::InvalidArgument), 400);
        assert_eq!(number(Code::NotFound), 404);
        assert_eq!(number(Code::Unavailable), 503);
        assert_eq!(number(Code::DeadlineExceeded), 504);
        assert_eq!(number(Code::Internal), 500);
    }

    /// A client that is told to wait must not come a moment too early.
    #[test]
    fn a_pushback_is_a_retry_after_in_whole_seconds() {
        let mut status = Status::resource_exhausted("full");
        assert!(!refusal(&status).headers().contains_key(header::RETRY_AFTER));
        for (ms, seconds) in [("1", "1"), ("1000", "1"), ("1001", "2")] {
            status.metadata_mut().insert(PUSHBACK, ms.parse().unwrap());
            let response = refusal(&status);
            assert_eq!(
                (response.status().as_u16(), &response.headers()["retry-after"]),
                (429, &seconds.parse::<HeaderValue>().unwrap())
            );
        }
    }
}
