//! gRPC to a pod: one HTTP/2 connection, shared by every request, made on first use and made again when it broke.
//!
//! It sends no keepalive pings: Triton answers pings that come more often than every five minutes with GOAWAY, and the
//! requests in flight die with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tracing::debug;

use super::super::body::RequestBody;
use super::address::{Address, Target, dial};
use super::ties::{Tied, Ties};
use super::{Lost, SendError, Unreachable, causes};
use crate::driver::tls::pods::Wanted;

/// What one stream may have on its way unread. The default of 64 KiB would stop a tensor of a megabyte sixteen times.
pub(in crate::forward) const STREAM_WINDOW: u32 = 1 << 20;
/// What all answers on the connection may have on their way unread: a thousand full streams. It is all callers' connection to
/// the pod; with 16 MiB, sixteen callers who did not read their large answers stopped everybody's.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// The largest frame that is taken: fewer frames per tensor; larger ones would let one stream hold up the others.
pub(in crate::forward) const MAX_FRAME: u32 = 1 << 20;
/// Streams reset here that the pod may still answer: callers who cancel many requests at once must not break the rest.
const RESET_STREAMS: usize = 4096;

type Sender = http2::SendRequest<RequestBody>;

/// One pod's connection.
pub(super) struct Connection {
    address: Address,
    ties: Arc<Ties>,
    sender: ArcSwapOption<Sender>,
    /// How many attempts to connect have ended: lets those who waited for one see that it was theirs too.
    attempts: AtomicU64,
    /// How many connections there were: another one may lead to another server.
    connections: AtomicU64,
    /// Held while connecting; keeps why the last attempt failed.
    connecting: Mutex<Option<Unreachable>>,
}

impl Connection {
    pub(super) fn new(address: Address, ties: Arc<Ties>) -> Connection {
        Connection {
            address,
            ties,
            sender: ArcSwapOption::empty(),
            attempts: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connecting: Mutex::new(None),
        }
    }

    /// The number of the last connection.
    pub(super) fn number(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Makes another connection for the next request.
    pub(super) fn forget(&self) {
        self.sender.store(None);
    }

    /// Sends `request`, connecting first where there is no connection.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
        connect_timeout: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        // A connection that broke while the request was handed over is made again, once: that is no failure of the pod.
        for _ in 0..2 {
            let mut sender = match self.connection(connect_timeout).await {
                Ok(sender) => sender,
                Err(why) => return Err(SendError::Unsent(Box::new(request), why)),
            };
            if let Ok(target) = self.address.target() {
                direct(&mut request, target);
            }
            let number = self.number();
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent) => request = unsent,
                None => {
                    let lost = Lost::Broke(error.into_error());
                    // It may be open still, for what was begun on it.
                    if lost.is_unread() && self.number() == number {
                        self.forget();
                    }
                    return Err(SendError::Lost(lost));
                }
            }
        }
        Err(SendError::Unsent(Box::new(request), Unreachable::ClosesAtOnce))
    }

    /// Connects where there is no connection.
    pub(super) async fn connected(&self, timeout: Duration) -> Result<(), Unreachable> {
        self.connection(timeout).await.map(drop)
    }

    async fn connection(&self, timeout: Duration) -> Result<Sender, Unreachable> {
        match self.open() {
            Some(sender) => Ok(sender),
            // Boxed: what it takes to connect would make every request larger.
            None => Box::pin(self.open_again(timeout)).await,
        }
    }

    /// Connects, or takes part in an attempt that is under way.
    async fn open_again(&self, timeout: Duration) -> Result<Sender, Unreachable> {
        let seen = self.attempts.load(Relaxed);
        let mut failure = self.connecting.lock().await;
        if let Some(sender) = self.open() {
            return Ok(sender);
        }
        if let Some(why) = failure.as_ref().filter(|_| self.attempts.load(Relaxed) != seen) {
            return Err(why.clone());
        }
        let connected = self.connect(timeout).await;
        self.attempts.fetch_add(1, Relaxed);
        *failure = connected.as_ref().err().cloned();
        connected
    }

    /// The connection, if there is one that is not known to be closed.
    fn open(&self) -> Option<Sender> {
        self.sender.load().as_deref().filter(|sender| !sender.is_closed()).cloned()
    }

    async fn connect(&self, timeout: Duration) -> Result<Sender, Unreachable> {
        let target = self.address.target()?;
        let connected = tokio::time::timeout(timeout, self.handshake(target)).await;
        let sender = connected.map_err(|_| Unreachable::Timeout(timeout))??;
        debug!(pod = %target.authority, "connected");
        self.sender.store(Some(Arc::new(sender.clone())));
        self.connections.fetch_add(1, Relaxed);
        Ok(sender)
    }

    async fn handshake(&self, target: &Target) -> Result<Sender, Unreachable> {
        let stream = dial(&target.authority).await?;
        match &target.tls {
            None => speak(self.ties.tie(stream), &target.authority).await,
            Some(name) => {
                let stream = self.address.secured(stream, name, Wanted::H2).await?;
                speak(self.ties.tie(stream), &target.authority).await
            }
        }
    }
}

/// HTTP/2 on a connection that was just made.
async fn speak<S>(stream: Tied<S>, target: &Authority) -> Result<Sender, Unreachable>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Unreachable::Handshake(Arc::new(error)))?;
    let target = target.clone();
    tokio::spawn(async move {
        match connection.await {
            Ok(()) => debug!(pod = %target, "connection closed"),
            Err(error) => debug!(pod = %target, error = causes(&error), "connection broke"),
        }
    });
    Ok(sender)
}

/// Addresses `request` to the pod.
fn direct<B>(request: &mut Request<B>, target: &Target) {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(target.authority.clone());
    parts.path_and_query =
        Some(request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    // Scheme, authority and path are all there, which is all that can be missing.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = http::Version::HTTP_2;
    request.headers_mut().remove(http::header::HOST);
}
