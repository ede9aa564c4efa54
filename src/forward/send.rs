//! The one road from a request to a pod's response, for the channel and the front alike.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use smallvec::SmallVec;
use tonic::Status;

use super::ForwardOptions;
use super::body::{Passed, RequestBody, Stream};
use super::deadline::Deadline;
use super::models::{Missing, lacks, missing};
use super::outcome::is_queue_full;
use super::readmit::eject;
use super::response::ResponseBody;
use super::shape::read_soon;
use super::upstream::{SendError, Unreachable, Upstream};
use crate::id::PodId;
use crate::node::{Node, Ticket};
use crate::observe::{Cost, Pod};
use crate::pick::{self, Outcome, PickError};

const SERVICE: &str = "/inference.GRPCInferenceService/";

/// How a call is treated, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One inference: charged by what its model's requests of its size were seen to cost.
    Infer,
    /// A stream of inferences: the same, by its first message.
    Stream,
    /// About one model, and no inference: no work.
    AboutModel,
    /// Anything else that Triton serves: no work.
    Other,
}

impl Kind {
    /// The kind of the call to `path`; none where it is not Triton's.
    pub(super) fn of(path: &str) -> Option<Kind> {
        Some(match path.strip_prefix(SERVICE)? {
            "ModelInfer" => Kind::Infer,
            "ModelStreamInfer" => Kind::Stream,
            "ModelMetadata" | "ModelConfig" | "ModelStatistics" => Kind::AboutModel,
            _ => Kind::Other,
        })
    }

    fn cost(self) -> Option<Cost> {
        match self {
            Kind::Infer | Kind::Stream => None,
            Kind::AboutModel | Kind::Other => Some(Cost::ZERO),
        }
    }
}

/// What a pick needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) kind: Kind,
    pub(super) model: &'a str,
    pub(super) bytes: u64,
    pub(super) connect_timeout: Duration,
    pub(super) after_refusal: u32,
    pub(super) read_model_config: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(kind: Kind, model: &'a str, bytes: u64, options: &ForwardOptions) -> Call<'a> {
        let ForwardOptions { connect_timeout, after_refusal, read_model_config, .. } = *options;
        Call { kind, model, bytes, connect_timeout, after_refusal, read_model_config }
    }
}

/// Sends `request` to a pod of this node's choice and returns its response, with the ticket inside.
///
/// A pod that cannot be reached is ejected and the next one is picked, each once; so is one that has given up its models
/// (a Triton that shuts down) where the request is at hand to be sent again: the caller sees none of it while another
/// pod is left. A request that a full queue refused is offered to a few other pods at once; that is no failure of anybody,
/// and no retry: nothing of it ran. A request that a pod may have begun is never sent again.
///
/// # Errors
/// UNAVAILABLE, naming the pods and what was wrong with them; DEADLINE_EXCEEDED when the caller's deadline passes.
pub(super) async fn forward(
    node: &Node,
    call: &Call<'_>,
    request: Request<RequestBody>,
    mut deadline: Deadline,
    passed: Passed,
) -> Result<Response<ResponseBody>, Status> {
    node.look_after_pods();
    let (response, ticket) = deadline.within(dispatch(node, call, request, &passed)).await?;
    Ok(ResponseBody::carry(response, ticket, deadline, passed))
}

async fn dispatch(
    node: &Node,
    call: &Call<'_>,
    mut request: Request<RequestBody>,
    passed: &Passed,
) -> Result<(Response<Incoming>, Option<Ticket>), Status> {
    let mut tried = Tried::default();
    loop {
        let ticket = match pick(node, call, &tried).await {
            Ok(ticket) => ticket,
            Err(error) => return tried.end(&error),
        };
        let pod = ticket.pod().clone();
        if call.read_model_config && matches!(call.kind, Kind::Infer | Kind::Stream) {
            read_soon(node.picker(), &pod, call.model);
        }
        let copy = copy_of(call, &request);
        let sent = Upstream::of(&pod).send(request, call.connect_timeout).await;
        let missing = sent.as_ref().ok().and_then(|response| missing(response.headers()));
        let elsewhere = missing.is_some_and(|missing| may_be_elsewhere(node, call, &pod, missing, &mut tried));
        match (sent, copy) {
            (Ok(response), copy) if missing.is_some() => {
                ticket.finish(Outcome::Refused);
                match copy.filter(|_| elsewhere) {
                    Some(copy) => request = copy,
                    None => return Ok((response, None)),
                }
                tried.refused(pod, response);
            }
            (Ok(response), copy) if is_queue_full(response.headers()) => {
                ticket.finish(Outcome::Refused);
                match copy.filter(|_| tried.full < call.after_refusal) {
                    Some(copy) => request = copy,
                    None => return Ok((response, None)),
                }
                tried.full += 1;
                tried.refused(pod, response);
            }
            (Ok(response), _) => return Ok((response, Some(ticket))),
            (Err(SendError::Died(error)), _) => {
                ticket.finish(Outcome::Failed);
                return Err(died(&pod, &error, passed));
            }
            (Err(SendError::Unsent(unsent, why)), _) => {
                ticket.finish(Outcome::Failed);
                eject(&pod, &why);
                tried.unreachable(pod, why);
                request = *unsent;
            }
        }
    }
}

