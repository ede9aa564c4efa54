//! From the EndpointSlices of one service to its pods.
//!
//! A service has slices of up to a hundred endpoints (a thousand at most), for IPv4 and IPv6 apart. While endpoints move
//! from slice to slice, and where pods have two families, one pod stands in several of them: it is one all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use super::super::over_tls;
use crate::config::{MOST_PODS, Port, bracketed};
use crate::observe::PodSpec;

/// Kubernetes itself lets a slice have this many endpoints.
const MOST_ENDPOINTS: usize = 1000;
/// What names and ids may have, in bytes: they become labels of metrics.
const LONGEST_NAME: usize = 128;

/// Where the pods of a service take what.
pub(super) struct Ports {
    /// Without, the port called `grpc`, or else the only one where that has no name.
    pub(super) grpc: Option<Port>,
    pub(super) http: Port,
    pub(super) metrics: Port,
    /// The name in their certificates, where they take TLS.
    pub(super) tls_name: Option<String>,
}

/// No slice has the port that gRPC goes to.
#[derive(Debug, thiserror::Error)]
#[error("it has no TCP port called `{wanted}`, but {}; write the port behind the service, as in `triton:8001`", list(.known))]
pub(super) struct NoSuchPort {
    wanted: String,
    known: BTreeSet<String>,
}

fn list(names: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none at all".to_owned() } else { quoted.join(", ") }
}

/// The slices of one service, by name.
#[derive(Default)]
pub(super) struct Slices(BTreeMap<String, Slice>);

/// What counts of a slice.
struct Slice {
    ports: Vec<(String, u16)>,
    members: Vec<Member>,
}

/// What counts of an endpoint.
#[derive(Clone)]
struct Member {
    ip: IpAddr,
    state: State,
    name: Option<String>,
    uid: Option<String>,
    zone: Option<String>,
}

/// The order in which slices that contradict each other are believed: what is ready in one is not yet in the other, and
/// who terminates never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    NotReady,
    Ready,
    Draining,
}

impl Slices {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A slice is new, or other than it was.
    pub(super) fn apply(&mut self, slice: EndpointSlice) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        // Each slice has a pod in it, mostly: more of them could not be used.
        if self.0.len() < MOST_PODS || self.0.contains_key(&name) {
            self.0.insert(name, Slice::from(slice));
        }
    }

    /// A slice is gone.
    pub(super) fn delete(&mut self, slice: &EndpointSlice) {
        self.0.remove(slice.metadata.name.as_deref().unwrap_or_default());
    }

    /// The pods that are ready, and those that end but serve until then, ordered by name.
    pub(super) fn pods(&self, ports: &Ports) -> Result<Vec<PodSpec>, NoSuchPort> {
        // By what is the same of one pod in all slices.
        let mut members: BTreeMap<String, (&Slice, u16, Member)> = BTreeMap::new();
        let mut without_port = false;
        for slice in self.0.values().filter(|slice| !slice.members.is_empty()) {
            let Some(grpc) = slice.grpc(ports.grpc.as_ref()) else {
                without_port = true;
                continue;
            };
            for member in &slice.members {
                let key = member.uid.clone().unwrap_or_else(|| member.ip.to_string());
                let (place, port, known) = members.entry(key).or_insert_with(|| (slice, grpc, member.clone()));
                let state = known.state.max(member.state);
                // IPv4 where there are both: a node that speaks IPv6 alone sees no slices of IPv4.
                if member.ip < known.ip {
                    (*place, *port, *known) = (slice, grpc, member.clone());
                }
                known.state = state;
            }
        }
        if members.is_empty() && without_port {
            let known = self.0.values().flat_map(|slice| slice.ports.iter().map(|(name, _)| name.clone())).collect();
            let wanted = ports.grpc.as_ref().map_or_else(|| "grpc".to_owned(), Port::to_string);
            return Err(NoSuchPort { wanted, known });
        }
        // One address is one pod: that of a pod that just ended may have been given to the next.
        let mut by_address: BTreeMap<(IpAddr, u16), (State, PodSpec)> = BTreeMap::new();
        for (slice, grpc, member) in members.into_values().filter(|(.., member)| member.state > State::NotReady) {
            let pod = pod(slice, grpc, &member, ports);
            match by_address.get(&(member.ip, grpc)) {
                Some((State::Ready, _)) => {}
                _ => drop(by_address.insert((member.ip, grpc), (member.state, pod))),
            }
        }
        let mut pods: Vec<PodSpec> = by_address.into_values().map(|(_, pod)| pod).take(MOST_PODS).collect();
        pods.sort_by(|a, b| (&a.name, &a.grpc).cmp(&(&b.name, &b.grpc)));
        Ok(pods)
    }
}

