//! Kubernetes services: every endpoint of a service is a pod.
//!
//! One watch for each service, of its EndpointSlices: a list first, then every change as it happens. kube-runtime's
//! watcher knows the protocol (pages, bookmarks, watches that end and go on where they were). What it is not left to do
//! is to go on after an error: then the list is asked for anew, because only that says for certain which pods there are,
//! and that Kubernetes is there again. As long as it is not, the pods that it named last stay.
//!
//! A list without endpoints is believed, unlike an empty answer of DNS: the API server does not answer while it is
//! broken, and a service that was scaled to nothing has no pods.

pub(super) mod client;
mod guard;
mod slices;

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::Status;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Client};
use tokio::time::sleep;
use tracing::{debug, warn};

use self::slices::{Ports, Slices};
use super::voice::Voice;
use crate::config::{DiscoveryConfig, KubernetesService, one_line};

/// How long a list may take, all its pages together.
const LIST: Duration = Duration::from_secs(60);
/// Where the next attempt is left to a backoff that has come to an end, which this one never does.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What is told of an error from outside, in characters.
const LONGEST_TOLD: usize = 400;

/// One service that is watched.
pub(super) struct Watch {
    slices: Api<EndpointSlice>,
    namespace: String,
    name: String,
    ports: Ports,
    /// Whether any list ever came.
    listed: bool,
}

/// Why a watch has to begin anew.
enum Broken {
    /// What it knew is too old to go on from. That is the protocol, and no failure.
    Expired,
    /// What an operator should know.
    Failed(String),
}

impl Watch {
    pub(super) fn new(service: &KubernetesService, client: Client, config: &DiscoveryConfig) -> Watch {
        let namespace = service.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let ports = Ports {
            grpc: service.port.clone(),
            http: config.http_port.clone(),
            metrics: config.metrics_port.clone(),
            tls_name: config.tls.then(|| format!("{}.{namespace}.svc", service.name)),
        };
        let slices = Api::namespaced(guard::guarded(client), &namespace);
        Watch { slices, namespace, name: service.name.clone(), ports, listed: false }
    }

    /// What people know it by.
    pub(super) fn what(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Reports the service's pods whenever they change.
    pub(super) async fn run(mut self, mut voice: Voice) {
        // The pauses of Kubernetes' own clients: 0.8 s, doubling up to 30 s, and up to as much again by chance.
        let mut pauses = DefaultBackoff::default();
        loop {
            match self.watch(&mut voice).await {
                Broken::Expired => debug!(service = self.what(), "the watch is too old, listing anew"),
                Broken::Failed(error) => voice.failed(error).await,
            }
            sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// Lists, then watches, until something breaks.
    async fn watch(&mut self, voice: &mut Voice) -> Broken {
        let selector = format!("kubernetes.io/service-name={}", self.name);
        let mut events = pin!(watcher(self.slices.clone(), watcher::Config::default().labels(&selector)));
        let mut known = Slices::default();
        let mut listing = Some(Slices::default());
        let mut too_long = pin!(sleep(LIST));
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                // Between changes nothing comes for hours; the watcher itself looks after a watch that hangs.
                () = &mut too_long, if listing.is_some() => {
                    return Broken::Failed(format!("a list took more than {} s", LIST.as_secs()));
                }
            };
            match next {
                Some(Ok(Event::Init)) => listing = Some(Slices::default()),
                Some(Ok(Event::InitApply(slice))) => listing.get_or_insert_default().apply(slice),
                Some(Ok(Event::InitDone)) => {
                    known = listing.take().unwrap_or_default();
                    if known.is_empty() && !self.listed {
                        let service = self.what();
                        warn!(service, "Kubernetes has no EndpointSlice of the service; is it called so, and there?");
                    }
                    self.listed = true;
                    self.tell(&known, voice).await;
                }
                Some(Ok(Event::Apply(slice))) => {
                    known.apply(slice);
                    self.tell(&known, voice).await;
                }
                Some(Ok(Event::Delete(slice))) => {
                    known.delete(&slice);
                    self.tell(&known, voice).await;
                }
                Some(Err(error)) => return self.broken(&error, listing.is_none()),
                None => return Broken::Failed("the watch ended".to_owned()),
            }
        }
    }

    async fn tell(&self, known: &Slices, voice: &mut Voice) {
        match known.pods(&self.ports) {
            Ok(pods) => voice.found(pods).await,
            Err(no_port) => voice.failed(format!("service `{}`: {no_port}", self.what())).await,
        }
    }

    fn broken(&self, error: &watcher::Error, watching: bool) -> Broken {
        let Some(status) = status(error) else {
            return Broken::Failed(format!("cannot ask Kubernetes: {}", bounded(&cause(error))));
        };
        let said = bounded(if status.message.is_empty() { &status.reason } else { &status.message });
        let namespace = &self.namespace;
        Broken::Failed(match status.code {
            410 if watching => return Broken::Expired,
            401 => format!(
                "Kubernetes does not know who asks: {said}; look at the service account's token, or the kubeconfig's user"
            ),
            403 => format!(
                "may not list and watch EndpointSlices in namespace `{namespace}`: {said}; grant it as in deploy/kubernetes/rbac.yaml"
            ),
            code => format!("Kubernetes answers {code}: {said}"),
        })
    }
}

/// What the API server itself says is wrong.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// What is wrong, whatever was asked for when it came to light: nobody should read of one outage twice.
fn cause(error: &watcher::Error) -> String {
    let told = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => chain(error),
        error => chain(error),
    };
    told.replace("ServiceError: ", "").replace("Error reading events stream: ", "")
}

/// An error and its causes. Most layers repeat what is below them, and each is told once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told.push_str(": ");
            told.push_str(&text);
        }
        cause = error.source();
    }
    told
}

fn bounded(text: &str) -> String {
    let line = one_line(text);
    let end = line.char_indices().nth(LONGEST_TOLD).map_or(line.len(), |(at, _)| at);
    let more = if end < line.len() { "…" } else { "" };
    format!("{}{more}", &line[..end])
}
