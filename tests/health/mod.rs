//! Which pods are asked for which models, and which are left alone, as callers and pods see it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use plimsoll::node::NodeConfig;
use plimsoll::observe::{self, Because};
use plimsoll::time::Time;
use plimsoll_proto::inference::{ModelInferRequest, ModelReadyRequest};
use tokio_stream::StreamExt;
use tonic::Code;

use super::fake::{Pod, eventually};
use super::{Client, World, infer, world_of};

/// A request for `model` that a fake pod refuses if it does not have it.
fn ask(model: &str) -> tonic::Request<ModelInferRequest> {
    let mut request = infer(model, "echo");
    request.metadata_mut().insert("x-model", model.parse().unwrap());
    request
}

async fn asked_often(pods: &[&Pod]) -> World {
    world_of(pods, |config| config.health.interval = Duration::from_millis(100), |_| {}).await
}

/// Each once, and then not for as long as a test takes.
async fn asked_seldom(pods: &[&Pod]) -> World {
    world_of(pods, |config| config.health.interval = Duration::from_secs(600), |_| {}).await
}

fn pod(world: &World, k: usize) -> Arc<observe::Pod> {
    world.node.picker().pods()[k].clone()
}

/// The pods that answer so many requests for `model`, each of which must be answered.
async fn answer(world: &World, model: &str, requests: usize) -> Vec<String> {
    let mut client = world.client.clone();
    let mut names = Vec::new();
    for _ in 0..requests {
        let answer = client.model_infer(ask(model)).await.unwrap();
        names.push(answer.metadata().get("x-pod").unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    names
}

/// A model that is unloaded on one pod and loaded on another moves its traffic there: no caller may see it, and the first pod
/// goes on serving what it has.
#[tokio::test]
async fn a_model_that_moves_takes_its_traffic_with_it() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    a.set_models(&["m", "n"]);
    b.set_models(&["m", "n"]);
    let world = asked_often(&[&a, &b]).await;
    assert_eq!(answer(&world, "m", 20).await, ["a", "b"]);
    a.set_models(&["n"]);
    assert_eq!(answer(&world, "m", 20).await, ["b"]);
    assert!(a.refused() <= 1, "a pod that said that it lacks a model was asked again and again");
    assert_eq!(answer(&world, "n", 20).await, ["a", "b"]);
    // Loaded here and unloaded there in one breath: who was thought to lack it is tried before the caller is told.
    a.set_models(&["m", "n"]);
    b.set_models(&["n"]);
    assert_eq!(answer(&world, "m", 20).await, ["a"]);
    b.set_models(&["m", "n"]);
    let mut client = world.client.clone();
    eventually("it is picked again where it is back", || pod(&world, 1).lacks().next().is_none()).await;
    for _ in 0..20 {
        client.model_infer(ask("m")).await.unwrap();
    }
    assert_eq!(answer(&world, "m", 20).await, ["a", "b"]);
}

/// In a fleet where each pod has other models, a pod that never had one is found by what it says, before any request meets
/// its refusal.
#[tokio::test]
async fn models_go_where_they_are_without_a_refusal() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    a.set_models(&["m"]);
    b.set_models(&["n"]);
    let world = asked_often(&[&a, &b]).await;
    eventually("both were asked", || a.index_questions() > 0 && b.index_questions() > 0).await;
    // What they said is applied to a model at the first look after it was asked for first.
    let mut channel = Client::new(world.node.channel("n"));
    drop(world.node.pick(&plimsoll::pick::Request::new("n")).unwrap());
    eventually("what was said is known", || pod(&world, 0).lacks().next().is_some()).await;
    for _ in 0..10 {
        let answer = channel.model_infer(ask("n")).await.unwrap();
        assert_eq!(answer.metadata().get("x-pod").unwrap(), "b");
    }
    assert_eq!(a.refused(), 0);
}

/// A model may be loaded at any time, past the node: what the pods said before is no reason to refuse the first who
/// asks for it.
#[tokio::test]
async fn what_was_said_before_a_load_refuses_nobody() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    [&a, &b].iter().for_each(|pod| pod.set_models(&["n"]));
    let world = asked_seldom(&[&a, &b]).await;
    eventually("both have said what they have", || a.index_questions() > 0 && b.index_questions() > 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    b.set_models(&["m", "n"]);
    drop(world.node.pick(&plimsoll::pick::Request::new("m")).unwrap());
    // Several looks at what was asked for.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!((0..2).all(|k| pod(&world, k).lacks().next().is_none()), "nobody had it when it was asked");
    assert_eq!(answer(&world, "m", 20).await, ["b"]);
    assert!(a.refused() <= 1);
}

