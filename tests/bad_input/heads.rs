//! Heads of requests that are too large, contradict themselves, or ask for what nobody has.

use http::{Method, StatusCode};
use tonic::Code;

use crate::beside;
use crate::fake::rest::{both, infer, rest, send};
use crate::fake::world::world;
use crate::fake::{grpc_request, post, whole};
use crate::wire::{END_HEADERS, END_STREAM, HEADERS, Raw, field, frame, grpc_block};

/// The status line of what `text` gets, on a connection of its own.
async fn status_of(addr: &str, text: &str) -> String {
    let mut raw = Raw::connect(addr).await;
    raw.says(text.as_bytes()).await;
    raw.hears().await.lines().next().unwrap_or_default().to_owned()
}

/// Over HTTP/1.1 the number says what is wrong, and the connection ends: nobody knows where the next request would begin.
#[tokio::test]
async fn heads_that_contradict_themselves_are_refused() {
    let (pod, at_pod) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(100_000));
    for (fields, status) in [
        (&many[..], "HTTP/1.1 431 Request Header Fields Too Large"),
        (&long, "HTTP/1.1 431 Request Header Fields Too Large"),
        ("content-length: 3\r\ncontent-length: 4\r\n", "HTTP/1.1 400 Bad Request"),
        ("content-length: 3, 4\r\n", "HTTP/1.1 400 Bad Request"),
        ("content-length: -1\r\n", "HTTP/1.1 400 Bad Request"),
        ("content-length: 99999999999999999999999\r\n", "HTTP/1.1 400 Bad Request"),
        ("transfer-encoding: gzip\r\n", "HTTP/1.1 400 Bad Request"),
        ("transfer-encoding: chunked, gzip\r\n", "HTTP/1.1 400 Bad Request"),
        ("x y: 1\r\n", "HTTP/1.1 400 Bad Request"),
        ("x: \0\r\n", "HTTP/1.1 400 Bad Request"),
        (" folded: 1\r\n", "HTTP/1.1 400 Bad Request"),
    ] {
        let text = format!("POST /v2/models/m/infer HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{fields}\r\n");
        assert_eq!(status_of(&world.addr, &text).await, status, "{}", &fields[..fields.len().min(80)]);
    }
    let lines = [
        "GET",
        "GET /",
        "GET / HTTP/9.9",
        "get\t/ HTTP/1.1",
        "\r\n\r\n\0",
        "GET http://[ HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
    ];
    for line in lines {
        let status = status_of(&world.addr, &format!("{line}\r\nhost: node\r\n\r\n")).await;
        assert!(status.starts_with("HTTP/1.1 4") || status.starts_with("HTTP/1.1 505"), "{line:?}: {status}");
    }
    // Chunks win, and no pod sees the other length (RFC 9112, 6.3): what it took for the next request would be a smuggled one.
    let both_lengths = "POST /v2/models/m/infer HTTP/1.1\r\nhost: node\r\nx-do: echo\r\nconnection: close\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n";
    assert_eq!(status_of(&world.addr, both_lengths).await, "HTTP/1.1 200 OK");
    let seen = at_pod.last();
    assert!(!seen.0.contains_key("content-length") || !seen.0.contains_key("transfer-encoding"), "{seen:?}");
    assert!(at_pod.asked().iter().all(|asked| asked == "POST /v2/models/m/infer"));
    good.was_served(&world).await;
}

/// Over HTTP/2 the stream alone ends, with a status.
#[tokio::test]
async fn a_head_that_is_too_large_over_http2_costs_its_request_alone() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    for (fields, bytes) in [(1, 70_000), (2000, 30)] {
        let mut raw = Raw::http2(&world.addr).await;
        let mut block = grpc_block("echo");
        for _ in 0..fields {
            field(&mut block, "x-long", &"y".repeat(bytes));
        }
        raw.says(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        let mut frames = raw.frames_until(HEADERS).await;
        let head = frames.pop().unwrap();
        // `:status` as a literal: `431` in Huffman's code.
        assert_eq!((head.kind, &head.payload[..]), (HEADERS, &[72, 131, 105, 144, 255][..]));
        let next = frame(HEADERS, END_HEADERS | END_STREAM, 3, &grpc_block("echo"));
        assert!(raw.says(&next).await);
        assert_eq!(raw.frames_until(HEADERS).await.pop().unwrap().kind, HEADERS);
    }
    good.was_served(&world).await;
}

/// What nobody has is said by who knows: the node where it is about methods of gRPC, the pods for all else.
#[tokio::test]
async fn what_nobody_has_is_said_so() {
    let (pod, at_pod) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    // A newer Triton may have methods that no node knows; other services it has none.
    let mut unknown = grpc_request("Nonsense", "status-12-what?", whole(vec![0; 5].into()));
    assert_eq!(post(world.addr.clone(), unknown).await.status(), (Code::Unimplemented, "what?".into()));
    unknown = grpc_request("ModelInfer", "echo", whole(vec![0; 5].into()));
    *unknown.uri_mut() = "/inference.Nobody/Knows".parse().unwrap();
    let answer = post(world.addr.clone(), unknown).await;
    let text = "unknown method `/inference.Nobody/Knows`";
    assert_eq!(answer.status(), (Code::Unimplemented, text.into()));
    let mut get = grpc_request("ModelInfer", "echo", whole(vec![0; 5].into()));
    *get.method_mut() = Method::GET;
    assert_eq!(post(world.addr.clone(), get).await.head.status, StatusCode::METHOD_NOT_ALLOWED);
    // The paths that make no sense arrive as they were written, and nothing is made of their escapes.
    let paths = [
        "/v2/models/%zz/infer",
        "/v2/models/%/infer",
        "/v2/models/%00/infer",
        "/v2/models/../../etc/passwd",
        "/v2/models/m%2Finfer",
        "//v2//models//m//infer",
        "/v2/models/%ff%fe/infer",
        "/v2/models//infer",
        "/?%zz",
    ];
    for path in paths {
        let answer = send(&world.addr, rest(Method::POST, path, "echo", "x")).await;
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"x"[..]), "{path}");
        assert!(at_pod.asked().contains(&format!("POST {path}")), "{path}: {:?}", at_pod.asked());
    }
    let long = format!("/v2/models/{}/infer", "m".repeat(50_000));
    assert_eq!(send(&world.addr, rest(Method::POST, &long, "echo", "x")).await.status(), StatusCode::OK);
    for method in ["DELETE", "OPTIONS", "PATCH", "BREW"] {
        let answer = send(&world.addr, rest(method.parse().unwrap(), "/v2/models/m/infer", "echo", "x")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{method}");
    }
    let connect = "CONNECT node:80 HTTP/1.1\r\nhost: node:80\r\nconnection: close\r\n\r\n";
    assert_eq!(status_of(&world.addr, connect).await, "HTTP/1.1 501 Not Implemented");
    let unknown = send(&world.addr, infer("status-400-Request for unknown model: 'm' is not found", "x")).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    good.was_served(&world).await;
}
