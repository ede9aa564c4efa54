//! What a demo plays against: pods in a process of their own (or pods that already run), and for each phase a fresh
//! set of nodes that have found each other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient as Client;
use plimsoll_proto::inference::{ModelStatisticsRequest, ServerReadyRequest};
use rand::RngExt;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tonic::transport::{Channel, Endpoint};

use super::figures::{PodShare, rounded};
use super::plan::{PLIMSOLL, Plan, Pods};
use super::process::{Process, ProcessError, free_addresses, stop_all};
use super::store::Store;

/// On a busy laptop four nodes need about a second. Whoever needs ten has a problem that waiting does not solve.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// As in the pods: a payload should not wait for HTTP/2 to widen its window.
const WINDOW_BYTES: u32 = 4 << 20;

/// Something that the demo plays against is not there. Whatever was started has been ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A child process failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The demo's own files could not be written.
    #[error("cannot write the demo's temporary files: {0}")]
    Files(#[from] std::io::Error),
    /// A pod does not answer, or not as a Triton does.
    #[error("pod `{name}` at `{url}` does not answer: {reason}; is it running, and is this its gRPC port?")]
    Pod {
        /// The pod.
        name: String,
        /// Where it was asked.
        url: String,
        /// What came instead.
        reason: String,
    },
}

/// The pods of a demo. Dropping them ends those that the demo started.
#[derive(Debug)]
pub(super) struct Fleet {
    pods: Vec<Pod>,
    process: Option<Process>,
    slots: usize,
    model: String,
}

#[derive(Debug)]
struct Pod {
    name: String,
    url: String,
    client: Client<Channel>,
}

impl Pod {
    fn new(index: usize, url: &Uri) -> Self {
        let url = url.to_string().trim_end_matches('/').to_owned();
        Self { name: format!("pod-{index}"), client: Client::new(channel(url.clone())), url }
    }

    /// Nanoseconds of service that the pod has completed.
    async fn served_ns(&self, model: &str) -> Result<u64, FleetError> {
        let question = ModelStatisticsRequest { name: model.to_owned(), version: String::new() };
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(ANSWER_WITHIN, client.model_statistics(question)).await;
        let failed = |reason| FleetError::Pod { name: self.name.clone(), url: self.url.clone(), reason };
        let statistics = answer
            .map_err(|_| failed(format!("nothing within {} s", ANSWER_WITHIN.as_secs())))?
            .map_err(|status| failed(format!("{:?} {}", status.code(), status.message())))?
            .into_inner();
        let infer = statistics.model_stats.iter().filter_map(|one| one.inference_stats?.compute_infer);
        Ok(infer.map(|compute| compute.ns).sum())
    }
}

/// What the pods had done at some moment.
#[derive(Debug)]
pub(super) struct Served {
    at: Instant,
    ns: Vec<u64>,
}

impl Fleet {
    /// Starts the pods, or finds those that run.
    pub(super) async fn new(plan: &Plan, logs: &Path) -> Result<Self, FleetError> {
        let (urls, process) = match &plan.pods {
            Pods::Running(urls) => (urls.clone(), None),
            Pods::Start(count) => {
                let (urls, process) = start_pods(*count, plan.slots.get(), logs).await?;
                (urls, Some(process))
            }
        };
        let pods = urls.iter().enumerate().map(|(index, url)| Pod::new(index, url)).collect();
        let fleet = Self { pods, process, slots: plan.slots.get(), model: plan.model.clone() };
        fleet.served().await?;
        Ok(fleet)
    }

    pub(super) async fn served(&self) -> Result<Served, FleetError> {
        let mut ns = Vec::with_capacity(self.pods.len());
        for pod in &self.pods {
            ns.push(pod.served_ns(&self.model).await?);
        }
        Ok(Served { at: Instant::now(), ns })
    }

    /// How busy each pod was between two moments at which nothing was in flight.
    pub(super) fn shares(&self, before: &Served, after: &Served) -> Vec<PodShare> {
        let slot_ns = (after.at - before.at).as_nanos() as f64 * self.slots as f64;
        let share = |(pod, (before, after)): (&Pod, (&u64, &u64))| PodShare {
            name: pod.name.clone(),
            busy_share: rounded(after.saturating_sub(*before) as f64 / slot_ns),
        };
        self.pods.iter().zip(before.ns.iter().zip(&after.ns)).map(share).collect()
    }

