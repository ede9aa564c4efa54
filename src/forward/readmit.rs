//! Ejecting a pod that cannot be reached or shuts down, and asking it from time to time whether it is back.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use http::HeaderMap;
use tonic::Code;
use tracing::info;

use super::ask::{EMPTY, ask, says_yes};
use super::upstream::Upstream;
use crate::driver::clock;
use crate::observe::{Ejection, Pod};
use crate::pick::Readmission;

/// Takes `pod` out and sees to its return. Asked for again while it is out, it does nothing.
pub(super) fn eject(pod: &Arc<Pod>, why: &dyn std::fmt::Display) {
    if pod.eject() == Ejection::Now {
        info!(pod = pod.name(), addr = pod.spec().grpc, %why, "ejected pod");
        tokio::spawn(readmit(Arc::downgrade(pod)));
    }
}

/// Asks a pod that seems to shut down, in the background and one question at a time; ejects it if it does.
pub(super) fn check_soon(pod: &Arc<Pod>) {
    if Upstream::of(pod).checking.swap(true, Relaxed) {
        return;
    }
    let pod = pod.clone();
    tokio::spawn(async move {
        if !is_live(&pod).await {
            eject(&pod, &"it shuts down");
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
        if is_live(&pod).await {
            if pod.readmit() {
                info!(pod = pod.name(), addr = pod.spec().grpc, "readmitted pod: it answers again");
            }
            return;
        }
    }
}

/// Whether `pod` says that it lives, within [`Readmission::ANSWER`].
pub(super) async fn is_live(pod: &Pod) -> bool {
    match ask(pod, "/inference.GRPCInferenceService/ServerLive", HeaderMap::new(), EMPTY, Readmission::ANSWER).await {
        Ok(answer) => says_yes(&answer),
        // A server that does not know the question is there to say so.
        Err(status) => status.code() == Code::Unimplemented,
    }
}
