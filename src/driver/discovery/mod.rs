//! Which pods there are: those listed, those in a watched file, those that DNS or Kubernetes knows.
//!
//! Each source is a task that reports its pods whenever they change; [`Discovery`] holds the last report of each and
//! merges them in a fixed order (listed, file, names and services as configured), so the same pods always come out in the
//! same order whoever reported last. A source that fails says nothing: its last answer stands. Forgetting pods because a resolver is
//! down would turn a small outage into a whole one, and a pod that is really gone is ejected by what its requests say.

mod dns;
mod file;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod voice;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info};

use self::voice::{Report, Voice};
use crate::config::{Config, MOST_PODS};
use crate::id::PodId;
use crate::node::Node;
use crate::observe::{PodSpec, PodTls};

/// Why the sources could not be started. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The system's resolver settings could not be used.
    #[error("discovery.dns: cannot set up DNS from the system's settings: {0}; see /etc/resolv.conf")]
    Resolver(String),
    /// It is not known where Kubernetes is, or who asks.
    #[cfg(feature = "kubernetes")]
    #[error("discovery.kubernetes: {0}")]
    Kubernetes(String),
}

/// What sources are asked through, where a program brings its own.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Clients {
    /// For `discovery.dns`.
    pub resolver: Option<TokioResolver>,
    /// For `discovery.kubernetes`.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: Option<kube::Client>,
}

/// What the sources say together. Dropping it stops them.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use plimsoll::config::Config;
/// use plimsoll::driver::discovery::Discovery;
/// use plimsoll::node::Node;
///
/// let config = Config::load("plimsoll.toml")?;
/// let node = Node::join(config.node_config()?).await?;
/// let mut discovery = Discovery::start(&config).await?;
/// discovery.settle(&node, Duration::from_secs(3)).await;
/// let follower = node.clone();
/// tokio::spawn(async move { discovery.follow(&follower).await });
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Discovery {
    /// The last report of each source; none where it has not reported yet. The first are the pods that are listed.
    reports: Vec<Option<Vec<PodSpec>>>,
    current: Vec<PodSpec>,
    reporters: usize,
    /// What is configured of TLS towards all pods.
    tls: PodTls,
    answered: BTreeSet<usize>,
    inbox: mpsc::Receiver<Report>,
    _sources: JoinSet<()>,
}

impl Discovery {
    /// Starts the sources of `config`, with the system's resolver. The pods that are listed are taken as known already.
    ///
    /// # Errors
    /// [`DiscoveryError`], only where such a source is configured.
    pub async fn start(config: &Config) -> Result<Discovery, DiscoveryError> {
        let mut clients = Clients::default();
        if !config.discovery.dns.is_empty() {
            clients.resolver = Some(dns::system_resolver()?);
        }
        #[cfg(feature = "kubernetes")]
        if !config.discovery.kubernetes.is_empty() {
            clients.kubernetes = Some(kubernetes::client::connect().await?);
        }
        Ok(Discovery::with_clients(config, clients))
    }

    /// Starts the sources with clients of one's own; what is configured and has none is not looked for.
    pub fn with_clients(config: &Config, clients: Clients) -> Discovery {
        let (outbox, inbox) = mpsc::channel(16);
        let mut sources = JoinSet::new();
        let tls = config.pod_tls.clone();
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
        #[cfg(feature = "kubernetes")]
        if let Some(client) = clients.kubernetes {
            for service in &config.discovery.kubernetes {
                let watch = kubernetes::Watch::new(service, client.clone(), &config.discovery);
                let voice = voice("kubernetes", watch.what());
                sources.spawn(watch.run(voice));
            }
        }
        let reporters = reports.len() - 1;
        let current = merge(&reports);
        Discovery { reports, current, reporters, tls, answered: BTreeSet::new(), inbox, _sources: sources }
    }

    /// Waits for the next report of any source. The whole set of pods where it is another one now, none where it is not.
    /// Without sources it never resolves. Cancelling it loses nothing.
    pub async fn report(&mut self) -> Option<Vec<PodSpec>> {
        let Some((source, pods)) = self.inbox.recv().await else {
            return std::future::pending().await;
        };
        self.answered.insert(source);
        let mut pods = pods?;
        pods.iter_mut().for_each(|pod| pod.tls = self.tls.clone().or(&pod.tls));
        self.reports[source] = Some(pods);
        let merged = merge(&self.reports);
        if merged == self.current {
            return None;
        }
        log_change(&self.current, &merged);
        self.current.clone_from(&merged);
        Some(merged)
    }

