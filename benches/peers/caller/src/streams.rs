//! Streams that are open and say nothing.

use std::time::Duration;

use plimsoll_load::client;
use plimsoll_proto::inference::ModelInferRequest;
use tokio::io::AsyncReadExt;

/// Streams that are opened at a time: all at once would measure what a burst takes.
const AT_A_TIME: usize = 50;
/// How long one may take to be open.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens `count` streams and sends one request on each, so that a pod is chosen; says so once each is answered, and holds
/// them until standard input ends.
pub(crate) async fn hold(to: &str, count: usize) -> Result<String, Box<dyn std::error::Error>> {
    let client = client(to)?;
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..AT_A_TIME.min(count - open.len()) {
            let client = client.clone();
            opening.spawn(async move { tokio::time::timeout(PATIENCE, stream(client)).await });
        }
        while let Some(opened) = opening.join_next().await {
            open.push(opened?.map_err(|_| format!("stream {} did not open", open.len()))??);
        }
    }
    println!("open");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(serde_json::json!({ "streams": open.len() }).to_string())
}

/// What holds one stream open.
type Held = (tokio::sync::mpsc::Sender<ModelInferRequest>, Box<dyn Send>);

async fn stream(mut client: plimsoll_load::Client) -> Result<Held, tonic::Status> {
    let (send, requests) = tokio::sync::mpsc::channel(1);
    let request = crate::latency::request("sim_zero", 100);
    // The receiver is held below.
    let _ = send.send(request).await;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = client.model_stream_infer(requests).await?.into_inner();
    answers.message().await?;
    Ok((send, Box::new(answers)))
}
