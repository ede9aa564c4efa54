//! Who may gossip: mutual TLS 1.3, from one shared cluster secret or from certificate files.
//!
//! With a secret, every node derives the same certificate authority from it (HKDF-SHA256 to an Ed25519 key) and mints a
//! certificate for itself; there is nothing to hand out. A holder of the secret can claim any name: the secret's holders
//! trust each other alike. With files, a node is who its certificate says. Either way the identity is the URI name
//! `spiffe://<cluster>/plimsoll-node/<name>`, and the certificate must also carry the DNS name that nodes ask for,
//! `gossip.plimsoll.internal`, so that the standard verifier does its standard work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use ring::{hkdf, hmac};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use webpki::EndEntityCert;

use super::{TlsError, provider};
use crate::driver::watched::Text;
use crate::id::NodeId;
use crate::node::Credentials;

/// The name that every node's certificate carries and every dialer asks for.
pub(crate) const SERVER_NAME: &str = "gossip.plimsoll.internal";
/// The protocol both sides must speak; another major version has another.
const ALPN: &[u8] = b"plimsoll/1";
/// A silent peer's connection is given up after this; SWIM has declared it down long before.
const IDLE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// What the endpoint is made from.
pub(crate) struct Identity {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
}

/// A peer, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerName {
    pub(crate) cluster: String,
    pub(crate) name: String,
}

impl PeerName {
    pub(crate) fn id(&self) -> NodeId {
        NodeId::of(&self.name)
    }

    fn uri(&self) -> String {
        format!("spiffe://{}/plimsoll-node/{}", self.cluster, self.name)
    }

    fn parse(uri: &str) -> Option<PeerName> {
        let (cluster, name) = uri.strip_prefix("spiffe://")?.split_once("/plimsoll-node/")?;
        let plain = is_plain(cluster) && is_plain(name);
        plain.then(|| PeerName { cluster: cluster.to_owned(), name: name.to_owned() })
    }
}

/// Whether `name` can be a part of the URI as it is: what node and cluster names are restricted to.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(plain)
}

/// The identity of the node `name` of `cluster`.
pub(crate) fn identity(name: &str, cluster: &str, credentials: &Credentials) -> Result<Identity, TlsError> {
    let me = PeerName { cluster: cluster.to_owned(), name: name.to_owned() };
    let (roots, chain, key, material) = match credentials {
        Credentials::Secret(secret) => from_secret(&me, secret)?,
        Credentials::Files { ca, cert, key } => from_files(&me, ca, cert, key)?,
    };
    let roots = Arc::new(roots);
    let provider = provider();
    let transport = Arc::new(transport());
    let mut server = server_config(&provider, &roots, &chain, &key)?;
    server.transport_config(transport.clone());
    // Nodes have one address; a connection that appears to move is somebody else's packets.
    server.migration(false);
    let mut client = client_config(&provider, &roots, chain, key)?;
    client.transport_config(transport);
    Ok(Identity { endpoint: endpoint_config(&material, name), server, client })
}

/// The peer that a connection's certificate names.
pub(crate) fn peer_name(connection: &quinn::Connection) -> Option<PeerName> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_name(chain.first()?)
}

fn node_name(leaf: &CertificateDer<'_>) -> Option<PeerName> {
    let leaf = EndEntityCert::try_from(leaf).ok()?;
    leaf.valid_uri_names().find_map(PeerName::parse)
}

type Material = (RootCertStore, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Vec<u8>);

fn from_secret(me: &PeerName, secret: &[u8]) -> Result<Material, TlsError> {
    let unusable = |error: rcgen::Error| TlsError::Unusable(error.to_string());
    let ca_key = derived_key(secret)?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "plimsoll cluster secret");
    let root = ca.self_signed(&ca_key).map_err(unusable)?;

    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(unusable)?;
    let mut leaf = CertificateParams::new([SERVER_NAME.to_owned()]).map_err(unusable)?;
    leaf.distinguished_name.push(DnType::CommonName, me.name.clone());
    leaf.subject_alt_names.push(SanType::URI(me.uri().try_into().map_err(unusable)?));
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).map_err(unusable)?;

    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).map_err(|error| TlsError::Unusable(error.to_string()))?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok((roots, vec![leaf.der().clone()], key, secret.to_vec()))
}

/// The same Ed25519 key on every node that has the secret.
fn derived_key(secret: &[u8]) -> Result<KeyPair, TlsError> {
    // PKCS#8 version 1 around a raw Ed25519 seed (RFC 8410): a fixed prefix and the 32 bytes.
    const PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let mut der = PREFIX.to_vec();
    der.extend(expand(secret, b"plimsoll ca v1"));
    let der = PrivatePkcs8KeyDer::from(der);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(|e| TlsError::Unusable(e.to_string()))
}

fn from_files(me: &PeerName, ca: &Path, cert: &Path, key: &Path) -> Result<Material, TlsError> {
    let roots = Text::read(ca)?.roots()?;
    let chain = Text::read(cert)?.certificates()?;
    let ours = chain.first().and_then(node_name);
    if ours.as_ref() != Some(me) {
        return Err(TlsError::NotThisNode { path: cert.to_owned(), wanted: me.uri() });
    }
    let key = Text::read(key)?.key()?;
    let material = key.secret_der().to_vec();
    Ok((roots, chain, key, material))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Unusable(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key.clone_key())
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // No early data: it can be replayed, and saves a round trip on connections that live for hours.
    tls.max_early_data_size = 0;
    let quic = QuicServerConfig::try_from(tls).map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok(ServerConfig::with_crypto(Arc::new(quic)))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Unusable(error.to_string()))?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let quic = QuicClientConfig::try_from(tls).map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok(ClientConfig::new(Arc::new(quic)))
}

/// Stable keys for resets and connection ids, so that peers of a restarted node learn at once that their connections are
/// dead (0.9 s instead of the idle timeout).
fn endpoint_config(material: &[u8], name: &str) -> EndpointConfig {
    let reset = expand(material, format!("plimsoll reset v1 {name}").as_bytes());
    let cid = expand(material, format!("plimsoll cid v1 {name}").as_bytes());
    let cid = u64::from_le_bytes([cid[0], cid[1], cid[2], cid[3], cid[4], cid[5], cid[6], cid[7]]);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)));
    config.cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(cid)));
    config
}

fn transport() -> TransportConfig {
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10));
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        // The default of 333 ms costs a second for every lost first packet; in a data centre 20 ms is a long way.
        .initial_rtt(Duration::from_millis(20))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .stream_receive_window(VarInt::from_u32(256 * 1024))
        .receive_window(VarInt::from_u32(512 * 1024))
        // Small on purpose: when it is full the oldest datagram goes, and what is sent is fresh (median age 50 µs against
        // 1.15 ms with the default of 1 MiB).
        .datagram_send_buffer_size(16 * 1024)
        .datagram_receive_buffer_size(Some(256 * 1024))
        .ack_frequency_config(Some(acks));
    transport
}

/// 32 bytes from `secret` for one purpose.
fn expand(secret: &[u8], purpose: &[u8]) -> [u8; 32] {
    struct Bytes32;
    impl hkdf::KeyType for Bytes32 {
        fn len(&self) -> usize {
            32
        }
    }
    let mut out = [0; 32];
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"plimsoll").extract(secret);
    let purpose = [purpose];
    // Fails only for more than 255 hash lengths of output; this is one.
    if let Ok(okm) = key.expand(&purpose, Bytes32) {
        let filled = okm.fill(&mut out);
        debug_assert!(filled.is_ok(), "32 bytes fit 32 bytes");
    }
    out
}
