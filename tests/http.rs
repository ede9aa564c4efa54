//! What callers over HTTP and pods see of each other through a node, against pods that do as told.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[allow(dead_code, reason = "each suite uses its part")]
mod fake;
mod rest;

use std::time::Duration;

use bytes::Bytes;
use fake::rest::{both, connect, exchange, infer, send};
use fake::world::{World, world, world_of};
use fake::{Pod, eventually};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll::node::NodeConfig;
use plimsoll::observe::Cost;
use plimsoll::time::Time;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A connection for each request would cost each a round trip, and in the end all ports of the node; and one that was left
/// busy by mistake would never be used again.
#[tokio::test]
async fn connections_to_a_pod_are_used_again() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut caller = connect(&world.addr).await;
    for size in [0, 1, 100, 1 << 20] {
        for _ in 0..5 {
            let answer = exchange(&mut caller, infer("echo", vec![b'x'; size])).await;
            assert_eq!((answer.status(), answer.body().len()), (StatusCode::OK, size));
        }
    }
    assert_eq!(rest.connections(), 1);
    eventually("tickets end", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [20, 0, 0, 0]);
}

/// A Triton that ends waits for the connections that it has: one that nobody uses must not be kept for longer than those in use.
#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let a = Pod::start("a").await.with_http(&listener.local_addr().unwrap().to_string());
    let world = world(&[&a], |_| {}).await;
    // It ends when a second request comes, or the connection is closed.
    let server = tokio::spawn(closes_on_the_second(listener));
    assert_eq!(send(&world.addr, infer("echo", "x")).await.body(), "first");
    tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
}

/// An answer shows that the pod has the model. An error may come before anybody looked for it, whatever the caller did wrong.
#[tokio::test]
async fn an_answer_shows_that_the_model_is_there_and_an_error_does_not() {
    let (pod, _rest) = both("a").await;
    let world = world_of(&[&pod], |config| config.health.interval = Duration::ZERO, |_| {}).await;
    let there = world.node.picker().pods()[0].clone();
    assert!(world.node.picker().set_available(Time::ZERO, there.id(), "m", false));
    assert_eq!(send(&world.addr, infer("status-400-bad", "x")).await.status(), StatusCode::BAD_REQUEST);
    eventually("its ticket ends", || world.outcomes()[0] == 1).await;
    assert_eq!(there.lacks().count(), 1);
    assert_eq!(send(&world.addr, infer("echo", "x")).await.status(), StatusCode::OK);
    eventually("it is known to have it", || there.lacks().next().is_none()).await;
}

/// A pod may close a connection that nobody uses whenever it likes: no caller must see it, and no pod be blamed.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    for round in 1..=5 {
        assert_eq!(send(&world.addr, infer("echo", "x")).await.status(), StatusCode::OK);
        assert_eq!(rest.connections(), round);
        rest.close_connections();
    }
    assert_eq!(world.outcomes(), [5, 0, 0, 0]);
}

/// Takes one connection, answers a first request on it, and closes it when a second one comes, unread. It takes no others.
async fn closes_on_the_second(listener: TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4096];
    let _ = stream.read(&mut bytes).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await.unwrap();
    stream.readable().await.unwrap();
}

/// A Triton that ends answers what it has begun, and closes what is idle: a request that comes there at the same moment is lost on
/// the way, and may go to another pod. From one that does not end, nobody knows.
#[tokio::test]
async fn a_request_that_a_pod_which_ends_did_not_read_goes_to_another() {
    for ends in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let a = Pod::start("a").await.with_http(&listener.local_addr().unwrap().to_string());
        let (b, _rest) = both("b").await;
        let world = world(&[&a, &b], |_| {}).await;
        let server = tokio::spawn(closes_on_the_second(listener));
        let heavy = plimsoll::pick::Request::new("m").cost(Cost::from_ms(60_000.0).unwrap());
        let held = world.node.pick(&heavy.among(&[world.node.picker().pods()[1].id()])).unwrap();
        assert_eq!(send(&world.addr, infer("echo", "x")).await.body(), "first");
        if ends {
            a.shut_down();
        }
        let answer = send(&world.addr, infer("echo", "second")).await;
        let text = String::from_utf8_lossy(answer.body());
        match ends {
            true => assert_eq!((answer.status(), &*text), (StatusCode::OK, "second")),
            false => {
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert!(text.contains("`a` broke off before it answered"), "{text}");
            }
        }
        server.await.unwrap();
        held.finish(plimsoll::pick::Outcome::Served);
    }
}

