//! Names whose every address is a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverOpts};
use tokio::time::sleep;

use super::DiscoveryError;
use super::voice::Voice;
use crate::config::{DnsName, MOST_PODS, bracketed};
use crate::observe::PodSpec;

/// The shortest life of an answer: a TTL of 0 would mean a lookup per request.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// One attempt at a name server. Two attempts at each server keep a lookup within the usual interval.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Reports a pod for each address of the name, as often as the answers' TTL asks for within the bounds.
pub(super) async fn watch(name: DnsName, interval: Duration, resolver: TokioResolver, mut voice: Voice) {
    let mut retry = SHORTEST_TTL;
    loop {
        let wait = match look_up(&resolver, &name).await {
            Ok((pods, ttl)) => {
                voice.found(pods).await;
                retry = SHORTEST_TTL;
                ttl.min(interval).max(SHORTEST_TTL)
            }
            Err(error) => {
                voice.failed(format!("cannot resolve `{name}`: {error}")).await;
                let wait = retry;
                retry = (retry * 2).min(interval);
                wait
            }
        };
        sleep(wait).await;
    }
}

/// The pods behind a name, ordered by address, and how long the answer holds. An empty answer is an error: a service
/// with nothing behind it and a broken zone look alike, and keeping pods that are gone costs less than losing all.
async fn look_up(resolver: &TokioResolver, name: &DnsName) -> Result<(Vec<PodSpec>, Duration), String> {
    let answer = resolver.lookup_ip(name.host.as_str()).await.map_err(|error| error.to_string())?;
    let addresses: BTreeSet<IpAddr> = answer.iter().collect();
    if addresses.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let ttl = answer.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let pod = |ip: IpAddr| {
        let address = format!("{}:{}", bracketed(&ip.to_string()), name.port);
        PodSpec::new(format!("{}/{address}", name.host), format!("http://{address}"))
    };
    Ok((addresses.into_iter().take(MOST_PODS).map(pod).collect(), Duration::from_secs(ttl.into())))
}

pub(super) fn system_resolver() -> Result<TokioResolver, DiscoveryError> {
    let error = |error: hickory_resolver::net::NetError| DiscoveryError::Resolver(error.to_string());
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::{Arc, Mutex};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::super::tests::{LONG, changed, names};
    use super::*;
    use crate::config::Config;
    use crate::driver::discovery::Discovery;

    /// What the name server below answers: A records with a TTL, or an error.
    type Zone = Arc<Mutex<Result<(Vec<Ipv4Addr>, u32), u8>>>;

    /// A name server on loopback, as small as DNS allows: the question comes back with the zone's records behind it.
    async fn name_server(zone: Zone) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((_, from)) = socket.recv_from(&mut query).await {
                let name_ends = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
                let is_a = query[name_ends + 1..name_ends + 3] == [0, 1];
                let (records, ttl, code) = match zone.lock().unwrap().clone() {
                    Ok((records, ttl)) if is_a => (records, ttl, 0),
                    Ok((_, ttl)) => (Vec::new(), ttl, 0),
                    Err(code) => (Vec::new(), 0, code),
                };
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
                answer.extend(&query[12..name_ends + 5]);
                for record in records {
                    answer.extend([0xc0, 12, 0, 1, 0, 1]);
                    answer.extend(ttl.to_be_bytes());
                    answer.extend([0, 4]);
                    answer.extend(record.octets());
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        address
    }

    fn resolver(server: SocketAddr) -> TokioResolver {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        tune(builder.options_mut());
        builder.build().unwrap()
    }

    /// A service grows while the node runs, then its name server fails: the new pod must be found within the TTL, long
    /// before the interval, and the failure must cost no pod.
    #[tokio::test]
    async fn names_are_asked_again_after_their_ttl_and_failures_keep_the_answer() {
        let [a, b] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1)];
        let zone: Zone = Arc::new(Mutex::new(Ok((vec![a], 0))));
        let resolver = resolver(name_server(zone.clone()).await);
        let config =
            Config::from_toml_str("discovery.dns = ['triton.svc.:8001']\ndiscovery.dns_interval_s = 600").unwrap();
        let mut discovery = Discovery::with_resolver(&config, Some(resolver));

        let pods = changed(&mut discovery).await;
        assert_eq!((names(&pods), pods[0].grpc.as_str()), (vec!["triton.svc./10.0.0.2:8001"], "http://10.0.0.2:8001"));

        *zone.lock().unwrap() = Ok((vec![a, b], 1));
        // Ordered by address, whatever the server's order is today.
        let both = ["triton.svc./10.0.0.1:8001", "triton.svc./10.0.0.2:8001"];
        assert_eq!(names(&changed(&mut discovery).await), both);

        // SERVFAIL, then a name that is gone.
        for code in [2, 3] {
            *zone.lock().unwrap() = Err(code);
            assert_eq!(timeout(LONG, discovery.report()).await.expect("a failing lookup is reported"), None);
            assert_eq!(names(discovery.pods()), both);
        }
        *zone.lock().unwrap() = Ok((vec![b], 0));
        assert_eq!(names(&changed(&mut discovery).await), both[..1]);
    }
}
