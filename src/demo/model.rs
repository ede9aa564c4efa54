//! The models that the demo's pods hold: what a request must bring, how long it holds a slot, what comes back.
//! The contract is that of the Python models in `tests/triton`, so that the same load plays against real Tritons.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use plimsoll_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use plimsoll_proto::inference::model_infer_response::InferOutputTensor;
use plimsoll_proto::inference::model_metadata_response::TensorMetadata;
use plimsoll_proto::inference::{
    DataType, InferParameter, InferTensorContents, ModelConfig, ModelInferRequest, ModelInferResponse, ModelInput,
    ModelInstanceGroup, ModelMetadataResponse, ModelOutput, ModelParameter, infer_parameter::ParameterChoice,
    model_instance_group,
};
use tonic::Status;

/// Payload and service time of the smallest request that the line is drawn through.
pub(super) const SMALL: (usize, Duration) = (100, Duration::from_millis(5));
/// The same for the largest. Larger payloads continue the line.
pub(super) const LARGE: (usize, Duration) = (5000, Duration::from_millis(120));

const VERSION: &str = "1";
const INPUT: &str = "PAYLOAD";
const SERVICE_US: &str = "SERVICE_US";
const POD: &str = "POD";
/// The parameter by which a caller says how long a request takes.
const SERVICE_MS: &str = "service_ms";

/// A model that every pod of the demo holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// Holds a slot for a time that grows with the payload.
    Gpu,
    /// Answers at once: for measuring what stands between a caller and a pod.
    Zero,
}

