//! The ways from a caller to a pod.

use std::time::Duration;

use clap::{Args, ValueEnum};
use plimsoll::node::{Credentials, Node, NodeConfig};
use plimsoll::observe::PodSpec;
use plimsoll_load::{Carrier, Client, client};
use plimsoll_proto::inference::ModelInferRequest;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tonic::Status;

use crate::p2c::{self, Load, Shared};
use crate::redis::Caller;

/// How long the nodes of this process may take to find each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which way, and for how many callers
#[derive(Args, Debug)]
pub(crate) struct Way {
    /// How requests find their pod
    #[arg(long, value_enum)]
    by: By,
    /// Where they go: the addresses of pods, or of what stands before them; caller k takes the k-th of the latter
    #[arg(long, value_name = "URL", required = true)]
    to: Vec<String>,
    /// Where the Redis is, such as redis://127.0.0.1:6379
    #[arg(long, value_name = "URL", required_if_eq("by", "redis"))]
    redis: Option<String>,
    /// The model that a node of the library is asked for
    #[arg(long, default_value = "sim_gpu")]
    of_model: String,
    /// Callers, each with connections and counts of its own
    #[arg(long, default_value_t = 1)]
    callers: usize,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Whatever is at the address
    Address,
    /// The better of two random pods, by own requests in flight (tower)
    TowerPending,
    /// The better of two random pods, by peak EWMA of latencies (tower)
    TowerEwma,
    /// The least loaded pod of a sorted set (Redis and Lua)
    Redis,
    /// plimsoll's library
    Library,
}

/// Callers of one way.
pub(crate) enum Callers {
    Address(Vec<Client>),
    Tower(Vec<GrpcInferenceServiceClient<Shared>>),
    Redis(Vec<Caller>),
    Library(Vec<GrpcInferenceServiceClient<plimsoll::forward::BalancedChannel>>),
}

impl Callers {
    pub(crate) async fn new(way: &Way) -> Result<Callers, Box<dyn std::error::Error>> {
        let callers = 0..way.callers;
        Ok(match way.by {
            By::Address => {
                let addresses = way.to.iter().cycle().take(way.callers);
                Callers::Address(addresses.map(|url| client(url)).collect::<Result<_, _>>()?)
            }
            By::TowerPending | By::TowerEwma => {
                let load = if way.by == By::TowerEwma { Load::PeakEwma } else { Load::InFlight };
                Callers::Tower(callers.map(|_| p2c::client(&way.to, load)).collect::<Result<_, _>>()?)
            }
            By::Redis => {
                let redis = way.redis.as_deref().ok_or("--redis is missing")?;
                let mut made = Vec::new();
                for caller in callers {
                    made.push(Caller::new(redis, &way.to, caller == 0).await?);
                }
                Callers::Redis(made)
            }
            By::Library => {
                let nodes = nodes(&way.to, way.callers).await?;
                let client = |node: &Node| GrpcInferenceServiceClient::new(node.channel(way.of_model.clone()));
                Callers::Library(nodes.iter().map(client).collect())
            }
        })
    }
}

/// Nodes that know each other.
async fn nodes(pods: &[String], count: usize) -> Result<Vec<Node>, Box<dyn std::error::Error>> {
    let mut nodes: Vec<Node> = Vec::new();
    for index in 0..count {
        let mut config = NodeConfig::new(format!("caller-{index}"), Credentials::Secret(vec![7; 32]));
        config.pods = (0..).zip(pods).map(|(k, url): (usize, _)| PodSpec::new(format!("pod{k}"), url)).collect();
        config.join = nodes.iter().map(|node| node.gossip_addr().to_string()).collect();
        nodes.push(Node::join(config).await?);
    }
    let meeting = async {
        for node in &nodes {
            while node.members().await.len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, meeting).await.map_err(|_| "the nodes did not find each other")?;
    Ok(nodes)
}

impl Carrier for Callers {
    fn targets(&self) -> usize {
        match self {
            Callers::Address(clients) => clients.len(),
            Callers::Tower(clients) => clients.len(),
            Callers::Redis(clients) => clients.len(),
            Callers::Library(clients) => clients.len(),
        }
    }

    async fn infer(&self, caller: usize, request: ModelInferRequest) -> Result<(), Status> {
        match self {
            Callers::Address(clients) => clients[caller].clone().model_infer(request).await.map(drop),
            Callers::Tower(clients) => clients[caller].clone().model_infer(request).await.map(drop),
            Callers::Redis(clients) => clients[caller].infer(request).await,
            Callers::Library(clients) => clients[caller].clone().model_infer(request).await.map(drop),
        }
    }
}
