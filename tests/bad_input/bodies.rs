//! Bodies that come slowly, or not at all.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll::driver::metrics::Metrics;
use plimsoll::forward::FrontOptions;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use crate::fake::rest::{both, rest};
use crate::fake::world::world;
use crate::fake::{Answered, Pod, eventually, framed, grpc_request, large, whole};
use crate::wire::Raw;
use crate::{beside, scraped};

/// What goes on at a caller's pace.
type Body = StreamBody<UnboundedReceiverStream<Result<Frame<Bytes>, hyper::Error>>>;
type Pieces = UnboundedSender<Result<Frame<Bytes>, hyper::Error>>;

const PAUSE: Duration = Duration::from_millis(400);

fn impatient(options: &mut FrontOptions) {
    options.forward.limits.body_idle = PAUSE;
}

fn body() -> (Pieces, Body) {
    let (pieces, body) = unbounded_channel();
    (pieces, StreamBody::new(UnboundedReceiverStream::new(body)))
}

fn say(pieces: &Pieces, data: impl Into<Bytes>) {
    pieces.send(Ok(Frame::data(data.into()))).unwrap();
}

/// The head of a Triton's inference of 300 kB, and of its tensor the first 100 kB.
fn beginning() -> Bytes {
    let message = plimsoll_proto::inference::ModelInferRequest {
        model_name: "m".into(),
        raw_input_contents: vec![Bytes::from(vec![7; 300_000])],
        ..Default::default()
    };
    framed(&message).slice(..100_000)
}

async fn grpc(addr: &str, method: &str, what: &str, body: Body) -> Response<Incoming> {
    let mut request = grpc_request(method, what, whole(Bytes::new())).map(|_| body);
    *request.uri_mut() = format!("http://{addr}{}", request.uri().path()).parse().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await.unwrap().unwrap()
}

