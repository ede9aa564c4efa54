//! The admin API, asked by those who should not.

use std::net::SocketAddr;

use plimsoll::driver::admin::Admin;
use plimsoll::driver::drain::{Drain, Stage};
use plimsoll::driver::metrics::Metrics;
use tokio::net::TcpListener;

use crate::fake::rest::both;
use crate::fake::world::{World, world};
use crate::wire::Raw;
use crate::{beside, scraped};

async fn admin(world: &World, metrics: &Metrics, drain: &Drain) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin::new(world.node.clone(), metrics.clone(), drain.clone());
    tokio::spawn(admin.serve(listener, std::future::pending()));
    address
}

async fn ask(address: SocketAddr, line: &str, fields: &str) -> (String, String) {
    let mut raw = Raw::connect(&address.to_string()).await;
    raw.says(format!("{line} HTTP/1.1\r\nconnection: close\r\n{fields}\r\n").as_bytes()).await;
    let answer = raw.hears().await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

/// A page in a browser on the node's machine reaches the loopback; it must not drain the node, nor read what it believes.
#[tokio::test]
async fn a_page_in_a_browser_gets_nowhere() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let drain = Drain::new();
    let address = admin(&world, &Metrics::new(), &drain).await;
    let own = format!("host: {address}\r\ncontent-length: 0\r\n");
    for sent in [
        "content-type: application/x-www-form-urlencoded",
        "content-type: text/plain",
        "origin: https://evil.example",
        "origin: null",
        "sec-fetch-site: cross-site",
    ] {
        let (status, body) = ask(address, "POST /v1/drain", &format!("{own}{sent}\r\n")).await;
        assert_eq!(status, "403", "{sent}");
        assert!(body.contains(&format!("a request that a page in a browser makes (`{sent}`)")), "{body}");
    }
    let (status, body) =
        ask(address, "GET /v1/view", "host: evil.example:9090\r\nsec-fetch-site: same-origin\r\n").await;
    assert_eq!(status, "421");
    assert!(body.contains("`evil.example:9090` may be anybody's name: ask by an IP address"), "{body}");
    assert_eq!(ask(address, "POST /v1/drain", "host: evil.example\r\ncontent-length: 0\r\n").await.0, "421");
    assert_eq!(drain.stage(), Stage::Serving);
    // A probe may ask by any name; a program by the machine's own.
    assert_eq!(ask(address, "GET /health/live", "host: node.example\r\n").await.0, "200");
    assert_eq!(ask(address, "GET /v1/view", "host: localhost:9090\r\n").await.0, "200");
    assert_eq!(ask(address, "POST /v1/drain", &own).await.0, "200");
    assert_eq!(drain.stage(), Stage::Draining);
}

/// Whoever floods the admin API gets no more than its own few places, and callers lose none.
#[tokio::test]
async fn the_admin_api_is_bounded() {
    let metrics = Metrics::install().unwrap();
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    let address = admin(&world, &metrics, &Drain::new()).await;
    let long = format!("host: localhost\r\nx-long: {}\r\n", "y".repeat(20_000));
    assert_eq!(ask(address, "GET /v1/view", &long).await.0, "431");
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(Raw::connect(&address.to_string()).await);
    }
    let mut last = held.pop().unwrap();
    assert_eq!(last.hears().await, "");
    assert!(scraped(&metrics, &world, r#"plimsoll_connections_turned_away_total{door="admin"}"#).await >= 44.0);
    assert_eq!(scraped(&metrics, &world, r#"plimsoll_connections{door="admin"}"#).await, 256.0);
    drop(held);
    while scraped(&metrics, &world, r#"plimsoll_connections{door="admin"}"#).await > 0.0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(ask(address, "GET /v1/view", "host: localhost\r\n").await.0, "200");
    good.was_served(&world).await;
}
