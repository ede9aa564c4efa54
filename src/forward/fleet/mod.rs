//! What the fleet answers as one server to all that is no inference: to its callers a node is a Triton, so what changes a
//! server changes all pods, what counts is counted over all of them, and what they agree on any of them says.
//!
//! [`METHODS`] is the table; docs/triton.md says the same to people. A request that is pinned to a pod, or meets a fleet of
//! one, does not come here: it passes, bytes untouched, as inferences do. One that comes here is held as a whole, sent to pods
//! as it came (compressed or not, with the caller's metadata), and looked into only where the plan depends on it.

mod any;
mod change;
mod failures;
mod fan_out;
mod index;
mod merged;
mod question;
mod ready;
mod regions;
mod rest;
mod statistics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::{HeaderMap, Response};
use plimsoll_proto::inference::{
    CudaSharedMemoryStatusResponse, LogSettingsRequest, ModelReadyResponse, ServerReadyResponse,
    SystemSharedMemoryStatusResponse, TraceSettingRequest,
};
use prost::Message;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use self::change::Memory;
use self::index::Index;
use self::question::{Named, decode, read};
pub(super) use self::ready::{SERVER_READY, Watch, health};
use self::regions::Regions;
pub(super) use self::rest::yes_or_no;
use self::statistics::Statistics;
use super::ask::{Question, framed};
use super::body::RequestBody;
use super::deadline::Deadline;
use super::options::ForwardOptions;
use super::peek::{Depth, peek};
use super::pin::POD;
use super::source::{Late, Source};
use super::whole::Whole;
use crate::node::Node;
use crate::pick::PickError;

/// The largest request but for a load, which brings a model's files along: names, settings, handles of memory.
const MAX_QUESTION: u64 = 64 << 10;
/// How long a pod may take to answer: as long as the slowest of these takes a healthy Triton (an index, which looks through a
/// repository that may lie in a cloud), and not so long that a stopped pod keeps people waiting for minutes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a pod may take to load or unload a model: an engine that is built on loading takes half of it.
const LOAD: Duration = Duration::from_secs(3600);
/// Requests that pods are asked for at a time; more wait. With [`fan_out::AT_ONCE`] each they have 512 questions under way.
const AT_ONCE: usize = 16;
/// As what a load counts at least, where the bytes of all of them are bounded: so 256 loads are under way, and no more.
const LEAST_LOAD: u64 = 1 << 20;
/// How long a caller may take to send what it asks, and how many bytes more it may send in each second beyond. Slower, it would
/// keep others from asking for no good reason; a link of a mebibyte a second is slow already.
const SENDS_WITHIN: Duration = Duration::from_secs(10);
const SENDS_A_SECOND: u64 = 1 << 20;
/// What bytes are counted by, for a semaphore that counts in 32 bits.
const KIB: u64 = 1 << 10;

/// What is done for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Yes if any pod says yes.
    ServerReady,
    ModelReady,
    /// The answer of any pod.
    Any,
    /// The same, of those that serve the model.
    AnyWithModel,
    /// Of all pods, summed.
    Statistics,
    /// Of all pods, united.
    Index,
    Regions(Memory),
    /// To all pods; what sets nothing, to any.
    TraceSetting,
    LogSettings,
    /// To one pod, then to all others.
    Load,
    /// To all pods.
    Unload,
    Unregister,
    /// To all pods, or none.
    Register(Memory),
}

impl Plan {
    /// How long a pod may take to answer.
    fn patience(self) -> Duration {
        match self {
            Plan::ServerReady | Plan::ModelReady => ready::ANSWER,
            Plan::Load | Plan::Unload => LOAD,
            _ => PATIENCE,
        }
    }
}

