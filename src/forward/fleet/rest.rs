//! The same questions in REST: which request asks what, and the answers in JSON.
//!
//! What any pod may answer, and what changes pods, goes to them by HTTP as it came, and their words come back. What is put
//! together of many answers is asked by gRPC, because it is put together of those.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected};
use plimsoll_proto::inference::{
    CudaSharedMemoryStatusRequest, CudaSharedMemoryStatusResponse, ModelStatistics, ModelStatisticsRequest,
    RepositoryIndexRequest, SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse,
};
use prost::Message;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tonic::Status;

use super::super::ask::{Question, framed};
use super::super::body::{RequestBody, broken_off};
use super::super::call::Face;
use super::super::peek::number;
use super::super::source::Source;
use super::super::upstream::deaf_to;
use super::super::whole::Whole;
use super::change::Memory;
use super::index::Index;
use super::regions::Regions;
use super::statistics::Statistics;
use super::{Fleet, MAX_QUESTION, Plan};

/// What a request asks the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Asked {
    plan: Plan,
    /// The model, or the region of memory; empty for all, or none.
    name: String,
    /// Of the model; empty for all.
    version: String,
}

impl Asked {
    /// None where it is no question for the fleet, or none at all: some pod shall say so.
    fn of(method: &Method, path: &str) -> Option<Asked> {
        let rest = path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let segments: SmallVec<[&str; 8]> = rest.split('/').skip(1).collect();
        let get = method == Method::GET;
        if !get && method != Method::POST {
            return None;
        }
        let (plan, name, version) = match &segments[..] {
            [] | ["trace", "setting"] | ["logging"] if get => (Plan::Any, "", ""),
            ["trace", "setting"] => (Plan::TraceSetting, "", ""),
            ["logging"] => (Plan::LogSettings, "", ""),
            ["health", "ready"] if get => (Plan::ServerReady, "", ""),
            ["models", "stats"] if get => (Plan::Statistics, "", ""),
            ["models", name, "versions", version, rest @ ..] if is_number(version) => {
                (of_model(get, rest)?, *name, *version)
            }
            ["models", name, "trace", "setting"] if !get => (Plan::TraceSetting, *name, ""),
            ["models", name, "trace", "setting"] => (Plan::AnyWithModel, *name, ""),
            ["models", name, rest @ ..] => (of_model(get, rest)?, *name, ""),
            ["repository", "index"] | ["repository", _, "index"] if !get => (Plan::Index, "", ""),
            ["repository", "models", name, verb] | ["repository", _, "models", name, verb] if !get => match *verb {
                "load" => (Plan::Load, *name, ""),
                "unload" => (Plan::Unload, *name, ""),
                _ => return None,
            },
            ["systemsharedmemory", rest @ ..] => of_memory(Memory::System, get, rest)?,
            ["cudasharedmemory", rest @ ..] => of_memory(Memory::Cuda, get, rest)?,
            _ => return None,
        };
        Some(Asked { plan, name: name.to_owned(), version: version.to_owned() })
    }
}

fn of_model(get: bool, rest: &[&str]) -> Option<Plan> {
    match rest {
        [] | ["config"] if get => Some(Plan::AnyWithModel),
        ["ready"] if get => Some(Plan::ModelReady),
        ["stats"] if get => Some(Plan::Statistics),
        _ => None,
    }
}

fn of_memory<'a>(memory: Memory, get: bool, rest: &[&'a str]) -> Option<(Plan, &'a str, &'a str)> {
    let (region, verb) = match rest {
        ["region", region, verb] => (*region, *verb),
        [verb] => ("", *verb),
        _ => return None,
    };
    let plan = match verb {
        "status" if get => Plan::Regions(memory),
        "register" if !get => Plan::Register(memory),
        "unregister" if !get => Plan::Unregister,
        _ => return None,
    };
    Some((plan, region, ""))
}

/// A Triton knows versions by numbers alone.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The statistics of a Triton.
#[derive(Serialize)]
struct AllStatistics {
    model_stats: Vec<ModelStatistics>,
}

/// What may be asked of an index.
#[derive(Default, Deserialize)]
struct IndexBody {
    #[serde(default)]
    ready: bool,
}

