//! What a node answers for its fleet over HTTP, by docs/triton.md's table.

use http::{Method, Response, StatusCode};
use plimsoll_proto::inference::system_shared_memory_status_response::RegionStatus;

use super::fake::rest::{Rest, both, rest, send};
use super::fake::world::{World, world};
use super::fake::{Pod, eventually};
use bytes::Bytes;

async fn ask(world: &World, method: Method, path: &str, what: &str, body: &'static str) -> Response<Bytes> {
    send(&world.addr, rest(method, path, what, body)).await
}

async fn get(world: &World, path: &str) -> (StatusCode, String) {
    let answer = ask(world, Method::GET, path, "echo", "").await;
    (answer.status(), String::from_utf8_lossy(answer.body()).into_owned())
}

/// A node is what probes ask whether the fleet is there: yes if any pod is.
#[tokio::test]
async fn the_fleet_is_ready_while_any_pod_is() {
    let ((a, _rest_a), (b, _rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    assert_eq!(get(&world, "/v2/health/live").await, (StatusCode::OK, String::new()));
    a.set_ready(false);
    assert_eq!(get(&world, "/v2/health/ready").await, (StatusCode::OK, String::new()));
    b.set_ready(false);
    assert_eq!(get(&world, "/v2/health/ready").await, (StatusCode::BAD_REQUEST, String::new()));
    assert_eq!(get(&world, "/v2/health/live").await, (StatusCode::OK, String::new()));
}

/// One pod's no is no answer while another says yes; where all say no the words are theirs.
#[tokio::test]
async fn a_model_is_ready_where_any_pod_says_so() {
    let ((a, _rest_a), (b, _rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    for (what, status) in
        [("status-400-not ready@a", 200), ("status-400-not ready@b", 200), ("status-400-not ready", 400)]
    {
        for path in ["/v2/models/m/ready", "/v2/models/m/versions/1/ready", "/v2/models/m/config", "/v2"] {
            let answer = ask(&world, Method::GET, path, what, "").await;
            assert_eq!(answer.status().as_u16(), status, "{what} {path}");
            assert_eq!(answer.body(), if status == 400 { "{\"error\":\"not ready\"}" } else { "" });
        }
    }
}

/// Tools take differences of two statistics: one pod's would jump to and fro.
#[tokio::test]
async fn statistics_and_indexes_are_of_all_pods() {
    let ((a, _rest_a), (b, _rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let (status, text) = get(&world, "/v2/models/m/stats").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.starts_with(r#"{"model_stats":[{"name":"m","version":"","last_inference":0,"#), "{text}");
    assert!(text.contains(r#""compute_infer":{"count":200,"ns":8000000000}"#), "{text}");
    assert_eq!(get(&world, "/v2/models/stats").await, (status, text));
    let unknown = (StatusCode::BAD_REQUEST, r#"{"error":"requested model 'x' is not available"}"#.to_owned());
    assert_eq!(get(&world, "/v2/models/x/stats").await, unknown);
    a.server().models.insert("m".into(), "READY".into());
    b.server().models.insert("m".into(), "UNAVAILABLE".into());
    b.server().models.insert("n".into(), "UNAVAILABLE".into());
    let index = r#"[{"name":"m","version":"1","state":"READY"},{"name":"n","version":"1","state":"UNAVAILABLE","reason":"unloaded"}]"#;
    for body in ["", "{}", "{\"ready\":false}"] {
        let answer = ask(&world, Method::POST, "/v2/repository/index", "echo", body).await;
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, index.as_bytes()));
    }
    // What makes no sense is judged by a pod.
    let answer = ask(&world, Method::POST, "/v2/repository/index", "status-500-bad JSON", "{").await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (500, &b"{\"error\":\"bad JSON\"}"[..]));
}

/// Regions that some pod knows are told as a Triton lists its own.
#[tokio::test]
async fn regions_of_all_pods_are_listed() {
    let ((a, _rest_a), (b, _rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let region = |name: &str| RegionStatus { name: name.into(), key: format!("/{name}"), offset: 0, byte_size: 64 };
    a.server().regions.insert("r".into(), region("r"));
    b.server().regions.insert("s".into(), region("s"));
    let all =
        r#"[{"name":"r","key":"/r","offset":0,"byte_size":64},{"name":"s","key":"/s","offset":0,"byte_size":64}]"#;
    assert_eq!(get(&world, "/v2/systemsharedmemory/status").await, (StatusCode::OK, all.to_owned()));
    let one = r#"[{"name":"s","key":"/s","offset":0,"byte_size":64}]"#;
    assert_eq!(get(&world, "/v2/systemsharedmemory/region/s/status").await, (StatusCode::OK, one.to_owned()));
    let none = r#"{"error":"Unable to find system shared memory region: 'x'"}"#;
    assert_eq!(get(&world, "/v2/systemsharedmemory/region/x/status").await, (StatusCode::NOT_FOUND, none.to_owned()));
}

async fn asked_of(rests: &[&Rest], world: &World, path: &str, what: &str) -> Vec<Vec<String>> {
    ask(world, Method::POST, path, what, "{}").await;
    rests.iter().map(|rest| rest.asked()).collect()
}

/// Half a fleet with a model would fail half of its requests.
#[tokio::test]
async fn changes_go_to_all_pods_unless_they_are_pinned() {
    let ((a, rest_a), (b, rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let mut expected: Vec<String> = Vec::new();
    for path in [
        "/v2/repository/models/m/load",
        "/v2/repository/models/m/unload",
        "/v2/trace/setting",
        "/v2/models/m/trace/setting",
        "/v2/logging",
        "/v2/systemsharedmemory/region/r/register",
        "/v2/cudasharedmemory/region/r/unregister",
    ] {
        expected.push(format!("POST {path}"));
        let asked = asked_of(&[&rest_a, &rest_b], &world, path, "echo").await;
        assert_eq!(asked, [expected.clone(), expected.clone()]);
        assert_eq!(rest_b.last().1, "{}");
    }
    let mut pinned = rest(Method::POST, "/v2/repository/models/m/load", "echo", "{}");
    pinned.headers_mut().insert("plimsoll-pod", "b".parse().unwrap());
    assert_eq!(send(&world.addr, pinned).await.headers()["plimsoll-pod"], "b");
    assert_eq!((rest_a.requests(), rest_b.requests()), (7, 8));
}

/// What only some pods did is an error that names them; what all say alike is said as one Triton says it.
#[tokio::test]
async fn a_change_that_fails_somewhere_names_the_pod() {
    let ((a, rest_a), (b, rest_b)) = (both("a").await, both("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let answer = ask(&world, Method::POST, "/v2/logging", "status-400-no such level@b", "{}").await;
    let text = r#"{"error":"1 of 2 pods failed: `b`: no such level"}"#;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (400, text.as_bytes()));
    let answer = ask(&world, Method::POST, "/v2/logging", "status-418-a teapot", "{}").await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (418, &br#"{"error":"a teapot"}"#[..]));
    // Memory that one pod cannot open is given back by the others.
    let path = "/v2/systemsharedmemory/region/r/register";
    let answer = ask(&world, Method::POST, path, "status-500-Unable to open shared memory region: '/r'@a", "{}").await;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert_eq!(answer.status().as_u16(), 500);
    assert!(text.contains("; undone on the others. Memory serves a fleet where all pods can open it"), "{text}");
    eventually("it is undone", || rest_b.asked().last().unwrap() == "POST /v2/systemsharedmemory/region/r/unregister")
        .await;
    assert_eq!(rest_a.asked().last().unwrap(), &format!("POST {path}"));
    let answer =
        ask(&world, Method::POST, path, "status-400-shared memory region 'r' already in manager@a", "{}").await;
    assert!(String::from_utf8_lossy(answer.body()).contains("Unregister it first"), "{answer:?}");
}

/// A question over the limit must not be held, and a fleet of one is that pod.
#[tokio::test]
async fn questions_are_bounded_and_one_pod_answers_for_itself() {
    let ((a, rest_a), (b, _rest_b)) = (both("a").await, both("b").await);
    let two = world(&[&a, &b], |_| {}).await;
    let answer = send(&two.addr, rest(Method::POST, "/v2/logging", "echo", vec![b' '; 70_000])).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body(), "{\"error\":\"a body of 70000 bytes is over the limit of 65536 bytes\"}");
    let one = world(&[&a], |_| {}).await;
    let answer = send(&one.addr, rest(Method::POST, "/v2/logging", "status-418-mine", vec![b' '; 70_000])).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-pod"]), (418, &"a".parse().unwrap()));
    assert_eq!(rest_a.requests(), 1);
    let nobody: [&Pod; 0] = [];
    let none = world(&nobody, |_| {}).await;
    assert_eq!(get(&none, "/v2/models/m/config").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&none, "/v2/health/live").await.0, StatusCode::OK);
}
