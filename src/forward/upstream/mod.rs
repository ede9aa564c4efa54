//! The ways to a pod: its address, what is kept for it, and a connection of each protocol that it speaks.

mod address;
mod grpc;
mod http;
mod lost;
mod received;
mod stubs;
mod ties;

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::{HeaderValue, Request, Response};
use tonic::Status;

use self::address::Address;
pub use self::address::{AddressError, check_address};
pub(super) use self::grpc::{MAX_FRAME, STREAM_WINDOW};
pub(super) use self::lost::Lost;
pub(super) use self::received::Received;
use self::stubs::Stubs;
use self::ties::Ties;
use super::body::RequestBody;
use super::call::Face;
use super::models::Asking;
use super::pending;
use super::pin::spell;
use super::shape::Asked;
use crate::driver::clock;
use crate::driver::tls::TlsError;
use crate::id::PodId;
use crate::observe::{Pod, PodSpec};
use crate::pick::Picker;
use crate::time::Time;

/// What callers over HTTP get where pods were configured for gRPC alone.
const NO_HTTP: &str =
    "no pod takes HTTP: give pods an address for it (`http` beside `grpc`, or `discovery.http_port`), or ask over gRPC";

/// Why a pod could not be reached. Nothing was sent to it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{0}")]
    Io(Arc<io::Error>),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("no TLS: {0}")]
    Tls(Arc<io::Error>),
    #[error(transparent)]
    Certificates(Arc<TlsError>),
    #[error("connected, but its protocol is another: {0}")]
    Handshake(Arc<hyper::Error>),
    #[error("connections close at once")]
    ClosesAtOnce,
    #[error("its HTTP address is not known: give the pod one, `http`")]
    NoHttp,
}

/// Why a request brought no response.
pub(super) enum SendError {
    /// No byte of it was sent: here it is again.
    Unsent(Box<Request<RequestBody>>, Unreachable),
    /// The pod may have begun it.
    Lost(Lost),
}

/// What is kept for one pod.
pub(super) struct Upstream {
    /// Its name as headers spell it.
    pub(super) spelled: HeaderValue,
    grpc: grpc::Connection,
    http: Arc<http::Pool>,
    /// Where it shows its metrics, and when they are read next.
    metrics: Arc<http::Pool>,
    pub(super) due: pending::Due,
    /// All connections of both.
    ties: Arc<Ties>,
    /// Which models its configuration was asked for.
    pub(super) asked: Asked,
    /// Which models it has ready, and when it is asked.
    pub(super) looks: Asking,
    /// Which of its models' processes are dead.
    pub(super) stubs: Stubs,
    /// Whether the pod is being asked if it still lives.
    pub(super) checking: AtomicBool,
    /// Whether it is being waited for with what is in flight there, and for how long, ms; until that is known, never. See
    /// [`crate::core::Health::give_up`].
    pub(super) waiting: AtomicBool,
    pub(super) give_up_ms: AtomicU64,
    /// See [`Upstream::aside`].
    aside: OnceLock<Box<Upstream>>,
}

impl Upstream {
    /// What is kept for `pod`.
    pub(super) fn of(pod: &Pod) -> &Upstream {
        let make = || -> Arc<dyn Any + Send + Sync> { Arc::new(Upstream::new(pod.spec())) };
        match pod.attachment(make).downcast_ref() {
            Some(upstream) => upstream,
            None => unreachable!("nothing else attaches itself to a pod"),
        }
    }

    fn new(spec: &PodSpec) -> Upstream {
        let ties = Arc::<Ties>::default();
        Upstream {
            spelled: spell(&spec.name),
            grpc: grpc::Connection::new(Address::new(&spec.grpc, &spec.tls), ties.clone()),
            http: http::Pool::new(spec.http.as_deref().map(|url| Address::new(url, &spec.tls)), ties.clone()),
            metrics: http::Pool::new(spec.metrics.as_deref().map(|url| Address::new(url, &spec.tls)), ties.clone()),
            due: pending::Due::default(),
            ties,
            asked: Asked::default(),
            looks: Asking::default(),
            stubs: Stubs::default(),
            checking: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            give_up_ms: AtomicU64::new(0),
            aside: OnceLock::new(),
        }
    }

