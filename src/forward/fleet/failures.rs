//! The pods that did not do what all were asked, as one status.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Code, Status};

use super::super::ask::Failure;
use super::super::pin::cut;
use crate::observe::Pod;

/// Pods that are named with their reasons. The text travels as a header, of which gRPC clients take 8 KiB.
pub(super) const NAMED: usize = 8;
/// What is told of each reason, bytes: enough for a line of Triton's; a stack of Python's is in the pod's log.
const REASON: usize = 256;
/// And of each name.
pub(super) const NAME: usize = 64;

/// By the pods' places, so that whose answer comes first does not matter.
#[derive(Debug)]
pub(super) struct Failures {
    asked: usize,
    failed: BTreeMap<usize, (Arc<Pod>, Failure)>,
}

impl Failures {
    /// None yet, of so many pods that were asked.
    pub(super) fn of(asked: usize) -> Failures {
        Failures { asked, failed: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, place: usize, pod: Arc<Pod>, failure: Failure) {
        self.failed.insert(place, (pod, failure));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether no pod is left that did not fail.
    pub(super) fn are_all(&self) -> bool {
        self.failed.len() >= self.asked
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Pod>, &Failure)> {
        self.failed.values().map(|(pod, failure)| (pod, failure))
    }

    /// Whether any pod said so.
    pub(super) fn has(&self, code: Code) -> bool {
        self.iter().any(|(_, failure)| failure.code() == code)
    }

    /// Those of `pods` that did not fail, or may have done what they were asked before they did.
    pub(super) fn others_of(&self, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let untouched = |place: &usize| {
            let failure = self.failed.get(place).map(|(_, failure)| failure);
            matches!(failure, Some(Failure::Unreachable(_) | Failure::Said(_)))
        };
        pods.iter().enumerate().filter(|(place, _)| !untouched(place)).map(|(_, pod)| pod.clone()).collect()
    }

    /// What pods themselves said, of the first that said anything.
    pub(super) fn take_said(&mut self) -> Option<(Arc<Pod>, Status)> {
        let said = |(_, (_, failure)): &(&usize, &(Arc<Pod>, Failure))| matches!(failure, Failure::Said(_));
        let place = *self.failed.iter().find(said)?.0;
        let (pod, failure) = self.failed.remove(&place)?;
        Some((pod.clone(), failure.into_status(&pod)))
    }

    /// One status for all of them, with the first pod's code: that of a single Triton, as it was, where all say the same; else
    /// one that names each. `what_now` goes on where the reasons end.
    pub(super) fn into_status(mut self, what_now: &str) -> Status {
        if self.are_all()
            && self.agree()
            && let Some((_, (pod, failure))) = self.failed.pop_first()
        {
            return failure.into_status(&pod);
        }
        let code = self.iter().next().map_or(Code::Internal, |(_, failure)| failure.code());
        let named = self.iter().take(NAMED).map(|(pod, why)| format!("`{}`: {}", cut(pod.name(), NAME), reason(why)));
        let mut text = named.collect::<Vec<_>>().join("; ");
        if self.failed.len() > NAMED {
            text += &format!("; and {} more", self.failed.len() - NAMED);
        }
        Status::new(code, format!("{} of {} pods failed: {text}{what_now}", self.failed.len(), self.asked))
    }

    /// Whether all of them are one pod's, or say the same.
    fn agree(&self) -> bool {
        let mut all = self.failed.values().map(|(_, failure)| failure);
        let Some(first) = all.next() else { return true };
        all.all(|other| match (first, other) {
            (Failure::Said(first), Failure::Said(other)) => {
                first.code() == other.code() && first.message() == other.message()
            }
            _ => false,
        })
    }
}

/// The first line of why, cut where it is long.
fn reason(failure: &Failure) -> String {
    let text = failure.to_string();
    match text.lines().next() {
        Some(line) if !line.is_empty() => cut(line, REASON),
        _ => format!("{:?}", failure.code()),
    }
}
