//! What is wrong with a file.

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a file, in one line: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; None if it is about the whole file.
    pub line: Option<u64>,
    /// The column, by its name in the header; None if it is about the whole line.
    pub field: Option<&'static str>,
    /// What is wrong, with the value that is.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl FileError {
    /// About the whole file.
    pub fn whole(path: &Path, problem: impl fmt::Display, remedy: &str) -> FileError {
        let (path, problem, remedy) = (path.to_owned(), problem.to_string(), remedy.to_owned());
        FileError { path, line: None, field: None, problem, remedy }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.path.display().fmt(f)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", {field}")?;
        }
        write!(f, ": {}: {}", self.problem, self.remedy)
    }
}

impl std::error::Error for FileError {}

/// As much of a value as fits in a line.
pub(crate) fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