impl Model {
    pub(super) const ALL: [Self; 2] = [Self::Gpu, Self::Zero];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gpu => "sim_gpu",
            Self::Zero => "sim_zero",
        }
    }

    pub(super) fn version(self) -> &'static str {
        VERSION
    }

    /// The model of that name, or what a Triton says about a name or version that it does not hold.
    pub(super) fn find(name: &str, version: &str) -> Result<Self, Status> {
        let model = Self::ALL.into_iter().find(|model| model.name() == name);
        match model {
            None => Err(Status::not_found(format!("Request for unknown model: '{name}' is not found"))),
            Some(_) if !matches!(version, "" | VERSION) => {
                Err(Status::not_found(format!("Request for unknown model: '{name}' version {version} is not found")))
            }
            Some(model) => Ok(model),
        }
    }

    /// How long a payload of `bytes` holds a slot.
    pub(super) fn service(self, bytes: usize) -> Duration {
        let share = (bytes as f64 - SMALL.0 as f64) / (LARGE.0 - SMALL.0) as f64;
        match self {
            Self::Zero => Duration::ZERO,
            Self::Gpu => SMALL.1 + (LARGE.1 - SMALL.1).mul_f64(share.max(0.0)),
        }
    }

    /// What `request` asks of a slot, after everything that a Triton checks before it runs one.
    pub(super) fn ask(self, request: &ModelInferRequest) -> Result<Duration, Status> {
        let bytes = self.payload_bytes(request)?;
        self.check_outputs(&request.outputs)?;
        match request.parameters.get(SERVICE_MS) {
            Some(parameter) => overridden(parameter),
            None => Ok(self.service(bytes)),
        }
    }

    fn payload_bytes(self, request: &ModelInferRequest) -> Result<usize, Status> {
        let [input] = request.inputs.as_slice() else {
            return Err(self.invalid(format_args!("expected 1 inputs but got {} inputs", request.inputs.len())));
        };
        if input.name != INPUT {
            return Err(self.invalid(format_args!("unexpected inference input '{}'", input.name)));
        }
        if input.datatype != "UINT8" {
            return Err(self.invalid(format_args!("inference input '{INPUT}' has data-type '{}'", input.datatype)));
        }
        let given = match request.raw_input_contents.as_slice() {
            [] => input.contents.as_ref().map_or(0, |contents| contents.uint_contents.len()),
            [raw] => raw.len(),
            many => return Err(self.invalid(format_args!("1 input but {} raw contents", many.len()))),
        };
        match shape_bytes(&input.shape) {
            Some(wanted) if wanted == given => Ok(given),
            _ => {
                Err(self.invalid(format_args!("shape {:?} does not hold the {given} bytes of '{INPUT}'", input.shape)))
            }
        }
    }

    fn check_outputs(self, wanted: &[InferRequestedOutputTensor]) -> Result<(), Status> {
        match wanted.iter().find(|output| ![SERVICE_US, POD].contains(&output.name.as_str())) {
            Some(unknown) => Err(self.invalid(format_args!("unexpected inference output '{}'", unknown.name))),
            None => Ok(()),
        }
    }

    fn invalid(self, what: std::fmt::Arguments<'_>) -> Status {
        Status::invalid_argument(format!("{what} for model '{}'", self.name()))
    }

    /// The answer to `request` from the pod called `pod` after `served`.
    pub(super) fn answer(self, request: ModelInferRequest, pod: &str, served: Duration) -> ModelInferResponse {
        let wanted =
            |name: &str| request.outputs.is_empty() || request.outputs.iter().any(|output| output.name == name);
        let micros = i64::try_from(served.as_micros()).unwrap_or(i64::MAX);
        let all = [
            (output(SERVICE_US, "INT64"), Bytes::copy_from_slice(&micros.to_le_bytes())),
            (output(POD, "BYTES"), length_prefixed(pod)),
        ];
        let (outputs, raw_output_contents) = all.into_iter().filter(|(output, _)| wanted(&output.name)).unzip();
        ModelInferResponse {
            model_name: self.name().to_owned(),
            model_version: VERSION.to_owned(),
            id: request.id,
            outputs,
            raw_output_contents,
            ..Default::default()
        }
    }

    pub(super) fn metadata(self) -> ModelMetadataResponse {
        let tensor = |name: &str, datatype: &str, shape: i64| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![shape],
        };
        ModelMetadataResponse {
            name: self.name().to_owned(),
            versions: vec![VERSION.to_owned()],
            platform: "plimsoll".to_owned(),
            inputs: vec![tensor(INPUT, "UINT8", -1)],
            outputs: vec![tensor(SERVICE_US, "INT64", 1), tensor(POD, "BYTES", 1)],
        }
    }

    pub(super) fn config(self, slots: usize) -> ModelConfig {
        let tensor = |name: &str, kind: DataType| ModelOutput {
            name: name.to_owned(),
            data_type: kind.into(),
            dims: vec![1],
            ..Default::default()
        };
        let group = ModelInstanceGroup {
            name: format!("{}_0", self.name()),
            count: i32::try_from(slots).unwrap_or(i32::MAX),
            kind: model_instance_group::Kind::Cpu.into(),
            ..Default::default()
        };
        ModelConfig {
            name: self.name().to_owned(),
            backend: "plimsoll".to_owned(),
            input: vec![ModelInput {
                name: INPUT.to_owned(),
                data_type: DataType::TypeUint8.into(),
                dims: vec![-1],
                ..Default::default()
            }],
            output: vec![tensor(SERVICE_US, DataType::TypeInt64), tensor(POD, DataType::TypeString)],
            instance_group: vec![group],
            parameters: self.parameters(),
            ..Default::default()
        }
    }

    fn parameters(self) -> std::collections::HashMap<String, ModelParameter> {
        let figures = [
            ("min_ms", self.service(SMALL.0).as_millis().to_string()),
            ("max_ms", self.service(LARGE.0).as_millis().to_string()),
            ("min_bytes", SMALL.0.to_string()),
            ("max_bytes", LARGE.0.to_string()),
        ];
        figures.into_iter().map(|(key, string_value)| (key.to_owned(), ModelParameter { string_value })).collect()
    }
}

/// A request with a payload of so many zero bytes, as the load generator sends it.
pub(super) fn request(model: &str, payload: Bytes) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: INPUT.to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![i64::try_from(payload.len()).unwrap_or(i64::MAX)],
            contents: None::<InferTensorContents>,
            ..Default::default()
        }],
        raw_input_contents: vec![payload],
        ..Default::default()
    }
}

/// Has `request` say that it takes exactly `service`, whatever its payload.
pub(super) fn tell_service(request: &mut ModelInferRequest, service: Duration) {
    let choice = ParameterChoice::DoubleParam(service.as_secs_f64() * 1e3);
    request.parameters.insert(SERVICE_MS.to_owned(), InferParameter { parameter_choice: Some(choice) });
}

