//! A Kubernetes API server that knows EndpointSlices and nothing else: it lists them in pages and tells watches of every
//! change, in the shapes of a real one, and fails as it is told to. It is reached over pipes, so that a test's clock may
//! stand still, or over sockets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// What it answers instead of the truth.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// It is not there: nobody listens.
    Away,
    /// A status of its own, with a message.
    Status(u16, &'static str, String),
    /// Something that is no answer of any API server, to lists and watches alike.
    Garbage(&'static str),
    /// Nothing, for ever.
    Silence,
    /// The first half of an answer to lists and watches, and then nothing.
    Half,
    /// Lists that are right, and watches that end at once.
    NoWatch,
}

/// See the module's description. Clones are the same server.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// The version of the newest change: what watches wait for.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// By namespace and name.
    slices: BTreeMap<(String, String), Value>,
    /// Every change, oldest first, by its version.
    changes: Vec<(u64, &'static str, Value)>,
    /// What was before this is forgotten.
    oldest: u64,
    trouble: Option<Trouble>,
    connections: Vec<AbortHandle>,
    /// Answers that go on and say no more.
    held: Vec<Frames>,
    asked: Vec<String>,
    /// How many slices it puts on one page at most.
    page: Option<usize>,
    /// It asks who comes for this.
    token: Option<String>,
}

type Frames = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;
type Body = StreamBody<UnboundedReceiverStream<Result<Frame<Bytes>, Infallible>>>;

impl ApiServer {
    pub(crate) fn new() -> ApiServer {
        ApiServer(Arc::new(Inner { state: Mutex::default(), version: watch::channel(4711).0 }))
    }

    /// A client that reaches it over pipes; its own namespace is `prod`.
    pub(crate) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { server.ask(request).await }
        });
        kube::Client::new(service, "prod")
    }

    async fn ask(&self, mut request: Request<kube::client::Body>) -> io::Result<Response<Incoming>> {
        if matches!(self.state().trouble, Some(Trouble::Away)) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)"));
        }
        let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        self.serve(far);
        request.headers_mut().insert("host", http::HeaderValue::from_static("kubernetes.default.svc"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// Answers on one connection.
    pub(crate) fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let server = self.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(&request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        self.state().connections.push(task.abort_handle());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    // ---- What happens ----

    /// A slice is new, or another one now.
    pub(crate) fn put(&self, slice: Value) {
        let known = self.state().slices.contains_key(&key_of(&slice));
        self.change(if known { "MODIFIED" } else { "ADDED" }, slice);
    }

    /// A slice is gone.
    pub(crate) fn delete(&self, slice: &Value) {
        self.change("DELETED", slice.clone());
    }

    fn change(&self, kind: &'static str, mut slice: Value) {
        let version = *self.0.version.borrow() + 3;
        slice["metadata"]["resourceVersion"] = version.to_string().into();
        let mut state = self.state();
        match kind {
            "DELETED" => drop(state.slices.remove(&key_of(&slice))),
            _ => drop(state.slices.insert(key_of(&slice), slice.clone())),
        }
        state.changes.push((version, kind, slice));
        drop(state);
        self.0.version.send_replace(version);
    }

    /// Other things change, none of them a slice.
    pub(crate) fn pass_versions(&self, by: u64) {
        self.0.version.send_modify(|version| *version += by);
    }

    /// It remembers only what is: who goes on from before is too late.
    pub(crate) fn compact(&self) {
        let version = *self.0.version.borrow();
        let mut state = self.state();
        state.changes.clear();
        state.oldest = version;
    }

    /// From now on it fails so, or no more.
    pub(crate) fn trouble(&self, trouble: impl Into<Option<Trouble>>) {
        self.state().trouble = trouble.into();
    }

    /// Every connection breaks.
    pub(crate) fn cut(&self) {
        self.state().connections.drain(..).for_each(|connection| connection.abort());
    }

    pub(crate) fn page(&self, slices: usize) {
        self.state().page = Some(slices);
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// What it was asked since this was called last: paths with queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    // ---- What it answers ----

    async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let uri = request.uri();
        let query: BTreeMap<String, String> = query(uri.query().unwrap_or_default());
        let (trouble, token) = {
            let mut state = self.state();
            state.asked.push(uri.to_string());
            (state.trouble.clone(), state.token.clone())
        };
        match trouble {
            Some(Trouble::Status(code, reason, message)) => return failure(code, reason, &message),
            Some(Trouble::Garbage(text)) => return whole(StatusCode::OK, text.to_owned()),
            Some(Trouble::Silence) => std::future::pending().await,
            Some(Trouble::Half) => {
                let (to, response) = streamed();
                to.send(Ok(Frame::data("{\"kind\":\"Endpoint".into()))).unwrap();
                self.state().held.push(to);
                return response;
            }
            Some(Trouble::NoWatch) if query.contains_key("watch") => return whole(StatusCode::OK, String::new()),
            Some(Trouble::Away | Trouble::NoWatch) | None => {}
        }
        let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if token.is_some_and(|token| shown != Some(&format!("Bearer {token}"))) {
            return failure(401, "Unauthorized", "Unauthorized");
        }
        let path: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let ["apis", "discovery.k8s.io", "v1", "namespaces", namespace, "endpointslices"] = path[..] else {
            return failure(404, "NotFound", "the server could not find the requested resource");
        };
        let selector = query.get("labelSelector").cloned().unwrap_or_default();
        let service = selector.strip_prefix("kubernetes.io/service-name=").unwrap_or_default();
        let wanted = Wanted { namespace: namespace.to_owned(), service: service.to_owned() };
        if query.get("watch").is_some_and(|watch| watch == "true") {
            self.watch(wanted, &query)
        } else {
            self.list(&wanted, &query)
        }
    }

    fn list(&self, wanted: &Wanted, query: &BTreeMap<String, String>) -> Response<Body> {
        let state = self.state();
        let all: Vec<&Value> = state.slices.values().filter(|slice| wanted.is(slice)).collect();
        let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let from: usize =
            query.get("continue").map_or(0, |token| token.strip_prefix("page-").unwrap().parse().unwrap());
        let page: Vec<&Value> = all.iter().skip(from).take(limit.min(state.page.unwrap_or(limit))).copied().collect();
        let mut metadata = json!({ "resourceVersion": self.0.version.borrow().to_string() });
        let next = from + page.len();
        if next < all.len() {
            metadata["continue"] = format!("page-{next}").into();
            metadata["remainingItemCount"] = (all.len() - next).into();
        }
        let list = json!({ "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata, "items": page });
        whole(StatusCode::OK, list.to_string())
    }

    fn watch(&self, wanted: Wanted, query: &BTreeMap<String, String>) -> Response<Body> {
        let (to, response) = streamed();
        let bookmarks = query.get("allowWatchBookmarks").is_some_and(|allowed| allowed == "true");
        let ends_after = Duration::from_secs(query.get("timeoutSeconds").map_or(1800, |s| s.parse().unwrap()));
        let mut from: u64 = query["resourceVersion"].parse().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            let say = |kind: &str, object: &Value| {
                let line = json!({ "type": kind, "object": object }).to_string() + "\n";
                to.send(Ok(Frame::data(line.into()))).is_ok()
            };
            let mut changed = server.0.version.subscribe();
            let told = async {
                loop {
                    changed.mark_unchanged();
                    if from < server.state().oldest {
                        let message = format!("too old resource version: {from} ({})", server.state().oldest);
                        say("ERROR", &status(410, "Expired", &message));
                        return;
                    }
                    let news = server.state().changes.iter().filter(|(v, ..)| *v > from).cloned().collect::<Vec<_>>();
                    for (version, kind, slice) in news {
                        if wanted.is(&slice) && !say(kind, &slice) {
                            return;
                        }
                        from = version;
                    }
                    // Once a minute, as the real one.
                    if timeout(Duration::from_secs(60), changed.changed()).await.is_err() && bookmarks {
                        from = *server.0.version.borrow();
                        let metadata = json!({ "resourceVersion": from.to_string(), "creationTimestamp": null });
                        let kind = json!({ "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "",
                            "endpoints": null, "ports": null, "metadata": metadata });
                        say("BOOKMARK", &kind);
                    }
                }
            };
            let _ = timeout(ends_after, told).await;
        });
        response
    }
}

/// Whose slices somebody asks for.
struct Wanted {
    namespace: String,
    service: String,
}

impl Wanted {
    fn is(&self, slice: &Value) -> bool {
        let metadata = &slice["metadata"];
        metadata["namespace"] == *self.namespace && metadata["labels"]["kubernetes.io/service-name"] == *self.service
    }
}

fn key_of(slice: &Value) -> (String, String) {
    let text = |of: &str| slice["metadata"][of].as_str().unwrap().to_owned();
    (text("namespace"), text("name"))
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace("%2F", "/").replace("%3D", "="))).collect()
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code })
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    whole(StatusCode::from_u16(code).unwrap(), status(code, reason, message).to_string())
}

