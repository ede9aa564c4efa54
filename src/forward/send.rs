//! The one road from a request to a pod's answer, for the channel and the fronts alike: pick, send, and pick again where
//! nothing of it ran.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response};
use smallvec::SmallVec;
use tonic::{Code, Status};

use super::answer::Answer;
use super::body::{Fault, RequestBody, Wrong, wrong};
use super::call::{Call, Kind};
use super::deadline::Deadline;
use super::line::Entry;
use super::models::{Missing, lacks};
use super::options::ForwardOptions;
use super::outcome::{Refusal, of_code};
use super::pin::say_pod;
use super::queue::{Line, WaitQueue};
use super::readmit::{check_soon, is_ending, unreachable};
use super::response::ResponseBody;
use super::retry::Budget;
use super::route::{Route, Sequences, route};
use super::shape::read_soon;
use super::upstream::{SendError, Unreachable, Upstream, deaf_to};
use crate::driver::clock;
use crate::id::PodId;
use crate::node::{Node, Ticket};
use crate::observe::Pod;
use crate::pick::{self, Outcome, PickError};
use crate::time::Time;

/// How long a caller whose own clock runs on is asked to wait at most.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(60);

/// What every request of one face goes through, and what it remembers of them.
#[derive(Debug)]
pub(super) struct Forwarder {
    pub(super) node: Node,
    pub(super) options: ForwardOptions,
    budget: Budget,
    queue: WaitQueue,
    sequences: Sequences,
}

/// A request on its way, and what was decided for it.
pub(super) struct Trip {
    pub(super) call: Call,
    pub(super) route: Route,
    /// When it is of no use any more.
    until: Option<Time>,
    /// Until when it may wait, as Triton's `timeout` says.
    waits_until: Option<Time>,
    fault: Fault,
    tried: Tried,
    /// How often it was sent again although a pod may have begun it, or failed it.
    again: u32,
    /// Its line in the access log.
    pub(super) line: Option<Box<Entry>>,
}

impl Trip {
    /// The way of `call`, whose caller waits until `until` at most.
    pub(super) fn new(call: Call, route: Route, until: Option<Time>) -> Trip {
        let waits_until = call.peek.parameters.timeout().map(|timeout| clock::now() + timeout);
        let until = [until, waits_until].into_iter().flatten().min();
        Trip { call, route, until, waits_until, fault: None, tried: Tried::default(), again: 0, line: None }
    }

    /// What its caller did wrong with its body, as far as it is known.
    fn wrong(&self) -> Option<Wrong> {
        wrong(&self.fault)
    }

    /// It was not sent to `pod`.
    pub(super) fn failed(&mut self, pod: Arc<Pod>, why: String) {
        self.tried.failed(pod, why);
    }
}

/// What became of one sending.
enum Sent {
    Answer(Ticket, Answer),
    Unsent(Ticket, Box<Request<RequestBody>>, Unreachable),
    Died(Ticket, String),
    /// The same, on a new connection.
    DiedAtOnce(Ticket, String),
    /// Its caller broke off, or sent too much.
    Abandoned(Ticket, String),
}

/// What the caller gets: an answer, and the ticket where it has not ended.
type Done = (Answer, Option<Ticket>, Arc<Pod>);