/// What is not here goes to a pod like an inference: what this version does not know, a newer Triton may.
const METHODS: [(&str, Plan); 17] = [
    ("/inference.GRPCInferenceService/ServerReady", Plan::ServerReady),
    ("/inference.GRPCInferenceService/ModelReady", Plan::ModelReady),
    ("/inference.GRPCInferenceService/ServerMetadata", Plan::Any),
    ("/inference.GRPCInferenceService/ModelMetadata", Plan::AnyWithModel),
    ("/inference.GRPCInferenceService/ModelConfig", Plan::AnyWithModel),
    ("/inference.GRPCInferenceService/ModelStatistics", Plan::Statistics),
    ("/inference.GRPCInferenceService/RepositoryIndex", Plan::Index),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", Plan::Load),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", Plan::Unload),
    ("/inference.GRPCInferenceService/SystemSharedMemoryStatus", Plan::Regions(Memory::System)),
    ("/inference.GRPCInferenceService/SystemSharedMemoryRegister", Plan::Register(Memory::System)),
    (Memory::System.unregister(), Plan::Unregister),
    ("/inference.GRPCInferenceService/CudaSharedMemoryStatus", Plan::Regions(Memory::Cuda)),
    ("/inference.GRPCInferenceService/CudaSharedMemoryRegister", Plan::Register(Memory::Cuda)),
    (Memory::Cuda.unregister(), Plan::Unregister),
    ("/inference.GRPCInferenceService/TraceSetting", Plan::TraceSetting),
    ("/inference.GRPCInferenceService/LogSettings", Plan::LogSettings),
];

/// A method that is for the fleet to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    path: &'static str,
    plan: Plan,
}

/// The pods as one server.
pub(super) struct Fleet {
    node: Node,
    connect: Duration,
    max_load: u64,
    /// Which pod is asked first where any will do.
    turn: AtomicUsize,
    /// Requests that are under way at once; whether anybody is ready is a question apart, that must not wait behind them.
    asking: Arc<Semaphore>,
    looking: Arc<Semaphore>,
    /// KiB of loads that are under way.
    loading: Arc<Semaphore>,
}

impl Fleet {
    pub(super) fn new(node: Node, options: &ForwardOptions) -> Fleet {
        let (connect, max_load) = (options.connect_timeout, options.max_message_bytes);
        let kib = max_load.max(LEAST_LOAD).div_ceil(KIB).min(u64::from(u32::MAX));
        Fleet {
            node,
            connect,
            max_load,
            turn: AtomicUsize::new(0),
            asking: Arc::new(Semaphore::new(AT_ONCE)),
            looking: Arc::new(Semaphore::new(AT_ONCE)),
            loading: Arc::new(Semaphore::new(usize::try_from(kib).unwrap_or(Semaphore::MAX_PERMITS))),
        }
    }

    /// How a request with these `headers` is answered for the fleet; none where it goes to one pod.
    pub(super) fn method(&self, path: &str, headers: &HeaderMap) -> Option<Method> {
        let (path, plan) = *METHODS.iter().find(|(known, _)| *known == path)?;
        (!self.passes(plan, headers)).then_some(Method { path, plan })
    }

    /// Whether such a request passes to one pod.
    fn passes(&self, plan: Plan, headers: &HeaderMap) -> bool {
        let is_one = self.node.picker().pods().len() == 1;
        // Whether it is ready is for one pod too not the same as whether it can be asked.
        headers.contains_key(POD) || (is_one && !matches!(plan, Plan::ServerReady | Plan::ModelReady))
    }

    /// Answers for the fleet.
    ///
    /// # Errors
    /// What a single Triton would say where all pods say the same; else the first one's code and a text that names the pods;
    /// DEADLINE_EXCEEDED when the caller's deadline passes.
    pub(super) async fn answer(
        self: &Arc<Fleet>,
        method: Method,
        mut headers: HeaderMap,
        body: Source,
    ) -> Result<Response<Whole>, Status> {
        let mut deadline = Deadline::take_over(&mut headers);
        deadline.within(self.clone().carry_out(method, headers, body)).await
    }

