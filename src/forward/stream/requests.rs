//! The requests of a stream that have no last answer yet, each with the ticket that says what it costs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::body::announced;
use super::super::room::Share;
use super::super::send::Forwarder;
use super::super::trip::Trip;
use super::inbound::Pieces;
use super::said::Said;
use crate::driver::clock;
use crate::node::Ticket;
use crate::pick::Outcome;
use crate::time::Time;

/// Requests of one stream that are kept apart. With more, the oldest is taken to be over: a model that answers some requests
/// not at all must not fill the memory.
const MOST: usize = 4096;
/// A decoupled model does not say which of its answers is the last, unless it is asked to: one that is silent for so long is
/// done. Longer than a token takes, or a batch; shorter would take a slow one for an idle one.
const SILENCE: Duration = Duration::from_secs(2);

/// One request.
pub(super) struct Open {
    number: u64,
    pub(super) leg: u64,
    pub(super) trip: Box<Trip>,
    ticket: Ticket,
    /// All of it, where there is room for that: it may be sent again until it is answered.
    pub(super) copy: Option<Copy>,
    /// When its last answer came, if one did.
    pub(super) answered: Option<Time>,
    /// What its last answer came to, as gRPC's codes have it, for the access log.
    pub(super) code: Option<i32>,
}

impl Open {
    /// When it was sent to its pod.
    pub(super) fn sent(&self) -> Time {
        self.ticket.started()
    }
}

/// What is kept of a request, to be sent again.
pub(super) struct Copy {
    pub(super) pieces: Pieces,
    share: Share,
}

impl Copy {
    /// Keeps the next piece too; false where there is no room for it.
    pub(super) fn push(&mut self, piece: Bytes) -> bool {
        let fits = self.share.take(piece.len());
        if fits {
            self.pieces.push(piece);
        }
        fits
    }
}

/// See the module's description.
pub(super) struct Requests {
    open: Vec<Open>,
    /// How many there were.
    count: u64,
    forwarder: Arc<Forwarder>,
}

impl Requests {
    pub(super) fn new(forwarder: Arc<Forwarder>) -> Requests {
        Requests { open: Vec::new(), count: 0, forwarder }
    }

    /// What is kept of a request that begins with `pieces`; none where it can go to one pod only, or there is no room.
    pub(super) fn copy(&self, trip: &Trip, pieces: &Pieces) -> Option<Copy> {
        let mut copy = Copy { pieces: Pieces::new(), share: self.forwarder.room.share() };
        (trip.route.may_move() && pieces.iter().all(|piece| copy.push(piece.clone()))).then_some(copy)
    }

    /// Adds one, and returns its number.
    pub(super) fn add(&mut self, leg: u64, trip: Box<Trip>, ticket: Ticket) -> u64 {
        if self.open.len() >= MOST {
            let oldest = self.open.remove(0);
            self.end(oldest, Outcome::Served, false);
        }
        self.count += 1;
        self.open.push(Open { number: self.count, leg, trip, ticket, copy: None, answered: None, code: None });
        self.count
    }

    /// Keeps `copy` of request `number`, which is all of it, until that is answered. One stream has no more room than one request.
    pub(super) fn keep(&mut self, number: u64, copy: Copy) {
        let kept = self.open.iter().filter_map(|open| open.copy.as_ref()).map(|copy| copy.share.bytes()).sum::<usize>();
        let open = self.open.iter_mut().find(|open| open.number == number && open.answered.is_none());
        if let Some(open) = open.filter(|_| copy.share.fits_beside(kept)) {
            open.copy = Some(copy);
        }
    }

    /// The request that an answer of `leg` belongs to: the first of its id. A model may leave the id out of an error.
    pub(super) fn find(&self, leg: u64, said: &Said) -> Option<usize> {
        let of_leg = |open: &Open| open.leg == leg;
        let same = |open: &Open| of_leg(open) && open.trip.call.peek.id == said.id;
        self.open.iter().position(same).or_else(|| self.open.iter().position(of_leg).filter(|_| said.id.is_empty()))
    }

    /// Whether an answer with its id could mean another one on the same pod too.
    pub(super) fn is_ambiguous(&self, index: usize) -> bool {
        let one = &self.open[index];
        let same = |open: &&Open| open.leg == one.leg && open.trip.call.peek.id == one.trip.call.peek.id;
        self.open.iter().filter(same).count() > 1
    }

    pub(super) fn get(&mut self, index: usize) -> &mut Open {
        &mut self.open[index]
    }

    pub(super) fn any_on(&self, leg: u64) -> bool {
        self.open.iter().any(|open| open.leg == leg)
    }

    /// An answer came, of which these are the first `pieces`; it may not be the last.
    pub(super) fn answered(&mut self, index: usize, said: &Said, pieces: &Pieces) {
        let open = &mut self.open[index];
        open.code = Some(said.code() as i32);
        if let Some(line) = &mut open.trip.line {
            line.passed(announced(pieces).unwrap_or(0));
        }
        open.copy = None;
        open.answered = Some(clock::now());
        open.ticket.answered();
    }

    /// Takes one out, to be ended.
    pub(super) fn remove(&mut self, index: usize) -> Open {
        self.open.remove(index)
    }

    /// Takes out all on `leg`.
    pub(super) fn remove_all(&mut self, leg: u64) -> SmallVec<[Open; 2]> {
        self.open.extract_if(.., |open| open.leg == leg).collect()
    }

    /// Ends its ticket.
    pub(super) fn end(&self, open: Open, outcome: Outcome, teaches: bool) -> (Box<Trip>, Option<Copy>) {
        let Open { mut ticket, mut trip, copy, code, .. } = open;
        if let Some(line) = &mut trip.line {
            line.ends(outcome, code);
        }
        if !teaches {
            ticket.teaches_nothing();
        }
        ticket.finish(outcome);
        self.forwarder.freed();
        (trip, copy)
    }

    /// Ends those that were answered and are silent since; says when to look again, if there are others.
    pub(super) fn end_silent(&mut self) -> Option<Duration> {
        let now = clock::now();
        let is_silent = |open: &mut Open| open.answered.is_some_and(|at| now.since(at) >= SILENCE);
        let silent: SmallVec<[Open; 2]> = self.open.extract_if(.., is_silent).collect();
        silent.into_iter().for_each(|open| drop(self.end(open, Outcome::Served, true)));
        self.open.iter().filter_map(|open| open.answered).min().map(|at| SILENCE.saturating_sub(now.since(at)))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if !self.open.is_empty() {
            self.open.clear();
            self.forwarder.freed();
        }
    }
}