fn whole(status: StatusCode, text: String) -> Response<Body> {
    let (to, mut response) = streamed();
    to.send(Ok(Frame::data(text.into()))).unwrap();
    *response.status_mut() = status;
    response
}

/// An answer whose body is what is sent, until the sender is dropped.
fn streamed() -> (Frames, Response<Body>) {
    let (to, frames) = mpsc::unbounded_channel();
    let mut response = Response::new(StreamBody::new(UnboundedReceiverStream::new(frames)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    (to, response)
}

// ---- Slices as the controller writes them ----

/// A slice of `service` in `prod`, as a 1.33 API server sends it, with Triton's three ports.
pub(crate) fn slice(service: &str, suffix: &str, endpoints: Vec<Value>) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{suffix}"),
            "generateName": format!("{service}-"),
            "namespace": "prod",
            "uid": "7f1d6a0e-6a52-4b55-9d0c-1f6f3f6f2f11",
            "resourceVersion": "1",
            "generation": 7,
            "creationTimestamp": "2026-01-12T09:14:33Z",
            "labels": {
                "app": "triton",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
                "service.kubernetes.io/headless": ""
            },
            "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-12T09:20:01Z" },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": service,
                "uid": "0b6c8a3e-0f8b-4f7e-8f39-2a9b3f1f7c55", "controller": true, "blockOwnerDeletion": true
            }],
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "discovery.k8s.io/v1",
                "time": "2026-01-12T09:20:01Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:addressType": {}, "f:endpoints": {}, "f:ports": {} }
            }]
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            { "name": "http", "port": 8000, "protocol": "TCP" },
            { "name": "grpc", "port": 8001, "protocol": "TCP" },
            { "name": "metrics", "port": 8002, "protocol": "TCP" }
        ]
    })
}

/// How a pod is.
#[derive(Clone, Copy)]
pub(crate) enum Is {
    Ready,
    NotReady,
    /// It terminates, and serves until then.
    Ending,
    /// It terminates, and serves no more.
    Ended,
}

/// The endpoint of a pod called `pod`, in zone `eu-1a` if its number is even, else `eu-1b`.
pub(crate) fn endpoint(pod: &str, ip: &str, is: Is) -> Value {
    let number = pod.bytes().last().unwrap();
    let (ready, serving, terminating) = match is {
        Is::Ready => (true, true, false),
        Is::NotReady => (false, false, false),
        Is::Ending => (false, true, true),
        Is::Ended => (false, false, true),
    };
    json!({
        "addresses": [ip],
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
        "nodeName": format!("gpu-node-{number}"),
        "targetRef": { "kind": "Pod", "name": pod, "namespace": "prod", "uid": format!("uid-of-{pod}") },
        "zone": if number.is_multiple_of(2) { "eu-1a" } else { "eu-1b" }
    })
}
