//! The pods' sides of a stream: on each pod that has requests of it one HTTP/2 stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tokio::sync::mpsc;

use super::super::body::{Messages, RequestBody};
use super::super::call::Face;
use super::super::peek::Compression;
use super::super::source::Source;
use super::super::upstream::{Lost, Received, SendError, Unreachable, Upstream};
use super::inbound::Pieces;
use super::said::{Said, said};
use crate::observe::Pod;

/// Pieces of requests that wait for the pod to take them, each as large as a frame: one that is sent, and one that is next.
const ON_THE_WAY: usize = 2;

type Sending = Pin<Box<dyn Future<Output = Result<Response<Received>, SendError>> + Send>>;

/// One pod's side.
pub(super) struct Leg {
    pub(super) id: u64,
    pub(super) pod: Arc<Pod>,
    /// Where its requests go; none once it is to get no more.
    pub(super) to: Option<mpsc::Sender<Bytes>>,
    /// Its response's head, until that went to the caller.
    pub(super) head: Option<http::response::Parts>,
    from: From,
    compression: Compression,
    messages: Messages,
    /// What came and is not cut yet.
    rest: Bytes,
    /// The first pieces of an answer that is looked into.
    pieces: Pieces,
    at: At,
}

enum From {
    Head(Sending),
    Body(Received),
}

/// Where in an answer it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between two, or in the first bytes of one.
    Beginning,
    /// In one whose beginning was passed on.
    Passing,
    /// In one that the caller does not get.
    Dropping,
}

/// What happens on a pod's side.
pub(super) enum Event {
    /// The head of its response is here.
    Head,
    /// It answers one request, with these first pieces, or all, of an answer.
    Answer { said: Said, pieces: Pieces, whole: bool },
    /// More of the same.
    More(Bytes),
    /// It has ended its side, with this status; none where it sent none.
    Ended(Option<HeaderMap>),
    /// Nothing of this side came to the pod.
    Unsent(Unreachable),
    /// It broke off, or hangs.
    Lost(Lost),
}

/// All of them.
#[derive(Default)]
pub(super) struct Legs {
    legs: Vec<Leg>,
    next: u64,
    /// Who is looked at first: they take turns.
    turn: usize,
}

impl Leg {
    fn new(id: u64, pod: Arc<Pod>, head: &http::request::Parts, connect: Duration) -> Leg {
        let (to, pieces) = mpsc::channel(ON_THE_WAY);
        let mut request = Request::new(RequestBody::new(Source::Leg(pieces), u64::MAX));
        request.method_mut().clone_from(&head.method);
        request.uri_mut().clone_from(&head.uri);
        request.headers_mut().clone_from(&head.headers);
        let asked = pod.clone();
        let sending = async move { Upstream::of(&asked).send(Face::Grpc, request, connect).await };
        Leg {
            id,
            pod,
            to: Some(to),
            head: None,
            from: From::Head(Box::pin(sending)),
            compression: Compression::Unknown,
            messages: Messages::new(u64::MAX),
            rest: Bytes::new(),
            pieces: Pieces::new(),
            at: At::Beginning,
        }
    }

    /// The rest of the answer at hand is not passed on.
    pub(super) fn drop_answer(&mut self, whole: bool) {
        if !whole {
            self.at = At::Dropping;
        }
    }

    /// Whether the caller has the beginning of an answer, and not its end.
    pub(super) fn is_in_answer(&self) -> bool {
        self.at == At::Passing
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if !self.rest.is_empty() {
                match self.cut() {
                    Some(event) => return Poll::Ready(event),
                    None => continue,
                }
            }
            let body = match &mut self.from {
                From::Head(sending) => match std::task::ready!(sending.as_mut().poll(cx)) {
                    Ok(response) => return Poll::Ready(self.begin(response)),
                    Err(SendError::Unsent(_, why)) => return Poll::Ready(Event::Unsent(why)),
                    Err(SendError::Lost(lost)) => return Poll::Ready(Event::Lost(lost)),
                },
                From::Body(body) => body,
            };
            match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Event::Ended(frame.into_trailers().ok())),
                },
                Some(Err(lost)) => return Poll::Ready(Event::Lost(lost)),
                None => return Poll::Ready(Event::Ended(None)),
            }
        }
    }

    fn begin(&mut self, response: Response<Received>) -> Event {
        let (head, body) = response.into_parts();
        self.compression = Compression::of(&head.headers);
        self.from = From::Body(body);
        // A status in the head is all there is.
        let status = head.headers.contains_key("grpc-status").then(|| head.headers.clone());
        self.head = Some(head);
        status.map_or(Event::Head, |status| Event::Ended(Some(status)))
    }

    fn cut(&mut self) -> Option<Event> {
        // Its own messages have no limit here: the caller has one.
        let part = self.messages.next(&self.rest).ok()?;
        let bytes = self.rest.split_to(part.bytes);
        let at = self.at;
        if part.ends {
            self.at = At::Beginning;
        }
        match at {
            At::Passing => Some(Event::More(bytes)),
            At::Dropping => None,
            At::Beginning => {
                self.pieces.push(bytes);
                let said = said(&self.pieces, part.ends, self.compression)?;
                if !part.ends {
                    self.at = At::Passing;
                }
                Some(Event::Answer { said, pieces: std::mem::take(&mut self.pieces), whole: part.ends })
            }
        }
    }
}

impl Legs {
    /// The side of `pod` that takes requests, made where there is none.
    pub(super) fn of(&mut self, pod: &Arc<Pod>, head: &http::request::Parts, connect: Duration) -> &Leg {
        let found = self.legs.iter().position(|leg| leg.pod.id() == pod.id() && leg.to.is_some());
        let index = found.unwrap_or_else(|| {
            self.next += 1;
            self.legs.push(Leg::new(self.next, pod.clone(), head, connect));
            self.legs.len() - 1
        });
        &self.legs[index]
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Leg> {
        let index = self.legs.iter().position(|leg| leg.id == id)?;
        Some(self.legs.remove(index))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// Tells all pods that no more requests come.
    pub(super) fn half_close(&mut self) {
        self.legs.iter_mut().for_each(|leg| leg.to = None);
    }

    /// What happens next, and on which. An answer is passed on as a whole before another pod is heard: answers cannot be mixed
    /// on one stream.
    pub(super) async fn next(&mut self) -> (u64, Event) {
        poll_fn(|cx| {
            if let Some(leg) = self.legs.iter_mut().find(|leg| leg.at == At::Passing) {
                return leg.poll(cx).map(|event| (leg.id, event));
            }
            let all = self.legs.len();
            self.turn = self.turn.wrapping_add(1);
            for k in 0..all {
                let leg = &mut self.legs[(self.turn + k) % all];
                if let Poll::Ready(event) = leg.poll(cx) {
                    return Poll::Ready((leg.id, event));
                }
            }
            Poll::Pending
        })
        .await
    }
}
