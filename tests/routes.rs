//! Where requests go that may not go anywhere: pins, sequences, keys; and what happens to those that fail, wait or come late.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[allow(dead_code, reason = "each suite uses its part")]
mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use fake::world::{World, infer, world};
use fake::{Pod, eventually};
use plimsoll::driver::metrics::Metrics;
use plimsoll::forward::{Affinity, FrontOptions, ModelOptions};
use plimsoll::observe::{Cost, PodSpec};
use plimsoll::pick::Request;
use plimsoll_proto::inference::infer_parameter::ParameterChoice;
use plimsoll_proto::inference::{InferParameter, ModelConfig, ModelInferRequest};
use tonic::{Code, Status};

async fn pods(names: &[&str]) -> Vec<Pod> {
    let mut pods = Vec::new();
    for name in names {
        pods.push(Pod::start(name).await);
    }
    pods
}

async fn world_of(pods: &[Pod], adjust: impl FnOnce(&mut FrontOptions)) -> World {
    world(&pods.iter().collect::<Vec<_>>(), adjust).await
}

/// Options for model `m`.
fn of_m(adjust: impl FnOnce(&mut ModelOptions)) -> impl FnOnce(&mut FrontOptions) {
    move |options| adjust(options.forward.models.entry("m".into()).or_default())
}

fn with(
    request: tonic::Request<ModelInferRequest>,
    key: &'static str,
    value: &str,
) -> tonic::Request<ModelInferRequest> {
    let mut request = request;
    request.metadata_mut().insert(key, value.parse().unwrap());
    request
}

/// The pod that says so itself, and the one that the node names: the same.
async fn pod_of(world: &mut World, request: tonic::Request<ModelInferRequest>) -> Result<String, Status> {
    let answer = world.client.model_infer(request).await?;
    let says = |key: &str| answer.metadata().get(key).unwrap().to_str().unwrap().to_owned();
    assert_eq!(says("x-pod"), says("plimsoll-pod"));
    Ok(says("x-pod"))
}

/// One request of a sequence, for a pod that wants each from its beginning.
fn of_sequence(id: ParameterChoice, start: bool, end: bool) -> tonic::Request<ModelInferRequest> {
    let mut request = infer("m", "sequence");
    let choice = |choice| InferParameter { parameter_choice: Some(choice) };
    request.get_mut().parameters.extend([
        ("sequence_id".to_owned(), choice(id)),
        ("sequence_start".to_owned(), choice(ParameterChoice::BoolParam(start))),
        ("sequence_end".to_owned(), choice(ParameterChoice::BoolParam(end))),
    ]);
    request
}

/// Someone looks for what is wrong with one pod: the request must go there and nowhere else, and the answer say so.
#[tokio::test]
async fn a_pinned_request_goes_to_its_pod_alone() {
    let pods = pods(&["a", "b", "c"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    for pod in ["b", "c", "b"] {
        let request = with(infer("m", "echo"), "plimsoll-pod", pod);
        assert_eq!(pod_of(&mut world, request).await.unwrap(), pod);
    }
    let unknown = with(infer("m", "echo"), "plimsoll-pod", "z");
    assert_eq!(pod_of(&mut world, unknown).await.unwrap_err().code(), Code::InvalidArgument);
    // What another pod would answer is not what was asked for.
    let failing = with(infer("m", "head-14-Exceeds maximum queue size"), "plimsoll-pod", "a");
    let status = pod_of(&mut world, failing).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "Exceeds maximum queue size"));
    pods[0].kill().await;
    let status = pod_of(&mut world, with(infer("m", "echo"), "plimsoll-pod", "a")).await.unwrap_err();
    assert!(status.message().starts_with("no pod could be reached: `a` ("), "{status}");
    assert_eq!(world.in_flight(), 0);
}

