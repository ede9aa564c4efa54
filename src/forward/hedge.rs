//! A second pod asked where the first takes long, and the first answer counts.

use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use http::Request;
use smallvec::SmallVec;
use tonic::Code;

use super::body::RequestBody;
use super::call::{Call, Kind};
use super::outcome::{Refusal, of_code};
use super::readmit::unreachable;
use super::replay::Replay;
use super::route::Route;
use super::send::{Forwarder, Sent, sent_again};
use super::trip::Trip;
use super::upstream::deaf_to;
use crate::id::PodId;
use crate::node::Ticket;
use crate::pick::{self, Outcome};

impl Forwarder {
    pub(super) fn hedge_after(&self, trip: &Trip) -> Option<Duration> {
        let model = self.options.model(trip.call.model())?;
        if !model.idempotent || trip.call.kind != Kind::Infer {
            return None;
        }
        model.hedge_after.filter(|_| matches!(trip.route, Route::Free | Route::Near(_)))
    }

    /// The same as [`Forwarder::send`], with a second pod asked where the first takes long. The loser is dropped: its pod runs
    /// it all the same, so its cost stays charged until its predicted end.
    pub(super) async fn send_hedged(
        &self,
        trip: &mut Trip,
        ticket: Ticket,
        request: Request<RequestBody>,
        replay: Option<&Replay>,
        after: Duration,
    ) -> Sent {
        let first_pod = ticket.pod().clone();
        let call = &trip.call;
        let mut first = pin!(self.send(call, ticket, request));
        tokio::select! {
            biased;
            sent = &mut first => return sent,
            () = tokio::time::sleep(after) => {}
        }
        let copy = replay.and_then(Replay::beside);
        let Some(copy) = copy.filter(|_| self.budget.allows(trip.again)) else { return first.await };
        let deaf = deaf_to(call.face, self.node.picker()).unwrap_or_default();
        let most = self.options.limits.in_flight_per_pod.map(NonZeroU32::get);
        let excluded: SmallVec<[PodId; 4]> = trip.tried.ids().into_iter().chain(deaf).chain([first_pod.id()]).collect();
        let wanted = pick::Request::new(call.model()).bytes(call.peek.bytes).exclude(&excluded).at_most(most);
        let Ok(second) = self.node.pick(&wanted) else { return first.await };
        sent_again("hedge");
        trip.again += 1;
        if let Some(line) = &mut trip.line {
            line.picked(&second);
        }
        let mut second = pin!(self.send(call, second, copy));
        // A failure does not win against an answer that may still come.
        let won = |sent: &Sent| matches!(sent, Sent::Answer(_, answer) if answer.code() == Code::Ok);
        tokio::select! {
            sent = &mut first => if won(&sent) { sent } else { finish_failed(call, sent); second.await },
            sent = &mut second => if won(&sent) { sent } else { finish_failed(call, sent); first.await },
        }
    }
}

/// A hedge that lost by failing.
fn finish_failed(call: &Call, sent: Sent) {
    match sent {
        Sent::Answer(ticket, answer) => {
            ticket.finish(answer.refusal().map_or_else(|| of_code(answer.code(), ""), Refusal::outcome));
        }
        Sent::Lost(ticket, lost) => ticket.finish(lost.outcome()),
        Sent::Abandoned(ticket, _) => ticket.finish(Outcome::Cancelled),
        Sent::Unsent(ticket, _, why) => {
            unreachable(call.face, ticket.pod(), &why);
            ticket.finish(Outcome::Failed);
        }
    }
}
