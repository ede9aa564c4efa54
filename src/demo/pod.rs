//! A pod to try things on: an inference server that speaks KServe v2 over gRPC like a Triton and needs no GPU.
//!
//! It holds two models, `sim_gpu`, whose requests occupy a slot for a time that grows with their payload, and
//! `sim_zero`, which answers at once. What a balancer can see of it is what it would see of a Triton: a queue that is
//! first come, first served; requests that run to their end when the caller has gone; counters that move when a
//! request completes; the same words for an unknown model. It never loads a model, shares memory or traces.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use plimsoll_proto::health::health_check_response::ServingStatus;
use plimsoll_proto::health::health_server::{Health, HealthServer};
use plimsoll_proto::health::{HealthCheckRequest, HealthCheckResponse};
use plimsoll_proto::inference::grpc_inference_service_server::{
    GrpcInferenceService as Inference, GrpcInferenceServiceServer as InferenceServer,
};
use plimsoll_proto::inference::repository_index_response::ModelIndex;
use plimsoll_proto::inference::*;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::{self, StreamExt, wrappers::ReceiverStream};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::gpu::{Gpu, Ran};
use super::model::Model;

/// As large as gRPC lengths go, like Triton's own limit: a pod that refuses a payload would test the wrong thing.
const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

/// Streams on one connection. hyper's default of 200 would make callers wait on the client side, out of sight.
const MAX_STREAMS: u32 = 65_536;

/// Bytes that may be under way unacknowledged; the HTTP/2 default of 64 KiB stalls large payloads for a round trip.
const WINDOW_BYTES: u32 = 4 << 20;

/// Requests of one stream that may be in flight: beyond it the pod stops reading the stream.
const STREAM_REQUESTS: usize = 1024;

/// What a pod is called and how fast it is.
#[derive(Debug, Clone)]
pub struct PodOptions {
    /// The name that ServerMetadata and the output `POD` tell.
    pub name: String,
    /// Requests that run at once; the others stand in line.
    pub slots: NonZeroUsize,
    /// Multiplies every service time: 3 makes a pod that is three times slower than its peers.
    pub slow: f64,
}

impl PodOptions {
    /// A pod of that name with one slot and the usual speed.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), slots: NonZeroUsize::MIN, slow: 1.0 }
    }
}

/// Why a pod does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// Nothing is served; choose another address.
    #[error("cannot listen on `{address}`: {source}; choose another --grpc address, or port 0 for a free one")]
    Listen {
        /// The address as it was given.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The value makes no sense; nothing is served.
    #[error("`--slow {0}`: the factor must be a number above 0, such as 3 for a pod three times slower")]
    Slow(f64),
    /// The pod's own thread could not start.
    #[error("cannot start the thread of pod `{name}`: {source}")]
    Thread {
        /// The pod.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server ended; requests in flight are lost.
    #[error("pod `{name}` stopped serving: {source}")]
    Serve {
        /// The pod.
        name: String,
        /// What the server said.
        source: tonic::transport::Error,
    },
}

/// The arguments of `plimsoll pod`.
#[derive(Debug, Clone, clap::Args)]
pub struct PodArgs {
    /// Where to serve gRPC; repeat it for more pods in this process, port 0 takes a free port
    #[arg(long = "grpc", value_name = "ADDR", default_value = "127.0.0.1:8001")]
    pub grpc: Vec<SocketAddr>,
    /// What the pods are called: NAME-0, NAME-1, ...
    #[arg(long, default_value = "pod")]
    pub name: String,
    /// Requests that each pod runs at once
    #[arg(long, default_value = "1")]
    pub slots: NonZeroUsize,
    /// Make these pods slower by a factor
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub slow: f64,
    /// End when standard input does, so that no pod outlives whoever started it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,
}

/// `plimsoll pod`: serves until it is told to stop, and prints one line for each pod that is ready.
pub async fn run(args: PodArgs) -> ExitCode {
    match serve_all(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, PodError::Slow(_)) { 2 } else { 1 })
        }
    }
}

