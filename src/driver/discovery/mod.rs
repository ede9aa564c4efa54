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

/// What sources are asked through, where a program brings its own.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Clients {
    /// For `discovery.dns`.
    pub resolver: Option<TokioResolver>,
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
    /// [`DiscoveryError`], only where such a source is configured.
    pub fn start(config: &Config) -> Result<Discovery, DiscoveryError> {
        let mut clients = Clients::default();
        if !config.discovery.dns.is_empty() {
            clients.resolver = Some(dns::system_resolver()?);
        }
        Ok(Discovery::with_clients(config, clients))
    }

    /// Starts the sources with clients of one's own; what is configured and has none is not looked for.
    pub fn with_clients(config: &Config, clients: Clients) -> Discovery {
        let (outbox, inbox) = mpsc::channel(16);
        let mut sources = JoinSet::new();
        let mut reports = vec![Some(config.pods.clone())];
        let mut voice = |kind: &'static str, what: String| {
            reports.push(None);
            Voice::new(reports.len() - 1, kind, what, outbox.clone())
        };
        if let Some(path) = &config.discovery.file {
            sources.spawn(file::watch(path.clone(), voice("file", path.display().to_string())));
        }
        if let Some(resolver) = clients.resolver {
            for name in &config.discovery.dns {
                let watch = dns::Watch::new(name.clone(), resolver.clone(), &config.discovery);
                sources.spawn(watch.run(voice("dns", name.to_string())));
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
