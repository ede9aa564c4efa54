//! What a service's EndpointSlices mean.

use plimsoll::observe::PodSpec;
use serde_json::{Value, json};

use super::api_server::{ApiServer, Is, endpoint, slice};
use super::{MINUTE, SECOND, asked, ready, world, world_with};

/// The life of a service: pods come, get ready, end while they still serve, are gone. Each step must reach picks as it is
/// meant: only ready pods get requests, one that ends keeps what it has, all by the pod's own name and id.
#[tokio::test(start_paused = true)]
async fn pods_follow_the_endpoints_of_their_service() {
    let api = ApiServer::new();
    let mut endpoints =
        vec![endpoint("triton-0", "10.0.0.7", Is::Ready), endpoint("triton-1", "10.0.0.8", Is::NotReady)];
    api.put(slice("triton", "x7k2p", endpoints.clone()));
    let mut world = world(api, "['triton']");
    assert!(!world.discovery.is_settled());

    let pods = world.changed().await;
    assert!(world.discovery.is_settled());
    let mut triton_0 = PodSpec::new("triton-0", "http://10.0.0.7:8001");
    triton_0.http = Some("http://10.0.0.7:8000".into());
    triton_0.metrics = Some("http://10.0.0.7:8002".into());
    triton_0.uid = Some("uid-of-triton-0".into());
    triton_0.zone = Some("eu-1a".into());
    assert_eq!(pods, [triton_0.clone()]);

    endpoints[1] = endpoint("triton-1", "10.0.0.8", Is::Ready);
    world.api.put(slice("triton", "x7k2p", endpoints.clone()));
    assert_eq!(world.names().await, ["triton-0", "triton-1"]);

    endpoints[0] = endpoint("triton-0", "10.0.0.7", Is::Ending);
    endpoints.push(endpoint("triton-2", "10.0.0.9", Is::Ready));
    world.api.put(slice("triton", "x7k2p", endpoints.clone()));
    let pods = world.changed().await;
    let draining: Vec<(&str, bool)> = pods.iter().map(|pod| (pod.name.as_str(), pod.draining)).collect();
    assert_eq!(draining, [("triton-0", true), ("triton-1", false), ("triton-2", false)]);
    triton_0.draining = true;
    assert_eq!(pods[0], triton_0, "nothing else of it changed");

    // It fails its readiness while it ends, before its endpoint goes.
    endpoints[0] = endpoint("triton-0", "10.0.0.7", Is::Ended);
    world.api.put(slice("triton", "x7k2p", endpoints.clone()));
    assert_eq!(world.names().await, ["triton-1", "triton-2"]);
    endpoints.remove(0);
    world.api.put(slice("triton", "x7k2p", endpoints.clone()));
    world.unchanged(MINUTE).await;

    endpoints[0] = endpoint("triton-1", "10.0.0.8", Is::NotReady);
    world.api.put(slice("triton", "x7k2p", endpoints.clone()));
    assert_eq!(world.names().await, ["triton-2"]);
    endpoints[0] = endpoint("triton-1", "10.0.0.8", Is::Ready);
    world.api.put(slice("triton", "x7k2p", endpoints));
    assert_eq!(world.names().await, ["triton-1", "triton-2"]);
    assert_eq!(world.failures(), 0);
}

/// A service with many pods has many slices, and a list of them comes in pages. While an endpoint moves between slices it
/// stands in both: it must stay one pod, and the slice that knows of its end is right.
#[tokio::test(start_paused = true)]
async fn a_service_is_all_its_slices() {
    let api = ApiServer::new();
    api.page(2);
    for k in 0..5 {
        let (pod, ip) = (format!("triton-{k}"), format!("10.0.0.{k}"));
        api.put(slice("triton", &format!("slice{k}"), ready(&[(&pod, &ip)])));
    }
    let mut world = world(api, "['triton']");
    assert_eq!(world.names().await, ["triton-0", "triton-1", "triton-2", "triton-3", "triton-4"]);
    assert_eq!(asked(&world.api), (3, vec![4711 + 5 * 3]));

    let moved = ready(&[("triton-0", "10.0.0.0"), ("triton-1", "10.0.0.1")]);
    world.api.put(slice("triton", "slice0", moved));
    world.unchanged(SECOND).await;
    world.api.put(slice("triton", "slice1", vec![endpoint("triton-1", "10.0.0.1", Is::Ending)]));
    let pods = world.changed().await;
    assert_eq!((pods.len(), pods[1].draining), (5, true));
    world.api.delete(&slice("triton", "slice1", vec![]));
    assert!(!world.changed().await[1].draining);
    world.api.delete(&slice("triton", "slice4", vec![]));
    assert_eq!(world.names().await, ["triton-0", "triton-1", "triton-2", "triton-3"]);
}

