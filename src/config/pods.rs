//! `[[pods]]`: the same shape in the configuration and in a discovery file.

use std::path::Path;

use serde::Deserialize;

use super::addr;
use super::error::{ConfigError, Source, shown};
use super::layers::Parsed;
use super::raw::{Reader, typed};
use crate::bounds::{MOST_SLOTS, WEIGHT, check_pods};
use crate::observe::PodSpec;

/// More pods than this from one place is a mistake, and every pick looks at each pod of its model.
pub(crate) const MOST_PODS: usize = 4096;

/// One pod as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPod {
    name: Option<String>,
    grpc: Option<String>,
    http: Option<String>,
    metrics: Option<String>,
    zone: Option<String>,
    #[serde(default)]
    models: Vec<String>,
    slots: Option<i64>,
    weight: Option<f64>,
    uid: Option<String>,
}

/// A discovery file: pods and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    pods: Vec<RawPod>,
}

/// Reads a discovery file.
///
/// # Errors
/// [`ConfigError`]; there are no pods from it then.
pub fn pods_from_file(path: &Path) -> Result<Vec<PodSpec>, ConfigError> {
    pods_from_text(Some(path), &super::layers::read(path)?)
}

/// Reads the text of a discovery file.
pub(crate) fn pods_from_text(path: Option<&Path>, text: &str) -> Result<Vec<PodSpec>, ConfigError> {
    let parsed = Parsed::new(path, text)?;
    parsed.check_keys(|key| key == "pods")?;
    let source = |key: &str| {
        let whole = parsed.sources.get("pods").unwrap_or(&Source::Default);
        let pod = key.split('.').next().unwrap_or(key);
        parsed.sources.get(key).or(parsed.sources.get(pod)).unwrap_or(whole).clone()
    };
    let reader = Reader { source: &source };
    let raw: RawFile = typed(&parsed.table, &reader)?;
    read_pods(raw.pods, &reader)
}

/// Validates what was written; a pod without a name is called by its address.
pub(super) fn read_pods(raw: Vec<RawPod>, reader: &Reader<'_>) -> Result<Vec<PodSpec>, ConfigError> {
    if raw.len() > MOST_PODS {
        return Err(
            reader.invalid("pods", (format!("`{}` pods are too many", raw.len()), format!("list at most {MOST_PODS}")))
        );
    }
    let pods = raw.into_iter().enumerate().map(|(index, raw)| read_pod(index, raw, reader));
    let pods = pods.collect::<Result<Vec<PodSpec>, ConfigError>>()?;
    check_pods(&pods).map_err(|wrong| reader.invalid(&wrong.field, (wrong.problem, wrong.remedy)))?;
    Ok(pods)
}

fn read_pod(index: usize, raw: RawPod, reader: &Reader<'_>) -> Result<PodSpec, ConfigError> {
    let key = |leaf: &str| format!("pods[{index}].{leaf}");
    let Some(grpc) = raw.grpc else {
        let label = raw.name.map_or_else(String::new, |name| format!("{} ", shown(&name)));
        let missing = (format!("pod {label}has no address"), "add grpc = \"http://host:port\"".to_owned());
        return Err(reader.invalid(&key("grpc"), missing));
    };
    let grpc = addr::pod_url(&grpc).map_err(|problem| reader.invalid(&key("grpc"), problem))?;
    let name = raw.name.unwrap_or_else(|| grpc.split_once("://").map_or(&*grpc, |(_, place)| place).to_owned());
    reader.label(&key("name"), &name)?;
    let mut pod = PodSpec::new(name, grpc);
    let url = |leaf: &str, url: &str| addr::pod_url(url).map_err(|problem| reader.invalid(&key(leaf), problem));
    pod.http = raw.http.as_deref().map(|http| url("http", http)).transpose()?;
    pod.metrics = raw.metrics.as_deref().map(|metrics| url("metrics", metrics)).transpose()?;
    if let Some(zone) = raw.zone {
        reader.label(&key("zone"), &zone)?;
        pod.zone = Some(zone);
    }
    if let Some(slots) = raw.slots {
        pod.slots = reader.integer(&key("slots"), slots, 1..=i64::from(MOST_SLOTS))? as u32;
    }
    if let Some(weight) = raw.weight {
        pod.weight = reader.float(&key("weight"), weight, WEIGHT)?;
    }
    if let Some(uid) = raw.uid {
        reader.label(&key("uid"), &uid)?;
        pod.uid = Some(uid);
    }
    for model in &raw.models {
        reader.label(&key("models"), model)?;
    }
    pod.models = raw.models;
    Ok(pod)
}
