//! The rows as tables for a terminal: one for each load and shape of fleet, then the loads at equal p99.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, LineStyle, Table, presets};

use super::compare::{Reach, averages, load_at, policies, ratios};
use super::{Document, Metric, Row, Unit};

/// The columns between a row's counts and its ratios.
const COLUMNS: [(&str, Metric); 10] = [
    ("mean ms", Metric::MEAN),
    ("p50", Metric::P50),
    ("p99", Metric::P99),
    ("p99.9", Metric::P999),
    ("small p99", Metric::SMALL_P99),
    ("wait", Metric::WAIT),
    ("busy", Metric::UTILISATION),
    ("spread", Metric::SPREAD),
    ("bytes/s", Metric::BYTES),
    ("age ms", Metric::AGE),
];

impl Document {
    /// As text. Averages where several seeds were played, the run itself with its trace where one was; ratios are to
    /// `base`, or to the first policy where none is named.
    pub fn to_table(&self, base: Option<&str>) -> String {
        let runs: Vec<_> = self.rows.iter().filter(|row| row.seed.is_some()).cloned().collect();
        let rows = if self.seeds.len() == 1 && !runs.is_empty() { runs } else { averages(&self.rows) };
        let Some(base) = base.or(policies(&rows).first().copied()) else { return self.recipe() + "\n" };
        let mut text = String::new();
        for group in rows.chunk_by(|a, b| (a.load, shape(a)) == (b.load, shape(b))) {
            let Row { load, nodes, pods, .. } = &group[0];
            let over = if policies(group).len() > 1 { format!("; × is over {base}") } else { String::new() };
            let _ = writeln!(text, "load {load}, {nodes} nodes, {pods} pods{over}\n\n{}\n", of_one_load(group, base));
        }
        let mut shapes: Vec<_> = rows.iter().map(shape).collect();
        shapes.sort_unstable();
        shapes.dedup();
        for shape_of in shapes {
            let fleet: Vec<_> = rows.iter().filter(|row| shape(row) == shape_of).cloned().collect();
            if let Some(table) = at_equal_p99(&fleet, base) {
                let (nodes, pods) = shape_of;
                let _ = writeln!(text, "load at equal p99, {nodes} nodes, {pods} pods\n\n{table}\n");
            }
        }
        text + &self.recipe() + "\n"
    }
}

fn shape(row: &Row) -> (usize, usize) {
    (row.nodes, row.pods)
}

/// A row for each policy.
fn of_one_load(rows: &[Row], base: &str) -> Table {
    let traced = rows.iter().any(|row| row.trace.is_some());
    let compared = policies(rows).len() > 1;
    let mut heading: Vec<_> = ["policy", "requests", "errors"].map(str::to_owned).into();
    heading.extend(COLUMNS.map(|(name, _)| name.to_owned()));
    heading.extend(["× mean", "× p99"].map(str::to_owned).into_iter().filter(|_| compared));
    heading.extend(traced.then(|| "trace".to_owned()));
    let ratios = ratios(rows, Some(base));
    let mut table = new_table(heading);
    for row in rows {
        let mut cells = vec![row.policy.clone(), row.requests.to_string(), row.errors.to_string()];
        cells.extend(COLUMNS.map(|(_, metric)| number((metric.of)(row), metric.unit)));
        if compared {
            let ratio = ratios.iter().find(|ratio| ratio.policy == row.policy);
            cells.extend([ratio.map(|ratio| ratio.mean), ratio.map(|ratio| ratio.p99)].map(times));
        }
        cells.extend(traced.then(|| row.trace.clone().unwrap_or_default()));
        table.add_row(aligned(cells));
    }
    table
}

