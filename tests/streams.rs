//! Streams of requests: what each request in one costs and when that ends, where it goes, and what happens to it there.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

#[allow(dead_code, reason = "each suite uses its part")]
mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use fake::world::{Client, World, world, world_of};
use fake::{Pod, eventually};
use plimsoll::forward::{FrontOptions, ModelOptions};
use plimsoll::node::NodeConfig;
use plimsoll::observe::Cost;
use plimsoll::pick::Request;
use plimsoll_proto::inference::infer_parameter::ParameterChoice;
use plimsoll_proto::inference::{
    InferParameter, ModelConfig, ModelInferRequest, ModelStreamInferResponse, ModelTransactionPolicy,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

/// One open stream.
struct Talk {
    say: Option<mpsc::UnboundedSender<ModelInferRequest>>,
    answers: Streaming<ModelStreamInferResponse>,
    /// The pod that the response's head names.
    pod: Option<String>,
}

impl Talk {
    /// Opens it with a first request, `id`, that says `what`.
    async fn begin<C>(client: &mut Client<C>, id: &str, what: &str) -> Result<Talk, Status>
    where
        C: tonic::client::GrpcService<tonic::body::Body>,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        Talk::begin_with(client, request(id, what)).await
    }

    /// Opens it with `first`.
    async fn begin_with<C>(client: &mut Client<C>, first: ModelInferRequest) -> Result<Talk, Status>
    where
        C: tonic::client::GrpcService<tonic::body::Body>,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <C::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let (say, said) = mpsc::unbounded_channel();
        say.send(first).unwrap();
        let mut asked = tonic::Request::new(UnboundedReceiverStream::new(said));
        asked.metadata_mut().insert("x-do", "talk".parse().unwrap());
        let answer = client.model_stream_infer(asked).await?;
        let pod = answer.metadata().get("plimsoll-pod").map(|pod| pod.to_str().unwrap().to_owned());
        Ok(Talk { say: Some(say), answers: answer.into_inner(), pod })
    }

    fn say(&self, id: &str, what: &str) {
        self.say.as_ref().unwrap().send(request(id, what)).unwrap();
    }

    /// The id of the next answer, and the pod that gave it or why there is none.
    async fn hear(&mut self) -> (String, Result<String, String>) {
        let answer = tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await.unwrap();
        let answer = answer.unwrap().unwrap();
        let response = answer.infer_response.unwrap_or_default();
        match answer.error_message.is_empty() {
            true => (response.id, Ok(response.model_version)),
            false => (response.id, Err(answer.error_message)),
        }
    }

    /// Says that nothing follows, and returns how it ends.
    async fn end(mut self) -> Result<Option<ModelStreamInferResponse>, Status> {
        self.say = None;
        tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await.unwrap()
    }
}

fn request(id: &str, what: &str) -> ModelInferRequest {
    let what = InferParameter { parameter_choice: Some(ParameterChoice::StringParam(what.into())) };
    ModelInferRequest {
        model_name: "m".into(),
        id: id.into(),
        parameters: [("do".to_owned(), what)].into_iter().collect(),
        raw_input_contents: vec![Bytes::from_static(&[7; 100])],
        ..ModelInferRequest::default()
    }
}

/// The same with a tensor of 1.5 MiB, which comes in several pieces, and one answer.
fn large(id: &str) -> ModelInferRequest {
    ModelInferRequest { raw_input_contents: vec![vec![7; 1500 << 10].into()], ..request(id, "once") }
}

fn decoupled() -> ModelConfig {
    let model_transaction_policy = Some(ModelTransactionPolicy { decoupled: true });
    ModelConfig { model_transaction_policy, ..ModelConfig::default() }
}

async fn two(adjust: impl FnOnce(&mut ModelOptions)) -> (Pod, Pod, World) {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let adjust = |options: &mut FrontOptions| adjust(options.forward.models.entry("m".into()).or_default());
    let world = world(&[&a, &b], adjust).await;
    (a, b, world)
}

