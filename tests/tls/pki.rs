//! Certificates of a test, and connections that use them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A CA that issues into one folder.
pub(crate) struct Ca {
    folder: PathBuf,
    name: &'static str,
    params: CertificateParams,
    key: KeyPair,
}

/// A certificate and its key, PEM files both.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Ca {
    /// Its certificate is in the folder, as `name.pem`.
    pub(crate) fn new(folder: &Path, name: &'static str) -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let ca = Ca { folder: folder.to_owned(), name, params, key };
        let pem = ca.params.self_signed(&ca.key).unwrap().pem();
        std::fs::write(ca.path(), pem).unwrap();
        ca
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// For `name`, as `file.pem` and `file.key`.
    pub(crate) fn issue(&self, file: &str, name: &str) -> Pair {
        self.sign(file, CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// One that was good until 2020.
    pub(crate) fn issue_expired(&self, file: &str, name: &str) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign(file, params)
    }

    fn sign(&self, file: &str, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let path = |kind: &str| self.folder.join(format!("{file}.{kind}"));
        let pair = Pair { cert: path("pem"), key: path("key") };
        std::fs::write(&pair.cert, cert.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path()).unwrap()).unwrap();
        roots
    }
}

impl Pair {
    fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_file_iter(&self.cert).unwrap().map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_file(&self.key).unwrap())
    }
}

/// A connection to `addr` whose server shows a certificate of `ca` for `localhost`.
pub(crate) async fn connect(
    addr: &str,
    ca: &Ca,
    shown: Option<&Pair>,
    alpn: &[u8],
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots());
    let mut config = match shown.map(Pair::read) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Takes TLS at an address of its own, with the certificate in `pair`, and passes what is in it on to `addr` in plain text. From
/// callers it asks for a certificate of `client_ca`, where there is one.
pub(crate) async fn terminate(pair: &Pair, client_ca: Option<&Ca>, addr: &str) -> String {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (chain, key) = pair.read();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let addr = addr.to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(pass(acceptor.clone(), stream, addr.clone()));
        }
    });
    here
}

async fn pass(acceptor: TlsAcceptor, stream: TcpStream, addr: String) {
    let Ok(mut outside) = acceptor.accept(stream).await else { return };
    let outside: &mut server::TlsStream<TcpStream> = &mut outside;
    let Ok(mut inside) = TcpStream::connect(addr).await else { return };
    // Either side may break off.
    let _ = tokio::io::copy_bidirectional(outside, &mut inside).await;
}
