//! `[discovery]`: where pods are found, beside those listed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::addr::{self, Problem, bracketed};
use super::error::{ConfigError, shown};
use super::layers::Layers;
use super::raw::Reader;

/// Where pods are found, beside those listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// A watched file of `[[pods]]`.
    pub file: Option<PathBuf>,
    /// Names whose every address is a pod.
    pub dns: Vec<DnsName>,
    /// An answer is asked for again at the latest after this.
    pub dns_interval: Duration,
    /// Kubernetes services whose every endpoint is a pod.
    pub kubernetes: Vec<KubernetesService>,
    /// Whether pods that DNS or Kubernetes knows take TLS.
    pub tls: bool,
    /// Where pods that DNS or Kubernetes knows take HTTP. A name means nothing to DNS: such pods have no HTTP then.
    pub http_port: Port,
    /// Where their metrics are read, the same way.
    pub metrics_port: Port,
}

/// A name whose every address is a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnsName {
    /// A host: each of its addresses is a pod.
    Host {
        /// What is resolved.
        host: String,
        /// The port of each pod.
        port: u16,
    },
    /// An SRV record, written `srv:_grpc._tcp.triton.svc`: each address of each target is a pod, at the record's port.
    Srv {
        /// What is resolved, without `srv:`.
        name: String,
    },
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsName::Host { host, port } => write!(f, "{}:{port}", bracketed(host)),
            DnsName::Srv { name } => write!(f, "{SRV}{name}"),
        }
    }
}

/// A Kubernetes service whose every endpoint is a pod, written `[namespace/]service[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KubernetesService {
    /// Without, that of this node's own pod, or of the current context of the kubeconfig.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Where its pods take gRPC. Without, the port called `grpc`, or else the only one where that has no name.
    pub port: Option<Port>,
}

impl fmt::Display for KubernetesService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)?;
        self.port.as_ref().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Port {
    /// Its number.
    Number(u16),
    /// What a Kubernetes service calls it.
    Name(String),
}

impl Port {
    /// The number, where it is one.
    pub fn number(&self) -> Option<u16> {
        match self {
            Port::Number(number) => Some(*number),
            Port::Name(_) => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => write!(f, "{number}"),
            Port::Name(name) => f.write_str(name),
        }
    }
}

/// In front of a name whose SRV records are meant. No host: what follows begins with an underscore, no port does.
const SRV: &str = "srv:";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDiscovery {
    file: Option<String>,
    #[serde(default)]
    dns: Vec<String>,
    dns_interval_s: f64,
    #[serde(default)]
    kubernetes: Vec<String>,
    tls: bool,
    http_port: RawPort,
    metrics_port: RawPort,
}

/// A number, or text that a flag or variable made of it, or a name.
#[derive(Debug)]
struct RawPort(String);

impl<'de> Deserialize<'de> for RawPort {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RawPort, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = RawPort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawPort, E> {
                Ok(RawPort(number.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawPort, E> {
                Ok(RawPort(text.to_owned()))
            }
        }
        from.deserialize_any(Either)
    }
}

pub(super) fn read(layers: &Layers, raw: RawDiscovery, r: &Reader<'_>) -> Result<DiscoveryConfig, ConfigError> {
    let port =
        |key: &str, written: &RawPort, example| port(&written.0, example).map_err(|problem| r.invalid(key, problem));
    let kubernetes = each("discovery.kubernetes", &raw.kubernetes, kubernetes_service, r)?;
    if !kubernetes.is_empty() && !cfg!(feature = "kubernetes") {
        let problem = format!("`{}` cannot be asked for: this build has no Kubernetes in it", kubernetes[0]);
        return Err(r.invalid("discovery.kubernetes", (problem, "build with the feature `kubernetes`".into())));
    }
    Ok(DiscoveryConfig {
        file: raw.file.as_deref().map(|file| layers.path("discovery.file", file)),
        dns: each("discovery.dns", &raw.dns, dns_name, r)?,
        dns_interval: r.seconds("discovery.dns_interval_s", raw.dns_interval_s, 1.0..=3600.0)?,
        kubernetes,
        tls: raw.tls,
        http_port: port("discovery.http_port", &raw.http_port, ("8000", "http"))?,
        metrics_port: port("discovery.metrics_port", &raw.metrics_port, ("8002", "metrics"))?,
    })
}

/// Reads a list of which each part is there once.
fn each<T: PartialEq + fmt::Display>(
    key: &str,
    written: &[String],
    read: impl Fn(&str) -> Result<T, Problem>,
    r: &Reader<'_>,
) -> Result<Vec<T>, ConfigError> {
    let mut parts = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let part = read(text).map_err(|problem| r.invalid(&key, problem))?;
        if parts.contains(&part) {
            return Err(r.invalid(&key, (format!("`{part}` is listed twice"), "list each name once".into())));
        }
        parts.push(part);
    }
    Ok(parts)
}

