//! What callers and pods see of each other through a node: the channel and the front, against pods that do as told.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[allow(dead_code, reason = "each suite uses its part")]
mod fake;
mod health;
mod methods;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use fake::world::{Client, World, infer, world, world_of};
use fake::{Pod, eventually};
use http::{Request, StatusCode};
use plimsoll::forward::ForwardOptions;
use plimsoll_proto::health::HealthCheckRequest;
use plimsoll_proto::health::health_client::HealthClient;
use plimsoll_proto::inference::{
    ModelConfig, ModelInstanceGroup, ModelReadyRequest, ServerLiveRequest, ServerReadyRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

/// A ticket that ended with the response's head would call a pod free while it still streams its answer.
#[tokio::test]
async fn a_ticket_lives_until_the_last_frame() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    let request = infer("m", "stall-after-message");
    let (metadata, _, message) = request.into_parts();
    let request = tonic::Request::from_parts(metadata, tonic::Extensions::new(), tokio_stream::iter([message]));
    let mut answers = world.client.model_stream_infer(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    assert_eq!((world.in_flight(), world.outcomes()), (1, [0; 4]));
    pod.release();
    assert!(answers.message().await.unwrap().is_none());
    eventually("the ticket ends", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [1, 0, 0, 0]);
}

/// A cancel that stops at the node would leave its pod's stream and its ticket behind for ever.
#[tokio::test]
async fn a_cancelled_request_returns_its_ticket_and_reaches_the_pod() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut client = world.client.clone();
    let call = tokio::spawn(async move { client.model_infer(infer("m", "hang")).await });
    eventually("the pod has it", || pod.requests() == 1).await;
    assert_eq!(world.in_flight(), 1);
    call.abort();
    eventually("the pod hears of the cancel", || pod.cancelled() == 1).await;
    eventually("the ticket ends", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [0, 0, 0, 1]);
}

/// The same for a response that is dropped half way, and for the channel.
#[tokio::test]
async fn a_dropped_response_is_a_cancel() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut front = world.client.clone();
    let mut channel = Client::new(world.node.channel("m"));
    for (dropped, through_channel) in [(1, false), (2, true)] {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (metadata, _, message) = infer("m", "stall-after-message").into_parts();
        sender.send(message).unwrap();
        let stream = UnboundedReceiverStream::new(receiver);
        let request = tonic::Request::from_parts(metadata, tonic::Extensions::new(), stream);
        let answers = match through_channel {
            false => front.model_stream_infer(request).await,
            true => channel.model_stream_infer(request).await,
        };
        let mut answers = answers.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        drop((answers, sender));
        eventually("the pod hears of the cancel", || pod.cancelled() == dropped).await;
        eventually("the ticket ends", || world.in_flight() == 0).await;
        assert_eq!(world.outcomes()[3], dropped as u64);
    }
}

/// While another pod is left, a dead one must cost its callers nothing; and it must get its share again when it is back.
#[tokio::test]
async fn a_refused_connection_is_picked_around_and_the_pod_comes_back() {
    let (live, dead) = (Pod::start("live").await, Pod::reserve("dead").await);
    let mut world = world(&[&dead, &live], |_| {}).await;
    for _ in 0..20 {
        assert_eq!(
            world.client.model_infer(infer("m", "echo")).await.unwrap().metadata().get("x-pod").unwrap(),
            "live"
        );
    }
    let pods = world.node.picker().pods();
    assert!(pods[0].is_ejected() && !pods[1].is_ejected());
    assert_eq!(pods[0].stats().ejections.load(SeqCst), 1);
    let reborn = dead.restart().await;
    eventually("the pod is readmitted", || !pods[0].is_ejected()).await;
    for _ in 0..20 {
        world.client.model_infer(infer("m", "echo")).await.unwrap();
    }
    assert!(reborn.requests() > 0);
    assert_eq!(world.outcomes()[0], 40);
}

