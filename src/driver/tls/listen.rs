//! TLS towards callers: the certificate that a front shows, and the callers' certificates where it asks for them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{HANDSHAKE, TlsError, pair, provider};
use crate::driver::watched::{Text, Watched};

/// The first byte of a TLS connection: a record of the kind "handshake".
const HANDSHAKE_RECORD: u8 = 0x16;

/// PEM files for the TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerTlsFiles {
    /// The chain that callers are shown, leaf first.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs that callers' certificates must come from; without, callers need none.
    pub client_ca: Option<PathBuf>,
}

impl ServerTlsFiles {
    /// TLS for all callers, with the chain in `cert` and its key.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ServerTlsFiles {
        ServerTlsFiles { cert: cert.into(), key: key.into(), client_ca: None }
    }

    /// The same for callers that have a certificate of a CA in `client_ca` alone.
    #[must_use]
    pub fn client_ca(self, client_ca: impl Into<PathBuf>) -> ServerTlsFiles {
        ServerTlsFiles { client_ca: Some(client_ca.into()), ..self }
    }
}

/// The TLS of listeners, read from files and read again when they change. Clones share what was read.
#[derive(Clone)]
pub struct ServerTls {
    files: ServerTlsFiles,
    watched: Arc<Watched<Configs, TlsError>>,
}

/// What connections are accepted with.
struct Configs {
    /// Where HTTP/2 is spoken and HTTP/1.1: gRPC and REST.
    front: Arc<ServerConfig>,
    /// Where only HTTP/1.1 is, and a caller without a certificate is let in.
    admin: Arc<ServerConfig>,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/2 or HTTP/1.1, as the caller likes.
    Front,
    /// HTTP/1.1, by callers with or without a certificate.
    Admin,
}

/// Why there is no TLS on a connection.
pub(crate) enum NoTls {
    /// The caller does not speak it: here is the connection, untouched.
    Plain(TcpStream),
    /// The handshake failed.
    Failed(io::Error),
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn load(files: ServerTlsFiles) -> Result<ServerTls, TlsError> {
        let all = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
        let all = all.into_iter().flatten().cloned().collect();
        let watched = Watched::new("the certificates for callers", all, configs)?;
        Ok(ServerTls { files, watched: Arc::new(watched) })
    }

    /// Reads the files again where they changed, for as long as this is polled.
    pub(crate) async fn follow(self) {
        self.watched.follow().await;
    }

    /// Whether callers' certificates are looked at.
    pub fn knows_callers(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// The handshake on a connection that was accepted, within ten seconds.
    pub(crate) async fn accept(&self, stream: TcpStream, spoken: Spoken) -> Result<TlsStream<TcpStream>, NoTls> {
        let configs = self.watched.current();
        let config = match spoken {
            Spoken::Front => &configs.front,
            Spoken::Admin => &configs.admin,
        };
        let acceptor = TlsAcceptor::from(config.clone());
        let late = |_| NoTls::Failed(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"));
        timeout(HANDSHAKE, async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] != HANDSHAKE_RECORD => Err(NoTls::Plain(stream)),
                Ok(_) => acceptor.accept(stream).await.map_err(NoTls::Failed),
                Err(error) => Err(NoTls::Failed(error)),
            }
        })
        .await
        .map_err(late)?
    }
}

fn configs(texts: &[Text]) -> Result<Configs, TlsError> {
    let [cert, key, client_ca @ ..] = texts else { unreachable!("chain and key are always among the files") };
    let pair = Arc::new(pair(cert, key)?);
    let required = config(pair.clone(), client_ca.first(), true)?;
    let optional = config(pair, client_ca.first(), false)?;
    let speaking = |config: &ServerConfig, protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Configs { front: speaking(&required, &[b"h2", b"http/1.1"]), admin: speaking(&optional, &[b"http/1.1"]) })
}

fn config(pair: Arc<CertifiedKey>, client_ca: Option<&Text>, required: bool) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()?), provider);
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::Unusable(error.to_string()))?)
        }
    };
    Ok(builder.with_cert_resolver(Arc::new(One(pair))))
}

/// The same certificate for whatever name is asked for: who chooses between several stands in front of a node.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &ServerTls) -> bool {
        self.files == other.files
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}
