//! What was sent of a request, kept while it may be sent again: to the next pod where one took nothing of it, or died.
//!
//! A body is read once, and by the last of its sendings alone: each begins with what is kept and reads on behind it, so
//! that a request is offered to another pod before its end is here. What is kept is shared with what is sent, and not
//! copied. It counts against a bound for the request and one for all of them; over either, the request goes on and is
//! sent but once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Request, Uri};
use http_body::{Body, Frame};

use super::body::{BoxError, RequestBody};
use super::room::{Room, Share};
use super::source::Source;

/// The way to send a request again, for as long as it is held.
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// The headers' names as they were written.
    extensions: Extensions,
    tape: Arc<Tape>,
}

impl Replay {
    /// The same request, which can be sent again as long as there is room for it.
    pub(super) fn of(request: Request<RequestBody>, room: &Arc<Room>) -> (Request<RequestBody>, Replay) {
        let (head, body) = request.into_parts();
        let tape = Arc::new(Tape(Mutex::new(Taped {
            body,
            kept: VecDeque::new(),
            before: 0,
            share: room.share(),
            keeps: true,
            last: 0,
            goes_on: 1,
            alive: 0,
            at: 0,
            waker: None,
        })));
        let sending = tape.lock().begin(&tape);
        let replay = Replay {
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers: head.headers.clone(),
            extensions: head.extensions.clone(),
            tape,
        };
        (Request::from_parts(head, sending), replay)
    }

    /// Whether it can be sent again as far as can be known: its first byte is here.
    pub(super) fn is_possible(&self) -> bool {
        self.tape.lock().keeps
    }

    /// The request from its first byte on; the sendings before end where they are. None where it is not here any more.
    pub(super) fn again(&self) -> Option<Request<RequestBody>> {
        let mut taped = self.tape.lock();
        if !taped.keeps {
            return None;
        }
        let sending = taped.begin(&self.tape);
        taped.goes_on = taped.last;
        let waker = taped.waker.take();
        drop(taped);
        // Who waited for the caller's next piece hears that it is another one's now.
        waker.into_iter().for_each(Waker::wake);
        Some(self.with(sending))
    }

    /// The request a second time beside the first, which goes on; none where it is not here as a whole.
    pub(super) fn beside(&self) -> Option<Request<RequestBody>> {
        let mut taped = self.tape.lock();
        let is_whole = taped.keeps && taped.body.is_end_stream();
        let sending = is_whole.then(|| taped.begin(&self.tape))?;
        drop(taped);
        Some(self.with(sending))
    }

    fn with(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        request.extensions_mut().clone_from(&self.extensions);
        request
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.tape.lock().let_go();
    }
}

/// A body, and what is kept of it.
struct Tape(Mutex<Taped>);

