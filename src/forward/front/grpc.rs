//! The gRPC face of the front: a Triton's own service.
//!
//! Requests for inference (and all else that Triton serves) go to the pod that the node picks, bytes untouched; questions
//! about liveness, readiness and health are answered for the fleet.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use plimsoll_proto::inference::{ServerLiveResponse, ServerReadyResponse};
use tonic::Status;

use super::super::ask::framed;
use super::super::body::RequestBody;
use super::super::call::{Call, Face, Kind};
use super::super::deadline::Deadline;
use super::super::fleet::{self, SERVER_READY, Watch};
use super::super::peek::{Compression, Depth, peek};
use super::super::pin::POD;
use super::super::source::Source;
use super::super::stream;
use super::super::whole::Whole;
use super::Front;
use super::answer::Answer;

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
            let answer = Box::pin(self.fleet.answer(method, parts.headers, self.source(body))).await?;
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
        let (mut parts, body) = request.into_parts();
        let mut deadline = Deadline::take_over(&mut parts.headers);
        if kind == Kind::Stream {
            // It may be silent for as long as its caller likes.
            let body = Source::of_caller(body, None);
            let request = Request::from_parts(parts, body);
            let answers = stream::forward(self.forwarder.clone(), request, None, deadline).await?;
            return Ok(answers.map(Answer::Stream));
        }
        let mut body = RequestBody::new(self.source(body), self.options.forward.max_message_bytes);
        let depth = if kind == Kind::Other { Depth::Size } else { Depth::Model(Compression::of(&parts.headers)) };
        let peeked = deadline.within(peek(&mut body, depth)).await?;
        let call = Call::new(Face::Grpc, kind, peeked);
        let request = Request::from_parts(parts, body);
        Ok(self.forwarder.forward(call, request, deadline).await?.map(Answer::Pod))
    }
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
