//! An API server that is away, forgets, refuses, or talks nonsense.

use serde_json::json;

use super::api_server::{ApiServer, Trouble, slice};
use super::{MINUTE, SECOND, World, asked, ready, world, world_with};

/// A service of one pod, and a watch of it that has lasted for a while.
async fn watching() -> World {
    let api = ApiServer::new();
    api.put(slice("triton", "x", ready(&[("triton-0", "10.0.0.1")])));
    let mut world = world(api, "['triton']");
    assert_eq!(world.names().await, ["triton-0"]);
    world.unchanged(2 * SECOND).await;
    world
}

/// Watches end every five minutes, and connections break. What happened meanwhile must be heard of, from where the watch
/// was: a list for each would be a stampede of all nodes at once.
#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let mut world = watching().await;
    assert_eq!(asked(&world.api), (1, vec![4714]));

    // Everything else in the cluster changes, and bookmarks say how far that is.
    world.api.pass_versions(1000);
    world.unchanged(20 * MINUTE).await;
    let (lists, watches) = asked(&world.api);
    assert!(lists == 0 && watches.len() == 4 && watches.iter().all(|from| *from == 5714), "{lists} {watches:?}");
    world.api.compact();

    world.api.cut();
    world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2")])));
    assert_eq!(world.names().await, ["triton-1"]);
    assert_eq!(asked(&world.api), (0, vec![5714]));
    assert_eq!((world.failures(), world.said("WARN")), (0, 0), "{}", world.log());
}

/// Who was away too long is told 410 Gone, in the watch or instead of it. What changed meanwhile, deletions above all, only
/// a new list says. It is the protocol and no failure, so nobody is woken for it.
#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_listed_anew() {
    let mut world = watching().await;
    world.api.put(slice("triton", "stays", ready(&[("triton-1", "10.0.0.2")])));
    assert_eq!(world.names().await, ["triton-0", "triton-1"]);
    world.unchanged(2 * SECOND).await;
    asked(&world.api);

    world.api.cut();
    world.api.delete(&slice("triton", "x", vec![]));
    world.api.compact();
    assert_eq!(world.names().await, ["triton-1"]);
    assert_eq!(asked(&world.api), (1, vec![4717, 4720]));

    world.api.put(slice("triton", "stays", ready(&[("triton-2", "10.0.0.3")])));
    assert_eq!(world.names().await, ["triton-2"]);
    world.unchanged(2 * SECOND).await;
    asked(&world.api);
    // Some versions say it with the status of the answer.
    world.api.trouble(Trouble::Status(410, "Expired", "The resourceVersion for the provided watch is too old.".into()));
    world.api.cut();
    world.unchanged(10 * SECOND).await;
    world.api.trouble(None);
    world.api.put(slice("triton", "stays", ready(&[("triton-3", "10.0.0.4")])));
    assert_eq!(world.names().await, ["triton-3"]);
    assert!(asked(&world.api).0 > 0);
    assert_eq!((world.failures(), world.said("WARN")), (0, 0), "{}", world.log());
}

/// The API server is away for an hour, in which pods come and go. Requests go on as they went, it is said once that it is
/// away and once that it is back, every attempt is counted, and they are not many.
#[tokio::test(start_paused = true)]
async fn an_api_server_away_for_an_hour_costs_no_pod() {
    let mut world = watching().await;
    world.api.trouble(Trouble::Away);
    world.api.cut();
    world.unchanged(30 * MINUTE).await;
    world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2"), ("triton-2", "10.0.0.3")])));
    world.unchanged(30 * MINUTE).await;
    assert_eq!(world.discovery.pods().len(), 1);
    let attempts = world.failures();
    // Every 30 to 60 s, once the pauses have grown.
    assert!((60..=130).contains(&attempts), "{attempts}");

    world.api.trouble(None);
    assert_eq!(world.names().await, ["triton-1", "triton-2"]);
    let away =
        "cannot ask Kubernetes: Connection refused (os error 111); keeping the pods that `prod/triton` gave last";
    assert_eq!((world.said(away), world.said("WARN")), (1, 1), "{}", world.log());
    assert_eq!(world.said("`prod/triton` works again"), 1, "{}", world.log());
    assert_eq!(world.failures(), attempts);
}

/// It comes back and nothing changed meanwhile: this too must be said, and soon, though there is no news to tell.
#[tokio::test(start_paused = true)]
async fn that_it_is_back_is_said_without_news() {
    let mut world = watching().await;
    world.api.trouble(Trouble::Status(500, "InternalError", "etcdserver: leader changed".into()));
    world.api.cut();
    world.unchanged(5 * MINUTE).await;
    assert_eq!(world.said("Kubernetes answers 500: etcdserver: leader changed"), 1, "{}", world.log());
    world.api.trouble(None);
    world.unchanged(2 * MINUTE).await;
    assert_eq!(world.said("works again"), 1);
}

/// A node that starts while the API server is away serves what else it knows, and is not kept from being ready.
#[tokio::test(start_paused = true)]
async fn a_start_without_an_api_server_is_a_start() {
    let api = ApiServer::new();
    api.trouble(Trouble::Away);
    let config = "discovery.kubernetes = ['triton']\n[[pods]]\nname = 'fixed'\ngrpc = 'h:1'";
    let mut world = world_with(api, config);
    world.unchanged(SECOND).await;
    assert!(world.discovery.is_settled());
    assert_eq!(world.discovery.pods().len(), 1);
    world.api.put(slice("triton", "x", ready(&[("triton-0", "10.0.0.1")])));
    world.api.trouble(None);
    assert_eq!(world.names().await, ["fixed", "triton-0"]);
}