/// A request in the middle of a sequence that went elsewhere would be refused there, or worse, mixed with another's state.
/// Numbers and texts are ids alike; and a node that was restarted (another one, here) must find them again.
#[tokio::test]
async fn a_sequence_stays_on_its_pod_whoever_sends_it() {
    let pods = pods(&["a", "b", "c", "d"]).await;
    let mut first = world_of(&pods, |_| {}).await;
    let mut second = world_of(&pods, |_| {}).await;
    let mut used = BTreeSet::new();
    for k in 1..=20_u64 {
        let id = match k % 3 {
            0 => ParameterChoice::StringParam(format!("conversation-{k}")),
            1 => ParameterChoice::Int64Param(k as i64),
            _ => ParameterChoice::Uint64Param(u64::MAX - k),
        };
        let pod = pod_of(&mut first, of_sequence(id.clone(), true, false)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(pod_of(&mut first, of_sequence(id.clone(), false, false)).await.unwrap(), pod);
        }
        assert_eq!(pod_of(&mut second, of_sequence(id.clone(), false, false)).await.unwrap(), pod, "{id:?}");
        assert_eq!(pod_of(&mut second, of_sequence(id.clone(), false, true)).await.unwrap(), pod);
        used.insert(pod);
    }
    assert!(used.len() > 2, "all sequences went to {used:?}");
    let never_begun =
        pod_of(&mut first, of_sequence(ParameterChoice::Int64Param(777), false, false)).await.unwrap_err();
    assert_eq!(never_begun.code(), Code::InvalidArgument);
}

/// A model that keeps its state by a key of its own, which Triton does not know of: the caller says in the metadata what belongs
/// together. Parameters win.
#[tokio::test]
async fn a_sequence_may_be_named_in_metadata() {
    let pods = pods(&["a", "b", "c", "d"]).await;
    let (mut first, mut second) = (world_of(&pods, |_| {}).await, world_of(&pods, |_| {}).await);
    let mut used = BTreeSet::new();
    for k in 0..20 {
        let (id, key) = (format!("chat-{k}"), if k % 2 == 0 { "sequence_id" } else { "sequence-id" });
        let begin = with(with(infer("m", "echo"), key, &id), "sequence_start", "true");
        let pod = pod_of(&mut first, begin).await.unwrap();
        for world in [&mut first, &mut second] {
            let held = world.node.pick(&Request::new("m").among(&[plimsoll::id::PodId::of(&pod)]));
            assert_eq!(pod_of(world, with(infer("m", "echo"), key, &id)).await.unwrap(), pod);
            drop(held);
        }
        used.insert(pod);
    }
    assert!(used.len() > 2, "all went to {used:?}");
    let both = with(of_sequence(ParameterChoice::Int64Param(7), true, true), "sequence-id", "never begun");
    pod_of(&mut first, both).await.unwrap();
}