    pub(super) fn check(&mut self) -> Result<(), ProcessError> {
        self.process.iter_mut().try_for_each(Process::check)
    }

    pub(super) async fn stop(self) {
        stop_all(self.process.into_iter().collect()).await;
    }
}

async fn start_pods(count: usize, slots: usize, logs: &Path) -> Result<(Vec<Uri>, Process), FleetError> {
    let mut args = strings(["pod", "--until-stdin-ends", "--slots", &slots.to_string()]);
    args.extend((0..count).flat_map(|_| strings(["--grpc", "127.0.0.1:0"])));
    let mut process = Process::start("pods", &args, logs)?;
    let read = read_addresses(process.stdout(), count);
    let urls = tokio::time::timeout(READY_WITHIN, read).await.unwrap_or_default();
    if urls.len() < count {
        process.check()?;
        let waiting_for = format!("{} of {count} pods ready", urls.len());
        return Err(process.not_ready(READY_WITHIN, waiting_for).into());
    }
    Ok((urls, process))
}

/// Reads `pod-0 ready on ADDRESS`, a line for each pod.
async fn read_addresses(stdout: Option<impl tokio::io::AsyncRead + Unpin>, count: usize) -> Vec<Uri> {
    let mut urls = Vec::with_capacity(count);
    let Some(stdout) = stdout else { return urls };
    let mut lines = BufReader::new(stdout).lines();
    while urls.len() < count
        && let Ok(Some(line)) = lines.next_line().await
    {
        let address = line.split_once(" ready on ").map(|(_, address)| address);
        urls.extend(address.and_then(|address| format!("http://{address}").parse::<Uri>().ok()));
    }
    urls
}

/// The nodes of one phase. Dropping them ends them.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    process: Process,
    ports: Ports,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    grpc: SocketAddr,
    admin: SocketAddr,
    gossip: SocketAddr,
}

impl Nodes {
    /// Starts nodes that pick by `policy`, or as `store` says, and waits until each is ready and knows all the others.
    pub(super) async fn start(
        plan: &Plan,
        (policy, store): (&str, Option<&Store>),
        fleet: &Fleet,
        files: &Path,
    ) -> Result<Self, FleetError> {
        let config = files.join("demo.toml");
        std::fs::write(&config, store.map_or_else(String::new, Store::config))?;
        let config = config.to_string_lossy();
        // What decides where the store does not.
        let policy = if store.is_some() { PLIMSOLL } else { policy };
        let secret = write_secret(files)?;
        let free = free_addresses(3 * plan.nodes)?;
        let ports: Vec<_> =
            free.chunks_exact(3).map(|free| Ports { grpc: free[0], admin: free[1], gossip: free[2] }).collect();
        let mut nodes = Vec::with_capacity(plan.nodes);
        for (index, own) in ports.iter().enumerate() {
            let name = node_name(index);
            let mut args = strings([
                "node",
                "--until-stdin-ends",
                "--drain-grace-s",
                "0",
                "--name",
                &name,
                "--config",
                &config,
                "--policy",
                policy,
                "--cluster-secret-file",
                &secret,
            ]);
            args.extend(strings(["--grpc", &own.grpc.to_string(), "--admin", &own.admin.to_string()]));
            args.extend(strings(["--gossip", &own.gossip.to_string()]));
            let peers = ports.iter().enumerate().filter(|(other, _)| *other != index);
            args.extend(peers.flat_map(|(_, peer)| strings(["--join", &peer.gossip.to_string()])));
            args.extend(fleet.pods.iter().flat_map(|pod| strings(["--pod", &format!("{}={}", pod.name, pod.url)])));
            nodes.push(Node { process: Process::start(&name, &args, files)?, ports: *own });
        }
        let mut nodes = Self { nodes };
        nodes.until_ready(store.is_some()).await?;
        Ok(nodes)
    }

    /// How many picks the shared Redis decided, of those that it was there for.
    pub(super) async fn asked(&self) -> Asked {
        let mut all = Asked::default();
        for node in &self.nodes {
            if let Ok(Seen { state: Some(state) }) = seen(node.ports.admin).await {
                all.answered += state.answered;
                all.by_view += state.asked.saturating_sub(state.answered) + state.unasked;
            }
        }
        all
    }

    pub(super) fn channels(&self) -> Vec<Channel> {
        self.nodes.iter().map(|node| channel(format!("http://{}", node.ports.grpc))).collect()
    }

