//! The one road from a request to a pod's response, for the channel and the front alike.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use smallvec::SmallVec;
use tonic::Status;

use super::body::{Overrun, RequestBody};
use super::deadline::Deadline;
use super::readmit::eject;
use super::response::ResponseBody;
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
}

/// Sends `request` to a pod of this node's choice and returns its response, with the ticket inside.
///
/// A pod that cannot be reached is ejected and the next one is picked, each once: the caller sees none of it while
/// another pod is left. A request that was sent is never sent again, because the pod may have begun it.
///
/// # Errors
/// UNAVAILABLE, naming the pods and what was wrong with them; DEADLINE_EXCEEDED when the caller's deadline passes.
pub(super) async fn forward(
    node: &Node,
    call: &Call<'_>,
    request: Request<RequestBody>,
    mut deadline: Deadline,
    overrun: Overrun,
) -> Result<Response<ResponseBody>, Status> {
    let (response, ticket) = deadline.within(dispatch(node, call, request, &overrun)).await?;
    Ok(ResponseBody::carry(response, ticket, deadline, overrun))
}

async fn dispatch(
    node: &Node,
    call: &Call<'_>,
    mut request: Request<RequestBody>,
    overrun: &Overrun,
) -> Result<(Response<Incoming>, Ticket), Status> {
    let mut tried = Tried::default();
    loop {
        let ticket = pick(node, call, &tried)?;
        let pod = ticket.pod().clone();
        match Upstream::of(&pod).send(request, call.connect_timeout).await {
            Ok(response) => return Ok((response, ticket)),
            Err(SendError::Died(error)) => {
                ticket.finish(Outcome::Failed);
                return Err(died(&pod, &error, overrun));
            }
            Err(SendError::Unsent(unsent, why)) => {
                ticket.finish(Outcome::Failed);
                eject(&pod, &why);
                tried.add(pod, why);
                request = *unsent;
            }
        }
    }
}

fn pick(node: &Node, call: &Call<'_>, tried: &Tried) -> Result<Ticket, Status> {
    let ids = tried.ids();
    let wanted = pick::Request::new(call.model).bytes(call.bytes).exclude(&ids);
    let wanted = match call.kind.cost() {
        Some(cost) => wanted.cost(cost),
        None => wanted,
    };
    node.pick(&wanted).map_err(|error| tried.status(&error))
}

/// The status of a request that was lost on its pod.
fn died(pod: &Pod, error: &hyper::Error, overrun: &Overrun) -> Status {
    if let Some(too_large) = overrun.as_deref().and_then(std::sync::OnceLock::get) {
        return Status::from(*too_large);
    }
    let why = super::upstream::causes(error);
    Status::unavailable(format!(
        "pod `{}` broke off before it answered, and may have begun the request: {why}",
        pod.name()
    ))
}

/// The pods that could not be reached for one request, and why. Empty for all but a few.
#[derive(Default)]
struct Tried(SmallVec<[(Arc<Pod>, Unreachable); 1]>);

impl Tried {
    fn add(&mut self, pod: Arc<Pod>, why: Unreachable) {
        self.0.push((pod, why));
    }

    fn ids(&self) -> SmallVec<[PodId; 4]> {
        self.0.iter().map(|(pod, _)| pod.id()).collect()
    }

    /// What the caller is told when nothing is left to pick.
    fn status(&self, error: &PickError) -> Status {
        if self.0.is_empty() {
            return Status::unavailable(error.to_string());
        }
        let pods: Vec<String> =
            self.0.iter().map(|(pod, why)| format!("`{}` ({}): {why}", pod.name(), pod.spec().grpc)).collect();
        Status::unavailable(format!("no pod could be reached: {}", pods.join("; ")))
    }
}
