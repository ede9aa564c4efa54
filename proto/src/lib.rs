//! KServe v2 / Triton gRPC services and the standard health service, generated for tonic.
//!
//! The `.proto` files beside this crate are our own text with the published names and numbers; a test holds them
//! against the published descriptor. Generation needs no protoc. Tensor payloads (`raw_input_contents`,
//! `raw_output_contents`) are [`bytes::Bytes`](prost::bytes::Bytes), so that passing one on copies nothing.

/// `inference.GRPCInferenceService`: KServe v2 with Triton's extensions, and the model configuration.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// `grpc.health.v1.Health`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
