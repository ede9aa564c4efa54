//! Who may ask the admin API: who has the token, or a certificate of the right CA; on loopback, where neither is configured,
//! everybody who is on the machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::TryRng;
use rand::rngs::SysRng;
use ring::hmac;

use crate::driver::watched::{Text, Unreadable, Watched};
use crate::node::SECRET_AT_LEAST;

/// Why a token cannot be used. At a start nothing was started then; later the token from before holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be read.
    #[error("cannot read admin token `{}`: {reason}; make one with: plimsoll secret > {}", path.display(), path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It can be guessed, or sent by mistake.
    #[error("admin token `{}` has {bytes} bytes: it needs at least {SECRET_AT_LEAST}; make one with: plimsoll secret > {}", path.display(), path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Without the white space around it.
        bytes: usize,
    },
    /// No header can hold it.
    #[error("admin token `{}` has other bytes than visible ASCII; make one with: plimsoll secret > {}", path.display(), path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no entropy.
    #[error("cannot get random bytes from the system: {0}")]
    NoEntropy(String),
}

impl From<Unreadable> for TokenError {
    fn from(Unreadable { path, reason }: Unreadable) -> TokenError {
        TokenError::Unreadable { path, reason }
    }
}

/// The token in a file, read again when it changes.
#[derive(Clone)]
pub struct Token(Arc<Watched<Tag, TokenError>>);

/// What a presented token is compared with. Under a key that nobody knows, the time that a comparison takes says nothing.
struct Tag {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Token {
    /// Reads the token in `path`, without the white space around it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn load(path: impl Into<PathBuf>) -> Result<Token, TokenError> {
        let mut key = [0; 32];
        SysRng.try_fill_bytes(&mut key).map_err(|error| TokenError::NoEntropy(error.to_string()))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let tag = move |texts: &[Text]| {
            let token = texts.iter().map(judged).next().unwrap_or(Ok(&[]))?;
            Ok(Tag { tag: hmac::sign(&key, token), key: key.clone() })
        };
        Watched::new("the admin token", vec![path.into()], tag).map(|watched| Token(Arc::new(watched)))
    }

    /// Whether `presented` is the token.
    pub(super) fn is(&self, presented: &[u8]) -> bool {
        let Tag { key, tag } = &*self.0.current();
        hmac::verify(key, presented, tag.as_ref()).is_ok()
    }

    /// Reads the file again where it changed, for as long as this is polled.
    pub(super) async fn follow(self) {
        self.0.follow().await;
    }
}

/// The token in `path` as it is presented.
///
/// # Errors
/// [`TokenError`].
#[cfg(feature = "cli")]
pub(crate) fn token_in(path: &Path) -> Result<String, TokenError> {
    let text = Text::read(path)?;
    judged(&text).map(|token| String::from_utf8_lossy(token).into_owned())
}

fn judged(text: &Text) -> Result<&[u8], TokenError> {
    let token = text.bytes.trim_ascii();
    match token.len() {
        bytes if bytes < SECRET_AT_LEAST => Err(TokenError::TooShort { path: text.path.clone(), bytes }),
        _ if !token.iter().all(u8::is_ascii_graphic) => Err(TokenError::NotText { path: text.path.clone() }),
        _ => Ok(token),
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token that is rotated must open at once what the old one did, and the old one nothing.
    #[test]
    fn a_token_is_the_text_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let says = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Token::load(&path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "F"))
        };
        let token = says("0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for wrong in [&b""[..], b"0123456789abcdef\n", b"0123456789abcdeg", b"0123456789abcdef0"] {
            assert!(!token.is(wrong));
        }
        std::fs::write(&path, "fedcba9876543210").unwrap();
        token.0.look();
        assert!(token.is(b"fedcba9876543210") && !token.is(b"0123456789abcdef"));
        std::fs::write(&path, "short").unwrap();
        token.0.look();
        assert!(token.is(b"fedcba9876543210"));
        assert_eq!(
            says("short").unwrap_err(),
            "admin token `F` has 5 bytes: it needs at least 16; make one with: plimsoll secret > F"
        );
        assert!(says("0123456789 abcdefg").unwrap_err().contains("other bytes than visible ASCII"));
    }
}
