//! KServe v2 / Triton gRPC services, generated for tonic.
