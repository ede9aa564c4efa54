//! What the fleet answers as one server: statistics, repository, shared memory, settings, and requests that are pinned.

use std::time::Duration;

use std::collections::BTreeMap;

use http::HeaderValue;
use plimsoll_proto::inference::{
    InferStatistics, LogSettingsRequest, ModelMetadataRequest, ModelStatistics, ModelStatisticsRequest,
    ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest, ServerMetadataResponse, StatisticDuration, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryStatusRequest, SystemSharedMemoryUnregisterRequest, TraceSettingRequest, trace_setting_request,
};
use prost::Message;
use tonic::Code;

use super::fake::{Answered, Pod, eventually, framed, grpc_request, gzipped, post, whole};
use super::{World, world_of};

/// Three pods and a node before them.
async fn fleet() -> ([Pod; 3], World) {
    let pods = [Pod::start("a").await, Pod::start("b").await, Pod::start("c").await];
    // What the node asks by itself would be counted with what callers ask.
    let world =
        world_of(&[&pods[0], &pods[1], &pods[2]], |config| config.health.interval = Duration::ZERO, |_| {}).await;
    (pods, world)
}

async fn ask(world: &World, method: &str, message: &impl Message) -> Answered {
    ask_with(world, method, message, &[]).await
}

async fn ask_with(world: &World, method: &str, message: &impl Message, headers: &[(&'static str, &str)]) -> Answered {
    let mut request = grpc_request(method, "echo", whole(framed(message)));
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    post(world.addr.clone(), request).await
}

fn said<M: Message + Default>(answer: &Answered) -> M {
    assert_eq!(answer.status(), (Code::Ok, String::new()));
    M::decode(&answer.body[5..]).unwrap()
}

fn refused(answer: &Answered, code: Code) -> String {
    let (said, text) = answer.status();
    assert_eq!(said, code, "{text}");
    assert!(answer.body.is_empty());
    text
}

fn asked(pods: &[Pod]) -> Vec<usize> {
    pods.iter().map(|pod| pod.server().asked.len()).collect()
}

fn forget(pods: &[Pod]) {
    pods.iter().for_each(|pod| pod.server().asked.clear());
}

/// Which pod served it, as the answer says.
fn served_by(answer: &Answered) -> &str {
    answer.head.headers.get("plimsoll-pod").map_or("", |pod| pod.to_str().unwrap())
}

fn counted(name: &str, count: u64) -> ModelStatistics {
    let success = Some(StatisticDuration { count, ns: 10 * count });
    let inference_stats = Some(InferStatistics { success, ..InferStatistics::default() });
    ModelStatistics { name: name.into(), inference_count: count, inference_stats, ..ModelStatistics::default() }
}

fn statistics_of(name: &str) -> ModelStatisticsRequest {
    ModelStatisticsRequest { name: name.into(), version: String::new() }
}

fn load(model: &str) -> RepositoryModelLoadRequest {
    RepositoryModelLoadRequest { model_name: model.into(), ..RepositoryModelLoadRequest::default() }
}

fn region(name: &str) -> SystemSharedMemoryRegisterRequest {
    SystemSharedMemoryRegisterRequest { name: name.into(), key: format!("/{name}"), offset: 0, byte_size: 64 }
}

fn regions_at(pods: &[Pod]) -> Vec<Vec<String>> {
    pods.iter().map(|pod| pod.server().regions.keys().cloned().collect()).collect()
}

// ---- statistics ----

/// One pod's counters are a third of the truth, and another third at the next question: rates out of them mean nothing.
#[tokio::test]
async fn statistics_are_those_of_all_pods() {
    let (pods, world) = fleet().await;
    for (pod, count) in pods.iter().zip([1, 20, 300]) {
        pod.server().statistics = vec![counted("everywhere", count)];
    }
    pods[1].server().statistics.push(counted("on-b", 7));

    let all: ModelStatisticsResponse = said(&ask(&world, "ModelStatistics", &statistics_of("")).await);
    assert_eq!(all.model_stats, [counted("everywhere", 321), counted("on-b", 7)]);
    // A pod without the model counts nothing of it.
    let one: ModelStatisticsResponse = said(&ask(&world, "ModelStatistics", &statistics_of("on-b")).await);
    assert_eq!(one.model_stats, [counted("on-b", 7)]);
    // What nobody has is said as a single server says it.
    let text = refused(&ask(&world, "ModelStatistics", &statistics_of("x")).await, Code::InvalidArgument);
    assert_eq!(text, "requested model 'x' is not available");
}

/// A measuring tool takes the difference of two answers: a pod that is missing in the second makes it negative. So a pod that
/// does not say what it counted is an error, by name; one that died counts nothing any more.
#[tokio::test]
async fn statistics_lack_no_pod_that_lives() {
    let (pods, world) = fleet().await;
    for pod in &pods {
        pod.server().statistics = vec![counted("m", 5)];
    }
    pods[1].server().failing.insert("ModelStatistics", "14-Server exiting");
    let text = refused(&ask(&world, "ModelStatistics", &statistics_of("m")).await, Code::Unavailable);
    assert_eq!(text, "1 of 3 pods failed: `b`: Server exiting");

    pods[1].kill().await;
    let rest: ModelStatisticsResponse = said(&ask(&world, "ModelStatistics", &statistics_of("m")).await);
    assert_eq!(rest.model_stats, [counted("m", 10)]);
}

/// An ejected pod gets no requests, but it has counted those that it got: leaving it out would be the same hole.
#[tokio::test]
async fn an_ejected_pod_that_lives_takes_part() {
    let (pods, world) = fleet().await;
    for pod in &pods {
        pod.server().statistics = vec![counted("m", 5)];
    }
    world.node.picker().pods()[2].eject();
    let all: ModelStatisticsResponse = said(&ask(&world, "ModelStatistics", &statistics_of("m")).await);
    assert_eq!(all.model_stats, [counted("m", 15)]);
}

// ---- any pod ----

/// A model may be on one pod only: whoever is asked first and does not have it must not decide.
#[tokio::test]
async fn a_model_is_described_by_a_pod_that_has_it() {
    let (pods, world) = fleet().await;
    pods[1].server().models.insert("m".into(), "READY".into());
    let metadata = |name: &str| ModelMetadataRequest { name: name.into(), version: String::new() };
    for _ in 0..3 {
        let answer = ask_with(&world, "ModelMetadata", &metadata("m"), &[("x-tenant", "-of-t")]).await;
        assert_eq!(served_by(&answer), "b");
        assert_eq!(answer.status().0, Code::Ok);
    }
    assert!(pods[1].server().asked.iter().all(|asked| asked == "ModelMetadata-of-t"), "metadata passes");
    let text = refused(&ask(&world, "ModelMetadata", &metadata("x")).await, Code::NotFound);
    assert_eq!(text, "Request for unknown model: 'x' is not found");

    // One pod is enough where it has an answer, and it is not always the same.
    forget(&pods);
    for pod in &pods {
        pod.server().models.insert("m".into(), "READY".into());
    }
    for _ in 0..6 {
        ask(&world, "ModelMetadata", &metadata("m")).await;
    }
    assert_eq!(asked(&pods), [2, 2, 2]);
}

#[tokio::test]
async fn a_pod_that_is_gone_is_no_obstacle_to_a_question() {
    let (pods, world) = fleet().await;
    pods[0].kill().await;
    for _ in 0..3 {
        let server: ServerMetadataResponse = said(&ask(&world, "ServerMetadata", &()).await);
        assert!(["b", "c"].contains(&&*server.name));
    }
    assert!(world.node.picker().pods()[0].is_ejected());
    pods[1].kill().await;
    pods[2].kill().await;
    let text = refused(&ask(&world, "ServerMetadata", &()).await, Code::Unavailable);
    assert!(text.starts_with("2 of 2 pods failed: ") && text.contains("`b`: ") && text.contains("`c`: "), "{text}");
}

// ---- the repository ----

#[tokio::test]
async fn the_index_is_of_all_pods() {
    let (pods, world) = fleet().await;
    pods[0].server().models = [("m", "UNAVAILABLE"), ("n", "UNAVAILABLE")].map(|(m, s)| (m.into(), s.into())).into();
    pods[1].server().models = [("m", "READY"), ("o", "LOADING")].map(|(m, s)| (m.into(), s.into())).into();
    pods[2].server().failing.insert("RepositoryIndex", "14-Server exiting");
    let index: RepositoryIndexResponse =
        said(&ask(&world, "RepositoryIndex", &RepositoryIndexRequest::default()).await);
    let models: Vec<_> = index.models.iter().map(|m| (&*m.name, &*m.state, &*m.reason)).collect();
    assert_eq!(models, [("m", "READY", ""), ("n", "UNAVAILABLE", "unloaded"), ("o", "LOADING", "")]);
}

/// A model loaded on one pod of three would answer a third of its requests.
#[tokio::test]
async fn a_model_is_loaded_and_unloaded_everywhere() {
    let (pods, world) = fleet().await;
    assert_eq!(ask(&world, "RepositoryModelLoad", &load("m")).await.status().0, Code::Ok);
    assert!(pods.iter().all(|pod| pod.server().models["m"] == "READY"));
    let unload = RepositoryModelUnloadRequest { model_name: "m".into(), ..RepositoryModelUnloadRequest::default() };
    assert_eq!(ask(&world, "RepositoryModelUnload", &unload).await.status().0, Code::Ok);
    assert!(pods.iter().all(|pod| pod.server().models["m"] == "UNAVAILABLE"));
}

/// All at once, a model that cannot be loaded would be tried, and lost, on every pod.
#[tokio::test]
async fn one_pod_loads_before_the_others() {
    let (pods, world) = fleet().await;
    pods[0]
        .server()
        .failing
        .insert("RepositoryModelLoad", "13-failed to load 'm', failed to poll from model repository");
    let answer = ask(&world, "RepositoryModelLoad", &load("m")).await;
    assert_eq!(refused(&answer, Code::Internal), "failed to load 'm', failed to poll from model repository");
    assert_eq!(served_by(&answer), "a");
    assert_eq!(asked(&pods), [1, 0, 0]);

    // The second that fails is told apart from those that did not.
    forget(&pods);
    pods[0].server().failing.clear();
    pods[2].server().failing.insert("RepositoryModelLoad", "3-load failed for model 'm': no memory");
    let text = refused(&ask(&world, "RepositoryModelLoad", &load("m")).await, Code::InvalidArgument);
    assert_eq!(text, "1 of 3 pods failed: `c`: load failed for model 'm': no memory; the others have loaded it");
    assert_eq!(asked(&pods), [1, 1, 1]);
    assert_eq!(pods[1].server().models["m"], "READY");
}

/// A caller that gives up in the middle would else leave half a fleet loaded. It gets its deadline's status, as from a Triton
/// that loads on.
#[tokio::test]
async fn a_change_goes_on_without_its_caller() {
    let (pods, world) = fleet().await;
    pods[0].server().stalling.push("RepositoryModelLoad");
    let answer = ask_with(&world, "RepositoryModelLoad", &load("m"), &[("grpc-timeout", "200m")]).await;
    refused(&answer, Code::DeadlineExceeded);
    assert_eq!(asked(&pods), [1, 0, 0]);
    pods[0].release();
    eventually("all pods loaded it", || pods.iter().all(|pod| pod.server().models.contains_key("m"))).await;
}

/// A pod that is gone will start again with what it is configured to load: it is told of once, then it is left out.
#[tokio::test]
async fn a_pod_that_is_gone_fails_a_change_once() {
    let (pods, world) = fleet().await;
    pods[0].kill().await;
    let text = refused(&ask(&world, "RepositoryModelLoad", &load("m")).await, Code::Unavailable);
    assert!(text.starts_with("1 of 3 pods failed: `a`: ") && text.ends_with("; the others have loaded it"), "{text}");
    assert!(pods[1..].iter().all(|pod| pod.server().models["m"] == "READY"));
    assert_eq!(ask(&world, "RepositoryModelLoad", &load("n")).await.status().0, Code::Ok);
}

// ---- shared memory ----

/// A request that uses a region meets any pod: all have to know it.
#[tokio::test]
async fn memory_is_registered_on_all_pods_and_unregistered_on_all() {
    let (pods, world) = fleet().await;
    assert_eq!(ask(&world, "SystemSharedMemoryRegister", &region("r")).await.status().0, Code::Ok);
    assert_eq!(regions_at(&pods), [["r"], ["r"], ["r"]]);
    // Twice is said as one server says it.
    let text = refused(&ask(&world, "SystemSharedMemoryRegister", &region("r")).await, Code::AlreadyExists);
    assert_eq!(text, "shared memory region 'r' already in manager");
    let forget = SystemSharedMemoryUnregisterRequest { name: "r".into() };
    assert_eq!(ask(&world, "SystemSharedMemoryUnregister", &forget).await.status().0, Code::Ok);
    assert_eq!(regions_at(&pods), [[""; 0]; 3]);
}

/// Registered on two of three pods, every third request would fail: better none, with a word on what to do.
#[tokio::test]
async fn memory_that_one_pod_cannot_open_is_registered_on_none() {
    let (pods, world) = fleet().await;
    pods[1].server().is_remote = true;
    let text = refused(&ask(&world, "SystemSharedMemoryRegister", &region("r")).await, Code::Internal);
    let reason = "1 of 3 pods failed: `b`: Unable to open shared memory region: '/r'; undone on the others.";
    assert!(text.starts_with(reason) && text.contains("`plimsoll-pod: NAME`"), "{text}");
    assert_eq!(regions_at(&pods), [[""; 0]; 3]);

    // Compressed, too: the name has to be found to be undone.
    let mut request = grpc_request("SystemSharedMemoryRegister", "echo", whole(gzipped(&region("r"))));
    request.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
    refused(&post(world.addr.clone(), request).await, Code::Internal);
    assert_eq!(regions_at(&pods), [[""; 0]; 3]);

    // What no pod can open is said as one server says it.
    for pod in &pods {
        pod.server().is_remote = true;
    }
    let text = refused(&ask(&world, "SystemSharedMemoryRegister", &region("r")).await, Code::Internal);
    assert_eq!(text, "Unable to open shared memory region: '/r'");
}

/// The remedy that is named has to work: a pinned region is on one pod, and the status tells of it.
#[tokio::test]
async fn memory_can_be_pinned_to_one_pod() {
    let (pods, world) = fleet().await;
    let pinned = [("plimsoll-pod", "b")];
    let answer = ask_with(&world, "SystemSharedMemoryRegister", &region("r"), &pinned).await;
    assert_eq!((answer.status().0, served_by(&answer)), (Code::Ok, "b"));
    assert_eq!(regions_at(&pods), [vec![], vec!["r".to_owned()], vec![]]);
    let status = |name: &str| SystemSharedMemoryStatusRequest { name: name.into() };
    for name in ["", "r"] {
        let all: plimsoll_proto::inference::SystemSharedMemoryStatusResponse =
            said(&ask(&world, "SystemSharedMemoryStatus", &status(name)).await);
        assert_eq!(all.regions["r"].key, "/r");
    }
    let text = refused(&ask(&world, "SystemSharedMemoryStatus", &status("x")).await, Code::NotFound);
    assert_eq!(text, "Unable to find system shared memory region: 'x'");
    // Some know it, some do not: that must not look like memory on another machine.
    let text = refused(&ask(&world, "SystemSharedMemoryRegister", &region("r")).await, Code::AlreadyExists);
    assert!(text.contains("Unregister it first"), "{text}");
    assert_eq!(regions_at(&pods), [vec![], vec!["r".to_owned()], vec![]]);
}

// ---- settings ----

fn trace(settings: &[(&str, &str)]) -> TraceSettingRequest {
    let value = |value: &str| trace_setting_request::SettingValue { value: vec![value.to_owned()] };
    let settings = settings.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
    TraceSettingRequest { settings, model_name: String::new() }
}

/// Who reads asks one pod; who writes means all, whether the client compresses its requests or not.
#[tokio::test]
async fn settings_are_read_from_any_pod_and_written_to_all() {
    let (pods, world) = fleet().await;
    ask(&world, "TraceSetting", &trace(&[])).await;
    ask(&world, "LogSettings", &LogSettingsRequest::default()).await;
    assert_eq!(asked(&pods).iter().sum::<usize>(), 2);

    assert_eq!(ask(&world, "TraceSetting", &trace(&[("trace_rate", "7")])).await.status().0, Code::Ok);
    let mut request = grpc_request("TraceSetting", "echo", whole(gzipped(&trace(&[("trace_count", "9")]))));
    request.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
    assert_eq!(post(world.addr.clone(), request).await.status().0, Code::Ok);
    let expected: BTreeMap<String, String> =
        [("trace_rate", "7"), ("trace_count", "9")].map(|(k, v)| (k.into(), v.into())).into();
    assert!(pods.iter().all(|pod| pod.server().settings == expected));

    pods[2].server().failing.insert("TraceSetting", "3-no such file");
    let text = refused(&ask(&world, "TraceSetting", &trace(&[("trace_rate", "8")])).await, Code::InvalidArgument);
    assert_eq!(text, "1 of 3 pods failed: `c`: no such file");
}

// ---- pinned, alone, unknown, too large ----

/// Whoever debugs one pod wants that pod's answer, whatever the fleet would say.
#[tokio::test]
async fn a_pinned_question_goes_to_its_pod_alone() {
    let (pods, world) = fleet().await;
    for (pod, count) in pods.iter().zip([1, 20, 300]) {
        pod.server().statistics = vec![counted("m", count)];
    }
    let pinned = [("plimsoll-pod", "b")];
    let answer = ask_with(&world, "ModelStatistics", &statistics_of("m"), &pinned).await;
    assert_eq!(said::<ModelStatisticsResponse>(&answer).model_stats, [counted("m", 20)]);
    assert_eq!((served_by(&answer), asked(&pods)), ("b", vec![0, 1, 0]));
    ask_with(&world, "RepositoryModelLoad", &load("m"), &pinned).await;
    assert_eq!(asked(&pods), [0, 2, 0]);
    pods[1].set_ready(false);
    for (pod, ready) in [("a", 1), ("b", 0)] {
        let answer = ask_with(&world, "ServerReady", &(), &[("plimsoll-pod", pod)]).await;
        assert_eq!(answer.body[..], [0, 0, 0, 0, 2, 8, ready]);
    }
    let text = refused(
        &ask_with(&world, "ModelStatistics", &statistics_of("m"), &[("plimsoll-pod", "z")]).await,
        Code::InvalidArgument,
    );
    assert_eq!(text, "`plimsoll-pod: z` names no pod of this fleet: they are `a`, `b`, `c`");
}

/// A fleet of one is that pod: nothing is put together, nothing is read, every byte and word passes.
#[tokio::test]
async fn a_fleet_of_one_passes_everything_as_it_is() {
    let pod = Pod::start("a").await;
    let world = world_of(&[&pod], |config| config.health.interval = Duration::ZERO, |_| {}).await;
    let answer = ask(&world, "ModelStatistics", &statistics_of("m")).await;
    assert_eq!(said::<ModelStatisticsResponse>(&answer).model_stats, pod.server().statistics);
    assert_eq!((served_by(&answer), &answer.head.headers["x-pod"]), ("a", &HeaderValue::from_static("a")));
    pod.server().failing.insert("RepositoryModelLoad", "13-failed to load");
    assert_eq!(refused(&ask(&world, "RepositoryModelLoad", &load("m")).await, Code::Internal), "failed to load");
}

/// What a newer Triton knows and this node does not is for the pods to answer.
#[tokio::test]
async fn an_unknown_method_is_a_pods_to_answer() {
    let (_pods, world) = fleet().await;
    let request = grpc_request("NotYetInvented", "status-12-no such method", whole(framed(&())));
    assert_eq!(refused(&post(world.addr.clone(), request).await, Code::Unimplemented), "no such method");
}

/// What is held here as a whole is small, but for a load, which brings files with it; nothing is said twice.
#[tokio::test]
async fn a_question_that_is_too_large_reaches_no_pod() {
    let (pods, world) = fleet().await;
    let long = "x".repeat(70_000);
    let text = refused(&ask(&world, "ModelStatistics", &statistics_of(&long)).await, Code::ResourceExhausted);
    assert!(text.ends_with("bytes is over the limit of 65536 bytes"), "{text}");
    let request = grpc_request("ModelStatistics", "echo", whole([framed(&()), framed(&())].concat().into()));
    let text = refused(&post(world.addr.clone(), request).await, Code::InvalidArgument);
    assert_eq!(text, "more follows the request's one message of 5 bytes");
    assert_eq!(asked(&pods), [0; 3]);
    assert_eq!(ask(&world, "RepositoryModelLoad", &load(&long)).await.status().0, Code::Ok);
    assert_eq!(asked(&pods), [1; 3]);
}

/// A caller's deadline holds for questions as for requests, and pods are not asked on behind its back.
#[tokio::test]
async fn a_question_ends_with_its_callers_deadline() {
    let (pods, world) = fleet().await;
    pods[1].server().stalling.push("ModelStatistics");
    let answer = ask_with(&world, "ModelStatistics", &statistics_of("m"), &[("grpc-timeout", "200m")]).await;
    assert_eq!(refused(&answer, Code::DeadlineExceeded), "deadline exceeded");
    // The pod is not waited for any more: its next answer is the next question's.
    pods[1].server().stalling.clear();
    assert_eq!(ask(&world, "ModelStatistics", &statistics_of("m")).await.status().0, Code::Ok);
}

/// The library's channel is the same fleet.
#[tokio::test]
async fn the_channel_answers_for_the_fleet_too() {
    let (pods, world) = fleet().await;
    for pod in &pods {
        pod.server().statistics = vec![counted("m", 5)];
    }
    let mut client = super::Client::new(world.node.channel("m"));
    let all = client.model_statistics(statistics_of("m")).await.unwrap().into_inner();
    assert_eq!(all.model_stats, [counted("m", 15)]);
    let mut pinned = tonic::Request::new(statistics_of("m"));
    pinned.metadata_mut().insert("plimsoll-pod", "c".parse().unwrap());
    let answer = client.model_statistics(pinned).await.unwrap();
    assert_eq!(answer.metadata().get("plimsoll-pod").unwrap(), "c");
    assert_eq!(answer.into_inner().model_stats, [counted("m", 5)]);
}
