//! Where a pod is reached, and how a connection begins: with or without TLS.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::Authority;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Unreachable;
use crate::driver::tcp;
use crate::driver::tls::pods::{ClientTls, Wanted, server_name};
use crate::observe::{PodSpec, PodTls};

/// A pod whose machine answers nothing for this long is given up, with the requests in flight there. Less than a network's
/// usual hiccups would cost requests that could still end well; more keeps callers without a deadline waiting.
const SILENCE: Duration = Duration::from_secs(15);

/// Why an address cannot be a pod's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Its certificate could not be checked: [`crate::observe::PodTls::server_name`] is no name.
    #[error("`{0}` cannot be the name in a pod's certificate: give a DNS name or an IP address as its server name")]
    ServerName(String),
    /// It must look like `http://10.0.0.7:8001`.
    #[error("`{0}` is no address of a pod: it must look like http://10.0.0.7:8001")]
    Malformed(String),
}

/// Whether requests can be forwarded to the addresses of `spec`; configuration and discovery ask before they use it.
///
/// # Errors
/// [`AddressError`]. A pod that is used all the same is ejected at its first pick.
pub fn check_address(spec: &PodSpec) -> Result<(), AddressError> {
    let urls = [Some(&spec.grpc), spec.http.as_ref(), spec.metrics.as_ref()];
    urls.into_iter().flatten().try_for_each(|url| target(url, &spec.tls).map(drop))
}

/// Where requests to a pod go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) authority: Authority,
    /// The name in its certificate, where it takes TLS.
    pub(super) tls: Option<ServerName<'static>>,
}

fn target(url: &str, tls: &PodTls) -> Result<Target, AddressError> {
    let malformed = || AddressError::Malformed(url.to_owned());
    let (is_tls, rest) = match url.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some(_) => return Err(malformed()),
        None => (false, url),
    };
    let authority: Authority = rest.trim_end_matches('/').parse().map_err(|_| malformed())?;
    if authority.port_u16().is_none() {
        return Err(malformed());
    }
    let name = tls.server_name.as_deref().unwrap_or(authority.host());
    let tls = is_tls.then(|| server_name(name)).transpose().map_err(|_| AddressError::ServerName(name.to_owned()))?;
    Ok(Target { authority, tls })
}

/// A pod's address for one protocol.
pub(super) struct Address {
    target: Result<Target, AddressError>,
    tls: PodTls,
    /// The certificates that `tls` names, once they were read.
    certificates: OnceLock<ClientTls>,
}

impl Address {
    pub(super) fn new(url: &str, tls: &PodTls) -> Address {
        Address { target: target(url, tls), tls: tls.clone(), certificates: OnceLock::new() }
    }

    pub(super) fn target(&self) -> Result<&Target, AddressError> {
        self.target.as_ref().map_err(Clone::clone)
    }

    /// The handshake on `stream` with the pod called `name`.
    pub(super) async fn secured(
        &self,
        stream: TcpStream,
        name: &ServerName<'static>,
        wanted: Wanted,
    ) -> Result<TlsStream<TcpStream>, Unreachable> {
        let certificates = match self.certificates.get() {
            Some(read) => read,
            None => {
                let read = ClientTls::of(&self.tls).map_err(|error| Unreachable::Certificates(Arc::new(error)))?;
                self.certificates.get_or_init(|| read)
            }
        };
        let secured = certificates.connect(stream, name.clone(), wanted).await;
        secured.map_err(|error| Unreachable::Tls(Arc::new(error)))
    }
}

/// A connection to `target` that sends at once and notices silence.
pub(super) async fn dial(target: &Authority) -> Result<TcpStream, Unreachable> {
    let port = target.port_u16().unwrap_or_default();
    // A bracketed IPv6 address is written without its brackets where it stands alone.
    let host = target.host().trim_start_matches('[').trim_end_matches(']');
    let io = |error| Unreachable::Io(Arc::new(error));
    let stream = TcpStream::connect((host, port)).await.map_err(io)?;
    // HTTP/2 pings would find silence too, but Triton closes connections for them.
    tcp::prepare(&stream, SILENCE).map_err(io)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address that cannot work must be told apart before a request meets it.
    #[test]
    fn addresses_are_checked_with_a_reason() {
        let check = |url: &str| check_address(&PodSpec::new("p", url));
        assert_eq!(check("http://10.0.0.7:8001"), Ok(()));
        assert_eq!(check("pod-7.pods:8001/"), Ok(()));
        assert_eq!(check("http://[::1]:8001"), Ok(()));
        assert_eq!(check("https://10.0.0.7:8001"), Ok(()));
        assert_eq!(check("https://[::1]:8001"), Ok(()));
        assert_eq!(check("https://a_b:8001"), Ok(()));
        let mut unnamed = PodSpec::new("p", "https://10.0.0.7:8001");
        unnamed.tls.server_name = Some("not a name".into());
        assert_eq!(check_address(&unnamed), Err(AddressError::ServerName("not a name".into())));
        for bad in ["http://10.0.0.7", "ftp://10.0.0.7:1", "http://a b:1", ""] {
            assert_eq!(check(bad), Err(AddressError::Malformed(bad.to_owned())));
        }
    }
}
