//! Which pods there are: those listed, those in a watched file, those that a DNS name resolves to.
//!
//! Each source is a task that reports its pods whenever they change; [`Discovery`] holds the last report of each and
//! merges them in a fixed order (listed, file, names as configured), so the same pods always come out in the same order
//! whoever reported last. A source that fails says nothing: its last answer stands. Forgetting pods because a resolver is
//! down would turn a small outage into a whole one, and a pod that is really gone is ejected by what its requests say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::{Config, DnsName, MOST_PODS, bracketed, pods_from_text};
use crate::id::PodId;
use crate::observe::PodSpec;

/// How often the file is read. It is small and in the page cache; watching by inotify would miss what Kubernetes does
/// with symlinks, and network file systems.
const FILE_POLL: Duration = Duration::from_secs(1);
/// A change counts once the file reads the same after this: whoever writes it in place empties it first, and an empty
/// file, or half a list, is a valid list of fewer pods.
const FILE_SETTLES: Duration = Duration::from_millis(200);
/// The shortest life of an answer: a TTL of 0 would mean a lookup per request.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// One attempt at a name server. Two attempts at each server keep a lookup within the usual interval.
const DNS_TIMEOUT: Duration = Duration::from_secs(2);

/// The system's resolver settings could not be used; nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("discovery.dns: cannot set up DNS from the system's settings: {0}; see /etc/resolv.conf")]
pub struct ResolverError(String);

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

/// What source number `.0` has to say; none where it failed.
type Report = (usize, Option<Vec<PodSpec>>);

impl Discovery {
    /// Starts the sources of `config`, with the system's resolver. The pods that are listed are taken as known already.
    ///
    /// # Errors
    /// [`ResolverError`], only where names are to be resolved.
    pub fn start(config: &Config) -> Result<Discovery, ResolverError> {
        let resolver = match config.discovery.dns.is_empty() {
            true => None,
            false => Some(system_resolver()?),
        };
        Ok(Discovery::with_resolver(config, resolver))
    }

