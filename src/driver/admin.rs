//! The admin API: what this node believes, over HTTP, for people, probes and Prometheus.
//!
//! It only reads. A request that is not a GET is refused, a body is never read, and every answer but `/metrics` is JSON.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/v1/view` | what it believes about pods ([`crate::observe::View`]) |
//! | `/v1/members` | what it believes about members (a list of [`crate::observe::MemberView`]) |
//! | `/health/live` | 200 while the process runs |
//! | `/health/ready` | 200 where a request could be served: some pod is not ejected and the node does not drain |

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics::Metrics;
use crate::node::Node;
use crate::observe::View;

/// What the admin API answers from.
#[derive(Clone)]
pub struct Admin {
    node: Node,
    metrics: Metrics,
    draining: watch::Receiver<bool>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("draining", &*self.draining.borrow()).finish_non_exhaustive()
    }
}

impl Admin {
    /// An admin API of `node`. While `draining` says so it is not ready.
    pub fn new(node: Node, metrics: Metrics, draining: watch::Receiver<bool>) -> Admin {
        Admin { node, metrics, draining }
    }

    /// Serves until `shutdown` resolves and the answers under way are sent.
    ///
    /// # Errors
    /// Where the listener fails for good.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown).await
    }

    /// The routes, for programs that serve them beside their own.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/v1/view", get(view))
            .route("/v1/members", get(members))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .fallback(unknown_path)
            .method_not_allowed_fallback(only_get)
            // No request here has a body.
            .layer(DefaultBodyLimit::max(0))
            .with_state(self)
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = admin.metrics.render(&admin.node).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn view(State(admin): State<Admin>) -> Response {
    Json(admin.node.view().await).into_response()
}

async fn members(State(admin): State<Admin>) -> Response {
    Json(admin.node.members().await).into_response()
}

async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    let draining = *admin.draining.borrow();
    match not_ready(&admin.node.view().await, draining) {
        None => Json(json!({ "ready": true })).into_response(),
        Some(reason) => {
            let body = Json(json!({ "ready": false, "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Why a request should not come here now.
fn not_ready(view: &View, draining: bool) -> Option<String> {
    if draining {
        return Some("draining: this node is leaving".to_owned());
    }
    match view.pods.len() {
        0 => Some("no pods: nothing is configured or discovered yet".to_owned()),
        known if view.pods.iter().all(|pod| pod.ejected) => Some(format!("all {known} pods are ejected")),
        _ => None,
    }
}

async fn unknown_path(uri: Uri) -> Response {
    error(
        StatusCode::NOT_FOUND,
        format!("no such path: `{}`; see /v1/view, /v1/members, /metrics, /health/ready", uri.path()),
    )
}

async fn only_get() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here".to_owned())
}

fn error(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}
