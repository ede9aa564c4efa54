//! A Redis as the fleet's shared state, with one that does what a test tells it: whatever it does, a pick is answered within the
//! deadline, and what it may have charged is given back.

#![cfg(feature = "redis")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod fake_redis;

use std::net::SocketAddr;
use std::time::Duration;

use fake_redis::{Does, FakeRedis, Serving};
use plimsoll::driver::clock;
use plimsoll::node::{Credentials, JoinError, Node, NodeConfig, Ticket};
use plimsoll::observe::{Cost, PodSpec};
use plimsoll::pick::{Outcome, Request};
use plimsoll::redis::{RedisAddress, StateOptions, StateView};

/// The ladder is back within two seconds (its own tests say so by the clock that they turn); a machine that tests may be slow.
const LONGEST_AWAY: Duration = Duration::from_secs(10);
/// Longer than the default, because machines that run tests are slow: what is tested is that nobody waits for longer.
const DEADLINE: Duration = Duration::from_millis(60);
/// What else a pick may take on such a machine.
const SLACK: Duration = Duration::from_millis(120);

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn options(addr: SocketAddr) -> StateOptions {
    let address: RedisAddress = format!("redis://{addr}").parse().unwrap();
    let mut options = StateOptions::new(address);
    (options.deadline, options.heartbeat) = (DEADLINE, Duration::from_millis(200));
    options
}

async fn join(options: StateOptions, pods: usize) -> Node {
    let mut config = NodeConfig::new("caller", Credentials::Secret(vec![7; 16]));
    config.pods = (0..pods).map(|k| PodSpec::new(format!("pod-{k}"), format!("http://127.0.0.1:{}", 1 + k))).collect();
    config.slow_start = Duration::ZERO;
    config.state = Some(options);
    Node::join(config).await.unwrap()
}

/// A node with so many pods and a Redis that answers, once it asks that for its picks.
async fn asking(pods: usize) -> (Node, FakeRedis, Serving) {
    let fake = FakeRedis::default();
    let serving = fake.serve(anywhere()).await;
    let node = join(options(serving.addr), pods).await;
    until("it asks", || state(&node).rung == "redis").await;
    (node, fake, serving)
}