/// A Triton that shuts down answers for two seconds, at once, first that its scheduler stops and then NOT_FOUND: the pod that
/// looks least loaded loses every request.
#[tokio::test]
async fn a_pod_that_shuts_down_loses_no_request() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let mut clients = (world.client.clone(), Client::new(world.node.channel("m")));
    a.shut_down();
    for _ in 0..10 {
        let front = clients.0.model_infer(infer("m", "echo")).await.unwrap();
        assert_eq!(front.metadata().get("x-pod").unwrap(), "b");
        let channel = clients.1.model_infer(infer("m", "echo")).await.unwrap();
        assert_eq!(channel.metadata().get("x-pod").unwrap(), "b");
    }
    eventually("the pod is ejected", || world.node.picker().pods()[0].is_ejected()).await;
    // When every pod says so, it is so, in the last one's words.
    b.shut_down();
    clients.0.model_infer(infer("m", "echo")).await.unwrap_err();
    let status = clients.0.model_infer(infer("m", "echo")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "Request for unknown model: 'm' has no available versions")
    );
    eventually("no ticket is left", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes()[0], 20);
}

/// A full queue is news and no failure: the request goes elsewhere at once, nobody is ejected, and no caller sees it while
/// any of the few that are asked takes it. When none does, the caller gets the pod's own words.
#[tokio::test]
async fn what_a_full_pod_refuses_is_picked_elsewhere_at_once() {
    let pods = [Pod::start("a").await, Pod::start("b").await, Pod::start("c").await, Pod::start("d").await];
    let world = world(&pods.each_ref(), |options| options.forward.after_refusal = 2).await;
    let mut clients = (world.client.clone(), Client::new(world.node.channel("m")));
    pods[..2].iter().for_each(|pod| pod.set_full(true));
    for _ in 0..10 {
        for answer in [clients.0.model_infer(infer("m", "echo")).await, clients.1.model_infer(infer("m", "echo")).await]
        {
            let by = answer.unwrap().metadata().get("x-pod").unwrap().clone();
            assert!(by == "c" || by == "d", "{by:?}");
        }
    }
    let refused = || pods.iter().map(Pod::refused).sum::<usize>();
    let before = refused();
    assert!(before > 0, "nobody asked a full pod: there is nothing to see");
    // All of them are: the first pick and two more, each at another pod, and then the caller is told as it was said.
    pods.iter().for_each(|pod| pod.set_full(true));
    let status = clients.0.model_infer(infer("m", "echo")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "[request id: x1] Exceeds maximum queue size"));
    assert_eq!(refused() - before, 3);
    assert!(pods.iter().all(|pod| pod.requests() > 0 || pod.refused() > 0));
    assert!(world.node.picker().pods().iter().all(|pod| !pod.is_ejected()));
    eventually("no ticket is left", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [20, 0, refused() as u64, 0]);
}

/// Where no pod ever idles nothing is learned, and Triton's own statistics are the best there is: they are asked for by
/// themselves, and only until something is learned.
#[tokio::test]
async fn what_a_model_costs_is_asked_for_while_nothing_was_learned() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut client = world.client.clone();
    let hanging = tokio::spawn(async move { client.model_infer(infer("m", "hang")).await });
    let estimate = || {
        let models = world.node.picker().models();
        models.iter().find(|model| model.name() == "m").map(|model| model.cost.estimate(0).as_ms())
    };
    eventually("the model is known", || estimate().is_some()).await;
    eventually("its mean was asked for", || estimate() == Some(40.0)).await;
    hanging.abort();
    world.client.clone().model_infer(infer("m", "echo")).await.unwrap();
    eventually("what is learned replaces it", || estimate() != Some(40.0)).await;
}

fn configured(instances: i32) -> ModelConfig {
    let group = ModelInstanceGroup { count: instances, ..ModelInstanceGroup::default() };
    ModelConfig { instance_group: vec![group], ..ModelConfig::default() }
}

/// A pod knows itself how many it runs at once: nobody should have to write it down, and no request should pay for it.
#[tokio::test]
async fn a_models_configuration_is_read_once_a_connection() {
    let pod = Pod::start("a").await;
    pod.configure(configured(3));
    let mut world = world(&[&pod], |_| {}).await;
    for _ in 0..20 {
        world.client.model_infer(infer("m", "echo")).await.unwrap();
    }
    let pods = world.node.picker().pods();
    eventually("the slots are read", || pods[0].slots() == 3).await;
    assert_eq!((pod.requests(), pod.config_questions()), (20, 1));

    pod.kill().await;
    let reborn = pod.restart().await;
    reborn.configure(configured(5));
    eventually_ok(&mut world).await;
    // The first request over a connection that was made for it comes too early to notice.
    world.client.model_infer(infer("m", "echo")).await.unwrap();
    eventually("the new slots are read", || pods[0].slots() == 5).await;
    assert_eq!((world.in_flight(), reborn.config_questions()), (0, 1));
}

