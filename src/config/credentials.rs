//! The proof of membership, read when it is needed.

use std::path::Path;

use rand::TryRng;
use rand::rngs::SysRng;
use tracing::{info, warn};

use super::Identity;
use super::error::{CredentialsError, one_line};
use crate::node::{Credentials, SECRET_AT_LEAST};

/// What `plimsoll secret` prints, before it is hex.
const SECRET_BYTES: usize = 32;

pub(super) fn read(identity: &Identity, joins: bool) -> Result<Credentials, CredentialsError> {
    match identity {
        Identity::SecretFile(path) => secret(path).map(Credentials::Secret),
        Identity::Files { ca, cert, key } => {
            for (name, path) in [("node.ca_file", ca), ("node.cert_file", cert), ("node.key_file", key)] {
                readable(name, path)?;
            }
            Ok(Credentials::Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
        }
        Identity::None if joins => Err(CredentialsError::Missing),
        Identity::None => {
            info!("no proof of membership is configured: this node takes a one-off secret and stays alone");
            random_secret().map(|secret| Credentials::Secret(secret.into_bytes()))
        }
    }
}

/// A new cluster secret: 32 random bytes as hex.
pub(crate) fn random_secret() -> Result<String, CredentialsError> {
    let mut bytes = [0; SECRET_BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| CredentialsError::NoEntropy(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn secret(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let shown = one_line(&path.display().to_string());
    let bytes = std::fs::read(path)
        .map_err(|error| CredentialsError::SecretUnreadable { path: shown.clone(), reason: error.to_string() })?;
    let secret = bytes.trim_ascii();
    if secret.len() < SECRET_AT_LEAST {
        return Err(CredentialsError::SecretTooShort { path: shown, bytes: secret.len() });
    }
    if world_readable(path) {
        warn!("every user of this machine can read the cluster secret `{shown}`; run: chmod 600 {shown}");
    }
    Ok(secret.to_vec())
}

#[cfg(unix)]
fn world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn world_readable(_: &Path) -> bool {
    false
}

fn readable(key: &'static str, path: &Path) -> Result<(), CredentialsError> {
    std::fs::read(path).map(drop).map_err(|error| CredentialsError::FileUnreadable {
        key,
        path: one_line(&path.display().to_string()),
        reason: error.to_string(),
    })
}