/// A Triton leaves out of its index what it was given the files of: such a model must be served by all who have it, and
/// go where it is, like any other.
#[tokio::test]
async fn a_model_that_is_in_no_index_is_asked_about() {
    let (a, b, c) = (Pod::start("a").await, Pod::start("b").await, Pod::start("c").await);
    [&a, &b, &c].iter().for_each(|pod| pod.set_models(&["n"]));
    [&a, &b].iter().for_each(|pod| pod.load_unlisted(&["m"]));
    let world = asked_often(&[&a, &b, &c]).await;
    // Each in turn, because which of them is picked may be chance.
    for (name, code) in [("a", Code::Ok), ("b", Code::Ok), ("c", Code::NotFound)] {
        let mut request = ask("m");
        request.metadata_mut().insert("plimsoll-pod", name.parse().unwrap());
        assert_eq!(world.client.clone().model_infer(request).await.map_or_else(|no| no.code(), |_| Code::Ok), code);
    }
    let looks = [&a, &b].map(Pod::index_questions);
    eventually("both were asked twice more", || {
        [&a, &b].iter().zip(looks).all(|(pod, before)| pod.index_questions() > before + 2)
    })
    .await;
    assert_eq!([0, 1, 2].map(|k| pod(&world, k).lacks().count()), [0, 0, 1]);
    assert!(!answer(&world, "m", 20).await.contains(&"c".to_owned()));
    a.load_unlisted(&[]);
    eventually("it is missed", || pod(&world, 0).lacks().next().is_some()).await;
    assert_eq!(answer(&world, "m", 20).await, ["b"]);
    assert_eq!(a.refused(), 0);
    a.load_unlisted(&["m"]);
    eventually("it is found again", || pod(&world, 0).lacks().next().is_none()).await;
}

/// What a pod was thought to lack and served all the same it has, whether or not it is ever asked.
#[tokio::test]
async fn who_serves_a_model_is_picked_for_it_again() {
    let a = Pod::start("a").await;
    a.set_models(&["n"]);
    let world = world_of(&[&a], |config| config.health.interval = Duration::ZERO, |_| {}).await;
    let mut client = world.client.clone();
    assert_eq!(client.model_infer(ask("m")).await.unwrap_err().code(), Code::NotFound);
    assert!(pod(&world, 0).lacks().next().is_some());
    a.set_models(&["m", "n"]);
    assert_eq!(answer(&world, "m", 1).await, ["a"]);
    eventually("it is known to have it", || pod(&world, 0).lacks().next().is_none()).await;

    // A good answer inside of a stream says the same.
    world.node.picker().set_available(Time::ZERO, pod(&world, 0).id(), "m", false);
    let (metadata, _, message) = infer("m", "talk").into_parts();
    let asked = tonic::Request::from_parts(metadata, tonic::Extensions::new(), tokio_stream::iter([message]));
    let mut stream = client.model_stream_infer(asked).await.unwrap().into_inner();
    while let Some(said) = stream.message().await.unwrap() {
        assert_eq!(said.error_message, "");
    }
    eventually("it is known to have it", || pod(&world, 0).lacks().next().is_none()).await;
}

