//! A pod that does as it is told by the request's `x-do` header, and small things around it.

pub(crate) mod rest;
mod server;
mod talk;
pub(crate) mod world;

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll::observe::PodSpec;
use plimsoll_proto::inference::infer_parameter::ParameterChoice;
use plimsoll_proto::inference::{
    InferStatistics, ModelConfig, ModelConfigResponse, ModelInferRequest, ModelReadyRequest, ModelStatistics,
    StatisticDuration,
};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use self::server::{METHODS, Server, State};

/// One fake pod.
pub(crate) struct Pod {
    name: String,
    addr: String,
    /// Where it takes HTTP.
    http: Option<String>,
    models: Vec<String>,
    seen: Arc<Seen>,
    running: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// What it saw, and what it is told.
#[derive(Default)]
struct Seen {
    name: String,
    requests: AtomicUsize,
    cancelled: AtomicUsize,
    bytes: AtomicUsize,
    timeout: Mutex<String>,
    not_ready: AtomicBool,
    shuts_down: AtomicBool,
    stopped: AtomicBool,
    full: AtomicBool,
    frozen: AtomicBool,
    refused: AtomicUsize,
    config: Mutex<Option<ModelConfig>>,
    config_questions: AtomicUsize,
    /// The sequences whose beginning it has seen.
    sequences: Mutex<BTreeSet<String>>,
    /// The models in its index, those that it has beside them, and whether all others are refused.
    models: Mutex<Option<Vec<String>>>,
    unlisted: Mutex<Vec<String>>,
    refuses: AtomicBool,
    refuses_talk: Mutex<Option<String>>,
    index_questions: AtomicUsize,
    server: Server,
    release: Notify,
}

/// An address where nobody listens, below the ports that the kernel gives to clients: among those, a client that dials
/// the address again and again would in the end be given the very port, and be connected to itself.
pub(crate) async fn unused() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let port = 11_000 + (std::process::id() as usize * 31 + NEXT.fetch_add(1, SeqCst)) % 8_000;
        let addr = format!("127.0.0.1:{port}");
        if TcpListener::bind(&addr).await.is_ok() {
            return addr;
        }
    }
}

impl Pod {
    /// A pod that runs.
    pub(crate) async fn start(name: &str) -> Pod {
        Pod::reserve(name).await.restart().await
    }

    /// A pod whose address is known, and where nobody listens.
    pub(crate) async fn reserve(name: &str) -> Pod {
        let addr = unused().await;
        Pod { name: name.into(), addr, http: None, models: vec![], seen: Arc::default(), running: Mutex::default() }
    }

    /// The same pod, started (again).
    pub(crate) async fn restart(&self) -> Pod {
        let listener = TcpListener::bind(&self.addr).await.unwrap();
        let seen = Arc::new(Seen { name: self.name.clone(), ..Seen::default() });
        seen.server.state().statistics.push(statistics());
        let running = tokio::spawn(accept(listener, seen.clone()));
        let (name, addr, models) = (self.name.clone(), self.addr.clone(), self.models.clone());
        Pod { name, addr, http: self.http.clone(), models, seen, running: Mutex::new(Some(running)) }
    }

    /// The same pod, which takes HTTP at `addr`.
    pub(crate) fn with_http(self, addr: &str) -> Pod {
        Pod { http: Some(format!("http://{addr}")), ..self }
    }

    pub(crate) fn serving(self, model: &str) -> Pod {
        Pod { models: vec![model.into()], ..self }
    }

    /// Ends it as `kill -9` would: listener and connections are gone at once.
    pub(crate) async fn kill(&self) {
        let running = self.running.lock().unwrap().take().unwrap();
        running.abort();
        let _ = running.await;
    }

    pub(crate) fn spec(&self) -> PodSpec {
        let mut spec = PodSpec::new(&self.name, format!("http://{}", self.addr));
        spec.http = self.http.clone();
        spec.models = self.models.clone();
        spec
    }

    /// From now on refuses requests inside of streams, as a Triton does that shuts down.
    pub(crate) fn refuse_in_streams(&self) {
        self.refuse_in_streams_with("Request for unknown model: 'm' has no available versions");
    }