/// In a cluster of two families each pod has two endpoints, in slices of their own. Taken for two pods, its load would be
/// looked for twice and found half as high.
#[tokio::test(start_paused = true)]
async fn a_pod_of_two_families_is_one_pod() {
    let api = ApiServer::new();
    let mut six = slice("triton", "v6", ready(&[("triton-0", "fd00::7"), ("triton-1", "fd00::8")]));
    six["addressType"] = "IPv6".into();
    api.put(slice("triton", "x4", ready(&[("triton-0", "10.0.0.7")])));
    api.put(six);
    let mut world = world(api, "['triton']");
    let pods = world.changed().await;
    let places: Vec<&str> = pods.iter().map(|pod| pod.grpc.as_str()).collect();
    assert_eq!(places, ["http://10.0.0.7:8001", "http://[fd00::8]:8001"]);
    assert_eq!(pods[1].http.as_deref(), Some("http://[fd00::8]:8000"));
}

/// An address that one pod left may be the next one's before the old endpoint is gone: two pods at one address would have
/// one Triton looked for twice.
#[tokio::test(start_paused = true)]
async fn an_address_is_the_pod_that_is_ready_there() {
    let api = ApiServer::new();
    api.put(slice("triton", "a", vec![endpoint("triton-0", "10.0.0.7", Is::Ending)]));
    api.put(slice("triton", "b", vec![endpoint("triton-1", "10.0.0.7", Is::Ready)]));
    api.put(slice("triton", "c", vec![endpoint("triton-9", "10.0.0.7", Is::Ending)]));
    let pods = world(api, "['triton']").changed().await;
    let seen: Vec<(&str, bool)> = pods.iter().map(|pod| (pod.name.as_str(), pod.draining)).collect();
    assert_eq!(seen, [("triton-1", false)]);
}

/// What people and other controllers write into slices: conditions that are left out mean what the API's reference says,
/// what is null is empty, and what is no address of a pod is left alone.
#[tokio::test(start_paused = true)]
async fn what_is_left_out_means_what_kubernetes_says() {
    let api = ApiServer::new();
    let bare = |ip: &str, conditions: Value| json!({ "addresses": [ip], "conditions": conditions });
    let endpoints = vec![
        bare("10.0.0.1", json!({})),
        json!({ "addresses": ["10.0.0.2"], "hostname": "by-hand" }),
        bare("10.0.0.3", json!({ "ready": null, "serving": null, "terminating": null })),
        bare("10.0.0.4", json!({ "ready": false })),
        bare("10.0.0.5", json!({ "ready": false, "terminating": true })),
        // A service that publishes pods that are not ready says so of those that end, too.
        bare("10.0.0.6", json!({ "ready": true, "serving": false, "terminating": true })),
        bare("10.0.0.7", json!({ "ready": true, "serving": true, "terminating": true })),
        json!({ "addresses": ["not-an-address"], "conditions": { "ready": true } }),
        json!({ "addresses": [], "conditions": { "ready": true } }),
        json!({ "addresses": ["10.0.0.8"], "targetRef": { "kind": "Node", "name": "n", "uid": "uid-of-n" }, "zone": "a b" }),
    ];
    api.put(slice("triton", "hand", endpoints));
    let mut empty = slice("triton", "empty", vec![]);
    empty["endpoints"] = Value::Null;
    empty["ports"] = Value::Null;
    api.put(empty);
    let mut host = slice("triton", "host", vec![bare("triton.example.com", json!({ "ready": true }))]);
    host["addressType"] = "FQDN".into();
    api.put(host);
    let mut world = world(api, "['triton']");
    let pods = world.changed().await;
    let seen: Vec<(&str, bool)> = pods.iter().map(|pod| (pod.name.as_str(), pod.draining)).collect();
    let drains = ["10.0.0.5:8001", "10.0.0.7:8001"];
    let names = ["10.0.0.1:8001", "10.0.0.3:8001", "10.0.0.5:8001", "10.0.0.7:8001", "10.0.0.8:8001", "by-hand"];
    assert_eq!(seen, names.map(|name| (name, drains.contains(&name))));
    assert!(pods.iter().all(|pod| pod.uid.is_none() && pod.zone.is_none()), "{pods:?}");
}

