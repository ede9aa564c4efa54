//! What comes from the caller: requests, one after the other, each cut out of the body and passed on in the pieces it came in.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tonic::Status;

use super::super::body::{Messages, TooLarge};
use super::super::peek::{Compression, Depth, Peek, Peeker, Progress};
use super::super::source::Source;
use super::super::trip::Trip;
use super::requests::Copy;
use crate::node::Ticket;

/// One message, or the beginning of one, as it came.
pub(super) type Pieces = SmallVec<[Bytes; 2]>;

/// A request that waits for a pod, and who it is.
pub(super) type Claim = Pin<Box<dyn Future<Output = (Box<Trip>, Result<Ticket, Status>)> + Send>>;

/// The first bytes of a request, or all of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pieces: Pieces,
    /// Whether that is all.
    pub(super) whole: bool,
}

/// See the module's description.
pub(super) struct Inbound {
    /// None once the caller has said all.
    source: Option<Source>,
    /// What came and is not cut yet.
    rest: Bytes,
    messages: Messages,
    compression: Compression,
    limit: u64,
    stage: Stage,
    /// What is to be sent once more, between two requests of the caller.
    again: VecDeque<(Box<Trip>, Copy)>,
    /// Whether the end of all that is known outside.
    has_told_end: bool,
}

/// What becomes of the request at hand.
enum Stage {
    /// It is looked into.
    Reading { pieces: Pieces, peeker: Peeker },
    /// A pod is picked for it.
    Claiming(Claim, Held),
    /// It is on its way to a pod; the pieces wait for room.
    Passing { to: mpsc::Sender<Bytes>, pieces: VecDeque<Bytes>, whole: bool, copy: Option<(u64, Copy)> },
    /// Nobody takes it: the rest of it is let go.
    Dropping,
}

/// What happens on the caller's side.
pub(super) enum Event {
    /// A request has begun.
    Request(Peek, Held),
    /// One is to be sent again.
    Again(Box<Trip>, Copy),
    /// The request of this number is kept as a whole.
    Kept(u64, Copy),
    /// A pod was picked for it, or none.
    Claimed(Box<Trip>, Result<Ticket, Status>, Held),
    /// All that it said is on its way.
    End,
    /// It went away.
    Broke,
    /// It said that this is all, in the middle of a request.
    Cut,
    TooLarge(TooLarge),
}

impl Inbound {
    pub(super) fn new(source: Source, limit: u64, compression: Compression) -> Inbound {
        let stage = reading(limit, compression);
        let messages = Messages::new(limit);
        let (rest, again) = (Bytes::new(), VecDeque::new());
        Inbound { source: Some(source), rest, messages, compression, limit, stage, again, has_told_end: false }
    }

    /// Sends `copy` once more, when it is their turn.
    pub(super) fn send_again(&mut self, trip: Box<Trip>, copy: Copy) {
        self.again.push_back((trip, copy));
    }

    /// Waits for a pod.
    pub(super) fn claim(&mut self, claim: Claim, held: Held) {
        self.stage = Stage::Claiming(claim, held);
        self.has_told_end = false;
    }

    /// Passes the request at hand on, and keeps the rest of it in `copy`, for the request of that number.
    pub(super) fn pass(&mut self, to: mpsc::Sender<Bytes>, held: Held, copy: Option<(u64, Copy)>) {
        self.stage = Stage::Passing { to, pieces: held.pieces.into_iter().collect(), whole: held.whole, copy };
    }

    /// Lets the request at hand go.
    pub(super) fn drop_it(&mut self, held: &Held) {
        self.stage = if held.whole { reading(self.limit, self.compression) } else { Stage::Dropping };
    }

    /// Whether nothing more will come of it.
    pub(super) fn has_ended(&self) -> bool {
        self.source.is_none() && self.rest.is_empty() && self.again.is_empty() && self.is_between()
    }

    /// Whether requests that were taken from one pod wait for another.
    pub(super) fn has_again(&self) -> bool {
        !self.again.is_empty() || matches!(self.stage, Stage::Claiming(..))
    }

    /// Whether nothing of a request is at hand.
    pub(super) fn is_between(&self) -> bool {
        matches!(&self.stage, Stage::Reading { pieces, .. } if pieces.is_empty())
    }

    /// What happens next. Dropping it loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match &mut self.stage {
                Stage::Claiming(claim, held) => {
                    let (trip, claimed) = claim.as_mut().await;
                    let held = std::mem::replace(held, Held { pieces: Pieces::new(), whole: true });
                    self.stage = Stage::Dropping;
                    return Event::Claimed(trip, claimed, held);
                }
                Stage::Passing { to, pieces, whole, .. } if !pieces.is_empty() => {
                    let is_gone = match to.reserve().await {
                        Ok(room) => {
                            if let Some(piece) = pieces.pop_front() {
                                room.send(piece);
                            }
                            false
                        }
                        // The pod has ended its stream, which says so itself.
                        Err(_) => true,
                    };
                    if is_gone {
                        self.stage = if *whole { reading(self.limit, self.compression) } else { Stage::Dropping };
                    }
                    continue;
                }
                Stage::Passing { whole: true, .. } => {
                    self.stage = reading(self.limit, self.compression);
                    continue;
                }
                Stage::Reading { pieces, .. } if pieces.is_empty() => {
                    if let Some((trip, copy)) = self.again.pop_front() {
                        return Event::Again(trip, copy);
                    }
                }
                Stage::Reading { .. } | Stage::Passing { .. } | Stage::Dropping => {}
            }
            if self.rest.is_empty() {
                let Some(source) = &mut self.source else {
                    if std::mem::replace(&mut self.has_told_end, true) {
                        return pending().await;
                    }
                    return if self.is_between() { Event::End } else { Event::Cut };
                };
                match poll_fn(|cx| Pin::new(&mut *source).poll_frame(cx)).await {
                    // Trailers of a request say nothing.
                    Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                    Some(Err(_)) => return Event::Broke,
                    None => self.source = None,
                }
                continue;
            }
            match self.cut() {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(too_large) => return Event::TooLarge(too_large),
            }
        }
    }

    /// Gives the next part of a message to whom it belongs.
    fn cut(&mut self) -> Result<Option<Event>, TooLarge> {
        let part = self.messages.next(&self.rest)?;
        let bytes = self.rest.split_to(part.bytes);
        match &mut self.stage {
            Stage::Reading { pieces, peeker } => {
                let progress = peeker.pass(&bytes)?;
                pieces.push(bytes);
                if progress == Progress::More && !part.ends {
                    return Ok(None);
                }
                let (found, pieces) = (peeker.found(), std::mem::take(pieces));
                // Until somebody takes it.
                self.stage = Stage::Dropping;
                Ok(Some(Event::Request(found, Held { pieces, whole: part.ends })))
            }
            Stage::Passing { pieces, whole, copy, .. } => {
                copy.take_if(|(_, copy)| !copy.push(bytes.clone()));
                pieces.push_back(bytes);
                *whole = part.ends;
                Ok(copy.take_if(|_| part.ends).map(|(number, copy)| Event::Kept(number, copy)))
            }
            Stage::Dropping | Stage::Claiming(..) => {
                if part.ends {
                    self.stage = reading(self.limit, self.compression);
                }
                Ok(None)
            }
        }
    }
}

fn reading(limit: u64, compression: Compression) -> Stage {
    Stage::Reading { pieces: Pieces::new(), peeker: Peeker::new(Depth::Model(compression), limit) }
}
