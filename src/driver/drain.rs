//! The drain of a node: one switch that a signal or the admin API turns, and that all who serve look at.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// There is none: the node serves.
    Serving,
    /// The node says that it is not ready, and finishes what it has. For the grace it serves what comes all the same.
    Draining,
    /// No request is open, and none is taken any more.
    Drained,
}

/// The drain of one node. Clones are handles to the same; there is no way back.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<Stage>>);

impl Default for Drain {
    fn default() -> Drain {
        Drain(Arc::new(watch::Sender::new(Stage::Serving)))
    }
}

impl Drain {
    /// Of a node that serves.
    pub fn new() -> Drain {
        Drain::default()
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Begins it; says whether nobody had before.
    pub fn begin(&self) -> bool {
        self.reach(Stage::Draining)
    }

    /// Says that nothing is open any more.
    pub fn end(&self) -> bool {
        self.reach(Stage::Drained)
    }

    /// Returns once it has begun.
    pub async fn begun(self) {
        // The sender is held here, so that waiting does not fail.
        let _ = self.0.subscribe().wait_for(|stage| *stage > Stage::Serving).await;
    }

    fn reach(&self, stage: Stage) -> bool {
        self.0.send_if_modified(|at| {
            let later = *at < stage;
            *at = (*at).max(stage);
            later
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signal after `plimsoll drain` must not take the node for one that serves, nor begin anew what is over.
    #[tokio::test]
    async fn a_drain_begins_once_and_never_goes_back() {
        let drain = Drain::new();
        let waiting = tokio::spawn(drain.clone().begun());
        assert!(drain.begin());
        waiting.await.unwrap();
        assert!(!drain.begin());
        assert!(drain.end());
        assert!(!drain.begin());
        assert_eq!(drain.stage(), Stage::Drained);
    }
}
