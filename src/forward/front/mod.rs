//! The front: what callers in any language connect to as if it were one Triton.

mod answer;
mod grpc;
mod http;
mod traffic;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ::http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use self::answer::Answer;
use self::traffic::{Counted, Traffic};
use super::authority::OneAuthority;
use super::fleet::Fleet;
use super::send::Forwarder;
use super::source::Source;
use super::upstream::{MAX_FRAME, STREAM_WINDOW};
use super::{ForwardOptions, plain};
use crate::driver::door::{Door, Room};
use crate::driver::tls::ServerTls;
use crate::driver::tls::listen::{NoTls, Spoken};
use crate::node::Node;

/// Streams that callers may reset before they were looked at: a caller that gives up on a thousand requests at once is
/// no attack; the default of 20 would close its connection.
const RESET_STREAMS: usize = 4096;
/// What all requests on one caller's connection may have on their way while no pod reads them, because it hangs or there is a queue:
/// 256 full streams, as much as Envoy gave for long. More is more memory for one caller; with 16 MiB, sixteen tensors for a pod
/// that hung stopped all that their caller sent to others.
const CONNECTION_WINDOW: u32 = 256 << 20;
/// The smallest buffer that hyper takes for a connection's head.
const LEAST_BUFFER: usize = 8 << 10;
/// How long a caller that is told to leave may take to do so, while it has no request: a few round trips.
const FAREWELL: Duration = Duration::from_secs(5);
/// What metrics and the log call the listeners.
const DOOR: &str = "front";

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
    /// How long a connection may take to say its first word, and a request's head over HTTP/1.1 to come; and how long a connection
    /// of HTTP/1.1 may stay without a request (see [`super::Limits::connection_idle`] for HTTP/2). Default 75 s,
    /// as nginx has it: longer than clients keep connections that they do not use, so that the client is the one to close.
    pub idle: Duration,
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
            idle: Duration::from_secs(75),
            tls: None,
            grace: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves callers on `listeners` until `shutdown`, and for [`FrontOptions::grace`] more, in which health says no; then takes no
/// more, lets streams finish for [`FrontOptions::drain`] at most, and returns when the last connection is closed.
pub async fn serve(
    node: Node,
    listeners: impl IntoIterator<Item = TcpListener>,
    options: FrontOptions,
    shutdown: impl Future<Output = ()>,
) {
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
    let grace = options.grace;
    let room = Room::new(options.forward.limits.connections);
    let front = Arc::new(Front { forwarder, fleet, options, at });
    let door = |listener| Door::new(listener, DOOR, room.clone());
    let mut doors: JoinSet<()> = listeners.into_iter().map(|listener| front.clone().take_in(door(listener))).collect();
    shutdown.await;
    if !grace.is_zero() {
        stage.send_replace(Stage::Grace);
        sleep(grace).await;
    }
    stage.send_replace(Stage::Closing);
    while doors.join_next().await.is_some() {}
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
    /// Takes in who comes to `door`, until the shutdown and the last of them is gone.
    async fn take_in(self: Arc<Front>, mut door: Door) {
        let mut connections = JoinSet::new();
        let mut closing = pin!(reached(self.at.clone(), Stage::Closing));
        loop {
            tokio::select! {
                biased;
                () = &mut closing => break,
                Some(_) = connections.join_next() => {}
                (stream, place) = door.accept() => {
                    let front = self.clone();
                    connections.spawn(async move {
                        front.connection(stream).await;
                        drop(place);
                    });
                }
            }
        }
        drop(door);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.options.drain, all).await.is_err() {
            warn!(connections = connections.len(), "cut connections that did not finish in time");
            connections.shutdown().await;
        }
    }

    async fn connection(self: Arc<Front>, stream: TcpStream) {
        // Whoever connects and says nothing would hold its place for ever.
        let mut first = [0];
        let spoke = tokio::select! {
            first = tokio::time::timeout(self.options.idle, stream.peek(&mut first)) => first,
            () = reached(self.at.clone(), Stage::Closing) => return,
        };
        match spoke {
            Ok(Ok(1)) => {}
            Ok(_) => return,
            Err(_) => return closed("silent"),
        }
        let Some(tls) = &self.options.tls else { return self.converse(stream).await };
        let accepted = tokio::select! {
            accepted = tls.accept(stream, Spoken::Front) => accepted,
            () = reached(self.at.clone(), Stage::Closing) => return,
        };
        match accepted {
            Ok(stream) => self.converse(stream).await,
            Err(NoTls::Plain(stream)) => plain::refuse(stream).await,
            Err(NoTls::Failed(error)) => {
                debug!(%error, "no TLS with a caller");
                closed("no_tls");
            }
        }
    }

    async fn converse<S>(self: Arc<Front>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (front, traffic, known) = (self.clone(), Traffic::new(), Arc::new(AtomicBool::new(false)));
        let of_requests = traffic.clone();
        let service = service_fn(move |request| {
            let (front, open) = (front.clone(), of_requests.begin());
            // Boxed: hyper and tokio move it half a dozen times before it is where it stays.
            async move {
                let response = Box::pin(front.answer(request)).await;
                Ok::<_, Infallible>(response.map(|answer| Counted { answer, _open: open }))
            }
        });
        let builder = self.builder();
        let stream = TokioIo::new(OneAuthority::new(stream, known.clone()));
        let mut connection = pin!(builder.serve_connection(stream, service));
        // hyper keeps the time only once it knows which protocol is spoken.
        let silent = async {
            sleep(self.options.idle).await;
            if known.load(Relaxed) {
                pending().await
            }
        };
        let useless = async {
            tokio::select! {
                () = silent => "silent",
                () = traffic.quiet_for(self.options.forward.limits.connection_idle) => "idle",
            }
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            why = useless => {
                closed(why);
                connection.as_mut().graceful_shutdown();
                // Whoever sent a request just now gets his answer.
                let stays = async {
                    sleep(FAREWELL).await;
                    traffic.quiet_for(FAREWELL).await;
                };
                tokio::select! {
                    ended = &mut connection => ended,
                    () = stays => Ok(()),
                }
            }
            () = reached(self.at.clone(), Stage::Closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(error = super::upstream::causes(&*error), "a caller's connection broke");
        }
    }

    /// What the caller of one request sends.
    fn source(&self, body: Incoming) -> Source {
        Source::of_caller(body, Some(self.options.forward.limits.body_idle))
    }

    fn is_leaving(&self) -> bool {
        *self.at.borrow() > Stage::Serving
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.idle)
            .max_buf_size(LEAST_BUFFER.max(self.options.max_header_bytes as usize))
            // A Triton makes parameters of headers, by their names as they were written.
            .preserve_header_case(true)
            .auto_date_header(false);
        builder
            .http2()
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

    /// Both protocols come in by the same door, and are told apart by each request's content type.
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        match grpc::is_grpc(request.headers()) {
            true if request.version() == Version::HTTP_2 => self.answer_grpc(request).await,
            true => grpc::needs_http2(),
            false => self.answer_http(request).await,
        }
    }
}

/// A connection is closed from this side.
fn closed(why: &'static str) {
    debug!(why, "closed a caller's connection");
    counter!("plimsoll_connections_closed_total", "door" => DOOR, "reason" => why).increment(1);
}

/// Returns when the shutdown is at `stage`, or further.
pub(super) async fn reached(mut at: watch::Receiver<Stage>, stage: Stage) {
    // An error means that the sender is gone, and with it whoever would wait for this.
    let _ = at.wait_for(|at| *at >= stage).await;
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("options", &self.options).finish_non_exhaustive()
    }
}