impl Fleet {
    /// How a REST request with these `headers` is answered for the fleet; none where it goes to one pod.
    pub(in crate::forward) fn rest(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Asked> {
        Asked::of(method, path).filter(|asked| !self.passes(asked.plan, headers))
    }

    /// Answers for the fleet, in REST.
    ///
    /// # Errors
    /// As [`Fleet::answer`].
    pub(in crate::forward) async fn answer_rest(
        self: &Arc<Fleet>,
        Asked { plan, name, version }: Asked,
        head: Parts,
        body: Source,
    ) -> Result<Response<Whole>, Status> {
        if !matches!(plan, Plan::ServerReady | Plan::Statistics | Plan::Index | Plan::Regions(_)) {
            // Where nobody takes HTTP at all, it is that which has to be said.
            deaf_to(Face::Http, self.node.picker())?;
        }
        let limit = if plan == Plan::Load { self.max_load } else { MAX_QUESTION };
        let announced = number(&head.headers, header::CONTENT_LENGTH.as_str());
        let body = RequestBody::plain(body, announced, limit)?;
        // What may be long is held only where there is room for it; all else takes its turn when it is here.
        let room = if plan == Plan::Load { Some(self.room_for(announced.unwrap_or(limit)).await?) } else { None };
        let message = Fleet::in_time(announced.unwrap_or(0), read(body)).await?;
        let room = match room {
            Some(room) => room,
            None => self.room(plan).await?,
        };
        let question = Question {
            face: Face::Http,
            method: head.method,
            path: head.uri,
            metadata: head.headers,
            message,
            connect: self.connect,
            patience: plan.patience(),
        };
        match plan {
            Plan::ServerReady => Ok(yes_or_no(self.any_ready().await)),
            Plan::ModelReady => self.any_yes(&question, &name).await.map(yes_or_no),
            Plan::Any | Plan::AnyWithModel => self.any(question, &name).await,
            Plan::Statistics => {
                let asked = self.by_grpc("ModelStatistics", &ModelStatisticsRequest { name, version });
                let model_stats = self.merged::<Statistics>(&asked).await?.model_stats;
                Ok(json(&AllStatistics { model_stats }))
            }
            Plan::Index => match asked_of_index(&question.message) {
                Some(IndexBody { ready }) => {
                    let request = RepositoryIndexRequest { ready, ..RepositoryIndexRequest::default() };
                    Ok(json(&self.merged::<Index>(&self.by_grpc("RepositoryIndex", &request)).await?.models))
                }
                // Some pod shall say what is wrong with it.
                None => self.any(question, "").await,
            },
            Plan::Regions(Memory::System) => {
                let asked = self.by_grpc("SystemSharedMemoryStatus", &SystemSharedMemoryStatusRequest { name });
                let known = self.merged::<Regions<SystemSharedMemoryStatusResponse>>(&asked).await?.regions;
                Ok(json(&known.into_values().collect::<Vec<_>>()))
            }
            Plan::Regions(Memory::Cuda) => {
                let asked = self.by_grpc("CudaSharedMemoryStatus", &CudaSharedMemoryStatusRequest { name });
                let known = self.merged::<Regions<CudaSharedMemoryStatusResponse>>(&asked).await?.regions;
                Ok(json(&known.into_values().collect::<Vec<_>>()))
            }
            Plan::Load
            | Plan::Unload
            | Plan::Unregister
            | Plan::Register(_)
            | Plan::TraceSetting
            | Plan::LogSettings => self.clone().begin(plan, question, room).await,
        }
    }

    fn by_grpc(&self, method: &'static str, message: &impl Message) -> Question {
        let path = super::METHODS.iter().map(|(path, _)| *path).find(|path| path.ends_with(method)).unwrap_or(method);
        let question = Question::grpc(path, HeaderMap::new(), framed(message), super::PATIENCE);
        Question { connect: self.connect, ..question }
    }
}

async fn read(body: RequestBody) -> Result<Bytes, Status> {
    body.collect().await.map(Collected::to_bytes).map_err(|error| broken_off(&error))
}

/// None where it makes no sense.
fn asked_of_index(body: &[u8]) -> Option<IndexBody> {
    if body.is_empty() { Some(IndexBody::default()) } else { serde_json::from_slice(body).ok() }
}

fn json(answer: &impl Serialize) -> Response<Whole> {
    // Fails only for maps whose keys are no text; there is none.
    let text = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = Response::new(Whole::plain(text.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// As a Triton says whether it, or a model, is ready: by the status alone.
pub(in crate::forward) fn yes_or_no(yes: bool) -> Response<Whole> {
    let mut response = Response::new(Whole::default());
    *response.status_mut() = if yes { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(method: &str, path: &str) -> Option<(Plan, String, String)> {
        let asked = Asked::of(&method.parse().unwrap(), path)?;
        Some((asked.plan, asked.name, asked.version))
    }

    /// A request that is taken for another one would change half a fleet, or be answered by one pod for all.
    #[test]
    fn requests_are_told_by_method_and_path() {
        let known = |plan, name: &str, version: &str| Some((plan, name.to_owned(), version.to_owned()));
        for (method, path, expected) in [
            ("GET", "/v2", known(Plan::Any, "", "")),
            ("GET", "/v2/health/ready", known(Plan::ServerReady, "", "")),
            ("GET", "/v2/models/stats", known(Plan::Statistics, "", "")),
            ("GET", "/v2/models/m", known(Plan::AnyWithModel, "m", "")),
            ("GET", "/v2/models/m/versions/3", known(Plan::AnyWithModel, "m", "3")),
            ("GET", "/v2/models/m/config", known(Plan::AnyWithModel, "m", "")),
            ("GET", "/v2/models/m/ready", known(Plan::ModelReady, "m", "")),
            ("GET", "/v2/models/m/versions/3/ready", known(Plan::ModelReady, "m", "3")),
            ("GET", "/v2/models/m/versions/3/stats", known(Plan::Statistics, "m", "3")),
            ("GET", "/v2/models/m/trace/setting", known(Plan::AnyWithModel, "m", "")),
            ("POST", "/v2/models/m/trace/setting", known(Plan::TraceSetting, "m", "")),
            ("POST", "/v2/trace/setting", known(Plan::TraceSetting, "", "")),
            ("GET", "/v2/logging", known(Plan::Any, "", "")),
            ("POST", "/v2/logging", known(Plan::LogSettings, "", "")),
            ("POST", "/v2/repository/index", known(Plan::Index, "", "")),
            ("POST", "/v2/repository/models/m/load", known(Plan::Load, "m", "")),
            ("POST", "/v2/repository/r/models/m/unload", known(Plan::Unload, "m", "")),
            ("GET", "/v2/systemsharedmemory/status", known(Plan::Regions(Memory::System), "", "")),
            ("GET", "/v2/cudasharedmemory/region/x/status", known(Plan::Regions(Memory::Cuda), "x", "")),
            ("POST", "/v2/systemsharedmemory/region/x/register", known(Plan::Register(Memory::System), "x", "")),
            ("POST", "/v2/cudasharedmemory/unregister", known(Plan::Unregister, "", "")),
            ("POST", "/v2/models/m/infer", None),
            ("GET", "/v2/models/m/versions/x/ready", None),
            ("GET", "/v2/repository/index", None),
            ("POST", "/v2/repository/models/m/paint", None),
            ("GET", "/v2/systemsharedmemory/region/x/register", None),
            ("DELETE", "/v2", None),
            ("GET", "/v2/", None),
            ("GET", "/v22", None),
            ("GET", "/", None),
        ] {
            assert_eq!(plan(method, path), expected, "{method} {path}");
        }
    }

    /// Tools read the fields of a Triton's index by their presence.
    #[test]
    fn an_index_leaves_out_what_is_empty() {
        use plimsoll_proto::inference::repository_index_response::ModelIndex;
        let models = vec![
            ModelIndex { name: "a".into(), ..ModelIndex::default() },
            ModelIndex { name: "b".into(), version: "1".into(), state: "READY".into(), reason: String::new() },
        ];
        let text = serde_json::to_string(&models).unwrap();
        assert_eq!(text, r#"[{"name":"a"},{"name":"b","version":"1","state":"READY"}]"#);
    }
}
