//! A page whose commands do not run is worse than none: every `cargo sim` in the documentation must be one that the binary
//! takes, with these flags and these values.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::Command;

const PAGES: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("ARCHITECTURE.md", include_str!("../../ARCHITECTURE.md")),
    ("docs/simulator.md", include_str!("../../docs/simulator.md")),
];

/// All that is written after `cargo sim`, in fenced blocks and between backticks, continued lines joined.
fn commands(page: &str) -> Vec<String> {
    let page = page.replace("\\\n", " ");
    let code = page.lines().flat_map(|line| line.split('`'));
    let command = code.filter_map(|code| code.split('#').next()?.trim().strip_prefix("cargo sim "));
    command.map(str::to_owned).collect()
}

/// The words of a command, quotes taken off as a shell does.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(k, part)| if k % 2 == 1 { vec![part] } else { part.split_whitespace().collect() });
    words.map(str::to_owned).collect()
}

/// `--help` at the end shows the help if all before it can be parsed, values included, and runs nothing.
fn parses(words: &[String]) -> Result<(), String> {
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll-sim")).args(words).arg("--help").output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

#[test]
fn every_command_in_the_documentation_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, page) in PAGES {
        let commands = commands(page);
        assert!(!commands.is_empty(), "{name} shows none");
        for command in commands {
            let words = words(&command);
            parses(&words).unwrap_or_else(|error| panic!("{name}: cargo sim {command}\n{error}"));
            for file in words.iter().filter_map(|word| Some(&word[word.find("docs/")?..])) {
                assert!(root.join(file).exists(), "{name}: cargo sim {command}: no {file}");
            }
        }
    }
}

/// The test above proves nothing if the binary would let a slip pass.
#[test]
fn a_slip_would_be_seen() {
    let slips =
        ["compare --polices redis", "compare --policies reddis", "run --seconds ten", "complain", "run --load -1"];
    assert!(slips.iter().all(|slip| parses(&words(slip)).is_err()));
    assert_eq!(parses(&words("compare --require 'plimsoll.p99 <= 1.1 * redis.p99'")), Ok(()));
    assert_eq!(
        commands("as `cargo sim run` does\n```sh\ncargo sim plot x \\\n-o y   # draws\n```"),
        ["run", "plot x  -o y"]
    );
}