    /// The same with another text.
    pub(crate) fn refuse_in_streams_with(&self, text: &str) {
        *self.seen.refuses_talk.lock().unwrap() = Some(text.into());
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.seen.cancelled.load(SeqCst)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.seen.bytes.load(SeqCst)
    }

    pub(crate) fn timeout_seen(&self) -> String {
        self.seen.timeout.lock().unwrap().clone()
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.seen.not_ready.store(!ready, SeqCst);
    }

    /// From now on answers as a Triton does after SIGTERM.
    pub(crate) fn shut_down(&self) {
        self.seen.shuts_down.store(true, SeqCst);
    }

    /// From now on answers as a Triton does whose queue is full, or takes requests again.
    pub(crate) fn set_full(&self, full: bool) {
        self.seen.full.store(full, SeqCst);
    }

    /// From now on takes connections and requests and answers none, or answers all that waits.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.seen.frozen.store(frozen, SeqCst);
    }

    /// Requests that found it full.
    pub(crate) fn refused(&self) -> usize {
        self.seen.refused.load(SeqCst)
    }

    /// From now on says that every model is configured so; before, it does not know the question.
    pub(crate) fn configure(&self, config: ModelConfig) {
        *self.seen.config.lock().unwrap() = Some(config);
    }

    pub(crate) fn config_questions(&self) -> usize {
        self.seen.config_questions.load(SeqCst)
    }

    /// From now on says that it has these models ready; before, it does not know the question.
    pub(crate) fn say_models(&self, models: &[&str]) {
        *self.seen.models.lock().unwrap() = Some(models.iter().map(|model| (*model).to_owned()).collect());
    }

    /// The same, and refuses what is asked for by the header `x-model` if it is none of them.
    pub(crate) fn set_models(&self, models: &[&str]) {
        self.say_models(models);
        self.seen.refuses.store(true, SeqCst);
    }

    /// From now on has these models ready that are not in its index, as a Triton does that was given their files.
    pub(crate) fn load_unlisted(&self, models: &[&str]) {
        *self.seen.unlisted.lock().unwrap() = models.iter().map(|model| (*model).to_owned()).collect();
    }

    pub(crate) fn index_questions(&self) -> usize {
        self.seen.index_questions.load(SeqCst)
    }

    /// What it keeps, and how it answers for that.
    pub(crate) fn server(&self) -> std::sync::MutexGuard<'_, State> {
        self.seen.server.state()
    }

    /// Lets what stalls go on.
    pub(crate) fn release(&self) {
        self.seen.release.notify_one();
    }
}

impl Seen {
    fn has(&self, model: &str) -> bool {
        let has = |models: &Vec<String>| models.iter().any(|known| known == model);
        !self.refuses.load(SeqCst) || has(&self.unlisted.lock().unwrap()) || self.models.lock().unwrap().iter().any(has)
    }