fn state(node: &Node) -> StateView {
    node.state().unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = clock::now();
    while !holds() {
        assert!(clock::now().since(began) < Duration::from_secs(10), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn work() -> Request<'static> {
    Request::new("m").cost(Cost::from_ms(10.0).unwrap())
}

fn charged(node: &Node) -> Vec<u32> {
    node.picker().pods().iter().map(|pod| pod.own_in_flight()).collect()
}

/// The whole life of a request: Redis chooses, the node charges what was chosen too, and the end is told.
#[tokio::test(flavor = "multi_thread")]
async fn picks_fall_where_redis_says_and_their_ends_are_told() {
    let (node, fake, _serving) = asking(3).await;
    for (position, pod) in [(2, "pod-1"), (3, "pod-2"), (1, "pod-0")] {
        fake.let_it("pick", Does::Answers(position));
        let ticket = node.pick_strict(&work()).await.unwrap();
        assert_eq!(ticket.pod().name(), pod);
        assert_eq!(charged(&node).iter().sum::<u32>(), 1);
        ticket.finish(Outcome::Served);
    }
    let picks = fake.calls("pick");
    assert_eq!(&picks[0][2..3], ["10"]);
    assert_eq!(&picks[0][4..], ["3", "pod-0", "pod-1", "pod-2"]);
    until("all is told", || fake.told().len() == 6).await;
    let numbers = picks.iter().flat_map(|args| ["-".to_owned(), args[1].clone()]);
    assert_eq!(fake.told(), numbers.collect::<Vec<_>>());
    let seen = state(&node);
    assert_eq!((seen.asked, seen.answered, seen.unasked, seen.in_flight), (3, 3, 0, 0));
    assert_eq!(node.view().await.unwrap().policy, "redis");
}

/// What a request may not have must not be offered, and where there is no choice nobody waits for one.
#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_what_the_node_would_pick_itself() {
    let (node, fake, _serving) = asking(4).await;
    let pods = node.picker().pods();
    let ids: Vec<_> = pods.iter().map(|pod| pod.id()).collect();
    pods[1].eject();
    let offered = |call: usize| fake.calls("pick")[call][5..].to_vec();
    let among = [ids[0], ids[1], ids[2]];
    let _first = node.pick_strict(&work().among(&among)).await.unwrap();
    assert_eq!(offered(0), ["pod-0", "pod-2"]);
    let _second = node.pick_strict(&work().exclude(&ids[..1])).await.unwrap();
    assert_eq!(offered(1), ["pod-2", "pod-3"]);
    let _full = node.pick_strict(&work().at_most(Some(1))).await;
    assert_eq!(fake.calls("pick").len(), 2, "one is left that is not full");
    let only = node.pick_strict(&work().among(&ids[3..])).await.unwrap();
    assert_eq!((only.pod().name(), fake.calls("pick").len()), ("pod-3", 2));
    until("it is told of what nobody asked it for", || fake.told().len() == 8).await;
    assert!(node.pick_strict(&work().exclude(&ids)).await.is_err());
    let free = node.pick_strict(&Request::new("m").cost(Cost::ZERO)).await.unwrap();
    assert_eq!(fake.calls("pick").len(), 2, "what is no work is nobody's load");
    drop(free);
}

/// Pods that can do more at once must get more: their number of slots is sent where it is not the same for all.
#[tokio::test(flavor = "multi_thread")]
async fn what_pods_can_do_is_told_where_they_differ() {
    let fake = FakeRedis::default();
    let serving = fake.serve(anywhere()).await;
    let node = join(options(serving.addr), 0).await;
    let mut pods = vec![PodSpec::new("a", "http://127.0.0.1:1"), PodSpec::new("b", "http://127.0.0.1:2")];
    (pods[0].slots, pods[1].slots, pods[1].weight) = (1, 4, 0.5);
    node.set_pods(pods).unwrap();
    until("it asks", || state(&node).rung == "redis" && node.picker().pods().len() == 2).await;
    let _ticket = node.pick_strict(&work()).await.unwrap();
    assert_eq!(fake.calls("pick")[0][4..], ["2", "a", "b", "1", "2"]);
}

/// A Redis that stalls costs three requests the deadline, no request an error, and is used again when it is back. What it was
/// asked and may have charged is released; what was picked instead is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_redis_costs_three_requests_the_deadline() {
    let (node, fake, _serving) = asking(2).await;
    fake.let_it("pick", Does::SaysNothing);
    fake.let_it("heartbeat", Does::SaysNothing);
    let mut tickets = Vec::new();
    for asked in 1..=6 {
        let began = clock::now();
        tickets.push(node.pick_strict(&work()).await.unwrap());
        let took = clock::now().since(began);
        assert!(took < DEADLINE + SLACK, "{took:?}");
        assert_eq!(took >= DEADLINE, asked <= 3, "{took:?}");
    }
    let seen = state(&node);
    assert_eq!((seen.rung, seen.asked, seen.missed.late, seen.unasked), ("gossip", 3, 3, 3));
    assert_eq!((seen.steps_down, seen.last_trouble.unwrap()), (1, "does not answer within 60 ms".to_owned()));
    fake.let_it("pick", Does::Answers(1));
    fake.let_it("heartbeat", Does::Answers(0));
    let back = clock::now();
    until("it is asked again", || state(&node).rung == "redis").await;
    assert!(clock::now().since(back) < LONGEST_AWAY, "{:?}", clock::now().since(back));
    // It said nothing more on the connection that it was asked by: the node took another one, and a new name.
    let last = fake.calls("register").pop().unwrap();
    assert_eq!(last[1..3], ["1".to_owned(), fake.calls("pick")[0][0].clone()]);
    assert_eq!(last[3..].len(), 18, "six requests are in flight: {last:?}");
    drop(tickets);
    until("all is released", || state(&node).in_flight == 0 && state(&node).waiting == 0).await;
}

/// A pick that is answered just too late has been charged: it must be released, and once.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_given_back() {
    let (node, fake, _serving) = asking(2).await;
    fake.let_it("pick", Does::Dawdles(2 * DEADLINE));
    let ticket = node.pick_strict(&work()).await.unwrap();
    let late = fake.calls("pick")[0][1].clone();
    until("both are told", || fake.told().len() == 6).await;
    let told = fake.told();
    let instead = told.iter().position(|word| word == "+").map(|k| told[k + 1].clone()).unwrap();
    assert!(told.windows(2).any(|pair| pair == ["-".to_owned(), late.clone()]), "{told:?}");
    assert_ne!(instead, late);
    ticket.finish(Outcome::Served);
    until("its end is told", || fake.told().ends_with(&["-".to_owned(), instead.clone()])).await;
    assert_eq!(state(&node).rung, "redis", "one is no outage");
}