/// A service keeps one stream open for days: while nothing is asked in it, its pod must not look busy; and three requests in
/// it are three, not one.
#[tokio::test]
async fn a_stream_costs_what_the_requests_in_it_cost() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
    assert_eq!(talk.hear().await, ("1".into(), Ok("a".into())));
    eventually("an idle stream costs nothing", || world.in_flight() == 0).await;
    for id in ["2", "3", "4"] {
        talk.say(id, "never");
    }
    eventually("three requests are in flight", || world.in_flight() == 3).await;
    talk.say("5", "fail");
    assert_eq!(talk.hear().await, ("5".into(), Err("the model says no".into())));
    assert_eq!(world.in_flight(), 3);
    drop(talk);
    eventually("all are given back", || world.in_flight() == 0).await;
    assert_eq!(world.outcomes(), [2, 0, 0, 3]);
}

/// The same through a client of the library.
#[tokio::test]
async fn a_stream_of_the_channel_costs_the_same() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut talk = Talk::begin(&mut Client::new(world.node.channel("m")), "1", "once").await.unwrap();
    assert_eq!(talk.hear().await, ("1".into(), Ok("a".into())));
    talk.say("2", "never");
    eventually("one request is in flight", || world.in_flight() == 1).await;
    drop(talk);
    eventually("it is given back", || world.in_flight() == 0).await;
}

/// A decoupled model answers as often as it likes: where the client asks for it, it says which answer is the last, and until
/// then the pod works.
#[tokio::test]
async fn a_decoupled_request_is_in_flight_until_its_last_answer() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "1", "thrice-flagged").await.unwrap();
    assert_eq!(talk.hear().await.0, "1");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.in_flight(), 1);
    pod.release();
    assert!(talk.hear().await.1.is_ok());
    assert!(talk.hear().await.1.is_ok());
    eventually("it is over", || world.in_flight() == 0).await;
}

/// Where nobody says which answer is the last, silence says it: a stream that stands open must not charge its pod for ever.
#[tokio::test]
async fn a_decoupled_request_that_is_silent_is_over() {
    let pod = Pod::start("a").await;
    pod.configure(decoupled());
    let world = world(&[&pod], |_| {}).await;
    // The configuration is read beside the first request.
    let mut first = Talk::begin(&mut world.client.clone(), "0", "once").await.unwrap();
    assert!(first.hear().await.1.is_ok());
    eventually("the configuration is read", || pod.config_questions() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "1", "thrice").await.unwrap();
    for _ in 0..3 {
        assert_eq!(talk.hear().await.0, "1");
    }
    assert!(world.in_flight() >= 1, "the last answer may be yet to come");
    eventually("it is over", || world.in_flight() == 0).await;
    talk.say("2", "thrice");
    assert_eq!(talk.hear().await.0, "2");
}

/// A Triton that shuts down goes on taking streams, and refuses inside of them: callers must see none of it while another pod
/// is left, in the first request of a stream as in a later one, and in one whose caller has said all.
#[tokio::test]
async fn what_a_pod_that_shuts_down_refuses_inside_a_stream_goes_to_another_one() {
    let (a, b, world) = two(|_| {}).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
    let (_, first) = talk.hear().await;
    let (leaving, other) = if first == Ok("a".into()) { (&a, "b") } else { (&b, "a") };
    assert_eq!(talk.pod, first.ok());
    leaving.refuse_in_streams();
    for id in ["2", "3", "4"] {
        talk.say(id, "once");
        assert_eq!(talk.hear().await, (id.into(), Ok(other.into())));
    }
    assert_eq!(leaving.refused(), 1, "the stream goes on at the other pod");
    assert!(talk.end().await.unwrap().is_none());
    for _ in 0..4 {
        let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
        talk.say = None;
        assert_eq!(talk.hear().await, ("1".into(), Ok(other.into())));
        assert_eq!(talk.pod.as_deref(), Some(other), "the head names the pod that served");
        assert!(talk.end().await.unwrap().is_none());
    }
    eventually("nothing is in flight", || world.in_flight() == 0).await;
}