/// Fleets behind one node, one of them elsewhere and with ports of its own names. Each is asked for where it is, and one
/// that fails must not take the others' pods.
#[tokio::test(start_paused = true)]
async fn services_are_independent_and_name_their_own_ports() {
    let api = ApiServer::new();
    api.put(slice("small", "a", ready(&[("triton-0", "10.0.0.1")])));
    let mut other = slice("large", "b", ready(&[("triton-0", "10.0.1.1")]));
    other["metadata"]["namespace"] = "batch".into();
    other["endpoints"][0]["targetRef"]["uid"] = "uid-of-another".into();
    other["ports"] = json!([{ "name": "h2c", "port": 1, "protocol": "UDP" }, { "name": "h2c", "port": 9001 }]);
    api.put(other.clone());
    let mut alone = slice("alone", "c", ready(&[("triton-9", "10.0.2.1")]));
    alone["ports"] = json!([{ "name": "", "port": 7001, "protocol": "TCP" }]);
    api.put(alone);
    // The last names pods that another service named already.
    let mut world = world(api, "['small', 'batch/large:h2c', 'alone', 'small:9009']");
    let mut pods = Vec::new();
    while pods.len() < 3 {
        pods = world.changed().await;
    }
    let places: Vec<(&str, &str)> = pods.iter().map(|pod| (pod.name.as_str(), pod.grpc.as_str())).collect();
    let expected = [
        ("triton-0", "http://10.0.0.1:8001"),
        // Two pods of one name are told apart by their addresses.
        ("triton-0@10.0.1.1:9001", "http://10.0.1.1:9001"),
        ("triton-9", "http://10.0.2.1:7001"),
    ];
    assert_eq!(places, expected);
    assert_eq!((&pods[1].http, &pods[1].metrics), (&None, &None));

    other["ports"] = json!([{ "name": "renamed", "port": 9001 }]);
    world.api.put(other);
    world.unchanged(SECOND).await;
    let says = "service `batch/large`: it has no TCP port called `h2c`, but `renamed`; write the port behind the service, as in `triton:8001`; keeping the pods that `batch/large` gave last";
    assert_eq!((world.said(says), world.failures()), (1, 1), "{}", world.log());
}

/// Ports may be numbers: a headless service without ports still has pods.
#[tokio::test(start_paused = true)]
async fn a_port_may_be_a_number_that_the_service_does_not_know() {
    let api = ApiServer::new();
    let mut headless = slice("triton", "x", ready(&[("triton-0", "10.0.0.1")]));
    headless["ports"] = Value::Null;
    api.put(headless);
    let config = "discovery.kubernetes = ['prod/triton:8001']\ndiscovery.http_port = 8000";
    let pods = world_with(api, config).changed().await;
    assert_eq!(
        (pods[0].grpc.as_str(), pods[0].http.as_deref()),
        ("http://10.0.0.1:8001", Some("http://10.0.0.1:8000"))
    );
    assert_eq!(pods[0].metrics, None);
}

/// A service scaled to nothing has no pods, and Kubernetes says so itself: requests sent to what is gone would fail one by
/// one. One that never was there is a typing error more often than not.
#[tokio::test(start_paused = true)]
async fn no_endpoints_are_no_pods() {
    let api = ApiServer::new();
    api.put(slice("triton", "x", ready(&[("triton-0", "10.0.0.1")])));
    let mut world = world(api, "['triton', 'trtion']");
    assert_eq!(world.names().await, ["triton-0"]);
    world.api.put(slice("triton", "x", vec![]));
    assert!(world.changed().await.is_empty());
    world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2")])));
    assert_eq!(world.names().await, ["triton-1"]);
    world.api.delete(&slice("triton", "x", vec![]));
    assert!(world.changed().await.is_empty());
    assert_eq!(world.failures(), 0);
    assert_eq!(world.said("no EndpointSlice of the service"), 1, "{}", world.log());
    assert_eq!(world.said("trtion"), 1, "{}", world.log());
}
