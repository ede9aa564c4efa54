//! The balanced channel: what a generated Triton client takes instead of a connection to one server.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::ForwardOptions;
use super::body::RequestBody;
use super::call::{Call, Face, Kind};
use super::deadline::Deadline;
use super::fleet::Fleet;
use super::peek::{Compression, Depth, Peek, peek};
use super::send::Forwarder;
use super::source::Source;
use super::stream;
use crate::node::Node;

impl Node {
    /// A channel for requests of `model`: every call picks a pod of its own, inside the call. What it remembers of its requests
    /// (sequences, the retry budget, the wait queue) its clones share, and nobody else: make one, and clone that.
    ///
    /// ```no_run
    /// # async fn example(node: plimsoll::node::Node) {
    /// use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    ///
    /// let client = GrpcInferenceServiceClient::new(node.channel("resnet50"));
    /// # }
    /// ```
    pub fn channel(&self, model: impl Into<String>) -> BalancedChannel {
        BalancedChannel::new(self.clone(), model.into().into(), ForwardOptions::default())
    }
}

/// A tower service that sends each call to the pod the node picks for it. Clones are cheap and share the node.
///
/// The ticket of a call lives until the last frame of its response was read, or the response is dropped. What goes wrong
/// on this side comes as `Err(Status)`; a pod's own status comes in its response, unchanged.
///
/// What is no inference is answered as a node's front answers it: statistics are summed over all pods, loads go to each of
/// them, and so on, unless the metadata key `plimsoll-pod` names one pod. Only `ServerLive` goes to any pod, since there is no
/// server here whose life could be asked for.
#[derive(Clone)]
pub struct BalancedChannel {
    model: Arc<str>,
    forwarder: Arc<Forwarder>,
    fleet: Arc<Fleet>,
}

impl BalancedChannel {
    /// The same channel under other limits.
    #[must_use]
    pub fn options(self, options: ForwardOptions) -> BalancedChannel {
        BalancedChannel::new(self.forwarder.node.clone(), self.model, options)
    }

    fn new(node: Node, model: Arc<str>, options: ForwardOptions) -> BalancedChannel {
        let fleet = Fleet::new(node.clone(), &options).into();
        BalancedChannel { model, forwarder: Forwarder::new(node, options).into(), fleet }
    }

    async fn forward(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let kind = Kind::of(request.uri().path()).unwrap_or(Kind::Other);
        let (mut parts, body) = request.into_parts();
        let is_inference = matches!(kind, Kind::Infer | Kind::Stream);
        let method = if is_inference { None } else { self.fleet.method(parts.uri.path(), &parts.headers) };
        if let Some(method) = method {
            let answer = Box::pin(self.fleet.answer(method, parts.headers, Source::Client(body))).await?;
            return Ok(answer.map(Body::new));
        }
        let mut deadline = Deadline::take_over(&mut parts.headers);
        let body = Source::Client(body);
        if kind == Kind::Stream {
            let request = Request::from_parts(parts, body);
            let answers = stream::forward(self.forwarder, request, Some(self.model), deadline).await?;
            return Ok(answers.map(Body::new));
        }
        let mut body = RequestBody::new(body, self.forwarder.options.max_message_bytes);
        let depth = if kind != Kind::Other { Depth::Model(Compression::of(&parts.headers)) } else { Depth::Size };
        let peeked = deadline.within(peek(&mut body, depth)).await?;
        let call = Call::new(Face::Grpc, kind, Peek { name: self.model.as_bytes().into(), ..peeked });
        let request = Request::from_parts(parts, body);
        Ok(self.forwarder.forward(call, request, deadline).await?.map(Body::new))
    }
}

impl Service<Request<Body>> for BalancedChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    /// Always: which pod must be ready is known only when the request is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().forward(request))
    }
}

impl fmt::Debug for BalancedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedChannel").field("model", &self.model).finish_non_exhaustive()
    }
}
