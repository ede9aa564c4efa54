//! The gRPC face of the front: a Triton's own service.
//!
//! Requests for inference (and all else that Triton serves) go to the pod that the node picks, bytes untouched; questions
//! about liveness, readiness and health are answered for the fleet.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use plimsoll_proto::inference::{ServerLiveResponse, ServerReadyResponse};
use tonic::Status;

use super::super::ask::framed;
use super::super::body::{RequestBody, Source};
use super::super::call::{Call, Face, Kind};
use super::super::deadline::Deadline;
use super::super::fleet::{self, SERVER_READY, Watch};
use super::super::peek::{Compression, Depth, Peek, peek};
use super::super::pin::POD;
use super::super::whole::Whole;
use super::Front;
use super::answer::Answer;

/// How long a stream's first message is waited for before a pod is picked without it: a client that wants the
/// response's head before it sends anything would else wait for ever. Longer only delays those.
const FIRST_MESSAGE: Duration = Duration::from_secs(1);
impl Front {
    pub(super) async fn answer_grpc(&self, request: Request<Incoming>) -> Response<Answer> {
        if request.method() != Method::POST {
            return http_error(StatusCode::METHOD_NOT_ALLOWED);
        }
        self.route(request).await.unwrap_or_else(Status::into_http)
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Answer>, Status> {
        let path = request.uri().path();
        let kind = Kind::of(path);
        if let Some(kind @ (Kind::Infer | Kind::Stream)) = kind {
            return self.forward(kind, request).await;
        }
        let is_pinned = request.headers().contains_key(POD);
        if path == SERVER_READY && !is_pinned && self.is_leaving() {
            return Ok(Whole::ok(framed(&ServerReadyResponse { ready: false })).map(Answer::Whole));
        }
        if let Some(method) = self.fleet.method(path, request.headers()) {
            let (parts, body) = request.into_parts();
            let answer = Box::pin(self.fleet.answer(method, parts.headers, Source::Incoming(body))).await?;
            return Ok(answer.map(Answer::Whole));
        }
        match path {
            "/inference.GRPCInferenceService/ServerLive" if !is_pinned => {
                Ok(Whole::ok(framed(&ServerLiveResponse { live: true })).map(Answer::Whole))
            }
            "/grpc.health.v1.Health/Check" if !is_pinned => {
                let ready = !self.is_leaving() && self.fleet.any_ready().await;
                Ok(Whole::ok(fleet::health(ready)).map(Answer::Whole))
            }
            "/grpc.health.v1.Health/Watch" if !is_pinned => {
                let watch = Watch::new(self.fleet.clone(), self.at.clone());
                Ok(Whole::ok(Bytes::new()).map(|_| Answer::Watch(Box::new(watch))))
            }
            "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/Watch" => self.forward(Kind::Other, request).await,
            path => match kind {
                Some(kind) => self.forward(kind, request).await,
                None => Err(Status::unimplemented(format!("unknown method `{path}`"))),
            },
        }
    }

    async fn forward(&self, kind: Kind, request: Request<Incoming>) -> Result<Response<Answer>, Status> {
        let options = &self.options.forward;
        let (mut parts, body) = request.into_parts();
        let mut deadline = Deadline::take_over(&mut parts.headers);
        let compression = Compression::of(&parts.headers);
        let mut body = RequestBody::new(Source::Incoming(body), options.max_message_bytes);
        let depth = Depth::Model(compression);
        let passed = if kind == Kind::Stream { body.watch() } else { None };
        let peeked = match kind {
            Kind::Infer | Kind::AboutModel => deadline.within(peek(&mut body, depth)).await?,
            Kind::Stream => deadline.within(first_message(&mut body, depth)).await?,
            Kind::Other => deadline.within(peek(&mut body, Depth::Size)).await?,
        };
        let call = Call::new(Face::Grpc, kind, peeked);
        let request = Request::from_parts(parts, body);
        Ok(self.forwarder.forward(&call, request, deadline, passed).await?.map(Answer::Pod))
    }
}

async fn first_message(body: &mut RequestBody, depth: Depth) -> Result<Peek, Status> {
    // One that is late is replayed like the rest; only the pick has to do without its name.
    tokio::time::timeout(FIRST_MESSAGE, peek(body, depth)).await.unwrap_or_else(|_| Ok(Peek::default()))
}

/// `application/grpc`, alone or with a suffix (`+proto`) or parameters.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match kind.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// The answer to gRPC over a version of HTTP that has no trailers to speak of.
pub(super) fn needs_http2() -> Response<Answer> {
    http_error(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
}

fn http_error(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Nothing);
    *response.status_mut() = status;
    response
}
