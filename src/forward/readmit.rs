//! Ejecting a pod that cannot be reached, and asking it from time to time whether it is back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderMap;
use tonic::Code;
use tracing::info;

use super::ask::{EMPTY, ask, says_yes};
use crate::driver::clock;
use crate::observe::{Ejection, Pod};
use crate::pick::Draw;

/// The first question comes after this: a pod that only restarted its listener is back within a breath.
const FIRST: Duration = Duration::from_millis(100);
/// And then at most so rarely: what a dead pod costs, against how long a living one idles.
const LAST: Duration = Duration::from_secs(2);
/// How long it may take to answer: a pod that needs longer would not be fit for requests either.
const ANSWER: Duration = Duration::from_secs(1);

/// Takes `pod` out and sees to its return. Asked for again while it is out, it does nothing.
pub(super) fn eject(pod: &Arc<Pod>, why: &dyn std::fmt::Display) {
    if pod.eject() == Ejection::Now {
        info!(pod = pod.name(), addr = pod.spec().grpc, %why, "ejected pod: it cannot be reached");
        tokio::spawn(readmit(Arc::downgrade(pod)));
    }
}

/// Ends when the pod answers, was readmitted by others, or is gone from the table.
async fn readmit(pod: Weak<Pod>) {
    let mut pause = FIRST;
    for turn in 0.. {
        tokio::time::sleep(jittered(pause, turn)).await;
        let Some(pod) = pod.upgrade().filter(|pod| pod.is_ejected()) else { return };
        if is_live(&pod).await {
            if pod.readmit() {
                info!(pod = pod.name(), addr = pod.spec().grpc, "readmitted pod: it answers again");
            }
            return;
        }
        pause = (pause * 2).min(LAST);
    }
}

/// Half to all of `pause`: nodes that ejected a pod together should not knock together.
fn jittered(pause: Duration, turn: u64) -> Duration {
    let draw = Draw::new(clock::now().as_nanos(), turn);
    pause / 2 + (pause / 2).mul_f32(draw.below(0, 1024) as f32 / 1024.0)
}

async fn is_live(pod: &Pod) -> bool {
    match ask(pod, "/inference.GRPCInferenceService/ServerLive", HeaderMap::new(), EMPTY, ANSWER).await {
        Ok(answer) => says_yes(&answer),
        // A server that does not know the question is there to say so.
        Err(status) => status.code() == Code::Unimplemented,
    }
}
