//! The transparent gRPC front: what callers in any language connect to as if it were one Triton.
//!
//! Requests for inference (and all else that Triton serves) go to the pod that the node picks, bytes untouched; questions
//! about liveness, readiness and health are answered for the fleet.

use std::convert::Infallible;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_proto::inference::{ServerLiveResponse, ServerReadyResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Status;
use tracing::{debug, warn};

use super::ask::framed;
use super::authority::OneAuthority;
use super::body::{BoxError, RequestBody, Source};
use super::call::{Call, Face, Kind};
use super::deadline::Deadline;
use super::fleet::{self, Fleet, SERVER_READY, Watch};
use super::peek::{Compression, Depth, Peek, peek};
use super::pin::POD;
use super::response::ResponseBody;
use super::send::Forwarder;
use super::upstream::{CONNECTION_WINDOW, MAX_FRAME, STREAM_WINDOW};
use super::whole::Whole;
use super::{ForwardOptions, plain};
use crate::driver::tls::ServerTls;
use crate::driver::tls::listen::{NoTls, Spoken};
use crate::node::Node;

/// How long a stream's first message is waited for before a pod is picked without it: a client that wants the
/// response's head before it sends anything would else wait for ever. Longer only delays those.
const FIRST_MESSAGE: Duration = Duration::from_secs(1);
/// Streams that callers may reset before they were looked at: a caller that gives up on a thousand requests at once is
/// no attack; the default of 20 would close its connection.
const RESET_STREAMS: usize = 4096;
/// The pause after an accept that failed (most likely out of file descriptors): without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the front serves.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FrontOptions {
    /// Limits on what it forwards.
    pub forward: ForwardOptions,
    /// Requests in flight on one connection; more wait at the caller. Bounds what one caller can make a node hold.
    /// Default 10,000: a whole Python service on one connection.
    pub max_concurrent_streams: u32,
    /// The largest header list that is taken. Default 64 KiB, eight times gRPC's own default, for callers with large tokens.
    pub max_header_bytes: u32,
    /// TLS for callers; without, and by default, they are served in plain text.
    pub tls: Option<ServerTls>,
    /// How long callers are still served once a shutdown began, while health says no: whoever sends to this node may need a
    /// moment to notice. Default none: who shuts down a server of its own knows when to.
    pub grace: Duration,
    /// How long streams may take to finish after the grace; then they are cut. Default 30 s, what Kubernetes gives a container.
    pub drain: Duration,
}

impl Default for FrontOptions {
    fn default() -> FrontOptions {
        FrontOptions {
            forward: ForwardOptions::default(),
            max_concurrent_streams: 10_000,
            max_header_bytes: 64 << 10,
            tls: None,
            grace: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves callers on `listener` until `shutdown`, and for [`FrontOptions::grace`] more, in which health says no; then takes no
/// more, lets streams finish for [`FrontOptions::drain`] at most, and returns when the last connection is closed.
pub async fn serve(node: Node, listener: TcpListener, options: FrontOptions, shutdown: impl Future<Output = ()>) {
    let (stage, at) = watch::channel(Stage::Serving);
    // Ends with this.
    let mut asking = JoinSet::new();
    asking.spawn(super::statistics::follow(node.picker().clone()));
    if let Some(tls) = options.tls.clone() {
        asking.spawn(tls.follow());
    }
    node.look_after_pods();
    let fleet = Arc::new(Fleet::new(node.clone(), &options.forward));
    let forwarder = Arc::new(Forwarder::new(node, options.forward.clone()));
    let front = Arc::new(Front { forwarder, fleet, options, at });
    let mut connections = JoinSet::new();
    let mut over = pin!(async {
        shutdown.await;
        if !front.options.grace.is_zero() {
            stage.send_replace(Stage::Grace);
            tokio::time::sleep(front.options.grace).await;
        }
    });
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(front.clone().connection(stream))),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stage.send_replace(Stage::Closing);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(front.options.drain, all).await.is_err() {
        warn!(connections = connections.len(), "cut connections that did not finish in time");
        connections.shutdown().await;
    }
}

struct Front {
    forwarder: Arc<Forwarder>,
    fleet: Arc<Fleet>,
    options: FrontOptions,
    at: watch::Receiver<Stage>,
}

/// How far the shutdown of a front is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// There is none.
    Serving,
    /// Health says no; all else is as before.
    Grace,
    /// Connections are closed as their streams end.
    Closing,
}

impl Front {
    async fn connection(self: Arc<Front>, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection was gone before it began");
            return;
        }
        let Some(tls) = &self.options.tls else { return self.converse(stream).await };
        let accepted = tokio::select! {
            accepted = tls.accept(stream, Spoken::H2) => accepted,
            () = reached(self.at.clone(), Stage::Closing) => return,
        };
        match accepted {
            Ok(stream) => self.converse(stream).await,
            Err(NoTls::Plain(stream)) => plain::refuse(stream).await,
            Err(NoTls::Failed(error)) => debug!(%error, "no TLS with a caller"),
        }
    }

