//! What the front costs, beside no front at all, in one run: added latency, CPU and memory per request.
//!
//! ```sh
//! cargo bench --bench front                       # all, on all cores
//! taskset -c 0 cargo bench --bench front          # the whole chain on one core: no wake-ups between cores, steadier
//! ```
//! A `plimsoll pod` answers at once (model `sim_zero`); a stock tonic client sends to it directly, through a
//! `plimsoll node`, and through the library's channel. CPU is what the kernel says the process used.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures wall time")]
#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use plimsoll::node::{Credentials, Node, NodeConfig};
use plimsoll::observe::PodSpec;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient as Client;
use plimsoll_proto::inference::model_infer_request::InferInputTensor;
use plimsoll_proto::inference::{ModelInferRequest, ModelInferResponse};
use tonic::transport::Channel;

const PAYLOAD: usize = 100;
const SEQUENTIAL: usize = 5_000;
const CONCURRENT: usize = 64;
const CLOSED_LOOP: Duration = Duration::from_secs(5);
const SOAK: u64 = 100_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let pod = Server::pod();
    let node = Server::node(&pod.address);
    let library = library(&pod.address).await;
    let idle_kb = node.rss_kb();

    println!("sequential, {PAYLOAD} B, {SEQUENTIAL} requests each");
    println!("{:<22}{:>12}{:>12}{:>22}{:>20}", "path", "p50 µs", "p99 µs", "node CPU µs/request", "RSS of node MiB");
    for path in ["direct", "through a node", "library channel"] {
        let cpu = node.cpu();
        let mut times = match path {
            "direct" => sequential(connect(&pod.address).await).await,
            "through a node" => sequential(connect(&node.address).await).await,
            _ => sequential(Client::new(library.channel("sim_zero"))).await,
        };
        times.sort();
        let p = |q: usize| times[times.len() * q / 100].as_secs_f64() * 1e6;
        let cpu = (node.cpu() - cpu).as_secs_f64() * 1e6 / SEQUENTIAL as f64;
        println!("{path:<22}{:>12.1}{:>12.1}{:>22.1}{:>20.1}", p(50), p(99), cpu, node.rss_kb() / 1024.0);
    }

    println!("\n{CONCURRENT} concurrent, closed loop, {} s each", CLOSED_LOOP.as_secs());
    println!("{:<22}{:>12}{:>22}{:>22}", "path", "requests/s", "node CPU µs/request", "client CPU µs/request");
    for path in ["direct", "through a node", "library channel"] {
        let (cpu, own) = (node.cpu(), cpu_of("self"));
        let done = match path {
            "direct" => closed_loop(connect(&pod.address).await).await,
            "through a node" => closed_loop(connect(&node.address).await).await,
            _ => closed_loop(Client::new(library.channel("sim_zero"))).await,
        };
        let per = |used: Duration| used.as_secs_f64() * 1e6 / done as f64;
        let rate = done as f64 / CLOSED_LOOP.as_secs_f64();
        println!("{path:<22}{rate:>12.0}{:>22.1}{:>22.1}", per(node.cpu() - cpu), per(cpu_of("self") - own));
    }

    let left = SOAK.saturating_sub(node.served());
    soak(connect(&node.address).await, left).await;
    println!(
        "\nRSS of the node: {:.1} MiB before the first request, {:.1} MiB after {} of them",
        idle_kb / 1024.0,
        node.rss_kb() / 1024.0,
        node.served()
    );
    library.leave(Duration::ZERO).await;
}

async fn sequential<T>(mut client: Client<T>) -> Vec<Duration>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    for _ in 0..200 {
        client.model_infer(request()).await.unwrap();
    }
    let mut times = Vec::with_capacity(SEQUENTIAL);
    for _ in 0..SEQUENTIAL {
        let started = Instant::now();
        check(client.model_infer(request()).await.unwrap().into_inner());
        times.push(started.elapsed());
    }
    times
}

async fn closed_loop<T>(client: Client<T>) -> u64
where
    T: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + CLOSED_LOOP;
    let loops = (0..CONCURRENT).map(|_| {
        let (mut client, done) = (client.clone(), done.clone());
        tokio::spawn(async move {
            while Instant::now() < until {
                check(client.model_infer(request()).await.unwrap().into_inner());
                done.fetch_add(1, Relaxed);
            }
        })
    });
    for task in loops.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    done.load(Relaxed)
}

async fn soak(client: Client<Channel>, requests: u64) {
    let loops = (0..CONCURRENT as u64).map(|k| {
        let mut client = client.clone();
        tokio::spawn(async move {
            for _ in 0..(requests + k) / CONCURRENT as u64 {
                client.model_infer(request()).await.unwrap();
            }
        })
    });
    for task in loops.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn request() -> ModelInferRequest {
    let input = InferInputTensor {
        name: "PAYLOAD".into(),
        datatype: "UINT8".into(),
        shape: vec![PAYLOAD as i64],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "sim_zero".into(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from_static(&[0; PAYLOAD])],
        ..Default::default()
    }
}

fn check(response: ModelInferResponse) {
    assert_eq!(response.model_name, "sim_zero");
}

async fn connect(address: &str) -> Client<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
    Client::new(endpoint.connect().await.unwrap())
}

async fn library(pod: &str) -> Node {
    let mut config = NodeConfig::new("bench-library", Credentials::Secret(vec![7; 32]));
    config.pods = vec![PodSpec::new("pod", format!("http://{pod}"))];
    Node::join(config).await.unwrap()
}

/// A process of plimsoll's own; ends with the benchmark.
struct Server {
    child: Child,
    address: String,
    admin: Option<String>,
}

impl Server {
    fn pod() -> Server {
        let mut child = command().args(["pod", "--grpc", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().unwrap().to_owned();
        Server { child, address, admin: None }
    }

    fn node(pod: &str) -> Server {
        let (address, admin, gossip) = (free(), free(), free());
        let flags = ["--name", "bench", "--grpc", &address, "--admin", &admin, "--gossip", &gossip];
        let child = command().arg("node").args(flags).args(["--pod", &format!("pod=http://{pod}")]).spawn().unwrap();
        let node = Server { child, address, admin: Some(admin) };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(&node.address).is_err() || node.get("/health/ready").is_empty() {
            assert!(Instant::now() < until, "the node is not there within 10 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        node
    }

    /// CPU that the process used so far.
    fn cpu(&self) -> Duration {
        cpu_of(&self.child.id().to_string())
    }

    fn rss_kb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn served(&self) -> u64 {
        let metrics = self.get("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("plimsoll_picks_total")).unwrap_or(" 0");
        line.split_whitespace().last().unwrap().parse::<f64>().unwrap() as u64
    }

    fn get(&self, path: &str) -> String {
        let Some(mut stream) = self.admin.as_ref().and_then(|admin| std::net::TcpStream::connect(admin).ok()) else {
            return String::new();
        };
        write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env("RUST_LOG", "warn");
    command
}

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Nanoseconds on a CPU, over all threads that live.
fn cpu_of(pid: &str) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ns = tasks.flatten().map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(ns.sum())
}
