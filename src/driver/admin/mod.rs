//! The admin API: what this node believes, over HTTP, for people, probes and Prometheus; and the one thing it can be told, to drain.
//!
//! A request's body is never read, and every answer but `/metrics` is JSON.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text |
//! | `/v1/view` | what it believes about pods ([`crate::observe::View`]), and what it says of its shared state as `state`, if any |
//! | `/v1/members` | what it believes about members (a list of [`crate::observe::MemberView`]) |
//! | `/v1/drain` | how far its drain is; a POST begins it |
//! | `/health/live` | 200 while the process runs |
//! | `/health/ready` | 200 where a request could be served: some pod is not ejected and the node does not drain |
//!
//! Pages in a browser can change nothing, and learn nothing by a name of their own (`browsers.rs`).
//!
//! Where a token or callers' certificates are configured, all but `/health/` needs one of them; Kubernetes' probes have neither.

pub(crate) mod access;
mod browsers;
mod serve;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::info;

pub use self::access::{Token, TokenError};
use self::serve::{Caller, serve};
use super::drain::{Drain, Stage};
use super::metrics::Metrics;
use super::tls::ServerTls;
use crate::node::Node;
use crate::observe::View;
use crate::redis::StateView;

const HAS_LEFT: &str = "this node has left";

/// What the admin API answers from.
#[derive(Clone)]
pub struct Admin {
    node: Node,
    metrics: Metrics,
    drain: Drain,
    token: Option<Token>,
    tls: Option<ServerTls>,
    open_metrics: bool,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("drain", &self.drain.stage()).finish_non_exhaustive()
    }
}

impl Admin {
    /// An admin API of `node`, for everybody who reaches it. Once `drain` has begun it is not ready.
    pub fn new(node: Node, metrics: Metrics, drain: Drain) -> Admin {
        Admin { node, metrics, drain, token: None, tls: None, open_metrics: false }
    }

    /// The same for those who have `token`, in a header `Authorization: Bearer TOKEN`.
    #[must_use]
    pub fn token(self, token: Token) -> Admin {
        Admin { token: Some(token), ..self }
    }

    /// The same over TLS. Where `tls` knows callers' certificates, one of them is as good as the token.
    #[must_use]
    pub fn tls(self, tls: ServerTls) -> Admin {
        Admin { tls: Some(tls), ..self }
    }

    /// The same with `/metrics` open to everybody, for scrapers without a token.
    #[must_use]
    pub fn open_metrics(self) -> Admin {
        Admin { open_metrics: true, ..self }
    }

    /// Serves until `shutdown` resolves and the answers under way are sent.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) {
        // Ends with this.
        let mut followed = JoinSet::new();
        if let Some(token) = self.token.clone() {
            followed.spawn(token.follow());
        }
        if let Some(tls) = self.tls.clone() {
            followed.spawn(tls.follow());
        }
        serve(listener, self.tls.clone(), self.router(), shutdown).await;
    }

    /// The routes, for programs that serve them beside their own.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/v1/view", get(view))
            .route("/v1/members", get(members))
            .route("/v1/drain", get(drain).post(begin_drain))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .fallback(unknown_path)
            .method_not_allowed_fallback(wrong_method)
            // No request here has a body.
            .layer(DefaultBodyLimit::max(0))
            .layer(from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }

    /// Whether everybody is told what stands at `path`.
    fn is_open(&self, path: &str) -> bool {
        path.starts_with("/health/") || (self.open_metrics && path == "/metrics")
    }

    fn lets_in(&self, request: &Request) -> bool {
        if !self.is_guarded() {
            return true;
        }
        let caller = request.extensions().get::<ConnectInfo<Caller>>();
        let presented = request.headers().get(AUTHORIZATION).and_then(|header| bearer(header.as_bytes()));
        let has_token = self.token.as_ref().zip(presented).is_some_and(|(token, presented)| token.is(presented));
        has_token || caller.is_some_and(|ConnectInfo(caller)| caller.is_certified)
    }

    fn is_guarded(&self) -> bool {
        self.token.is_some() || self.tls.as_ref().is_some_and(ServerTls::knows_callers)
    }
}

