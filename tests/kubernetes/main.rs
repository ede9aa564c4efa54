//! Pods that Kubernetes knows: what a node makes of a service's EndpointSlices, and of an API server that fails. The clock
//! stands still where nothing happens, so that an hour takes no time.
#![cfg(feature = "kubernetes")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod api_server;
mod binary;
mod failures;
mod pages;
mod services;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api_server::{ApiServer, Is, endpoint};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use plimsoll::config::Config;
use plimsoll::driver::discovery::{Clients, Discovery};
use plimsoll::observe::PodSpec;
use serde_json::Value;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A node's discovery, and what it says and counts.
struct World {
    api: ApiServer,
    discovery: Discovery,
    log: Log,
    metrics: PrometheusHandle,
    _guards: (tracing::subscriber::DefaultGuard, metrics::LocalRecorderGuard<'static>),
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn world(api: ApiServer, services: &str) -> World {
    world_with(api, &format!("discovery.kubernetes = {services}"))
}

fn world_with(api: ApiServer, config: &str) -> World {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("info,kube_client=off,kube_runtime=off")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
    let metrics = recorder.handle();
    // On this thread, which is the only one of the test's runtime.
    let guards = (tracing::subscriber::set_default(subscriber), metrics::set_default_local_recorder(recorder));
    let mut clients = Clients::default();
    clients.kubernetes = Some(api.client());
    let discovery = Discovery::with_clients(&Config::from_toml_str(config).unwrap(), clients);
    World { api, discovery, log, metrics, _guards: guards }
}

impl World {
    /// The next set of pods that is another one.
    async fn next(&mut self) -> Vec<PodSpec> {
        loop {
            if let Some(pods) = self.discovery.report().await {
                return pods;
            }
        }
    }

    async fn changed(&mut self) -> Vec<PodSpec> {
        timeout(2 * MINUTE, self.next()).await.expect("no change was reported")
    }

    async fn names(&mut self) -> Vec<String> {
        self.changed().await.into_iter().map(|pod| pod.name).collect()
    }

    /// The pods stay as they are for so long.
    async fn unchanged(&mut self, span: Duration) {
        if let Ok(pods) = timeout(span, self.next()).await {
            panic!("changed to {pods:?}");
        }
    }

    fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    /// How often it was said.
    fn said(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }

    fn failures(&self) -> u64 {
        let text = self.metrics.render();
        let metric = "plimsoll_discovery_failures_total{source=\"kubernetes\"} ";
        text.lines().find_map(|line| line.strip_prefix(metric)).map_or(0, |count| count.parse().unwrap())
    }
}

fn ready(pods: &[(&str, &str)]) -> Vec<Value> {
    pods.iter().map(|(pod, ip)| endpoint(pod, ip, Is::Ready)).collect()
}

/// How many lists the API server was asked for since this was called last, and from which versions watches went on.
fn asked(api: &ApiServer) -> (usize, Vec<u64>) {
    let asked = api.asked();
    let watches = asked.iter().filter(|uri| uri.contains("watch=true"));
    let from = |uri: &String| uri.split(&['?', '&'][..]).find_map(|p| p.strip_prefix("resourceVersion=")?.parse().ok());
    let versions: Vec<u64> = watches.filter_map(from).collect();
    (asked.len() - versions.len(), versions)
}