    /// As a Triton does whose model wants every sequence from its beginning.
    fn take_sequence(&self, request: &ModelInferRequest) -> Result<(), String> {
        let choice = |name: &str| request.parameters.get(name).and_then(|value| value.parameter_choice.clone());
        let id = format!("{:?}", choice("sequence_id").unwrap());
        let is_set = |name: &str| choice(name) == Some(ParameterChoice::BoolParam(true));
        let mut sequences = self.sequences.lock().unwrap();
        if is_set("sequence_start") {
            sequences.insert(id.clone());
        }
        if !sequences.contains(&id) {
            return Err(format!(
                "inference request for sequence {id} to model 'm' must specify the START flag on the first request"
            ));
        }
        if is_set("sequence_end") {
            sequences.remove(&id);
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let seen = seen.clone();
        let service = service_fn(move |request| {
            let seen = seen.clone();
            async move {
                while seen.frozen.load(SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok::<_, Infallible>(answer(request, seen).await)
            }
        });
        connections.spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Response<Answer> {
    let (frames, body) = mpsc::unbounded_channel();
    let mut response = Response::new(Answer(body));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("x-pod", seen.name.parse().unwrap());
    if seen.shuts_down.load(SeqCst) {
        let live = request.uri().path().ends_with("ServerLive");
        // For a moment the scheduler is there, and stops; then the model is gone.
        let first = !live && !seen.stopped.swap(true, SeqCst);
        let status = match (live, first) {
            (true, _) => "14-Server exiting",
            (_, true) => "14-Server is stopping, scheduler for model has stopped accepting new inference requests",
            _ => "5-Request for unknown model: 'm' has no available versions",
        };
        headers.extend(trailers(status));
        return response;
    }
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    if matches!(&*method, "ServerReady" | "ServerLive" | "ModelReady") {
        let body = if method == "ModelReady" { request.into_body().collect().await.ok() } else { None };
        let asked = body.map(|body| ModelReadyRequest::decode(&body.to_bytes()[5..]).unwrap());
        let has = asked.is_none_or(|asked| seen.has(&asked.name));
        let yes = u8::from(method == "ServerLive" || !seen.not_ready.load(SeqCst) && has);
        frames.send(Frame::data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, yes]))).unwrap();
        frames.send(Frame::trailers(trailers("0"))).unwrap();
        return response;
    }
    // A pod that keeps models says so; the others say what they were told to say.
    let keeps = method != "RepositoryIndex" || !seen.server.state().models.is_empty();
    if METHODS.contains(&&*method) && keeps {
        tokio::spawn(serve(method, request, seen, frames));
        return response;
    }
    if method == "ModelConfig" {
        seen.config_questions.fetch_add(1, SeqCst);
        match seen.config.lock().unwrap().clone() {
            Some(config) => {
                frames.send(Frame::data(framed(&ModelConfigResponse { config: Some(config) }))).unwrap();
                frames.send(Frame::trailers(trailers("0"))).unwrap();
            }
            None => response.headers_mut().extend(trailers("12")),
        }
        return response;
    }
    if method == "RepositoryIndex" {
        seen.index_questions.fetch_add(1, SeqCst);
        match seen.models.lock().unwrap().clone() {
            Some(models) => {
                frames.send(Frame::data(framed(&index(models)))).unwrap();
                frames.send(Frame::trailers(trailers("0"))).unwrap();
            }
            None => response.headers_mut().extend(trailers("12")),
        }
        return response;
    }
    let asked = request.headers().get("x-model").map_or("", |model| model.to_str().unwrap());
    if !asked.is_empty() && !seen.has(asked) {
        seen.refused.fetch_add(1, SeqCst);
        headers.extend(trailers(&format!("5-Request for unknown model: '{asked}' is not found")));
        return response;
    }
    if seen.full.load(SeqCst) {
        seen.refused.fetch_add(1, SeqCst);
        headers.extend(trailers("14-[request id: x1] Exceeds maximum queue size"));
        return response;
    }
    let what = request.headers().get("x-do").and_then(|what| what.to_str().ok()).unwrap_or_default().to_owned();
    // The same before the body was read, or after.
    if let Some(status) = what.strip_prefix("head-").or_else(|| what.strip_prefix("read-")) {
        // For this pod alone, or for all.
        let (at, status) = status.split_once('@').unwrap_or((&seen.name, status));
        if at == seen.name {
            seen.requests.fetch_add(1, SeqCst);
            headers.extend(trailers(status));
            if what.starts_with("read-") {
                let _ = request.into_body().collect().await;
                return response;
            }
            if let Some(ms) = request.headers().get("x-push-back") {
                headers.insert("grpc-retry-pushback-ms", ms.clone());
            }
            return response;
        }
    }
    // A Triton's head comes with its answer.
    if what == "slow-on-a" && seen.name == "a" {
        std::future::pending::<()>().await;
    }
    if what == "sequence" {
        seen.requests.fetch_add(1, SeqCst);
        let all = request.into_body().collect().await.unwrap().to_bytes();
        match seen.take_sequence(&ModelInferRequest::decode(&all[5..]).unwrap()) {
            Ok(()) => {
                frames.send(Frame::data(all)).unwrap();
                frames.send(Frame::trailers(trailers("0"))).unwrap();
            }
            Err(text) => response.headers_mut().extend(trailers(&format!("3-{text}"))),
        }
        return response;
    }
    if let Some(authority) = request.uri().authority() {
        headers.insert("x-authority-seen", authority.as_str().parse().unwrap());
    }
    if let Some(tenant) = request.headers().get("x-tenant") {
        headers.insert("x-tenant-seen", tenant.clone());
    }
    if let Some(timeout) = request.headers().get("grpc-timeout") {
        *seen.timeout.lock().unwrap() = timeout.to_str().unwrap().into();
    }
    tokio::spawn(act(request, seen, frames));
    response
}

fn index(models: Vec<String>) -> plimsoll_proto::inference::RepositoryIndexResponse {
    use plimsoll_proto::inference::RepositoryIndexResponse;
    use plimsoll_proto::inference::repository_index_response::ModelIndex;
    let ready = |name| ModelIndex { name, version: "1".into(), state: "READY".into(), ..ModelIndex::default() };
    RepositoryIndexResponse { models: models.into_iter().map(ready).collect() }
}

/// Of model `m`: 100 requests, 40 ms each.
fn statistics() -> ModelStatistics {
    let compute_infer = Some(StatisticDuration { count: 100, ns: 4_000_000_000 });
    let inference_stats = Some(InferStatistics { compute_infer, ..InferStatistics::default() });
    ModelStatistics { name: "m".into(), inference_stats, ..ModelStatistics::default() }
}

type Frames = mpsc::UnboundedSender<Frame<Bytes>>;

/// Answers for what it keeps. What stalls has been asked, and is not done if its caller goes away.
async fn serve(method: String, request: Request<Incoming>, seen: Arc<Seen>, frames: Frames) {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return };
    let tenant = head.headers.get("x-tenant").map_or("", |tenant| tenant.to_str().unwrap());
    seen.server.state().asked.push(format!("{method}{tenant}"));
    if seen.server.state().stalling.contains(&&*method) {
        tokio::select! {
            () = frames.closed() => return,
            () = seen.release.notified() => {}
        }
    }
    let status = match seen.server.answer(&seen.name, &method, &head.headers, &body.to_bytes()) {
        Ok(message) => {
            let _ = frames.send(Frame::data(message));
            "0".to_owned()
        }
        Err(status) => status,
    };
    let _ = frames.send(Frame::trailers(trailers(&status)));
}

