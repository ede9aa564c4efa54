//! Questions about the fleet as one server: is it live, is it ready, is a model ready, how is its health.
//!
//! To its callers the front is the server, so it answers for all pods: ready means that somebody is.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use plimsoll_proto::health::HealthCheckResponse;
use plimsoll_proto::health::health_check_response::ServingStatus;
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::ask::{EMPTY, ask, says_yes};
use super::front::drained;
use super::response::trailers;
use crate::node::Node;

/// How long pods may take to answer: health checks of orchestrators give up after about as long.
const ANSWER: Duration = Duration::from_secs(1);
/// How often a watched health is looked at again: a change shows within the time a caller's retry takes anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";
const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";

/// Whether any pod that is not ejected says that it is ready.
pub(super) async fn server_ready(node: &Node) -> bool {
    match any_yes(node, SERVER_READY, &HeaderMap::new(), &EMPTY).await {
        Ok(yes) => yes,
        // A server that does not know the question is there to say so.
        Err(status) => status.code() == Code::Unimplemented,
    }
}

/// Whether any pod says that the model in `message` (with its gRPC prefix) is ready.
///
/// # Errors
/// The first pod's status, unchanged, where no pod gave an answer.
pub(super) async fn model_ready(node: &Node, metadata: &HeaderMap, message: &Bytes) -> Result<bool, Status> {
    any_yes(node, MODEL_READY, metadata, message).await
}

/// Asks all pods that are in at once; the first yes decides.
async fn any_yes(node: &Node, path: &'static str, metadata: &HeaderMap, message: &Bytes) -> Result<bool, Status> {
    let pods = node.picker().pods();
    let mut asked = JoinSet::new();
    for (index, pod) in pods.iter().enumerate().filter(|(_, pod)| !pod.is_ejected()) {
        let (pod, metadata, message) = (pod.clone(), metadata.clone(), message.clone());
        asked.spawn(async move { (index, ask(&pod, path, metadata, message, ANSWER).await) });
    }
    let mut no = false;
    let mut first: Option<(usize, Status)> = None;
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok((_, Ok(answer))) if says_yes(&answer) => return Ok(true),
            Ok((_, Ok(_))) => no = true,
            Ok((index, Err(status))) if first.as_ref().is_none_or(|(least, _)| index < *least) => {
                first = Some((index, status));
            }
            // A later pod's error, or a task that the runtime ended.
            Ok((_, Err(_))) | Err(_) => {}
        }
    }
    match first {
        _ if no => Ok(false),
        Some((_, status)) => Err(status),
        None => Err(Status::unavailable("no pod is in: none is known, or all are ejected")),
    }
}

/// The health service's answer: a message with its gRPC prefix.
pub(super) fn health(ready: bool) -> Bytes {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    framed(&HealthCheckResponse { status: status.into() })
}

/// `message` with its gRPC prefix.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes.into()
}

/// The health of the fleet as a stream: what it is now, again on every change, and UNAVAILABLE when the front shuts down.
pub(super) struct Watch {
    node: Node,
    draining: watch::Receiver<bool>,
    told: Option<bool>,
    next: Next,
    ended: bool,
}

/// The next look; none when there will be no more.
type Next = Pin<Box<dyn Future<Output = Option<bool>> + Send>>;

impl Watch {
    pub(super) fn new(node: Node, draining: watch::Receiver<bool>) -> Watch {
        let next = look(node.clone(), draining.clone(), Duration::ZERO);
        Watch { node, draining, told: None, next, ended: false }
    }
}

fn look(node: Node, draining: watch::Receiver<bool>, after: Duration) -> Next {
    Box::pin(async move {
        let ready = async {
            tokio::time::sleep(after).await;
            server_ready(&node).await
        };
        tokio::select! {
            () = drained(draining) => None,
            ready = ready => Some(ready),
        }
    })
}

impl Body for Watch {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            let Some(ready) = ready!(self.next.as_mut().poll(cx)) else {
                self.ended = true;
                return Poll::Ready(Some(Ok(trailers(&Status::unavailable("the node shuts down")))));
            };
            self.next = look(self.node.clone(), self.draining.clone(), LOOK_AGAIN);
            if self.told.replace(ready) != Some(ready) {
                return Poll::Ready(Some(Ok(Frame::data(health(ready)))));
            }
        }
    }
}
