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

const HAS_LEFT: &str = "this node has left";

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
    match admin.metrics.render(&admin.node).await {
        Some(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        None => has_left(),
    }
}

async fn view(State(admin): State<Admin>) -> Response {
    admin.node.view().await.map_or_else(has_left, |view| Json(view).into_response())
}

async fn members(State(admin): State<Admin>) -> Response {
    Json(admin.node.members().await).into_response()
}

async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    let draining = *admin.draining.borrow();
    match not_ready(admin.node.view().await, draining) {
        None => Json(json!({ "ready": true })).into_response(),
        Some(reason) => {
            let body = Json(json!({ "ready": false, "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Why a request should not come here now.
fn not_ready(view: Option<View>, draining: bool) -> Option<String> {
    match view {
        None => Some(HAS_LEFT.to_owned()),
        Some(_) if draining => Some("draining: this node is leaving".to_owned()),
        Some(view) if view.pods.is_empty() => Some("no pods: nothing is configured or discovered yet".to_owned()),
        Some(view) if view.pods.iter().all(|pod| pod.ejected) => {
            Some(format!("all {} pods are ejected", view.pods.len()))
        }
        Some(_) => None,
    }
}

async fn unknown_path(uri: Uri) -> Response {
    error(
        StatusCode::NOT_FOUND,
        format!("no such path: `{}`; see /v1/view, /v1/members, /metrics, /health/ready", uri.path()),
    )
}

fn has_left() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, HAS_LEFT.to_owned())
}

async fn only_get() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here".to_owned())
}

fn error(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::node::{Credentials, NodeConfig};
    use crate::observe::PodSpec;

    /// One request over a real socket: status, content type, body.
    async fn ask(address: std::net::SocketAddr, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        (head[9..12].parse().unwrap(), content_type.to_owned(), body.to_owned())
    }

    /// Probes, scrapers and people ask a live node; readiness must follow what a request would meet.
    #[tokio::test(flavor = "multi_thread")]
    async fn every_path_answers_for_a_live_node() {
        let secret = Credentials::Secret(b"0123456789abcdef".to_vec());
        let node = Node::join(NodeConfig::new("a", secret)).await.unwrap();
        let (drain, draining) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin::new(node.clone(), Metrics::new(), draining);
        let served = tokio::spawn(admin.serve(listener, std::future::pending()));

        let (status, _, body) = ask(address, "GET /health/ready").await;
        assert_eq!(status, 503);
        assert_eq!(body, r#"{"ready":false,"reason":"no pods: nothing is configured or discovered yet"}"#);

        node.set_pods(vec![PodSpec::new("t0", "http://127.0.0.1:1"), PodSpec::new("t1", "http://127.0.0.1:2")])
            .unwrap();
        let (status, content_type, body) = ask(address, "GET /v1/view").await;
        assert_eq!((status, content_type.as_str()), (200, "application/json"));
        let view: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&view["node"], &view["pods"][1]["name"]), (&json!("a"), &json!("t1")));

        let members: serde_json::Value = serde_json::from_str(&ask(address, "GET /v1/members").await.2).unwrap();
        assert_eq!((&members[0]["name"], &members[0]["this_node"]), (&json!("a"), &json!(true)));

        assert_eq!(ask(address, "GET /health/live").await.0, 200);
        assert_eq!(ask(address, "GET /health/ready").await.2, r#"{"ready":true}"#);
        let (status, content_type, text) = ask(address, "GET /metrics").await;
        assert_eq!((status, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        assert!(text.contains("plimsoll_pod_in_flight{pod=\"t1\"} 0"), "{text}");

        let pods = node.picker().pods();
        pods[0].eject();
        assert_eq!(ask(address, "GET /health/ready").await.0, 200);
        pods[1].eject();
        assert_eq!(ask(address, "GET /health/ready").await.2, r#"{"ready":false,"reason":"all 2 pods are ejected"}"#);
        pods[1].readmit();
        drain.send(true).unwrap();
        assert_eq!(
            ask(address, "GET /health/ready").await.2,
            r#"{"ready":false,"reason":"draining: this node is leaving"}"#
        );

        let (status, content_type, body) = ask(address, "GET /v2/models").await;
        assert_eq!((status, content_type.as_str()), (404, "application/json"));
        assert!(body.starts_with(r#"{"error":"no such path: `/v2/models`;"#), "{body}");
        let (status, _, body) = ask(address, "POST /v1/view").await;
        assert_eq!((status, body.as_str()), (405, r#"{"error":"only GET is served here"}"#));

        node.leave(std::time::Duration::ZERO).await;
        for path in ["/v1/view", "/metrics"] {
            let (status, _, body) = ask(address, &format!("GET {path}")).await;
            assert_eq!((status, body.as_str()), (503, r#"{"error":"this node has left"}"#));
        }
        served.abort();
    }
}
