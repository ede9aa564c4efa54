//! Every plot that a document has the rows for.

use std::io;
use std::path::{Path, PathBuf};

use super::super::compare::policies;
use super::Plots;
use crate::report::{Document, Metric, Row};

/// Draws into a directory (which is made where there is none) and gives the files, in the order they were written. What
/// there is too little for is left out: one load makes no curve over loads.
pub fn plot_all(document: &Document, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("cannot write `{}`: {error}", path.display()))
    };
    std::fs::create_dir_all(directory).map_err(|error| named(directory, error))?;
    let mut written = Vec::new();
    for (name, svg) in drawings(document) {
        let path = directory.join(name + ".svg");
        std::fs::write(&path, svg).map_err(|error| named(&path, error))?;
        written.push(path);
    }
    Ok(written)
}

/// Names and drawings.
fn drawings(document: &Document) -> Vec<(String, String)> {
    let plots = Plots::of(document);
    let mut drawings = Vec::new();
    for (shape, rows) in groups(&document.rows, |row| format!("{}x{}", row.nodes, row.pods)) {
        by_load(&plots, &shape, &rows, &mut drawings);
    }
    for (place, rows) in groups(&document.rows, |row| format!("{}x{}-load-{}", row.nodes, row.pods, row.load)) {
        of_one_load(&plots, &place, &rows, &mut drawings);
    }
    for (place, rows) in groups(&document.rows, |row| format!("{}x{}-load-{}", row.nodes, row.pods, row.load)) {
        by_bytes(&plots, &place, &rows, &mut drawings);
    }
    for (load, rows) in groups(&document.rows, |row| format!("load-{}", row.load)) {
        by_nodes(&plots, &load, &rows, &mut drawings);
    }
    for (place, timeline) in document.timelines.iter().enumerate() {
        let name = format!("over-time-{}-{}", place + 1, file_name(&timeline.policy));
        let title = format!("Each pod around an event: {}", timeline.event);
        drawings.push((name, plots.over_time(timeline, &title)));
    }
    drawings
}

fn by_load(plots: &Plots, shape: &str, rows: &[Row], drawings: &mut Vec<(String, String)>) {
    if count(rows, |row| row.load.to_bits()) < 2 {
        return;
    }
    for (metric, name) in [
        (Metric::P99, "p99"),
        (Metric::MEAN, "mean"),
        (Metric::WAIT, "wait"),
        (Metric::SMALL_P99, "small-p99"),
        (Metric::SPREAD, "spread"),
        (Metric::BYTES, "bytes"),
        (Metric::AGE, "age"),
    ] {
        let rows = with_any(rows, metric);
        if !rows.is_empty() {
            let title = format!("{}, by load: {}", capital(metric.words), fleet(&rows[0]));
            drawings.push((format!("{name}-by-load-{shape}"), plots.by_load(&rows, metric, &title)));
        }
    }
}

fn of_one_load(plots: &Plots, place: &str, rows: &[Row], drawings: &mut Vec<(String, String)>) {
    let at = format!("{} at load {}", fleet(&rows[0]), rows[0].load);
    if rows.iter().any(|row| !row.curve_ms.is_empty()) {
        drawings
            .push((format!("percentiles-{place}"), plots.percentiles(rows, &format!("Latency by percentile: {at}"))));
    }
    if policies(rows).len() > 1 {
        let title = format!("p99 latency by policy: {at}");
        drawings.push((format!("p99-by-policy-{place}"), plots.bars(rows, Metric::P99, None, &title)));
    }
}

/// Averages of one policy that differ in what was sent: of several budgets.
fn by_bytes(plots: &Plots, place: &str, rows: &[Row], drawings: &mut Vec<(String, String)>) {
    let rows: Vec<Row> = rows.iter().filter(|row| row.seed.is_none()).cloned().collect();
    let several = |row: &Row| rows.iter().filter(|other| other.policy == row.policy).count() > 1;
    if !rows.iter().any(several) {
        return;
    }
    let rows: Vec<Row> = with_any(&rows, Metric::BYTES);
    for (metric, name) in [(Metric::P99, "p99"), (Metric::MEAN, "mean")] {
        let title = format!("{}, by what is sent: {} at load {}", capital(metric.words), fleet(&rows[0]), rows[0].load);
        drawings.push((format!("{name}-by-bytes-{place}"), plots.by_bytes(&rows, metric, &title)));
    }
}

fn by_nodes(plots: &Plots, load: &str, rows: &[Row], drawings: &mut Vec<(String, String)>) {
    // Several numbers of pods at one number of nodes would be several points of one line above each other.
    let shapes = count(rows, |row| (row.nodes, row.pods));
    if count(rows, |row| row.nodes) < 2 || shapes > count(rows, |row| row.nodes) {
        return;
    }
    for (metric, name) in [(Metric::BYTES, "bytes"), (Metric::AGE, "age"), (Metric::P99, "p99")] {
        let rows = with_any(rows, metric);
        if !rows.is_empty() {
            let title = format!("{}, by number of nodes, at load {}", capital(metric.words), rows[0].load);
            drawings.push((format!("{name}-by-nodes-{load}"), plots.by_nodes(&rows, metric, &title)));
        }
    }
}

/// The rows of policies that have a figure: who sends nothing, or knows nothing, would only crowd the axis.
fn with_any(rows: &[Row], metric: Metric) -> Vec<Row> {
    let any = |row: &Row| rows.iter().any(|other| other.policy == row.policy && (metric.of)(other) > 0.0);
    rows.iter().filter(|row| any(row)).cloned().collect()
}

/// Rows by a key, in the order in which the keys first come.
fn groups(rows: &[Row], key: impl Fn(&Row) -> String) -> Vec<(String, Vec<Row>)> {
    let mut groups: Vec<(String, Vec<Row>)> = Vec::new();
    for row in rows {
        let key = key(row);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(row.clone()),
            None => groups.push((key, vec![row.clone()])),
        }
    }
    groups
}

fn count<K: Ord>(rows: &[Row], key: impl Fn(&Row) -> K) -> usize {
    rows.iter().map(key).collect::<std::collections::BTreeSet<_>>().len()
}

fn fleet(row: &Row) -> String {
    format!("{} nodes, {} pods", row.nodes, row.pods)
}

fn capital(words: &str) -> String {
    // "p99" stays as it is.
    if words.starts_with("p9") || words.starts_with("p5") {
        return words.to_owned();
    }
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A name that any file system bears.
fn file_name(words: &str) -> String {
    words.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}
