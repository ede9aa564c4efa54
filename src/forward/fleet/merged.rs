//! One answer out of what all pods say. What a merge makes of them does not depend on whose answer comes first.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use futures_util::StreamExt;
use prost::Message;
use tonic::Status;
use tracing::debug;

use super::super::ask::{Failure, Question};
use super::Fleet;
use super::any::failed;
use super::failures::Failures;
use super::fan_out::{ask_all, taking_part};

/// The most that one merged answer may have, bytes: that many models nobody has, and a pod that makes them up must not fill
/// the memory of a node.
const MOST: usize = 64 << 20;

/// What pods say about one thing, put together.
pub(super) trait Merge: Default {
    /// What each of them says, and what the caller gets.
    type Answer: Message + Default;

    /// Takes in what the pod at `place` says.
    ///
    /// # Errors
    /// [`TooMuch`]; the whole is of no use then.
    fn add(&mut self, place: usize, answer: Self::Answer) -> Result<(), TooMuch>;

    fn into_answer(self) -> Self::Answer;

    /// Whether the answer of the others is right without that of a pod that failed so.
    fn is_whole_without(failure: &Failure) -> bool;
}

/// Pods say more than fits one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the pods say together is over the limit of {MOST} bytes: ask one pod alone, with `plimsoll-pod: NAME`")]
pub(super) struct TooMuch;

impl From<TooMuch> for Status {
    fn from(error: TooMuch) -> Status {
        Status::resource_exhausted(error.to_string())
    }
}

impl Fleet {
    /// Asks all pods and puts together what they say.
    pub(super) async fn merged<M: Merge>(&self, question: &Question) -> Result<M::Answer, Status> {
        let pods = taking_part(&self.node.picker().pods()).await;
        if pods.is_empty() {
            return Err(self.no_pod());
        }
        let (mut merged, mut failures) = (M::default(), Failures::of(pods.len()));
        let mut answers = std::pin::pin!(ask_all(&pods, |pod| async move { question.ask(&pod).await }));
        while let Some((place, answer)) = answers.next().await {
            match answer.and_then(|reply| reply.decode()) {
                Ok(answer) => merged.add(place, answer)?,
                Err(failure) => {
                    let whole = M::is_whole_without(&failure);
                    failed(question.face, &mut failures, place, &pods[place], failure);
                    if !whole {
                        return Err(failures.into_status(""));
                    }
                }
            }
        }
        if failures.are_all() {
            return Err(failures.into_status(""));
        }
        for (pod, failure) in failures.iter() {
            debug!(pod = pod.name(), method = %question.path, %failure, "answered for the fleet without this pod");
        }
        Ok(merged.into_answer())
    }
}

/// How much a merge holds, bytes.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    pub(super) fn add(&mut self, message: &impl Message) -> Result<(), TooMuch> {
        self.0 = self.0.saturating_add(message.encoded_len());
        if self.0 > MOST { Err(TooMuch) } else { Ok(()) }
    }

    /// What `map` has at `key`; where that is nothing yet, an empty one, that will hold about as much as `like`.
    pub(super) fn entry<'a, K: Ord, M: Message + Default>(
        &mut self,
        map: &'a mut BTreeMap<K, M>,
        key: K,
        like: &M,
    ) -> Result<&'a mut M, TooMuch> {
        match map.entry(key) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => {
                self.add(like)?;
                Ok(free.insert(M::default()))
            }
        }
    }
}

/// A model's version, in the order of versions: Triton's are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version(String);

impl Version {
    pub(super) fn of(text: &str) -> Version {
        Version(text.to_owned())
    }

    fn number(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.number().cmp(&other.number()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