    /// Another connection to the same pod, for the node's own questions. A pod that was stopped answers, when it goes on, what
    /// was given up long before; an HTTP/2 client forgets a stream it gave up after a second, and must take such an answer for
    /// a broken connection. With the questions that are to find out whether it hangs, requests in flight would die then.
    pub(super) fn aside(&self, pod: &Pod) -> &Upstream {
        self.aside.get_or_init(|| Box::new(Upstream::new(pod.spec())))
    }

    /// Sends `request`, connecting first where there is no connection.
    pub(super) async fn send(
        &self,
        face: Face,
        request: Request<RequestBody>,
        connect_timeout: Duration,
    ) -> Result<Response<Received>, SendError> {
        let cuts = self.ties.cuts();
        let sent = match face {
            Face::Grpc => self.grpc.send(request, connect_timeout).await.map(|response| response.map(Received::shared)),
            Face::Http => self.http.send(request, connect_timeout).await,
        };
        match sent {
            Ok(response) => Ok(response.map(|received| received.cut_with(&self.ties, cuts))),
            Err(SendError::Lost(_)) if self.ties.cuts() != cuts => Err(SendError::Lost(Lost::Hangs)),
            Err(error) => Err(error),
        }
    }

    /// Ends all that is in flight there, and every connection: one that goes on is met on new ones.
    pub(super) fn give_up(&self) {
        self.grpc.forget();
        self.http.close_idle();
        self.ties.cut();
        if let Some(aside) = self.aside.get() {
            aside.give_up();
        }
    }

    /// Asks where the pod shows its metrics.
    pub(super) async fn ask_metrics(
        &self,
        request: Request<RequestBody>,
        connect_timeout: Duration,
    ) -> Result<Response<Received>, SendError> {
        self.metrics.send(request, connect_timeout).await
    }

    /// Whether a connection over `face` was to be had a moment ago, as far as is known.
    fn hears(&self, face: Face, now: Time) -> bool {
        face == Face::Grpc || !self.http.is_left_alone(now)
    }

    /// Lets go of what is held of it without need.
    pub(super) fn let_go(&self) {
        self.http.close_idle();
    }

    /// Sees to it that there is a gRPC connection.
    ///
    /// # Errors
    /// [`Unreachable`] where there is none, and none could be made.
    pub(super) async fn connect(&self, timeout: Duration) -> Result<(), Unreachable> {
        self.grpc.connected(timeout).await
    }

    /// The number of the last gRPC connection.
    pub(super) fn connections(&self) -> u64 {
        self.grpc.number()
    }
}

/// The pods that requests over `face` are not sent to: those that do not speak it, and, while others do, those that took no
/// connection a moment ago.
///
/// # Errors
/// UNAVAILABLE where pods are known and none of them speaks it.
pub(super) fn deaf_to(face: Face, picker: &Picker) -> Result<Vec<PodId>, Status> {
    if face == Face::Grpc {
        return Ok(Vec::new());
    }
    let (pods, now) = (picker.pods(), clock::now());
    let speaks = |pod: &&Arc<Pod>| face.is_spoken_by(pod.spec());
    let hears = |pod: &&Arc<Pod>| speaks(pod) && Upstream::of(pod).hears(face, now);
    if !pods.is_empty() && !pods.iter().any(|pod| speaks(&pod)) {
        return Err(Status::unavailable(NO_HTTP));
    }
    let any_hears = pods.iter().any(|pod| hears(&pod));
    let deaf = pods.iter().filter(|pod| if any_hears { !hears(pod) } else { !speaks(pod) });
    Ok(deaf.map(|pod| pod.id()).collect())
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SendError::Unsent(_, why) => why.fmt(f),
            SendError::Lost(lost) => lost.fmt(f),
        }
    }
}

/// An error with all its causes: hyper's own text says little ("http2 error").
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