async fn http(addr: &str, request: Request<Body>) -> (StatusCode, String) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await.unwrap().unwrap();
    let answer = Answered::of(answer).await.unwrap();
    (answer.head.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

const STOOD_STILL: &str =
    "the request's body stood still for 400ms: send it without such a pause, or raise this node's limits.body_idle_s";

/// A body that stops in the middle holds a place at a pod: its caller must hear of it, and the pod be let go.
#[tokio::test]
async fn a_body_that_stands_still_over_grpc_ends_its_request() {
    let metrics = Metrics::install().unwrap();
    let pod = Pod::start("a").await;
    let world = world(&[&pod], impatient).await;
    let (pieces, stands_still) = body();
    say(&pieces, beginning());
    let asked = grpc(&world.addr, "ModelInfer", "echo", stands_still).await;
    let answer = Answered::of(asked).await.unwrap();
    assert_eq!(answer.status(), (Code::DeadlineExceeded, STOOD_STILL.into()));
    eventually("the pod hears of it", || pod.requests() == 1 && world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [0, 0, 0, 1]);
    // Before it is known what it asks for, and of a question that the node answers.
    let begins: [(&str, &'static [u8]); 4] = [
        ("ModelInfer", b"\0\0\0"),
        ("ModelInfer", b"\0\0\0\0\x09\x0a\x01"),
        ("ModelStatistics", b"\0\0\0\0\x09"),
        ("TraceSetting", b"\0\0"),
    ];
    for (method, begins) in begins {
        let (pieces, stands_still) = body();
        say(&pieces, begins);
        let answer = Answered::of(grpc(&world.addr, method, "echo", stands_still).await).await.unwrap();
        assert_eq!(answer.status(), (Code::DeadlineExceeded, STOOD_STILL.into()), "{method}");
    }
    assert_eq!((pod.requests(), world.in_flight()), (1, 0));
    assert!(scraped(&metrics, &world, "plimsoll_bodies_stalled_total").await >= 5.0);
    assert!(world.node.picker().pods().iter().all(|pod| !pod.is_ejected()));
}

/// The same over HTTP, whether the body is short or long, and whether it says how long it is.
#[tokio::test]
async fn a_body_that_stands_still_over_http_ends_its_request() {
    let (pod, at_pod) = both("a").await;
    let world = world(&[&pod], impatient).await;
    let good = beside(&world);
    let paths = ["/v2/models/m/infer", "/v2/models/m/config", "/v2/repository/index", "/nobody/knows"];
    for path in paths {
        for (announced, sent) in [(Some(10), 3), (Some(300_000), 100_000), (None, 3), (None, 100_000)] {
            let (pieces, stands_still) = body();
            say(&pieces, vec![b' '; sent]);
            let mut request = rest(Method::POST, path, "echo", "").map(|_| stands_still);
            if let Some(bytes) = announced {
                request.headers_mut().insert("content-length", bytes.into());
            }
            let (status, text) = http(&world.addr, request).await;
            let wanted = (StatusCode::REQUEST_TIMEOUT, format!("{{\"error\":\"{STOOD_STILL}\"}}"));
            assert_eq!((status, text), wanted, "{path} {announced:?} {sent}");
        }
    }
    // Nobody knows where the next request would begin: the connection ends, and says so where it can.
    for sent in [3, 100_000] {
        let mut raw = Raw::connect(&world.addr).await;
        let head = "POST /v2/models/m/infer HTTP/1.1\r\nhost: node\r\ncontent-length: 300000\r\n\r\n";
        raw.says(head.as_bytes()).await;
        raw.says(&vec![b' '; sent]).await;
        let heard = raw.hears().await;
        assert!(heard.starts_with("HTTP/1.1 408 Request Timeout\r\n") && heard.ends_with("\"}"), "{heard}");
        assert!(heard.contains("connection: close\r\n"), "{heard}");
    }
    let asked = at_pod.asked();
    assert!(asked.iter().all(|asked| asked == "POST /v2/models/m/infer"), "{asked:?}");
    good.was_served(&world).await;
    assert_eq!(world.outcomes()[1], 0);
}

/// What comes slowly comes: the limit is for what stands still. Nor is it the caller's fault that its pod does not read.
#[tokio::test]
async fn a_slow_body_and_a_slow_pod_are_borne_with() {
    let (pod, _at_pod) = both("a").await;
    // Far enough from the pauses that a machine which is busy with other tests does not matter.
    const LIMIT: Duration = Duration::from_secs(2);
    let world = world(&[&pod], |options| options.forward.limits.body_idle = LIMIT).await;
    let (pieces, slow) = body();
    let request = rest(Method::POST, "/v2/models/m/infer", "echo", "").map(|_| slow);
    let addr = world.addr.clone();
    let call = tokio::spawn(async move { http(&addr, request).await });
    for _ in 0..12 {
        tokio::time::sleep(LIMIT / 8).await;
        say(&pieces, "x");
    }
    drop(pieces);
    assert_eq!(call.await.unwrap(), (StatusCode::OK, "x".repeat(12)));
    let (tensor, taken) = large(16 << 20);
    let addr = world.addr.clone();
    let call = tokio::spawn(async move { crate::fake::post(addr, grpc_request("ModelInfer", "count", tensor)).await });
    eventually("the pod has it", || pod.requests() == 1).await;
    tokio::time::sleep(LIMIT + LIMIT / 2).await;
    assert!(taken.load(std::sync::atomic::Ordering::SeqCst) < 16 << 20);
    pod.release();
    assert_eq!(call.await.unwrap().status_code(), "0");
    assert_eq!(pod.bytes(), 16 << 20);
}

/// A stream of requests may be silent for as long as its caller likes, before its first request and between two.
#[tokio::test]
async fn a_stream_may_be_silent() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], impatient).await;
    let (pieces, quiet) = body();
    let addr = world.addr.clone();
    let call = tokio::spawn(async move {
        let answers = grpc(&addr, "ModelStreamInfer", "talk", quiet).await;
        Answered::of(answers).await.unwrap()
    });
    for _ in 0..2 {
        tokio::time::sleep(PAUSE * 2).await;
        say(
            &pieces,
            framed(&plimsoll_proto::inference::ModelInferRequest { model_name: "m".into(), ..Default::default() }),
        );
    }
    tokio::time::sleep(PAUSE * 2).await;
    drop(pieces);
    let answer = call.await.unwrap();
    assert_eq!(answer.status_code(), "0");
    assert!(answer.body.len() > 80);
    eventually("tickets end", || world.in_flight() == 0).await;
}
