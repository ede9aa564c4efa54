//! What the road from a request to its response needs to know of the request.

use super::peek::Peek;
use crate::observe::{Cost, PodSpec};

const SERVICE: &str = "/inference.GRPCInferenceService/";

/// How a call is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One inference: charged by what its model's requests of its size were seen to cost.
    Infer,
    /// One inference inside a stream: the same.
    Stream,
    /// About one model, and no inference: no work.
    AboutModel,
    /// Anything else that Triton serves: no work.
    Other,
}

impl Kind {
    /// The kind of the gRPC call to `path`; none where it is not Triton's.
    pub(super) fn of(path: &str) -> Option<Kind> {
        Some(match path.strip_prefix(SERVICE)? {
            "ModelInfer" => Kind::Infer,
            "ModelStreamInfer" => Kind::Stream,
            "ModelMetadata" | "ModelConfig" | "ModelStatistics" => Kind::AboutModel,
            _ => Kind::Other,
        })
    }

    /// What it costs where that does not depend on the model.
    pub(super) fn cost(self) -> Option<Cost> {
        match self {
            Kind::Infer | Kind::Stream => None,
            Kind::AboutModel | Kind::Other => Some(Cost::ZERO),
        }
    }
}

/// The protocol a request came in, and goes on in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// gRPC: HTTP/2, the outcome in `grpc-status`.
    Grpc,
    /// KServe v2 over HTTP/1.1, the outcome in the status line.
    Http,
}

impl Face {
    /// Whether the pod speaks it at all.
    pub(super) fn is_spoken_by(self, pod: &PodSpec) -> bool {
        match self {
            Face::Grpc => true,
            Face::Http => pod.http.is_some(),
        }
    }
}

/// One request, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) face: Face,
    pub(super) kind: Kind,
    /// What was found in its first bytes.
    pub(super) peek: Peek,
}

impl Call {
    pub(super) fn new(face: Face, kind: Kind, peek: Peek) -> Call {
        Call { face, kind, peek }
    }

    pub(super) fn model(&self) -> &str {
        self.peek.model()
    }

    /// Whether it makes a pod work.
    pub(super) fn is_inference(&self) -> bool {
        matches!(self.kind, Kind::Infer | Kind::Stream)
    }
}
