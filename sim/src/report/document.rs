//! The results file: every row, with the command, the commit and the seeds that made them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compare::{mean_of, place, policies};
use super::{CURVE_AT, Row, Timeline};

/// All that one command found out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Document {
    /// As it would be typed.
    pub command: String,
    /// Of the source it was built from.
    pub commit: String,
    /// Of plimsoll.
    pub version: String,
    /// All that were played.
    pub seeds: Vec<u64>,
    /// The shares at which [`Row::curve_ms`] gives latencies.
    #[serde(default)]
    pub curve_at: Vec<f64>,
    /// A row for each run, then the averages over the seeds; both by load, nodes and pods, then policies as asked for.
    pub rows: Vec<Row>,
    /// Pods over time, where an event was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timelines: Vec<Timeline>,
}

impl Document {
    /// Sorts the rows of the single runs and adds their averages.
    pub fn new(command: String, commit: String, seeds: Vec<u64>, mut rows: Vec<Row>) -> Document {
        let means = mean_of(&rows);
        let order: Vec<_> = policies(&rows).into_iter().map(str::to_owned).collect();
        let order: Vec<_> = order.iter().map(String::as_str).collect();
        rows.sort_by_key(|row| (place(row, &order), row.seed));
        rows.extend(means);
        let curve_at = CURVE_AT.iter().map(|share| f64::from(*share) / 1e6).collect();
        Document {
            command,
            commit,
            version: env!("CARGO_PKG_VERSION").into(),
            seeds,
            curve_at,
            rows,
            timelines: Vec::new(),
        }
    }

    /// The command, the seeds and the commit in one line.
    pub fn recipe(&self) -> String {
        let recipe =
            format!("{} · {} · plimsoll {} at {}", self.command, seeds(&self.seeds), self.version, self.commit);
        // A comment in CSV ends with its line.
        recipe.replace(char::is_control, " ")
    }

    /// As JSON, a line for each row: a diff of two files, or a `grep`, shows the rows.
    pub fn to_json(&self) -> String {
        let mut fields = vec![
            format!("\"command\": {}", line(&self.command)),
            format!("\"commit\": {}", line(&self.commit)),
            format!("\"version\": {}", line(&self.version)),
            format!("\"seeds\": {}", line(&self.seeds)),
            format!("\"curve_at\": {}", line(&self.curve_at)),
            format!("\"rows\": {}", lines(&self.rows)),
        ];
        if !self.timelines.is_empty() {
            fields.push(format!("\"timelines\": {}", lines(&self.timelines)));
        }
        format!("{{\n  {}\n}}\n", fields.join(",\n  "))
    }

    /// From JSON.
    pub fn from_json(text: &str) -> Result<Document, ReadError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let document: Document = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| ReadError::Field { field: place_of(error.path()), reason: error.inner().to_string() })?;
        deserializer.end().map_err(|error| ReadError::Field { field: "the end".into(), reason: error.to_string() })?;
        document.check()?;
        Ok(document)
    }

    /// From a results file.
    pub fn read(path: &Path) -> Result<Document, ReadError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| ReadError::File { path: path.into(), reason: error.to_string() })?;
        Document::from_json(&text)
    }

    /// What a type cannot say.
    fn check(&self) -> Result<(), ReadError> {
        let wrong = |field: String, reason: String| Err(ReadError::Field { field, reason });
        if self.rows.is_empty() {
            return wrong("rows".into(), "there are none, so there is nothing to show".into());
        }
        for (index, row) in self.rows.iter().enumerate() {
            if !(row.load.is_finite() && row.load > 0.0) {
                return wrong(format!("rows[{index}].load"), format!("`{}` is not above 0", row.load));
            }
            if !row.curve_ms.is_empty() && row.curve_ms.len() != self.curve_at.len() {
                let (here, there) = (row.curve_ms.len(), self.curve_at.len());
                return wrong(
                    format!("rows[{index}].curve_ms"),
                    format!("has {here} values, and `curve_at` has {there}"),
                );
            }
        }
        Ok(())
    }
}

/// A path as people read it: the whole file has none.
fn place_of(path: &serde_path_to_error::Path) -> String {
    let path = path.to_string();
    if path == "." || path == "?" { "the file".into() } else { path }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data, with texts for keys")
}

/// A list with a line for each of its values.
fn lines(values: &[impl Serialize]) -> String {
    let lines: Vec<_> = values.iter().map(|value| format!("\n    {}", line(value))).collect();
    format!("[{}\n  ]", lines.join(","))
}

/// Why a results file cannot be used. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read `{}`: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A field is missing or wrong: have `cargo sim compare --json` write the file anew.
    #[error("`{field}`: {reason}")]
    Field {
        /// Its path, `rows[3].p99_ms`.
        field: String,
        /// What is wrong with it, and where it stands.
        reason: String,
    },
}

