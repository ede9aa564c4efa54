//! Callers that read no answers, and pods that read no requests: what waits for them must keep nobody else waiting.

use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::beside;
use crate::fake::rest::both;
use crate::fake::world::world;
use crate::fake::{eventually, grpc_request, whole};

/// More than a stream may have on its way unread, as large as tensors are.
const LARGE: usize = 3 << 20;
/// More than fit into the windows of one connection at their usual size.
const MANY: usize = 40;

/// A message for model `m`.
fn message() -> Bytes {
    crate::fake::framed(&plimsoll_proto::inference::ModelInferRequest {
        model_name: "m".into(),
        raw_input_contents: vec![vec![7; LARGE].into()],
        ..Default::default()
    })
}

/// Answers that nobody reads lie at the node, on the one connection to their pod; others' answers come by the same one.
#[tokio::test]
async fn answers_that_nobody_reads_hold_up_no_others() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut unread = Vec::new();
    for _ in 0..MANY {
        let stream = TcpStream::connect(&world.addr).await.unwrap();
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1000)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = grpc_request("ModelInfer", "echo", whole(message()));
        *request.uri_mut() = format!("http://{}{}", world.addr, request.uri().path()).parse().unwrap();
        unread.push((
            tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await.unwrap().unwrap(),
            sender,
        ));
    }
    assert_eq!(world.in_flight() as usize, MANY);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let good = beside(&world);
    good.is_served().await;
    drop(unread);
    good.was_served(&world).await;
}

/// Requests that a pod does not read lie at the node, on the one connection of their caller; his other requests come by the same.
#[tokio::test]
async fn requests_that_no_pod_reads_hold_up_no_others() {
    let (pod, _rest) = both("a").await;
    let (other, _other_rest) = both("b").await;
    let world = world(&[&pod, &other], |_| {}).await;
    let mut calls = Vec::new();
    for _ in 0..MANY {
        let mut client = world.client.clone();
        let mut request = crate::fake::world::infer("m", "count");
        request.get_mut().raw_input_contents = vec![vec![7; LARGE].into()];
        request.metadata_mut().insert("plimsoll-pod", "a".parse().unwrap());
        calls.push(tokio::spawn(async move { client.model_infer(request).await }));
    }
    eventually("the pod has them", || pod.requests() == MANY).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let good = beside(&world);
    good.is_served().await;
    for call in calls {
        call.abort();
    }
    good.was_served(&world).await;
}