async fn act(request: Request<Incoming>, seen: Arc<Seen>, frames: Frames) {
    let what = request.headers().get("x-do").map_or("echo", |what| what.to_str().unwrap()).to_owned();
    let mut body = request.into_body();
    seen.requests.fetch_add(1, SeqCst);
    tokio::select! {
        () = frames.closed() => {
            seen.cancelled.fetch_add(1, SeqCst);
        }
        () = perform(&what, &mut body, &seen, &frames) => {}
    }
}

async fn perform(what: &str, body: &mut Incoming, seen: &Seen, frames: &Frames) {
    let mut status = "0";
    match what {
        "hang" => std::future::pending().await,
        "stall-after-message" => {
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let _ = frames.send(Frame::data(if first.len() > 5 { talk::first_of_many() } else { first }));
            seen.release.notified().await;
        }
        "count" => {
            seen.release.notified().await;
            while let Some(frame) = body.frame().await {
                seen.bytes.fetch_add(frame.unwrap().into_data().map_or(0, |data| data.len()), SeqCst);
            }
        }
        "bidi" => {
            while let Some(Ok(frame)) = body.frame().await {
                if frame.data_ref().is_some_and(|data| !data.is_empty()) {
                    let _ = frames.send(Frame::data(stream_answer()));
                }
            }
        }
        "talk" => talk::answer_each(body, seen, frames).await,
        // Not for ever: what nobody cancels shall end.
        "slow" => {
            let all = body.collect().await.unwrap().to_bytes();
            seen.release.notified().await;
            let _ = frames.send(Frame::data(all));
        }
        _ if what.starts_with("head-") || what.starts_with("read-") || what == "slow-on-a" => {
            let all = body.collect().await.unwrap().to_bytes();
            let _ = frames.send(Frame::data(all));
        }
        "echo" => {
            // A caller may give up in the middle.
            let Ok(all) = body.collect().await else { return };
            let _ = frames.send(Frame::data(all.to_bytes()));
        }
        what => status = what.strip_prefix("status-").unwrap(),
    }
    let _ = frames.send(Frame::trailers(trailers(status)));
}

/// A ModelStreamInferResponse with its prefix.
fn stream_answer() -> Bytes {
    framed(&plimsoll_proto::inference::ModelStreamInferResponse { error_message: "x".into(), infer_response: None })
}

