//! Generates the services with protox, so that no machine needs a protoc.

use std::path::PathBuf;

/// Payloads stay `Bytes`: a balancer passes tensors on without copying them.
const BYTES: [&str; 2] =
    [".inference.ModelInferRequest.raw_input_contents", ".inference.ModelInferResponse.raw_output_contents"];

/// What answers are put together of is in order, so that the same answers make the same bytes.
const IN_ORDER: [&str; 3] = [
    ".inference.ModelStatistics.response_stats",
    ".inference.SystemSharedMemoryStatusResponse.regions",
    ".inference.CudaSharedMemoryStatusResponse.regions",
];

const FILES: [&str; 3] =
    ["inference/grpc_service.proto", "inference/model_config.proto", "grpc/health/v1/health.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let builder = BYTES.iter().fold(tonic_prost_build::configure(), |builder, path| builder.bytes(path));
    IN_ORDER
        .iter()
        .fold(builder, |builder, path| builder.btree_map(path))
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
