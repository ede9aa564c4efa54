//! Plays a recording, open loop, through whatever carries its requests, and says what became of every one.
//!
//! A thread of its own meets each arrival's moment; nobody waits for an answer before the next one leaves. Latency counts
//! from the moment the recording says, so that a stalled target cannot hide the requests it kept waiting.
#![allow(clippy::disallowed_methods, reason = "a load generator lives in wall time")]

mod choose;
mod told;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use plimsoll_files::{Trace, TraceArrival};
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use plimsoll_proto::inference::model_infer_request::InferInputTensor;
use plimsoll_proto::inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub use choose::Choice;
use choose::Chooser;
pub use told::Played;

/// Time to start before the first arrival.
const RUN_UP: Duration = Duration::from_millis(100);
/// As in the demo: a payload should not wait for HTTP/2 to widen its window.
const WINDOW_BYTES: u32 = 4 << 20;
/// A payload that every machine holds a few hundred times over.
const MAX_BYTES: u64 = 16 << 20;

/// A stock client on one connection.
pub type Client = GrpcInferenceServiceClient<Channel>;

/// Brings a request to where it is answered.
pub trait Carrier: Send + Sync + 'static {
    /// How many targets there are to choose from.
    fn targets(&self) -> usize;

    /// Sends `request` to `target`, and waits for its answer.
    fn infer(&self, target: usize, request: ModelInferRequest) -> impl Future<Output = Result<(), Status>> + Send;
}

/// What is played, and how.
#[derive(Args, Debug)]
pub struct Settings {
    /// The recording: CSV with the header at_us,node,model,bytes,service_us
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// Model to ask; it must take `service_ms` as tests/triton's models do
    #[arg(long, value_name = "NAME", default_value = "sim_gpu")]
    pub model: String,
    /// The model batches: tensors have a leading dimension
    #[arg(long)]
    pub batches: bool,
    /// End where so many are in flight: there is no point in waiting for a queue that only grows
    #[arg(long, value_name = "N")]
    pub give_up_at: Option<usize>,
    /// How long the last answers may take after the last arrival, seconds
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub drain_s: u64,
    /// Where to write a line for each request
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// A connection to `url`, made on first use.
///
/// # Errors
/// `url` is none.
pub fn client(url: &str) -> Result<Client, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let endpoint = endpoint.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    Ok(Client::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX))
}

/// Plays the recording of `settings` through `carrier`, each arrival to the target of `choice`.
///
/// # Errors
/// The recording cannot be read, or is not to be played.
pub async fn play(
    carrier: impl Carrier,
    choice: Choice,
    settings: &Settings,
) -> Result<Played, Box<dyn std::error::Error>> {
    let trace = Trace::read(&settings.trace)?;
    if let Some(large) = trace.arrivals.iter().find(|one| one.bytes > MAX_BYTES) {
        return Err(format!("{}: `{}` bytes are more than {MAX_BYTES}", settings.trace.display(), large.bytes).into());
    }
    let (report, reports) = unbounded_channel();
    let shared = Arc::new(Shared {
        in_flight: (0..carrier.targets()).map(|_| AtomicUsize::new(0)).collect(),
        carrier,
        give_up: AtomicBool::new(false),
        requests: Requests {
            zeros: Bytes::from(vec![0; trace.arrivals.iter().map(|one| one.bytes).max().unwrap_or(0) as usize]),
            model: settings.model.clone(),
            batches: settings.batches,
        },
    });
    let chooser = Chooser::new(choice, trace.nodes());
    let arrivals: Arc<[TraceArrival]> = trace.arrivals.into();
    let most = settings.give_up_at.unwrap_or(usize::MAX);
    let pacing = pace(shared.clone(), arrivals.clone(), chooser, most, report);
    let ended = collect(reports, &arrivals, Duration::from_secs(settings.drain_s), &shared.give_up).await;
    shared.give_up.store(true, Relaxed);
    let gave_up = pacing.join().map_err(|_| "the pacing thread panicked")?;
    Ok(Played { arrivals, ended, gave_up })
}

/// What the pacing thread and all requests share.
struct Shared<C> {
    carrier: C,
    in_flight: Vec<AtomicUsize>,
    give_up: AtomicBool,
    requests: Requests,
}

/// Makes requests of arrivals.
struct Requests {
    /// Payloads are cut from it.
    zeros: Bytes,
    model: String,
    batches: bool,
}