/// How far each policy goes within the p99 that `base` has at each load that it was played at, and by how much more the
/// slots are used than there. None where one load was played, or one policy.
fn at_equal_p99(rows: &[Row], base: &str) -> Option<Table> {
    let mut bounds: Vec<_> = rows.iter().filter(|row| row.policy == base).map(|row| (row.load, row.p99_ms)).collect();
    bounds.retain(|(_, p99)| p99.is_finite());
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let others: Vec<_> = policies(rows).into_iter().filter(|policy| *policy != base).collect();
    if bounds.len() < 2 || others.is_empty() {
        return None;
    }
    let of_bound = |(_, p99): &(f64, f64)| format!("p99 ≤ {} ms", number(*p99, Unit::Ms));
    let mut table = new_table(["policy".to_owned()].into_iter().chain(bounds.iter().map(of_bound)).collect());
    table.add_row(aligned([base.to_owned()].into_iter().chain(bounds.iter().map(|(load, _)| format!("{load:.2}")))));
    for policy in others {
        let cells = bounds
            .iter()
            .map(|(load, p99)| load_at(rows, policy, *p99).map_or(String::new(), |reach| reached(reach, *load)));
        table.add_row(aligned([policy.to_owned()].into_iter().chain(cells)));
    }
    Some(table)
}

fn reached(reach: Reach, base: f64) -> String {
    let gain = format!("{:+.0} %", (reach.load() / base - 1.0) * 100.0);
    match reach {
        Reach::Below(load) => format!("< {load:.2}"),
        Reach::At(load) => format!("{load:.2} ({gain})"),
        Reach::Beyond(load) => format!("≥ {load:.2} ({gain})"),
    }
}

fn times(ratio: Option<f64>) -> String {
    ratio.filter(|ratio| ratio.is_finite()).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// Three figures that matter, and no more.
pub(super) fn number(value: f64, unit: Unit) -> String {
    match unit {
        _ if !value.is_finite() => "-".to_owned(),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Plain => format!("{value:.3}"),
        Unit::BytesPerS => format!("{value:.0}"),
        Unit::Ms if value < 10.0 => format!("{value:.2}"),
        Unit::Ms if value < 100.0 => format!("{value:.1}"),
        Unit::Ms => format!("{value:.0}"),
    }
}

fn new_table(heading: Vec<String>) -> Table {
    let mut table = Table::new();
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header(aligned(heading));
    table
}

/// Names to the left, figures to the right.
fn aligned(cells: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let align = |index| if index == 0 { CellAlignment::Left } else { CellAlignment::Right };
    cells.into_iter().enumerate().map(|(index, text)| Cell::new(text).set_alignment(align(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(seeds: &[u64]) -> Document {
        let grid = [
            ("round_robin", 0.5, 100.0),
            ("round_robin", 0.8, 400.0),
            ("plimsoll", 0.5, 31.0),
            ("plimsoll", 0.8, 90.0),
        ];
        let rows = grid.into_iter().flat_map(|(policy, load, p99)| {
            seeds.iter().map(move |seed| Row {
                mean_ms: p99 / 10.0,
                p99_ms: p99,
                trace: Some("00ff".into()),
                ..Row::new(policy, load, 4, 8, Some(*seed))
            })
        });
        Document::new("cargo sim compare --load 0.5,0.8".into(), "abc".into(), seeds.to_vec(), rows.collect())
    }

    fn line<'a>(text: &'a str, start: &str, nth: usize) -> Vec<&'a str> {
        text.lines().filter(|line| line.starts_with(start)).nth(nth).unwrap().split_whitespace().collect()
    }

    #[test]
    fn the_table_shows_ratios_and_what_is_carried_at_equal_p99() {
        let text = document(&[1, 2]).to_table(None);
        assert!(text.contains("load 0.5, 4 nodes, 8 pods"), "{text}");
        assert_eq!(line(&text, " plimsoll", 0)[..5], ["plimsoll", "0", "0", "3.10", "-"]);
        assert_eq!(line(&text, " plimsoll", 0)[13..], ["0.31", "0.31"]);
        // Ours is at 90 ms at the highest load: 0.8 / 0.5 is at least +60 %.
        assert_eq!(line(&text, " plimsoll", 2)[..5], ["plimsoll", "≥", "0.80", "(+60", "%)"]);
        assert!(!text.contains("trace") && text.ends_with(&(document(&[1, 2]).recipe() + "\n")), "{text}");
    }

    /// One run is shown with its trace, and to a named policy.
    #[test]
    fn a_single_seed_shows_its_trace() {
        let text = document(&[7]).to_table(Some("plimsoll"));
        assert!(text.contains("trace") && text.contains("00ff") && text.contains("× is over plimsoll"), "{text}");
        assert_eq!(line(&text, " round_robin", 2)[1..3], ["<", "0.50"]);
    }
}
