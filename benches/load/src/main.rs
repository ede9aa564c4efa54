//! Plays a recording against nodes or pods, open loop, and writes what became of every request.
//!
//! A thread of its own meets each arrival's moment; nobody waits for an answer before the next one leaves. Latency counts
//! from the moment the recording says, so that a stalled target cannot hide the requests it kept waiting.
//!
//! Beside sending each node's requests to that node it can choose pods itself, which the product never does this way:
//! `fewest` knows at every moment exactly how many requests each pod has, because one thread chooses for all. No gossip
//! can know more, so it is what counting could reach at best. `turns` is what callers do who know nothing.
#![allow(clippy::disallowed_methods, reason = "a load generator lives in wall time")]

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use plimsoll_files::{Trace, TraceArrival};
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use plimsoll_proto::inference::model_infer_request::InferInputTensor;
use plimsoll_proto::inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::transport::{Channel, Endpoint};

type Client = GrpcInferenceServiceClient<Channel>;

/// Time to start before the first arrival.
const RUN_UP: Duration = Duration::from_millis(100);
/// As in the demo: a payload should not wait for HTTP/2 to widen its window.
const WINDOW_BYTES: u32 = 4 << 20;
/// A payload that every machine holds a few hundred times over.
const MAX_BYTES: u64 = 16 << 20;

/// Play a recording against nodes or pods; print a line of JSON
#[derive(Parser, Debug)]
struct Args {
    /// The recording: CSV with the header at_us,node,model,bytes,service_us
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// Where requests go, such as http://127.0.0.1:8001; repeat for more
    #[arg(long, value_name = "URL", required = true)]
    target: Vec<String>,
    /// How one of them is chosen
    #[arg(long, value_enum, default_value_t = Choice::Node)]
    choose: Choice,
    /// Model to ask; it must take `service_ms` as tests/triton's models do
    #[arg(long, value_name = "NAME", default_value = "sim_gpu")]
    model: String,
    /// The model batches: tensors have a leading dimension
    #[arg(long)]
    batches: bool,
    /// End where so many are in flight: there is no point in waiting for a queue that only grows
    #[arg(long, value_name = "N")]
    give_up_at: Option<usize>,
    /// How long the last answers may take after the last arrival, seconds
    #[arg(long, value_name = "S", default_value_t = 10)]
    drain_s: u64,
    /// Where to write a line for each request
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// The target of the arrival's node: targets are nodes
    Node,
    /// The one with the fewest requests in flight, at every moment exact; ties go in turns
    Fewest,
    /// One after the other, each of the recording's nodes by itself
    Turns,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<String, Box<dyn std::error::Error>> {
    let trace = Trace::read(&args.trace)?;
    if let Some(large) = trace.arrivals.iter().find(|one| one.bytes > MAX_BYTES) {
        return Err(format!("{}: `{}` bytes are more than {MAX_BYTES}", args.trace.display(), large.bytes).into());
    }
    let (report, reports) = unbounded_channel();
    let shared = Arc::new(Shared {
        clients: args.target.iter().map(|url| client(url)).collect::<Result<_, _>>()?,
        in_flight: args.target.iter().map(|_| AtomicUsize::new(0)).collect(),
        give_up: AtomicBool::new(false),
        zeros: Bytes::from(vec![0; trace.arrivals.iter().map(|one| one.bytes).max().unwrap_or(0) as usize]),
        model: args.model.clone(),
        batches: args.batches,
    });
    let chooser = Chooser { choice: args.choose, turns: (0..trace.nodes()).collect() };
    let arrivals: Arc<[TraceArrival]> = trace.arrivals.into();
    let most = args.give_up_at.unwrap_or(usize::MAX);
    let pacing = pace(shared.clone(), arrivals.clone(), chooser, most, report);
    let ended = collect(reports, &arrivals, Duration::from_secs(args.drain_s), &shared.give_up).await;
    shared.give_up.store(true, Relaxed);
    let gave_up = pacing.join().map_err(|_| "the pacing thread panicked")?;
    write(&args.out, &arrivals, &ended)?;
    let answered = ended.iter().filter(|one| one.answer.is_ok()).count();
    Ok(format!(
        r#"{{"arrivals":{},"answered":{answered},"failed":{},"unanswered":{},"gave_up":{gave_up}}}"#,
        arrivals.len(),
        ended.len() - answered,
        arrivals.len() - ended.len(),
    ))
}

fn client(url: &str) -> Result<Client, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let endpoint = endpoint.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    Ok(Client::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX))
}

