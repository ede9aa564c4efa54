//! What any pod may answer: one is asked, and the others only where it has no answer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt;
use http::Response;
use tonic::Status;

use super::super::ask::{Failure, Question, Reply};
use super::super::call::Face;
use super::super::pin::say_pod;
use super::super::readmit::unreachable;
use super::super::refusal::refusal;
use super::super::whole::Whole;
use super::Fleet;
use super::failures::Failures;
use super::fan_out::ask_all;
use crate::observe::Pod;

/// How long the first pod may keep the others from being asked.
const FIRST: Duration = Duration::from_secs(2);

impl Fleet {
    /// The answer of the first pod that has one; of those first that are configured to serve `model`. A model may be on some
    /// pods only, or be going from one of them: so one pod's no is no answer while another says yes.
    pub(super) async fn any(&self, question: Question, model: &str) -> Result<Response<Whole>, Status> {
        let pods = self.candidates(question.face, model);
        let Some((first, others)) = pods.split_first() else { return Err(self.no_pod()) };
        let mut failures = Failures::of(pods.len());
        let short = Question { patience: FIRST.min(question.patience), ..question.clone() };
        match short.ask(first).await {
            Ok(reply) => return Ok(of(reply, first)),
            Err(failure) => failed(question.face, &mut failures, 0, first, failure),
        }
        let question = &question;
        let mut answers = std::pin::pin!(ask_all(others, |pod| async move { question.ask(&pod).await }));
        while let Some((place, answer)) = answers.next().await {
            match answer {
                Ok(reply) => return Ok(of(reply, &others[place])),
                Err(failure) => failed(question.face, &mut failures, place + 1, &others[place], failure),
            }
        }
        match failures.take_said() {
            Some((pod, status)) => Ok(refused(question.face, status, &pod)),
            None => Err(failures.into_status("")),
        }
    }

    /// The pods that speak `face` and are in, those that are configured to serve the model if there are such, beginning with another one each
    /// time; where none is in, all.
    fn candidates(&self, face: Face, model: &str) -> Vec<Arc<Pod>> {
        let all = self.node.picker().pods();
        let all: Vec<_> = all.iter().filter(|pod| face.is_spoken_by(pod.spec())).collect();
        let serves = |pod: &Pod| pod.spec().models.is_empty() || pod.spec().models.iter().any(|known| known == model);
        let is_in = |pod: &Pod| !pod.is_ejected() && !pod.spec().draining;
        let some = |of: &dyn Fn(&Pod) -> bool| -> Vec<Arc<Pod>> {
            all.iter().filter(|pod| of(pod)).map(|pod| Arc::clone(pod)).collect()
        };
        let kinds: [&dyn Fn(&Pod) -> bool; 3] = [&|pod| is_in(pod) && serves(pod), &is_in, &|_| true];
        let mut pods = kinds.into_iter().map(some).find(|pods| !pods.is_empty()).unwrap_or_default();
        if !pods.is_empty() {
            let first = self.turn.fetch_add(1, Relaxed) % pods.len();
            pods.rotate_left(first);
        }
        pods
    }
}

/// Notes a failure; a pod that cannot be reached is taken out, as when a request finds out.
pub(super) fn failed(face: Face, failures: &mut Failures, place: usize, pod: &Arc<Pod>, failure: Failure) {
    if let Failure::Unreachable(why) = &failure {
        unreachable(face, pod, why);
    }
    failures.add(place, pod.clone(), failure);
}

fn of(reply: Reply, pod: &Pod) -> Response<Whole> {
    let mut response = Whole::of(reply);
    say_pod(response.headers_mut(), pod);
    response
}

/// A pod's own no.
pub(super) fn refused(face: Face, status: Status, pod: &Pod) -> Response<Whole> {
    let mut response = match face {
        Face::Grpc => status.into_http(),
        Face::Http => refusal(&status),
    };
    say_pod(response.headers_mut(), pod);
    response
}
