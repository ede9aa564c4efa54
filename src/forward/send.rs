//! The one road from a request to a pod's answer, for the channel and the fronts alike: pick, send, and pick again where
//! nothing of it ran.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response};
use metrics::counter;
use tonic::{Code, Status};

use super::answer::Answer;
use super::body::RequestBody;
use super::call::{Call, Kind};
use super::deadline::Deadline;
use super::line::Entry;
use super::models::{Missing, lacks};
use super::options::ForwardOptions;
use super::outcome::{Refusal, of_code};
use super::pin::say_pod;
use super::queue::WaitQueue;
use super::readmit::{check_soon, is_ending, unreachable};
use super::replay::Replay;
use super::response::ResponseBody;
use super::retry::Budget;
use super::room::Room;
use super::route::{Route, Sequences, route};
use super::shape::read_soon;
use super::trip::{Done, Trip};
use super::upstream::{Lost, SendError, Unreachable, Upstream};
use crate::driver::clock;
use crate::node::{Node, Ticket};
use crate::observe::Pod;
use crate::pick::Outcome;
use crate::time::Time;

/// What every request of one face goes through, and what it remembers of them.
#[derive(Debug)]
pub(super) struct Forwarder {
    pub(super) node: Node,
    pub(super) options: ForwardOptions,
    pub(super) budget: Budget,
    pub(super) queue: WaitQueue,
    /// For what may be sent again.
    pub(super) room: Arc<Room>,
    pub(super) sequences: Sequences,
}

/// What became of one sending.
#[expect(clippy::large_enum_variant, reason = "the largest one is the usual one")]
pub(super) enum Sent {
    Answer(Ticket, Answer),
    Unsent(Ticket, Box<Request<RequestBody>>, Unreachable),
    Lost(Ticket, Lost),
    /// Its caller broke off, or sent too much.
    Abandoned(Ticket, String),
}

impl Forwarder {
    pub(super) fn new(node: Node, options: ForwardOptions) -> Forwarder {
        let (budget, queue) = (Budget::new(&options.retry), WaitQueue::new(&options.limits));
        let room = Room::new(&options.retry);
        Forwarder { node, options, budget, queue, room, sequences: Sequences::default() }
    }

    /// Sends `request` to a pod of this node's choice and returns its response, with the ticket inside.
    ///
    /// A pod that cannot be reached is ejected and the next one is picked, each once; so is another one where a pod took nothing
    /// of it ([`Refusal`]) and the request is at hand to be sent again: the caller sees none of it while another pod is left.
    /// A request that a pod may have begun is sent again only where its model's options or the retry's codes allow it, and the
    /// budget. Nothing is sent again once a byte of an answer went to the caller.
    ///
    /// # Errors
    /// UNAVAILABLE, naming the pods and what was wrong with them; DEADLINE_EXCEEDED when the caller's deadline passes;
    /// RESOURCE_EXHAUSTED where it could not be kept, or too many wait.
    pub(super) async fn forward(
        self: &Arc<Self>,
        mut call: Call,
        mut request: Request<RequestBody>,
        mut deadline: Deadline,
    ) -> Result<Response<ResponseBody>, Status> {
        self.node.look_after_pods();
        call.peek.parameters.heed(request.headers());
        let mut line = self.line(&call, request.method(), request.uri().path(), request.headers());
        let route = self.route(&call, request.headers_mut()).map_err(|status| failed(&mut line, status))?;
        self.budget.count();
        let fault = request.body_mut().watch();
        let mut trip = Trip { fault, line, ..Trip::new(call, route, deadline.until()) };
        let done = {
            // Pinned here: `within` would hold it twice, as an argument and where it is polled.
            let dispatched = pin!(self.dispatch(&mut trip, request));
            deadline.within(dispatched).await
        };
        let (answer, ticket, pod) = done.map_err(|status| failed(&mut trip.line, status))?;
        self.note_sequence(&trip, answer.refusal(), answer.error.is_none(), &pod);
        let freed = self.options.limits.in_flight_per_pod.is_some().then(|| self.clone());
        let mut line = trip.line.take();
        if let Some(line) = &mut line {
            line.answered(&pod);
        }
        let mut response = ResponseBody::carry(trip.call.face, answer, ticket, deadline, freed, line, trip.fault);
        say_pod(response.headers_mut(), &pod);
        Ok(response)
    }

    /// Which pods may take `call`, for the first time at least.
    pub(super) fn route(&self, call: &Call, headers: &mut HeaderMap) -> Result<Route, Status> {
        route(&self.node, &self.options, &self.sequences, call, headers)
    }

    /// The line of `call` in the access log, if it gets one.
    pub(super) fn line(&self, call: &Call, method: &Method, path: &str, headers: &HeaderMap) -> Option<Box<Entry>> {
        Entry::begin(self.options.access_log.as_ref()?, call, method, path, headers)
    }

    /// A request is over: there may be room for another.
    pub(super) fn freed(&self) {
        self.queue.wake();
    }

