//! tower's balancer, the better of two random pods, over one tonic channel to each: what linkerd's balancer is based on.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::sync::Mutex;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma, PendingRequests};
use tower::{BoxError, Service, ServiceExt};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// As linkerd2-proxy sets it: what a pod is taken for that was never asked, and how fast peaks are forgotten.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

/// As for all other callers.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What tells the better of two pods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    InFlight,
    PeakEwma,
}

/// A client whose every request is balanced over `pods`.
pub(crate) fn client(
    pods: &[String],
    load: Load,
) -> Result<GrpcInferenceServiceClient<Shared>, tonic::transport::Error> {
    let channels = pods.iter().map(|url| channel(url)).collect::<Result<Vec<_>, _>>()?;
    let complete = CompleteOnResponse::default();
    let decay_ns = DECAY.as_nanos() as f64;
    let shared = match load {
        Load::InFlight => shared(channels.into_iter().map(|channel| PendingRequests::new(channel, complete))),
        Load::PeakEwma => {
            shared(channels.into_iter().map(|channel| PeakEwma::new(channel, DEFAULT_RTT, decay_ns, complete)))
        }
    };
    Ok(GrpcInferenceServiceClient::new(shared))
}

fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let endpoint = endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    Ok(endpoint.connect_lazy())
}

fn shared<S>(pods: impl Iterator<Item = S>) -> Shared
where
    S: Service<Request, Response = Response, Error = tonic::transport::Error> + tower::load::Load + Send + 'static,
    S::Metric: Debug,
    S::Future: Send,
{
    let pods: Vec<S> = pods.collect();
    Shared(Arc::new(Mutex::new(Balance::new(ServiceList::new(pods)))))
}

/// A balancer, whatever its pods are wrapped in.
trait Balances: Send {
    /// Hands `request` to the better of two pods, as soon as one is ready; what comes back is the answer to come.
    fn hand_over(&mut self, request: Request) -> BoxFuture<'_, Result<Answering, BoxError>>;
}

impl<S> Balances for Balance<ServiceList<Vec<S>>, Request>
where
    S: Service<Request, Response = Response, Error = tonic::transport::Error> + tower::load::Load + Send + 'static,
    S::Metric: Debug,
    S::Future: Send,
{
    fn hand_over(&mut self, request: Request) -> BoxFuture<'_, Result<Answering, BoxError>> {
        Box::pin(async move { Ok(Box::pin(self.ready().await?.call(request)) as Answering) })
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Answering = BoxFuture<'static, Result<Response, BoxError>>;

/// One balancer for all requests of a caller.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<dyn Balances>>);

impl Service<Request> for Shared {
    type Response = Response;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let balancer = self.0.clone();
        Box::pin(async move {
            // Others must not wait for the answer too.
            let answering = balancer.lock().await.hand_over(request).await?;
            answering.await
        })
    }
}
