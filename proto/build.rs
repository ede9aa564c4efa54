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

/// What Triton says over HTTP too, in JSON of the same names.
const IN_JSON: [&str; 9] = [
    ".inference.ModelStatistics",
    ".inference.InferStatistics",
    ".inference.StatisticDuration",
    ".inference.InferBatchStatistics",
    ".inference.InferResponseStatistics",
    ".inference.MemoryUsage",
    ".inference.RepositoryIndexResponse.ModelIndex",
    ".inference.SystemSharedMemoryStatusResponse.RegionStatus",
    ".inference.CudaSharedMemoryStatusResponse.RegionStatus",
];

/// What it leaves out there where it is empty.
const LEFT_OUT: [&str; 3] = ["version", "state", "reason"];

const FILES: [&str; 3] =
    ["inference/grpc_service.proto", "inference/model_config.proto", "grpc/health/v1/health.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let builder = BYTES.iter().fold(tonic_prost_build::configure(), |builder, path| builder.bytes(path));
    let builder =
        IN_JSON.iter().fold(builder, |builder, path| builder.type_attribute(path, "#[derive(::serde::Serialize)]"));
    let builder = LEFT_OUT.iter().fold(builder, |builder, field| {
        let path = format!(".inference.RepositoryIndexResponse.ModelIndex.{field}");
        builder.field_attribute(path, "#[serde(skip_serializing_if = \"String::is_empty\")]")
    });
    IN_ORDER
        .iter()
        .fold(builder, |builder, path| builder.btree_map(path))
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
