//! Which pods there are: those listed, those in a watched file, those that a DNS name resolves to.
//!
//! Each source is a task that reports its pods whenever they change; [`Discovery`] holds the last report of each and
//! merges them in a fixed order (listed, file, names as configured), so the same pods always come out in the same order
//! whoever reported last. A source that fails says nothing: its last answer stands. Forgetting pods because a resolver is
//! down would turn a small outage into a whole one, and a pod that is really gone is ejected by what its requests say.

mod dns;
mod file;
mod voice;

use std::collections::{BTreeMap, BTreeSet};

use hickory_resolver::TokioResolver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::info;

use self::voice::{Report, Voice};
use crate::config::{Config, MOST_PODS};
use crate::id::PodId;
use crate::observe::PodSpec;

/// Why the sources could not be started. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The system's resolver settings could not be used.
    #[error("discovery.dns: cannot set up DNS from the system's settings: {0}; see /etc/resolv.conf")]
    Resolver(String),
}

/// What the sources say together. Dropping it stops them.
#[derive(Debug)]
pub struct Discovery {
    /// The last report of each source; none where it has not reported yet. The first are the pods that are listed.
    reports: Vec<Option<Vec<PodSpec>>>,
    current: Vec<PodSpec>,
    reporters: usize,
    answered: BTreeSet<usize>,
    inbox: mpsc::Receiver<Report>,
    _sources: JoinSet<()>,
}

impl Discovery {
    /// Starts the sources of `config`, with the system's resolver. The pods that are listed are taken as known already.
    ///
    /// # Errors
    /// [`DiscoveryError`], only where names are to be resolved.
    pub fn start(config: &Config) -> Result<Discovery, DiscoveryError> {
        let resolver = match config.discovery.dns.is_empty() {
            true => None,
            false => Some(dns::system_resolver()?),
        };
        Ok(Discovery::with_resolver(config, resolver))
    }

    /// Starts the sources with a resolver of one's own; names are not looked up without one.
    pub fn with_resolver(config: &Config, resolver: Option<TokioResolver>) -> Discovery {
        let (outbox, inbox) = mpsc::channel(16);
        let mut sources = JoinSet::new();
        let mut reports = vec![Some(config.pods.clone())];
        if let Some(path) = &config.discovery.file {
            let voice = Voice::new(reports.len(), "file", path.display().to_string(), outbox.clone());
            sources.spawn(file::watch(path.clone(), voice));
            reports.push(None);
        }
        if let Some(resolver) = resolver {
            for name in &config.discovery.dns {
                let voice = Voice::new(reports.len(), "dns", name.to_string(), outbox.clone());
                let interval = config.discovery.dns_interval;
                sources.spawn(dns::watch(name.clone(), interval, resolver.clone(), voice));
                reports.push(None);
            }
        }
        let reporters = reports.len() - 1;
        let current = merge(&reports);
        Discovery { reports, current, reporters, answered: BTreeSet::new(), inbox, _sources: sources }
    }

    /// Waits for the next report of any source. The whole set of pods where it is another one now, none where it is not.
    /// Without sources it never resolves. Cancelling it loses nothing.
    pub async fn report(&mut self) -> Option<Vec<PodSpec>> {
        let Some((source, pods)) = self.inbox.recv().await else {
            return std::future::pending().await;
        };
        self.answered.insert(source);
        self.reports[source] = Some(pods?);
        let merged = merge(&self.reports);
        if merged == self.current {
            return None;
        }
        log_change(&self.current, &merged);
        self.current.clone_from(&merged);
        Some(merged)
    }

    /// Whether every source has reported or failed at least once.
    pub fn is_settled(&self) -> bool {
        self.answered.len() == self.reporters
    }

    /// The pods as last merged.
    pub fn pods(&self) -> &[PodSpec] {
        &self.current
    }
}

/// Each incarnation once, the first source wins; a name that is taken by another pod gets its address behind it, because
/// names are labels of metrics.
fn merge(reports: &[Option<Vec<PodSpec>>]) -> Vec<PodSpec> {
    let mut known: BTreeSet<PodId> = BTreeSet::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut merged = Vec::new();
    for pod in reports.iter().flatten().flatten().take(MOST_PODS) {
        if !known.insert(pod.id()) {
            continue;
        }
        let mut pod = pod.clone();
        if names.contains(&pod.name) {
            pod.name = format!("{}@{}", pod.name, pod.grpc.trim_start_matches("http://"));
        }
        names.insert(pod.name.clone());
        merged.push(pod);
    }
    merged
}

fn log_change(before: &[PodSpec], after: &[PodSpec]) {
    let names = |of: &[PodSpec], without: &[PodSpec]| -> Vec<String> {
        let gone: BTreeMap<PodId, ()> = without.iter().map(|pod| (pod.id(), ())).collect();
        of.iter().filter(|pod| !gone.contains_key(&pod.id())).map(|pod| pod.name.clone()).collect()
    };
    let (joined, left) = (names(after, before), names(before, after));
    info!(pods = after.len(), joined = joined.join(","), left = left.join(","), "pods changed");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    pub(super) const LONG: Duration = Duration::from_secs(20);

    pub(super) fn names(pods: &[PodSpec]) -> Vec<&str> {
        pods.iter().map(|pod| pod.name.as_str()).collect()
    }

    /// The next set of pods that is another one.
    pub(super) async fn changed(discovery: &mut Discovery) -> Vec<PodSpec> {
        let change = async {
            loop {
                if let Some(pods) = discovery.report().await {
                    return pods;
                }
            }
        };
        timeout(LONG, change).await.expect("no change was reported")
    }
}