    /// Starts the sources with a resolver of one's own; names are not looked up without one.
    pub fn with_resolver(config: &Config, resolver: Option<TokioResolver>) -> Discovery {
        let (outbox, inbox) = mpsc::channel(16);
        let mut sources = JoinSet::new();
        let mut reports = vec![Some(config.pods.clone())];
        if let Some(path) = &config.discovery.file {
            sources.spawn(watch_file(reports.len(), path.clone(), outbox.clone()));
            reports.push(None);
        }
        if let Some(resolver) = resolver {
            for name in &config.discovery.dns {
                let interval = config.discovery.dns_interval;
                sources.spawn(watch_name(reports.len(), name.clone(), interval, resolver.clone(), outbox.clone()));
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

/// Says once that a source is broken, and once that it works again.
struct Health {
    source: &'static str,
    what: String,
    last: Option<String>,
}

impl Health {
    fn new(source: &'static str, what: String) -> Health {
        Health { source, what, last: None }
    }

    fn failed(&mut self, error: String) {
        counter!("plimsoll_discovery_failures_total", "source" => self.source).increment(1);
        if self.last.as_ref() != Some(&error) {
            warn!(source = self.source, "{error}; keeping the pods that `{}` gave last", self.what);
            self.last = Some(error);
        }
    }

    fn works(&mut self) {
        if self.last.take().is_some() {
            info!(source = self.source, "`{}` works again", self.what);
        }
    }
}

/// Reports the file's pods whenever its text changes.
async fn watch_file(source: usize, path: PathBuf, outbox: mpsc::Sender<Report>) {
    let mut health = Health::new("file", path.display().to_string());
    let mut seen = None;
    loop {
        let mut text = read(&path).await;
        while seen.as_ref().is_some_and(|seen| *seen != text) {
            sleep(FILE_SETTLES).await;
            let again = read(&path).await;
            if again == text {
                break;
            }
            text = again;
        }
        if seen.as_ref() != Some(&text) {
            let pods = text.clone().and_then(|text| pods_from_text(Some(&path), &text).map_err(|e| e.to_string()));
            let pods = match pods {
                Ok(pods) => {
                    health.works();
                    Some(pods)
                }
                Err(error) => {
                    health.failed(error);
                    None
                }
            };
            seen = Some(text);
            if outbox.send((source, pods)).await.is_err() {
                return;
            }
        }
        sleep(FILE_POLL).await;
    }
}

async fn read(path: &Path) -> Result<String, String> {
    const LARGEST: u64 = 1 << 20;
    let error = |error: std::io::Error| format!("cannot read discovery file `{}`: {error}", path.display());
    let size = tokio::fs::metadata(path).await.map_err(error)?.len();
    if size > LARGEST {
        return Err(format!("discovery file `{}` has {size} bytes, more than {LARGEST}", path.display()));
    }
    tokio::fs::read_to_string(path).await.map_err(error)
}

/// Reports a pod for each address of the name, as often as the answers' TTL asks for within the bounds.
async fn watch_name(
    source: usize,
    name: DnsName,
    interval: Duration,
    resolver: TokioResolver,
    outbox: mpsc::Sender<Report>,
) {
    let mut health = Health::new("dns", name.to_string());
    let mut retry = SHORTEST_TTL;
    loop {
        let (pods, wait) = match look_up(&resolver, &name).await {
            Ok((pods, ttl)) => {
                health.works();
                retry = SHORTEST_TTL;
                (Some(pods), ttl.min(interval).max(SHORTEST_TTL))
            }
            Err(error) => {
                health.failed(format!("cannot resolve `{name}`: {error}"));
                let wait = retry;
                retry = (retry * 2).min(interval);
                (None, wait)
            }
        };
        if outbox.send((source, pods)).await.is_err() {
            return;
        }
        sleep(wait).await;
    }
}

/// The pods behind a name, ordered by address, and how long the answer holds. An empty answer is an error: a service
/// with nothing behind it and a broken zone look alike, and keeping pods that are gone costs less than losing all.
async fn look_up(resolver: &TokioResolver, name: &DnsName) -> Result<(Vec<PodSpec>, Duration), String> {
    let answer = resolver.lookup_ip(name.host.as_str()).await.map_err(|error| error.to_string())?;
    let addresses: BTreeSet<IpAddr> = answer.iter().collect();
    if addresses.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let ttl = answer.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let pod = |ip: IpAddr| {
        let address = format!("{}:{}", bracketed(&ip.to_string()), name.port);
        PodSpec::new(format!("{}/{address}", name.host), format!("http://{address}"))
    };
    Ok((addresses.into_iter().take(MOST_PODS).map(pod).collect(), Duration::from_secs(ttl.into())))
}

fn system_resolver() -> Result<TokioResolver, ResolverError> {
    let error = |error: hickory_resolver::net::NetError| ResolverError(error.to_string());
    let mut builder = TokioResolver::builder_tokio().map_err(error)?;
    tune(builder.options_mut());
    builder.build().map_err(error)
}

/// Both families, and no cache: when to ask again is decided here, by the TTL.
fn tune(options: &mut hickory_resolver::config::ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
    options.timeout = DNS_TIMEOUT;
    options.attempts = 2;
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::{Arc, Mutex};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn names(pods: &[PodSpec]) -> Vec<&str> {
        pods.iter().map(|pod| pod.name.as_str()).collect()
    }

    /// The next set of pods that is another one.
    async fn changed(discovery: &mut Discovery) -> Vec<PodSpec> {
        let change = async {
            loop {
                if let Some(pods) = discovery.report().await {
                    return pods;
                }
            }
        };
        timeout(LONG, change).await.expect("no change was reported")
    }

    /// An operator edits the file, breaks it, mends it, deletes it: pods must follow what is right and survive the rest.
    #[tokio::test(start_paused = true)]
    async fn a_broken_file_keeps_the_pods_it_gave_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pods.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("[[pods]]\nname = 'a'\ngrpc = 'h:1'\n");
        let config = format!("discovery.file = '{}'\n[[pods]]\nname = 'fixed'\ngrpc = 'h:9'", path.display());
        let mut discovery = Discovery::with_resolver(&Config::from_toml_str(&config).unwrap(), None);
        assert_eq!((names(discovery.pods()), discovery.is_settled()), (vec!["fixed"], false));
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "a"]);
        assert!(discovery.is_settled());

        write("[[pods]]\nname = 'a'\ngrpc = 'h:1'\n[[pods]]\nname = 'b'\ngrpc = 'h:2'\n");
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "a", "b"]);
        write("[[pods]]\nname = 'a'\ngrcp = 'h:1'\n");
        assert_eq!(discovery.report().await, None);
        assert_eq!(names(discovery.pods()), ["fixed", "a", "b"]);
        // Written in place, it is empty for a moment, and nobody shall believe that all pods are gone.
        let both = "[[pods]]\nname = 'b'\ngrpc = 'h:2'\n[[pods]]\nname = 'a'\ngrpc = 'h:1'\n";
        write("");
        let writer = async {
            sleep(FILE_POLL + FILE_SETTLES / 2).await;
            write(both);
        };
        let (pods, ()) = tokio::join!(changed(&mut discovery), writer);
        assert_eq!(names(&pods), ["fixed", "b", "a"]);
        write("[[pods]]\nname = 'a'\ngrpc = 'h:1'\n[[pods]]\nname = 'b'\ngrpc = 'h:2'\n");
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "a", "b"]);
        // The same pods in other words are no change.
        write("# again\n[[pods]]\nname = 'a'\ngrpc = 'http://h:1'\n[[pods]]\nname = 'b'\ngrpc = 'h:2'\n");
        assert_eq!(discovery.report().await, None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(discovery.report().await, None);
        assert_eq!(names(discovery.pods()), ["fixed", "a", "b"]);
        // The file says what a pod in the list says: one pod. Another one of the same name gets its address behind it.
        write("[[pods]]\nname = 'x'\ngrpc = 'h:9'\n[[pods]]\nname = 'fixed'\ngrpc = 'h:3'\n");
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "fixed@h:3"]);
    }

    /// What the name server below answers: A records with a TTL, or an error.
    type Zone = Arc<Mutex<Result<(Vec<Ipv4Addr>, u32), u8>>>;

    /// A name server on loopback, as small as DNS allows: the question comes back with the zone's records behind it.
    async fn name_server(zone: Zone) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((_, from)) = socket.recv_from(&mut query).await {
                let name_ends = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
                let is_a = query[name_ends + 1..name_ends + 3] == [0, 1];
                let (records, ttl, code) = match zone.lock().unwrap().clone() {
                    Ok((records, ttl)) if is_a => (records, ttl, 0),
                    Ok((_, ttl)) => (Vec::new(), ttl, 0),
                    Err(code) => (Vec::new(), 0, code),
                };
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
                answer.extend(&query[12..name_ends + 5]);
                for record in records {
                    answer.extend([0xc0, 12, 0, 1, 0, 1]);
                    answer.extend(ttl.to_be_bytes());
                    answer.extend([0, 4]);
                    answer.extend(record.octets());
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        address
    }

    fn resolver(server: SocketAddr) -> TokioResolver {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        tune(builder.options_mut());
        builder.build().unwrap()
    }

    /// A service grows while the node runs, then its name server fails: the new pod must be found within the TTL, long
    /// before the interval, and the failure must cost no pod.
    #[tokio::test]
    async fn names_are_asked_again_after_their_ttl_and_failures_keep_the_answer() {
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1)];
        let zone: Zone = Arc::new(Mutex::new(Ok((vec![a], 0))));
        let resolver = resolver(name_server(zone.clone()).await);
        let config =
            Config::from_toml_str("discovery.dns = ['triton.svc.:8001']\ndiscovery.dns_interval_s = 600").unwrap();
        let mut discovery = Discovery::with_resolver(&config, Some(resolver));

        let pods = changed(&mut discovery).await;
        assert_eq!((names(&pods), pods[0].grpc.as_str()), (vec!["triton.svc./10.0.0.2:8001"], "http://10.0.0.2:8001"));

        *zone.lock().unwrap() = Ok((vec![a, b], 1));
        // Ordered by address, whatever the server's order is today.
        let both = ["triton.svc./10.0.0.1:8001", "triton.svc./10.0.0.2:8001"];
        assert_eq!(names(&changed(&mut discovery).await), both);

        // SERVFAIL, then a name that is gone.
        for code in [2, 3] {
            *zone.lock().unwrap() = Err(code);
            assert_eq!(timeout(LONG, discovery.report()).await.expect("a failing lookup is reported"), None);
            assert_eq!(names(discovery.pods()), both);
        }
        *zone.lock().unwrap() = Ok((vec![b], 0));
        assert_eq!(names(&changed(&mut discovery).await), both[..1]);
    }
}
