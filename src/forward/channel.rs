//! The balanced channel: what a generated Triton client takes instead of a connection to one server.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::ForwardOptions;
use super::body::{RequestBody, Source};
use super::deadline::Deadline;
use super::peek::{Depth, Peek, peek};
use super::send::{Call, Kind, forward};
use crate::node::Node;

impl Node {
    /// A channel for requests of `model`: every call picks a pod of its own, inside the call.
    ///
    /// ```no_run
    /// # async fn example(node: plimsoll::node::Node) {
    /// use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    ///
    /// let client = GrpcInferenceServiceClient::new(node.channel("resnet50"));
    /// # }
    /// ```
    pub fn channel(&self, model: impl Into<String>) -> BalancedChannel {
        BalancedChannel { node: self.clone(), model: model.into().into(), options: ForwardOptions::default() }
    }
}

/// A tower service that sends each call to the pod the node picks for it. Clones are cheap and share the node.
///
/// The ticket of a call lives until the last frame of its response was read, or the response is dropped. What goes wrong
/// on this side comes as `Err(Status)`; a pod's own status comes in its response, unchanged.
#[derive(Clone)]
pub struct BalancedChannel {
    node: Node,
    model: Arc<str>,
    options: ForwardOptions,
}

impl BalancedChannel {
    /// The same channel under other limits.
    #[must_use]
    pub fn options(self, options: ForwardOptions) -> BalancedChannel {
        BalancedChannel { options, ..self }
    }

    async fn forward(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let kind = Kind::of(request.uri().path()).unwrap_or(Kind::Other);
        let (mut parts, body) = request.into_parts();
        let mut deadline = Deadline::take_over(&mut parts.headers);
        let mut body = RequestBody::new(Source::Client(body), self.options.max_message_bytes);
        let (passed, peeked) = match kind {
            Kind::Stream => (body.watch(), peek_if_there(&mut body).await?),
            _ => (None, deadline.within(peek(&mut body, Depth::Size)).await?),
        };
        let call = Call::new(kind, &self.model, peeked.bytes, &self.options);
        let request = Request::from_parts(parts, body);
        Ok(forward(&self.node, &call, request, deadline, passed).await?.map(Body::new))
    }
}

/// A stream's first message, if it is there: one that comes only after the response's head must not be waited for.
async fn peek_if_there(body: &mut RequestBody) -> Result<Peek, Status> {
    let mut peeked = std::pin::pin!(peek(body, Depth::Size));
    poll_fn(|cx| match peeked.as_mut().poll(cx) {
        Poll::Pending => Poll::Ready(Ok(Peek::default())),
        done => done,
    })
    .await
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
