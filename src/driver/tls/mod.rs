//! TLS in three places: between nodes (`gossip`), towards callers (`listen`) and towards pods (`pods`). They share how
//! files are read and what is said of bad ones. The last two look at their files again while they serve: new connections take
//! what is new, those that are open stay as they are.

pub(crate) mod gossip;
pub(crate) mod listen;
mod pem;
pub(crate) mod pods;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use tokio::time::Duration;

pub use self::listen::{ServerTls, ServerTlsFiles};
use super::watched::{Text, Unreadable};

/// How long a TLS handshake may take. Two round trips and two signatures are done in milliseconds; who takes longer than this
/// holds a connection for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why certificates and keys cannot be used. At a start nothing was started then; later what was used before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read: check its path, its permissions and what is in it.
    #[error("cannot read `{}`: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system or the PEM reader says.
        reason: String,
    },
    /// The certificate does not say which node it is for: issue one with the URI name it should have.
    #[error("certificate `{}` is not for this node: it needs the URI name `{wanted}` (and the DNS name `{}`)", path.display(), gossip::SERVER_NAME)]
    NotThisNode {
        /// The certificate.
        path: PathBuf,
        /// The name it must carry.
        wanted: String,
    },
    /// A certificate and its key: give the key that the certificate was made for.
    #[error("certificate `{}` cannot be used with key `{}`: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The name that certificates are to carry is none.
    #[error("`{0}` cannot be the name in a certificate: write a DNS name or an IP address")]
    Name(String),
    /// The system trusts nobody: name a CA.
    #[error("this system has no certificates that it trusts ({0}): name the file of a CA")]
    NoRoots(String),
    /// Keys and certificates do not fit together, or are of a kind that is not supported.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

impl From<Unreadable> for TlsError {
    fn from(Unreadable { path, reason }: Unreadable) -> TlsError {
        TlsError::Read { path, reason }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> TlsError {
        TlsError::Unusable(error.to_string())
    }
}

/// One provider for all: ring.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A chain, leaf first, and its key, if they fit together.
fn pair(cert: &Text, key: &Text) -> Result<CertifiedKey, TlsError> {
    let (chain, secret) = (cert.certificates()?, key.key()?);
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| TlsError::Pair {
        cert: cert.path.clone(),
        key: key.path.clone(),
        reason: match error {
            rustls::Error::InconsistentKeys(_) => "the key is of another certificate".to_owned(),
            error => error.to_string(),
        },
    })
}
