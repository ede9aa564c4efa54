//! Ejecting a pod that cannot be reached, hangs or shuts down, and asking it from time to time whether it is back. One that
//! goes on to hang is given up with what is in flight there.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use tonic::Code;
use tracing::info;

use super::ask::{EMPTY, Failure, Question, ask, says_yes};
use super::call::Face;
use super::outcome::Refusal;
use super::upstream::{Unreachable, Upstream};
use crate::driver::clock;
use crate::observe::{Because, Ejection, Pod};
use crate::pick::Readmission;

const SERVER_LIVE: &str = "/inference.GRPCInferenceService/ServerLive";

/// Takes out a `pod` that cannot be reached. Where that is so over HTTP, gRPC has the say: its callers must not miss a pod whose
/// HTTP port alone is closed, and HTTP's are kept from it by its pool of connections.
pub(super) fn unreachable(face: Face, pod: &Arc<Pod>, why: &dyn std::fmt::Display) {
    match face {
        Face::Grpc => eject(pod, why),
        Face::Http => check_soon(pod),
    }
}

/// Takes `pod` out because it cannot be reached, and sees to its return. Asked for again while it is out, it does nothing.
fn eject(pod: &Arc<Pod>, why: &dyn std::fmt::Display) {
    eject_because(pod, Because::Unreachable, why);
}

fn eject_because(pod: &Arc<Pod>, because: Because, why: &dyn std::fmt::Display) {
    if pod.eject_because(because) == Ejection::Now {
        info!(pod = pod.name(), addr = pod.spec().grpc, %why, "ejected pod");
        Upstream::of(pod).let_go();
        tokio::spawn(readmit(Arc::downgrade(pod)));
        if because == Because::Hangs {
            outlast(pod);
        }
    }
}

/// Asks a pod that seems to shut down or to hang, in the background and one question at a time; ejects it if it does.
pub(super) fn check_soon(pod: &Arc<Pod>) {
    if Upstream::of(pod).checking.swap(true, Relaxed) {
        return;
    }
    let pod = pod.clone();
    tokio::spawn(async move {
        let asked_at = clock::now();
        match life(&pod, Readmission::ANSWER).await {
            Life::Live => {}
            // A pod that is only busy answers others meanwhile.
            Life::Silent if pod.heard_at() > asked_at => {}
            Life::Silent => eject_because(&pod, Because::Hangs, &"it takes connections and answers nothing"),
            Life::Gone => eject(&pod, &"it shuts down, or is gone"),
        }
        Upstream::of(&pod).checking.store(false, Relaxed);
    });
}

/// Ends when the pod answers, was readmitted by others, or is gone from the table.
async fn readmit(pod: Weak<Pod>) {
    let mut readmission = Readmission::new(clock::now().as_nanos());
    loop {
        tokio::time::sleep(readmission.next_pause()).await;
        let Some(pod) = pod.upgrade().filter(|pod| pod.is_ejected()) else { return };
        let life = life(&pod, Readmission::ANSWER).await;
        if life == Life::Silent {
            outlast(&pod);
        }
        if life == Life::Live {
            if pod.readmit() {
                info!(pod = pod.name(), addr = pod.spec().grpc, "readmitted pod: it answers again");
            }
            // Another server may stand there now, with other models.
            Upstream::of(&pod).looks.soon(clock::now());
            return;
        }
    }
}

/// Gives a pod up that is out and silent, with all that is in flight there, when it has said nothing for as long as its
/// node's settings say: neither an answer to any request, nor to a question asked at the beginning of that time. Slow is
/// not silent: a Triton whose models run for minutes says at once that it lives.
fn outlast(pod: &Arc<Pod>) {
    let upstream = Upstream::of(pod);
    let patience = Duration::from_millis(upstream.give_up_ms.load(Relaxed));
    if patience.is_zero() || upstream.waiting.swap(true, Relaxed) {
        return;
    }
    let pod = pod.clone();
    tokio::spawn(async move {
        let asked_at = clock::now();
        let is_silent = life(&pod, patience).await == Life::Silent && pod.heard_at() <= asked_at;
        let upstream = Upstream::of(&pod);
        if is_silent && pod.is_ejected() {
            info!(pod = pod.name(), addr = pod.spec().grpc, ?patience, "gave up what is in flight on a pod that hangs");
            upstream.give_up();
        }
        // While it is out its next silence begins this anew: some requests can go nowhere else.
        upstream.waiting.store(false, Relaxed);
    });
}

/// How a pod takes the question whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It says yes.
    Live,
    /// It says nothing.
    Silent,
    /// It says no, or there is nobody to say anything.
    Gone,
}

async fn life(pod: &Pod, patience: Duration) -> Life {
    let question = Question::grpc(SERVER_LIVE, HeaderMap::new(), EMPTY, patience);
    match question.ask(pod).await {
        Ok(reply) if says_yes(&reply.message) => {}
        // A server that does not know the question is there to say so.
        Err(Failure::Said(status)) if status.code() == Code::Unimplemented => {}
        // One that takes no connection any more, because those that wait for it fill its queue, is as silent.
        Err(Failure::Late(_) | Failure::Unreachable(Unreachable::Timeout(_))) => return Life::Silent,
        Ok(_) | Err(_) => return Life::Gone,
    }
    pod.heard(clock::now());
    Life::Live
}

/// Whether `pod` answers that it ends, within [`Readmission::ANSWER`]: a Triton then closes new HTTP connections unread.
pub(super) async fn is_ending(pod: &Pod) -> bool {
    let says = ask(pod, SERVER_LIVE, HeaderMap::new(), EMPTY, Readmission::ANSWER).await;
    says.is_err_and(|status| Refusal::of(status.code(), status.message()) == Some(Refusal::Leaving))
}

/// Whether `pod` says that it lives, within [`Readmission::ANSWER`].
pub(super) async fn is_live(pod: &Pod) -> bool {
    life(pod, Readmission::ANSWER).await == Life::Live
}
