use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::super::tests::{LONG, changed, names};
use super::*;
use crate::config::Config;
use crate::driver::discovery::{Clients, Discovery};

/// What the name server answers for one name: records with a TTL, or an error. Names that are not in it are not there.
type Answer = Result<(Vec<RData>, u32), ResponseCode>;

#[derive(Clone, Default)]
struct Zone(Arc<Mutex<BTreeMap<String, Answer>>>);

impl Zone {
    fn set(&self, name: &str, answer: Answer) {
        self.0.lock().unwrap().insert(name.to_owned(), answer);
    }

    fn answer(&self, query: &Message) -> Message {
        let question = &query.queries[0];
        let mut answer = Message::response(query.id, query.op_code);
        answer.add_query(question.clone());
        match self.0.lock().unwrap().get(&question.name().to_string()) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Err(code)) => answer.metadata.response_code = *code,
            Some(Ok((records, ttl))) => {
                let asked = records.iter().filter(|record| record.record_type() == question.query_type());
                let record = |data: &RData| Record::from_rdata(question.name().clone(), *ttl, data.clone());
                answer.add_answers(asked.map(record));
            }
        }
        answer
    }
}

/// A resolver of a name server on loopback that knows `zone`.
async fn resolver(zone: &Zone) -> TokioResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let zone = zone.clone();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let answer = zone.answer(&Message::from_vec(&query[..length]).unwrap());
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    let mut connection = ConnectionConfig::udp();
    connection.port = SocketAddr::port(&server);
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    tune(builder.options_mut());
    builder.build().unwrap()
}

async fn discovery(config: &str, zone: &Zone) -> Discovery {
    let config = Config::from_toml_str(config).unwrap();
    let clients = Clients { resolver: Some(resolver(zone).await), ..Clients::default() };
    Discovery::with_clients(&config, clients)
}

fn a(last: u8) -> RData {
    RData::A(Ipv4Addr::new(10, 0, 0, last).into())
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 100, port, Name::from_ascii(target).unwrap()))
}

async fn unchanged(discovery: &mut Discovery) {
    assert_eq!(timeout(LONG, discovery.report()).await.expect("every lookup is reported"), None);
}

/// A service grows while the node runs, then its name server fails: the new pod must be found within the TTL, long
/// before the interval, and the failure must cost no pod.
#[tokio::test]
async fn names_are_asked_again_after_their_ttl_and_failures_keep_the_answer() {
    let zone = Zone::default();
    zone.set("triton.svc.", Ok((vec![a(2)], 0)));
    let config = "discovery.dns = ['triton.svc.:8001']\ndiscovery.dns_interval_s = 600";
    let mut discovery = discovery(config, &zone).await;

    let pods = changed(&mut discovery).await;
    assert_eq!((names(&pods), pods[0].grpc.as_str()), (vec!["triton.svc./10.0.0.2:8001"], "http://10.0.0.2:8001"));
    assert_eq!((&pods[0].http, &pods[0].metrics), (&None, &None));

    zone.set("triton.svc.", Ok((vec![a(2), a(1)], 1)));
    // Ordered by address, whatever the server's order is today.
    let both = ["triton.svc./10.0.0.1:8001", "triton.svc./10.0.0.2:8001"];
    assert_eq!(names(&changed(&mut discovery).await), both);

    for code in [ResponseCode::ServFail, ResponseCode::NXDomain] {
        zone.set("triton.svc.", Err(code));
        unchanged(&mut discovery).await;
        assert_eq!(names(discovery.pods()), both);
    }
    zone.set("triton.svc.", Ok((vec![a(1)], 0)));
    assert_eq!(names(&changed(&mut discovery).await), both[..1]);
}

/// A record names hosts and ports: both families of every target of the lowest priority are pods, at its own port. The
/// others stand by until none of those is left, and one target that just ended must not hide the others.
#[tokio::test]
async fn srv_records_say_which_pods_and_which_ports() {
    let zone = Zone::default();
    let service = "_grpc._tcp.triton.svc.";
    let six = RData::AAAA(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7).into());
    zone.set("t0.svc.", Ok((vec![a(1), six], 60)));
    zone.set("t1.svc.", Ok((vec![a(2)], 60)));
    zone.set("spare.svc.", Ok((vec![a(9)], 60)));
    let records = vec![srv(20, 8001, "spare.svc."), srv(10, 9001, "t1.svc."), srv(10, 8001, "t0.svc.")];
    let all = [records.clone(), vec![srv(10, 8001, "gone.svc.")]].concat();
    zone.set(service, Ok((all, 0)));
    let config =
        "discovery.dns = ['srv:_grpc._tcp.triton.svc.']\ndiscovery.http_port = 8000\ndiscovery.metrics_port = 8002";
    let mut discovery = discovery(config, &zone).await;

    let pods = changed(&mut discovery).await;
    assert_eq!(names(&pods), ["t0.svc/10.0.0.1:8001", "t0.svc/[fd00::7]:8001", "t1.svc/10.0.0.2:9001"]);
    assert_eq!(pods[1].grpc, "http://[fd00::7]:8001");
    assert_eq!(pods[1].http.as_deref(), Some("http://[fd00::7]:8000"));
    assert_eq!(pods[2].metrics.as_deref(), Some("http://10.0.0.2:8002"));

    // Whose name server fails may be there all the same.
    zone.set("t1.svc.", Err(ResponseCode::ServFail));
    unchanged(&mut discovery).await;
    assert_eq!(discovery.pods().len(), 3);

    for ended in ["t0.svc.", "t1.svc."] {
        zone.set(ended, Err(ResponseCode::NXDomain));
    }
    assert_eq!(names(&changed(&mut discovery).await), ["spare.svc/10.0.0.9:8001"]);
    zone.set(service, Ok((vec![srv(0, 0, ".")], 0)));
    unchanged(&mut discovery).await;
    assert_eq!(names(discovery.pods()), ["spare.svc/10.0.0.9:8001"]);
    zone.set("t1.svc.", Ok((vec![a(2)], 60)));
    zone.set(service, Ok((records, 0)));
    assert_eq!(names(&changed(&mut discovery).await), ["t1.svc/10.0.0.2:9001"]);
}
