//! What changes a server changes all pods that are to stay: models, shared memory, settings.
//!
//! A change that was begun goes on when its caller goes away, as it does on a Triton: half a fleet changed would be worse than
//! either. There is no memory of it: a pod that comes later, or starts again, is as its own configuration has it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Response, Uri, header};
use tonic::Status;
use tracing::warn;

use super::super::ask::{Failure, Question, Reply, framed};
use super::super::call::Face;
use super::super::pin::cut;
use super::super::whole::Whole;
use super::any::{failed, refused};
use super::failures::{Failures, NAME, NAMED};
use super::fan_out::{ask_all, taking_part};
use super::question::{Named, decode};
use super::{Fleet, Plan};
use crate::observe::Pod;

/// What a Triton says of a region that it knows already, by gRPC with a code of its own, over HTTP with one of many uses.
const KNOWN: &str = "already in manager";

/// The kinds of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    System,
    Cuda,
}

impl Memory {
    pub(super) const fn unregister(self) -> &'static str {
        match self {
            Memory::System => "/inference.GRPCInferenceService/SystemSharedMemoryUnregister",
            Memory::Cuda => "/inference.GRPCInferenceService/CudaSharedMemoryUnregister",
        }
    }
}

impl Fleet {
    /// Carries out `plan`, which is a change.
    pub(super) async fn change(&self, plan: Plan, question: &Question) -> Result<Response<Whole>, Status> {
        let pods = self.staying().await;
        if pods.is_empty() {
            return Err(self.no_pod());
        }
        match plan {
            Plan::Load => self.load(question, &pods).await,
            Plan::Register(memory) => register(memory, question, &pods).await,
            _ => {
                let mut failures = Failures::of(pods.len());
                let reply = all(question, &pods, 0, &mut failures).await;
                answer(reply, failures, "")
            }
        }
    }

    /// The pods that are worth changing: not those that are about to end.
    async fn staying(&self) -> Vec<Arc<Pod>> {
        let all = self.node.picker().pods();
        let stay: Vec<Arc<Pod>> = all.iter().filter(|pod| !pod.spec().draining).cloned().collect();
        taking_part(if stay.is_empty() { &all } else { &stay }).await
    }

    /// One pod loads first, and the others only when it has: what no pod can load is tried on one, and one has the model while
    /// the others load. All at once, a model that fails to load, or that a backend drops before it loads it anew, would be
    /// gone from the whole fleet; one after the other, 500 pods would take as many times as long.
    async fn load(&self, question: &Question, pods: &[Arc<Pod>]) -> Result<Response<Whole>, Status> {
        let mut pods = pods.to_vec();
        // Stable: those that are in come first.
        pods.sort_by_key(|pod| pod.is_ejected());
        let mut failures = Failures::of(pods.len());
        for (place, pod) in pods.iter().enumerate() {
            match question.ask(pod).await {
                Ok(reply) => {
                    all(question, &pods, place + 1, &mut failures).await;
                    return answer(Some(reply), failures, "; the others have loaded it");
                }
                Err(failure @ Failure::Unreachable(_)) => failed(question.face, &mut failures, place, pod, failure),
                // Nobody else was asked.
                Err(failure) => return Ok(refused(question.face, failure.into_status(pod), pod)),
            }
        }
        Err(failures.into_status(""))
    }
}

/// Asks `pods` but for the first `skip`, all of them whatever some say. Gives the reply of the first that did it.
async fn all(question: &Question, pods: &[Arc<Pod>], skip: usize, failures: &mut Failures) -> Option<Reply> {
    let mut first: Option<(usize, Reply)> = None;
    let mut answers = std::pin::pin!(ask_all(&pods[skip..], |pod| async move { question.ask(&pod).await }));
    while let Some((place, answer)) = answers.next().await {
        match answer {
            Ok(reply) if first.as_ref().is_none_or(|(first, _)| place < *first) => first = Some((place, reply)),
            Ok(_) => {}
            Err(failure) => failed(question.face, failures, skip + place, &pods[skip + place], failure),
        }
    }
    first.map(|(_, reply)| reply)
}

fn answer(reply: Option<Reply>, failures: Failures, what_now: &str) -> Result<Response<Whole>, Status> {
    match reply {
        Some(reply) if failures.is_empty() => Ok(Whole::of(reply)),
        _ => Err(failures.into_status(what_now)),
    }
}

/// Memory that one pod cannot open would make every request that is picked for it fail: all register it, or none.
async fn register(memory: Memory, question: &Question, pods: &[Arc<Pod>]) -> Result<Response<Whole>, Status> {
    let mut failures = Failures::of(pods.len());
    let reply = all(question, pods, 0, &mut failures).await;
    if failures.is_empty() || failures.are_all() {
        return answer(reply, failures, "");
    }
    let mut what_now = "; undone on the others. ".to_owned();
    if let Some(undo) = undoing(memory, question) {
        let left = taken_back(&undo, &failures.others_of(pods)).await;
        if !left.is_empty() {
            what_now = format!("; it could not be undone on {}. ", left.join(", "));
        }
    }
    what_now += match failures.has(|failure| failure.to_string().contains(KNOWN)) {
        true => "Unregister it first: some pods know it, and others (that started since) do not",
        false => {
            "Memory serves a fleet where all pods can open it; to use it with one, pin this request and those that use it \
             with the header `plimsoll-pod: NAME`"
        }
    };
    Err(failures.into_status(&what_now))
}

/// What takes a region back that `question` registers; none where nobody can tell which.
fn undoing(memory: Memory, question: &Question) -> Option<Question> {
    let mut undo = question.clone();
    match question.face {
        Face::Grpc => {
            undo.path = Uri::from_static(memory.unregister());
            undo.message = framed(&decode::<Named>(question)?);
            undo.metadata.remove("grpc-encoding");
        }
        Face::Http => {
            undo.path = format!("{}/unregister", question.path.path().strip_suffix("/register")?).parse().ok()?;
            undo.message = Bytes::new();
            undo.metadata.remove(header::CONTENT_ENCODING);
        }
    }
    Some(undo)
}

/// Asks `pods` to take a region back; gives the names of those where that failed, a few of them.
async fn taken_back(undo: &Question, pods: &[Arc<Pod>]) -> Vec<String> {
    let mut failures = Failures::of(pods.len());
    all(undo, pods, 0, &mut failures).await;
    for (pod, failure) in failures.iter() {
        warn!(pod = pod.name(), method = %undo.path, %failure, "cannot unregister shared memory that others could not open");
    }
    failures.iter().take(NAMED).map(|(pod, _)| format!("`{}`", cut(pod.name(), NAME))).collect()
}