/// A connection whose request is still on its way when its response has ended must not be given to the next request.
#[tokio::test]
async fn an_answer_before_the_end_of_its_request_blocks_nobody() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let (pieces, body) = mpsc::unbounded_channel();
    pieces.send(Ok::<_, hyper::Error>(http_body::Frame::data(Bytes::from(vec![b' '; 1 << 20])))).unwrap();
    let request = infer("early", "").map(|_| StreamBody::new(UnboundedReceiverStream::new(body)));
    let stream = TcpStream::connect(&world.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), &b"{\"error\":\"early\"}"[..]);
    assert_eq!(send(&world.addr, infer("echo", "x")).await.status(), StatusCode::OK);
}

/// While another pod is left, one whose HTTP port is closed costs callers nothing; and callers over gRPC keep it.
#[tokio::test]
async fn a_pod_without_its_http_port_is_picked_around_and_not_ejected() {
    let (live, _rest) = both("live").await;
    let deaf = Pod::start("deaf").await.with_http(&fake::unused().await);
    let mut world = world(&[&deaf, &live], |_| {}).await;
    for _ in 0..10 {
        let answer = send(&world.addr, infer("echo", "x")).await;
        assert_eq!((answer.status(), &answer.headers()["plimsoll-pod"]), (StatusCode::OK, &"live".parse().unwrap()));
    }
    world.client.model_infer(fake::world::infer("m", "echo")).await.unwrap();
    assert!(world.node.picker().pods().iter().all(|pod| !pod.is_ejected()));
}