/// Servers that are no Triton, or do not let everybody ask, must serve as before, and not be asked for ever.
#[tokio::test]
async fn a_pod_that_does_not_say_serves_all_the_same() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    for _ in 0..20 {
        world.client.model_infer(infer("m", "echo")).await.unwrap();
    }
    let pods = world.node.picker().pods();
    eventually("it was asked", || pod.config_questions() == 1).await;
    assert_eq!((pods[0].slots(), pods[0].is_ejected()), (1, false));
    world.client.model_infer(infer("m", "echo")).await.unwrap();
    assert_eq!((pod.config_questions(), world.outcomes()), (1, [21, 0, 0, 0]));
}

/// What is written for a pod wins; and who does not want the question can switch it off.
#[tokio::test]
async fn what_is_given_for_a_pod_wins_over_what_is_read() {
    let (read, given) = (Pod::start("read").await, Pod::start("given").await);
    read.configure(configured(3));
    given.configure(configured(3));
    let mut world = world(&[&read], |options| options.forward.read_model_config = false).await;
    world.client.model_infer(infer("m", "echo")).await.unwrap();
    assert_eq!((world.node.picker().pods()[0].slots(), read.config_questions()), (1, 0));

    let mut spec = given.spec();
    spec.slots = 2;
    world.node.set_pods(vec![spec]).unwrap();
    let mut client = Client::new(world.node.channel("m"));
    eventually("it is the only pod", || world.node.picker().pods()[0].name() == "given").await;
    client.model_infer(infer("m", "echo")).await.unwrap();
    eventually("it is asked", || given.config_questions() == 1).await;
    client.model_infer(infer("m", "echo")).await.unwrap();
    assert_eq!(world.node.picker().pods()[0].slots(), 2);
}

/// Asks until there is an answer: the pod may be out for a moment.
async fn eventually_ok(world: &mut World) {
    for _ in 0..200 {
        if world.client.model_infer(infer("m", "echo")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no answer within 4 s");
}

/// When all are down the caller must be told which and why, not "connection refused" by nobody.
#[tokio::test]
async fn no_pod_left_says_which_were_tried_and_why() {
    let (a, b) = (Pod::reserve("a").await, Pod::reserve("b").await);
    let mut world = world(&[&a, &b], |_| {}).await;
    let status = world.client.model_infer(infer("m", "echo")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for word in ["`a`", "`b`", "refused", a.addr()] {
        assert!(status.message().contains(word), "{word} in {status}");
    }
    let status = Client::new(world.node.channel("m")).model_infer(infer("m", "echo")).await.unwrap_err();
    assert!(status.message().contains("refused"), "{status}");
    assert_eq!(world.in_flight(), 0);
}

/// A request that was sent may have run: a second run is the caller's to decide.
#[tokio::test]
async fn a_request_that_dies_in_flight_is_not_sent_again() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let world = world(&[&a, &b], |_| {}).await;
    let mut client = world.client.clone();
    let call = tokio::spawn(async move { client.model_infer(infer("m", "hang")).await });
    eventually("a pod has it", || a.requests() + b.requests() == 1).await;
    let name = if a.requests() == 1 { "a" } else { "b" };
    if name == "a" {
        a.kill().await
    } else {
        b.kill().await
    }
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(&format!("pod `{name}` broke off")), "{status}");
    assert_eq!(a.requests() + b.requests(), 1);
    eventually("the ticket ends", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [0, 1, 0, 0]);
}

/// The same when half of the answer was there: the caller gets a status, not a torn stream.
#[tokio::test]
async fn a_pod_that_dies_while_it_answers_is_named() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    let (metadata, _, message) = infer("m", "stall-after-message").into_parts();
    let request = tonic::Request::from_parts(metadata, tonic::Extensions::new(), tokio_stream::iter([message]));
    let mut answers = world.client.model_stream_infer(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    pod.kill().await;
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("pod `a` broke off while it answered"), "{status}");
    assert_eq!(world.outcomes(), [0, 1, 0, 0]);
}

