//! Files that may change while they are used: certificates, keys, tokens. What is made of them is made anew when their bytes are
//! others; where the new ones cannot be used, what was made of the old ones stays, and the log says once what is wrong.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::digest::{Context, Digest, SHA256};
use tracing::{info, warn};

use super::clock;
use crate::time::Time;

/// How often the files are read. They are small and in the page cache; watching by inotify would miss what Kubernetes does with
/// symlinks, and network file systems. Longer would only make a rotation slower.
pub(crate) const LOOK: Duration = Duration::from_secs(2);
/// Certificates, chains and bundles of CAs have kilobytes; the largest bundle of public ones has 250.
const LARGEST: u64 = 1 << 20;

/// A file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read `{}`: {reason}", path.display())]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

/// A file's bytes, and its name for what is said of it.
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Text {
    pub(crate) fn read(path: &Path) -> Result<Text, Unreadable> {
        let unreadable = |reason: String| Unreadable { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let mut bytes = Vec::new();
        // Devices and pipes have no size, and no end perhaps.
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > LARGEST {
            return Err(unreadable(format!("it has more than {LARGEST} bytes")));
        }
        Ok(Text { path: path.to_owned(), bytes })
    }
}

type Make<T, E> = Box<dyn Fn(&[Text]) -> Result<T, E> + Send + Sync>;

/// What `make` makes of `files`.
pub(crate) struct Watched<T, E> {
    /// What a log line calls it.
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T, E>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

/// The last look: a digest of the bytes, or why they could not be read.
struct Seen {
    at: Time,
    found: Result<[u8; 32], Unreadable>,
}

impl<T, E: Display + From<Unreadable>> Watched<T, E> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// What is wrong with them: nothing is watched then.
    pub(crate) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn(&[Text]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Watched<T, E>, E> {
        let texts = read(&files)?;
        let seen = Mutex::new(Seen { at: clock::now(), found: Ok(digest(&texts)) });
        let current = ArcSwap::from_pointee(make(&texts)?);
        Ok(Watched { what, files, make: Box::new(make), current, seen })
    }

    /// What was made last.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// The same, after a look at the files where the last one was a while ago. For what is asked so seldom that the look does not
    /// matter.
    pub(crate) fn fresh(&self) -> Arc<T> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).at;
        if clock::now().since(seen) >= LOOK {
            self.look();
        }
        self.current()
    }

    /// Looks at the files again and again, for as long as this is polled; where several do so, each time one of them.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            // Some kilobytes out of the page cache: not worth a thread.
            self.fresh();
        }
    }

    /// Reads the files, and makes it anew where they changed.
    pub(crate) fn look(&self) {
        let texts = read(&self.files);
        let found = texts.as_ref().map(|texts| digest(texts)).map_err(Clone::clone);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.at = clock::now();
        if seen.found == found {
            return;
        }
        seen.found = found;
        match texts.map_err(E::from).and_then(|texts| (self.make)(&texts)) {
            Ok(made) => {
                self.current.store(Arc::new(made));
                info!("read {} again", self.what);
            }
            Err(error) => warn!("{error}; going on with {} from before", self.what),
        }
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<Text>, Unreadable> {
    files.iter().map(|path| Text::read(path)).collect()
}

/// What two looks are compared by, so that no key is kept twice.
fn digest(texts: &[Text]) -> [u8; 32] {
    let mut all = Context::new(&SHA256);
    for text in texts {
        // The length keeps a byte that moves from one file to the next from looking like none.
        all.update(&(text.bytes.len() as u64).to_le_bytes());
        all.update(&text.bytes);
    }
    let digest: Digest = all.finish();
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Wrong {
        #[error(transparent)]
        Unreadable(#[from] Unreadable),
        #[error("no number")]
        NoNumber,
    }

    fn number(files: Vec<PathBuf>) -> Result<Watched<u32, Wrong>, Wrong> {
        Watched::new("the number", files, |texts| {
            let text = std::str::from_utf8(&texts[0].bytes).unwrap_or_default();
            text.trim().parse().map_err(|_| Wrong::NoNumber)
        })
    }

    /// A rotation that goes wrong half way must not take down what works: only what can be used replaces it.
    #[test]
    fn what_cannot_be_used_leaves_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        assert!(matches!(number(vec![path.clone()]), Err(Wrong::Unreadable(_))));
        fs::write(&path, "x").unwrap();
        assert_eq!(number(vec![path.clone()]).err(), Some(Wrong::NoNumber));
        fs::write(&path, "1").unwrap();
        let watched = number(vec![path.clone()]).unwrap();
        for (text, is) in [("2", 2), ("broken", 2), ("3", 3)] {
            fs::write(&path, text).unwrap();
            watched.look();
            assert_eq!(*watched.current(), is, "{text}");
        }
        fs::remove_file(&path).unwrap();
        watched.look();
        assert_eq!(*watched.current(), 3);
    }

    /// The front and the admin API show the same certificates: files that two follow are read no more often than by one.
    #[tokio::test]
    async fn two_who_follow_look_as_often_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let looks = std::sync::atomic::AtomicUsize::new(0);
        let watched = number(vec![path]).unwrap();
        let seen = || watched.seen.lock().unwrap().at;
        let count = async {
            let mut last = seen();
            loop {
                tokio::time::sleep(LOOK / 20).await;
                if seen() != last {
                    last = seen();
                    looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            }
        };
        let late = async {
            tokio::time::sleep(LOOK / 2).await;
            watched.follow().await;
        };
        let all = async { tokio::join!(watched.follow(), late, count) };
        let _ = tokio::time::timeout(LOOK * 2 + LOOK / 4, all).await;
        assert!((1..=2).contains(&looks.into_inner()));
    }

    /// `/dev/zero` as a key would fill the memory.
    #[test]
    fn a_file_without_end_is_refused() {
        let error = Text::read(Path::new("/dev/zero")).err().unwrap().to_string();
        assert_eq!(error, "cannot read `/dev/zero`: it has more than 1048576 bytes");
    }
}