    async fn dispatch(&self, trip: &mut Trip, request: Request<RequestBody>) -> Result<Done, Status> {
        let (mut request, replay) = self.kept(trip, request);
        loop {
            let ticket = match self.pick(trip).await? {
                Ok(ticket) => ticket,
                Err(error) => return std::mem::take(&mut trip.tried).end(&error),
            };
            if let Some(line) = &mut trip.line {
                line.picked(&ticket);
            }
            let sent = match self.hedge_after(trip) {
                // Boxed: it holds two sendings, and every request would have to keep room for them.
                Some(after) => Box::pin(self.send_hedged(trip, ticket, request, replay.as_ref(), after)).await,
                None => self.send(&trip.call, ticket, request).await,
            };
            let sent = match sent {
                // Over HTTP/2 it is the pod's stream that was reset, by this side.
                Sent::Lost(ticket, lost) if trip.wrong().is_some() => Sent::Abandoned(ticket, lost.to_string()),
                sent => sent,
            };
            request = match sent {
                Sent::Answer(ticket, answer) => match self.judge(trip, ticket, answer, replay.as_ref()) {
                    Ok(done) => return Ok(done),
                    Err(again) => *again,
                },
                Sent::Lost(ticket, lost) => Box::pin(self.lose(trip, ticket, lost, replay.as_ref())).await?,
                Sent::Abandoned(ticket, why) => {
                    ticket.finish(Outcome::Cancelled);
                    return Err(trip.wrong().map_or_else(|| Status::cancelled(why), Status::from));
                }
                Sent::Unsent(ticket, unsent, why) => {
                    let pod = ticket.pod().clone();
                    ticket.finish(Outcome::Failed);
                    unreachable(trip.call.face, &pod, &why);
                    trip.tried.failed(pod, why.to_string());
                    if !trip.route.may_move() {
                        return Err(std::mem::take(&mut trip.tried).lost(&trip.route));
                    }
                    *unsent
                }
            };
        }
    }

    /// Keeps of `request` what is sent of it, where it may be sent again: an inference that may go to other pods.
    fn kept(&self, trip: &Trip, request: Request<RequestBody>) -> (Request<RequestBody>, Option<Replay>) {
        if trip.call.kind != Kind::Infer || !trip.route.may_move() {
            return (request, None);
        }
        let (request, replay) = Replay::of(request, &self.room);
        (request, Some(replay))
    }

    /// The request for another pod, where it may run twice, or was not even read.
    async fn lose(
        &self,
        trip: &mut Trip,
        ticket: Ticket,
        lost: Lost,
        replay: Option<&Replay>,
    ) -> Result<Request<RequestBody>, Status> {
        let (pod, replay) = (ticket.pod().clone(), replay.filter(|replay| replay.is_possible()));
        let unread =
            lost.is_unread() || matches!(lost, Lost::Unanswered(_)) && replay.is_some() && is_ending(&pod).await;
        ticket.finish(lost.outcome());
        if unread {
            check_soon(&pod);
        }
        let may = |replay: &&Replay| {
            replay.is_possible() && (unread || self.may_run_twice(&trip.call) && self.budget.allows(trip.again))
        };
        match replay.filter(may).and_then(Replay::again) {
            Some(again) => {
                sent_again(if unread { "unread" } else { "lost" });
                trip.again += u32::from(!unread);
                // What was wrong may be the connection alone: once, the same pod may take it on another one.
                if !lost.is_unread() || std::mem::replace(&mut trip.was_unread, true) {
                    trip.tried.failed(pod, lost.to_string());
                }
                Ok(again)
            }
            None => Err(lost.status(&pod, false)),
        }
    }

    /// Passes the answer on, or says (by giving the request back) that it is to be picked for again.
    fn judge(
        &self,
        trip: &mut Trip,
        ticket: Ticket,
        answer: Answer,
        replay: Option<&Replay>,
    ) -> Result<Done, Box<Request<RequestBody>>> {
        let pod = ticket.pod().clone();
        self.spare(&trip.call, &pod, answer.push_back());
        let replay = replay.filter(|replay| replay.is_possible());
        let Some(refusal) = answer.refusal() else {
            let (code, text) = (answer.code(), answer.error.as_ref().map_or("", |error| error.message()));
            if code == Code::Ok {
                Upstream::of(&pod).stubs.serves(trip.call.model());
            }
            let again = code != Code::Ok && self.options.retry.codes.contains(&code);
            return match replay.filter(|_| again && self.budget.allows(trip.again)).and_then(Replay::again) {
                Some(request) => {
                    sent_again("status");
                    trip.again += 1;
                    ticket.finish(of_code(code, text));
                    trip.tried.answered(pod, answer);
                    Err(request.into())
                }
                None => Ok((answer, Some(ticket), pod)),
            };
        };
        let sent = ticket.started();
        ticket.finish(refusal.outcome());
        // Noted whether or not there is something to send again.
        let offered = self.offers(trip, refusal, &pod, sent);
        match replay.filter(|_| offered).and_then(Replay::again) {
            Some(request) => {
                sent_again("refused");
                trip.tried.answered(pod, answer);
                Err(request.into())
            }
            None => Ok((answer, None, pod)),
        }
    }

