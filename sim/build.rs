//! Writes down which commit the simulator is built from: figures and plans carry it.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    // Outside a checkout all is as ever. A commit, and a change of what goes into the binary, say it anew.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    for path in
        log.iter().map(String::as_str).chain(["src", "files", "build.rs", "Cargo.toml", "../src", "../Cargo.lock"])
    {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let changed = || git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).map(|commit| if changed() { commit + "+" } else { commit });
    println!("cargo::rustc-env=PLIMSOLL_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
}
