//! Requests as fast as answers come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use plimsoll_load::Carrier;
use plimsoll_proto::inference::ModelInferRequest;
use plimsoll_proto::inference::model_infer_request::InferInputTensor;
use tonic::codegen::Bytes;
use tonic::{Code, Status};

use crate::way::Callers;

/// Enough for connections to be made and for caches to be warm.
const WARM_UP: usize = 200;

/// How much is asked, and how
#[derive(Args, Debug)]
pub(crate) struct Load {
    /// The model
    #[arg(long, default_value = "sim_zero")]
    model: String,
    /// Requests that count
    #[arg(long)]
    requests: usize,
    /// At a time
    #[arg(long, default_value_t = 1)]
    concurrent: usize,
    /// Payload of each
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Requests before those that count
    #[arg(long, default_value_t = WARM_UP)]
    warm_up: usize,
}

/// Asks, and says how long it took: microseconds, of time and of this process's CPU.
pub(crate) async fn run(callers: Callers, load: &Load) -> Result<String, Box<dyn std::error::Error>> {
    let callers = Arc::new(callers);
    let request = request(&load.model, load.bytes);
    ask(&callers, &request, load.warm_up, load.concurrent).await?;
    let (began, used) = (Instant::now(), used_cpu()?);
    let mut times = ask(&callers, &request, load.requests, load.concurrent).await?;
    let (took, used) = (began.elapsed(), used_cpu()? - used);
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    let line = serde_json::json!({
        "requests": times.len(),
        "p50_us": at(50),
        "p99_us": at(99),
        "cpu_us": used.as_secs_f64() * 1e6 / times.len() as f64,
        "seconds": took.as_secs_f64(),
    });
    Ok(line.to_string())
}

/// How long each of `count` requests took, of which so many are under way at a time.
async fn ask(
    callers: &Arc<Callers>,
    request: &ModelInferRequest,
    count: usize,
    concurrent: usize,
) -> Result<Vec<Duration>, Status> {
    let left = Arc::new(AtomicUsize::new(count));
    let loops: Vec<_> = (0..concurrent)
        .map(|index| {
            let (callers, request, left) = (callers.clone(), request.clone(), left.clone());
            tokio::spawn(async move {
                let caller = index % callers.targets();
                let mut times = Vec::new();
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let began = Instant::now();
                    callers.infer(caller, request.clone()).await?;
                    times.push(began.elapsed());
                }
                Ok::<_, Status>(times)
            })
        })
        .collect();
    let mut times = Vec::with_capacity(count);
    for one in loops {
        times.extend(one.await.map_err(|error| Status::new(Code::Internal, error.to_string()))??);
    }
    Ok(times)
}

pub(crate) fn request(model: &str, bytes: usize) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "PAYLOAD".to_owned(),
        datatype: "UINT8".to_owned(),
        shape: vec![bytes as i64],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from(vec![0; bytes])],
        ..Default::default()
    }
}

/// CPU of all threads of this process, to the nanosecond; utime and stime go by hundredths of a second.
fn used_cpu() -> std::io::Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}
