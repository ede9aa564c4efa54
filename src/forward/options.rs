//! What both faces can be told.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tonic::Code;

use crate::driver::access_log::AccessLog;

/// What both faces share.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// The largest gRPC message, or body of an HTTP request, that is passed on; a larger one is answered with
    /// RESOURCE_EXHAUSTED, or 413, before it is read. Both are streamed, so that a high limit costs no memory here: it protects the pods. Default 256 MiB, which
    /// most image and audio tensors fit.
    pub max_message_bytes: u64,
    /// How long a pod may take to accept a connection before it is ejected and another one is tried. Longer bears
    /// with a slow network, shorter finds a dead machine sooner. Default 1 s: a handshake takes two round trips.
    pub connect_timeout: Duration,
    /// To how many other pods a request is offered, one after the other and at once, when a pod refuses it because its queue
    /// is full. Beyond, the caller gets the last pod's refusal. Default 3: each offer costs a round trip; where pods have
    /// room for one waiting request each, three offers leave a tenth of the refusals or less up to a load of 0.85.
    pub after_refusal: u32,
    /// Whether a model's slots and batches are read from each pod's own configuration of it, one question per model and
    /// connection. Without, what is given for a pod is all that is known. Default true.
    pub read_model_config: bool,
    /// When a request is sent a second time.
    pub retry: Retry,
    /// How much may be in flight, and what waits.
    pub limits: Limits,
    /// What is known of single models; the one of the empty name is for all others.
    pub models: BTreeMap<Box<str>, ModelOptions>,
    /// Where a line about each request that went to a pod, or was to go to one, is written; none by default, and then nothing is
    /// done for it.
    pub access_log: Option<AccessLog>,
}

impl Default for ForwardOptions {
    fn default() -> ForwardOptions {
        ForwardOptions {
            max_message_bytes: 256 << 20,
            connect_timeout: Duration::from_secs(1),
            after_refusal: 3,
            read_model_config: true,
            retry: Retry::default(),
            limits: Limits::default(),
            models: BTreeMap::new(),
            access_log: None,
        }
    }
}

impl ForwardOptions {
    /// What is known of `model`.
    pub(super) fn model(&self, model: &str) -> Option<&ModelOptions> {
        self.models.get(model).or_else(|| self.models.get(""))
    }
}

/// When a request is sent a second time, to another pod. What no pod has begun (no connection, a full queue, a model that was
/// given up) is picked again anyway and needs no leave: it cost nobody any work.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Retry {
    /// Second sendings per request, over ten seconds; hedges too. Default 0.2: where more than a fifth fails, sending all of
    /// it again would double the load of a fleet that is already in trouble. 0 turns retries off.
    pub budget: f32,
    /// How often one request may be sent again. Default 2: with a tenth of the pods failing, one in a thousand is lost.
    pub most: u32,
    /// Statuses, beside those that say that nothing ran, after which a request is sent again. Default none: a pod that answers
    /// INTERNAL may have done what it was asked. For models whose requests may run twice, UNAVAILABLE and INTERNAL are usual.
    pub codes: Vec<Code>,
    /// How much of one request is kept to be sent again, bytes; of all requests in one stream together, too. Beyond it
    /// a request goes on and is sent but once: what then finds a full queue, or a pod that ends, fails. Default 8 MiB,
    /// which a batch of eight images of 224 x 224 pixels in FP32 fits (4.8 MB). It is memory from when it is read until
    /// the answer begins.
    pub keep_bytes: u64,
    /// The same of all requests together. Default 256 MiB: a hundred requests of 600 KiB in flight take a quarter.
    pub keep_all_bytes: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { budget: 0.2, most: 2, codes: Vec::new(), keep_bytes: 8 << 20, keep_all_bytes: 256 << 20 }
    }
}

/// How much may be in flight, and what waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests that one pod may have in flight, of all callers together as far as this node knows. Default none: a queue at
    /// the pod costs nothing but its order. With a bound, requests wait here, where priorities and deadlines decide and a
    /// pod that frees up takes the next one whichever it is; four times the slots keeps pods busy.
    pub in_flight_per_pod: Option<NonZeroU32>,
    /// Requests that may wait for a place; beyond, they are refused at once. Default 1024.
    pub queue: usize,
    /// Whether a request whose deadline is shorter than the wait that is predicted for it is refused at once. Default true:
    /// it would only make others wait. Costs that nobody knows yet refuse nothing.
    pub refuse_late: bool,
    /// Connections of callers to a front, over all its listeners; who comes beyond is turned away at once. An idle one takes some
    /// 20 kB and a file descriptor; each request over HTTP/1.1 takes one more descriptor, towards its pod. Default 10,000.
    pub connections: usize,
    /// How long a caller's connection may stay without a request before it is told to go. What is answered or streamed over it, or
    /// waits for an answer, is never cut. Default one hour, as Envoy has it: gRPC clients keep a connection for as long as
    /// they live, and one that is made anew costs its caller round trips. Machines that are gone are found sooner, by TCP.
    pub connection_idle: Duration,
    /// How long a request's body may stand still while this node waits for it; then the request ends with DEADLINE_EXCEEDED,
    /// or 408, and its pod is let go. Not for streams of requests, nor for answers. Default 30 s: half of what nginx allows,
    /// because a body that was begun holds a place at a pod.
    pub body_idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            in_flight_per_pod: None,
            queue: 1024,
            refuse_late: true,
            connections: 10_000,
            connection_idle: Duration::from_secs(3600),
            body_idle: Duration::from_secs(30),
        }
    }
}

/// What is known of one model.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ModelOptions {
    /// Whether its requests may run twice. Then one that a pod may have begun is sent again when the pod dies.
    pub idempotent: bool,
    /// After this, a request that has no answer is sent to a second pod as well, and the first answer counts; only where it is
    /// idempotent. Default none: the loser runs to its end all the same (Triton does not stop it), so that hedging at the
    /// median doubles the load. The 99th percentile costs a hundredth.
    pub hedge_after: Option<Duration>,
    /// Requests of one key keep to a few pods.
    pub affinity: Option<Affinity>,
    /// Whether each request inside a stream is picked for by itself. Only for models without state; the answers of one stream
    /// may then overtake each other. Default false: a stream keeps to its pod.
    pub balance_streams: bool,
}

/// Requests of one key keep to a few pods: for adapters (LoRA) and caches that are costly to have everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Affinity {
    /// The request parameter or metadata key (HTTP header) that holds the key. Requests without it go anywhere.
    pub key: String,
    /// Pods for one key. Of these the policy picks; where all of them have more than their share, the next ones take part.
    pub pods: usize,
}

impl Affinity {
    /// Requests that have the same `key` keep to `pods` pods.
    pub fn new(key: impl Into<String>, pods: usize) -> Affinity {
        Affinity { key: key.into(), pods }
    }
}
