//! The load generator. A thread of its own meets each arrival's moment and hands the request to the runtime; nobody
//! waits for an answer before the next one leaves. Latency counts from the moment the trace says, not from when the
//! generator got round to it, so that a stalled target cannot hide the requests it kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient as Client;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tonic::transport::Channel;

use super::model::{request, tell_service};
use super::pace::{sharpen_timer, sleep_until};
use super::trace::{Arrival, Trace};

/// A caller that waits longer has given up. It is a hundred times the mean latency at the loads that are allowed.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last answers may take after the last arrival.
const DRAIN: Duration = Duration::from_secs(8);

/// Time to start all tasks of a run before its first arrival.
const RUN_UP: Duration = Duration::from_millis(50);

/// How one request of the trace went.
#[derive(Debug, Clone)]
pub(super) struct Played {
    /// Its place in the trace.
    pub(super) index: usize,
    /// From the moment the trace says to the whole answer, or why there is none.
    pub(super) answer: Result<Duration, String>,
    /// How far behind the trace the generator was.
    pub(super) late: Duration,
}

/// What can be seen of a run while it goes on.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) sent: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) errors: AtomicU64,
    latency_us: AtomicU64,
}

impl Live {
    fn note(&self, played: &Played) {
        match &played.answer {
            Ok(latency) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latency_us.fetch_add(micros, Ordering::Relaxed);
            }
            Err(_) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.answered.load(Ordering::Relaxed) + self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.done())
    }

    pub(super) fn mean_ms(&self) -> f64 {
        let answered = self.answered.load(Ordering::Relaxed).max(1);
        self.latency_us.load(Ordering::Relaxed) as f64 / 1e3 / answered as f64
    }
}

/// Plays `trace` against the targets, one for each node of the trace, and returns how every request went. What is not
/// answered a while after the last arrival is cancelled and counts as an error.
pub(super) async fn play(trace: Arc<Trace>, targets: Vec<Channel>, model: &str, live: Arc<Live>) -> Vec<Played> {
    let total = trace.arrivals.len();
    let (report, mut reports) = unbounded_channel();
    let clients = targets.into_iter().map(client).collect();
    let most = trace.arrivals.iter().map(|arrival| arrival.bytes).max().unwrap_or(0);
    let (zeros, tells_service) = (Bytes::from(vec![0; most]), trace.tells_service);
    let caller = Caller { clients, model: model.into(), zeros, tells_service, report, live };
    let start = Instant::now() + RUN_UP;
    let pacing = Pacing::start(caller, &trace, start);
    let end = tokio::time::Instant::from_std(start + trace.length + DRAIN);
    let mut played = Vec::with_capacity(total);
    while let Ok(Some(one)) = tokio::time::timeout_at(end, reports.recv()).await {
        played.push(one);
    }
    drop(pacing);
    played.extend(unanswered(&played, total));
    played
}

fn client(channel: Channel) -> Client<Channel> {
    Client::new(channel).max_decoding_message_size(usize::MAX)
}

fn unanswered(played: &[Played], total: usize) -> Vec<Played> {
    let mut seen = vec![false; total];
    played.iter().for_each(|one| seen[one.index] = true);
    let missing = seen.iter().enumerate().filter(|(_, seen)| !**seen);
    let answer = || Err(format!("no answer within {} s of the last arrival", DRAIN.as_secs()));
    missing.map(|(index, _)| Played { index, answer: answer(), late: Duration::ZERO }).collect()
}

/// The pacing thread and what it has started; dropping it stops both.
struct Pacing {
    stop: Arc<AtomicBool>,
    started: Arc<std::sync::Mutex<Vec<AbortHandle>>>,
}

impl Pacing {
    fn start(caller: Caller, trace: &Arc<Trace>, start: Instant) -> Self {
        let pacing = Self { stop: Arc::default(), started: Arc::default() };
        let (stop, started) = (Arc::clone(&pacing.stop), Arc::clone(&pacing.started));
        let (trace, runtime) = (Arc::clone(trace), Handle::current());
        std::thread::spawn(move || {
            sharpen_timer();
            for (index, arrival) in trace.arrivals.iter().enumerate() {
                sleep_until(start + arrival.at);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let task = runtime.spawn(caller.clone().call(index, *arrival, start + arrival.at));
                started.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(task.abort_handle());
            }
        });
        pacing
    }
}

impl Drop for Pacing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let started = self.started.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        started.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Clone)]
struct Caller {
    clients: Vec<Client<Channel>>,
    model: Arc<str>,
    /// Payloads are cut from it.
    zeros: Bytes,
    tells_service: bool,
    report: UnboundedSender<Played>,
    live: Arc<Live>,
}

impl Caller {
    async fn call(mut self, index: usize, arrival: Arrival, due: Instant) {
        let late = due.elapsed();
        self.live.sent.fetch_add(1, Ordering::Relaxed);
        let mut request = request(&self.model, self.zeros.slice(..arrival.bytes));
        if self.tells_service {
            tell_service(&mut request, arrival.service);
        }
        let call = self.clients[arrival.node].model_infer(request);
        let answer = match tokio::time::timeout(TIMEOUT, call).await {
            Ok(Ok(_)) => Ok(due.elapsed()),
            Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        let played = Played { index, answer, late };
        self.live.note(&played);
        // Nobody listens any more when the run was given up.
        let _ = self.report.send(played);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tonic::transport::Endpoint;

    use super::super::pod::{PodOptions, serve};
    use super::*;

    async fn pod(name: &str) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(serve(listener, PodOptions::new(name)));
        Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
    }

    /// Every arrival is answered once, by nobody faster than the service, and the generator keeps the trace's time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_arrival_is_answered_once() {
        let trace = Arc::new(Trace::new(7, 40.0, Duration::from_secs(1), 2));
        let live = Arc::new(Live::default());
        let targets = vec![pod("pod-0").await, pod("pod-1").await];
        let mut played = play(Arc::clone(&trace), targets, "sim_gpu", Arc::clone(&live)).await;
        played.sort_by_key(|one| one.index);
        assert_eq!(played.len(), trace.arrivals.len());
        for (one, arrival) in played.iter().zip(&trace.arrivals) {
            let latency = one.answer.clone().expect("both pods serve");
            assert!(latency >= arrival.service, "{one:?}");
        }
        assert_eq!((live.in_flight(), live.done()), (0, played.len() as u64));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_unreachable_target_is_an_error_and_not_a_gap() {
        let trace = Arc::new(Trace::new(7, 40.0, Duration::from_millis(300), 1));
        let nobody = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        let played = play(Arc::clone(&trace), vec![nobody], "sim_gpu", Arc::default()).await;
        assert_eq!(played.len(), trace.arrivals.len());
        assert!(played.iter().all(|one| one.answer.is_err()));
    }
}
