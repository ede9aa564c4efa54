//! What is done when a pod says something: an answer ends a request's ticket, or has the request sent to another pod.

use std::sync::Arc;

use http::HeaderMap;
use http_body::Frame;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::inbound::Pieces;
use super::legs::{Event, Leg};
use super::reply::headers_of;
use super::requests::Open;
use super::said::Said;
use super::{Over, Work};
use crate::forward::answer::push_back_in;
use crate::forward::call::Face;
use crate::forward::line::code_in;
use crate::forward::outcome::{Refusal, is_ok, outcome_of};
use crate::forward::readmit::unreachable;
use crate::forward::send::sent_again;
use crate::forward::shape::answers_many;
use crate::forward::upstream::{Lost, Unreachable};
use crate::observe::Pod;
use crate::pick::Outcome;

impl Work {
    pub(super) fn pod(&mut self, id: u64, event: Event) -> Result<(), Over> {
        match event {
            // With a request under way it waits for the answer: another pod may yet be the one that gives it.
            Event::Head if !self.requests.any_on(id) => self.begin_by(id),
            Event::Head => {}
            Event::Answer { said, pieces, whole } => self.answer(id, &said, pieces, whole),
            Event::More(bytes) => self.outbox.push_back(Frame::data(bytes)),
            Event::Ended(status) => self.ended(id, status)?,
            Event::Unsent(why) => self.unsent(id, &why)?,
            Event::Lost(lost) => self.broke(id, &lost)?,
        }
        self.close()
    }

    fn answer(&mut self, id: u64, said: &Said, pieces: Pieces, whole: bool) {
        let found = self.requests.find(id, said);
        match (found, said.refusal().filter(|_| found.is_some_and(|index| self.may_move(index)))) {
            (Some(index), Some(refusal)) => {
                if self.moves(index, refusal, said) {
                    self.legs.get(id).into_iter().for_each(|leg| leg.drop_answer(whole));
                    return;
                }
            }
            (Some(index), None) => {
                self.note(index, said);
                self.account(index, said, &pieces);
            }
            // To a request that was taken to be over.
            (None, _) => {}
        }
        self.begin_by(id);
        self.outbox.extend(pieces.into_iter().map(Frame::data));
    }

    /// Whether a request that its pod took nothing of could be sent to another one. Where an answer may mean another request as
    /// well, sending this one again might run it twice.
    fn may_move(&mut self, index: usize) -> bool {
        let is_clear = !self.requests.is_ambiguous(index);
        let open = self.requests.get(index);
        is_clear && open.copy.is_some() && open.trip.route.may_move()
    }

    /// Remembers why a pod took nothing of a request that is not sent again: the next is better sent elsewhere. Where an answer
    /// may mean another request, it may mean another model.
    fn note(&mut self, index: usize, said: &Said) {
        let Some(refusal) = said.refusal().filter(|_| !self.requests.is_ambiguous(index)) else { return };
        let open = self.requests.get(index);
        if let Some(leg) = self.legs.get(open.leg) {
            let sent = open.sent();
            self.forwarder.offers(&mut open.trip, refusal, &leg.pod, sent);
        }
    }

    /// Ends the ticket of a request that its pod took nothing of, and says whether it goes to another one.
    fn moves(&mut self, index: usize, refusal: Refusal, said: &Said) -> bool {
        let open = self.requests.remove(index);
        let leg = open.leg;
        let Some(pod) = self.legs.get(leg).map(|leg| leg.pod.clone()) else { return false };
        let sent = open.sent();
        let (mut trip, copy) = self.requests.end(open, refusal.outcome(), false);
        let why = Status::unavailable(said.error.clone().unwrap_or_default());
        let offered = self.forwarder.offers_again(&mut trip, refusal, (&pod, sent), why);
        let Some(copy) = copy.filter(|_| offered) else { return false };
        sent_again("refused");
        if refusal != Refusal::QueueFull {
            self.forget(leg);
        }
        self.inbound.send_again(trip, copy);
        true
    }

    /// Ends the ticket of a request that `said` is the last answer to.
    fn account(&mut self, index: usize, said: &Said, pieces: &Pieces) {
        let open = self.requests.get(index);
        let pod = self.legs.get(open.leg).map(|leg| leg.pod.clone());
        if let Some(pod) = pod.as_ref().filter(|_| open.answered.is_none()) {
            self.forwarder.note_sequence(&open.trip, said.refusal(), said.error.is_none(), pod);
        }
        let model = open.trip.call.model();
        let more = said.error.is_none()
            && match said.is_final {
                Some(is_final) => !is_final,
                None => pod.is_some_and(|pod| answers_many(&pod, model)),
            };
        self.requests.answered(index, said, pieces);
        if more {
            if said.is_final.is_none() && self.quiet.is_none() {
                self.quiet = self.requests.end_silent().map(|left| Box::pin(sleep(left)));
            }
            return;
        }
        let open = self.requests.remove(index);
        let outcome = said.refusal().map_or(Outcome::Served, Refusal::outcome);
        let _ = self.requests.end(open, outcome, said.error.is_none());
    }

