//! HTTP/1.1 to a pod: a connection carries one request at a time, so that there are as many as requests in flight, and a few
//! more that wait for the next ones.
//!
//! A connection goes back with the last byte of its response. Whoever drops a response before that closes the connection: it
//! is the only way in which HTTP/1.1 tells a server that nobody waits any more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::super::body::RequestBody;
use super::address::{Address, dial};
use super::received::Received;
use super::ties::{Tied, Ties};
use super::{Lost, SendError, Unreachable, causes};
use crate::driver::clock;
use crate::driver::tls::pods::Wanted;
use crate::time::Time;

/// Connections to one pod that are kept without a request. More than a Triton's HTTP front has threads (8) gains little; it
/// costs file descriptors on both sides, in every node.
const MOST_IDLE: usize = 64;
/// How old one may become, used or not. A Triton that ends (2.51) serves the connections that it has, and waits for their
/// end; it is new ones that show it: so each node hears of it within this time. Half of it would find that out a little
/// sooner. Firewalls and load balancers on the way forget connections later than that.
const LIFE: Duration = Duration::from_secs(4);
/// How often it is looked for those that grew too old while they waited.
const LOOK: Duration = Duration::from_secs(1);
/// How long a pod that took no connection is left to other protocols, while other pods take HTTP. Shorter than anybody needs to
/// restart a server, so that nobody misses it when it is back.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// How long a new connection is watched before it is used. A Triton that ends goes on taking connections, and closes them without
/// a look at what they bring, most of them within 0.3 ms (2.51): what was sent on one would be lost, and nobody could tell
/// whether it had begun. Connections are used for many requests, so that few of these wait for it.
const CLOSES_AT_ONCE: Duration = Duration::from_millis(1);

type Sender = http1::SendRequest<RequestBody>;

/// A connection, and since when it is there.
pub(super) struct Lent {
    sender: Sender,
    made: Time,
}

/// One pod's connections.
pub(super) struct Pool {
    /// None where the pod has no HTTP address.
    address: Option<Address>,
    ties: Arc<Ties>,
    idle: Mutex<Idle>,
    /// When a connection failed, ns; 0 where none did since one was made.
    failed_at: AtomicU64,
}

/// The connections that wait: the longest first.
#[derive(Default)]
struct Idle {
    waiting: VecDeque<Lent>,
    /// Whether somebody sees to it that they grow no older than they may.
    watched: bool,
}

impl Idle {
    fn forget_old(&mut self, now: Time) {
        self.waiting.retain(|lent| !lent.sender.is_closed() && now.since(lent.made) < LIFE);
    }
}

impl Pool {
    pub(super) fn new(address: Option<Address>, ties: Arc<Ties>) -> Arc<Pool> {
        Arc::new(Pool { address, ties, idle: Mutex::default(), failed_at: AtomicU64::new(0) })
    }

    /// Whether no connection was to be had a moment ago.
    pub(super) fn is_left_alone(&self, now: Time) -> bool {
        let failed_at = self.failed_at.load(Relaxed);
        failed_at > 0 && now.since(Time::from_nanos(failed_at)) < LEFT_ALONE
    }

    /// Sends `request` on a connection that waits, or on a new one.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
        connect_timeout: Duration,
    ) -> Result<Response<Received>, SendError> {
        let Some(address) = &self.address else {
            return Err(SendError::Unsent(Box::new(request), Unreachable::NoHttp));
        };
        match address.target() {
            Ok(target) => direct(&mut request, &target.authority),
            Err(why) => return Err(SendError::Unsent(Box::new(request), why.into())),
        }
        let mut waiting = self.take();
        loop {
            let was_waiting = waiting.is_some();
            let mut lent = match waiting.take() {
                Some(lent) => lent,
                // Boxed: what it takes to connect would make every request larger.
                None => match Box::pin(self.connect(address, connect_timeout)).await {
                    Ok(sender) => Lent { sender, made: clock::now() },
                    Err(why) => return Err(SendError::Unsent(Box::new(request), why)),
                },
            };
            let mut error = match lent.sender.try_send_request(request).await {
                Ok(response) => return Ok(Received::lent(response, lent, self.clone())),
                Err(error) => error,
            };
            match error.take_message() {
                // The pod closed it while nobody used it, which is no failure: a new one is made, once.
                Some(unsent) if was_waiting => request = unsent,
                Some(unsent) => return Err(SendError::Unsent(Box::new(unsent), Unreachable::ClosesAtOnce)),
                None => return Err(SendError::Lost(Lost::Unanswered(error.into_error()))),
            }
        }
    }

    /// Takes a connection back whose response was read to its end.
    pub(super) fn take_back(self: &Arc<Self>, lent: Lent) {
        if lent.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        if idle.waiting.len() >= MOST_IDLE {
            idle.waiting.pop_front();
        }
        idle.waiting.push_back(lent);
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes the connections that wait: a Triton that ends waits for them.
    pub(super) fn close_idle(&self) {
        self.lock().waiting.clear();
    }

    /// The connection that waits least long, so that those that are too many grow old. One whose request is still on its way
    /// though its response ended is not ready for another.
    fn take(&self) -> Option<Lent> {
        let mut idle = self.lock();
        idle.forget_old(clock::now());
        let place = idle.waiting.iter().rposition(|lent| lent.sender.is_ready())?;
        idle.waiting.remove(place)
    }

    async fn connect(&self, address: &Address, timeout: Duration) -> Result<Sender, Unreachable> {
        let connected = tokio::time::timeout(timeout, handshake(address, &self.ties)).await;
        let connected = connected.unwrap_or(Err(Unreachable::Timeout(timeout)));
        let failed_at = if connected.is_err() { clock::now().as_nanos().max(1) } else { 0 };
        self.failed_at.store(failed_at, Relaxed);
        connected
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Each change is one insertion or removal.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that grow too old while they wait, as long as there are any.
async fn watch(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        idle.forget_old(clock::now());
        if idle.waiting.is_empty() {
            idle.watched = false;
            return;
        }
    }
}

async fn handshake(address: &Address, ties: &Ties) -> Result<Sender, Unreachable> {
    let target = address.target()?;
    let stream = dial(&target.authority).await?;
    // No server speaks first.
    if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(CLOSES_AT_ONCE, stream.peek(&mut [0])).await {
        return Err(Unreachable::ClosesAtOnce);
    }
    match &target.tls {
        None => speak(ties.tie(stream), &target.authority).await,
        Some(name) => {
            let stream = address.secured(stream, name, Wanted::Http1).await?;
            speak(ties.tie(stream), &target.authority).await
        }
    }
}

/// HTTP/1.1 on a connection that was just made.
async fn speak<S>(stream: Tied<S>, target: &Authority) -> Result<Sender, Unreachable>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        // A Triton makes parameters of headers, by their names as they were written.
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Unreachable::Handshake(Arc::new(error)))?;
    let target = target.clone();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(pod = %target, error = causes(&error), "an HTTP connection broke");
        }
    });
    Ok(sender)
}

/// Addresses `request` to the pod.
fn direct<B>(request: &mut Request<B>, target: &Authority) {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    if let Ok(host) = HeaderValue::try_from(target.as_str()) {
        request.headers_mut().insert(header::HOST, host);
    }
}
