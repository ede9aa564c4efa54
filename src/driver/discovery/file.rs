//! A watched file of `[[pods]]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::voice::Voice;
use crate::config::pods_from_text;

/// How often the file is read. It is small and in the page cache; watching by inotify would miss what Kubernetes does
/// with symlinks, and network file systems.
const POLL: Duration = Duration::from_secs(1);
/// A change counts once the file reads the same after this: whoever writes it in place empties it first, and an empty
/// file, or half a list, is a valid list of fewer pods.
const SETTLES: Duration = Duration::from_millis(200);

/// Reports the file's pods whenever its text changes.
pub(super) async fn watch(path: PathBuf, mut voice: Voice) {
    let mut seen = None;
    loop {
        let mut text = read(&path).await;
        while seen.as_ref().is_some_and(|seen| *seen != text) {
            sleep(SETTLES).await;
            let again = read(&path).await;
            if again == text {
                break;
            }
            text = again;
        }
        if seen.as_ref() != Some(&text) {
            match text.clone().and_then(|text| pods_from_text(Some(&path), &text).map_err(|e| e.to_string())) {
                Ok(pods) => voice.found(pods).await,
                Err(error) => voice.failed(error).await,
            }
            seen = Some(text);
        }
        sleep(POLL).await;
    }
}

async fn read(path: &Path) -> Result<String, String> {
    const LARGEST: u64 = 1 << 20;
    let error = |error: std::io::Error| format!("cannot read discovery file `{}`: {error}", path.display());
    let size = tokio::fs::metadata(path).await.map_err(error)?.len();
    if size > LARGEST {
        return Err(format!("discovery file `{}` has {size} bytes, more than {LARGEST}", path.display()));
    }
    tokio::fs::read_to_string(path).await.map_err(error)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changed, names};
    use super::*;
    use crate::config::Config;
    use crate::driver::discovery::{Clients, Discovery};

    /// An operator edits the file, breaks it, mends it, deletes it: pods must follow what is right and survive the rest.
    #[tokio::test(start_paused = true)]
    async fn a_broken_file_keeps_the_pods_it_gave_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pods.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("[[pods]]\nname = 'a'\ngrpc = 'h:1'\n");
        let config = format!("discovery.file = '{}'\n[[pods]]\nname = 'fixed'\ngrpc = 'h:9'", path.display());
        let mut discovery = Discovery::with_clients(&Config::from_toml_str(&config).unwrap(), Clients::default());
        assert_eq!((names(discovery.pods()), discovery.is_settled()), (vec!["fixed"], false));
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "a"]);
        assert!(discovery.is_settled());

        write("[[pods]]\nname = 'a'\ngrpc = 'h:1'\n[[pods]]\nname = 'b'\ngrpc = 'h:2'\n");
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "a", "b"]);
        write("[[pods]]\nname = 'a'\ngrcp = 'h:1'\n");
        assert_eq!(discovery.report().await, None);
        assert_eq!(names(discovery.pods()), ["fixed", "a", "b"]);
        // Written in place, it is empty for a moment, and nobody shall believe that all pods are gone.
        let both = "[[pods]]\nname = 'b'\ngrpc = 'h:2'\n[[pods]]\nname = 'a'\ngrpc = 'h:1'\n";
        write("");
        let writer = async {
            sleep(POLL + SETTLES / 2).await;
            write(both);
        };
        let (pods, ()) = tokio::join!(changed(&mut discovery), writer);
        assert_eq!(names(&pods), ["fixed", "b", "a"]);
        write("[[pods]]\nname = 'a'\ngrpc = 'h:1'\n[[pods]]\nname = 'b'\ngrpc = 'h:2'\n");
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "a", "b"]);
        // The same pods in other words are no change.
        write("# again\n[[pods]]\nname = 'a'\ngrpc = 'http://h:1'\n[[pods]]\nname = 'b'\ngrpc = 'h:2'\n");
        assert_eq!(discovery.report().await, None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(discovery.report().await, None);
        assert_eq!(names(discovery.pods()), ["fixed", "a", "b"]);
        // The file says what a pod in the list says: one pod. Another one of the same name gets its address behind it.
        write("[[pods]]\nname = 'x'\ngrpc = 'h:9'\n[[pods]]\nname = 'fixed'\ngrpc = 'h:3'\n");
        assert_eq!(names(&changed(&mut discovery).await), ["fixed", "fixed@h:3"]);
    }
}
