//! The connection to a pod: one per pod, HTTP/2, shared by every request, made on first use and made again when it broke.
//!
//! It sends no keepalive pings: Triton answers pings that come more often than every five minutes with GOAWAY, and the
//! requests in flight die with it.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tracing::debug;

use super::body::RequestBody;
use super::call::Face;
use super::models::Asking;
use super::pin::spell;
use super::shape::Asked;
use crate::driver::tls::TlsError;
use crate::driver::tls::pods::{ClientTls, Wanted, server_name};
use crate::observe::{Pod, PodSpec, PodTls};

/// What one stream may have on its way unread. The default of 64 KiB would stop a tensor of a megabyte sixteen times.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
/// What all streams of a connection may have on their way: enough for sixteen full streams.
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest frame that is taken: fewer frames per tensor; larger ones would let one stream hold up the others.
pub(super) const MAX_FRAME: u32 = 1 << 20;
/// Streams reset here that the pod may still answer: callers who cancel many requests at once must not break the rest.
const RESET_STREAMS: usize = 4096;

/// A pod whose machine answers nothing for this long is given up, with the requests in flight there. Less than a network's
/// usual hiccups would cost requests that could still end well; more keeps callers without a deadline waiting.
const SILENCE: Duration = Duration::from_secs(15);

type Sender = http2::SendRequest<RequestBody>;

/// Why an address cannot be a pod's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Its certificate could not be checked: [`crate::observe::PodTls::server_name`] is no name.
    #[error("`{0}` cannot be the name in a pod's certificate: give a DNS name or an IP address as its server name")]
    ServerName(String),
    /// It must look like `http://10.0.0.7:8001`.
    #[error("`{0}` is no address of a pod: it must look like http://10.0.0.7:8001")]
    Malformed(String),
}

/// Whether requests can be forwarded to the address of `spec`; configuration and discovery ask before they use it.
///
/// # Errors
/// [`AddressError`]. A pod that is used all the same is ejected at its first pick.
pub fn check_address(spec: &PodSpec) -> Result<(), AddressError> {
    target(&spec.grpc, &spec.tls).map(drop)
}

/// Where requests to a pod go.
#[derive(Clone, Debug)]
struct Target {
    authority: Authority,
    /// The name in its certificate, where it takes TLS.
    tls: Option<ServerName<'static>>,
}

fn target(url: &str, tls: &PodTls) -> Result<Target, AddressError> {
    let malformed = || AddressError::Malformed(url.to_owned());
    let (is_tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return Err(malformed()),
        None => (false, url),
    };
    let authority: Authority = rest.trim_end_matches('/').parse().map_err(|_| malformed())?;
    if authority.port_u16().is_none() {
        return Err(malformed());
    }
    let name = tls.server_name.as_deref().unwrap_or(authority.host());
    let tls = is_tls.then(|| server_name(name)).transpose().map_err(|_| AddressError::ServerName(name.to_owned()))?;
    Ok(Target { authority, tls })
}

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
    #[error("connected, but no HTTP/2: {0}")]
    Handshake(Arc<hyper::Error>),
    #[error("connections close at once")]
    ClosesAtOnce,
    #[error("its HTTP address is not known")]
    NoHttp,
}

/// Why a request brought no response.
pub(super) enum SendError {
    /// No byte of it was sent: here it is again.
    Unsent(Box<Request<RequestBody>>, Unreachable),
    /// The pod may have begun it.
    Died(hyper::Error),
}

/// One pod's connection.
pub(super) struct Upstream {
    target: Result<Target, AddressError>,
    tls: PodTls,
    /// The certificates that `tls` names, once they were read.
    certificates: OnceLock<ClientTls>,
    /// Its name as headers spell it.
    pub(super) spelled: HeaderValue,
    sender: ArcSwapOption<Sender>,
    /// How many attempts to connect have ended: lets those who waited for one see that it was theirs too.
    attempts: AtomicU64,
    /// How many connections there were: another one may lead to another server.
    connections: AtomicU64,
    /// Which models its configuration was asked for.
    pub(super) asked: Asked,
    /// Which models it has ready, and when it is asked.
    pub(super) looks: Asking,
    /// Whether the pod is being asked if it still lives.
    pub(super) checking: AtomicBool,
    /// Held while connecting; keeps why the last attempt failed.
    connecting: Mutex<Option<Unreachable>>,
    /// See [`Upstream::aside`].
    aside: OnceLock<Box<Upstream>>,
}