/// Callers and pods talk in metadata that the node knows nothing of.
#[tokio::test]
async fn metadata_trailers_and_statuses_pass_unchanged() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let channel = world.node.channel("m");
    let mut clients = (world.client.clone(), Client::new(channel));
    for through_channel in [false, true] {
        let mut request = infer("m", "echo");
        request.metadata_mut().insert("x-tenant", "seven".parse().unwrap());
        let answer = match through_channel {
            false => clients.0.model_infer(request).await,
            true => clients.1.model_infer(request).await,
        };
        let answer = answer.unwrap();
        assert_eq!(answer.metadata().get("x-tenant-seen").unwrap(), "seven");
        assert_eq!(answer.metadata().get("x-authority-seen").unwrap(), pod.addr());
        assert_eq!(answer.metadata().get("x-trailer").unwrap(), "late");
        let request = infer("m", "status-9-a%20text%0Awith%20lines");
        let status = match through_channel {
            false => clients.0.model_infer(request).await,
            true => clients.1.model_infer(request).await,
        };
        let status = status.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "a text\nwith lines"));
        assert_eq!(status.metadata().get("x-trailer").unwrap(), "late");
    }
    assert_eq!(world.outcomes(), [4, 0, 0, 0]);
}

/// Memory is bounded by the windows: a pod that does not read must stop its caller, whatever the message's size.
#[tokio::test]
async fn a_large_message_passes_at_the_pods_pace() {
    const SIZE: usize = 64 << 20;
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let (body, pushed) = fake::large(SIZE);
    let call = tokio::spawn(fake::post(world.addr.clone(), fake::grpc_request("ModelInfer", "count", body)));
    eventually("the pod has it", || pod.requests() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Two stream windows of 1 MiB, and what lies in socket and send buffers.
    assert!(pushed.load(SeqCst) < 16 << 20, "{} bytes are on their way", pushed.load(SeqCst));
    pod.release();
    let answer = call.await.unwrap();
    assert_eq!(answer.status_code(), "0");
    assert_eq!(pod.bytes(), SIZE);
}

/// A pod must not meet what it cannot take, and its caller must learn the sizes.
#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_it_is_read() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |options| options.forward.max_message_bytes = 1000).await;
    world.client.model_infer(infer("m", "echo")).await.unwrap();
    let large = || {
        let mut request = infer("m", "echo");
        request.get_mut().raw_input_contents = vec![vec![0; 2000].into()];
        request
    };
    let status = world.client.model_infer(large()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("over the limit of 1000 bytes"), "{status}");
    let mut options = ForwardOptions::default();
    options.max_message_bytes = 1000;
    let status = Client::new(world.node.channel("m").options(options)).model_infer(large()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(pod.requests(), 1);
    // A later message of a stream, after answers have flowed.
    let (sender, receiver) = mpsc::unbounded_channel();
    let (metadata, _, message) = infer("m", "bidi").into_parts();
    let stream = UnboundedReceiverStream::new(receiver);
    let request = tonic::Request::from_parts(metadata, tonic::Extensions::new(), stream);
    sender.send(message).unwrap();
    let mut answers = world.client.model_stream_infer(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    sender.send(large().into_inner()).unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("over the limit of 1000 bytes"), "{status}");
}

/// A pod that hangs (SIGSTOP) accepts everything and answers nothing: only the deadline ends that.
#[tokio::test]
async fn a_deadline_is_kept_when_the_pod_hangs() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    for (call, what) in [(1, "hang"), (2, "stall-after-message")] {
        let message = fake::framed(&infer("m", what).into_inner());
        let mut request = fake::grpc_request("ModelInfer", what, fake::whole(message));
        request.headers_mut().insert("grpc-timeout", "200m".parse().unwrap());
        let answer = fake::post(world.addr.clone(), request).await;
        assert_eq!(answer.status_code(), "4", "{what}");
        eventually("the pod hears of it", || pod.cancelled() == call).await;
        assert_eq!(world.outcomes(), [0, 0, 0, call as u64]);
    }
    // The pod is told of a later one: a Triton that gives up first breaks the connection for all.
    assert_eq!(pod.timeout_seen(), "1200m");
}