/// Where all are thought to lack a model that is asked for, one may have loaded it: that must be found out soon, by
/// whoever hears of it first.
#[tokio::test]
async fn a_model_that_all_are_thought_to_lack_is_looked_for() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    [&a, &b].iter().for_each(|pod| pod.set_models(&["n"]));
    let world = asked_seldom(&[&a, &b]).await;
    eventually("both have said what they have", || a.index_questions() > 0 && b.index_questions() > 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let all_lack = |model| {
        let lacks = |k| world.node.picker().set_available(Time::ZERO, pod(&world, k).id(), model, false);
        assert!(lacks(0) && lacks(1));
    };
    all_lack("m");
    a.set_models(&["m", "n"]);
    // It can go nowhere else, so that no luck finds it.
    let mut request = ask("m");
    request.metadata_mut().insert("plimsoll-pod", "b".parse().unwrap());
    let status = world.client.clone().model_infer(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    eventually("`a` was asked, and has it", || pod(&world, 0).lacks().next().is_none()).await;
    assert_eq!(pod(&world, 1).lacks().count(), 1);

    // A caller who asks whether it is ready, and is told so, may rely on it.
    all_lack("unlisted");
    b.load_unlisted(&["unlisted"]);
    let question = ModelReadyRequest { name: "unlisted".into(), version: String::new() };
    assert!(world.client.clone().model_ready(question).await.unwrap().into_inner().ready);
    assert_eq!([0, 1].map(|k| pod(&world, k).lacks().count()), [1, 1]);
    assert_eq!(answer(&world, "unlisted", 20).await, ["b"]);
    assert_eq!(a.refused(), 0);
}

/// A typo is its caller's: each pod may be asked once for it, and then one pod for each request, whose answer the caller gets.
#[tokio::test]
async fn a_name_that_nobody_knows_goes_round_the_fleet_once() {
    let pods = [Pod::start("a").await, Pod::start("b").await, Pod::start("c").await];
    pods.iter().for_each(|pod| pod.set_models(&["m"]));
    let world = asked_often(&pods.each_ref()).await;
    let mut client = world.client.clone();
    for _ in 0..20 {
        let status = client.model_infer(ask("typo")).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::NotFound, "Request for unknown model: 'typo' is not found")
        );
    }
    let refused: usize = pods.iter().map(Pod::refused).sum();
    assert!((20..=22).contains(&refused), "{refused} requests for a typo reached pods");
    assert!(world.node.picker().pods().iter().all(|pod| !pod.is_ejected()));
    assert_eq!(answer(&world, "m", 12).await, ["a", "b", "c"]);
}

/// Servers without an index are asked about the models that they were used for, and who answers neither is believed to
/// have everything.
#[tokio::test]
async fn a_server_without_an_index_is_asked_about_each_model() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let world = asked_often(&[&a, &b]).await;
    assert_eq!(answer(&world, "m", 20).await, ["a", "b"]);
    a.set_ready(false);
    eventually("a does not have it ready", || pod(&world, 0).lacks().next().is_some()).await;
    assert_eq!(answer(&world, "m", 20).await, ["b"]);
    a.set_ready(true);
    eventually("it has it again", || pod(&world, 0).lacks().next().is_none()).await;
    assert_eq!(answer(&world, "m", 20).await, ["a", "b"]);
}

/// An index without any model (some servers keep none) must not take away what is served.
#[tokio::test]
async fn an_empty_index_says_nothing() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let world = asked_often(&[&a, &b]).await;
    a.say_models(&[]);
    b.say_models(&["m"]);
    eventually("it was asked", || a.index_questions() > 1).await;
    let mut client = world.client.clone();
    let mut by_a = 0;
    for _ in 0..60 {
        let answer = client.model_infer(infer("m", "echo")).await.unwrap();
        by_a += usize::from(answer.metadata().get("x-pod").unwrap() == "a");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(by_a > 10, "{by_a} of 60 requests went to a pod that served them all");
}

/// A process that is stopped takes connections and answers nothing. It must be left alone soon, whether its callers are patient
/// or not, and what it holds is answered when it goes on; then it is used again.
#[tokio::test]
async fn a_pod_that_hangs_is_left_alone_until_it_answers() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let world = world_of(&[&a, &b], |config| config.health.interval = Duration::ZERO, |_| {}).await;
    assert_eq!(answer(&world, "m", 20).await, ["a", "b"]);
    a.freeze(true);
    let mut client = world.client.clone();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.model_infer(infer("m", "echo")).await })
        })
        .collect();
    eventually("it holds a request", || pod(&world, 0).own_in_flight() > 0).await;
    eventually("it is left alone", || pod(&world, 0).is_ejected()).await;
    assert_eq!(pod(&world, 0).stats().ejected_because(Because::Hangs), 1);
    assert_eq!(answer(&world, "m", 20).await, ["b"]);
    a.freeze(false);
    for answer in held {
        answer.await.unwrap().unwrap();
    }
    eventually("it is back", || !pod(&world, 0).is_ejected()).await;

    // Callers who wait for a tenth of a second see it too.
    a.freeze(true);
    for _ in 0..100 {
        let mut request = infer("m", "echo");
        request.set_timeout(Duration::from_millis(100));
        drop(client.model_infer(request).await);
        if pod(&world, 0).is_ejected() {
            break;
        }
    }
    assert!(pod(&world, 0).is_ejected());
}