impl Forwarder {
    pub(super) fn new(node: Node, options: ForwardOptions) -> Forwarder {
        let (budget, queue) = (Budget::new(&options.retry), WaitQueue::new(&options.limits));
        Forwarder { node, options, budget, queue, sequences: Sequences::default() }
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

    async fn dispatch(&self, trip: &mut Trip, mut request: Request<RequestBody>) -> Result<Done, Status> {
        loop {
            let ticket = match self.pick(trip).await? {
                Ok(ticket) => ticket,
                Err(error) => return std::mem::take(&mut trip.tried).end(&error),
            };
            if let Some(line) = &mut trip.line {
                line.picked(&ticket);
            }
            let copy = copy_of(&trip.call, &request);
            let sent = match self.hedge_after(trip) {
                // Boxed: it holds two sendings, and every request would have to keep room for them.
                Some(after) => Box::pin(self.send_hedged(trip, ticket, request, after)).await,
                None => self.send(&trip.call, ticket, request).await,
            };
            let sent = match sent {
                // Over HTTP/2 it is the pod's stream that was reset, by this side.
                Sent::Died(ticket, why) if trip.wrong().is_some() => Sent::Abandoned(ticket, why),
                sent => sent,
            };
            let shut = match &sent {
                Sent::DiedAtOnce(ticket, _) if copy.is_some() => Some(ticket.pod().clone()),
                _ => None,
            };
            let unread = match shut {
                Some(pod) => Box::pin(is_ending(&pod)).await,
                None => false,
            };
            request = match sent {
                Sent::Answer(ticket, answer) => match self.judge(trip, ticket, answer, copy) {
                    Ok(done) => return Ok(done),
                    Err(again) => *again,
                },
                Sent::Died(ticket, why) | Sent::DiedAtOnce(ticket, why) => {
                    let pod = ticket.pod().clone();
                    ticket.finish(Outcome::Failed);
                    if unread {
                        check_soon(&pod);
                    }
                    let twice = self.may_run_twice(&trip.call);
                    let may = unread || (twice && self.budget.allows(trip.again));
                    match copy.filter(|_| trip.route.may_move() && may) {
                        Some(copy) => {
                            trip.again += u32::from(!unread);
                            trip.tried.failed(pod, why);
                            copy
                        }
                        None => return Err(died(&pod, &why)),
                    }
                }
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

    /// Passes the answer on, or says (by giving the request back) that it is to be picked for again.
    fn judge(
        &self,
        trip: &mut Trip,
        ticket: Ticket,
        answer: Answer,
        copy: Option<Request<RequestBody>>,
    ) -> Result<Done, Box<Request<RequestBody>>> {
        let pod = ticket.pod().clone();
        if let Some(span) = answer.push_back() {
            self.node.picker().hold_off(clock::now(), pod.id(), trip.call.model(), span);
        }
        let copy = copy.filter(|_| trip.route.may_move());
        let Some(refusal) = answer.refusal() else {
            let (code, text) = (answer.code(), answer.error.as_ref().map_or("", |error| error.message()));
            let again = code != Code::Ok && self.options.retry.codes.contains(&code);
            return match copy.filter(|_| again && self.budget.allows(trip.again)) {
                Some(copy) => {
                    trip.again += 1;
                    ticket.finish(of_code(code, text));
                    trip.tried.answered(pod, answer);
                    Err(copy.into())
                }
                None => Ok((answer, Some(ticket), pod)),
            };
        };
        ticket.finish(refusal.outcome());
        // Noted whether or not there is something to send again.
        let offered = self.offers(trip, refusal, &pod);
        match copy.filter(|_| offered) {
            Some(copy) => {
                trip.tried.answered(pod, answer);
                Err(copy.into())
            }
            None => Ok((answer, None, pod)),
        }
    }

    /// Notes that `pod` took nothing of a request, and says whether it is offered to another one.
    fn offers(&self, trip: &mut Trip, refusal: Refusal, pod: &Arc<Pod>) -> bool {
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
                let allowed = self.budget.allows(trip.again);
                trip.again += 1;
                allowed
            }
        };
        offered && trip.route.may_move()
    }

    /// The same of one request in a stream, whose ticket has ended; `said` is what its caller gets if nobody takes it.
    pub(super) fn offers_again(&self, trip: &mut Trip, refusal: Refusal, pod: &Arc<Pod>, said: Status) -> bool {
        let offered = self.offers(trip, refusal, pod);
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
                Err(error) => {
                    let tried = std::mem::take(&mut trip.tried);
                    return Err(tried.said.clone().unwrap_or_else(|| tried.status(&error)));
                }
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
    async fn pick(&self, trip: &Trip) -> Result<Result<Ticket, PickError>, Status> {
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
                let waited = self.queue.wait(line, priority, trip.until, || self.node.pick(&wanted));
                let waited = match trip.waits_until {
                    // As Triton says it of its own queue.
                    Some(until) => tokio::time::timeout(until.since(clock::now()), waited)
                        .await
                        .map_err(|_| Status::unavailable("Request timeout expired"))?,
                    None => waited.await,
                };
                waited.map_err(|full| refused(full.to_string(), Duration::from_secs(1)))?
            }
        };
        match picked {
            Ok(ticket) => self.in_time(trip, ticket).map(Ok),
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
        let text =
            format!("the deadline in {left:.1?} cannot be met: the wait would be {wait:.1?} at the least busy pod");
        Err(refused(text, wait - left))
    }

    async fn send(&self, call: &Call, ticket: Ticket, request: Request<RequestBody>) -> Sent {
        let pod = ticket.pod();
        self.read_shape(call, pod);
        match Upstream::of(pod).send(call.face, request, self.options.connect_timeout).await {
            Ok(response) => match Answer::of(call.face, response).await {
                Ok(answer) => Sent::Answer(ticket, answer),
                Err(why) => Sent::Died(ticket, why),
            },
            // What went wrong with the request's own body.
            Err(SendError::Died(error) | SendError::DiedAtOnce(error)) if error.is_user() => {
                Sent::Abandoned(ticket, super::upstream::causes(&error))
            }
            Err(SendError::Died(error)) => Sent::Died(ticket, super::upstream::causes(&error)),
            Err(SendError::DiedAtOnce(error)) => Sent::DiedAtOnce(ticket, super::upstream::causes(&error)),
            Err(SendError::Unsent(unsent, why)) => Sent::Unsent(ticket, unsent, why),
        }
    }

    /// Sees to it that it is known soon how the pod runs the model.
    fn read_shape(&self, call: &Call, pod: &Arc<Pod>) {
        if self.options.read_model_config && call.is_inference() {
            read_soon(self.node.picker(), pod, call.model());
        }
    }

    fn hedge_after(&self, trip: &Trip) -> Option<Duration> {
        let model = self.options.model(trip.call.model())?;
        if !model.idempotent || trip.call.kind != Kind::Infer {
            return None;
        }
        model.hedge_after.filter(|_| matches!(trip.route, Route::Free | Route::Near(_)))
    }

    /// The same as [`Forwarder::send`], with a second pod asked where the first takes long. The loser is dropped: its pod runs
    /// it all the same, so its cost stays charged until its predicted end.
    async fn send_hedged(
        &self,
        trip: &mut Trip,
        ticket: Ticket,
        request: Request<RequestBody>,
        after: Duration,
    ) -> Sent {
        let copy = copy_of(&trip.call, &request);
        let first_pod = ticket.pod().clone();
        let call = &trip.call;
        let mut first = pin!(self.send(call, ticket, request));
        let copy = tokio::select! {
            biased;
            sent = &mut first => return sent,
            () = tokio::time::sleep(after) => copy,
        };
        let Some(copy) = copy.filter(|_| self.budget.allows(trip.again)) else { return first.await };
        let deaf = deaf_to(call.face, self.node.picker()).unwrap_or_default();
        let most = self.options.limits.in_flight_per_pod.map(NonZeroU32::get);
        let excluded: SmallVec<[PodId; 4]> = trip.tried.ids().into_iter().chain(deaf).chain([first_pod.id()]).collect();
        let wanted = pick::Request::new(call.model()).bytes(call.peek.bytes).exclude(&excluded).at_most(most);
        let Ok(second) = self.node.pick(&wanted) else { return first.await };
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

/// The caller gets `status` and no answer of a pod's: so says the access log.
pub(super) fn failed(line: &mut Option<Box<Entry>>, status: Status) -> Status {
    if let Some(line) = line {
        line.fail(&status);
    }
    status
}

/// A hedge that lost by failing.
fn finish_failed(call: &Call, sent: Sent) {
    match sent {
        Sent::Answer(ticket, answer) => {
            ticket.finish(answer.refusal().map_or_else(|| of_code(answer.code(), ""), Refusal::outcome));
        }
        Sent::Died(ticket, _) | Sent::DiedAtOnce(ticket, _) => ticket.finish(Outcome::Failed),
        Sent::Abandoned(ticket, _) => ticket.finish(Outcome::Cancelled),
        Sent::Unsent(ticket, _, why) => {
            unreachable(call.face, ticket.pod(), &why);
            ticket.finish(Outcome::Failed);
        }
    }
}

/// A second copy of an inference that is here as a whole: its bytes are shared, its headers are not.
fn copy_of(call: &Call, request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = if call.kind == Kind::Infer { request.body().copy()? } else { return None };
    let mut copy = Request::new(body);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    // The headers' names as they were written.
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

/// The status of a request that was lost on its pod.
pub(super) fn died(pod: &Pod, why: &str) -> Status {
    Status::unavailable(format!(
        "pod `{}` broke off before it answered, and may have begun the request: {why}",
        pod.name()
    ))
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

/// gRPC's trailer for "try again in so many milliseconds" (gRFC A6).
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The pods that did not take one request, and why. Empty for all but a few.
#[derive(Default)]
struct Tried {
    pods: SmallVec<[(Arc<Pod>, Option<String>); 1]>,
    /// How many of them were full, or did not have the version.
    full: u32,
    /// Whether it was news of one of them that it lacks the model.
    news: bool,
    /// The last answer of a pod that did not take it: what the caller gets if none does.
    answer: Option<(Answer, Arc<Pod>)>,
    /// The same where it was said inside of a stream.
    said: Option<Status>,
}

impl Tried {
    fn failed(&mut self, pod: Arc<Pod>, why: String) {
        self.pods.push((pod, Some(why)));
    }

    fn answered(&mut self, pod: Arc<Pod>, answer: Answer) {
        self.pods.push((pod.clone(), None));
        self.answer = Some((answer, pod));
    }

    fn ids(&self) -> SmallVec<[PodId; 4]> {
        self.pods.iter().map(|(pod, _)| pod.id()).collect()
    }

    /// What the caller gets when nothing is left to pick.
    fn end(self, error: &PickError) -> Result<Done, Status> {
        match self.answer {
            Some((answer, pod)) => Ok((answer, None, pod)),
            None => Err(self.status(error)),
        }
    }

    fn status(&self, error: &PickError) -> Status {
        match self.pods.is_empty() {
            true => Status::unavailable(error.to_string()),
            false => Status::unavailable(format!("no pod could be reached: {}", self.text())),
        }
    }

    /// What the caller gets when the one pod that could take it cannot be reached.
    fn lost(self, route: &Route) -> Status {
        let what = match route.sequence() {
            Some((model, id)) => {
                format!("sequence {id} of model `{model}` is lost, begin it again with sequence_start: ")
            }
            None => String::new(),
        };
        Status::unavailable(format!("{what}no pod could be reached: {}", self.text()))
    }

    fn text(&self) -> String {
        let why = |(pod, why): &(Arc<Pod>, Option<String>)| {
            format!("`{}` ({}): {}", pod.name(), pod.spec().grpc, why.as_deref().unwrap_or_default())
        };
        self.pods.iter().map(why).collect::<Vec<_>>().join("; ")
    }
}
