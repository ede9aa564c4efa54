//! What a source says of itself: its pods, or that it failed.

use metrics::counter;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::observe::PodSpec;

/// What source number `.0` has to say; none where it failed.
pub(super) type Report = (usize, Option<Vec<PodSpec>>);

/// One source's way to be heard. It says once that the source is broken, and once that it works again.
pub(super) struct Voice {
    number: usize,
    kind: &'static str,
    /// What was configured, as people know it.
    what: String,
    outbox: mpsc::Sender<Report>,
    /// The failure that was told last, as long as it lasts.
    told: Option<String>,
}

impl Voice {
    pub(super) fn new(number: usize, kind: &'static str, what: String, outbox: mpsc::Sender<Report>) -> Voice {
        Voice { number, kind, what, outbox, told: None }
    }

    /// These are all its pods now.
    pub(super) async fn found(&mut self, pods: Vec<PodSpec>) {
        if self.told.take().is_some() {
            info!(source = self.kind, "`{}` works again", self.what);
        }
        self.report(Some(pods)).await;
    }

    /// It cannot say which pods there are.
    pub(super) async fn failed(&mut self, error: String) {
        counter!("plimsoll_discovery_failures_total", "source" => self.kind).increment(1);
        if self.told.as_ref() != Some(&error) {
            warn!(source = self.kind, "{error}; keeping the pods that `{}` gave last", self.what);
            self.told = Some(error);
        }
        self.report(None).await;
    }

    async fn report(&self, pods: Option<Vec<PodSpec>>) {
        // Fails only while everything is being dropped, and then nobody is left to tell.
        let _ = self.outbox.send((self.number, pods)).await;
    }
}