    async fn carry_out(
        self: Arc<Fleet>,
        Method { path, plan }: Method,
        metadata: HeaderMap,
        body: Source,
    ) -> Result<Response<Whole>, Status> {
        let limit = if plan == Plan::Load { self.max_load } else { MAX_QUESTION };
        let mut body = RequestBody::new(body, limit);
        let length = Fleet::in_time(0, async { Ok(peek(&mut body, Depth::Size).await?.bytes) }).await?;
        let room = if plan == Plan::Load { Some(self.room_for(length).await?) } else { None };
        let message = Fleet::in_time(length, read(body, length)).await?;
        let question = Question { connect: self.connect, ..Question::grpc(path, metadata, message, plan.patience()) };
        let room = match room {
            Some(room) => room,
            None => self.room(plan).await?,
        };
        match plan {
            Plan::ServerReady => Ok(Whole::ok(framed(&ServerReadyResponse { ready: self.any_ready().await }))),
            Plan::ModelReady => {
                let model = decode::<Named>(&question).unwrap_or_default().name;
                let ready = self.any_yes(&question, &model).await?;
                Ok(Whole::ok(framed(&ModelReadyResponse { ready })))
            }
            Plan::Any => self.any(question, "").await,
            Plan::AnyWithModel => {
                let model = decode::<Named>(&question).unwrap_or_default().name;
                self.any(question, &model).await
            }
            Plan::Statistics => Ok(whole(&self.merged::<Statistics>(&question).await?)),
            Plan::Index => Ok(whole(&self.merged::<Index>(&question).await?)),
            Plan::Regions(Memory::System) => {
                Ok(whole(&self.merged::<Regions<SystemSharedMemoryStatusResponse>>(&question).await?))
            }
            Plan::Regions(Memory::Cuda) => {
                Ok(whole(&self.merged::<Regions<CudaSharedMemoryStatusResponse>>(&question).await?))
            }
            Plan::TraceSetting => match decode::<TraceSettingRequest>(&question) {
                Some(asked) if asked.settings.is_empty() => self.any(question, &asked.model_name).await,
                _ => self.begin(plan, question, room).await,
            },
            Plan::LogSettings => match decode::<LogSettingsRequest>(&question) {
                Some(asked) if asked.settings.is_empty() => self.any(question, "").await,
                _ => self.begin(plan, question, room).await,
            },
            Plan::Load | Plan::Unload | Plan::Unregister | Plan::Register(_) => self.begin(plan, question, room).await,
        }
    }

    /// A change, beside its caller: it goes on without.
    async fn begin(
        self: Arc<Fleet>,
        plan: Plan,
        question: Question,
        room: OwnedSemaphorePermit,
    ) -> Result<Response<Whole>, Status> {
        let work = tokio::spawn(async move {
            let _room = room;
            self.change(plan, &question).await
        });
        work.await.unwrap_or_else(|error| Err(Status::internal(format!("the change was given up: {error}"))))
    }

    /// What `reads` gives, if a caller's `bytes` come in the time that they may take.
    async fn in_time<T>(bytes: u64, reads: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let allowed = SENDS_WITHIN + Duration::from_secs(bytes / SENDS_A_SECOND);
        let late = |_| Status::from(Late::Slow { bytes, allowed });
        tokio::time::timeout(allowed, reads).await.map_err(late)?
    }

    /// Waits until another question may be put.
    async fn room(&self, plan: Plan) -> Result<OwnedSemaphorePermit, Status> {
        let gate = match plan {
            Plan::ServerReady | Plan::ModelReady => &self.looking,
            _ => &self.asking,
        };
        gate.clone().acquire_owned().await.map_err(closed)
    }

    /// Waits until a load of so many bytes can be held.
    async fn room_for(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Status> {
        let kib = u32::try_from(bytes.max(LEAST_LOAD).div_ceil(KIB)).unwrap_or(u32::MAX);
        self.loading.clone().acquire_many_owned(kib).await.map_err(closed)
    }

    fn no_pod(&self) -> Status {
        Status::unavailable(PickError::NoPods.to_string())
    }
}

/// An answer of the fleet's own, by gRPC.
fn whole(answer: &impl Message) -> Response<Whole> {
    Whole::ok(framed(answer))
}

fn closed(_: AcquireError) -> Status {
    Status::unavailable("the node shuts down")
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}
