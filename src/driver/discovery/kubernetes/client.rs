//! The way to the API server: who we are, where it is, and how long it may take.
//!
//! kube's own stack would do but for two things: it does not notice that the other machine is gone while nothing is sent (a
//! watch says nothing for hours), and it tries 429 and 503 again by itself for minutes, in which nobody is told.

use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};
use tracing::warn;

use super::chain;
use crate::driver::discovery::DiscoveryError;

/// How long a connection to one address of the API server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The other machine is asked for a sign of life after so long a silence, and then this often and so many times: it is
/// missed after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_AGAIN: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMES: u32 = 3;

/// Finds out who we are and where the API server is, as kubectl does: `KUBECONFIG`, a pod's service account,
/// `~/.kube/config`. Asks nobody yet.
pub(in crate::driver::discovery) async fn connect() -> Result<Client, DiscoveryError> {
    let config = settings().await.map_err(DiscoveryError::Kubernetes)?;
    if config.proxy_url.is_some() {
        warn!("a proxy is configured, but the Kubernetes API server at `{}` is asked without", config.cluster_url);
    }
    build(&config).map_err(|error| DiscoveryError::Kubernetes(chain(&error)))
}

async fn settings() -> Result<Config, String> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !is_set("KUBECONFIG") && is_set("KUBERNETES_SERVICE_HOST") {
        return Config::incluster().map_err(|error| {
            format!("the pod's service account: {}; is automountServiceAccountToken off?", chain(&error))
        });
    }
    Config::from_kubeconfig(&KubeConfigOptions::default()).await.map_err(|error| {
        format!("not in a pod of Kubernetes, and the kubeconfig: {}; see the variable KUBECONFIG", chain(&error))
    })
}

fn build(config: &Config) -> Result<Client, kube::Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_keepalive(Some(KEEP_ALIVE));
    http.set_keepalive_interval(Some(KEEP_ALIVE_AGAIN));
    http.set_keepalive_retries(Some(KEEP_ALIVE_TIMES));
    let https = config.rustls_https_connector_with_connector(http)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(https));
    Ok(Client::new(service, config.default_namespace.clone()))
}
