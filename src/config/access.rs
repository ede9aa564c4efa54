//! Who may speak with this node, and whom it trusts: TLS towards callers, TLS towards pods, the admin API's access; and the log of
//! who did.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::{ConfigError, shown};
use super::layers::Layers;
use super::raw::Reader;
use crate::driver::access_log::AccessLogTarget;
use crate::driver::tls::{ServerTlsFiles, pods::server_name};
use crate::observe::PodTls;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    cert_file: Option<String>,
    key_file: Option<String>,
    client_ca_file: Option<String>,
}

impl RawTls {
    pub(super) fn has_certificate(&self) -> bool {
        self.cert_file.is_some()
    }
}

/// Who may ask the admin API, beside the health paths that everybody may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdminAccess {
    /// The file of the token that opens it; without, and without client certificates, it is open to all who reach it.
    pub token_file: Option<PathBuf>,
    /// Whether it is served with the TLS of the fronts. Callers' certificates are as good as the token then.
    pub tls: bool,
    /// Whether `/metrics` is open to everybody.
    pub open_metrics: bool,
}

/// Where a line about each request goes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AccessLogConfig {
    /// Stderr or a file.
    pub target: AccessLogTarget,
    /// The share of requests that get a line, 0 to 1.
    pub share: f64,
}

/// The share is judged whether the log is on or not: who turns it on at night should not find out then.
pub(super) fn read_log(
    layers: &Layers,
    target: &str,
    share: f64,
    r: &Reader<'_>,
) -> Result<Option<AccessLogConfig>, ConfigError> {
    let share = r.float("log.access_sample", share, 0.0..=1.0)?;
    let target = match target {
        "off" => return Ok(None),
        "stderr" => AccessLogTarget::Stderr,
        "" => {
            let problem = ("`` is no file".to_owned(), "write off, stderr or the path of a file".to_owned());
            return Err(r.invalid("log.access", problem));
        }
        path => AccessLogTarget::File(layers.path("log.access", path)),
    };
    Ok(Some(AccessLogConfig { target, share }))
}

/// TLS for callers, where it is configured.
pub(super) fn read_tls(layers: &Layers, raw: &RawTls, r: &Reader<'_>) -> Result<Option<ServerTlsFiles>, ConfigError> {
    let pair = read_pair(layers, ["tls.cert_file", "tls.key_file"], [&raw.cert_file, &raw.key_file], r)?;
    let client_ca = raw.client_ca_file.as_deref().map(|path| layers.path("tls.client_ca_file", path));
    match (pair, client_ca) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let problem = "`tls.client_ca_file` is given without a certificate to show".to_owned();
            Err(r.invalid("tls.client_ca_file", (problem, "give tls.cert_file and tls.key_file too".into())))
        }
        (Some((cert, key)), client_ca) => {
            let mut files = ServerTlsFiles::new(cert, key);
            files.client_ca = client_ca;
            Ok(Some(files))
        }
    }
}

/// What is written about TLS towards pods: CA, chain, key, name.
pub(super) fn read_pod_tls(
    layers: &Layers,
    [ca, cert, key, name]: [&Option<String>; 4],
    r: &Reader<'_>,
) -> Result<PodTls, ConfigError> {
    let pair = read_pair(layers, ["triton.cert_file", "triton.key_file"], [cert, key], r)?;
    let ca_file = ca.as_deref().map(|path| layers.path("triton.ca_file", path));
    let (cert_file, key_file) = pair.unzip();
    if let Some(name) = name {
        server_name(name).map_err(|_| {
            let problem = format!("{} cannot be the name in a certificate", shown(name));
            r.invalid("triton.server_name", (problem, "write a DNS name or an IP address".into()))
        })?;
    }
    Ok(PodTls { ca_file, cert_file, key_file, server_name: name.clone() })
}

/// A certificate and its key, or neither.
pub(super) fn read_pair(
    layers: &Layers,
    keys: [&str; 2],
    written: [&Option<String>; 2],
    r: &Reader<'_>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    let path = |k: usize| written[k].as_deref().map(|path| layers.path(keys[k], path));
    match (path(0), path(1)) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (cert, _) => {
            let (given, missing) = if cert.is_some() { (keys[0], keys[1]) } else { (keys[1], keys[0]) };
            Err(r.invalid(given, (format!("`{given}` is given alone"), format!("give {missing} too"))))
        }
    }
}

/// Refuses what would open the admin API to strangers.
pub(super) fn check_admin(
    admin: SocketAddr,
    access: &AdminAccess,
    tls: Option<&ServerTlsFiles>,
    r: &Reader<'_>,
) -> Result<(), ConfigError> {
    if access.tls && tls.is_none() {
        let problem = ("`true` needs a certificate".to_owned(), "give tls.cert_file and tls.key_file".to_owned());
        return Err(r.invalid("node.admin_tls", problem));
    }
    let by_certificate = access.tls && tls.is_some_and(|tls| tls.client_ca.is_some());
    if admin.ip().is_loopback() || access.token_file.is_some() || by_certificate {
        return Ok(());
    }
    let problem = format!("`{admin}` is no loopback address: whoever reaches it could drain this node");
    let remedy = "set node.admin_token_file, or node.admin_tls with tls.client_ca_file".to_owned();
    Err(r.invalid("node.admin", (problem, remedy)))
}