/// The state of a sequence is gone with its pod: the caller must be told so, and not by another pod's riddle.
#[tokio::test]
async fn a_sequence_whose_pod_is_gone_says_so() {
    let pods = pods(&["a", "b"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    let id = || ParameterChoice::StringParam("s 1".into());
    let pod = pod_of(&mut world, of_sequence(id(), true, false)).await.unwrap();
    pods.iter().find(|p| p.spec().name == pod).unwrap().kill().await;
    let status = pod_of(&mut world, of_sequence(id(), false, false)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let told = "sequence `s 1` of model `m` is lost";
    assert!(status.message().starts_with(told) && status.message().contains("sequence_start"), "{status}");
    // Once it was found to be gone the answer is as clear.
    pod_of(&mut world, of_sequence(id(), true, true)).await.unwrap();
}

/// An adapter that is loaded on every pod is loaded too often, and one that lives on a single pod is a hotspot.
#[tokio::test]
async fn a_key_keeps_to_its_few_pods_until_they_are_busier_than_their_share() {
    let pods = pods(&["a", "b", "c", "d", "e", "f"]).await;
    let mut world = world_of(&pods, of_m(|m| m.affinity = Some(Affinity::new("lora", 2)))).await;
    let mut by_key: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for k in 0..60 {
        let key = format!("adapter-{}", k % 6);
        let pod = pod_of(&mut world, with(infer("m", "echo"), "lora", &key)).await.unwrap();
        by_key.entry(key).or_default().insert(pod);
    }
    assert!(by_key.values().all(|pods| pods.len() <= 2), "{by_key:?}");
    assert!(by_key.values().flatten().collect::<BTreeSet<_>>().len() >= 4, "{by_key:?}");
    // Both pods of one key are busy far beyond the rest: a third takes part.
    let busy = &by_key["adapter-0"];
    let held: Vec<_> =
        world.node.picker().pods().iter().filter(|pod| busy.contains(pod.name())).map(|pod| pod.id()).collect();
    let cost = Cost::from_ms(50.0).unwrap();
    let pick = |among: &[_]| world.node.pick(&Request::new("m").cost(cost).among(among)).unwrap();
    let tickets: Vec<_> = (0..16).map(|k| pick(&held[k % held.len()..][..1])).collect();
    let pod = pod_of(&mut world, with(infer("m", "echo"), "lora", "adapter-0")).await.unwrap();
    assert!(!busy.contains(&pod), "{pod} of {busy:?}");
    drop(tickets);
    // As a parameter it is the same key.
    let mut by_parameter = infer("m", "echo");
    let key = InferParameter { parameter_choice: Some(ParameterChoice::StringParam("adapter-3".into())) };
    by_parameter.get_mut().parameters.insert("lora".into(), key);
    let pods = by_key.get_mut("adapter-3").unwrap();
    pods.insert(pod_of(&mut world, by_parameter).await.unwrap());
    assert!(pods.len() <= 2, "{pods:?}");
}

/// A pod that says when to come again means it, for that model: until then the others are asked, as long as there are enough.
#[tokio::test]
async fn a_pod_that_asks_for_rest_gets_it() {
    let pods = pods(&["a", "b", "c"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    let mut asked = 0;
    let busy = || with(infer("m", "head-a@8-busy"), "x-push-back", "60000");
    while pod_of(&mut world, busy()).await.is_ok() {
        asked += 1;
        assert!(asked < 1000, "`a` was never asked");
    }
    for _ in 0..30 {
        assert_ne!(pod_of(&mut world, infer("m", "echo")).await.unwrap(), "a");
    }
    let mut others = BTreeSet::new();
    for _ in 0..30 {
        others.insert(pod_of(&mut world, infer("other", "echo")).await.unwrap());
    }
    assert!(others.contains("a"), "another model is served there");
}

/// What a pod answered with an error may have run: it is sent again only where the settings say that it may.
#[tokio::test]
async fn what_may_have_run_is_sent_again_only_where_it_may_be() {
    let pods = pods(&["a", "b", "c"]).await;
    let asked = || pods.iter().map(Pod::requests).sum::<usize>();
    let mut strict = world_of(&pods, |_| {}).await;
    let error = pod_of(&mut strict, infer("m", "head-14-the model says so")).await.unwrap_err();
    assert_eq!((error.code(), error.message(), asked()), (Code::Unavailable, "the model says so", 1));

    let mut lenient = world_of(&pods, |options| {
        options.forward.retry.codes = vec![Code::Unavailable];
        options.forward.retry.most = 2;
    })
    .await;
    // All three fail: it ends with the last one's answer.
    let error = pod_of(&mut lenient, infer("m", "head-14-again")).await.unwrap_err();
    assert_eq!((error.message(), asked()), ("again", 4));
    // One fails: nobody sees it.
    for _ in 0..6 {
        assert_ne!(pod_of(&mut lenient, infer("m", "head-a@14-sick")).await.unwrap(), "a");
    }
    assert_eq!(lenient.in_flight(), 0);
}

/// A caller says that nothing follows in a frame of its own, which may be late: its request is here as a whole all the same, and
/// what one pod refused is offered to the other.
#[tokio::test]
async fn a_message_is_whole_before_its_caller_has_said_so() {
    let pods = pods(&["a", "b"]).await;
    let world = world_of(&pods, |_| {}).await;
    let body = fake::open(fake::framed(infer("m", "").get_ref()));
    let request = fake::grpc_request("ModelInfer", "head-14-Exceeds maximum queue size", body);
    assert_eq!(fake::post(world.addr.clone(), request).await.head.headers["grpc-status"], "14");
    assert_eq!(pods.iter().map(Pod::requests).collect::<Vec<_>>(), [1, 1]);
}

/// A request of model `m` with a tensor of `bytes` bytes.
fn large(bytes: usize, what: &str) -> tonic::Request<ModelInferRequest> {
    let mut request = infer("m", what);
    request.get_mut().raw_input_contents = vec![vec![9; bytes].into()];
    request
}

/// Tensors are large: what is on its way in pieces must be offered to another pod like what is here as a whole, whether the
/// first pod refused it before it was read or after. What is over the bound goes out once, and its caller gets the pod's word.
#[tokio::test]
async fn a_large_request_is_offered_to_another_pod() {
    let pods = pods(&["a", "b"]).await;
    let mut world = world_of(&pods, |options| options.forward.retry.keep_bytes = 2 << 20).await;
    for what in ["head-a@14-Exceeds maximum queue size", "read-a@14-Exceeds maximum queue size"] {
        for bytes in [100, 70 << 10, 600 << 10, 1900 << 10] {
            for _ in 0..4 {
                let answer = world.client.model_infer(large(bytes, what)).await.unwrap();
                assert_eq!(answer.metadata().get("x-pod").unwrap(), "b", "{what} {bytes}");
                // It echoes the request, of which this field has the number of one in an answer.
                assert_eq!(answer.into_inner().raw_output_contents.len(), 0);
            }
        }
    }
    assert!(pods[0].requests() >= 2, "nothing was refused");
    let over = || large(3 << 20, "read-a@14-Exceeds maximum queue size");
    let mut told = 0;
    for _ in 0..8 {
        told += usize::from(world.client.model_infer(over()).await.is_err_and(|status| {
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "Exceeds maximum queue size"));
            true
        }));
    }
    assert!(told > 0);
    eventually("nothing is in flight", || world.in_flight() == 0).await;
}

/// A rolling restart under requests of 1.5 MiB, which come in several pieces: each pod refuses what comes, ends and comes back, and no caller sees any of it.
#[tokio::test]
async fn a_rolling_restart_loses_no_large_request() {
    let mut pods = pods(&["a", "b", "c"]).await;
    let world = world_of(&pods, |_| {}).await;
    let goes_on = Arc::new(AtomicBool::new(true));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, goes_on) = (world.client.clone(), goes_on.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                while goes_on.load(SeqCst) {
                    client.model_infer(large(1500 << 10, "echo")).await.unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for (k, pod) in pods.iter_mut().enumerate() {
        let here = world.node.picker().pods()[k].clone();
        let before = here.picks();
        eventually("it is used", || here.picks() > before + 3).await;
        pod.shut_down();
        eventually("it is left alone", || here.is_ejected() && here.own_in_flight() == 0).await;
        pod.kill().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        *pod = pod.restart().await;
        eventually("it is back", || !here.is_ejected()).await;
    }
    goes_on.store(false, SeqCst);
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    assert!(answered > 50, "{answered}");
}

/// A server that takes the first `few` requests of each connection, and refuses the next ones, as HTTP/2 has it.
async fn refusing(few: usize) -> (String, Arc<AtomicUsize>) {
    let addr = fake::unused().await;
    let listener = tokio::net::TcpListener::bind(&addr).await.unwrap();
    let refused = Arc::<AtomicUsize>::default();
    let count = refused.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut taken = 0;
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let is_inference = request.uri().path().ends_with("ModelInfer");
                    taken += usize::from(is_inference);
                    if is_inference && taken > few {
                        count.fetch_add(1, SeqCst);
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    let ok =
                        http::Response::builder().header("content-type", "application/grpc").header("grpc-status", 0);
                    respond.send_response(ok.body(()).unwrap(), true).unwrap();
                }
            });
        }
    });
    (addr, refused)
}

