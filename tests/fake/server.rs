//! What a pod keeps beside inferences, in a Triton's words: statistics, models, shared memory, settings.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use http::HeaderMap;
use plimsoll_proto::inference::repository_index_response::ModelIndex;
use plimsoll_proto::inference::system_shared_memory_status_response::RegionStatus;
use plimsoll_proto::inference::{
    LogSettingsRequest, LogSettingsResponse, ModelMetadataRequest, ModelMetadataResponse, ModelStatistics,
    ModelStatisticsRequest, ModelStatisticsResponse, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, ServerMetadataResponse, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    TraceSettingRequest, TraceSettingResponse, log_settings_request, log_settings_response, trace_setting_response,
};
use prost::Message;

use super::framed;

/// The methods that are answered here.
pub(crate) const METHODS: [&str; 12] = [
    "ServerMetadata",
    "ModelMetadata",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryRegister",
    "TraceSetting",
    "LogSettings",
];

/// See the module's description.
#[derive(Default)]
pub(crate) struct Server(Mutex<State>);

/// Tests look and change as they like.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) statistics: Vec<ModelStatistics>,
    /// State by model; all are version 1.
    pub(crate) models: BTreeMap<String, String>,
    pub(crate) regions: BTreeMap<String, RegionStatus>,
    /// Whether memory lies on another machine.
    pub(crate) is_remote: bool,
    pub(crate) settings: BTreeMap<String, String>,
    /// What is answered to a method, `code-text`, whatever it asks.
    pub(crate) failing: BTreeMap<&'static str, &'static str>,
    /// Methods that get no answer until they are released.
    pub(crate) stalling: Vec<&'static str>,
    /// What was asked, in order.
    pub(crate) asked: Vec<String>,
}

impl Server {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The answer to `method`: a message with its prefix, or `code-text`.
    pub(super) fn answer(&self, name: &str, method: &str, headers: &HeaderMap, body: &Bytes) -> Result<Bytes, String> {
        let mut state = self.state();
        if let Some(failing) = state.failing.get(method) {
            return Err((*failing).to_owned());
        }
        let message = plain(headers, body).ok_or("13-no message")?;
        state.answer(name, method, &message)
    }
}

/// The message in a body, inflated where it is compressed; none where that is broken.
fn plain(headers: &HeaderMap, body: &Bytes) -> Option<Vec<u8>> {
    let (flag, message) = body.split_first_chunk::<5>()?;
    if u32::from_be_bytes(flag[1..].try_into().unwrap()) as usize != message.len() {
        return None;
    }
    let mut plain = Vec::new();
    match flag[0] {
        0 => plain.extend(message),
        _ => {
            assert_eq!(headers["grpc-encoding"], "gzip");
            flate2::read::GzDecoder::new(message).read_to_end(&mut plain).unwrap();
        }
    }
    Some(plain)
}

fn decode<M: Message + Default>(message: &[u8]) -> M {
    M::decode(message).unwrap()
}

