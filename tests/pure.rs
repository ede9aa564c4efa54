//! The core is pure: no runtime, no socket, no clock. The compiler proves it where it can; this proves the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn cargo(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

/// One careless dependency would give the simulator a clock or a socket, and its runs would repeat no more.
#[test]
fn neither_the_core_nor_the_simulator_depends_on_io() {
    let core = ["tree", "--offline", "-p", "plimsoll", "--no-default-features", "-e", "normal", "--prefix", "none"];
    let sim = ["tree", "--offline", "-p", "plimsoll-sim", "-e", "normal", "--prefix", "none"];
    for args in [&core[..], &sim[..]] {
        let tree = cargo(args);
        assert!(tree.contains("foca "), "the tree is not empty: {tree}");
        for io in ["tokio", "quinn", "quinn-proto", "tonic", "hyper", "socket2", "rustls", "mio", "getrandom", "chrono"]
        {
            let depends = tree.lines().any(|line| line.split(' ').next() == Some(io));
            assert!(!depends, "{io} is in the tree of {args:?}");
        }
    }
}

/// `cargo check` with everything on proves nothing about the core alone.
#[test]
fn the_core_builds_alone() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pure");
    cargo(&[
        "check",
        "--offline",
        "--quiet",
        "-p",
        "plimsoll",
        "--no-default-features",
        "--target-dir",
        &target.to_string_lossy(),
    ]);
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path).expect("it is there").map(|e| e.expect("it is").path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| sources(entry, found));
    } else {
        found.push(path.to_owned());
    }
}

/// The standard library has clocks, sockets, threads and randomly ordered maps of its own, without any dependency.
#[test]
fn the_core_says_no_forbidden_word() {
    const FORBIDDEN: [&str; 13] = [
        "Instant::now",
        "SystemTime",
        "UdpSocket",
        "TcpStream",
        "std::fs",
        "std::env",
        "tokio",
        "HashMap",
        "HashSet",
        "thread::spawn",
        "thread::sleep",
        "rand::rng()",
        "println!",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for part in ["core.rs", "core", "gossip", "pick", "observe", "id.rs", "time.rs", "mutant.rs", "sync.rs"] {
        sources(&src.join(part), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("it can be read");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for word in FORBIDDEN {
                assert!(!line.contains(word), "{}: {line}", file.display());
            }
        }
    }
}