async fn serve_all(args: PodArgs) -> Result<(), PodError> {
    let mut pods = tokio::task::JoinSet::new();
    for (index, address) in args.grpc.iter().enumerate() {
        let options = PodOptions { name: format!("{}-{index}", args.name), slots: args.slots, slow: args.slow };
        let listen_error = |source| PodError::Listen { address: *address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let bound = listener.local_addr().map_err(listen_error)?;
        let ready = format!("{} ready on {bound}", options.name);
        pods.spawn(Pod::new(options)?.serve(listener));
        println!("{ready}");
    }
    tokio::select! {
        () = told_to_stop(args.until_stdin_ends) => Ok(()),
        Some(ended) = pods.join_next() => ended.unwrap_or(Ok(())),
    }
}

async fn told_to_stop(until_stdin_ends: bool) {
    tokio::select! {
        () = super::stop_signal() => (),
        () = super::stdin_ended(), if until_stdin_ends => (),
    }
}

/// Serves one pod on `listener` until the future is dropped.
pub async fn serve(listener: TcpListener, options: PodOptions) -> Result<(), PodError> {
    Pod::new(options)?.serve(listener).await
}

/// One pod. Clones are the same pod.
#[derive(Debug, Clone)]
struct Pod {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: PodOptions,
    gpu: Gpu,
    counters: Mutex<[Counters; Model::ALL.len()]>,
}

impl Pod {
    fn new(options: PodOptions) -> Result<Self, PodError> {
        if !(options.slow.is_finite() && options.slow > 0.0) {
            return Err(PodError::Slow(options.slow));
        }
        let gpu = Gpu::start(&options.name, options.slots)
            .map_err(|source| PodError::Thread { name: options.name.clone(), source })?;
        Ok(Self { inner: Arc::new(Inner { options, gpu, counters: Mutex::default() }) })
    }

    async fn serve(self, listener: TcpListener) -> Result<(), PodError> {
        let name = self.inner.options.name.clone();
        let inference = InferenceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        tonic::transport::Server::builder()
            .max_concurrent_streams(Some(MAX_STREAMS))
            .initial_stream_window_size(Some(WINDOW_BYTES))
            .initial_connection_window_size(Some(WINDOW_BYTES))
            .add_service(inference)
            .add_service(HealthServer::new(AlwaysServing))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await
            .map_err(|source| PodError::Serve { name, source })
    }

    /// Puts a request in line at once and returns where its answer will be. Dropping that changes nothing for the pod.
    fn admit(&self, request: ModelInferRequest) -> Result<Admitted, Status> {
        let model = Model::find(&request.model_name, &request.model_version)?;
        let service = model.ask(&request).inspect_err(|_| self.counters()[model as usize].failed += 1)?;
        let service = service.mul_f64(self.inner.options.slow);
        let (tx, ran) = oneshot::channel();
        let pod = self.clone();
        let done = move |ran: Ran| {
            pod.counters()[model as usize].add(ran);
            // A caller that has gone is no reason not to have served it.
            let _ = tx.send(ran);
        };
        match model {
            Model::Gpu => self.inner.gpu.run(service, done),
            Model::Zero => done(Ran { queued: Duration::ZERO, served: service }),
        }
        Ok(Admitted { model, request, ran })
    }

    async fn finish(&self, admitted: Admitted) -> Result<ModelInferResponse, Status> {
        let ran = admitted.ran.await.map_err(|_| Status::unavailable("Server exiting"))?;
        Ok(admitted.model.answer(admitted.request, &self.inner.options.name, ran.served))
    }

    /// An error inside a stream leaves it open, and says which request it is about.
    async fn finish_in_stream(&self, id: String, admitted: Result<Admitted, Status>) -> ModelStreamInferResponse {
        let answer = match admitted {
            Ok(admitted) => self.finish(admitted).await,
            Err(status) => Err(status),
        };
        match answer {
            Ok(response) => ModelStreamInferResponse { infer_response: Some(response), ..Default::default() },
            Err(status) => ModelStreamInferResponse {
                error_message: status.message().to_owned(),
                infer_response: Some(ModelInferResponse { id, ..Default::default() }),
            },
        }
    }

    fn counters(&self) -> MutexGuard<'_, [Counters; Model::ALL.len()]> {
        self.inner.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that stands in line, or holds a slot.
#[derive(Debug)]
struct Admitted {
    model: Model,
    request: ModelInferRequest,
    ran: oneshot::Receiver<Ran>,
}

/// What Triton counts about one model. Everything moves when a request completes.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    served: u64,
    failed: u64,
    queued_ns: u64,
    served_ns: u64,
    last_ms: u64,
}

impl Counters {
    fn add(&mut self, ran: Ran) {
        self.served += 1;
        self.queued_ns += nanos(ran.queued);
        self.served_ns += nanos(ran.served);
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_ms = since_epoch.map_or(self.last_ms, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    }

    fn statistics(self, model: Model) -> ModelStatistics {
        let over = |ns| Some(StatisticDuration { count: self.served, ns });
        let infer = InferStatistics {
            success: over(self.queued_ns + self.served_ns),
            fail: Some(StatisticDuration { count: self.failed, ns: 0 }),
            queue: over(self.queued_ns),
            compute_input: over(0),
            compute_infer: over(self.served_ns),
            compute_output: over(0),
            ..Default::default()
        };
        ModelStatistics {
            name: model.name().to_owned(),
            version: model.version().to_owned(),
            last_inference: self.last_ms,
            inference_count: self.served,
            execution_count: self.served,
            inference_stats: Some(infer),
            ..Default::default()
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn not_here<T>(method: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{method} is not part of plimsoll's test pod: it simulates inference only")))
}

#[tonic::async_trait]
impl Inference for Pod {
    type ModelStreamInferStream = ReceiverStream<Result<ModelStreamInferResponse, Status>>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ready = Model::find(&request.get_ref().name, &request.get_ref().version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: self.inner.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: ["model_configuration", "statistics"].map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        Ok(Response::new(Model::find(&request.get_ref().name, &request.get_ref().version)?.metadata()))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let model = Model::find(&request.get_ref().name, &request.get_ref().version)?;
        Ok(Response::new(ModelConfigResponse { config: Some(model.config(self.inner.options.slots.get())) }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let admitted = self.admit(request.into_inner())?;
        self.finish(admitted).await.map(Response::new)
    }

    /// Requests enter the line as they arrive and are answered in that order.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let mut inbound = request.into_inner();
        let (admit, mut admitted) = mpsc::channel(STREAM_REQUESTS);
        let pod = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = inbound.next().await {
                if admit.send((request.id.clone(), pod.admit(request))).await.is_err() {
                    break;
                }
            }
        });
        let (answer, answers) = mpsc::channel(1);
        let pod = self.clone();
        tokio::spawn(async move {
            while let Some((id, next)) = admitted.recv().await {
                if answer.send(Ok(pod.finish_in_stream(id, next).await)).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let models = if name.is_empty() { Model::ALL.to_vec() } else { vec![Model::find(&name, &version)?] };
        let counters = *self.counters();
        let model_stats = models.into_iter().map(|model| counters[model as usize].statistics(model)).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        _: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let models = Model::ALL.map(|model| ModelIndex {
            name: model.name().to_owned(),
            version: model.version().to_owned(),
            state: "READY".to_owned(),
            reason: String::new(),
        });
        Ok(Response::new(RepositoryIndexResponse { models: models.to_vec() }))
    }

    async fn repository_model_load(
        &self,
        _: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        not_here("RepositoryModelLoad")
    }

    async fn repository_model_unload(
        &self,
        _: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        not_here("RepositoryModelUnload")
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<SystemSharedMemoryStatusResponse>, Status> {
        not_here("SystemSharedMemoryStatus")
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
        not_here("SystemSharedMemoryRegister")
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
        not_here("SystemSharedMemoryUnregister")
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<CudaSharedMemoryStatusResponse>, Status> {
        not_here("CudaSharedMemoryStatus")
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<CudaSharedMemoryRegisterResponse>, Status> {
        not_here("CudaSharedMemoryRegister")
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<CudaSharedMemoryUnregisterResponse>, Status> {
        not_here("CudaSharedMemoryUnregister")
    }

    async fn trace_setting(&self, _: Request<TraceSettingRequest>) -> Result<Response<TraceSettingResponse>, Status> {
        not_here("TraceSetting")
    }

    async fn log_settings(&self, _: Request<LogSettingsRequest>) -> Result<Response<LogSettingsResponse>, Status> {
        not_here("LogSettings")
    }
}

/// The standard health service. Like Triton's it answers SERVING whatever service is named.
#[derive(Debug, Clone, Copy)]
struct AlwaysServing;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

#[tonic::async_trait]
impl Health for AlwaysServing {
    type WatchStream = tonic::codegen::BoxStream<HealthCheckResponse>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(serving()))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let unchanged = tokio_stream::once(Ok(serving())).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(unchanged)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient as Client;
    use tonic::transport::{Channel, Endpoint};

    use super::super::model::request;
    use super::*;

    async fn pod() -> Client<Channel> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(serve(listener, PodOptions::new("pod-0")));
        Client::new(Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy())
    }

    fn ask(model: &str, id: &str) -> ModelInferRequest {
        ModelInferRequest { id: id.to_owned(), ..request(model, Bytes::from_static(&[0; 100])) }
    }

    async fn counted(client: &mut Client<Channel>) -> InferStatistics {
        let wanted = ModelStatisticsRequest { name: "sim_gpu".to_owned(), version: String::new() };
        let answer = client.model_statistics(wanted).await.expect("statistics").into_inner();
        answer.model_stats[0].inference_stats.expect("they are filled in")
    }

    #[tokio::test]
    async fn an_answer_names_the_pod_and_the_time_it_took() {
        let mut client = pod().await;
        let answer = client.model_infer(ask("sim_gpu", "a")).await.expect("an answer").into_inner();
        assert_eq!(answer.id, "a");
        assert_eq!(answer.raw_output_contents[0].as_ref(), 5000_i64.to_le_bytes());
        assert_eq!(answer.raw_output_contents[1].as_ref(), b"\x05\0\0\0pod-0");
        let metadata = client.server_metadata(ServerMetadataRequest {}).await.expect("metadata");
        assert_eq!(metadata.get_ref().name, "pod-0");
    }

    #[tokio::test]
    async fn an_unknown_model_and_a_missing_method_say_so() {
        let mut client = pod().await;
        let status = client.model_infer(ask("nope", "")).await.expect_err("no such model");
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::NotFound, "Request for unknown model: 'nope' is not found")
        );
        let status = client.trace_setting(TraceSettingRequest::default()).await.expect_err("not part of it");
        assert_eq!(status.code(), tonic::Code::Unimplemented);
    }

    /// A balancer that forgot a cancelled request would think this pod idle. It is not: the request runs to its end.
    #[tokio::test]
    async fn a_cancelled_request_still_runs() {
        let mut client = pod().await;
        client.server_live(ServerLiveRequest {}).await.expect("the pod is up");
        let mut other = client.clone();
        let call = other.model_infer(request("sim_gpu", Bytes::from(vec![0; 5000])));
        assert!(tokio::time::timeout(Duration::from_millis(40), call).await.is_err(), "120 ms are not over");
        let answered = client.model_infer(ask("sim_gpu", "")).await;
        assert!(answered.is_ok(), "{answered:?}");
        let counted = counted(&mut client).await;
        assert_eq!(counted.compute_infer, Some(StatisticDuration { count: 2, ns: 125_000_000 }));
        assert!(counted.queue.is_some_and(|queue| queue.ns > 50_000_000), "the second stood behind it: {counted:?}");
    }

    #[tokio::test]
    async fn a_stream_is_answered_in_order_and_survives_an_error() {
        let mut client = pod().await;
        let asked = [ask("sim_gpu", "a"), ask("nope", "b"), ask("sim_zero", "c")];
        let answers = client.model_stream_infer(tokio_stream::iter(asked)).await.expect("a stream").into_inner();
        let seen: Vec<_> = answers.map(|answer| answer.expect("the stream stays open")).collect().await;
        let ids: Vec<_> = seen.iter().map(|one| one.infer_response.as_ref().map(|answer| answer.id.as_str())).collect();
        assert_eq!(ids, [Some("a"), Some("b"), Some("c")]);
        assert_eq!(seen[1].error_message, "Request for unknown model: 'nope' is not found");
    }
}