/// A pod whose queue is full refuses one request and ends the stream well, when its caller has said all: the stream's end must
/// wait for the answer of the pod that takes it then.
#[tokio::test]
async fn a_stream_ends_with_the_answer_to_what_was_sent_again() {
    let (a, _b, world) = two(|_| {}).await;
    a.refuse_in_streams_with("[request id: 1] Exceeds maximum queue size");
    for _ in 0..20 {
        let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
        talk.say = None;
        assert_eq!(talk.hear().await, ("1".into(), Ok("b".into())));
        assert!(talk.end().await.unwrap().is_none());
    }
    assert!(a.refused() > 0);
}

/// Tensors come in pieces inside of streams too: a request that is on its way in pieces is offered to another pod as a small
/// one is.
#[tokio::test]
async fn a_large_request_in_a_stream_is_offered_to_another_pod() {
    let (a, _b, world) = two(|_| {}).await;
    a.refuse_in_streams_with("[request id: 1] Exceeds maximum queue size");
    for _ in 0..10 {
        let mut talk = Talk::begin_with(&mut world.client.clone(), large("1")).await.unwrap();
        assert_eq!(talk.hear().await, ("1".into(), Ok("b".into())));
        talk.say.as_ref().unwrap().send(large("2")).unwrap();
        assert_eq!(talk.hear().await, ("2".into(), Ok("b".into())));
        assert!(talk.end().await.unwrap().is_none());
    }
    assert!(a.refused() > 0);
}

/// Where nothing is kept the caller gets the pod's word; the next request must not meet the same all the same.
#[tokio::test]
async fn what_a_pod_refuses_for_good_inside_a_stream_is_noted() {
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let never = |config: &mut NodeConfig| config.health.interval = Duration::ZERO;
    let world = world_of(&[&a, &b], never, |options| options.forward.retry.keep_bytes = 0).await;
    a.refuse_in_streams();
    let mut told = 0;
    for _ in 0..20 {
        let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
        told += usize::from(talk.hear().await.1.is_err());
    }
    assert_eq!((told, a.refused()), (1, 1), "a pod that said that it lacks the model was asked again");
}

/// A pod that ends a stream and says when to come again means it there, too.
#[tokio::test]
async fn a_pod_that_asks_for_rest_by_a_streams_end_gets_it() {
    let (a, b, world) = two(|_| {}).await;
    for _ in 0..30 {
        let mut asked = tonic::Request::new(tokio_stream::iter([request("1", "once")]));
        asked.metadata_mut().insert("x-do", "head-a@8-busy".parse().unwrap());
        asked.metadata_mut().insert("x-push-back", "60000".parse().unwrap());
        // `b` answers with the request itself, which is no answer.
        if let Ok(answer) = world.client.clone().model_stream_infer(asked).await {
            let _ = answer.into_inner().message().await;
        }
    }
    // It takes a moment until picks know of it.
    assert!((1..=3).contains(&a.requests()), "{} of 30 went there", a.requests());
    assert_eq!(a.requests() + b.requests(), 30);
}

/// When no pod is left the caller gets what the pod said, in its stream, which goes on.
#[tokio::test]
async fn what_all_pods_refuse_is_told() {
    let (a, b, world) = two(|_| {}).await;
    a.refuse_in_streams();
    b.refuse_in_streams();
    let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
    for id in ["1", "2"] {
        if id != "1" {
            talk.say(id, "once");
        }
        let (of, why) = talk.hear().await;
        assert_eq!(of, id);
        assert!(why.unwrap_err().contains("has no available versions"));
    }
    assert!(talk.end().await.unwrap().is_none());
}

/// Requests without ids cannot be told apart: of several under way none may be sent again, since another one may be meant.
#[tokio::test]
async fn what_may_mean_another_request_is_not_sent_again() {
    let (a, b, world) = two(|_| {}).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "", "once").await.unwrap();
    let (_, first) = talk.hear().await;
    talk.say("", "never");
    eventually("it is under way", || a.bytes() + b.bytes() == 2).await;
    if first == Ok("a".into()) {
        a.refuse_in_streams()
    } else {
        b.refuse_in_streams()
    }
    talk.say("", "once");
    let (_, why) = talk.hear().await;
    assert!(why.unwrap_err().contains("has no available versions"));
}

