//! A node in front of fake pods, and a client of it.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use plimsoll::forward::{FrontOptions, serve};
use plimsoll::node::{Credentials, Node, NodeConfig};
use plimsoll_proto::inference::ModelInferRequest;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Channel;

use super::Pod;

pub(crate) type Client<C> = GrpcInferenceServiceClient<C>;

/// A node in front of `pods`, its front, and a client of that.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) addr: String,
    pub(crate) client: Client<Channel>,
    pub(crate) shutdown: Option<oneshot::Sender<()>>,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

pub(crate) async fn world(pods: &[&Pod], adjust: impl FnOnce(&mut FrontOptions)) -> World {
    world_of(pods, |_| {}, adjust).await
}

pub(crate) async fn world_of(
    pods: &[&Pod],
    configure: impl FnOnce(&mut NodeConfig),
    adjust: impl FnOnce(&mut FrontOptions),
) -> World {
    let mut config = NodeConfig::new("test", Credentials::Secret(b"sixteen bytes at least".to_vec()));
    config.pods = pods.iter().map(|pod| pod.spec()).collect();
    configure(&mut config);
    let node = Node::join(config).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut options = FrontOptions::default();
    adjust(&mut options);
    let (shutdown, told) = oneshot::channel();
    let served = tokio::spawn(serve(node.clone(), [listener], options, async move {
        let _ = told.await;
    }));
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    let client = Client::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
    World { node, addr, client, shutdown: Some(shutdown), served }
}

impl World {
    pub(crate) fn in_flight(&self) -> u32 {
        self.node.picker().pods().iter().map(|pod| pod.own_in_flight()).sum()
    }

    /// Served, failed, refused, cancelled, over all pods.
    pub(crate) fn outcomes(&self) -> [u64; 4] {
        let pods = self.node.picker().pods();
        let sum = |of: fn(&plimsoll::observe::PodStats) -> &std::sync::atomic::AtomicU64| {
            pods.iter().map(|pod| of(pod.stats()).load(SeqCst)).sum()
        };
        [sum(|s| &s.served), sum(|s| &s.failed), sum(|s| &s.refused), sum(|s| &s.cancelled)]
    }
}

/// A request for `model`; the fake pod does what `what` says.
pub(crate) fn infer(model: &str, what: &str) -> tonic::Request<ModelInferRequest> {
    let message = ModelInferRequest {
        model_name: model.into(),
        raw_input_contents: vec![Bytes::from_static(&[7; 100])],
        ..ModelInferRequest::default()
    };
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-do", what.parse().unwrap());
    request
}
