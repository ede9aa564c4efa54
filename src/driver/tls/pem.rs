//! PEM files: certificates, keys, roots.

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::driver::watched::Text;

impl Text {
    fn wrong(&self, reason: impl ToString) -> TlsError {
        TlsError::Read { path: self.path.clone(), reason: reason.to_string() }
    }

    /// The certificates in it, one at least, in their order.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.wrong(error))?;
        if found.is_empty() { Err(self.wrong("there is no certificate in it")) } else { Ok(found) }
    }

    /// The first key in it.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            rustls_pki_types::pem::Error::NoItemsFound => self.wrong("there is no private key in it"),
            error => self.wrong(error),
        })
    }

    /// Its certificates as what to trust.
    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in self.certificates()? {
            roots.add(root).map_err(|error| self.wrong(error))?;
        }
        Ok(roots)
    }
}