/// Where a model has no state its owner may have each request in a stream picked for: then one stream uses all pods, answers
/// stay whole, and each finds its request.
#[tokio::test]
async fn a_balanced_stream_uses_all_pods() {
    let (_a, _b, world) = two(|model| model.balance_streams = true).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "0", "slowly").await.unwrap();
    for id in 1..20 {
        talk.say(&id.to_string(), if id % 3 == 0 { "slowly" } else { "once" });
    }
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..20 {
        let (id, pod) = talk.hear().await;
        assert!(ids.insert(id));
        used.insert(pod.unwrap());
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(talk.pod, None, "no one pod served it");
    assert!(talk.end().await.unwrap().is_none());
    eventually("nothing is in flight", || world.in_flight() == 0).await;
}

/// A pod that dies takes its own requests of a balanced stream along and no others: their callers are told in the stream,
/// or they are sent again where they may run twice.
#[tokio::test]
async fn a_balanced_stream_outlives_a_pod() {
    for idempotent in [false, true] {
        let adjust = |model: &mut ModelOptions| (model.balance_streams, model.idempotent) = (true, idempotent);
        let (a, b, world) = two(adjust).await;
        let mut talk = Talk::begin(&mut world.client.clone(), "0", "once").await.unwrap();
        assert!(talk.hear().await.1.is_ok());
        // Whoever has fewer in flight gets the next: both have one.
        talk.say("1", "never");
        talk.say("2", "never");
        eventually("both pods have one", || a.bytes() + b.bytes() == 3).await;
        let before = b.bytes();
        a.kill().await;
        if !idempotent {
            let (id, why) = talk.hear().await;
            assert!(id == "1" || id == "2");
            assert!(why.unwrap_err().contains("pod `a` broke off"));
        } else {
            eventually("it is sent again", || b.bytes() == before + 1).await;
        }
        talk.say("3", "once");
        assert_eq!(talk.hear().await, ("3".into(), Ok("b".into())));
    }
}

/// A stream that keeps to its pod ends with it, as it would without a node between.
#[tokio::test]
async fn a_stream_ends_with_its_pod() {
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let mut talk = Talk::begin(&mut world.client.clone(), "1", "once").await.unwrap();
    assert!(talk.hear().await.1.is_ok());
    talk.say("2", "never");
    eventually("it is under way", || world.in_flight() == 1).await;
    pod.kill().await;
    let status = talk.answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("pod `a` broke off while it answered"), "{status}");
    eventually("it is given back", || world.in_flight() == 0).await;
}

/// A sequence that began inside a stream is continued in another one, through a node that never heard of it: it must be found
/// there, wherever the stream's own pod is.
#[tokio::test]
async fn a_sequence_that_began_in_a_stream_is_found_again() {
    let mut pods = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        pods.push(Pod::start(name).await);
    }
    let pods: Vec<&Pod> = pods.iter().collect();
    let (first, second) = (world(&pods, |_| {}).await, world(&pods, |_| {}).await);
    let of = |sequence: u64, flag: &str| {
        let choice = |choice| InferParameter { parameter_choice: Some(choice) };
        let mut request = request(&sequence.to_string(), "once");
        request.parameters.insert("sequence_id".into(), choice(ParameterChoice::Uint64Param(sequence)));
        request.parameters.insert(flag.into(), choice(ParameterChoice::BoolParam(true)));
        request
    };
    let mut begun = Vec::new();
    let mut talk = Talk::begin(&mut first.client.clone(), "0", "once").await.unwrap();
    talk.hear().await.1.unwrap();
    for sequence in 1..=20 {
        talk.say.as_ref().unwrap().send(of(sequence, "sequence_start")).unwrap();
        begun.push(talk.hear().await.1.unwrap());
    }
    talk.end().await.unwrap();
    let mut talk = Talk::begin(&mut second.client.clone(), "0", "once").await.unwrap();
    talk.hear().await.1.unwrap();
    for (sequence, pod) in (1..).zip(&begun) {
        talk.say.as_ref().unwrap().send(of(sequence, "sequence_end")).unwrap();
        assert_eq!(talk.hear().await, (sequence.to_string(), Ok(pod.clone())));
    }
    assert!(begun.iter().collect::<BTreeSet<_>>().len() > 2, "all began on {begun:?}");
    eventually("all are given back", || first.in_flight() + second.in_flight() == 0).await;
}

