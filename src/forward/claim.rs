//! A ticket for a request: picked at once, or waited for where pods are full.

use std::time::Duration;

use metrics::counter;
use tonic::Status;

use super::queue::Line;
use super::readmit::unreachable;
use super::route::Route;
use super::send::{Forwarder, PUSHBACK};
use super::trip::Trip;
use super::upstream::{Upstream, deaf_to};
use crate::driver::clock;
use crate::node::Ticket;
use crate::pick::{self, Outcome, PickError};

/// How long a caller whose own clock runs on is asked to wait at most.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(60);

impl Forwarder {
    /// A ticket for one request in a stream, on a pod that takes connections.
    ///
    /// # Errors
    /// As [`Forwarder::forward`].
    pub(super) async fn claim(&self, trip: &mut Trip) -> Result<Ticket, Status> {
        if trip.tried.pods.is_empty() {
            self.budget.count();
        }
        loop {
            let ticket = match self.pick(trip).await? {
                Ok(ticket) => ticket,
                Err(error) => return Err(trip.tried.said.clone().unwrap_or_else(|| trip.tried.status(&error))),
            };
            let pod = ticket.pod().clone();
            let Err(why) = Upstream::of(&pod).connect(self.options.connect_timeout).await else {
                self.read_shape(&trip.call, &pod);
                if let Some(line) = &mut trip.line {
                    line.picked(&ticket);
                }
                return Ok(ticket);
            };
            ticket.finish(Outcome::Failed);
            unreachable(trip.call.face, &pod, &why);
            trip.tried.failed(pod, why.to_string());
            if !trip.route.may_move() {
                return Err(std::mem::take(&mut trip.tried).lost(&trip.route));
            }
        }
    }

    /// A ticket; waits for one where pods are full. The inner error is that no pod is left.
    pub(super) async fn pick(&self, trip: &Trip) -> Result<Result<Ticket, PickError>, Status> {
        let (call, mut ids) = (&trip.call, trip.tried.ids());
        if trip.route.may_move() {
            ids.extend(deaf_to(call.face, self.node.picker())?);
        }
        let among = trip.route.among(&ids);
        let wanted = pick::Request::new(call.model()).bytes(call.peek.bytes).exclude(&ids).among(&among);
        let wanted = match call.kind.cost() {
            Some(cost) => wanted.cost(cost),
            None => wanted,
        };
        let limits = &self.options.limits;
        let picked = match limits.in_flight_per_pod.filter(|_| call.is_inference()) {
            None => self.node.pick_strict(&wanted).await,
            Some(most) => {
                let wanted = wanted.at_most(Some(most.get()));
                let priority = call.peek.parameters.priority();
                // Those that may go to the same pods stand in one line: one that waits for its pod holds up nobody else.
                let line = Line::new(call.model(), &among);
                let waited = self.queue.wait(line, priority, trip.until, || self.node.pick_alone(&wanted));
                let waited = match trip.waits_until {
                    // As Triton says it of its own queue.
                    Some(until) => tokio::time::timeout(until.since(clock::now()), waited).await.map_err(|_| {
                        turned_down("timeout");
                        Status::unavailable("Request timeout expired")
                    })?,
                    None => waited.await,
                };
                let waited = waited.map_err(|full| {
                    turned_down("queue_full");
                    refused(full.to_string(), Duration::from_secs(1))
                })?;
                match waited {
                    Ok(ticket) => self.node.agreed(ticket, &wanted).await,
                    none => none,
                }
            }
        };
        match picked {
            Ok(mut ticket) => {
                if matches!(trip.route, Route::Pinned(_)) {
                    ticket.blames_nobody();
                }
                self.in_time(trip, ticket).map(Ok)
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// The ticket, where its request can be answered in time as far as anybody knows.
    fn in_time(&self, trip: &Trip, ticket: Ticket) -> Result<Ticket, Status> {
        let Some(until) = trip.until.filter(|_| self.options.limits.refuse_late && trip.call.is_inference()) else {
            return Ok(ticket);
        };
        let left = until.since(clock::now());
        let wait = ticket.expected_wait();
        if wait <= left || self.node.picker().model(trip.call.model()).cost.is_unknown() {
            return Ok(ticket);
        }
        // Nothing was sent, so nothing runs.
        ticket.finish(Outcome::Refused);
        turned_down("late");
        let text =
            format!("the deadline in {left:.1?} cannot be met: the wait would be {wait:.1?} at the least busy pod");
        Err(refused(text, wait - left))
    }
}

/// Counts a request that no pod was sent.
fn turned_down(why: &'static str) {
    counter!("plimsoll_turned_down_total", "why" => why).increment(1);
}

/// RESOURCE_EXHAUSTED with the time after which another try makes sense, as gRPC's clients understand it.
fn refused(text: String, after: Duration) -> Status {
    let mut status = Status::resource_exhausted(text);
    let ms = after.min(LONGEST_PUSHBACK).as_millis().max(1);
    if let Ok(ms) = ms.to_string().parse() {
        status.metadata_mut().insert(PUSHBACK, ms);
    }
    status
}
