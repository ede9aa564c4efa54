//! How the `https://` addresses of a pod are talked to: plain paths and a name, so that the core needs no TLS to carry them.

use std::path::PathBuf;

/// The settings of TLS towards a pod. The files are read when a connection is made, and again once they changed; a pod with plain
/// addresses needs none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct PodTls {
    /// PEM file of the CAs that the pod's certificate must come from; without, those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the chain that this node shows where a pod asks for one, leaf first; with `key_file` or not at all.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// The name that the pod's certificate must carry; without, the host of its address.
    pub server_name: Option<String>,
}

impl PodTls {
    /// These settings, and those of `usual` where they say nothing.
    #[cfg(feature = "driver")]
    pub(crate) fn or(self, usual: &PodTls) -> PodTls {
        let (cert_file, key_file) = match (self.cert_file, self.key_file) {
            (None, None) => (usual.cert_file.clone(), usual.key_file.clone()),
            own => own,
        };
        PodTls {
            ca_file: self.ca_file.or_else(|| usual.ca_file.clone()),
            cert_file,
            key_file,
            server_name: self.server_name.or_else(|| usual.server_name.clone()),
        }
    }
}