/// What HTTP/2 says was not begun is sent again, whatever it is, to the same pod if there is no other.
#[tokio::test]
async fn what_a_pod_says_it_did_not_begin_is_sent_again() {
    let (addr, refused) = refusing(3).await;
    let world = fake::world::world_of(
        &[],
        |config| config.pods = vec![PodSpec::new("r", format!("http://{addr}"))],
        |options| options.forward.retry.budget = 0.0,
    )
    .await;
    let body = || fake::whole(fake::framed(large(600 << 10, "").get_ref()));
    for _ in 0..12 {
        let answer = fake::post(world.addr.clone(), fake::grpc_request("ModelInfer", "", body())).await;
        assert_eq!(answer.status_code(), "0", "{:?}", answer.status());
    }
    assert!(refused.load(SeqCst) >= 3);
    assert_eq!(world.outcomes()[1], 0, "no failure of the pod");
}

/// What one pod says of a request that cannot be sent again teaches for the next: a model that it lacks is not asked for there
/// again, and when it asks to be spared it is.
#[tokio::test]
async fn a_refusal_is_noted_though_its_request_cannot_be_sent_again() {
    let pods = pods(&["a", "b"]).await;
    let mut world = fake::world::world_of(
        &pods.iter().collect::<Vec<_>>(),
        // Nobody is asked what it has: refusals are all that is known.
        |config| config.health.interval = Duration::ZERO,
        |options| options.forward.retry.keep_bytes = 0,
    )
    .await;
    let mut refused = 0;
    for _ in 0..40 {
        let what = "read-a@5-Request for unknown model: 'm' is not found";
        refused += usize::from(world.client.model_infer(large(600 << 10, what)).await.is_err());
    }
    assert_eq!(refused, 1, "requests went to a pod that said that it lacks the model");
}

