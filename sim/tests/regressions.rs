//! The bugs that simulation found, once more: the smallest plan of each, by name, run for ever.
//!
//! A plan that fails here: `cargo sim replay tests/regressions/NAME.toml`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use plimsoll_sim::check::guarded;
use plimsoll_sim::plan::Plan;

/// A bug that was mended comes back when somebody tidies up what mended it. Each plan failed before its bug was mended, and
/// begins with what went wrong.
#[test]
fn what_was_mended_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/regressions");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|is| is == "toml")).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no plan in {}", folder.display());
    let failures: Vec<String> = paths.iter().filter_map(|path| fails(path)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn fails(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let told = text.lines().take_while(|line| line.starts_with("# ")).count();
    assert!(told >= 2, "{} does not begin with its story", path.display());
    let plan = Plan::read(path).unwrap();
    let failure = guarded(&plan).err()?;
    Some(format!("{}: {} at {:?}: {}", path.display(), failure.checker, failure.at, failure.what))
}