/// A model that hides in a compressed message is the model all the same: else its requests went to pods without it.
#[tokio::test]
async fn requests_go_where_their_model_is_compressed_or_not() {
    let (a, b) = (Pod::start("a").await.serving("a"), Pod::start("b").await.serving("b"));
    let world = world(&[&a, &b], |_| {}).await;
    for _ in 0..5 {
        for (model, gzip) in [("a", false), ("a", true), ("b", false), ("b", true)] {
            let message = infer(model, "echo").into_inner();
            let (message, encoding) = match gzip {
                true => (fake::gzipped(&message), "gzip"),
                false => (fake::framed(&message), "identity"),
            };
            let mut request = fake::grpc_request("ModelInfer", "echo", fake::whole(message.clone()));
            request.headers_mut().insert("grpc-encoding", encoding.parse().unwrap());
            let answer = fake::post(world.addr.clone(), request).await;
            assert_eq!(answer.head.headers["x-pod"], model);
            assert_eq!(answer.body, message, "the bytes are untouched");
        }
    }
    let status = world.client.clone().model_infer(infer("c", "echo")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no pod left for model `c`"), "{status}");
}

/// A stream is a conversation: an answer must come before the next question is asked.
#[tokio::test]
async fn a_streams_messages_interleave() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut front = world.client.clone();
    let mut channel = Client::new(world.node.channel("m"));
    for through_channel in [false, true] {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (metadata, _, message) = infer("m", "bidi").into_parts();
        let stream = UnboundedReceiverStream::new(receiver);
        let request = tonic::Request::from_parts(metadata, tonic::Extensions::new(), stream);
        // Nothing was sent yet: neither face may wait for ever for a first message.
        let answers = match through_channel {
            false => front.model_stream_infer(request).await,
            true => channel.model_stream_infer(request).await,
        };
        let mut answers = answers.unwrap().into_inner();
        for _ in 0..5 {
            sender.send(message.clone()).unwrap();
            assert!(answers.message().await.unwrap().is_some());
        }
        drop(sender);
        assert!(answers.message().await.unwrap().is_none());
    }
    // Five requests in each, and what asked for the head.
    assert_eq!(world.outcomes(), [12, 0, 0, 0]);
}

#[tokio::test]
async fn what_is_no_call_to_triton_is_answered_as_grpc_says() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut request = fake::grpc_request("Nonsense", "unimplemented", fake::whole(Bytes::new()));
    *request.uri_mut() = "/some.Service/Method".parse().unwrap();
    let answer = fake::post(world.addr.clone(), request).await;
    assert_eq!((answer.head.status, answer.status_code().as_str()), (StatusCode::OK, "12"));
    let mut request: Request<_> = fake::grpc_request("ModelInfer", "echo", fake::whole(Bytes::new()));
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    // That is REST, which no pod here takes.
    let answer = fake::post(world.addr.clone(), request).await;
    assert_eq!(answer.head.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.starts_with(br#"{"error":"no pod takes HTTP: give pods an address for it"#), "{answer:?}");
    assert_eq!(pod.requests(), 0);
    // What Triton has and the node knows nothing of goes to a pod and costs nothing.
    let unknown = fake::grpc_request("NotYetInvented", "echo", fake::whole(Bytes::from_static(&[0; 5])));
    assert_eq!(fake::post(world.addr.clone(), unknown).await.status_code(), "0");
    assert_eq!(pod.requests(), 1);
}

/// The first bytes of grpcio 1.85 with the target `ipv4:127.0.0.1:28001,127.0.0.1:28002`, as captured.
const GRPCIO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00$\x04\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x04\x00@\x00\x00\x00\x05\x00@\x00\x00\x00\x06\x00\x00@\x00\xfe\x03\x00\x00\x00\x01\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00?\x00\x01\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x01\n\x01\x04\x00\x00\x00\x01@\x05:path*/inference.GRPCInferenceService/ServerLive@\n:authority\x1f127.0.0.1:28001,127.0.0.1:28002\x83\x86@\x0ccontent-type\x10application/grpc@\x02te\x08trailers@\x14grpc-accept-encoding\x17identity, deflate, gzip@\x0cgrpc-timeout\x04993m@\nuser-agent0grpc-python/1.85.1 grpc-c/58.0.0 (linux; chttp2)\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00";

/// Python clients with a list of addresses as their target send it as `:authority`, which HTTP/2 servers reset.
#[tokio::test]
async fn a_list_of_addresses_as_authority_is_let_in() {
    let world = world(&[], |_| {}).await;
    let mut stream = TcpStream::connect(&world.addr).await.unwrap();
    stream.write_all(GRPCIO).await.unwrap();
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    // Until a frame of stream 1 ends it: HEADERS (1), DATA (0), HEADERS; a reset would be 3.
    while !(head[8] == 1 && (head[4] & 1 != 0 || head[3] == 3)) {
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if head[8] == 1 && head[3] != 8 {
            kinds.push(head[3]);
        }
    }
    assert_eq!(kinds, [1, 0, 1]);
}

/// A rolling update must not cost a request: what runs finishes, what comes goes elsewhere.
#[tokio::test]
async fn a_shutdown_lets_streams_finish() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    let (metadata, _, message) = infer("m", "stall-after-message").into_parts();
    let request = tonic::Request::from_parts(metadata, tonic::Extensions::new(), tokio_stream::iter([message]));
    let mut answers = world.client.model_stream_infer(request).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    world.shutdown.take().unwrap().send(()).unwrap();
    eventually("nobody is accepted", || std::net::TcpStream::connect(&world.addr).is_err()).await;
    assert!(!world.served.is_finished());
    pod.release();
    assert!(answers.message().await.unwrap().is_none());
    tokio::time::timeout(Duration::from_secs(5), world.served).await.unwrap().unwrap();
}