/// A Triton gives the request that killed a model's process the same answer as those that come later: sent again, it would kill the
/// next pod's. Once it is known to be dead, nothing runs there, and callers see none of it.
#[tokio::test]
async fn a_request_that_may_have_killed_a_model_is_sent_to_no_other_pod() {
    const DEAD: &str = "head-13-Stub process 'm_0_0' is not healthy.";
    let pods = pods(&["a", "b", "c"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    let status = pod_of(&mut world, infer("m", DEAD)).await.unwrap_err();
    assert_eq!((status.code(), pods.iter().map(Pod::requests).sum::<usize>()), (Code::Internal, 1));
    // Where it may run twice it is sent once more.
    let mut world = world_of(&pods, of_m(|m| m.idempotent = true)).await;
    pod_of(&mut world, infer("m", DEAD)).await.unwrap_err();
    assert_eq!(pods.iter().map(Pod::requests).sum::<usize>(), 3);
}

/// See above.
#[tokio::test]
async fn a_dead_model_process_is_picked_around() {
    let pods = pods(&["a", "b", "c"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    let ask = || infer("m", "head-a@13-Stub process 'm_0_0' is not healthy.");
    // Whoever met it first, was told.
    let mut told = 0;
    while told == 0 {
        told += usize::from(pod_of(&mut world, ask()).await.is_err());
    }
    for _ in 0..6 {
        assert_ne!(pod_of(&mut world, ask()).await.unwrap(), "a");
    }
}

/// What a model says of another server that it asked looks like that server's refusal: the model ran, and must not run again.
#[tokio::test]
async fn what_a_model_says_of_others_is_no_refusal() {
    let pods = pods(&["a", "b", "c"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    for (asked, text) in [
        "14-inner call: Exceeds maximum queue size",
        "13-upstream said: Stub process 'x_0' is not healthy.",
        "5-step 2: Request for unknown model: 'inner' is not found",
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("head-{text}");
        let status = pod_of(&mut world, infer("m", &what)).await.unwrap_err();
        assert_eq!(status.message(), &text[text.find('-').unwrap() + 1..]);
        assert_eq!(pods.iter().map(Pod::requests).sum::<usize>(), asked + 1);
    }
}

/// Who looks at one pod wants to see its failures: they must not take it from all others.
#[tokio::test]
async fn a_pinned_failure_is_not_held_against_its_pod() {
    let pods = pods(&["a", "b", "c"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    for _ in 0..20 {
        pod_of(&mut world, infer("m", "echo")).await.unwrap();
        pod_of(&mut world, with(infer("m", "head-13-no"), "plimsoll-pod", "a")).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let view = world.node.view().await.unwrap();
    let out = &view.pods.iter().find(|pod| pod.name == "a").unwrap().models_out;
    assert!(out.is_empty(), "{out:?}");
}

/// A pod that hangs must not make its caller wait where the model may run twice; the loser is cancelled, and its cost stays
/// charged: Triton runs it all the same.
#[tokio::test]
async fn a_slow_answer_is_hedged_where_the_model_may_run_twice() {
    let pods = pods(&["a", "b"]).await;
    let mut world = world_of(
        &pods,
        of_m(|m| {
            m.idempotent = true;
            m.hedge_after = Some(Duration::from_millis(50));
        }),
    )
    .await;
    // Pod `a` holds its answer back, `b` answers: whichever is picked first, the answer comes.
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(pod_of(&mut world, infer("m", "slow-on-a")).await.unwrap());
    }
    assert_eq!(answers, ["b", "b", "b"]);
    eventually("the losers end", || world.in_flight() == 0).await;
    assert!(world.outcomes()[3] >= 1, "the loser is cancelled: {:?}", world.outcomes());
    assert_eq!(world.outcomes()[1], 0);
}

/// With one place on each pod the next request waits here, goes to whichever pod is free first, and is refused once the
/// queue is full.
#[tokio::test]
async fn what_finds_all_pods_full_waits_here() {
    let pods = pods(&["a", "b"]).await;
    let mut world = world_of(&pods, |options| {
        options.forward.limits.in_flight_per_pod = NonZeroU32::new(1);
        options.forward.limits.queue = 1;
    })
    .await;
    let ask = |what: &'static str| {
        let mut client = world.client.clone();
        tokio::spawn(async move { client.model_infer(infer("m", what)).await })
    };
    let (one, two) = (ask("slow"), ask("slow"));
    eventually("both pods have one", || world.in_flight() == 2).await;
    let waits = ask("echo");
    tokio::time::sleep(Duration::from_millis(30)).await;
    let error = pod_of(&mut world, infer("m", "echo")).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("limits.queue"), "{error}");
    assert_eq!(error.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    assert!(!waits.is_finished() && world.in_flight() == 2);
    pods[1].release();
    let answered = waits.await.unwrap().unwrap();
    assert_eq!(answered.metadata().get("x-pod").unwrap(), "b");
    pods[0].release();
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
}

/// Triton's `timeout` bounds the wait in a queue, and this is one: without, a caller that has no deadline would wait here for
/// as long as the pods are full.
#[tokio::test]
async fn a_request_waits_here_no_longer_than_it_says() {
    let pods = pods(&["a"]).await;
    let mut world = world_of(&pods, |options| options.forward.limits.in_flight_per_pod = NonZeroU32::new(1)).await;
    let held = world.node.pick(&Request::new("m")).unwrap();
    let mut request = infer("m", "echo");
    let us = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(30_000)) };
    request.get_mut().parameters.insert("timeout".into(), us);
    let error = pod_of(&mut world, request).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "Request timeout expired"));
    held.finish(plimsoll::pick::Outcome::Served);
    pod_of(&mut world, infer("m", "echo")).await.unwrap();
}

/// A request that would be answered too late only makes others wait; but nobody may be refused by a guess.
#[tokio::test]
async fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let pods = pods(&["a"]).await;
    let mut world = world_of(&pods, |_| {}).await;
    let cost = Cost::from_ms(30_000.0).unwrap();
    let held = world.node.pick(&Request::new("m").cost(cost)).unwrap();
    let soon = || {
        let mut request = infer("m", "echo");
        request.set_timeout(Duration::from_secs(2));
        request
    };
    // Nobody knows yet what the model costs.
    pod_of(&mut world, soon()).await.unwrap();
    world.node.picker().models().iter().find(|model| model.name() == "m").unwrap().cost.state(5.0);
    let error = pod_of(&mut world, soon()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().starts_with("the deadline in 2.0s cannot be met: the wait would be "), "{error}");
    let after: u64 = error.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert!((20_000..=30_000).contains(&after), "{after}");
    // Who has time is served.
    pod_of(&mut world, infer("m", "echo")).await.unwrap();
    drop(held);
}

/// What a pod with one instance shows of model `m`, at the address that is returned: so many requests that wait.
async fn metrics(waiting: Arc<AtomicUsize>) -> String {
    let show = move || async move {
        let waiting = waiting.load(SeqCst);
        format!("nv_inference_pending_request_count{{model=\"m\",version=\"1\"}} {waiting}\n")
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = axum::Router::new().route("/metrics", axum::routing::get(show));
    tokio::spawn(async move { axum::serve(listener, server).await });
    url
}

/// Callers gave up, and by its own metrics the pod has fewer requests than it is charged for: it must not stand there as busy
/// until their predicted ends, which may be wrong by far.
#[tokio::test]
async fn a_cancelled_request_is_charged_no_longer_than_its_pod_can_have_it() {
    let pod = Pod::start("a").await;
    pod.configure(ModelConfig::default());
    let waiting = Arc::new(AtomicUsize::new(2));
    let url = metrics(waiting.clone()).await;
    let mut world = fake::world::world_of(&[&pod], |config| config.pods[0].metrics = Some(url), |_| {}).await;
    pod_of(&mut world, infer("m", "echo")).await.unwrap();
    let models = world.node.picker().models();
    models.iter().find(|model| model.name() == "m").unwrap().cost.state(600_000.0);
    let cost = |ms| Request::new("m").cost(Cost::from_ms(ms).unwrap());
    let held: Vec<_> = (0..5).map(|_| world.node.pick(&cost(600_000.0)).unwrap()).collect();
    drop(held);
    let pod = world.node.picker().pods()[0].clone();
    assert_eq!(pod.own_remainders(), 5);
    eventually("two wait and one runs", || pod.own_remainders() == 3).await;
    waiting.store(0, SeqCst);
    eventually("one may run", || pod.own_remainders() == 1).await;
    assert_eq!(world.node.gossip_stats().await.core.corrected_remainders, 4);
}

/// Whoever runs a fleet must see how much of the traffic is sent twice, and what was turned away.
#[tokio::test]
async fn what_is_sent_again_or_turned_down_is_counted() {
    let metrics = Metrics::install().unwrap();
    let pods = pods(&["a", "b"]).await;
    let mut world = world_of(&pods, of_m(|m| m.idempotent = true)).await;
    for _ in 0..4 {
        pod_of(&mut world, infer("m", "head-a@14-Exceeds maximum queue size")).await.unwrap();
    }
    // More than the budget has.
    for _ in 0..40 {
        pod_of(&mut world, infer("m", "head-13-Stub process 'm_0_0' is not healthy.")).await.unwrap_err();
    }
    let heavy = Request::new("m").cost(Cost::from_ms(30_000.0).unwrap());
    let held = [world.node.pick(&heavy).unwrap(), world.node.pick(&heavy).unwrap()];
    world.node.picker().models().iter().find(|model| model.name() == "m").unwrap().cost.state(5.0);
    let mut late = infer("m", "echo");
    late.set_timeout(Duration::from_secs(2));
    pod_of(&mut world, late).await.unwrap_err();
    drop(held);
    let text = metrics.render(&world.node).await.unwrap();
    let counted = |series: &str| text.lines().any(|line| line.starts_with(series));
    assert!(counted("plimsoll_sent_again_total{why=\"refused\"} "), "{text}");
    assert!(counted("plimsoll_turned_down_total{why=\"late\"} 1"), "{text}");
    assert!(counted("plimsoll_not_sent_again_total "), "{text}");
}