/// Callers go while they wait. What Redis charged for them must not stay.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_redis_is_asked_leaves_nothing_charged() {
    let (node, fake, _serving) = asking(2).await;
    fake.let_it("pick", Does::Dawdles(DEADLINE / 2));
    let asks = tokio::spawn({
        let node = node.clone();
        async move { node.pick_strict(&work()).await.map(drop) }
    });
    until("it is asked", || !fake.calls("pick").is_empty()).await;
    asks.abort();
    let number = fake.calls("pick")[0][1].clone();
    until("it is released", || fake.told() == ["-".to_owned(), number.clone()]).await;
    assert_eq!((charged(&node), state(&node).in_flight), (vec![0, 0], 0));
}

/// Everything that a Redis can say instead of an answer: a pick is made all the same, and the log and the view say what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_redis_says_a_pick_is_made() {
    for (says, trouble) in [
        (Does::Refuses("MOVED 1234 10.0.0.9:6379"), "this is a cluster"),
        (Does::Refuses("CLUSTERDOWN The cluster is down"), "this is a cluster"),
        (Does::Refuses("READONLY You can't write against a read only replica."), "name the master"),
        (Does::Refuses("LOADING Redis is loading the dataset in memory"), "when it has loaded"),
        (Does::Refuses("OOM command not allowed when used memory > 'maxmemory'."), "raise its maxmemory"),
        (Does::Refuses("WRONGTYPE Operation against a key holding the wrong kind of value"), "prefix of its own"),
        (Does::Refuses("NOAUTH Authentication required."), "password file"),
        (Does::Refuses("ERR something else"), "something else"),
        (Does::BreaksOff(":"), "closed the connection"),
        (Does::BreaksOff(""), "closed the connection"),
        (Does::BreaksOff("*2\r\n:1\r"), ""),
        (Does::Answers(99), "chose the pod at 99 of 2"),
    ] {
        let (node, fake, _serving) = asking(2).await;
        fake.let_it("pick", says.clone());
        let began = clock::now();
        let ticket = node.pick_strict(&work()).await.unwrap();
        assert!(clock::now().since(began) < DEADLINE + SLACK, "{says:?}");
        let seen = state(&node);
        let said = seen.last_trouble.unwrap_or_default();
        assert!(said.contains(trouble), "{said:?} does not say {trouble:?}");
        assert_eq!(seen.missed.failed, 1, "{says:?}");
        ticket.finish(Outcome::Served);
        fake.let_it("pick", Does::Answers(2));
        let tickets = picks_until_answered(&node, 1).await;
        assert_eq!(tickets.last().unwrap().pod().name(), "pod-1", "{says:?}");
    }
}

/// What is no Redis at all must be told from one, and cost nothing.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_an_answer_is_a_lost_connection() {
    for garbage in ["HTTP/1.1 400 Bad Request\r\n\r\n", "$-9\r\n", "\0\0\0\r\n", ":99999999999999999999\r\n"] {
        let (node, fake, _serving) = asking(2).await;
        fake.let_it("pick", Does::BreaksOff(garbage));
        assert!(node.pick_strict(&work()).await.is_ok());
        fake.let_it("pick", Does::Answers(1));
        until("it is asked again", || state(&node).rung == "redis").await;
        assert!(node.pick_strict(&work()).await.is_ok(), "{garbage:?}");
    }
}

/// Redis lost what it knew (a restart behind a proxy, FLUSHALL), or took the node for dead: it is told all, at once, and the
/// ladder does not even step.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_any_more_registers_again() {
    let (node, fake, _serving) = asking(2).await;
    let held = node.pick_strict(&work()).await.unwrap();
    fake.let_it("pick", Does::Answers(0));
    let other = node.pick_strict(&work()).await.unwrap();
    fake.let_it("pick", Does::Answers(1));
    until("it has registered", || fake.calls("register").len() == 2).await;
    let again = &fake.calls("register")[1];
    assert_eq!((again[1].as_str(), again.len()), ("1", 9), "two requests are in flight: {again:?}");
    let _others = picks_until_answered(&node, 2).await;
    let seen = state(&node);
    assert_eq!((seen.missed.unknown, seen.answered, seen.steps_down), (1, 2, 0));
    fake.forget_scripts();
    let _fourth = node.pick_strict(&work()).await.unwrap();
    until("the scripts are there again", || fake.calls("register").len() == 3).await;
    let _more = picks_until_answered(&node, 3).await;
    assert_eq!((state(&node).answered, state(&node).steps_down), (3, 0));
    drop((held, other));
}