fn pod(slice: &Slice, grpc: u16, member: &Member, ports: &Ports) -> PodSpec {
    let at = |port: u16| format!("{}:{port}", bracketed(&member.ip.to_string()));
    let mut pod = PodSpec::new(member.name.clone().unwrap_or_else(|| at(grpc)), format!("http://{}", at(grpc)));
    pod.http = slice.port(&ports.http).map(|port| format!("http://{}", at(port)));
    pod.metrics = slice.port(&ports.metrics).map(|port| format!("http://{}", at(port)));
    pod.uid.clone_from(&member.uid);
    pod.zone.clone_from(&member.zone);
    pod.draining = member.state == State::Draining;
    match &ports.tls_name {
        Some(name) => over_tls(pod, name),
        None => pod,
    }
}

impl Slice {
    fn grpc(&self, port: Option<&Port>) -> Option<u16> {
        match (port, &self.ports[..]) {
            (Some(port), _) => self.port(port),
            (None, [(name, number)]) if name.is_empty() => Some(*number),
            (None, _) => self.named("grpc"),
        }
    }

    /// A number is the pod's own port, whether the service knows of it or not.
    fn port(&self, port: &Port) -> Option<u16> {
        match port {
            Port::Number(number) => Some(*number),
            Port::Name(name) => self.named(name),
        }
    }

    fn named(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }
}

impl From<EndpointSlice> for Slice {
    fn from(slice: EndpointSlice) -> Slice {
        let ports = slice.ports.unwrap_or_default().into_iter().filter_map(tcp).collect();
        // What is no IP address (the type FQDN is deprecated, and nothing makes it) is nobody's pod.
        let members = slice.endpoints.into_iter().take(MOST_ENDPOINTS).filter_map(member).collect();
        Slice { ports, members }
    }
}

fn tcp(port: EndpointPort) -> Option<(String, u16)> {
    let is_tcp = port.protocol.is_none_or(|protocol| protocol == "TCP");
    let number = u16::try_from(port.port?).ok().filter(|number| *number != 0 && is_tcp)?;
    Some((port.name.unwrap_or_default(), number))
}

fn member(endpoint: Endpoint) -> Option<Member> {
    // Of further addresses Kubernetes says that they mean nothing.
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let state = state(&endpoint.conditions.unwrap_or_default());
    let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod")).unwrap_or_default();
    let plain = |text: Option<String>| text.filter(|text| is_plain(text));
    let name = plain(pod.name).or(plain(endpoint.hostname));
    Some(Member { ip, state, name, uid: plain(pod.uid), zone: plain(endpoint.zone) })
}

/// What Kubernetes leaves out is as its reference has it: ready, serving, not terminating. Of a pod that terminates
/// `ready` is false (or true, where the service publishes pods that are not ready), so that `serving` counts; of any
/// other the two are the same.
fn state(conditions: &EndpointConditions) -> State {
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(true);
    match conditions.terminating.unwrap_or(false) {
        true if serving => State::Draining,
        false if ready => State::Ready,
        _ => State::NotReady,
    }
}

/// Whether it can stand in a label and on a terminal.
fn is_plain(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}