impl State {
    fn answer(&mut self, name: &str, method: &str, message: &[u8]) -> Result<Bytes, String> {
        match method {
            "ServerMetadata" => {
                Ok(framed(&ServerMetadataResponse { name: name.to_owned(), ..ServerMetadataResponse::default() }))
            }
            "ModelMetadata" => {
                let model = decode::<ModelMetadataRequest>(message).name;
                match self.models.contains_key(&model) {
                    true => Ok(framed(&ModelMetadataResponse { name: model, ..ModelMetadataResponse::default() })),
                    false => Err(format!("5-Request for unknown model: '{model}' is not found")),
                }
            }
            "ModelStatistics" => self.statistics(&decode(message)),
            "RepositoryIndex" => Ok(framed(&self.index())),
            "RepositoryModelLoad" => {
                self.models.insert(decode::<RepositoryModelLoadRequest>(message).model_name, "READY".into());
                Ok(framed(&()))
            }
            "RepositoryModelUnload" => {
                self.models.insert(decode::<RepositoryModelUnloadRequest>(message).model_name, "UNAVAILABLE".into());
                Ok(framed(&()))
            }
            "SystemSharedMemoryStatus" => self.regions(&decode::<SystemSharedMemoryStatusRequest>(message).name),
            "SystemSharedMemoryRegister" => self.register(decode(message)),
            "SystemSharedMemoryUnregister" => {
                let name = decode::<SystemSharedMemoryUnregisterRequest>(message).name;
                self.regions.retain(|known, _| !name.is_empty() && *known != name);
                Ok(framed(&()))
            }
            "CudaSharedMemoryRegister" => Err("3-failed to register shared memory region: invalid args".into()),
            "TraceSetting" => Ok(self.trace(decode(message))),
            "LogSettings" => Ok(self.log(decode(message))),
            _ => unreachable!("{method}"),
        }
    }

    fn statistics(&self, asked: &ModelStatisticsRequest) -> Result<Bytes, String> {
        let is_asked = |model: &&ModelStatistics| asked.name.is_empty() || model.name == asked.name;
        let model_stats: Vec<ModelStatistics> = self.statistics.iter().filter(is_asked).cloned().collect();
        if model_stats.is_empty() && !asked.name.is_empty() {
            return Err(format!("3-requested model '{}' is not available", asked.name));
        }
        Ok(framed(&ModelStatisticsResponse { model_stats }))
    }

    fn index(&self) -> RepositoryIndexResponse {
        let index = |(name, state): (&String, &String)| ModelIndex {
            name: name.clone(),
            version: "1".into(),
            state: state.clone(),
            reason: if state == "UNAVAILABLE" { "unloaded".into() } else { String::new() },
        };
        RepositoryIndexResponse { models: self.models.iter().map(index).collect() }
    }

    fn regions(&self, name: &str) -> Result<Bytes, String> {
        let mut regions = self.regions.clone();
        regions.retain(|known, _| name.is_empty() || known == name);
        match regions.is_empty() && !name.is_empty() {
            true => Err(format!("5-Unable to find system shared memory region: '{name}'")),
            false => Ok(framed(&SystemSharedMemoryStatusResponse { regions })),
        }
    }

    fn register(&mut self, asked: SystemSharedMemoryRegisterRequest) -> Result<Bytes, String> {
        let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = asked;
        if self.regions.contains_key(&name) {
            return Err(format!("6-shared memory region '{name}' already in manager"));
        }
        if self.is_remote {
            return Err(format!("13-Unable to open shared memory region: '{key}'"));
        }
        self.regions.insert(name.clone(), RegionStatus { name, key, offset, byte_size });
        Ok(framed(&()))
    }

    fn trace(&mut self, asked: TraceSettingRequest) -> Bytes {
        for (key, value) in asked.settings {
            self.settings.insert(key, value.value.join(","));
        }
        let value = |value: &String| trace_setting_response::SettingValue { value: vec![value.clone()] };
        let settings = self.settings.iter().map(|(key, setting)| (key.clone(), value(setting))).collect();
        framed(&TraceSettingResponse { settings })
    }

    fn log(&mut self, asked: LogSettingsRequest) -> Bytes {
        use log_settings_request::setting_value::ParameterChoice;
        for (key, value) in asked.settings {
            let Some(ParameterChoice::StringParam(value)) = value.parameter_choice else { panic!("{value:?}") };
            self.settings.insert(key, value);
        }
        let choice = |value: &String| log_settings_response::setting_value::ParameterChoice::StringParam(value.clone());
        let value = |value: &String| log_settings_response::SettingValue { parameter_choice: Some(choice(value)) };
        let settings = self.settings.iter().map(|(key, setting)| (key.clone(), value(setting))).collect();
        framed(&LogSettingsResponse { settings })
    }
}