/// What a pod took nothing of must be served by another one, with the same body; when none takes it the caller gets the pod's
/// own words.
#[tokio::test]
async fn what_a_pod_refuses_is_sent_to_another() {
    let ((a, rest_a), (b, rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    for text in ["[request id: 1] Exceeds maximum queue size@a", "Server exiting@a"] {
        for _ in 0..4 {
            let answer = send(&world.addr, infer(&format!("status-503-{text}"), "body")).await;
            assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"body"[..]));
            assert_eq!(answer.headers()["x-pod"], "b");
        }
    }
    assert!(rest_a.requests() > 0 && rest_b.requests() >= 8);
    let answer = send(&world.addr, infer("status-503-Exceeds maximum queue size", "body")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body(), "{\"error\":\"Exceeds maximum queue size\"}");
    // What a pod may have done stays done.
    let before = rest_a.requests() + rest_b.requests();
    assert_eq!(send(&world.addr, infer("status-500-boom", "x")).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(rest_a.requests() + rest_b.requests(), before + 1);
}

/// The same of a body that is too long to be read ahead, which is the usual one: it is sent again from what was sent.
#[tokio::test]
async fn a_large_body_that_a_pod_refuses_is_sent_to_another() {
    let ((a, rest_a), (b, _rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let body: Bytes = (0..600_u32 << 8).flat_map(u32::to_be_bytes).collect();
    for _ in 0..6 {
        let answer = send(&world.addr, infer("status-503-Exceeds maximum queue size@a", body.clone())).await;
        assert_eq!((answer.status(), &answer.headers()["x-pod"]), (StatusCode::OK, &"b".parse().unwrap()));
        assert!(answer.body() == &body, "the body is another");
    }
    assert!(rest_a.requests() > 0, "nothing was refused");
    eventually("nothing is in flight", || world.in_flight() == 0).await;
}

/// HTTP has no deadlines: what is in flight on a pod that hangs would wait for ever. A pod is asked by gRPC whether it hangs.
#[tokio::test]
async fn a_request_on_a_pod_that_hangs_is_given_up() {
    let (a, rest_a) = both("a").await;
    let give_up = |config: &mut NodeConfig| config.health.give_up = Duration::from_secs(1);
    let world = world_of(&[&a], give_up, |_| {}).await;
    let addr = world.addr.clone();
    let held = tokio::spawn(async move { send(&addr, infer("hang", "x")).await });
    eventually("the pod has it", || rest_a.requests() == 1).await;
    a.freeze(true);
    let answer = tokio::time::timeout(Duration::from_secs(30), held).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text =
        "{\"error\":\"pod `a` was given up before it answered, and may have begun the request: it answers nothing";
    assert!(answer.body().starts_with(text.as_bytes()), "{answer:?}");
    eventually("its connection is closed", || rest_a.cancelled() == 1).await;
    assert_eq!(world.outcomes(), [0, 0, 0, 1]);
    a.freeze(false);
    eventually("it is back", || world.node.picker().pods().iter().all(|pod| !pod.is_ejected())).await;
    assert_eq!(send(&world.addr, infer("echo", "x")).await.status(), StatusCode::OK);
}

/// Whoever looks for what is wrong with one pod must be able to ask that one, and be told where nobody can.
#[tokio::test]
async fn a_pin_reaches_its_pod_or_says_why_not() {
    let ((a, rest_a), (b, rest_b)) = (both("a").await, both("b").await);
    let only_grpc = Pod::start("c").await;
    let world = world(&[&a, &b, &only_grpc], |_| {}).await;
    let ask = |pod: &str| {
        let mut request = infer("echo", "x");
        request.headers_mut().insert("plimsoll-pod", pod.parse().unwrap());
        send(&world.addr, request)
    };
    for _ in 0..4 {
        assert_eq!(ask("b").await.headers()["plimsoll-pod"], "b");
    }
    assert_eq!((rest_a.requests(), rest_b.requests()), (0, 4));
    assert!(!rest_b.last().0.contains_key("plimsoll-pod"));
    let answer = ask("c").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body(), "{\"error\":\"pod `c` has no address for HTTP: ask it over gRPC\"}");
    let answer = ask("z").await;
    assert_eq!(
        (answer.status(), &answer.headers()["content-type"]),
        (StatusCode::BAD_REQUEST, &"application/json".parse().unwrap())
    );
}

/// A caller that goes away must not leave its ticket behind, nor a pod that computes for nobody.
#[tokio::test]
async fn a_caller_that_goes_away_cancels() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    for (cancelled, what) in [(1, "hang"), (2, "events")] {
        let mut caller = connect(&world.addr).await;
        let call = tokio::spawn(async move {
            let answer = caller.send_request(infer(what, "x")).await.unwrap();
            let mut body = answer.into_body();
            while body.frame().await.is_some() {}
        });
        eventually("the pod has it", || rest.requests() == cancelled).await;
        assert_eq!(world.in_flight(), 1);
        call.abort();
        eventually("the pod hears of it", || rest.cancelled() == cancelled).await;
        eventually("the ticket ends", || world.in_flight() == 0).await;
        assert_eq!(world.outcomes(), [0, 0, 0, cancelled as u64]);
    }
}

/// A pod that dies may have begun the request: it is not sent twice, and its caller is told so.
#[tokio::test]
async fn a_pod_that_dies_is_an_error_and_no_second_try() {
    let ((a, rest_a), (b, rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let addr = world.addr.clone();
    let call = tokio::spawn(async move { send(&addr, infer("hang", "x")).await });
    eventually("a pod has it", || rest_a.requests() + rest_b.requests() == 1).await;
    let (hit, other) = if rest_a.requests() == 1 { (rest_a, rest_b) } else { (rest_b, rest_a) };
    hit.kill().await;
    let answer = call.await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = String::from_utf8_lossy(answer.body());
    assert!(text.contains("broke off before it answered, and may have begun the request"), "{text}");
    assert_eq!(other.requests(), 0);
    assert_eq!(world.outcomes(), [0, 1, 0, 0]);
}

/// Events must come as the pod sends them, and the ticket live until the last.
#[tokio::test]
async fn events_stream_through_one_by_one() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut caller = connect(&world.addr).await;
    let request = fake::rest::rest(http::Method::POST, "/v2/models/m/generate_stream", "events", "{}");
    let answer = caller.send_request(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    assert_eq!((world.in_flight(), world.outcomes()), (1, [0; 4]));
    rest.release();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 2\n\n");
    assert!(body.frame().await.is_none());
    eventually("the ticket ends", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [1, 0, 0, 0]);
}

/// Both protocols on one port, REST over HTTP/2 too: a service mesh speaks that to whoever lets it.
#[tokio::test]
async fn both_protocols_are_served_at_one_door() {
    let (pod, rest) = both("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    world.client.model_infer(fake::world::infer("m", "echo")).await.unwrap();
    assert_eq!(send(&world.addr, infer("echo", "x")).await.body(), "x");
    let stream = TcpStream::connect(&world.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for body in ["", "{}", "x"] {
        let mut request = infer("echo", body);
        *request.uri_mut() = format!("http://{}/v2/models/m/infer", world.addr).parse().unwrap();
        request.headers_mut().remove("host");
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!((answer.status(), answer.headers().contains_key("keep-alive")), (StatusCode::OK, false));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
    }
    assert_eq!((pod.requests(), rest.requests()), (1, 4));
    let grpc = Request::post("/inference.GRPCInferenceService/ModelInfer").header("host", "x");
    let grpc = grpc.header("content-type", "application/grpc").body(Full::default()).unwrap();
    assert_eq!(send(&world.addr, grpc).await.status(), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}

/// A sequence must stay on the pod that has its beginning, whose id is in the JSON, in front of tensors in binary or behind
/// tensors that are spelled out, compressed or not.
#[tokio::test]
async fn sequences_are_found_in_json_and_stay_on_their_pods() {
    let pods = [both("a").await, both("b").await, both("c").await, both("d").await];
    let world = world(&pods.each_ref().map(|(pod, _)| pod), |_| {}).await;
    for id in ["7", "\"seven\"", "8", "\"eight\""] {
        let mut first = None;
        for step in 0..6 {
            let flags = if step == 0 { ",\"sequence_start\":true" } else { "" };
            let json = format!("{{\"inputs\":[{{\"data\":[1,2,3]}}],\"parameters\":{{\"sequence_id\":{id}{flags}}}}}");
            let mut request = match step % 3 {
                0 => infer("echo", json.clone()),
                1 => infer("echo", [json.as_bytes(), &[0xff; 100_000]].concat()),
                _ => infer("echo", fake::gzip(json.as_bytes())),
            };
            match step % 3 {
                1 => request.headers_mut().insert("inference-header-content-length", json.len().into()),
                2 => request.headers_mut().insert("content-encoding", "gzip".parse().unwrap()),
                _ => None,
            };
            let answer = send(&world.addr, request).await;
            let by = answer.headers()["x-pod"].clone();
            assert_eq!(first.get_or_insert(by.clone()), &by, "step {step} of sequence {id}");
        }
    }
}

/// What no node understands is for the pod to judge: it must get it as it came.
#[tokio::test]
async fn what_makes_no_sense_passes_to_the_pod_as_it_is() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    for (body, length, encoding) in [
        (&b"{{{{"[..], None, None),
        (b"[]", Some("1"), None),
        (b"{}", Some("4000"), None),
        (b"{}", Some("-1"), None),
        (b"{}", Some("x"), None),
        (b"{}", None, Some("gzip")),
        (b"{}", None, Some("sonnet")),
        (b"{\"parameters\":[1]}", None, None),
        (b"\xff\xfe", None, None),
        (b"", None, None),
    ] {
        let mut request = infer("echo", body);
        if let Some(length) = length {
            request.headers_mut().insert("inference-header-content-length", length.parse().unwrap());
        }
        if let Some(encoding) = encoding {
            request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        }
        let answer = send(&world.addr, request).await;
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, body));
        assert_eq!(rest.last().1, body);
    }
    assert_eq!(world.outcomes()[0], 10);
}

/// Sends `head` (and what follows) as it is, and reads until the node has nothing more to say.
async fn raw(world: &World, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(&world.addr).await.unwrap();
    stream.write_all(text).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Over the limit is said at once where the head tells, and as soon as it shows where it does not; either way the caller learns
/// what the limit is, and the pod is not to blame.
#[tokio::test]
async fn bodies_over_the_limit_are_refused_by_name() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |options| options.forward.max_message_bytes = 100_000).await;
    let answer = send(&world.addr, infer("echo", vec![0; 100_001])).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body(), "{\"error\":\"a body of 100001 bytes is over the limit of 100000 bytes\"}");
    assert_eq!(rest.connections(), 0);
    let chunk = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
    let head =
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let answer = raw(&world, &[&head[..], &chunk, &chunk, b"0\r\n\r\n"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("is over the limit of 100000 bytes"), "{answer}");
    eventually("the ticket ends", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [0, 0, 0, 1]);
    assert_eq!(send(&world.addr, infer("echo", vec![0; 100_000])).await.status(), StatusCode::OK);
}

/// Heads that are too long, come too slowly, or never: none of them may take the node's memory or a place for ever.
#[tokio::test]
async fn heads_are_bounded_in_size_and_time() {
    let (pod, _rest) = both("a").await;
    let adjust = |options: &mut plimsoll::forward::FrontOptions| {
        options.max_header_bytes = 10_000;
        options.idle = Duration::from_millis(200);
    };
    let world = world(&[&pod], adjust).await;
    let long = format!("GET /v2/health/live HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(20_000));
    assert!(raw(&world, long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    assert_eq!(raw(&world, b"").await, "");
    assert_eq!(raw(&world, b"GET /v2/health/live HT").await, "");
    let idle = raw(&world, b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200 OK\r\n"), "{idle}");
    assert!(raw(&world, b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    assert_eq!(send(&world.addr, infer("echo", "x")).await.status(), StatusCode::OK);
}

/// Requests that do not wait for each other's answers are answered in their order.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let one = |body: &str, end: &str| {
        format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{end}\r\n{body}", body.len())
    };
    let text = one("first", "") + &one("second", "") + &one("third", "connection: close\r\n");
    let answer = raw(&world, text.as_bytes()).await;
    let places = ["first", "second", "third"].map(|body| answer.find(body).unwrap());
    assert!(places.is_sorted() && answer.matches("HTTP/1.1 200 OK").count() == 3, "{answer}");
    assert_eq!(rest.requests(), 3);
}

/// Chunks, a client that asks before it sends, and an old one: all of them are HTTP/1.1 to the pod, which gets no header that
/// was for the node.
#[tokio::test]
async fn bodies_come_in_chunks_and_on_request() {
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let head = "POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nconnection: close, x-mine\r\nx-mine: 1\r\n";
    let answer =
        raw(&world, format!("{head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("abc"), "{answer}");
    assert!(!answer.contains("keep-alive"), "{answer}");
    let (headers, body) = rest.last();
    assert_eq!((&body[..], headers.contains_key("x-mine")), (&b"abc"[..], false));
    let answer = raw(&world, format!("{head}expect: 100-continue\r\ncontent-length: 3\r\n\r\nabc").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK") && answer.ends_with("abc"), "{answer}");
    assert!(!rest.last().0.contains_key("expect"));
    let answer = raw(&world, b"POST /v2/models/m/infer HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("abc"), "{answer}");
    assert_eq!(rest.connections(), 1);
}

/// Tritons can be told to make parameters of headers, by their names as they are written.
#[tokio::test]
async fn names_of_headers_stay_as_they_were_written() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = Pod::start("a").await.with_http(&listener.local_addr().unwrap().to_string());
    let world = world(&[&pod], |_| {}).await;
    let pod_side = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"abc") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
        String::from_utf8(seen).unwrap()
    });
    let request = b"POST /v2/models/m/infer?a=B HTTP/1.1\r\nHost: x\r\nX-My-Tenant: Blue\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    let answer = raw(&world, request).await;
    assert!(answer.contains("\r\nInference-Header-Content-Length: 2\r\n"), "{answer}");
    let seen = pod_side.await.unwrap();
    assert!(seen.starts_with("POST /v2/models/m/infer?a=B HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("\r\nX-My-Tenant: Blue\r\n") && !seen.contains("Connection"), "{seen}");
}

/// A shutdown lets requests finish, and closes connections that have none.
#[tokio::test]
async fn a_shutdown_waits_for_requests_and_for_nobody_else() {
    let (pod, rest) = both("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    let mut idle = connect(&world.addr).await;
    exchange(&mut idle, infer("echo", "x")).await;
    let silent = TcpStream::connect(&world.addr).await.unwrap();
    let addr = world.addr.clone();
    let call = tokio::spawn(async move { send(&addr, infer("stall", "last")).await });
    eventually("the pod has it", || rest.requests() == 2).await;
    world.shutdown.take().unwrap().send(()).unwrap();
    eventually("idle connections are closed", || idle.is_closed()).await;
    rest.release();
    assert_eq!(call.await.unwrap().body(), "last");
    // A client of gRPC is connected all the while; it is told to go.
    tokio::time::timeout(Duration::from_secs(20), world.served).await.unwrap().unwrap();
    drop(silent);
}
