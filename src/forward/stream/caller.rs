//! What is done when the caller says something: a pod is picked for each request.

use tonic::Status;

use super::inbound::{Event, Held, Pieces};
use super::{Over, Work};
use crate::forward::call::{Call, Face, Kind};
use crate::forward::peek::Peek;
use crate::forward::route::Route;
use crate::forward::send::failed;
use crate::forward::trip::Trip;
use crate::node::Ticket;
use crate::observe::{Pod, Rank};
use crate::pick::Outcome;

impl Work {
    pub(super) fn caller(&mut self, event: Event) -> Result<(), Over> {
        match event {
            Event::Request(peek, held) => self.request(peek, held)?,
            Event::Again(trip, copy) => self.claim(trip, Held { pieces: copy.pieces, whole: true }),
            Event::Kept(number, copy) => self.requests.keep(number, copy),
            Event::Claimed(trip, claimed, held) => self.claimed(trip, claimed, held)?,
            Event::End if self.begin.is_some() && self.legs.is_empty() => self.ask_without_request(),
            Event::End => {}
            // Both ends hear of it, by a reset.
            Event::Broke => return Err(Over),
            Event::Cut => {
                let text = "the stream ended in the middle of a message: its last one is shorter than its prefix says";
                return self.end_with(&Status::invalid_argument(text));
            }
            Event::TooLarge(too_large) => return self.end_with(&Status::from(too_large)),
        }
        self.close()
    }

    /// A request has come: a pod is picked for it.
    fn request(&mut self, peek: Peek, held: Held) -> Result<(), Over> {
        let peek = match &self.model {
            Some(model) => Peek { name: model.as_bytes().into(), ..peek },
            None => peek,
        };
        let mut call = Call::new(Face::Grpc, Kind::Stream, peek);
        let head = &self.head;
        call.peek.parameters.heed(&head.headers);
        let mut line = self.forwarder.line(&call, &head.method, head.uri.path(), &head.headers);
        match self.route(&call) {
            Ok(route) => {
                let mut trip = Box::new(Trip::new(call, route, self.deadline.until()));
                trip.line = line;
                self.claim(trip, held);
            }
            Err(status) => {
                let status = failed(&mut line, status);
                self.inbound.drop_it(&held);
                self.fail(&call, &status, false)?;
            }
        }
        Ok(())
    }

    fn route(&mut self, call: &Call) -> Result<Route, Status> {
        if let Some(pod) = &self.pin {
            return Ok(Route::Pinned(pod.clone()));
        }
        // A stream that keeps to a pod that is out would ask it for ever; and one that stood open before anything was asked may have
        // begun on a pod that does not have what is asked for.
        let model = self.forwarder.node.picker().model(call.model()).clone();
        let is_unfit = |pod: &Pod| pod.is_ejected() || !pod.serves(&model) || pod.rank(&model) == Rank::Lacking;
        self.own.take_if(|(_, pod)| is_unfit(pod));
        let route = self.forwarder.route(call, &mut self.head.headers)?;
        let Some((_, own)) = self.own.as_ref().filter(|_| !self.is_balanced(call)) else { return Ok(route) };
        Ok(match route {
            Route::Free | Route::Near(_) => Route::Near([own.id()].into_iter().collect()),
            // A sequence is found by its id alone, by a node that was restarted too: where it begins must not be a stream's business.
            route => route,
        })
    }

    fn is_balanced(&self, call: &Call) -> bool {
        self.pin.is_none() && self.forwarder.options.model(call.model()).is_some_and(|model| model.balance_streams)
    }

    fn claim(&mut self, mut trip: Box<Trip>, held: Held) {
        let forwarder = self.forwarder.clone();
        let claim = async move {
            let claimed = forwarder.claim(&mut trip).await;
            (trip, claimed)
        };
        self.inbound.claim(Box::pin(claim), held);
    }

    fn claimed(&mut self, mut trip: Box<Trip>, claimed: Result<Ticket, Status>, held: Held) -> Result<(), Over> {
        let ticket = match claimed {
            Ok(ticket) => ticket,
            Err(status) => {
                let status = failed(&mut trip.line, status);
                self.inbound.drop_it(&held);
                let by_pod = trip.tried.said.is_some();
                return self.fail(&trip.call, &status, by_pod);
            }
        };
        let leg = self.legs.of(ticket.pod(), &self.head, self.forwarder.options.connect_timeout);
        let (id, to) = (leg.id, leg.to.clone());
        if self.own.is_none() && !self.is_balanced(&trip.call) {
            self.own = Some((id, ticket.pod().clone()));
        }
        // The next requests of a sequence may come before the answer to its first.
        if let Route::Begins(_, key) = &trip.route {
            self.forwarder.sequences.hold(key.clone(), ticket.pod().id());
        }
        if !trip.call.is_inference() {
            ticket.finish(Outcome::Served);
            self.inbound.drop_it(&held);
            return Ok(());
        }
        let copy = self.requests.copy(&trip, &held.pieces);
        let number = self.requests.add(id, trip, ticket);
        let rest = match copy {
            Some(copy) if held.whole => {
                self.requests.keep(number, copy);
                None
            }
            copy => copy.map(|copy| (number, copy)),
        };
        match to {
            Some(to) => self.inbound.pass(to, held, rest),
            None => self.inbound.drop_it(&held),
        }
        Ok(())
    }

    /// Asks a pod for a head without having a request for it.
    pub(super) fn ask_without_request(&mut self) {
        let call = Call::new(Face::Grpc, Kind::Other, Peek::default());
        let route = self.pin.clone().map_or(Route::Free, Route::Pinned);
        let trip = Box::new(Trip::new(call, route, self.deadline.until()));
        self.claim(trip, Held { pieces: Pieces::new(), whole: true });
    }
}