    /// Hands the pods to `node` until every source has reported or failed once, or `patience` is over; says whether all
    /// did. A dead resolver must not keep a node from serving the pods it knows.
    pub async fn settle(&mut self, node: &Node, patience: Duration) -> bool {
        let settled = async {
            while !self.is_settled() {
                self.hand_over(node).await;
            }
        };
        timeout(patience, settled).await.is_ok()
    }

    /// Hands the pods to `node` for ever.
    pub async fn follow(&mut self, node: &Node) -> Infallible {
        loop {
            self.hand_over(node).await;
        }
    }

    /// Every source judges what it says; what only all of them together have wrong leaves the pods as they are.
    async fn hand_over(&mut self, node: &Node) {
        if let Some(pods) = self.report().await
            && let Err(wrong) = node.set_pods(pods)
        {
            error!("cannot use the pods that were found: {wrong}; keeping those from before");
        }
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

/// Each incarnation and each address once, the first source wins; a name that is taken by another pod gets its address
/// behind it, because names are labels of metrics.
fn merge(reports: &[Option<Vec<PodSpec>>]) -> Vec<PodSpec> {
    let mut known: BTreeSet<PodId> = BTreeSet::new();
    let mut places: BTreeSet<&str> = BTreeSet::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut merged = Vec::new();
    for pod in reports.iter().flatten().flatten().take(MOST_PODS) {
        // One source may know the id of what another knows by its address only: two pods to balance, one to serve.
        if known.contains(&pod.id()) || !places.insert(&pod.grpc) {
            continue;
        }
        known.insert(pod.id());
        let mut pod = pod.clone();
        if names.contains(&pod.name) {
            pod.name = format!("{}@{}", pod.name, place(&pod.grpc));
        }
        names.insert(pod.name.clone());
        merged.push(pod);
    }
    merged
}

/// A pod that was found, over TLS. Who finds pods by a name knows what their certificates are for: nobody issues them for the
/// addresses of pods.
fn over_tls(mut pod: PodSpec, name: &str) -> PodSpec {
    for url in [Some(&mut pod.grpc), pod.http.as_mut()].into_iter().flatten() {
        *url = format!("https://{}", place(url));
    }
    pod.tls.server_name = Some(name.to_owned());
    pod
}

/// A URL without its scheme.
fn place(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, place)| place)
}

fn log_change(before: &[PodSpec], after: &[PodSpec]) {
    let ids = |of: &[PodSpec]| -> BTreeSet<PodId> { of.iter().map(PodSpec::id).collect() };
    let names = |of: &[PodSpec], is: &dyn Fn(&PodSpec) -> bool| -> String {
        of.iter().filter(|pod| is(pod)).map(|pod| pod.name.as_str()).collect::<Vec<_>>().join(",")
    };
    let (old, new) = (ids(before), ids(after));
    info!(
        pods = after.len(),
        joined = names(after, &|pod| !old.contains(&pod.id())),
        left = names(before, &|pod| !new.contains(&pod.id())),
        draining = names(after, &|pod| pod.draining),
        "pods changed"
    );
}

#[cfg(test)]
mod tests {
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
    /// A pod in two sources is one pod, whether both know its id, or its address, or one the one and one the other.
    #[test]
    fn a_pod_is_in_the_list_once() {
        let pod = |name: &str, port: u16, uid: Option<&str>| {
            let mut pod = PodSpec::new(name, format!("http://10.0.0.1:{port}"));
            pod.uid = uid.map(str::to_owned);
            pod
        };
        let listed = vec![pod("a", 1, None), pod("b", 2, Some("uid-b"))];
        let found = vec![pod("x", 1, Some("uid-a")), pod("y", 3, Some("uid-b")), pod("a", 4, None)];
        assert_eq!(names(&merge(&[Some(listed), None, Some(found)])), ["a", "b", "a@10.0.0.1:4"]);
    }
}
