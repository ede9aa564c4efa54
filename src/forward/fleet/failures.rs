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

    /// Whether any is such a one.
    pub(super) fn has(&self, such: impl Fn(&Failure) -> bool) -> bool {
        self.iter().any(|(_, failure)| such(failure))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::PodSpec;

    fn pod(name: &str) -> Arc<Pod> {
        Arc::new(Pod::new(PodSpec::new(name, "http://127.0.0.1:1"), 0, Arc::default()))
    }

    fn said(code: Code, text: &str) -> Failure {
        Failure::Said(Status::new(code, text).into())
    }

    fn status(asked: usize, failed: Vec<(&str, Failure)>) -> (Code, String) {
        let mut failures = Failures::of(asked);
        // The last first: whose answer comes first must not matter.
        for (place, (name, failure)) in failed.into_iter().enumerate().rev() {
            failures.add(place, pod(name), failure);
        }
        let status = failures.into_status("");
        (status.code(), status.message().to_owned())
    }

    /// Clients compare texts with what a Triton says; only where pods differ does the caller have to know which said what.
    #[test]
    fn what_all_say_alike_is_said_as_one_triton_says_it() {
        let unknown = || said(Code::InvalidArgument, "requested model 'x' is not available");
        let one = (Code::InvalidArgument, "requested model 'x' is not available".to_owned());
        assert_eq!(status(2, vec![("a", unknown()), ("b", unknown())]), one);
        assert_eq!(status(1, vec![("a", unknown())]), one);
        let named = "1 of 2 pods failed: `a`: requested model 'x' is not available".to_owned();
        assert_eq!(status(2, vec![("a", unknown())]), (Code::InvalidArgument, named));
        let late = || Failure::Late(Duration::from_secs(10));
        let differ = "2 of 2 pods failed: `a`: no answer within 10s; `b`: requested model 'x' is not available";
        assert_eq!(status(2, vec![("a", late()), ("b", unknown())]), (Code::DeadlineExceeded, differ.to_owned()));
        assert_eq!(status(1, vec![("a", late())]).1, "pod `a` gave no answer within 10s");
    }

    /// The text travels in a header: 500 pods with a page of Python's each would be refused by the caller's own client.
    #[test]
    fn the_text_is_short_however_many_fail() {
        let name = "n".repeat(1000);
        let page = format!("{}\n  File \"model.py\"", "é".repeat(1000));
        let failed = (0..500).map(|_| (&*name, said(Code::Internal, &page))).collect();
        let (code, text) = status(501, failed);
        assert_eq!(code, Code::Internal);
        assert!(text.len() < 4000 && text.ends_with("...; and 492 more") && !text.contains('\n'), "{text}");
        assert_eq!(status(2, vec![("a", said(Code::Internal, ""))]).1, "1 of 2 pods failed: `a`: Internal");
    }
}
