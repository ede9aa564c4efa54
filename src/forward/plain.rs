//! Callers that speak no TLS where it is asked for: they are told so in their own protocol, and the connection is closed. Closed
//! without a word, it would look to them like a network that breaks.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;

/// How long one may take to hear it.
const PATIENCE: Duration = Duration::from_secs(5);
const PREFACE: &[u8] = b"PRI";
const TEXT: &str = "this port takes TLS only: connect with https, or with TLS credentials";

/// Answers what the caller asks, in plain text, with what is wrong.
pub(super) async fn refuse(stream: TcpStream) {
    // What breaks on the way is the end as well.
    let _ = timeout(PATIENCE, answer(stream)).await;
}

async fn answer(stream: TcpStream) {
    let mut first = [0; PREFACE.len()];
    let is_http2 = stream.peek(&mut first).await.is_ok_and(|seen| PREFACE[..seen] == first[..seen]);
    let io = TokioIo::new(stream);
    let service = service_fn(|request| async move { Ok::<_, Infallible>(refusal(&request)) });
    // On HTTP/2 whoever keeps asking is told so until the time is up.
    let _ = match is_http2 {
        true => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
        false => http1::Builder::new().keep_alive(false).serve_connection(io, service).await,
    };
}

fn refusal(request: &Request<Incoming>) -> Response<Either<tonic::body::Body, Full<Bytes>>> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"application/grpc") {
        return Status::failed_precondition(TEXT).into_http::<tonic::body::Body>().map(Either::Left);
    }
    let mut response = Response::new(Either::Right(Full::from(format!("{{\"error\":\"{TEXT}\"}}"))));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
