//! The figures as two tables for a terminal.

use comfy_table::{Cell, CellAlignment, LineStyle, Row, Table, presets};

use super::figures::{Phase, Ratio, Summary};
use super::plan::PLIMSOLL;

/// A heading and where its figure is.
pub(super) type Column = (&'static str, fn(&Summary) -> f64);

/// The latency columns of every table.
pub(super) const COLUMNS: [Column; 5] = [
    ("mean", |summary| summary.mean_ms),
    ("p50", |summary| summary.p50_ms),
    ("p99", |summary| summary.p99_ms),
    ("p99.9", |summary| summary.p999_ms),
    ("small p99", |summary| summary.small_p99_ms),
];

/// Requests, errors and latencies in milliseconds, a row for each policy and one for the ratio.
pub(super) fn latencies(phases: &[Phase]) -> Table {
    let mut table = new_table(["policy", "requests", "errors"].into_iter().chain(COLUMNS.map(|(name, _)| name)));
    for phase in phases {
        let counts = [phase.summary.requests.to_string(), phase.summary.errors.to_string()];
        let figures = COLUMNS.map(|(_, figure)| format!("{} ms", number(figure(&phase.summary))));
        table.add_row(row([phase.policy.to_owned()].into_iter().chain(counts).chain(figures)));
    }
    if let Some((label, ratios)) = ratio_row(phases) {
        let cells = [label, String::new(), String::new()].into_iter().chain(ratios);
        table.add_row(row(cells));
    }
    table
}

/// Plimsoll over the first other policy, for each latency column.
pub(super) fn ratio_row(phases: &[Phase]) -> Option<(String, [String; 5])> {
    let over = Ratio::of(phases)?.over;
    let find = |name| phases.iter().find(|phase| phase.policy == name);
    let (ours, other) = (find(PLIMSOLL)?, find(over)?);
    let ratios = COLUMNS.map(|(_, figure)| format!("× {:.2}", figure(&ours.summary) / figure(&other.summary)));
    Some((format!("{PLIMSOLL} / {over}"), ratios))
}

/// How busy each pod was, a column for each policy.
pub(super) fn shares(phases: &[Phase]) -> Table {
    let mut table = new_table(["busy"].into_iter().chain(phases.iter().map(|phase| phase.policy)));
    let pods = phases.first().map_or(&[][..], |phase| &phase.pods);
    for (index, pod) in pods.iter().enumerate() {
        let shares = phases.iter().map(|phase| format!("{:.1} %", phase.pods[index].busy_share * 100.0));
        table.add_row(row([pod.name.clone()].into_iter().chain(shares)));
    }
    table
}

/// Three figures that matter, and no more.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_owned(),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn new_table<'a>(header: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header(row(header.map(str::to_owned)));
    table
}

/// Names to the left, figures to the right.
fn row(cells: impl Iterator<Item = String>) -> Row {
    let align = |index| if index == 0 { CellAlignment::Left } else { CellAlignment::Right };
    Row::from(cells.enumerate().map(|(index, text)| Cell::new(text).set_alignment(align(index))).collect::<Vec<_>>())
}