/// As the stock client sends them: all requests of several sequences at once, without waiting for the first answer of any. Each
/// sequence must find its pod, and come there in order.
#[tokio::test]
async fn a_sequence_is_sent_without_waiting_for_its_beginning() {
    let mut pods = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        pods.push(Pod::start(name).await);
    }
    let world = world(&pods.iter().collect::<Vec<_>>(), |_| {}).await;
    // A sequence begins on the less busy of two pods, which then is not the first that its id hashes to.
    let busy: Vec<_> = world.node.picker().pods()[..2].iter().map(|pod| pod.id()).collect();
    let held = Request::new("m").cost(Cost::from_ms(60_000.0).unwrap()).among(&busy);
    let _held: Vec<_> = (0..4).map(|_| world.node.pick(&held).unwrap()).collect();
    let mut talk = Talk::begin(&mut world.client.clone(), "0", "once").await.unwrap();
    talk.hear().await.1.unwrap();
    const LENGTH: usize = 6;
    for (sequence, turn) in (1..=20_u64).flat_map(|sequence| (0..LENGTH).map(move |turn| (sequence, turn))) {
        let flag = |flag| InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(flag)) };
        let id = InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(sequence)) };
        let mut request = request(&format!("{sequence}.{turn}"), "once");
        request.parameters.insert("sequence_id".into(), id);
        request.parameters.insert("sequence_start".into(), flag(turn == 0));
        request.parameters.insert("sequence_end".into(), flag(turn == LENGTH - 1));
        talk.say.as_ref().unwrap().send(request).unwrap();
    }
    let mut heard: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for _ in 0..20 * LENGTH {
        let (id, pod) = talk.hear().await;
        let (sequence, turn) = id.split_once('.').unwrap();
        heard.entry(sequence.into()).or_default().push((turn.into(), pod.unwrap()));
    }
    for answers in heard.values() {
        let expected: Vec<_> = (0..LENGTH).map(|turn| (turn.to_string(), answers[0].1.clone())).collect();
        assert_eq!(*answers, expected);
    }
    assert!(heard.values().map(|answers| &answers[0].1).collect::<BTreeSet<_>>().len() > 2);
    assert_eq!(pods.iter().map(Pod::refused).sum::<usize>(), 0, "nobody was asked who has not seen the beginning");
}

/// A client that opens its stream long before it asks: the pod that was found for it by then may not have what is asked for.
#[tokio::test]
async fn a_stream_that_was_open_before_it_asked_reaches_a_pod_with_its_model() {
    let (a, b) = (Pod::start("a").await.serving("other"), Pod::start("b").await.serving("m"));
    let world = world(&[&a, &b], |_| {}).await;
    for _ in 0..6 {
        let (say, said) = mpsc::unbounded_channel();
        let mut asked = tonic::Request::new(UnboundedReceiverStream::new(said));
        asked.metadata_mut().insert("x-do", "talk".parse().unwrap());
        let answer = world.client.clone().model_stream_infer(asked).await.unwrap();
        let mut talk = Talk { say: Some(say), answers: answer.into_inner(), pod: None };
        talk.say("1", "once");
        assert_eq!(talk.hear().await, ("1".into(), Ok("b".into())));
        talk.end().await.unwrap();
    }
}

/// As with a single Triton: what is wrong with one request stands in the stream, which ends well, also where it is the only one and
/// its caller has said all.
#[tokio::test]
async fn what_all_pods_refuse_is_told_in_a_stream_that_is_half_closed() {
    let (a, b, world) = two(|_| {}).await;
    [&a, &b].into_iter().for_each(|pod| pod.refuse_in_streams_with("Request for unknown model: 'm' is not found"));
    for _ in 0..10 {
        let mut asked = tonic::Request::new(tokio_stream::once(request("1", "once")));
        asked.metadata_mut().insert("x-do", "talk".parse().unwrap());
        let mut answers = world.client.clone().model_stream_infer(asked).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.error_message, "Request for unknown model: 'm' is not found");
        assert!(answers.message().await.unwrap().is_none());
    }
}