    /// A pod has ended its side.
    fn ended(&mut self, id: u64, status: Option<HeaderMap>) -> Result<(), Over> {
        let Some(leg) = self.legs.remove(id) else { return Ok(()) };
        let without = || headers_of(&Status::unavailable(format!("pod `{}` ended without a status", leg.pod.name())));
        let status = status.unwrap_or_else(without);
        let outcome = outcome_of(&status);
        let is_own = self.forget(id);
        let mut lost = self.requests.remove_all(id);
        let push_back = push_back_in(&status).filter(|_| !is_ok(&status));
        lost.iter().for_each(|open| self.forwarder.spare(&open.trip.call, &leg.pod, push_back));
        if let Some(refusal) = refusal_in(&status) {
            if self.may_all_move(&lost) {
                return self.refused(lost, &leg, refusal, &status);
            }
            for open in &mut lost {
                let sent = open.sent();
                self.forwarder.offers(&mut open.trip, refusal, &leg.pod, sent);
            }
        }
        // A good end is the stream's where its caller could still have asked; not while a request waits for another pod.
        let too_early = !self.inbound.has_ended() && !self.inbound.has_again();
        let by_it = is_own && (outcome != Outcome::Served || too_early);
        let last = self.legs.is_empty() && self.inbound.has_ended() && (is_own || lost.is_empty());
        if by_it || last || leg.is_in_answer() {
            for mut open in lost {
                open.code = code_in(&status);
                let _ = self.requests.end(open, outcome, false);
            }
            self.status = Some(status);
            return self.end_by(leg);
        }
        let text = Status::from_header_map(&status).map(|status| status.message().to_owned());
        let told = broke_off(&leg.pod, text.as_deref().unwrap_or("it ended the stream"));
        for open in lost {
            self.lost(open, &leg.pod, outcome, &told)?;
        }
        self.status = Some(status);
        Ok(())
    }

    /// Whether all requests on one side can go to another pod, where that took nothing of them.
    fn may_all_move(&self, lost: &[Open]) -> bool {
        let may = |open: &Open| open.copy.is_some() && open.answered.is_none() && open.trip.route.may_move();
        self.begin.is_some() && !lost.is_empty() && lost.iter().all(may)
    }

    fn refused(
        &mut self,
        lost: impl IntoIterator<Item = Open>,
        leg: &Leg,
        refusal: Refusal,
        status: &HeaderMap,
    ) -> Result<(), Over> {
        let status = Status::from_header_map(status).unwrap_or_else(|| Status::unknown(""));
        for open in lost {
            let sent = open.sent();
            let (mut trip, copy) = self.requests.end(open, refusal.outcome(), false);
            let again = self.forwarder.offers_again(&mut trip, refusal, (&leg.pod, sent), status.clone());
            match copy.filter(|_| again) {
                Some(copy) => {
                    sent_again("refused");
                    self.inbound.send_again(trip, copy);
                }
                None => self.fail(&trip.call, &status, false)?,
            }
        }
        Ok(())
    }

    /// Nothing came to the pod.
    fn unsent(&mut self, id: u64, why: &Unreachable) -> Result<(), Over> {
        let Some(leg) = self.legs.remove(id) else { return Ok(()) };
        self.forget(id);
        unreachable(Face::Grpc, &leg.pod, why);
        for open in self.requests.remove_all(id) {
            let (mut trip, copy) = self.requests.end(open, Outcome::Failed, false);
            trip.failed(leg.pod.clone(), why.to_string());
            match copy.filter(|_| trip.route.may_move()) {
                Some(copy) => self.inbound.send_again(trip, copy),
                None => self.fail(&trip.call, &unreached(&leg.pod, why), false)?,
            }
        }
        if self.begin.is_some() && self.inbound.has_ended() && self.legs.is_empty() {
            return self.end_with(&unreached(&leg.pod, why));
        }
        Ok(())
    }

    /// A pod broke off, or was given up.
    fn broke(&mut self, id: u64, lost: &Lost) -> Result<(), Over> {
        let Some(leg) = self.legs.remove(id) else { return Ok(()) };
        let is_own = self.forget(id);
        let open = self.requests.remove_all(id);
        let all_again = !open.is_empty() && open.iter().all(|open| self.may_run_again(open));
        let may_go_on = !leg.is_in_answer() && (!is_own || all_again);
        if !may_go_on {
            for open in open {
                let _ = self.requests.end(open, lost.outcome(), false);
            }
            return self.end_with(&lost.status(&leg.pod, self.begin.is_none()));
        }
        let told = lost.status(&leg.pod, true);
        for open in open {
            self.lost(open, &leg.pod, lost.outcome(), &told)?;
        }
        Ok(())
    }

    fn may_run_again(&self, open: &Open) -> bool {
        open.copy.is_some() && open.trip.route.may_move() && self.forwarder.may_run_twice(&open.trip.call)
    }

    /// A request had no (last) answer when its pod ended: it is sent again if it may run twice, or its caller is told.
    fn lost(&mut self, mut open: Open, pod: &Arc<Pod>, outcome: Outcome, told: &Status) -> Result<(), Over> {
        let may = self.may_run_again(&open);
        open.code = Some(told.code() as i32);
        let (mut trip, copy) = self.requests.end(open, outcome, false);
        match copy.filter(|_| may && self.forwarder.sends_again(&mut trip, pod, told.message())) {
            Some(copy) => {
                sent_again("lost");
                self.inbound.send_again(trip, copy);
            }
            None => self.fail(&trip.call, told, false)?,
        }
        Ok(())
    }

    /// The stream keeps to this side no longer; says whether it did.
    fn forget(&mut self, leg: u64) -> bool {
        self.own.take_if(|(own, _)| *own == leg).is_some()
    }
}

/// Why nothing ran, where `status` says so.
fn refusal_in(status: &HeaderMap) -> Option<Refusal> {
    let status = Status::from_header_map(status).filter(|status| status.code() != Code::Ok)?;
    Refusal::of(status.code(), status.message())
}

fn unreached(pod: &Pod, why: &Unreachable) -> Status {
    Status::unavailable(format!("pod `{}` could not be reached: {why}", pod.name()))
}

fn broke_off(pod: &Pod, why: &str) -> Status {
    Status::unavailable(format!("pod `{}` broke off while it answered: {why}", pod.name()))
}
