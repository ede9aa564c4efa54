//! Questions that the node itself asks pods, and what becomes of them: small messages there and back, each held as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost::Message;
use tonic::{Code, Status};

use super::answer::error_text;
use super::body::RequestBody;
use super::call::Face;
use super::outcome::code_of;
use super::upstream::{SendError, Unreachable, Upstream, causes};
use crate::observe::Pod;

/// A message without fields, with its gRPC prefix.
pub(super) const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
/// The most an answer may have: a yes has two bytes, a model's configuration some thousand, the statistics of a thousand
/// models a million. As much as gRPC clients take unless they are told otherwise.
const MAX_ANSWER: usize = 4 << 20;

/// A question that any number of pods can be asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The protocol it is put in, and the answers come in.
    pub(super) face: Face,
    pub(super) method: Method,
    /// Path and query: over gRPC, the method.
    pub(super) path: Uri,
    /// The caller's, where there is one.
    pub(super) metadata: HeaderMap,
    /// Over gRPC, with its prefix.
    pub(super) message: Bytes,
    /// How long a pod may take to accept a connection.
    pub(super) connect: Duration,
    /// How long it may take in all.
    pub(super) patience: Duration,
}

/// A pod's OK.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) head: Parts,
    /// Over gRPC, with its prefix.
    pub(super) message: Bytes,
    pub(super) trailers: HeaderMap,
}

/// A pod's no over HTTP as it came: the source of the status that stands for it here.
#[derive(Debug, thiserror::Error)]
#[error("HTTP status {}", .0.head.status)]
pub(super) struct HttpNo(pub(super) Reply);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing was sent.
    #[error("{0}")]
    Unreachable(Unreachable),
    /// It may have done what it was asked.
    #[error("{0}")]
    Broke(String),
    /// The same.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// Its own status.
    #[error("{}", .0.message())]
    Said(Box<Status>),
}

impl Failure {
    /// What it is to a caller.
    pub(super) fn code(&self) -> Code {
        match self {
            Failure::Unreachable(_) | Failure::Broke(_) => Code::Unavailable,
            Failure::Late(_) => Code::DeadlineExceeded,
            Failure::Said(status) => status.code(),
        }
    }

    /// The same as a status: the pod's own as it was, all else with the pod's name.
    pub(super) fn into_status(self, pod: &Pod) -> Status {
        match self {
            Failure::Said(status) => *status,
            Failure::Late(_) => Status::new(self.code(), format!("pod `{}` gave {self}", pod.name())),
            _ => Status::new(self.code(), format!("pod `{}`: {self}", pod.name())),
        }
    }
}

impl Question {
    /// A question by gRPC; `message` has its prefix.
    pub(super) fn grpc(path: &'static str, metadata: HeaderMap, message: Bytes, patience: Duration) -> Question {
        let (face, method, path) = (Face::Grpc, Method::POST, Uri::from_static(path));
        Question { face, method, path, metadata, message, connect: patience, patience }
    }

    /// Asks `pod`.
    ///
    /// # Errors
    /// [`Failure`], within the question's patience.
    pub(super) async fn ask(&self, pod: &Pod) -> Result<Reply, Failure> {
        let late = |_| Failure::Late(self.patience);
        tokio::time::timeout(self.patience, self.exchange(pod)).await.map_err(late)?
    }

    async fn exchange(&self, pod: &Pod) -> Result<Reply, Failure> {
        let upstream = Upstream::of(pod).aside(pod);
        let response = match upstream.send(self.face, self.request(), self.connect).await {
            Ok(response) => response,
            Err(SendError::Unsent(_, why)) => return Err(Failure::Unreachable(why)),
            Err(SendError::Lost(lost)) => return Err(Failure::Broke(lost.to_string())),
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| Failure::Broke(broken(&*error)))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let reply = Reply { head, message: body.to_bytes(), trailers };
        match self.face {
            Face::Grpc => reply.by_grpc_status(),
            Face::Http => reply.by_http_status(),
        }
    }

    fn request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::ready(self.message.clone()));
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.path);
        let headers = request.headers_mut();
        headers.clone_from(&self.metadata);
        match self.face {
            Face::Grpc => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
                // The answer is looked into here, so it must come plain.
                headers.remove("grpc-accept-encoding");
                // The time is kept here; deadline.rs says why a pod must not keep the caller's.
                headers.remove("grpc-timeout");
            }
            Face::Http => {
                headers.remove(header::ACCEPT_ENCODING);
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.message.len()));
            }
        }
        request
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> String {
    match error.is::<LengthLimitError>() {
        true => format!("its answer is over the limit of {MAX_ANSWER} bytes"),
        false => causes(error),
    }
}

impl Reply {
    fn by_grpc_status(self) -> Result<Reply, Failure> {
        let status = Status::from_header_map(&self.trailers).or_else(|| Status::from_header_map(&self.head.headers));
        match status {
            Some(status) if status.code() == Code::Ok => Ok(self),
            Some(status) => Err(Failure::Said(status.into())),
            None => Err(Failure::Broke(format!("answered without a status (HTTP {})", self.head.status))),
        }
    }

    fn by_http_status(self) -> Result<Reply, Failure> {
        if self.head.status.as_u16() < 400 {
            return Ok(self);
        }
        let mut status = Status::new(code_of(self.head.status), error_text(&self.message));
        status.set_source(Arc::new(HttpNo(self)));
        Err(Failure::Said(status.into()))
    }

    /// Its one message.
    ///
    /// # Errors
    /// [`Failure::Broke`]: what came is none, or no plain one.
    pub(super) fn decode<M: Message + Default>(&self) -> Result<M, Failure> {
        let message = match &*self.message {
            [0, _, _, _, _, message @ ..] => M::decode(message).map_err(|error| error.to_string()),
            _ => Err("no plain message".to_owned()),
        };
        message.map_err(|why| Failure::Broke(format!("its answer makes no sense: {why}")))
    }
}

/// A node's own small question to one pod; `message` has its gRPC prefix, and so has the answer.
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
    let question = Question::grpc(path, metadata, message, timeout);
    let reply = question.ask(pod).await.map_err(|failure| failure.into_status(pod))?;
    Ok(reply.message)
}

/// `message` with its gRPC prefix.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes.into()
}

/// Whether `answer` has field 1 set to true, which is how ServerLive, ServerReady and ModelReady say yes.
pub(super) fn says_yes(answer: &[u8]) -> bool {
    answer.get(5..).is_some_and(|message| message.starts_with(&[0x08, 0x01]))
}
