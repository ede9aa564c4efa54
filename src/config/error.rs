//! What can be wrong with a configuration, and where a value came from. Every error is one line: the place, the dotted
//! key, what was written in backticks, what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A configuration file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// TOML that a program handed in.
    Text {
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A command line flag, with its dashes.
    Flag(String),
}

impl Source {
    pub(super) fn in_text(path: Option<&Path>, line: usize) -> Source {
        match path {
            Some(path) => Source::File { path: path.to_owned(), line },
            None => Source::Text { line },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Text { line } => write!(f, "line {line}"),
            Source::Variable(name) => f.write_str(name),
            Source::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Why a configuration was refused. Nothing was started or changed; the text is one line and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read config file `{path}`: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The text is not TOML.
    #[error("{at}: not valid TOML: {reason}")]
    Syntax {
        /// Where.
        at: Source,
        /// What the parser said.
        reason: String,
    },
    /// A key that does not exist. It is refused and not ignored, because a typo would silently mean the default.
    #[error("{at}: unknown key `{key}`; {hint}")]
    UnknownKey {
        /// Where.
        at: Source,
        /// What was written.
        key: String,
        /// The nearest known key, or all that may stand there.
        hint: String,
    },
    /// An environment variable that begins like ours and is not.
    #[error("unknown environment variable `{name}`; {hint}")]
    UnknownVariable {
        /// What was set.
        name: String,
        /// The nearest known one, or how to get rid of it.
        hint: String,
    },
    /// A value that cannot be used.
    #[error("{at}: {key}: {problem}; {remedy}")]
    Invalid {
        /// Where it was written.
        at: Source,
        /// Its dotted key.
        key: String,
        /// What is wrong, with the value in backticks.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
}

/// Why the proof of membership could not be made from a valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// There are members to join and nothing to prove membership with.
    #[error(
        "node.join names members, but there is no proof of membership; set node.cluster_secret_file, or node.ca_file, cert_file and key_file"
    )]
    Missing,
    /// The secret's file could not be read.
    #[error("cannot read cluster secret `{path}`: {reason}; make one with: plimsoll secret > {path}")]
    SecretUnreadable {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The secret can be guessed.
    #[error(
        "cluster secret `{path}` has {bytes} bytes without white space, at least 16 are needed; make one with: plimsoll secret > {path}"
    )]
    SecretTooShort {
        /// The file.
        path: String,
        /// How long the secret is.
        bytes: usize,
    },
    /// One of the PEM files could not be read.
    #[error("cannot read `{path}` ({key}): {reason}; it must be a PEM file that this user may read")]
    FileUnreadable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a one-off secret: {0}; set node.cluster_secret_file")]
    NoEntropy(String),
}

/// The value as an error shows it: on one line, in backticks, not longer than a line should be.
pub(crate) fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    let escaped: String = value.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    // `escape_debug` is for literals; quotes and apostrophes need no escape between backticks.
    let escaped = escaped.replace("\\\"", "\"").replace("\\'", "'").replace('`', "'");
    let more = if value.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{escaped}{more}`")
}

/// A message or name from elsewhere on one line, nothing in it that moves a terminal's cursor.
pub(crate) fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