/// A second copy of an inference that is here as a whole: its bytes are shared, its headers are not.
fn copy_of(call: &Call<'_>, request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = if call.kind == Kind::Infer { request.body().copy()? } else { return None };
    let mut copy = Request::new(body);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}

/// Notes what is missing on `pod`, and says whether another one may have it. A Triton that unloads a model, or shuts down,
/// answers so at once: it would look like the least loaded of all. A version is looked for on few others: which of them have
/// it is not known.
fn may_be_elsewhere(node: &Node, call: &Call<'_>, pod: &Arc<Pod>, missing: Missing, tried: &mut Tried) -> bool {
    if missing == Missing::Version {
        tried.full += 1;
    }
    // Noted whatever comes of it.
    lacks(node.picker(), pod, call.model, missing, &mut tried.news) && tried.full <= call.after_refusal
}

async fn pick(node: &Node, call: &Call<'_>, tried: &Tried) -> Result<Ticket, PickError> {
    let ids = tried.ids();
    let wanted = pick::Request::new(call.model).bytes(call.bytes).exclude(&ids);
    let wanted = match call.kind.cost() {
        Some(cost) => wanted.cost(cost),
        None => wanted,
    };
    node.pick_strict(&wanted).await
}

/// The status of a request that was lost on its pod.
fn died(pod: &Pod, error: &hyper::Error, passed: &Passed) -> Status {
    if let Some(too_large) = passed.as_deref().and_then(Stream::too_large) {
        return Status::from(*too_large);
    }
    let why = super::upstream::causes(error);
    Status::unavailable(format!(
        "pod `{}` broke off before it answered, and may have begun the request: {why}",
        pod.name()
    ))
}

/// The pods that did not take one request, and why. Empty for all but a few.
#[derive(Default)]
struct Tried {
    pods: SmallVec<[(Arc<Pod>, Option<Unreachable>); 1]>,
    /// How many of them were full, or did not have the version.
    full: u32,
    /// Whether it was news of one of them that it lacks the model.
    news: bool,
    /// The last answer of a pod that was full or had given up the model: what the caller gets if no pod takes it.
    answer: Option<Response<Incoming>>,
}

impl Tried {
    fn unreachable(&mut self, pod: Arc<Pod>, why: Unreachable) {
        self.pods.push((pod, Some(why)));
    }

    fn refused(&mut self, pod: Arc<Pod>, answer: Response<Incoming>) {
        self.pods.push((pod, None));
        self.answer = Some(answer);
    }

    fn ids(&self) -> SmallVec<[PodId; 4]> {
        self.pods.iter().map(|(pod, _)| pod.id()).collect()
    }

    /// What the caller gets when nothing is left to pick.
    fn end(self, error: &PickError) -> Result<(Response<Incoming>, Option<Ticket>), Status> {
        match self.answer {
            Some(answer) => Ok((answer, None)),
            None if self.pods.is_empty() => Err(Status::unavailable(error.to_string())),
            None => {
                let why = |(pod, why): &(Arc<Pod>, Option<Unreachable>)| {
                    let why = why.as_ref().map(ToString::to_string).unwrap_or_default();
                    format!("`{}` ({}): {why}", pod.name(), pod.spec().grpc)
                };
                let pods: Vec<String> = self.pods.iter().map(why).collect();
                Err(Status::unavailable(format!("no pod could be reached: {}", pods.join("; "))))
            }
        }
    }
}