/// `code`, or `code-message`.
fn trailers(status: &str) -> HeaderMap {
    let (code, message) = status.split_once('-').unwrap_or((status, ""));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers.insert("grpc-message", message.parse().unwrap());
    trailers.insert("x-trailer", HeaderValue::from_static("late"));
    trailers
}

struct Answer(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// A request's body in pieces, which counts what was taken.
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    taken: Arc<AtomicUsize>,
    /// Whether its end is still to be said when all was taken.
    open: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.taken.fetch_add(piece.as_ref().map_or(0, Bytes::len), SeqCst);
        match piece {
            None if self.open => Poll::Pending,
            piece => Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))),
        }
    }
}

pub(crate) fn whole(bytes: Bytes) -> Pieces {
    Pieces { pieces: [bytes].into(), taken: Arc::default(), open: false }
}

/// The same bytes of a caller that is slow to say that nothing follows.
pub(crate) fn open(bytes: Bytes) -> Pieces {
    Pieces { open: true, ..whole(bytes) }
}

/// One message for model `m` that is `size` bytes long with its prefix, and the count of what was taken of it.
pub(crate) fn large(size: usize) -> (Pieces, Arc<AtomicUsize>) {
    let piece = Bytes::from_static(&[0; 64 << 10]);
    let tensor = size - 5 - 3 - 5;
    let mut head = vec![0];
    head.extend(((size - 5) as u32).to_be_bytes());
    head.extend(b"\x0a\x01m\x3a");
    // A varint of four bytes: tensors from 2 MiB to 256 MiB.
    head.extend([0, 7, 14].map(|shift| 0x80 | (tensor >> shift) as u8 & 0x7f));
    head.push((tensor >> 21) as u8);
    let mut pieces: VecDeque<Bytes> = [head.into()].into();
    let mut left = tensor;
    while left > 0 {
        let next = piece.slice(..left.min(piece.len()));
        left -= next.len();
        pieces.push_back(next);
    }
    let taken = Arc::<AtomicUsize>::default();
    (Pieces { pieces, taken: taken.clone(), open: false }, taken)
}

pub(crate) fn framed(message: &impl Message) -> Bytes {
    prefixed(0, message.encode_to_vec())
}

pub(crate) fn gzipped(message: &impl Message) -> Bytes {
    prefixed(1, gzip(&message.encode_to_vec()))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn prefixed(flag: u8, message: Vec<u8>) -> Bytes {
    [&[flag], &(message.len() as u32).to_be_bytes()[..], &message].concat().into()
}

pub(crate) fn grpc_request(method: &str, what: &str, body: Pieces) -> Request<Pieces> {
    Request::post(format!("/inference.GRPCInferenceService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-do", what)
        .body(body)
        .unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Bytes,
    trailers: HeaderMap,
}

impl Answered {
    /// Reads `response` to its end.
    pub(crate) async fn of(response: Response<Incoming>) -> Result<Answered, hyper::Error> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answered { head, body: body.to_bytes(), trailers })
    }

    pub(crate) fn status_code(&self) -> String {
        let status = self.trailers.get("grpc-status").or_else(|| self.head.headers.get("grpc-status"));
        status.unwrap().to_str().unwrap().into()
    }
}

impl Answered {
    /// Its code and text.
    pub(crate) fn status(&self) -> (tonic::Code, String) {
        let status = tonic::Status::from_header_map(&self.trailers);
        let status = status.or_else(|| tonic::Status::from_header_map(&self.head.headers)).unwrap();
        (status.code(), status.message().to_owned())
    }
}

/// Sends `request` on a connection of its own and reads the answer to its end; one that never ends is a failure.
pub(crate) async fn post(addr: String, request: Request<Pieces>) -> Answered {
    tokio::time::timeout(Duration::from_secs(20), exchange(addr, request)).await.unwrap()
}

async fn exchange(addr: String, mut request: Request<Pieces>) -> Answered {
    *request.uri_mut() = format!("http://{addr}{}", request.uri().path()).parse().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Answered::of(sender.send_request(request).await.unwrap()).await.unwrap()
}

/// Waits for something that happens soon, and says what if it does not.
pub(crate) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited 5 s in vain: {what}");
}