/// What the pacing thread and all requests share.
struct Shared {
    clients: Vec<Client>,
    in_flight: Vec<AtomicUsize>,
    give_up: AtomicBool,
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

/// Chooses targets, one arrival after the other.
struct Chooser {
    choice: Choice,
    /// Where each of the recording's nodes goes next.
    turns: Vec<usize>,
}

impl Chooser {
    fn choose(&mut self, arrival: &TraceArrival, in_flight: &[AtomicUsize]) -> usize {
        let turn = &mut self.turns[arrival.node];
        let next = *turn % in_flight.len();
        match self.choice {
            Choice::Node => arrival.node % in_flight.len(),
            Choice::Turns => {
                *turn += 1;
                next
            }
            Choice::Fewest => {
                *turn += 1;
                let from_next = |k: usize| (next + k) % in_flight.len();
                let least = (0..in_flight.len()).map(from_next).min_by_key(|target| in_flight[*target].load(Relaxed));
                least.unwrap_or(next)
            }
        }
    }
}

/// Lets every request leave at its moment; the thread says whether it gave up.
fn pace(
    shared: Arc<Shared>,
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
            let request = shared.request(arrival);
            runtime.spawn(shared.clone().call(request, index, target, due, report.clone()));
        }
        false
    })
}

impl Shared {
    /// The payload has as many bytes as the recording says, and tells how long it takes: no law of a model's is needed.
    fn request(&self, arrival: &TraceArrival) -> ModelInferRequest {
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

    async fn call(
        self: Arc<Self>,
        request: ModelInferRequest,
        index: usize,
        target: usize,
        due: Instant,
        report: UnboundedSender<Ended>,
    ) {
        let late = due.elapsed();
        let answer = self.clients[target].clone().model_infer(request).await;
        self.in_flight[target].fetch_sub(1, Relaxed);
        let answer = match answer {
            Ok(_) => Ok(due.elapsed()),
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

fn write(path: &Path, arrivals: &[TraceArrival], ended: &[Ended]) -> std::io::Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "at_us,node,bytes,service_us,target,late_us,latency_us,error")?;
    for one in ended {
        let TraceArrival { at, node, bytes, service, .. } = &arrivals[one.index];
        let (latency, error) = match &one.answer {
            Ok(latency) => (latency.as_micros().to_string(), String::new()),
            Err(error) => (String::new(), format!("\"{}\"", error.replace('"', "'").replace('\n', " "))),
        };
        let (target, late) = (one.target, one.late.as_micros());
        writeln!(file, "{},{node},{bytes},{},{target},{late},{latency},{error}", at.as_micros(), service.as_micros())?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(node: usize) -> TraceArrival {
        TraceArrival { at: Duration::ZERO, node, model: String::new(), bytes: 3, service: Duration::from_micros(1500) }
    }

    fn chosen(choice: Choice, in_flight: &[usize], nodes: &[usize]) -> Vec<usize> {
        let in_flight: Vec<_> = in_flight.iter().map(|count| AtomicUsize::new(*count)).collect();
        let mut chooser = Chooser { choice, turns: (0..4).collect() };
        nodes.iter().map(|node| chooser.choose(&arrival(*node), &in_flight)).collect()
    }

    /// An oracle that did not see the fewest, or piled ties on the first pod, would be too easy to reach.
    #[test]
    fn the_fewest_in_flight_is_chosen_and_ties_go_in_turns() {
        assert_eq!(chosen(Choice::Fewest, &[2, 1, 3], &[0, 1, 2, 3]), [1; 4]);
        assert_eq!(chosen(Choice::Fewest, &[1, 1, 2], &[0, 0, 0, 0]), [0, 1, 0, 0]);
        assert_eq!(chosen(Choice::Fewest, &[0, 0, 0], &[0, 0, 0]), [0, 1, 2]);
    }

    /// Callers who know nothing each have their own turn; nodes get what is theirs.
    #[test]
    fn every_node_has_its_own_turns() {
        assert_eq!(chosen(Choice::Turns, &[9, 0], &[0, 1, 0, 1]), [0, 1, 1, 0]);
        assert_eq!(chosen(Choice::Node, &[9, 0], &[0, 1, 2, 3]), [0, 1, 0, 1]);
    }

    /// What the recording says must reach the model to the microsecond, in the shape that it takes.
    #[tokio::test]
    async fn a_request_has_the_bytes_and_tells_the_service_of_its_arrival() {
        let shared = |batches| Shared {
            clients: vec![client("http://127.0.0.1:9").unwrap()],
            in_flight: Vec::new(),
            give_up: AtomicBool::new(false),
            zeros: Bytes::from_static(&[0; 8]),
            model: "m".to_owned(),
            batches,
        };
        let request = shared(false).request(&arrival(0));
        let told = request.parameters["service_ms"].parameter_choice.clone();
        assert_eq!((request.inputs[0].shape.as_slice(), told), (&[3][..], Some(ParameterChoice::DoubleParam(1.5))));
        assert_eq!(request.raw_input_contents[0].len(), 3);
        assert_eq!(shared(true).request(&arrival(0)).inputs[0].shape, [1, 3]);
    }
}