    pub(super) fn check(&mut self) -> Result<(), ProcessError> {
        self.nodes.iter_mut().try_for_each(|node| node.process.check())
    }

    pub(super) async fn stop(self) {
        stop_all(self.nodes.into_iter().map(|node| node.process).collect()).await;
    }

    async fn until_ready(&mut self, asks: bool) -> Result<(), ProcessError> {
        let names: BTreeSet<String> = (0..self.nodes.len()).map(node_name).collect();
        let deadline = Instant::now() + READY_WITHIN;
        for node in &mut self.nodes {
            while let Err(waiting_for) = node.ready(&names, asks).await {
                node.process.check()?;
                if Instant::now() > deadline {
                    return Err(node.process.not_ready(READY_WITHIN, waiting_for));
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    }
}

impl Node {
    /// What is missing until this node serves and knows all others, and has found its Redis where it `asks` one.
    async fn ready(&self, names: &BTreeSet<String>, asks: bool) -> Result<(), String> {
        let url = format!("http://{}", self.ports.grpc);
        let mut client = Client::new(channel(url));
        let answer = tokio::time::timeout(ANSWER_WITHIN, client.server_ready(ServerReadyRequest {})).await;
        match answer {
            Ok(Ok(answer)) if answer.get_ref().ready => (),
            Ok(Ok(_)) => return Err("ServerReady says false".to_owned()),
            Ok(Err(status)) => return Err(format!("ServerReady: {}", status.message())),
            Err(_) => return Err("ServerReady does not answer".to_owned()),
        }
        if asks {
            let seen = seen(self.ports.admin).await.map_err(|error| format!("view: {error}"))?;
            let state = seen.state.ok_or("has no shared state")?;
            if state.rung != "redis" {
                return Err(format!("has not found its Redis: {}", state.last_trouble.unwrap_or_default()));
            }
        }
        let mut alive = members(self.ports.admin).await.map_err(|error| format!("members: {error}"))?;
        alive.insert(self.process.name.clone());
        match names.difference(&alive).next() {
            None => Ok(()),
            Some(_) => Err(format!("knows {} of {} nodes", alive.intersection(names).count(), names.len())),
        }
    }
}

/// Picks of a phase that could ask a Redis.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Asked {
    pub(super) answered: u64,
    pub(super) by_view: u64,
}

/// What a node says of its shared state.
#[derive(Debug, Deserialize)]
struct Seen {
    state: Option<State>,
}

#[derive(Debug, Deserialize)]
struct State {
    rung: String,
    asked: u64,
    answered: u64,
    unasked: u64,
    last_trouble: Option<String>,
}

async fn seen(admin: SocketAddr) -> Result<Seen, Box<dyn std::error::Error + Send + Sync>> {
    let body = tokio::time::timeout(ANSWER_WITHIN, get(admin, "/v1/view")).await??;
    Ok(serde_json::from_slice(&body)?)
}

#[derive(Debug, Deserialize)]
struct Member {
    name: String,
    state: String,
}

/// The names of the members that the node at `admin` holds for alive.
async fn members(admin: SocketAddr) -> Result<BTreeSet<String>, Box<dyn std::error::Error + Send + Sync>> {
    let body = tokio::time::timeout(ANSWER_WITHIN, get(admin, "/v1/members")).await??;
    let members: Vec<Member> = serde_json::from_slice(&body)?;
    Ok(members.into_iter().filter(|member| member.state == "alive").map(|member| member.name).collect())
}

async fn get(address: SocketAddr, path: &str) -> Result<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request =
        http::Request::get(path).header(http::header::HOST, address.to_string()).body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    if status.is_success() { Ok(body) } else { Err(format!("{path} answered {status}").into()) }
}

/// Connects when first used, and again when the connection is lost.
fn channel(url: String) -> Channel {
    Endpoint::from_shared(url)
        .expect("addresses were parsed before")
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy()
}

fn node_name(index: usize) -> String {
    format!("demo-{index}")
}

/// A secret for this phase's cluster, readable by this user alone.
fn write_secret(files: &Path) -> std::io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = files.join("cluster.secret");
    let bytes: [u8; 32] = rand::rng().random();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, hex.as_bytes())?;
    Ok(path.to_string_lossy().into_owned())
}

fn strings<const N: usize>(parts: [&str; N]) -> Vec<String> {
    parts.map(str::to_owned).to_vec()
}