/// What is in flight on a pod that goes on to hang must end, with or without a deadline: elsewhere where it may run twice, with
/// an error that says why where not. What it costs stays charged: a process that goes on runs what it has. And then it is used
/// again, over a connection of its own.
#[tokio::test]
async fn what_a_pod_that_hangs_holds_is_given_up() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let give_up = |config: &mut NodeConfig| config.health.give_up = Duration::from_secs(1);
    let world = world_of(&[&a, &b], give_up, |options| {
        options.forward.models.entry("twice".into()).or_default().idempotent = true;
    })
    .await;
    let ask = |request: tonic::Request<ModelInferRequest>| {
        let mut client = world.client.clone();
        tokio::spawn(async move { client.model_infer(request).await })
    };
    let mut twice = Vec::new();
    for _ in 0..100 {
        twice.push(ask(infer("twice", "slow-on-a")));
        tokio::time::sleep(Duration::from_millis(20)).await;
        if pod(&world, 0).own_in_flight() > 0 {
            break;
        }
    }
    // These may go to no other pod.
    let on_a = |what: &str| {
        let mut request = infer("m", what);
        request.metadata_mut().insert("plimsoll-pod", "a".parse().unwrap());
        request
    };
    let (metadata, _, message) = on_a("stall-after-message").into_parts();
    let asked = tokio_stream::iter([message]).chain(tokio_stream::pending());
    let asked = tonic::Request::from_parts(metadata, tonic::Extensions::new(), asked);
    let mut stream = world.client.clone().model_stream_infer(asked).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    a.freeze(true);
    let once = ask(on_a("echo"));
    eventually("`a` has all three", || pod(&world, 0).own_in_flight() == 3).await;
    let status = tokio::time::timeout(Duration::from_secs(30), once).await.unwrap().unwrap().unwrap_err();
    let told = "pod `a` was given up before it answered, and may have begun the request: it answers nothing";
    assert!(status.code() == Code::Unavailable && status.message().starts_with(told), "{status}");
    let status = stream.message().await.unwrap_err();
    let told = "pod `a` was given up while it answered: it answers nothing";
    assert!(status.code() == Code::Unavailable && status.message().starts_with(told), "{status}");
    for answer in twice {
        assert_eq!(answer.await.unwrap().unwrap().metadata().get("x-pod").unwrap(), "b");
    }
    let stats = pod(&world, 0);
    assert_eq!(stats.stats().failed.load(SeqCst), 0, "a pod that hangs has not answered");
    assert!(stats.stats().cancelled.load(SeqCst) >= 3);
    a.freeze(false);
    eventually("it is back", || !pod(&world, 0).is_ejected()).await;
    let answer = world.client.clone().model_infer(on_a("echo")).await.unwrap();
    assert_eq!(answer.metadata().get("x-pod").unwrap(), "a");
}

/// A pod that takes seconds for each request is busy, and says so when it is asked: it must not be left alone for it, and what
/// is in flight there least of all be given up.
#[tokio::test]
async fn a_pod_that_is_only_slow_is_not_left_alone() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let give_up = |config: &mut NodeConfig| config.health.give_up = Duration::from_secs(1);
    let world = world_of(&[&a, &b], give_up, |_| {}).await;
    let held: Vec<_> = (0..4)
        .map(|_| {
            let mut client = world.client.clone();
            tokio::spawn(async move { client.model_infer(infer("m", "hang")).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let pods = world.node.picker().pods();
    assert!(pods.iter().all(|pod| pod.own_in_flight() > 0 && !pod.is_ejected()));
    assert_eq!(pods.iter().map(|pod| pod.stats().ejections.load(SeqCst)).sum::<u64>(), 0);
    assert!(held.iter().all(|held| !held.is_finished()));
    held.iter().for_each(tokio::task::JoinHandle::abort);
}
