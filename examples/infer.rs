//! Joins alone with one pod and asks it for one inference: `cargo run --example infer -- http://127.0.0.1:8001`.

use plimsoll::node::{Credentials, Node, NodeConfig};
use plimsoll::observe::PodSpec;
use plimsoll_proto::inference::ModelInferRequest;
use plimsoll_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use plimsoll_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pod = std::env::args().nth(1).ok_or("say where the pod is: http://127.0.0.1:8001")?;
    let mut config = NodeConfig::new("example", Credentials::Secret(b"a secret that all nodes share".to_vec()));
    config.pods = vec![PodSpec::new("pod", pod)];
    let node = Node::join(config).await?;

    let mut client = GrpcInferenceServiceClient::new(node.channel("sim_gpu"));
    let answer = client.model_infer(request()).await?.into_inner();
    for (output, raw) in answer.outputs.iter().zip(&answer.raw_output_contents) {
        println!("{} {} {:?}: {raw:?}", output.name, output.datatype, output.shape);
    }
    Ok(())
}

/// 100 bytes for a model that tells how long it took and which pod it ran on.
fn request() -> ModelInferRequest {
    let input = InferInputTensor {
        name: "PAYLOAD".into(),
        datatype: "UINT8".into(),
        shape: vec![100],
        ..InferInputTensor::default()
    };
    let output = |name: &str| InferRequestedOutputTensor { name: name.into(), ..InferRequestedOutputTensor::default() };
    ModelInferRequest {
        model_name: "sim_gpu".into(),
        inputs: vec![input],
        outputs: vec![output("SERVICE_US"), output("POD")],
        raw_input_contents: vec![vec![0; 100].into()],
        ..ModelInferRequest::default()
    }
}
