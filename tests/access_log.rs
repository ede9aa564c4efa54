//! The access log: what a line says of requests that end in different ways.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[allow(dead_code, reason = "each suite uses its part")]
mod fake;

use std::path::Path;
use std::time::Duration;

use fake::world::{infer, world};
use fake::{Pod, eventually};
use plimsoll::driver::access_log::{AccessLog, AccessLogTarget};
use plimsoll_proto::inference::ServerLiveRequest;
use prost::Message;
use serde_json::Value;

const LONG: Duration = Duration::from_secs(20);

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Who looks for what became of a request finds a line for it, whether a pod answered, failed, could not be reached, or the caller
/// went away; and what it says is what happened.
#[tokio::test]
async fn every_end_of_a_request_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(AccessLogTarget::File(path.clone()), 1.0).unwrap();
    let (pod, _rest) = fake::rest::both("a").await;
    let mut world = world(&[&pod], |options| options.forward.access_log = Some(log.clone())).await;

    let mut named = infer("m", "echo");
    named.get_mut().id = "mine".into();
    world.client.model_infer(named).await.unwrap();
    let mut named = infer("m", "status-3-bad");
    named.metadata_mut().insert("x-request-id", "of the header".parse().unwrap());
    world.client.model_infer(named).await.unwrap_err();
    world.client.model_infer(infer("m", "status-13-broken")).await.unwrap_err();
    let mut client = world.client.clone();
    let call = tokio::spawn(async move { client.model_infer(infer("m", "hang")).await });
    eventually("the pod has it", || world.in_flight() == 1).await;
    call.abort();
    eventually("the ticket ends", || world.in_flight() == 0).await;
    let stream = infer("m", "bidi").map(|message| tokio_stream::iter([message]));
    let mut answers = world.client.model_stream_infer(stream).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    eventually("the stream's request ends", || world.in_flight() == 0).await;
    let stream = infer("m", "talk").map(|message| tokio_stream::iter([message]));
    let mut answers = world.client.model_stream_infer(stream).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(answers.message().await.unwrap().is_none());
    fake::rest::send(&world.addr, fake::rest::infer("echo", r#"{"id":"in JSON","inputs":[]}"#)).await;
    eventually("their requests end", || world.in_flight() == 0).await;
    pod.kill().await;
    world.client.model_infer(infer("m", "echo")).await.unwrap_err();
    // Asked of the node: no request of a pod's.
    world.client.server_live(ServerLiveRequest {}).await.unwrap();

    log.flush(LONG);
    let lines = lines(&path);
    let ends: Vec<(&str, &str, Option<i64>)> = lines
        .iter()
        .map(|line| (line["method"].as_str().unwrap(), line["outcome"].as_str().unwrap(), line["status"].as_i64()))
        .collect();
    assert_eq!(
        ends,
        [
            ("ModelInfer", "served", Some(0)),
            ("ModelInfer", "served", Some(3)),
            ("ModelInfer", "failed", Some(13)),
            ("ModelInfer", "cancelled", None),
            // An error, to which a Triton gives no code inside a stream.
            ("ModelStreamInfer", "served", Some(2)),
            ("ModelStreamInfer", "served", Some(0)),
            ("POST /v2/models/m/infer", "served", Some(200)),
            ("ModelInfer", "failed", Some(14)),
        ]
    );
    for (k, id) in [(0, Some("mine")), (1, Some("of the header")), (2, None), (6, Some("in JSON"))] {
        assert_eq!(lines[k]["request_id"].as_str(), id);
    }
    let served = &lines[0];
    let text = |field: &str| served[field].as_str().unwrap();
    assert_eq!((text("pod"), text("model"), text("protocol")), ("a", "m", "grpc"));
    assert_eq!(served["attempts"], 1);
    // The fake pod sends back what it got, with the five bytes in front of a message.
    assert_eq!(served["bytes_out"].as_u64().unwrap(), served["bytes_in"].as_u64().unwrap() + 5);
    assert_eq!(lines[5]["bytes_out"].as_u64().unwrap(), 5 + answer.encoded_len() as u64);
    assert!(lines[4]["bytes_in"].as_u64().unwrap() > 100, "{}", lines[4]);
    for line in &lines {
        let ms = |field: &str| line[field].as_f64().unwrap();
        assert!(ms("duration_ms") >= ms("queued_ms") && ms("cost_ms") >= 0.0 && ms("wait_ms") >= 0.0, "{line}");
        assert!(line["time"].as_str().unwrap().starts_with("20"), "{line}");
    }
}

/// A share of the requests must not cost the log of all of them.
#[tokio::test]
async fn a_share_of_the_requests_has_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(AccessLogTarget::File(path.clone()), 0.25).unwrap();
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |options| options.forward.access_log = Some(log.clone())).await;
    for _ in 0..20 {
        world.client.model_infer(infer("m", "echo")).await.unwrap();
    }
    log.flush(LONG);
    assert_eq!(lines(&path).len(), 5);
}
