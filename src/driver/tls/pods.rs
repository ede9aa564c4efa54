//! TLS towards pods: whom this node trusts, what it shows them, and by which name it knows them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{TlsError, pair, provider};
use crate::driver::watched::{Text, Watched};
use crate::observe::PodTls;

/// What is spoken on a connection to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// HTTP/2: gRPC.
    H2,
    /// HTTP/1.1.
    Http1,
    /// Something that has no name among protocols: Redis.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "nobody else speaks so"))]
    Plain,
}

/// The TLS of connections to pods with the same settings: read once, shared by all of them, read again when the files change.
#[derive(Clone)]
pub(crate) struct ClientTls(Arc<Watched<Configs, TlsError>>);

struct Configs {
    h2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    plain: Arc<ClientConfig>,
}

/// The files of some settings, without the name that goes with them.
type Files = (Option<PathBuf>, Option<(PathBuf, PathBuf)>);

/// One for all pods that have the same settings: a thousand pods are no reason to keep a thousand copies of the system's roots.
static SHARED: Mutex<BTreeMap<Files, Weak<Watched<Configs, TlsError>>>> = Mutex::new(BTreeMap::new());

impl ClientTls {
    /// Reads the files that `tls` names, if nobody did yet.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub(crate) fn of(tls: &PodTls) -> Result<ClientTls, TlsError> {
        if let Some(name) = &tls.server_name {
            server_name(name)?;
        }
        let pair = tls.cert_file.clone().zip(tls.key_file.clone());
        let files: Files = (tls.ca_file.clone(), pair);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = shared.get(&files).and_then(Weak::upgrade) {
            return Ok(ClientTls(there));
        }
        let made = Arc::new(watch(&files)?);
        shared.retain(|_, watched| watched.strong_count() > 0);
        shared.insert(files, Arc::downgrade(&made));
        Ok(ClientTls(made))
    }

    /// The handshake on a fresh connection to the pod called `name`. Who calls it limits its time.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
        wanted: Wanted,
    ) -> io::Result<TlsStream<TcpStream>> {
        let configs = self.0.fresh();
        let config = match wanted {
            Wanted::H2 => &configs.h2,
            Wanted::Http1 => &configs.http1,
            Wanted::Plain => &configs.plain,
        };
        TlsConnector::from(config.clone()).connect(name, stream).await
    }
}

/// The name that a certificate must carry.
///
/// # Errors
/// [`TlsError::Name`].
pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    // A bracketed IPv6 address is written without its brackets where it stands alone.
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(plain.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}

fn watch((ca, shown): &Files) -> Result<Watched<Configs, TlsError>, TlsError> {
    let (has_ca, shows) = (ca.is_some(), shown.is_some());
    let pair_files = shown.iter().flat_map(|(cert, key)| [cert, key]);
    let files = ca.iter().chain(pair_files).cloned().collect();
    Watched::new("the certificates for pods", files, move |texts| {
        let (ca, rest) = texts.split_at(usize::from(has_ca));
        configs(ca.first(), rest.first_chunk::<2>().filter(|_| shows))
    })
}

fn configs(ca: Option<&Text>, shown: Option<&[Text; 2]>) -> Result<Configs, TlsError> {
    let roots = ca.map_or_else(system_roots, Text::roots)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match shown {
        Some([cert, key]) => builder.with_client_cert_resolver(Arc::new(Shown(pair(cert, key)?.into()))),
        None => builder.with_no_client_auth(),
    };
    let speaking = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Configs { h2: speaking(b"h2"), http1: speaking(b"http/1.1"), plain: Arc::new(config) })
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry what no verifier reads; the rest is good all the same.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}

/// The certificate that this node shows to pods that ask for one.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
