//! The admin API over TLS.

use std::io;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::driver::tls::ServerTls;
use crate::driver::tls::listen::{NoTls, Spoken};

/// Handshakes at once: people, probes and scrapers are few, and whoever opens more waits.
const MOST_HANDSHAKES: usize = 64;
/// The pause after an accept that failed, most likely out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections whose handshake is done. Those under way keep nobody waiting.
pub(super) struct TlsListener {
    listener: TcpListener,
    tls: ServerTls,
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caller {
    /// Whether it showed a certificate, which was good then.
    pub(super) is_certified: bool,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, tls: ServerTls) -> TlsListener {
        TlsListener { listener, tls, handshakes: JoinSet::new() }
    }
}

async fn handshake(tls: ServerTls, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    match tls.accept(stream, Spoken::Admin).await {
        Ok(stream) => Some(stream),
        Err(NoTls::Plain(_)) => {
            debug!("somebody asked the admin API without TLS");
            None
        }
        Err(NoTls::Failed(error)) => {
            debug!(%error, "no TLS with somebody who asked the admin API");
            None
        }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Caller;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, Caller) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = done {
                        let is_certified = stream.get_ref().1.peer_certificates().is_some();
                        return (stream, Caller { is_certified });
                    }
                }
                accepted = self.listener.accept(), if self.handshakes.len() < MOST_HANDSHAKES => match accepted {
                    Ok((stream, _)) => drop(self.handshakes.spawn(handshake(self.tls.clone(), stream))),
                    Err(error) => {
                        warn!(%error, "cannot accept a connection to the admin API");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller::default())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Caller {
        *stream.remote_addr()
    }
}
