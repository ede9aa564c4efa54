//! A request on its way: what was decided for it, and which pods did not take it.

use std::sync::Arc;

use smallvec::SmallVec;
use tonic::Status;

use super::answer::Answer;
use super::body::{Fault, Wrong, wrong};
use super::call::Call;
use super::line::Entry;
use super::route::Route;
use crate::driver::clock;
use crate::id::PodId;
use crate::node::Ticket;
use crate::observe::Pod;
use crate::pick::PickError;
use crate::time::Time;

/// What the caller gets: an answer, and the ticket where it has not ended.
pub(super) type Done = (Answer, Option<Ticket>, Arc<Pod>);

/// A request on its way, and what was decided for it.
pub(super) struct Trip {
    pub(super) call: Call,
    pub(super) route: Route,
    /// When it is of no use any more.
    pub(super) until: Option<Time>,
    /// Until when it may wait, as Triton's `timeout` says.
    pub(super) waits_until: Option<Time>,
    pub(super) fault: Fault,
    pub(super) tried: Tried,
    /// How often it was sent again although a pod may have begun it, or failed it.
    pub(super) again: u32,
    /// Whether a pod took nothing of it with a connection.
    pub(super) was_unread: bool,
    /// Its line in the access log.
    pub(super) line: Option<Box<Entry>>,
}

impl Trip {
    /// The way of `call`, whose caller waits until `until` at most.
    pub(super) fn new(call: Call, route: Route, until: Option<Time>) -> Trip {
        let waits_until = call.peek.parameters.timeout().map(|timeout| clock::now() + timeout);
        let until = [until, waits_until].into_iter().flatten().min();
        Trip {
            call,
            route,
            until,
            waits_until,
            fault: None,
            tried: Tried::default(),
            again: 0,
            was_unread: false,
            line: None,
        }
    }

    /// What its caller did wrong with its body, as far as it is known.
    pub(super) fn wrong(&self) -> Option<Wrong> {
        wrong(&self.fault)
    }

    /// It was not sent to `pod`.
    pub(super) fn failed(&mut self, pod: Arc<Pod>, why: String) {
        self.tried.failed(pod, why);
    }
}

/// The pods that did not take one request, and why. Empty for all but a few.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) pods: SmallVec<[(Arc<Pod>, Option<String>); 1]>,
    /// How many of them were full, or did not have the version.
    pub(super) full: u32,
    /// Whether it was news of one of them that it lacks the model.
    pub(super) news: bool,
    /// The last answer of a pod that did not take it: what the caller gets if none does.
    pub(super) answer: Option<(Answer, Arc<Pod>)>,
    /// The same where it was said inside of a stream.
    pub(super) said: Option<Status>,
}

impl Tried {
    pub(super) fn failed(&mut self, pod: Arc<Pod>, why: String) {
        self.pods.push((pod, Some(why)));
    }

    pub(super) fn answered(&mut self, pod: Arc<Pod>, answer: Answer) {
        self.pods.push((pod.clone(), None));
        self.answer = Some((answer, pod));
    }

    pub(super) fn ids(&self) -> SmallVec<[PodId; 4]> {
        self.pods.iter().map(|(pod, _)| pod.id()).collect()
    }

    /// What the caller gets when nothing is left to pick.
    pub(super) fn end(self, error: &PickError) -> Result<Done, Status> {
        match self.answer {
            Some((answer, pod)) => Ok((answer, None, pod)),
            None => Err(self.status(error)),
        }
    }

    pub(super) fn status(&self, error: &PickError) -> Status {
        match self.pods.is_empty() {
            true => Status::unavailable(error.to_string()),
            false => Status::unavailable(format!("no pod could be reached: {}", self.text())),
        }
    }

    /// What the caller gets when the one pod that could take it cannot be reached.
    pub(super) fn lost(self, route: &Route) -> Status {
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