/// Balancers in front of a node need a moment to notice that it ends: what they send in that moment must be served, while all that
/// they look at says no.
#[tokio::test]
async fn in_its_grace_a_front_serves_and_says_that_it_is_not_ready() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |options| options.grace = Duration::from_secs(600)).await;
    let connect = async || Channel::from_shared(format!("http://{}", world.addr)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(connect().await);
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status, 1);
    world.shutdown.take().unwrap().send(()).unwrap();
    assert_eq!(watched.next().await.unwrap().unwrap().status, 2);
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status, 2);
    assert!(!world.client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert!(world.client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    world.client.model_infer(infer("m", "echo")).await.unwrap();
    let mut late = Client::new(connect().await);
    late.model_infer(infer("m", "echo")).await.unwrap();
    world.served.abort();
}

/// And one that never finishes must not hold the process for ever.
#[tokio::test]
async fn a_shutdown_cuts_what_does_not_finish_in_time() {
    let pod = Pod::start("a").await;
    let mut world = world(&[&pod], |options| options.drain = Duration::from_millis(200)).await;
    let mut client = world.client.clone();
    let call = tokio::spawn(async move { client.model_infer(infer("m", "hang")).await });
    eventually("the pod has it", || pod.requests() == 1).await;
    world.shutdown.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), world.served).await.unwrap().unwrap();
    assert!(call.await.unwrap().is_err());
    eventually("the ticket ends", || pod.cancelled() == 1).await;
}

/// To its callers the front is one server: it is ready when somebody is, and says whatever pods agree on.
#[tokio::test]
async fn questions_are_answered_for_the_fleet() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let mut world = world(&[&a, &b], |_| {}).await;
    let channel = Channel::from_shared(format!("http://{}", world.addr)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let check = HealthCheckRequest { service: String::new() };
    let mut watched = health.watch(check.clone()).await.unwrap().into_inner();
    let ready = ModelReadyRequest { name: "m".into(), version: String::new() };

    assert!(world.client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    a.set_ready(false);
    assert!(world.client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert!(world.client.model_ready(ready.clone()).await.unwrap().into_inner().ready);
    assert_eq!(health.check(check.clone()).await.unwrap().into_inner().status, 1);
    assert_eq!(watched.next().await.unwrap().unwrap().status, 1);

    b.set_ready(false);
    assert!(!world.client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert!(!world.client.model_ready(ready.clone()).await.unwrap().into_inner().ready);
    assert_eq!(health.check(check).await.unwrap().into_inner().status, 2);
    assert_eq!(watched.next().await.unwrap().unwrap().status, 2);

    a.kill().await;
    b.kill().await;
    let status = world.client.model_ready(ready).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("pod `a`"), "{status}");
    assert_eq!(world.in_flight(), 0);
}