/// The first start of most people: the service account may not list. The line must say who may not what where, and what to
/// do; and once it is granted nobody shall have to restart anything.
#[tokio::test(start_paused = true)]
async fn a_missing_role_is_named_with_its_remedy() {
    let api = ApiServer::new();
    api.put(slice("triton", "x", ready(&[("triton-0", "10.0.0.1")])));
    let message = "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:prod:default\" cannot list resource \"endpointslices\" in API group \"discovery.k8s.io\" in the namespace \"prod\"";
    api.trouble(Trouble::Status(403, "Forbidden", message.to_owned()));
    let mut world = world(api, "['triton']");
    world.unchanged(10 * MINUTE).await;
    let says = format!(
        "may not list and watch EndpointSlices in namespace `prod`: {message}; grant it as in deploy/kubernetes/rbac.yaml"
    );
    assert_eq!((world.said(&says), world.said("WARN")), (1, 1), "{}", world.log());
    world.api.trouble(Trouble::Status(401, "Unauthorized", "Unauthorized".into()));
    world.unchanged(2 * MINUTE).await;
    assert_eq!(world.said("Kubernetes does not know who asks: Unauthorized; look at"), 1, "{}", world.log());
    world.api.trouble(None);
    assert_eq!(world.names().await, ["triton-0"]);
}

/// A proxy in between answers with a page, a disk is full and half an answer comes, a version writes what none ever wrote:
/// none of it may cost a pod, be taken for a list, move a terminal's cursor, or end the watch for good.
#[tokio::test(start_paused = true)]
async fn nonsense_costs_no_pod() {
    let nonsense = [
        "<html><body>Bad Gateway</body></html>\n",
        "{\"kind\":\"EndpointSliceList\",\"metadata\":{\"resourceVersion\":\"9\"},\"items\":[{\"endpoints\":7}]}\n",
        "{\"kind\":\"EndpointSliceList\",\"metadata\":{},\"items\":[]}\n",
        "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"triton-x\",\"resourceVersion\":\"99\"},\"addressType\":\"IPv4\",\"endpoints\":[{\"addresses\":7}]}}\n",
        "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"status\":\"Failure\",\"message\":\"\\u001b[2J\",\"code\":500}}\n",
        "{\"type\":\"SOMETHING\",\"object\":{}}\n",
        "{\n",
        "",
    ];
    for text in nonsense {
        let mut world = watching().await;
        world.api.trouble(Trouble::Garbage(text));
        world.api.cut();
        world.unchanged(5 * MINUTE).await;
        assert!(world.failures() > 0, "{text}");
        assert!(!world.log().contains('\u{1b}'), "{text}");
        world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2")])));
        world.api.trouble(None);
        assert_eq!(world.names().await, ["triton-1"], "{text}");
    }
}

/// A line of a watch that cannot be read was a change all the same: skipped, the pod that it named would stay or be missed
/// until the next one.
#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_read_is_asked_for_again() {
    let mut world = watching().await;
    let mut broken = slice("triton", "x", vec![]);
    broken["endpoints"] = json!(7);
    world.api.put(broken);
    world.unchanged(SECOND / 2).await;
    world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2")])));
    assert_eq!(world.names().await, ["triton-1"]);
    assert_eq!(world.failures(), 1);
}

/// An API server that takes questions and says nothing, or half of it, must be given up, or one hung process is the last
/// that is heard of the cluster.
#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_given_up() {
    let (silence, half) = ("cannot ask Kubernetes: no answer within 30 s;", "a list took more than 60 s;");
    for (trouble, says) in [(Trouble::Silence, silence), (Trouble::Half, half)] {
        let api = ApiServer::new();
        api.put(slice("triton", "x", ready(&[("triton-0", "10.0.0.1")])));
        api.trouble(trouble);
        let mut world = world(api, "['triton']");
        world.unchanged(10 * MINUTE).await;
        assert_eq!(world.said(says), 1, "{}", world.log());
        world.api.trouble(None);
        assert_eq!(world.names().await, ["triton-0"]);
    }
    // The same where a watch is to go on.
    let mut world = watching().await;
    world.api.trouble(Trouble::Silence);
    world.api.cut();
    world.unchanged(10 * MINUTE).await;
    assert_eq!(world.said(silence), 1, "{}", world.log());
    world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2")])));
    world.api.trouble(None);
    assert_eq!(world.names().await, ["triton-1"]);
}

/// Something in between ends every watch as it begins. Begun again at once, it would be asked thousands of times a second,
/// by every node; and what changed would never be heard.
#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_no_watches() {
    let mut world = watching().await;
    asked(&world.api);
    world.api.trouble(Trouble::NoWatch);
    world.api.cut();
    world.unchanged(10 * MINUTE).await;
    assert!(world.said("cannot ask Kubernetes: a watch ended within 1 s;") > 0, "{}", world.log());
    // With pauses of up to 30 s, and as much again by chance.
    let lists = asked(&world.api).0;
    assert!((10..=30).contains(&lists), "{lists}");
    world.api.put(slice("triton", "x", ready(&[("triton-1", "10.0.0.2")])));
    assert_eq!(world.names().await, ["triton-1"]);
}