    /// Leaves `pod` alone for the model of `call` for as long as it asks to be.
    pub(super) fn spare(&self, call: &Call, pod: &Pod, push_back: Option<Duration>) {
        if let Some(span) = push_back {
            self.node.picker().hold_off(clock::now(), pod.id(), call.model(), span);
        }
    }

    /// Notes that `pod` took nothing of a request that was sent at `sent`, and says whether it is offered to another one.
    pub(super) fn offers(&self, trip: &mut Trip, refusal: Refusal, pod: &Arc<Pod>, sent: Time) -> bool {
        // A refusal is a sign of life.
        pod.heard(clock::now());
        self.freed();
        let offered = match refusal {
            Refusal::QueueFull => {
                trip.tried.full += 1;
                trip.tried.full <= self.options.after_refusal
            }
            Refusal::Leaving => {
                check_soon(pod);
                true
            }
            Refusal::Missing(missing) => {
                // A version is looked for on few others: which of them have it is not known.
                trip.tried.full += u32::from(missing == Missing::Version);
                // Noted whatever comes of it.
                lacks(self.node.picker(), pod, trip.call.model(), missing, &mut trip.tried.news)
                    && trip.tried.full <= self.options.after_refusal
            }
            Refusal::NoSequence => matches!(trip.route, Route::Continues(..)),
            Refusal::DeadStub => {
                // It may be the very request that killed it, and would kill the next one.
                let took_nothing = Upstream::of(pod).stubs.was_dead(trip.call.model(), sent, clock::now());
                let may = took_nothing || self.may_run_twice(&trip.call);
                let may = may && trip.again == 0 && self.budget.allows(trip.again);
                trip.again += 1;
                may
            }
        };
        offered && trip.route.may_move()
    }

    /// The same of one request in a stream, whose ticket has ended; `said` is what its caller gets if nobody takes it.
    pub(super) fn offers_again(
        &self,
        trip: &mut Trip,
        refusal: Refusal,
        (pod, sent): (&Arc<Pod>, Time),
        said: Status,
    ) -> bool {
        let offered = self.offers(trip, refusal, pod, sent);
        trip.tried.pods.push((pod.clone(), None));
        trip.tried.said = Some(said);
        offered
    }

    /// Whether one request in a stream that was lost on its pod is sent to another one.
    pub(super) fn sends_again(&self, trip: &mut Trip, pod: &Arc<Pod>, why: &str) -> bool {
        let may = trip.route.may_move() && self.may_run_twice(&trip.call) && self.budget.allows(trip.again);
        trip.again += 1;
        trip.tried.failed(pod.clone(), why.to_owned());
        may
    }

    pub(super) fn may_run_twice(&self, call: &Call) -> bool {
        self.options.model(call.model()).is_some_and(|model| model.idempotent)
    }

    pub(super) async fn send(&self, call: &Call, ticket: Ticket, request: Request<RequestBody>) -> Sent {
        let pod = ticket.pod();
        self.read_shape(call, pod);
        match Upstream::of(pod).send(call.face, request, self.options.connect_timeout).await {
            Ok(response) => match Answer::of(call.face, response).await {
                Ok(answer) => Sent::Answer(ticket, answer),
                Err(lost) => Sent::Lost(ticket, lost),
            },
            Err(SendError::Lost(lost)) if lost.is_callers() => Sent::Abandoned(ticket, lost.to_string()),
            Err(SendError::Lost(lost)) => Sent::Lost(ticket, lost),
            Err(SendError::Unsent(unsent, why)) => Sent::Unsent(ticket, unsent, why),
        }
    }

    /// Sees to it that it is known soon how the pod runs the model.
    pub(super) fn read_shape(&self, call: &Call, pod: &Arc<Pod>) {
        if self.options.read_model_config && call.is_inference() {
            read_soon(self.node.picker(), pod, call.model());
        }
    }

    /// Remembers which pod has the beginning of a sequence, and forgets the ones that ended.
    pub(super) fn note_sequence(&self, trip: &Trip, refusal: Option<Refusal>, is_good: bool, pod: &Pod) {
        let (Some(key), Some(sequence)) = (trip.route.sequence(), trip.call.peek.parameters.sequence()) else { return };
        if sequence.end && is_good || refusal == Some(Refusal::NoSequence) {
            self.sequences.forget(key);
        } else if is_good {
            self.sequences.hold(key.clone(), pod.id());
        }
    }
}

/// Counts a request that goes to a pod once more.
pub(super) fn sent_again(why: &'static str) {
    counter!("plimsoll_sent_again_total", "why" => why).increment(1);
}

/// The caller gets `status` and no answer of a pod's: so says the access log.
pub(super) fn failed(line: &mut Option<Box<Entry>>, status: Status) -> Status {
    if let Some(line) = line {
        line.fail(&status);
    }
    status
}

/// gRPC's trailer for "try again in so many milliseconds" (gRFC A6).
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";