impl Upstream {
    /// The connection of `pod`.
    pub(super) fn of(pod: &Pod) -> &Upstream {
        let make = || -> Arc<dyn Any + Send + Sync> { Arc::new(Upstream::new(pod.spec())) };
        match pod.attachment(make).downcast_ref() {
            Some(upstream) => upstream,
            None => unreachable!("nothing else attaches itself to a pod"),
        }
    }

    fn new(spec: &PodSpec) -> Upstream {
        Upstream {
            target: target(&spec.grpc, &spec.tls),
            tls: spec.tls.clone(),
            certificates: OnceLock::new(),
            spelled: spell(&spec.name),
            sender: ArcSwapOption::empty(),
            attempts: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            asked: Asked::default(),
            looks: Asking::default(),
            checking: AtomicBool::new(false),
            connecting: Mutex::new(None),
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
    ) -> Result<Response<Incoming>, SendError> {
        match face {
            Face::Grpc => self.send_grpc(request, connect_timeout).await,
            Face::Http => Err(SendError::Unsent(Box::new(request), Unreachable::NoHttp)),
        }
    }

    async fn send_grpc(
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
            if let Ok(target) = &self.target {
                direct(&mut request, target);
            }
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(SendError::Died(error.into_error())),
            }
        }
        Err(SendError::Unsent(Box::new(request), Unreachable::ClosesAtOnce))
    }

    /// The number of the last connection.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
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
        let target = self.target.clone()?;
        let connected = tokio::time::timeout(timeout, self.handshake(&target)).await;
        let sender = connected.map_err(|_| Unreachable::Timeout(timeout))??;
        debug!(pod = %target.authority, "connected");
        self.sender.store(Some(Arc::new(sender.clone())));
        self.connections.fetch_add(1, Relaxed);
        Ok(sender)
    }

    async fn handshake(&self, target: &Target) -> Result<Sender, Unreachable> {
        let stream = dial(&target.authority).await.map_err(|error| Unreachable::Io(Arc::new(error)))?;
        let Some(name) = &target.tls else { return speak(stream, target).await };
        let stream = self.certificates()?.connect(stream, name.clone(), Wanted::H2).await;
        speak(stream.map_err(|error| Unreachable::Tls(Arc::new(error)))?, target).await
    }

    fn certificates(&self) -> Result<&ClientTls, Unreachable> {
        if let Some(read) = self.certificates.get() {
            return Ok(read);
        }
        let read = ClientTls::of(&self.tls).map_err(|error| Unreachable::Certificates(Arc::new(error)))?;
        Ok(self.certificates.get_or_init(|| read))
    }
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SendError::Unsent(_, why) => why.fmt(f),
            SendError::Died(error) => f.write_str(&causes(error)),
        }
    }
}

/// HTTP/2 on a connection that was just made.
async fn speak<S>(stream: S, target: &Target) -> Result<Sender, Unreachable>
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
    let target = target.authority.clone();
    tokio::spawn(async move {
        match connection.await {
            Ok(()) => debug!(pod = %target, "connection closed"),
            Err(error) => debug!(pod = %target, error = causes(&error), "connection broke"),
        }
    });
    Ok(sender)
}

async fn dial(target: &Authority) -> io::Result<TcpStream> {
    let port = target.port_u16().unwrap_or_default();
    // A bracketed IPv6 address is written without its brackets where it stands alone.
    let host = target.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    notice_silence(&stream)?;
    Ok(stream)
}

/// Lets the kernel find out that a pod's machine is gone without a word: HTTP/2 pings would do it too, but Triton closes
/// connections for them. A process that is only stopped still answers, by its kernel.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE / 2).with_interval(SILENCE / 6))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An address that cannot work must be told apart before a request meets it.
    #[test]
    fn addresses_are_checked_with_a_reason() {
        let check = |url: &str| check_address(&PodSpec::new("p", url));
        assert_eq!(check("http://10.0.0.7:8001"), Ok(()));
        assert_eq!(check("pod-7.pods:8001/"), Ok(()));
        assert_eq!(check("http://[::1]:8001"), Ok(()));
        assert_eq!(check("https://10.0.0.7:8001"), Ok(()));
        assert_eq!(check("https://[::1]:8001"), Ok(()));
        assert_eq!(check("https://a_b:8001"), Ok(()));
        let mut unnamed = PodSpec::new("p", "https://10.0.0.7:8001");
        unnamed.tls.server_name = Some("not a name".into());
        assert_eq!(check_address(&unnamed), Err(AddressError::ServerName("not a name".into())));
        for bad in ["http://10.0.0.7", "ftp://10.0.0.7:1", "http://a b:1", ""] {
            assert_eq!(check(bad), Err(AddressError::Malformed(bad.to_owned())));
        }
    }
}
