//! Names that DNS knows: every address of a host is a pod, or every target of an SRV record.

mod srv;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::IntoName;
use tokio::time::sleep;

use super::voice::Voice;
use super::{DiscoveryError, over_tls};
use crate::config::{DiscoveryConfig, DnsName, MOST_PODS, bracketed};
use crate::observe::PodSpec;

/// The shortest life of an answer: a TTL of 0 would mean a lookup per request.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// One attempt at a name server. Two attempts at each server keep a lookup within the usual interval.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One name that is watched.
pub(super) struct Watch {
    pub(super) name: DnsName,
    pub(super) resolver: TokioResolver,
    /// An answer is asked for again at the latest after this.
    interval: Duration,
    tls: bool,
    http_port: Option<u16>,
    metrics_port: Option<u16>,
}

impl Watch {
    pub(super) fn new(name: DnsName, resolver: TokioResolver, config: &DiscoveryConfig) -> Watch {
        let (http_port, metrics_port) = (config.http_port.number(), config.metrics_port.number());
        Watch { name, resolver, interval: config.dns_interval, tls: config.tls, http_port, metrics_port }
    }

    /// Reports the pods behind the name, as often as the answers' TTL asks for within the bounds.
    pub(super) async fn run(self, mut voice: Voice) {
        let mut retry = SHORTEST_TTL;
        loop {
            let wait = match self.look_up().await {
                Ok((pods, ttl)) => {
                    voice.found(pods).await;
                    retry = SHORTEST_TTL;
                    ttl.min(self.interval).max(SHORTEST_TTL)
                }
                Err(error) => {
                    voice.failed(format!("cannot resolve `{}`: {error}", self.name)).await;
                    let wait = retry;
                    retry = (retry * 2).min(self.interval);
                    wait
                }
            };
            sleep(wait).await;
        }
    }

    /// The pods behind the name, in a fixed order, and how long the answer holds. An empty answer is an error: a service
    /// with nothing behind it and a broken zone look alike, and keeping pods that are gone costs less than losing all.
    async fn look_up(&self) -> Result<(Vec<PodSpec>, Duration), String> {
        let (found, ttl) = match &self.name {
            DnsName::Host { host, port } => {
                let (addresses, ttl) =
                    addresses(&self.resolver, host.as_str()).await.map_err(|error| error.to_string())?;
                (addresses.into_iter().map(|ip| (host.clone(), ip, *port)).collect(), ttl)
            }
            DnsName::Srv { name } => srv::look_up(&self.resolver, name).await?,
        };
        if found.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        let pods = found.into_iter().take(MOST_PODS).map(|place| self.pod(place)).collect();
        Ok((pods, Duration::from_secs(ttl.into())))
    }

    fn pod(&self, (host, ip, port): Place) -> PodSpec {
        let at = |port: u16| format!("{}:{port}", bracketed(&ip.to_string()));
        let url = |port: u16| format!("http://{}", at(port));
        let mut pod = PodSpec::new(format!("{host}/{}", at(port)), url(port));
        pod.http = self.http_port.map(url);
        pod.metrics = self.metrics_port.map(url);
        if self.tls { over_tls(pod, host.trim_end_matches('.')) } else { pod }
    }
}

/// Where a pod is, by whose name: a host, an address of it, a port.
type Place = (String, IpAddr, u16);

/// The addresses of a host, and their TTL in seconds.
async fn addresses(resolver: &TokioResolver, host: impl IntoName) -> Result<(BTreeSet<IpAddr>, u32), NetError> {
    let answer = resolver.lookup_ip(host).await?;
    Ok((answer.iter().collect(), shortest_ttl(answer.as_lookup())))
}

fn shortest_ttl(answer: &Lookup) -> u32 {
    answer.answers().iter().map(|record| record.ttl).min().unwrap_or(0)
}

pub(super) fn system_resolver() -> Result<TokioResolver, DiscoveryError> {
    let error = |error: NetError| DiscoveryError::Resolver(error.to_string());
    let mut builder = TokioResolver::builder_tokio().map_err(error)?;
    tune(builder.options_mut());
    builder.build().map_err(error)
}

/// Both families, and no cache: when to ask again is decided here, by the TTL.
fn tune(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.cache_size = 0;
    options.timeout = TIMEOUT;
    options.attempts = 2;
}