/// Picks until Redis has answered so many; the node asks again once it has heard that it is registered.
async fn picks_until_answered(node: &Node, answered: u64) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    while state(node).answered < answered {
        assert!(tickets.len() < 500, "it asks again: {:?}", state(node));
        tickets.push(node.pick_strict(&work()).await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tickets
}

/// Redis chose a pod that was ejected a moment ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_be_used_any_more_is_not_used() {
    let (node, fake, _serving) = asking(2).await;
    fake.let_it("pick", Does::Dawdles(DEADLINE / 2));
    let asks = tokio::spawn({
        let node = node.clone();
        async move { node.pick_strict(&work()).await.unwrap() }
    });
    until("it is asked", || !fake.calls("pick").is_empty()).await;
    node.picker().pods()[0].eject();
    let ticket = asks.await.unwrap();
    assert_eq!((ticket.pod().name(), state(&node).missed.unfit), ("pod-1", 1));
    let refused = ["-".to_owned(), fake.calls("pick")[0][1].clone()];
    until("it is given back", || fake.told().windows(2).any(|pair| pair == refused)).await;
}

/// A node must not need its Redis to start; one that comes later is used within two seconds, and so is one that comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_and_goes_is_used_while_it_is_there() {
    let fake = FakeRedis::default();
    let addr = fake.serve(anywhere()).await.addr;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let node = join(options(addr), 2).await;
    let first = node.pick_strict(&work()).await.unwrap();
    assert_eq!((state(&node).rung, state(&node).unasked), ("gossip", 1));
    let mut connections = 0;
    for _ in 0..2 {
        let serving = fake.serve(addr).await;
        let back = clock::now();
        until("it is asked", || state(&node).rung == "redis").await;
        assert!(clock::now().since(back) < LONGEST_AWAY);
        assert!(fake.connections() > connections);
        connections = fake.connections();
        let known = fake.calls("register").pop().unwrap();
        assert_eq!(known[known.len() - 3..known.len() - 1], ["1".to_owned(), first.pod().name().to_owned()]);
        drop(serving);
        until("that is noticed", || state(&node).rung == "gossip").await;
        let began = clock::now();
        drop(node.pick_strict(&work()).await.unwrap());
        assert!(clock::now().since(began) < DEADLINE, "nobody is asked any more");
    }
    assert_eq!((state(&node).steps_up, state(&node).steps_down), (2, 2));
}

/// Who leaves takes its charges along, and need not be found dead first.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_says_so() {
    let (node, fake, _serving) = asking(2).await;
    let client = fake.calls("register")[0][0].clone();
    node.leave(Duration::ZERO).await;
    assert_eq!(fake.calls("leave"), [[client]]);
    let (dropped, fake, _serving) = asking(2).await;
    drop(dropped);
    until("it is told", || fake.calls("leave").len() == 1).await;
}

/// Settings that contradict each other are found before anything runs.
#[tokio::test]
async fn contradictions_are_refused() {
    let with = |change: &dyn Fn(&mut NodeConfig)| {
        let mut config = NodeConfig::new("caller", Credentials::Secret(vec![7; 16]));
        config.state = Some(options(SocketAddr::from(([127, 0, 0, 1], 1))));
        change(&mut config);
        Node::join(config)
    };
    let both = with(&|config| config.strict = Some(Default::default())).await.unwrap_err();
    assert!(matches!(both, JoinError::State(_)) && both.to_string().contains("not both"), "{both}");
    let hasty = with(&|config| {
        let mut state = options(SocketAddr::from(([127, 0, 0, 1], 1)));
        state.reclaim = Duration::from_millis(400);
        config.state = Some(state);
    });
    assert_eq!(
        hasty.await.unwrap_err().to_string(),
        "state.reclaim (s): `0.4` would take nodes for dead that live; write 3 heartbeats at least: 0.6"
    );
}