fn dns_name(written: &str) -> Result<DnsName, Problem> {
    let Some(name) = written.strip_prefix(SRV).filter(|name| name.starts_with('_')) else {
        let (host, port) = addr::host_port(written)?;
        return Ok(DnsName::Host { host, port });
    };
    let problem = |remedy: &str| (format!("{} is no SRV name", shown(written)), remedy.to_owned());
    if name.contains(':') {
        return Err(problem("leave the port out: the records have it"));
    }
    let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let is_label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.len()) && label.chars().all(allowed)
    };
    let (service, protocol) = (labels.next(), labels.next());
    let underscored = [service, protocol].iter().all(|label| label.is_some_and(|label| label.starts_with('_')));
    let rest = labels.collect::<Vec<_>>();
    if name.len() > 253 || !underscored || rest.is_empty() || !name.trim_end_matches('.').split('.').all(is_label) {
        return Err(problem("write it as in `srv:_grpc._tcp.triton.svc.cluster.local`"));
    }
    Ok(DnsName::Srv { name: name.to_owned() })
}

fn kubernetes_service(written: &str) -> Result<KubernetesService, Problem> {
    let problem = |remedy: &str| (format!("{} names no service", shown(written)), remedy.to_owned());
    let (service, port_written) = match written.rsplit_once(':') {
        Some((service, port)) => (service, Some(port)),
        None => (written, None),
    };
    let (namespace, name) = match service.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, service),
    };
    if ![namespace.unwrap_or("default"), name].into_iter().all(is_dns_label) {
        return Err(problem("write it as in `triton`, `prod/triton` or `prod/triton:grpc`"));
    }
    let port = port_written.map(|written| port(written, ("8001", "grpc"))).transpose()?;
    Ok(KubernetesService { namespace: namespace.map(str::to_owned), name: name.to_owned(), port })
}

/// `number` and `name` are what somebody might have meant.
fn port(written: &str, (number, name): (&str, &str)) -> Result<Port, Problem> {
    let problem = |remedy: &str| (format!("{} is no port", shown(written)), remedy.to_owned());
    if written.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        let number = written.parse().ok().filter(|number| *number != 0);
        return number.map(Port::Number).ok_or_else(|| problem("a port is 1 to 65535"));
    }
    if is_dns_label(written) {
        return Ok(Port::Name(written.to_owned()));
    }
    let remedy =
        format!("write a number, as in {number}, or the name that a Kubernetes service gives it, as in `{name}`");
    Err(problem(&remedy))
}

/// What Kubernetes lets namespaces, services and ports be called.
fn is_dns_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same spelling has hosts and SRV names in it, and a host may be called `srv`: each must be read as it was meant.
    #[test]
    fn names_are_hosts_or_records() {
        let host = |host: &str, port| DnsName::Host { host: host.into(), port };
        assert_eq!(dns_name("triton.svc.:8001").unwrap(), host("triton.svc.", 8001));
        assert_eq!(dns_name("srv:8001").unwrap(), host("srv", 8001));
        let srv = dns_name("srv:_grpc._tcp.triton.svc.cluster.local").unwrap();
        assert_eq!(srv, DnsName::Srv { name: "_grpc._tcp.triton.svc.cluster.local".into() });
        assert_eq!(srv.to_string(), "srv:_grpc._tcp.triton.svc.cluster.local");
        assert_eq!(dns_name("srv:_grpc._tcp.a:1").unwrap_err().1, "leave the port out: the records have it");
        for bad in ["srv:_grpc", "srv:_grpc._tcp", "srv:_grpc._tcp.", "srv:_grpc.tcp.a", "srv:_grpc._tcp..a", "srv:"] {
            assert!(dns_name(bad).is_err(), "{bad}");
        }
    }

    /// Namespace and port are left out where the usual ones are meant; what Kubernetes could never have is a typing error.
    #[test]
    fn services_are_written_short_or_long() {
        let read = |written: &str| kubernetes_service(written).unwrap();
        let triton = KubernetesService { namespace: None, name: "triton".into(), port: None };
        assert_eq!(read("triton"), triton);
        let long = read("prod/triton:grpc-a");
        assert_eq!((long.namespace.as_deref(), &long.port), (Some("prod"), &Some(Port::Name("grpc-a".into()))));
        assert_eq!(long.to_string(), "prod/triton:grpc-a");
        assert_eq!(read("triton:9001").port, Some(Port::Number(9001)));
        for bad in ["", "/a", "a/", "A", "a/b/c", "a.b", "a:", "a:0", "a:65536", "a:-1", "a:b:c", "-a", "a:Grpc"] {
            assert!(kubernetes_service(bad).is_err(), "{bad}");
        }
    }
}