/// How one request went.
struct Ended {
    index: usize,
    target: usize,
    /// How far behind the recording it left.
    late: Duration,
    /// From the moment the recording says to the whole answer, or why there is none.
    answer: Result<Duration, String>,
}

/// Lets every request leave at its moment; the thread says whether it gave up.
fn pace<C: Carrier>(
    shared: Arc<Shared<C>>,
    arrivals: Arc<[TraceArrival]>,
    mut chooser: Chooser,
    most: usize,
    report: UnboundedSender<Ended>,
) -> std::thread::JoinHandle<bool> {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        // The default slack of 50 us is 1 % of the shortest service. Where it cannot be asked for, arrivals are that late.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let start = Instant::now() + RUN_UP;
        for (index, arrival) in arrivals.iter().enumerate() {
            let due = start + arrival.at;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let in_flight: usize = shared.in_flight.iter().map(|one| one.load(Relaxed)).sum();
            if in_flight > most || shared.give_up.load(Relaxed) {
                shared.give_up.store(true, Relaxed);
                return true;
            }
            let target = chooser.choose(arrival, &shared.in_flight);
            shared.in_flight[target].fetch_add(1, Relaxed);
            let request = shared.requests.make(arrival);
            runtime.spawn(shared.clone().call(request, index, target, due, report.clone()));
        }
        false
    })
}

impl Requests {
    /// The payload has as many bytes as the recording says, and tells how long it takes: no law of a model's is needed.
    fn make(&self, arrival: &TraceArrival) -> ModelInferRequest {
        let payload = self.zeros.slice(..arrival.bytes as usize);
        let length = payload.len() as i64;
        let service_ms = ParameterChoice::DoubleParam(arrival.service.as_secs_f64() * 1e3);
        let service_ms = InferParameter { parameter_choice: Some(service_ms) };
        ModelInferRequest {
            model_name: self.model.clone(),
            parameters: [("service_ms".to_owned(), service_ms)].into(),
            inputs: vec![InferInputTensor {
                name: "PAYLOAD".to_owned(),
                datatype: "UINT8".to_owned(),
                shape: if self.batches { vec![1, length] } else { vec![length] },
                ..Default::default()
            }],
            raw_input_contents: vec![payload],
            ..Default::default()
        }
    }
}

impl<C: Carrier> Shared<C> {
    async fn call(
        self: Arc<Self>,
        request: ModelInferRequest,
        index: usize,
        target: usize,
        due: Instant,
        report: UnboundedSender<Ended>,
    ) {
        let late = due.elapsed();
        let answer = self.carrier.infer(target, request).await;
        self.in_flight[target].fetch_sub(1, Relaxed);
        let answer = match answer {
            Ok(()) => Ok(due.elapsed()),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        };
        // Nobody listens any more when the run was given up.
        let _ = report.send(Ended { index, target, late, answer });
    }
}

/// What came until all had ended, or until the drain was over.
async fn collect(
    mut reports: UnboundedReceiver<Ended>,
    arrivals: &[TraceArrival],
    drain: Duration,
    give_up: &AtomicBool,
) -> Vec<Ended> {
    let last = arrivals.last().map_or(Duration::ZERO, |one| one.at);
    let end = tokio::time::Instant::now() + RUN_UP + last + drain;
    let mut ended = Vec::with_capacity(arrivals.len());
    while ended.len() < arrivals.len() && tokio::time::Instant::now() < end && !give_up.load(Relaxed) {
        match tokio::time::timeout(Duration::from_millis(100), reports.recv()).await {
            Ok(Some(one)) => ended.push(one),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the recording says must reach the model to the microsecond, in the shape that it takes.
    #[test]
    fn a_request_has_the_bytes_and_tells_the_service_of_its_arrival() {
        let arrival = TraceArrival {
            at: Duration::ZERO,
            node: 0,
            model: String::new(),
            bytes: 3,
            service: Duration::from_micros(1500),
        };
        let make = |batches| {
            let requests = Requests { zeros: Bytes::from_static(&[0; 8]), model: "m".to_owned(), batches };
            requests.make(&arrival)
        };
        let request = make(false);
        let told = request.parameters["service_ms"].parameter_choice.clone();
        assert_eq!((request.inputs[0].shape.as_slice(), told), (&[3][..], Some(ParameterChoice::DoubleParam(1.5))));
        assert_eq!(request.raw_input_contents[0].len(), 3);
        assert_eq!(make(true).inputs[0].shape, [1, 3]);
    }
}
