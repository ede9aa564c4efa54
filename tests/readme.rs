//! The README's first screen must work as written: its example is the one that runs, its flags exist.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../README.md");
const EXAMPLE: &str = include_str!("../examples/infer.rs");

/// The lines of all fenced blocks of `language`, continued lines joined.
fn blocks(language: &str) -> Vec<String> {
    let parts = README.split("```").skip(1).step_by(2);
    let blocks = parts.filter_map(|block| block.strip_prefix(language)).collect::<Vec<_>>().concat();
    let joined = blocks.replace("\\\n", " ");
    joined.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

struct Pod(Child, String);

impl Pod {
    fn start() -> Pod {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        let mut child = command.args(["pod", "--grpc", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().unwrap().to_owned();
        Pod(child, address)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// An example in a README that drifted from the code is the first thing that a stranger meets, and the last.
#[test]
fn the_rust_example_is_the_one_that_runs() {
    let lines = blocks("rust\n");
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        assert!(EXAMPLE.contains(&line), "not in examples/infer.rs: {line}");
    }
    let pod = Pod::start();
    let infer = Path::new(env!("CARGO_BIN_EXE_plimsoll")).with_file_name("examples").join("infer");
    let output = Command::new(infer).arg(format!("http://{}", pod.1)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("SERVICE_US INT64 [1]") && text.contains("POD BYTES [1]"),
        "{text}"
    );
}

/// Every command and flag that the README shows must be one that the binary has.
#[test]
fn the_commands_and_flags_exist() {
    let mut seen = 0;
    for line in blocks("sh\n") {
        let Some(rest) = line.split_once("plimsoll ").map(|(_, rest)| rest) else { continue };
        let rest = rest.split(['>', '#', ')']).next().unwrap();
        let mut words = rest.split_whitespace();
        let help =
            Command::new(env!("CARGO_BIN_EXE_plimsoll")).args([words.next().unwrap(), "--help"]).output().unwrap();
        assert!(help.status.success(), "{line}");
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{flag} of `{line}`");
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen} commands");
}
