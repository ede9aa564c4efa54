//! A stream of requests (`ModelStreamInfer`), taken apart into the requests in it: each has its own ticket, from when it goes to
//! a pod until its last answer, so that a stream that stands open and idle costs nothing.
//!
//! A stream keeps to the pod of its first request; what that pod takes nothing of (because it shuts down, say) is sent to
//! another one, and the stream goes on there. Requests of models whose streams are balanced are picked for one by one. A
//! sequence is where it began, in whatever stream. All of it happens in one task per stream, because a caller that does not
//! read its answers may still send requests, and the other way round; it ends with its caller.

mod caller;
mod inbound;
mod legs;
mod pods;
mod reply;
mod requests;
mod said;

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use self::inbound::Inbound;
use self::legs::Legs;
use self::requests::Requests;
use super::body::BoxError;
use super::deadline::Deadline;
use super::peek::Compression;
use super::pin::take_pin;
use super::send::Forwarder;
use super::source::Source;
use crate::observe::Pod;

/// How long a stream's first request is waited for before a pod is picked without it: a client that wants the response's
/// head before it sends anything would else wait for ever. Longer only delays those.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// The same where the model is known without it: then only the pick of a pod for its size is lost.
const FIRST_REQUEST_OF_MODEL: Duration = Duration::from_millis(20);
/// Pieces of answers that wait for the caller, each as large as a frame: one that is sent, and one that is next.
const ON_THE_WAY: usize = 2;
/// What may wait before them. Callers that read no answers are not asked for more requests then.
const MOST_UNSAID: usize = 64;

/// Sends the requests in `request` to pods, and returns their answers. Where `model` is given, they are all of it.
///
/// # Errors
/// As [`Forwarder::forward`], until something of an answer is there; after that the stream ends with it.
pub(super) async fn forward(
    forwarder: Arc<Forwarder>,
    request: Request<Source>,
    model: Option<Arc<str>>,
    deadline: Deadline,
) -> Result<Response<StreamBody>, Status> {
    forwarder.node.look_after_pods();
    let (mut head, source) = request.into_parts();
    let pin = take_pin(&forwarder.node.picker().pods(), &mut head.headers)?;
    let (out, frames) = mpsc::channel(ON_THE_WAY);
    let (begin, begun) = oneshot::channel();
    let compression = Compression::of(&head.headers);
    let work = Work {
        inbound: Inbound::new(source, forwarder.options.max_message_bytes, compression),
        requests: Requests::new(forwarder.clone()),
        legs: Legs::default(),
        own: None,
        head,
        model,
        pin,
        begin: Some(begin),
        outbox: VecDeque::new(),
        out,
        deadline,
        quiet: None,
        status: None,
        forwarder,
    };
    tokio::spawn(work.run());
    // Dropping `frames` ends the task, also before there is a head.
    match begun.await {
        Ok(Ok((head, true))) => Ok(Response::from_parts(head, StreamBody(None))),
        Ok(Ok((head, false))) => Ok(Response::from_parts(head, StreamBody(Some(frames)))),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::internal("the stream was given up")),
    }
}

/// The answers of a stream; none where its head says it all.
pub(super) struct StreamBody(Option<mpsc::Receiver<Frame<Bytes>>>);

/// A response's head, and whether nothing follows; or the status instead of one.
type Begin = Result<(http::response::Parts, bool), Status>;

/// One stream at work.
struct Work {
    forwarder: Arc<Forwarder>,
    /// What each pod is asked with.
    head: http::request::Parts,
    model: Option<Arc<str>>,
    pin: Option<Arc<Pod>>,
    inbound: Inbound,
    requests: Requests,
    legs: Legs,
    /// The pod that the stream keeps to: its leg, and who it is.
    own: Option<(u64, Arc<Pod>)>,
    /// None once the response's head is on its way.
    begin: Option<oneshot::Sender<Begin>>,
    /// What goes to the caller next.
    outbox: VecDeque<Frame<Bytes>>,
    out: mpsc::Sender<Frame<Bytes>>,
    deadline: Deadline,
    /// When to look for requests that were answered and are silent.
    quiet: Option<Pin<Box<Sleep>>>,
    /// How the last pod that is done ended its side.
    status: Option<HeaderMap>,
}

/// What happens next.
enum Event {
    Caller(inbound::Event),
    Pod(u64, legs::Event),
    /// No request came for a while.
    NoRequest,
    Quiet,
    Late(Status),
    /// The caller is gone.
    Gone,
}

/// The stream is over.
struct Over;

impl Work {
    async fn run(mut self) {
        let patience = if self.model.is_some() { FIRST_REQUEST_OF_MODEL } else { FIRST_REQUEST };
        let mut first = Some(Box::pin(sleep(patience)));
        loop {
            let event = self.next(&mut first).await;
            if matches!(event, Event::Caller(_) | Event::NoRequest) {
                first = None;
            }
            let going_on = match event {
                Event::Caller(event) => self.caller(event),
                Event::Pod(leg, event) => self.pod(leg, event),
                Event::NoRequest => {
                    // One that is on its way in pieces will bring the head.
                    if self.inbound.is_between() {
                        self.ask_without_request();
                    }
                    Ok(())
                }
                Event::Quiet => {
                    self.quiet = self.requests.end_silent().map(|left| Box::pin(sleep(left)));
                    Ok(())
                }
                Event::Late(status) => self.end_with(&status),
                Event::Gone => return,
            };
            if going_on.is_err() {
                break;
            }
        }
        // What is still to be said keeps no pod, and no charge.
        let Work { outbox, out, inbound, requests, legs, .. } = self;
        drop((inbound, requests, legs));
        for frame in outbox {
            if out.send(frame).await.is_err() {
                return;
            }
        }
    }

    async fn next(&mut self, first: &mut Option<Pin<Box<Sleep>>>) -> Event {
        loop {
            tokio::select! {
                () = self.out.closed() => return Event::Gone,
                status = self.deadline.passed() => return Event::Late(status),
                room = self.out.reserve(), if !self.outbox.is_empty() => {
                    if let (Ok(room), Some(frame)) = (room, self.outbox.pop_front()) {
                        room.send(frame);
                    }
                }
                (leg, event) = self.legs.next(), if self.outbox.is_empty() => return Event::Pod(leg, event),
                event = self.inbound.next(), if self.outbox.len() < MOST_UNSAID => return Event::Caller(event),
                () = maybe(first) => return Event::NoRequest,
                () = maybe(&mut self.quiet) => return Event::Quiet,
            }
        }
    }
}

/// Sleeps where there is something to wait for.
async fn maybe(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => pending().await,
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(frames) => frames.poll_recv(cx).map(|frame| frame.map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
