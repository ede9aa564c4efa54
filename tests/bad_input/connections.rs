//! Connections that are of no use: silent ones, slow ones, idle ones, too many.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll::driver::metrics::Metrics;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

use crate::fake::rest::{both, infer};
use crate::fake::world::{World, world};
use crate::fake::{eventually, rest, world as worlds};
use crate::wire::{GOAWAY, PREFACE, Raw};
use crate::{beside, resident, scraped};

/// Whoever begins to say which protocol he speaks, and never ends, would keep his place for ever.
#[tokio::test]
async fn a_connection_that_never_says_what_it_speaks_is_closed() {
    let metrics = Metrics::install().unwrap();
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |options| options.idle = Duration::from_millis(300)).await;
    let good = beside(&world);
    let said: [&[u8]; 5] = [b"", b"P", b"PRI * HTTP/2.0", &PREFACE[..23], b"POST /v2/models/m/in"];
    let mut raws = Vec::new();
    for said in said {
        let mut raw = Raw::connect(&world.addr).await;
        raw.says(said).await;
        raws.push(raw);
    }
    for mut raw in raws {
        assert_eq!(raw.hears().await, "");
    }
    assert!(
        scraped(&metrics, &world, r#"plimsoll_connections_closed_total{door="front",reason="silent"}"#).await >= 4.0
    );
    // A byte now and then is no more than none.
    let slowly = [PREFACE, b"POST /v2/models/m/infer HTTP/1.1\r\nhost: node\r\ncontent-length: 0\r\n\r\n"];
    for said in slowly {
        let mut raw = Raw::connect(&world.addr).await;
        raw.says_slowly(said, Duration::from_millis(100)).await;
        assert_eq!(raw.hears().await, "");
    }
    good.was_served(&world).await;
}

/// A connection that nobody uses goes; one with a request on it stays, however long that takes.
#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_a_busy_one_stays() {
    let metrics = Metrics::install().unwrap();
    let (pod, rest) = both("a").await;
    let world = world(&[&pod], |options| options.forward.limits.connection_idle = Duration::from_millis(400)).await;
    let good = beside(&world);
    let stream = TcpStream::connect(&world.addr).await.unwrap();
    let (mut busy, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut request = infer("events", "x");
    *request.uri_mut() = format!("http://{}/v2/models/m/infer", world.addr).parse().unwrap();
    request.headers_mut().remove("host");
    let mut body = busy.send_request(request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    // One that does not do as it is told is closed all the same, a little later.
    let mut deaf = Raw::http2(&world.addr).await;
    assert!(deaf.frames_until(GOAWAY).await.iter().any(|frame| frame.kind == GOAWAY));
    deaf.hears_out().await;
    assert!(!connection.is_finished());
    rest.release();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 2\n\n");
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
    connection.await.unwrap().unwrap();
    assert!(scraped(&metrics, &world, r#"plimsoll_connections_closed_total{door="front",reason="idle"}"#).await >= 2.0);
    good.was_served(&world).await;
}

/// Too many connections must not cost those that are there, and not wait for nothing; and somebody must see it.
#[tokio::test]
async fn beyond_the_limit_connections_are_turned_away_at_once() {
    let metrics = Metrics::install().unwrap();
    let (pod, _rest) = both("a").await;
    // One of the world's client, one of the other good caller, and two more.
    let world = world(&[&pod], |options| options.forward.limits.connections = 4).await;
    let good = beside(&world);
    let open = r#"plimsoll_connections{door="front"}"#;
    while scraped(&metrics, &world, open).await < 2.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let held = [Raw::connect(&world.addr).await, Raw::connect(&world.addr).await];
    for _ in 0..20 {
        assert_eq!(Raw::connect(&world.addr).await.hears().await, "");
    }
    assert_eq!(scraped(&metrics, &world, r#"plimsoll_connections_turned_away_total{door="front"}"#).await, 20.0);
    assert_eq!(scraped(&metrics, &world, open).await, 4.0);
    drop(held);
    while scraped(&metrics, &world, open).await > 2.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rest::send(&world.addr, infer("echo", "x")).await.body(), "x");
    good.was_served(&world).await;
}

/// A process without file descriptors must go on with the connections that it has, neither spin nor give up, and take new ones
/// in when it can again.
#[tokio::test]
async fn without_file_descriptors_the_door_stays() {
    let metrics = Metrics::install().unwrap();
    let (pod, _rest) = both("a").await;
    let mut world = world(&[&pod], |_| {}).await;
    world.client.model_infer(worlds::infer("m", "echo")).await.unwrap();
    let sockets: Vec<TcpSocket> = (0..8).map(|_| TcpSocket::new_v4().unwrap()).collect();
    let limit = getrlimit(Resource::Nofile);
    // Lower than the next one would be; the scrape itself needs some.
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    setrlimit(Resource::Nofile, Rlimit { current: Some(used), ..limit }).unwrap();
    let mut waiting = Vec::new();
    for socket in sockets {
        waiting.push(socket.connect(world.addr.parse().unwrap()).await.unwrap());
    }
    for _ in 0..20 {
        world.client.model_infer(worlds::infer("m", "echo")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setrlimit(Resource::Nofile, limit).unwrap();
    let failures = scraped(&metrics, &world, r#"plimsoll_accept_failures_total{door="front"}"#).await;
    assert!((1.0..1000.0).contains(&failures), "{failures} attempts");
    for stream in waiting {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(rest::exchange(&mut sender, infer("echo", "x")).await.body(), "x");
    }
    assert_eq!(world.in_flight(), 0);
}

/// Clients keep connections that they do not use; thousands of them must fit beside the work, and go when they go.
#[tokio::test]
async fn two_thousand_idle_connections_cost_little() {
    const MOST_BYTES: usize = 48 << 10;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let metrics = Metrics::install().unwrap();
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let hold = async |world: &World, count: usize| {
        let mut raws = Vec::new();
        for _ in 0..count / 2 {
            let mut raw = Raw::http2(&world.addr).await;
            raw.frame().await.unwrap();
            raws.push(raw);
            let mut raw = Raw::connect(&world.addr).await;
            raw.says(b"GET /v2/health/live HTTP/1.1\r\nhost: node\r\n\r\n").await;
            raws.push(raw);
        }
        raws
    };
    // What is allocated once is there after these.
    drop(hold(&world, 100).await);
    let before = resident();
    let raws = hold(&world, 2000).await;
    let open = r#"plimsoll_connections{door="front"}"#;
    while scraped(&metrics, &world, open).await < 2000.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let each = resident().saturating_sub(before) / raws.len();
    assert!(each < MOST_BYTES, "{each} bytes for each idle connection");
    drop(raws);
    good.was_served(&world).await;
    let rest = async {
        while scraped(&metrics, &world, open).await > 4.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rest).await.expect("places that nobody has");
    eventually("tickets end", || world.in_flight() == 0).await;
}