/// The seeds in words: one by one while they are few, as a range when they are many in a row.
fn seeds(seeds: &[u64]) -> String {
    let in_a_row = seeds.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
    match seeds {
        [] => "no seed".into(),
        [one] => format!("seed {one}"),
        [first, .., last] if seeds.len() > 4 && in_a_row => format!("seeds {first} to {last}"),
        all => format!("seeds {}", all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// This process's command as it would be typed, to be pasted for the same figures.
pub fn command_line() -> String {
    let arguments = std::env::args().skip(1).map(|argument| quoted(&argument));
    ["cargo sim".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// The commit of the sources this was built from, with `+` when they differ from it; `unknown` outside a checkout.
pub fn commit() -> String {
    env!("PLIMSOLL_COMMIT").to_owned()
}

#[cfg(test)]
mod tests {
    use plimsoll::time::Time;

    use super::super::Windows;
    use super::*;

    fn document() -> Document {
        let row = |policy: &str, seed, p99| Row {
            mean_ms: 20.123_456,
            p50_ms: 5.0,
            p99_ms: p99,
            p999_ms: 400.0,
            wait_ms: 2.0,
            utilisation: 0.85,
            bytes_per_node_s: 1000.0,
            trace: Some("00ff".into()),
            ..Row::new(policy, 0.85, 100, 64, Some(seed))
        };
        let rows = vec![row("redis", 12, 210.0), row("redis", 11, 200.0), row("plimsoll", 11, 190.0)];
        Document::new("cargo sim compare".into(), "abc".into(), vec![11, 12], rows)
    }

    /// Others read this file: the names are a promise. Single runs carry a seed, averages do not have the field.
    #[test]
    fn the_json_has_the_promised_fields_and_averages_have_no_seed() {
        let json: serde_json::Value = serde_json::from_str(&document().to_json()).unwrap();
        assert_eq!((&json["command"], &json["seeds"][1]), (&"cargo sim compare".into(), &12.into()));
        let rows = json["rows"].as_array().unwrap();
        let fields = "policy load nodes pods mean_ms p50_ms p99_ms p999_ms wait_ms utilisation bytes_per_node_s age_ms";
        for (row, field) in rows.iter().flat_map(|row| fields.split(' ').map(move |field| (row, field))) {
            assert!(row.get(field).is_some(), "{field} in {row}");
        }
        let seeds: Vec<_> = rows.iter().map(|row| row.get("seed").and_then(serde_json::Value::as_u64)).collect();
        assert_eq!(seeds, [Some(11), Some(12), Some(11), None, None]);
        assert_eq!(
            (&rows[3]["p99_ms"], &rows[0]["age_ms"], &rows[0]["mean_ms"]),
            (&205.0.into(), &().into(), &20.1235.into())
        );
        assert_eq!((rows[3].get("trace"), &rows[0]["trace"]), (None, &"00ff".into()));
    }

    /// NaN is not JSON: written as null it must come back as no figure, and not as an error or a zero.
    #[test]
    fn what_is_written_reads_back() {
        let mut document = document();
        document.rows[0].more.insert("at_once".into(), f64::NAN);
        document.rows[0].curve_ms = vec![f64::NAN; 32];
        let mut windows = Windows::new(Time::ZERO, Time::from_nanos(2_000_000_000), Windows::SECOND, &[2, 1]);
        windows.served(1, Time::from_nanos(1_250_000_000), Time::from_nanos(2_000_000_000));
        document.timelines.push(Timeline::of_busy_shares(&windows, "p2c", 7, ("pod-1 joins", 1.0), &[1]));
        let json = document.to_json();
        let read = Document::from_json(&json).unwrap();
        assert_eq!(read.to_json(), json);
        assert_eq!(
            (&read.timelines, read.timelines[0].pods[1].values.as_slice()),
            (&document.timelines, &[0.0, 0.75][..])
        );
        assert!(read.rows[0].more["at_once"].is_nan() && read.rows[0].age_ms.is_nan() && read.rows[0].p99_ms == 200.0);
    }

    /// Who edits a results file by hand, or brings one from elsewhere, must find the place without us.
    #[test]
    fn a_malformed_file_names_the_field() {
        let json = document().to_json();
        let broken = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            Document::from_json(&json.replacen(from, to, 1)).unwrap_err().to_string()
        };
        let text = broken("\"p99_ms\":200.0", "\"p99_ms\":\"fast\"");
        assert!(
            text.starts_with("`rows[0].p99_ms`: invalid type: string \"fast\"") && text.contains("line "),
            "{text}"
        );
        let text = broken("\"p99_ms\":200.0,", "");
        assert!(text.starts_with("`rows[0]`: missing field `p99_ms`"), "{text}");
        assert_eq!(broken("\"load\":0.85", "\"load\":-1"), "`rows[0].load`: `-1` is not above 0");
        let text = broken("\"trace\"", "\"curve_ms\":[1],\"trace\"");
        assert_eq!(text, "`rows[0].curve_ms`: has 1 values, and `curve_at` has 32");
        let empty = Document { rows: Vec::new(), ..document() }.to_json();
        assert!(Document::from_json(&empty).unwrap_err().to_string().starts_with("`rows`: there are none"));
        assert!(Document::read(Path::new("/nowhere/r.json")).unwrap_err().to_string().contains("`/nowhere/r.json`"));
    }

    #[test]
    fn the_recipe_can_be_pasted() {
        assert!(document().recipe().starts_with("cargo sim compare · seeds 11, 12 · plimsoll "));
        let two_lines = Document { command: "cargo sim run 'a\nb'".into(), ..document() };
        assert!(two_lines.recipe().starts_with("cargo sim run 'a b' · "));
        assert_eq!(seeds(&[0, 1, 2, 3, 4]), "seeds 0 to 4");
        assert_eq!(seeds(&[0, 1, 2, 3, 9]), "seeds 0, 1, 2, 3, 9");
        assert_eq!([quoted("a b"), quoted("0..50"), quoted("it's")], ["'a b'", "0..50", r"'it'\''s'"]);
    }
}
