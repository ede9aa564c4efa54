//! The admin API on a listener, with or without TLS.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;
use tracing::debug;

use crate::driver::door::{Door, Room};
use crate::driver::tls::ServerTls;
use crate::driver::tls::listen::{NoTls, Spoken};

/// Connections at once: people, probes and scrapers are few, and whoever opens more shall not take what callers need.
const MOST_CONNECTIONS: usize = 256;
/// How long one may stay without a request, and a request's head may take: longer than scrapers pause.
const IDLE: Duration = Duration::from_secs(75);
/// Heads have a token at most; hyper takes no smaller buffer.
const MAX_HEAD: usize = 8 << 10;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caller {
    /// Whether it showed a certificate, which was good then.
    pub(super) is_certified: bool,
}

/// Serves `router` until `shutdown`, and the answers under way to their ends.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut door = Door::new(listener, "admin", Room::new(MOST_CONNECTIONS));
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = door.accept() => {
                let (tls, router, closing) = (tls.clone(), router.clone(), closing.clone());
                connections.spawn(async move {
                    connection(stream, tls, router, closing).await;
                    drop(place);
                });
            }
        }
    }
    drop(door);
    close.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, tls: Option<ServerTls>, router: Router, mut closing: watch::Receiver<bool>) {
    let Some(tls) = tls else { return converse(stream, Caller::default(), router, closing).await };
    let accepted = tokio::select! {
        accepted = tls.accept(stream, Spoken::Admin) => accepted,
        () = told(&mut closing) => return,
    };
    match accepted {
        Ok(stream) => {
            let is_certified = stream.get_ref().1.peer_certificates().is_some();
            converse(stream, Caller { is_certified }, router, closing).await;
        }
        Err(NoTls::Plain(_)) => debug!("somebody asked the admin API without TLS"),
        Err(NoTls::Failed(error)) => debug!(%error, "no TLS with somebody who asked the admin API"),
    }
}

async fn converse<S>(stream: S, caller: Caller, router: Router, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(caller));
        let answered = router.clone().call(request);
        async move { Ok::<_, Infallible>(answered.await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = told(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the admin API broke");
    }
}

/// Returns when connections are to be closed.
async fn told(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever would wait for this.
    let _ = closing.wait_for(|closing| *closing).await;
}
