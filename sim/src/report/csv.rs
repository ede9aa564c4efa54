//! The rows as CSV.

use std::collections::BTreeSet;

use super::{Document, Metric, Row};

impl Document {
    /// As CSV: the recipe as a comment (`#`), a heading, and a line for each row with an empty field where it has no
    /// figure. Averages have no seed.
    pub fn to_csv(&self) -> String {
        let more: BTreeSet<_> = self.rows.iter().flat_map(|row| row.more.keys().map(String::as_str)).collect();
        let more: Vec<_> = more.into_iter().collect();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write =
            |record: Vec<String>| writer.write_record(record).expect("writing to memory, with equal lengths");
        write(heading(&more));
        self.rows.iter().for_each(|row| write(fields(row, &more)));
        let bytes = writer.into_inner().expect("memory can be flushed");
        format!("# {}\n{}", self.recipe(), String::from_utf8(bytes).expect("made of strings"))
    }
}

fn heading(more: &[&str]) -> Vec<String> {
    let before = ["policy", "load", "nodes", "pods", "seed", "requests", "errors"];
    let figures = Metric::ALL.iter().map(|metric| metric.field);
    before.into_iter().chain(figures).chain(more.iter().copied()).chain(["trace"]).map(str::to_owned).collect()
}

fn fields(row: &Row, more: &[&str]) -> Vec<String> {
    let seed = row.seed.map_or(String::new(), |seed| seed.to_string());
    let before = [row.policy.clone(), row.load.to_string(), row.nodes.to_string(), row.pods.to_string(), seed];
    let counts = [row.requests.to_string(), row.errors.to_string()];
    let figures = Metric::ALL.iter().map(|metric| figure((metric.of)(row)));
    let more = more.iter().map(|name| figure(row.more.get(*name).copied().unwrap_or(f64::NAN)));
    let trace = [row.trace.clone().unwrap_or_default()];
    before.into_iter().chain(counts).chain(figures).chain(more).chain(trace).collect()
}

fn figure(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spreadsheet must read it: as many fields in each line as in the heading, a comma in a name quoted, nothing where
    /// there is no figure.
    #[test]
    fn each_line_has_the_fields_of_the_heading() {
        let mut one = Row { p99_ms: 12.5, ..Row::new("redis, stalled", 0.5, 4, 8, Some(7)) };
        one.more.insert("at_once".into(), 0.25);
        let two = Row { requests: 9, trace: Some("00ff".into()), ..Row::new("p2c", 0.5, 4, 8, Some(7)) };
        let csv = Document::new("cargo sim run".into(), "abc".into(), vec![7], vec![one, two]).to_csv();
        assert!(csv.starts_with("# cargo sim run · seed 7 · "), "{csv}");
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(csv.as_bytes());
        let heading = reader.headers().unwrap().clone();
        let at = |name| heading.iter().position(|field| field == name).unwrap();
        let lines: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(lines.len(), 4, "two runs and their averages");
        assert_eq!(
            [&lines[0][at("policy")], &lines[0][at("p99_ms")], &lines[0][at("at_once")]],
            ["redis, stalled", "12.5000", "0.2500"]
        );
        assert_eq!([&lines[1][at("seed")], &lines[1][at("age_ms")], &lines[1][at("trace")]], ["7", "", "00ff"]);
        assert_eq!([&lines[3][at("policy")], &lines[3][at("seed")], &lines[3][at("requests")]], ["p2c", "", "9"]);
    }
}