struct Taped {
    /// What was not read yet.
    body: RequestBody,
    kept: VecDeque<Bytes>,
    /// Pieces that stood before these, and were let go.
    before: usize,
    share: Share,
    /// Whether all that was read is kept, and all that is read will be.
    keeps: bool,
    /// The number of the last sending, and of the first that goes on.
    last: u32,
    goes_on: u32,
    /// Sendings that there are.
    alive: u32,
    /// How far the last one is.
    at: usize,
    /// Who waits for more of the body.
    waker: Option<Waker>,
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, Taped> {
        // A panic in a body is one of this process's own; what is kept is whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taped {
    fn begin(&mut self, tape: &Arc<Tape>) -> RequestBody {
        self.last += 1;
        self.alive += 1;
        self.at = 0;
        RequestBody::checked(Source::Kept(Sending { tape: tape.clone(), number: self.last, next: 0 }))
    }

    /// It is not sent again: keeps what is still to be sent, and no longer than until then.
    fn let_go(&mut self) {
        self.keeps = false;
        self.forget_sent();
    }

    fn forget_sent(&mut self) {
        // Of two that go on, one may be behind.
        if !self.keeps && self.alive <= 1 && self.goes_on == self.last {
            self.forget_before(self.at);
        }
    }

    fn forget_before(&mut self, at: usize) {
        while self.before < at
            && let Some(piece) = self.kept.pop_front()
        {
            self.share.give(piece.len());
            self.before += 1;
        }
    }

    /// The kept piece at place `at`.
    fn piece(&mut self, at: usize) -> Option<Bytes> {
        // Beside another sending, or with one to come, it stays here.
        let piece = self.kept.get(at.checked_sub(self.before)?).cloned()?;
        if !self.keeps && self.alive <= 1 {
            self.forget_before(at + 1);
        }
        Some(piece)
    }

    /// Whether all is sent once the piece before `at` is.
    fn ends_at(&self, at: usize) -> bool {
        at >= self.before + self.kept.len() && self.body.is_end_stream()
    }
}

/// One sending of a body.
pub(super) struct Sending {
    tape: Arc<Tape>,
    number: u32,
    next: usize,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let sending = self.get_mut();
        let taped = &mut *sending.tape.lock();
        if sending.number < taped.goes_on {
            return Poll::Ready(Some(Err("it is sent to another pod".into())));
        }
        if let Some(piece) = taped.piece(sending.next) {
            sending.next += 1;
            taped.at = sending.next;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Poll::Ready(frame) = Pin::new(&mut taped.body).poll_frame(cx) else {
            taped.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        match frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            Some(Ok(Some(data))) if taped.keeps && taped.share.take(data.len()) => {
                taped.kept.push_back(data.clone());
                sending.next += 1;
                taped.at = sending.next;
            }
            None => {}
            // Too much of it, or trailers, which no inference has, or a caller that broke off.
            Some(Ok(_) | Err(_)) => taped.let_go(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let taped = self.tape.lock();
        self.number >= taped.goes_on && taped.ends_at(self.next)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let taped = &mut *self.tape.lock();
        taped.alive -= 1;
        taped.forget_sent();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::super::options::Retry;
    use super::*;

    /// What a caller says, piece by piece.
    struct Said(mpsc::UnboundedReceiver<Bytes>);

    impl Body for Said {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    type Say = mpsc::UnboundedSender<Bytes>;

    fn room(each: u64, all: u64) -> Arc<Room> {
        Room::new(&Retry { keep_bytes: each, keep_all_bytes: all, ..Retry::default() })
    }

    fn request(room: &Arc<Room>) -> (Say, RequestBody, Replay) {
        let (say, said) = mpsc::unbounded_channel();
        let body = RequestBody::plain(Source::Client(tonic::body::Body::new(Said(said))), None, u64::MAX).unwrap();
        let (request, replay) = Replay::of(Request::new(body), room);
        (say, request.into_body(), replay)
    }

    /// The next piece, if it is there.
    fn next(body: &mut RequestBody) -> Option<Result<Bytes, String>> {
        let frame = body.frame().now_or_never()?.unwrap();
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    }

    fn piece(fill: u8) -> Bytes {
        Bytes::from(vec![fill; 100])
    }

    /// A pod that refuses a request in the middle of its body: the next one must get all of it, what was sent and what
    /// comes, and the first one nothing more.
    #[test]
    fn what_was_sent_is_sent_again_and_the_rest_follows() {
        let room = room(1000, 1000);
        let (say, mut first, replay) = request(&room);
        [1, 2].into_iter().for_each(|fill| say.send(piece(fill)).unwrap());
        assert_eq!((next(&mut first), next(&mut first)), (Some(Ok(piece(1))), Some(Ok(piece(2)))));
        assert_eq!(next(&mut first), None);
        let mut second = replay.again().unwrap().into_body();
        assert_eq!(next(&mut first), Some(Err("it is sent to another pod".into())));
        assert!(!second.is_end_stream());
        say.send(piece(3)).unwrap();
        drop(say);
        for fill in 1..=3 {
            assert_eq!(next(&mut second), Some(Ok(piece(fill))));
        }
        assert!(second.frame().now_or_never().unwrap().is_none());
        assert_eq!(room.taken(), 300);
        drop(replay);
        assert_eq!(room.taken(), 0, "what is sent and cannot be sent again is not kept");
    }

    /// Where an answer came there is nothing to be sent again: what is still to be sent is let go piece by piece.
    #[test]
    fn nothing_is_kept_behind_an_answer() {
        let room = room(1000, 1000);
        let (say, mut first, replay) = request(&room);
        [1, 2, 3].into_iter().for_each(|fill| say.send(piece(fill)).unwrap());
        (0..3).for_each(|_| drop(next(&mut first).unwrap().unwrap()));
        drop(first);
        let mut second = replay.again().unwrap().into_body();
        assert_eq!(next(&mut second), Some(Ok(piece(1))));
        drop(replay);
        assert_eq!(room.taken(), 200);
        assert_eq!((next(&mut second), next(&mut second)), (Some(Ok(piece(2))), Some(Ok(piece(3)))));
        assert_eq!(room.taken(), 0);
        say.send(piece(4)).unwrap();
        assert_eq!(next(&mut second), Some(Ok(piece(4))));
        assert_eq!(room.taken(), 0);
    }

    /// Large bodies, and many of them, must not fill the memory: what is over a bound goes on and is not sent again.
    #[test]
    fn what_is_over_a_bound_is_sent_once() {
        let room = room(250, 450);
        let (say, mut first, replay) = request(&room);
        (1..=4).for_each(|fill| say.send(piece(fill)).unwrap());
        (1..=2).for_each(|fill| assert_eq!(next(&mut first), Some(Ok(piece(fill)))));
        assert!(replay.is_possible() && room.taken() == 200);
        (3..=4).for_each(|fill| assert_eq!(next(&mut first), Some(Ok(piece(fill)))));
        assert!(!replay.is_possible() && replay.again().is_none() && room.taken() == 0);

        let mut held: Vec<_> = (0..3).map(|_| request(&room)).collect();
        for (say, body, _) in &mut held {
            [1, 2].into_iter().for_each(|fill| say.send(piece(fill)).unwrap());
            (0..2).for_each(|_| drop(next(body).unwrap().unwrap()));
        }
        let possible: Vec<bool> = held.iter().map(|(.., replay)| replay.is_possible()).collect();
        assert_eq!((possible, room.taken()), (vec![true, true, false], 400));
        drop(held);
        assert_eq!(room.taken(), 0);
    }

    /// A hedge: both pods must get all of it, whichever reads first, and whatever is let go meanwhile.
    #[test]
    fn a_whole_body_is_sent_to_two_pods_at_once() {
        let room = room(1000, 1000);
        let (say, mut first, replay) = request(&room);
        say.send(piece(1)).unwrap();
        assert_eq!(next(&mut first), Some(Ok(piece(1))));
        assert!(replay.beside().is_none(), "more may follow");
        say.send(piece(2)).unwrap();
        drop(say);
        assert_eq!(next(&mut first), Some(Ok(piece(2))));
        assert!(first.frame().now_or_never().unwrap().is_none());
        let mut second = replay.beside().unwrap().into_body();
        drop(replay);
        assert_eq!((next(&mut second), next(&mut second)), (Some(Ok(piece(1))), Some(Ok(piece(2)))));
        assert!(second.is_end_stream());
    }

    /// A caller that breaks off is nobody to send for.
    #[test]
    fn what_broke_off_is_not_sent_again() {
        struct Breaks;
        impl Body for Breaks {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
                Poll::Ready(Some(Err("gone".into())))
            }
        }
        let body = RequestBody::plain(Source::Client(tonic::body::Body::new(Breaks)), None, 10).unwrap();
        let (request, replay) = Replay::of(Request::new(body), &room(1000, 1000));
        assert!(next(&mut request.into_body()).unwrap().is_err());
        assert!(!replay.is_possible());
    }
}