fn overridden(parameter: &InferParameter) -> Result<Duration, Status> {
    let ms = match &parameter.parameter_choice {
        Some(ParameterChoice::Int64Param(ms)) => Some(*ms as f64),
        Some(ParameterChoice::Uint64Param(ms)) => Some(*ms as f64),
        Some(ParameterChoice::DoubleParam(ms)) => Some(*ms),
        Some(ParameterChoice::StringParam(text)) => text.trim().parse().ok(),
        Some(ParameterChoice::BoolParam(_)) | None => None,
    };
    ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok())
        .ok_or_else(|| Status::invalid_argument("parameter 'service_ms' must be a number of milliseconds, 0 or more"))
}

fn shape_bytes(shape: &[i64]) -> Option<usize> {
    match shape {
        [bytes] => usize::try_from(*bytes).ok(),
        _ => None,
    }
}

fn output(name: &str, datatype: &str) -> InferOutputTensor {
    InferOutputTensor { name: name.to_owned(), datatype: datatype.to_owned(), shape: vec![1], ..Default::default() }
}

/// How a BYTES tensor spells one string: its length in four bytes, then the text.
fn length_prefixed(text: &str) -> Bytes {
    let mut raw = BytesMut::with_capacity(4 + text.len());
    raw.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    raw.put_slice(text.as_bytes());
    raw.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_time_is_the_line_through_both_points() {
        assert_eq!(Model::Gpu.service(0), SMALL.1, "nothing is faster than the smallest");
        assert_eq!(Model::Gpu.service(SMALL.0), SMALL.1);
        assert_eq!(Model::Gpu.service(LARGE.0), LARGE.1);
        assert_eq!(Model::Gpu.service(2550), Duration::from_micros(62_500));
        assert_eq!(Model::Zero.service(LARGE.0), Duration::ZERO);
    }

    #[test]
    fn an_unknown_model_is_named_as_triton_names_it() {
        let status = Model::find("nope", "").expect_err("no such model");
        assert_eq!(status.message(), "Request for unknown model: 'nope' is not found");
        let status = Model::find("sim_gpu", "7").expect_err("no such version");
        assert_eq!(status.message(), "Request for unknown model: 'sim_gpu' version 7 is not found");
    }

    #[test]
    fn a_payload_may_be_spelled_out_or_raw() {
        let raw = request("sim_gpu", Bytes::from_static(&[0; 100]));
        assert_eq!(Model::Gpu.ask(&raw).expect("a good request"), SMALL.1);
        let mut spelled = raw;
        spelled.raw_input_contents.clear();
        spelled.inputs[0].contents = Some(InferTensorContents { uint_contents: vec![0; 100], ..Default::default() });
        assert_eq!(Model::Gpu.ask(&spelled).expect("a good request"), SMALL.1);
        spelled.inputs[0].shape = vec![99];
        assert_eq!(Model::Gpu.ask(&spelled).expect_err("a wrong shape").code(), tonic::Code::InvalidArgument);
    }

    /// A recording's service times are microseconds: none may be lost on the way through a parameter in milliseconds.
    #[test]
    fn a_told_service_is_the_one_that_is_taken() {
        for micros in [0, 1, 999, 5_003, 119_999, 3_600_000_001] {
            let mut wanted = request("sim_gpu", Bytes::new());
            tell_service(&mut wanted, Duration::from_micros(micros));
            let asked = Model::Gpu.ask(&wanted).expect("a good request");
            assert!(asked.abs_diff(Duration::from_micros(micros)) < Duration::from_nanos(2), "{micros}: {asked:?}");
        }
    }

    #[test]
    fn a_caller_may_say_how_long_it_takes() {
        let mut wanted = request("sim_gpu", Bytes::from_static(&[0; 100]));
        for (choice, ok) in [
            (ParameterChoice::Int64Param(7), true),
            (ParameterChoice::StringParam("7".to_owned()), true),
            (ParameterChoice::DoubleParam(-7.0), false),
            (ParameterChoice::StringParam("soon".to_owned()), false),
        ] {
            let parameter = InferParameter { parameter_choice: Some(choice) };
            wanted.parameters.insert("service_ms".to_owned(), parameter);
            let asked = Model::Gpu.ask(&wanted);
            assert_eq!(asked.is_ok(), ok, "{asked:?}");
            assert!(asked.is_err() || asked.is_ok_and(|service| service == Duration::from_millis(7)));
        }
    }
}
