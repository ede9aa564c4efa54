//! A failure as one line to paste, and its plan beside it.

use std::path::{Path, PathBuf};

use plimsoll_sim::Failure;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::swarm::{Class, Marks, class};

use super::exit;

/// What a script sees of a failure.
pub(crate) fn code(failure: &Failure) -> u8 {
    match class(failure) {
        Class::Safety => exit::SAFETY,
        Class::Liveness => exit::LIVENESS,
        Class::Panic => exit::PANIC,
    }
}

/// What was broken, where and when.
pub(crate) fn words(failure: &Failure) -> String {
    let Failure { checker, at, node, pod, what } = failure;
    let at = at.as_nanos() as f64 / 1e9;
    let node = node.map(|n| format!(" node={n}")).unwrap_or_default();
    let pod = pod.map(|k| format!(" pod={k}")).unwrap_or_default();
    format!("checker={checker} t={at:.3}s{node}{pod} {}", what.replace('\n', ", "))
}

/// The one line: everything that is needed to see the failure again, in the order in which people look.
pub(crate) fn line(seed: u64, plan: &Plan, failure: &Failure, written: &Path) -> String {
    let (commit, written) = (&plan.commit, written.display());
    let commit = if commit.is_empty() { "unknown" } else { commit };
    format!("FAIL seed={seed} commit={commit} {} plan={written}  replay: cargo sim replay {written}", words(failure))
}

/// Writes `plan` to `directory`.
pub(crate) fn write(directory: &Path, seed: u64, plan: &Plan) -> Result<PathBuf, String> {
    let path = directory.join(format!("{seed}.toml"));
    std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, plan.to_toml())).map_err(|error| {
        format!("{}: {error}; name a directory that can be written with --fail-dir", path.display())
    })?;
    Ok(path)
}

/// What occurred, by group; and, most telling, what never did.
pub(crate) fn print_marks(marks: &Marks) {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (group, name, hits) in marks.all() {
        let word = format!("{name} {hits}");
        match groups.last_mut() {
            Some((last, words)) if *last == group => words.push(word),
            _ => groups.push((group, vec![word])),
        }
    }
    for (group, words) in groups {
        say!("  {group:<6} {}", words.join(", "));
    }
    let never: Vec<String> = marks.all().filter(|(.., hits)| *hits == 0).map(|(g, n, _)| format!("{g} {n}")).collect();
    if !never.is_empty() {
        say!("  never  {}", never.join(", "));
    }
}