    async fn converse<S>(self: Arc<Front>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let front = self.clone();
        let service = service_fn(move |request| {
            let front = front.clone();
            // Boxed: hyper and tokio move it half a dozen times before it is where it stays.
            async move { Ok::<_, Infallible>(Box::pin(front.answer(request)).await) }
        });
        let mut connection = pin!(self.builder().serve_connection(TokioIo::new(OneAuthority::new(stream)), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = reached(self.at.clone(), Stage::Closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(error = super::upstream::causes(&error), "a caller's connection broke");
        }
    }

    fn is_leaving(&self) -> bool {
        *self.at.borrow() > Stage::Serving
    }

    fn builder(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_concurrent_streams(self.options.max_concurrent_streams)
            .max_header_list_size(self.options.max_header_bytes)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            // The pod's head passes as it is.
            .auto_date_header(false);
        builder
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        if request.method() != Method::POST {
            return http_error(StatusCode::METHOD_NOT_ALLOWED);
        }
        if !is_grpc(request.headers()) {
            return http_error(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        self.route(request).await.unwrap_or_else(Status::into_http)
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Answer>, Status> {
        let path = request.uri().path();
        let kind = Kind::of(path);
        if let Some(kind @ (Kind::Infer | Kind::Stream)) = kind {
            return self.forward(kind, request).await;
        }
        let is_pinned = request.headers().contains_key(POD);
        if path == SERVER_READY && !is_pinned && self.is_leaving() {
            return Ok(Whole::ok(framed(&ServerReadyResponse { ready: false })).map(Answer::Whole));
        }
        if let Some(method) = self.fleet.method(path, request.headers()) {
            let (parts, body) = request.into_parts();
            let answer = Box::pin(self.fleet.answer(method, parts.headers, Source::Incoming(body))).await?;
            return Ok(answer.map(Answer::Whole));
        }
        match path {
            "/inference.GRPCInferenceService/ServerLive" if !is_pinned => {
                Ok(Whole::ok(framed(&ServerLiveResponse { live: true })).map(Answer::Whole))
            }
            "/grpc.health.v1.Health/Check" if !is_pinned => {
                let ready = !self.is_leaving() && self.fleet.any_ready().await;
                Ok(Whole::ok(fleet::health(ready)).map(Answer::Whole))
            }
            "/grpc.health.v1.Health/Watch" if !is_pinned => {
                let watch = Watch::new(self.fleet.clone(), self.at.clone());
                Ok(Whole::ok(Bytes::new()).map(|_| Answer::Watch(Box::new(watch))))
            }
            "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/Watch" => self.forward(Kind::Other, request).await,
            path => match kind {
                Some(kind) => self.forward(kind, request).await,
                None => Err(Status::unimplemented(format!("unknown method `{path}`"))),
            },
        }
    }

    async fn forward(&self, kind: Kind, request: Request<Incoming>) -> Result<Response<Answer>, Status> {
        let options = &self.options.forward;
        let (mut parts, body) = request.into_parts();
        let mut deadline = Deadline::take_over(&mut parts.headers);
        let compression = Compression::of(&parts.headers);
        let mut body = RequestBody::new(Source::Incoming(body), options.max_message_bytes);
        let depth = Depth::Model(compression);
        let passed = if kind == Kind::Stream { body.watch() } else { None };
        let peeked = match kind {
            Kind::Infer | Kind::AboutModel => deadline.within(peek(&mut body, depth)).await?,
            Kind::Stream => deadline.within(first_message(&mut body, depth)).await?,
            Kind::Other => deadline.within(peek(&mut body, Depth::Size)).await?,
        };
        let call = Call::new(Face::Grpc, kind, peeked);
        let request = Request::from_parts(parts, body);
        Ok(self.forwarder.forward(&call, request, deadline, passed).await?.map(Answer::Pod))
    }
}

/// Returns when the shutdown is at `stage`, or further.
pub(super) async fn reached(mut at: watch::Receiver<Stage>, stage: Stage) {
    // An error means that the sender is gone, and with it whoever would wait for this.
    let _ = at.wait_for(|at| *at >= stage).await;
}

async fn first_message(body: &mut RequestBody, depth: Depth) -> Result<Peek, Status> {
    // One that is late is replayed like the rest; only the pick has to do without its name.
    tokio::time::timeout(FIRST_MESSAGE, peek(body, depth)).await.unwrap_or_else(|_| Ok(Peek::default()))
}

/// `application/grpc`, alone or with a suffix (`+proto`) or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match kind.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

fn http_error(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Nothing);
    *response.status_mut() = status;
    response
}

/// The body of what the front answers.
#[derive(Default)]
enum Answer {
    /// The head says it all.
    #[default]
    Nothing,
    /// A pod's response.
    Pod(ResponseBody),
    /// One that is here as a whole.
    Whole(Whole),
    /// The health of the fleet, for as long as the caller listens.
    Watch(Box<Watch>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Answer::Nothing => Poll::Ready(None),
            Answer::Pod(body) => Pin::new(body).poll_frame(cx),
            Answer::Watch(watch) => Pin::new(&mut **watch).poll_frame(cx).map_err(|never| match never {}),
            Answer::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Nothing => true,
            Answer::Pod(body) => body.is_end_stream(),
            Answer::Whole(body) => body.is_end_stream(),
            Answer::Watch(_) => false,
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("options", &self.options).finish_non_exhaustive()
    }
}
