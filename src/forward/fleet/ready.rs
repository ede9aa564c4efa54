//! Questions about the fleet as one server: is it live, is it ready, is a model ready, how is its health.
//!
//! To its callers the front is the server, so it answers for all pods: ready means that somebody is.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use http_body::{Body, Frame};
use plimsoll_proto::health::HealthCheckResponse;
use plimsoll_proto::health::health_check_response::ServingStatus;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::super::ask::{EMPTY, Question, framed, says_yes};
use super::super::call::Face;
use super::super::front::{Stage, reached};
use super::super::response::trailers;
use super::Fleet;
use super::fan_out::ask_all;
use crate::driver::clock;
use crate::observe::Pod;

/// How long pods may take to answer: health checks of orchestrators give up after about as long.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// How often a watched health is looked at again: a change shows within the time a caller's retry takes anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(in crate::forward) const SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";

impl Fleet {
    /// Whether any pod that is not ejected says that it is ready.
    pub(in crate::forward) async fn any_ready(&self) -> bool {
        match self.any_yes(&Question::grpc(SERVER_READY, HeaderMap::new(), EMPTY, ANSWER), "").await {
            Ok(yes) => yes,
            // A server that does not know the question is there to say so.
            Err(status) => status.code() == Code::Unimplemented,
        }
    }

    /// Asks the pods that are in; the first yes decides, and where it is about `model` that pod gets requests for it
    /// again.
    ///
    /// # Errors
    /// The first pod's status, unchanged, where no pod gave an answer.
    pub(super) async fn any_yes(&self, question: &Question, model: &str) -> Result<bool, Status> {
        let all = self.node.picker().pods();
        let may = |pod: &&Arc<Pod>| !pod.is_ejected() && question.face.is_spoken_by(pod.spec());
        let pods: Vec<Arc<Pod>> = all.iter().filter(may).cloned().collect();
        let asked = |pod: Arc<Pod>| async move {
            let reply = question.ask(&pod).await.map_err(|failure| failure.into_status(&pod))?;
            // Over HTTP the status says it.
            Ok(question.face == Face::Http || says_yes(&reply.message))
        };
        let mut answers = std::pin::pin!(ask_all(&pods, asked));
        let mut no = false;
        let mut first: Option<(usize, Status)> = None;
        while let Some((place, answer)) = answers.next().await {
            match answer {
                Ok(true) => {
                    self.node.picker().shows(clock::now(), &pods[place], model);
                    return Ok(true);
                }
                Ok(false) => no = true,
                Err(status) if first.as_ref().is_none_or(|(least, _)| place < *least) => first = Some((place, status)),
                Err(_) => {}
            }
        }
        match first {
            _ if no => Ok(false),
            Some((_, status)) => Err(status),
            None => Err(Status::unavailable("no pod is in: none is known, or all are ejected")),
        }
    }
}

/// The health service's answer: a message with its gRPC prefix.
pub(in crate::forward) fn health(ready: bool) -> Bytes {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    framed(&HealthCheckResponse { status: status.into() })
}

/// The health of the fleet as a stream: what it is now, again on every change, no in the grace of a shutdown, and UNAVAILABLE when
/// the front closes.
pub(in crate::forward) struct Watch {
    fleet: Arc<Fleet>,
    at: watch::Receiver<Stage>,
    told: Option<bool>,
    next: Next,
    ended: bool,
}

/// The next look; none when there will be no more.
type Next = Pin<Box<dyn Future<Output = Option<bool>> + Send>>;

impl Watch {
    pub(in crate::forward) fn new(fleet: Arc<Fleet>, at: watch::Receiver<Stage>) -> Watch {
        let next = look(fleet.clone(), at.clone(), None);
        Watch { fleet, at, told: None, next, ended: false }
    }
}

/// What is to be told after `told`; none once the front closes.
fn look(fleet: Arc<Fleet>, at: watch::Receiver<Stage>, told: Option<bool>) -> Next {
    Box::pin(async move {
        let ready = async {
            if told.is_some() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            fleet.any_ready().await
        };
        tokio::select! {
            biased;
            () = reached(at.clone(), Stage::Grace) => {}
            ready = ready => return Some(ready),
        }
        if told != Some(false) && *at.borrow() == Stage::Grace {
            return Some(false);
        }
        reached(at, Stage::Closing).await;
        None
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
            let news = self.told.replace(ready) != Some(ready);
            self.next = look(self.fleet.clone(), self.at.clone(), self.told);
            if news {
                return Poll::Ready(Some(Ok(Frame::data(health(ready)))));
            }
        }
    }
}