/// The token in the value of an `Authorization` header. The scheme's name is spelled as one likes.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if let Some(why) = browsers::is_forged(&request) {
        let text =
            format!("this looks like a request that a page in a browser makes (`{why}`): nothing is changed by those");
        return error(StatusCode::FORBIDDEN, text);
    }
    if admin.is_open(request.uri().path()) {
        return next.run(request).await;
    }
    // Where a token or a certificate is needed, a page of another name has none.
    if let Some(name) = browsers::foreign_name(&request).filter(|_| !admin.is_guarded()) {
        let text =
            format!("`{name}` may be anybody's name: ask by an IP address or as localhost, or give this API a token");
        return error(StatusCode::MISDIRECTED_REQUEST, text);
    }
    if admin.lets_in(&request) {
        return next.run(request).await;
    }
    let what = match &admin.token {
        Some(_) => "the header `Authorization: Bearer TOKEN` with this node's admin token (plimsoll: --token-file)",
        None => "a client certificate",
    };
    let mut refusal = error(StatusCode::UNAUTHORIZED, format!("`{}` needs {what}", request.uri().path()));
    refusal.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    refusal
}

/// The view, and who decides picks where that is not the view alone.
#[derive(serde::Serialize)]
struct Whole {
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StateView>,
}

impl Whole {
    fn of(node: &Node, view: View) -> Whole {
        #[cfg(feature = "redis")]
        let state = node.state();
        #[cfg(not(feature = "redis"))]
        let state = {
            let _ = node;
            None
        };
        Whole { view, state }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.render(&admin.node).await {
        Some(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        None => has_left(),
    }
}

async fn view(State(admin): State<Admin>) -> Response {
    admin.node.view().await.map_or_else(has_left, |view| Json(Whole::of(&admin.node, view)).into_response())
}

async fn members(State(admin): State<Admin>) -> Response {
    Json(admin.node.members().await).into_response()
}

async fn drain(State(admin): State<Admin>) -> Response {
    Json(json!({ "stage": admin.drain.stage(), "in_flight": admin.node.in_flight() })).into_response()
}

async fn begin_drain(State(admin): State<Admin>) -> Response {
    if admin.drain.begin() {
        info!("told by the admin API to drain");
    }
    drain(State(admin)).await
}

async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    let draining = admin.drain.stage() > Stage::Serving;
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
        format!("no such path: `{}`; see /v1/view, /v1/members, /v1/drain, /metrics, /health/ready", uri.path()),
    )
}

fn has_left() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, HAS_LEFT.to_owned())
}

async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here, and POST at /v1/drain".to_owned())
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
        let request =
            format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
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
        let drain = Drain::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin::new(node.clone(), Metrics::new(), drain.clone());
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
        assert_eq!(ask(address, "GET /v1/drain").await.2, r#"{"in_flight":0,"stage":"serving"}"#);
        assert_eq!(ask(address, "POST /v1/drain").await.2, r#"{"in_flight":0,"stage":"draining"}"#);
        assert_eq!(drain.stage(), Stage::Draining);
        assert_eq!(
            ask(address, "GET /health/ready").await.2,
            r#"{"ready":false,"reason":"draining: this node is leaving"}"#
        );

        let (status, content_type, body) = ask(address, "GET /v2/models").await;
        assert_eq!((status, content_type.as_str()), (404, "application/json"));
        assert!(body.starts_with(r#"{"error":"no such path: `/v2/models`;"#), "{body}");
        let (status, _, body) = ask(address, "POST /v1/view").await;
        assert_eq!((status, body.as_str()), (405, r#"{"error":"only GET is served here, and POST at /v1/drain"}"#));

        node.leave(std::time::Duration::ZERO).await;
        for path in ["/v1/view", "/metrics"] {
            let (status, _, body) = ask(address, &format!("GET {path}")).await;
            assert_eq!((status, body.as_str()), (503, r#"{"error":"this node has left"}"#));
        }
        served.abort();
    }
}
