//! A gRPC balancer made of pingora: HTTP/2 on both sides, the upstream with the fewest requests in flight.
//!
//! Pingora brings the proxy and no policy that knows load, so the counting is here, as its users write it: charged when the
//! upstream is chosen, given back when the request is over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use clap::Parser;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::ALPN;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// As plimsoll's front has them, and as the other peers are set here.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_FRAME: u32 = 1 << 20;
/// Above what any section of the comparison opens at once on one connection.
const STREAMS: u32 = 10_000;

/// Forward gRPC to the pod with the fewest requests in flight
#[derive(Parser, Debug)]
struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// A pod; repeat for more
    #[arg(long = "pod", value_name = "ADDR", required = true)]
    pods: Vec<SocketAddr>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let pods = args.pods.iter().map(|address| Pod { address: *address, in_flight: AtomicUsize::new(0) });
    let mut service = http_proxy_service(&server.configuration, FewestInFlight { pods: pods.collect() });
    if let Some(app) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        app.server_options = Some(options);
        app.h2_options = Some(h2_options());
    }
    service.add_tcp(&args.listen.to_string());
    server.add_service(service);
    server.run_forever()
}

fn h2_options() -> H2Options {
    let mut options = H2Options::default();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(STREAMS);
    options
}

struct Pod {
    address: SocketAddr,
    in_flight: AtomicUsize,
}

struct FewestInFlight {
    pods: Vec<Pod>,
}

#[async_trait]
impl ProxyHttp for FewestInFlight {
    /// The pod that was charged.
    type CTX = Option<usize>;

    fn new_ctx(&self) -> Option<usize> {
        None
    }

    async fn upstream_peer(&self, _: &mut Session, charged: &mut Option<usize>) -> Result<Box<HttpPeer>> {
        let least = (0..self.pods.len()).min_by_key(|pod| self.pods[*pod].in_flight.load(Relaxed));
        let least = least.ok_or_else(|| Error::explain(pingora_core::ErrorType::InternalError, "no pods"))?;
        if let Some(before) = charged.replace(least) {
            self.pods[before].in_flight.fetch_sub(1, Relaxed);
        }
        let pod = &self.pods[least];
        pod.in_flight.fetch_add(1, Relaxed);
        let mut peer = HttpPeer::new(pod.address, false, String::new());
        peer.options.alpn = ALPN::H2;
        peer.options.max_h2_streams = STREAMS as usize;
        peer.options.h2_stream_window_size = Some(STREAM_WINDOW);
        peer.options.h2_connection_window_size = Some(CONNECTION_WINDOW);
        Ok(Box::new(peer))
    }

    async fn logging(&self, _: &mut Session, _: Option<&Error>, charged: &mut Option<usize>) {
        if let Some(pod) = charged.take() {
            self.pods[pod].in_flight.fetch_sub(1, Relaxed);
        }
    }
}
