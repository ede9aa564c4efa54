//! Asking many pods at once, in whatever protocol: whom, and how many at a time.

use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};

use super::super::readmit::is_live;
use crate::observe::Pod;

/// Pods of one fan-out that are asked at a time. A fleet of 500 takes sixteen round trips instead of one, some ten
/// milliseconds; all at once would be 500 answers held side by side, and a burst at whatever all pods read from (a model's
/// files, when all load it).
pub(in crate::forward) const AT_ONCE: usize = 32;

/// Asks each of `pods` and gives what comes, as it comes, with the pod's place among them. Dropping it drops the questions.
pub(in crate::forward) fn ask_all<A, F: Future<Output = A>>(
    pods: &[Arc<Pod>],
    ask: impl Fn(Arc<Pod>) -> F,
) -> impl Stream<Item = (usize, A)> {
    let asked = pods.iter().cloned().enumerate().map(move |(place, pod)| {
        let answer = ask(pod);
        async move { (place, answer.await) }
    });
    stream::iter(asked).buffer_unordered(AT_ONCE)
}

/// Those of `pods` that take part when all are asked, in their order: all that are in, and those that are ejected and yet
/// say that they live (one that fails its requests counts them all the same). A pod that is gone is waited for once, for
/// less than a second, and left out. Where none is left, all: an error of theirs says more than none.
pub(in crate::forward) async fn taking_part(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let out: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.is_ejected()).cloned().collect();
    let mut lives = vec![false; out.len()];
    let mut answers = std::pin::pin!(ask_all(&out, |pod| async move { is_live(&pod).await }));
    while let Some((place, yes)) = answers.next().await {
        lives[place] = yes;
    }
    let mut lives = lives.into_iter();
    let part: Vec<Arc<Pod>> =
        pods.iter().filter(|pod| !pod.is_ejected() || lives.next().unwrap_or(true)).cloned().collect();
    if part.is_empty() { pods.to_vec() } else { part }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::observe::PodSpec;

    /// A fleet of 500 must not be asked all at once; and all of it must be asked in the end.
    #[tokio::test]
    async fn a_few_pods_are_asked_at_a_time_and_all_in_the_end() {
        let pod = |_| Arc::new(Pod::new(PodSpec::new("p", "http://127.0.0.1:1"), 0, Arc::default()));
        let pods: Vec<Arc<Pod>> = (0..500).map(pod).collect();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = |_| async {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, SeqCst);
        };
        let mut places: Vec<usize> = ask_all(&pods, ask).map(|(place, ())| place).collect().await;
        places.sort_unstable();
        assert_eq!(places, (0..500).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), AT_ONCE);
    }
}
