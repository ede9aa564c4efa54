//! Small questions that the node itself asks a pod: is it live, is it ready, is a model, how does it run one.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use tonic::{Code, Status};

use super::body::RequestBody;
use super::call::Face;
use super::upstream::Upstream;
use crate::observe::Pod;

/// A message without fields, with its gRPC prefix.
pub(super) const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
/// The most an answer may have: a yes has two bytes, a model's configuration some thousand.
const MAX_ANSWER: usize = 1 << 20;

/// Asks `pod`; `message` has its gRPC prefix, and so has the answer. `metadata` is the caller's, where it has one.
///
/// # Errors
/// The pod's status as it was; UNAVAILABLE where it cannot be reached, DEADLINE_EXCEEDED after `timeout`.
pub(super) async fn ask(
    pod: &Pod,
    path: &'static str,
    metadata: HeaderMap,
    message: Bytes,
    timeout: Duration,
) -> Result<Bytes, Status> {
    let mut request = Request::new(RequestBody::ready(message));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    *request.headers_mut() = metadata;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    // The answer is looked into here, so it must come plain.
    request.headers_mut().remove("grpc-accept-encoding");
    // The time is kept here; deadline.rs says why a pod must not keep the caller's.
    request.headers_mut().remove("grpc-timeout");
    let late = |_| Status::deadline_exceeded(format!("pod `{}` gave no answer within {timeout:?}", pod.name()));
    tokio::time::timeout(timeout, answer(pod, request, timeout)).await.map_err(late)?
}

async fn answer(pod: &Pod, request: Request<RequestBody>, timeout: Duration) -> Result<Bytes, Status> {
    let unavailable = |why: String| Status::unavailable(format!("pod `{}`: {why}", pod.name()));
    let response =
        Upstream::of(pod).send(Face::Grpc, request, timeout).await.map_err(|error| unavailable(error.to_string()))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| unavailable(error.to_string()))?;
    let status = body.trailers().and_then(Status::from_header_map).or_else(|| Status::from_header_map(&parts.headers));
    match status {
        Some(status) if status.code() == Code::Ok => Ok(body.to_bytes()),
        Some(status) => Err(status),
        None => Err(unavailable(format!("answered without a status (HTTP {})", parts.status))),
    }
}

/// Whether `answer` has field 1 set to true, which is how ServerLive, ServerReady and ModelReady say yes.
pub(super) fn says_yes(answer: &[u8]) -> bool {
    answer.get(5..).is_some_and(|message| message.starts_with(&[0x08, 0x01]))
}
