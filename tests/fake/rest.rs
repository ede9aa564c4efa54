//! The HTTP side of a fake pod, which does as it is told by the request's `x-do` header; and a client that says so.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::{Answer, Pod, unused};

/// What listens.
pub(crate) struct Rest {
    pub(crate) addr: String,
    seen: Arc<Seen>,
    running: JoinHandle<()>,
}

/// What it saw.
#[derive(Default)]
struct Seen {
    name: String,
    connections: AtomicUsize,
    cancelled: AtomicUsize,
    requests: Mutex<Vec<(Method, String, HeaderMap, Bytes)>>,
    release: Notify,
    drop_all: Notify,
}

/// Counts a request whose caller went away before its answer.
struct Watched<'a>(Option<&'a Seen>);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Some(seen) = self.0 {
            seen.cancelled.fetch_add(1, SeqCst);
        }
    }
}

/// A pod by gRPC and by HTTP.
pub(crate) async fn both(name: &str) -> (Pod, Rest) {
    let rest = Rest::start(name).await;
    (Pod::start(name).await.with_http(&rest.addr), rest)
}

impl Rest {
    pub(crate) async fn start(name: &str) -> Rest {
        let addr = unused().await;
        let listener = TcpListener::bind(&addr).await.unwrap();
        let seen = Arc::new(Seen { name: name.into(), ..Seen::default() });
        let running = tokio::spawn(accept(listener, seen.clone()));
        Rest { addr, seen, running }
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    /// How many requests lost their callers.
    pub(crate) fn cancelled(&self) -> usize {
        self.seen.cancelled.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// Method and path of what came, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        let requests = self.seen.requests.lock().unwrap();
        requests.iter().map(|(method, path, ..)| format!("{method} {path}")).collect()
    }

    /// The headers and the body that came last.
    pub(crate) fn last(&self) -> (HeaderMap, Bytes) {
        let requests = self.seen.requests.lock().unwrap();
        let (_, _, headers, body) = requests.last().unwrap().clone();
        (headers, body)
    }

    /// Lets what stalls go on.
    pub(crate) fn release(&self) {
        self.seen.release.notify_one();
    }

    /// Closes all connections, and goes on listening.
    pub(crate) fn close_connections(&self) {
        self.seen.drop_all.notify_one();
    }

    /// Ends it as `kill -9` would.
    pub(crate) async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = seen.drop_all.notified() => {
                connections.shutdown().await;
                continue;
            }
        };
        seen.connections.fetch_add(1, SeqCst);
        let seen = seen.clone();
        let service = service_fn(move |request| {
            let seen = seen.clone();
            async move { Ok::<_, Infallible>(answer(request, &seen).await) }
        });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, seen: &Arc<Seen>) -> Response<Answer> {
    let mut watched = Watched(Some(seen));
    let (head, body) = request.into_parts();
    let what = head.headers.get("x-do").map_or("echo", |what| what.to_str().unwrap()).to_owned();
    // An answer that does not wait for the request.
    if what == "early" {
        watched.0 = None;
        tokio::spawn(body.collect());
        return respond(seen, StatusCode::BAD_REQUEST, Bytes::from_static(b"{\"error\":\"early\"}"));
    }
    let Ok(body) = body.collect().await else { std::future::pending().await };
    let body = body.to_bytes();
    let path = head.uri.path_and_query().unwrap().to_string();
    seen.requests.lock().unwrap().push((head.method, path, head.headers, body.clone()));
    match &*what {
        "hang" => std::future::pending().await,
        "stall" => seen.release.notified().await,
        _ => {}
    }
    watched.0 = None;
    if what == "events" {
        return events(seen.clone());
    }
    // `status-503-text`, for all pods or (`status-503-text@a`) for one.
    if let Some((status, text)) = what.strip_prefix("status-").and_then(|rest| rest.split_once('-')) {
        let (text, at) = text.split_once('@').unwrap_or((text, &seen.name));
        if at == seen.name {
            let text = format!("{{\"error\":\"{text}\"}}");
            return respond(seen, status.parse().unwrap(), text.into());
        }
    }
    respond(seen, StatusCode::OK, body)
}

/// With the length of `body`.
fn respond(seen: &Seen, status: StatusCode, body: Bytes) -> Response<Answer> {
    let (frames, frames_out) = mpsc::unbounded_channel();
    let response = Response::builder().status(status).header("x-pod", &*seen.name).header("keep-alive", "timeout=9");
    let response = response.header("content-length", body.len());
    frames.send(Frame::data(body)).unwrap();
    response.body(Answer(frames_out)).unwrap()
}

/// Two events, the second when it is released.
fn events(seen: Arc<Seen>) -> Response<Answer> {
    let (frames, frames_out) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        frames.send(Frame::data(Bytes::from_static(b"data: 1\n\n"))).unwrap();
        tokio::select! {
            () = frames.closed() => {
                seen.cancelled.fetch_add(1, SeqCst);
            }
            () = seen.release.notified() => {
                let _ = frames.send(Frame::data(Bytes::from_static(b"data: 2\n\n")));
            }
        }
    });
    Response::builder().header("content-type", "text/event-stream").body(Answer(frames_out)).unwrap()
}

/// A connection of its own to `addr`.
pub(crate) async fn connect(addr: &str) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// An inference of model `m` by which the pod does `what`.
pub(crate) fn infer(what: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    rest(Method::POST, "/v2/models/m/infer", what, body)
}

pub(crate) fn rest(method: Method, path: &str, what: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "node").header("x-do", what);
    request.body(Full::new(body.into())).unwrap()
}

/// The whole answer to `request`, on a connection of its own.
pub(crate) async fn send(addr: &str, request: Request<Full<Bytes>>) -> Response<Bytes> {
    exchange(&mut connect(addr).await, request).await
}

/// The same on one that is there.
pub(crate) async fn exchange(
    connection: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    connection.ready().await.unwrap();
    let (head, body) = connection.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}
