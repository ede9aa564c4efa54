//! A plan: everything that decides a run, written down. A seed gives a plan, and the plan alone gives the run, so that a
//! failure outlives changes of the generator.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bad::BadValue;
use crate::config::Config;
use crate::fault::Fault;
use crate::files::FileError;
use crate::law::{self, Law};

/// The version of plan files that this simulator writes and reads.
const VERSION: u32 = 1;

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    version: u32,
    /// The scenario it was made by.
    pub scenario: String,
    /// The source it was made with; empty where that is not known.
    pub commit: String,
    /// Nodes get to know each other for this long before anything is asked of them.
    pub form_ms: u64,
    /// Then clients ask, and faults happen, for this long.
    pub ask_ms: u64,
    /// What must work in the end, whatever else stays broken.
    pub ending: Ending,
    /// The world.
    pub world: Config,
    /// What goes wrong, in order of time from the end of forming.
    #[serde(rename = "fault")]
    pub faults: Vec<Planned>,
}

/// The end of a run: what is healed. All other nodes stay dead, so that nothing can be waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ending {
    /// After the faults the nodes below are healed, everything else stays broken, and clients ask for this much longer.
    pub live_ms: u64,
    /// These nodes; all, where the list is empty.
    pub nodes: Vec<usize>,
    /// These pods; all, where the list is empty.
    pub pods: Vec<usize>,
    /// Then clients are silent, and after this long nothing may be in flight.
    pub quiet_ms: u64,
}

/// A fault at its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// When, after the nodes formed.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

/// A plan that cannot be read or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The file is not there, or not to be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no plan.
    #[error("{path} line {line}: {what}", path = path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Which field, and why.
        what: String,
    },
    /// It is one, but of no world that can be.
    #[error("{path}{at}: world.{source}", path = path.display(), at = at_line(*line))]
    Impossible {
        /// Which.
        path: PathBuf,
        /// Where, if the value is written at all.
        line: Option<usize>,
        /// Why.
        source: BadValue,
    },
    /// It names a file that cannot be used.
    #[error("{path}{at}: {source}", path = path.display(), at = at_line(*line))]
    Source {
        /// Which.
        path: PathBuf,
        /// Where it is named.
        line: Option<usize>,
        /// What is wrong with the other.
        source: Box<FileError>,
    },
}

/// ` line 7`, or nothing where nothing is known.
fn at_line(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!(" line {line}"))
}

/// As it stands in the file, with the places of the faults for messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(default)]
    scenario: String,
    #[serde(default)]
    commit: String,
    form_ms: u64,
    ask_ms: u64,
    #[serde(default)]
    ending: Ending,
    world: Config,
    #[serde(default)]
    fault: Vec<toml::Spanned<toml::Table>>,
}

/// The longest a plan may run, ms: a day.
pub const LONGEST_MS: u64 = 86_400_000;

impl Plan {
    /// A plan without faults: nodes form for two seconds (more than 400 for longer: a thousand for five), and clients ask
    /// for `ask_ms`.
    pub fn new(scenario: &str, world: Config, ask_ms: u64) -> Plan {
        let ending = Ending { quiet_ms: 30_000, ..Ending::default() };
        let (scenario, commit) = (scenario.to_owned(), String::new());
        let form_ms = 2000.max(5 * world.nodes as u64);
        Plan { version: VERSION, scenario, commit, form_ms, ask_ms, ending, world, faults: Vec::new() }
    }

    /// Adds a fault.
    pub fn with(mut self, at_ms: u64, fault: Fault) -> Plan {
        self.add(at_ms, fault);
        self
    }

    /// The same in place.
    pub fn add(&mut self, at_ms: u64, fault: Fault) {
        let place = self.faults.partition_point(|planned| planned.at_ms <= at_ms);
        self.faults.insert(place, Planned { at_ms, fault });
    }

    /// The same, ending `ms` after its beginning if it would last longer.
    pub fn until(&self, ms: u64) -> Plan {
        let mut plan = self.clone();
        let mut left = ms;
        let Plan { form_ms, ask_ms, ending, .. } = &mut plan;
        for lasts in [form_ms, ask_ms, &mut ending.live_ms, &mut ending.quiet_ms] {
            *lasts = (*lasts).min(left);
            left -= *lasts;
        }
        plan
    }

    /// How long it lasts, ms.
    pub fn lasts_ms(&self) -> u64 {
        self.form_ms + self.ask_ms + self.ending.live_ms + self.ending.quiet_ms
    }

    /// As it is written to a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan is numbers, texts and tables, in an order that TOML can have")
    }

    /// Reads a plan file.
    ///
    /// # Errors
    /// [`PlanError`], with the line and the field.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let text = std::fs::read_to_string(path).map_err(|source| PlanError::Read { path: path.to_owned(), source })?;
        Plan::parse(path, &text)
    }

    /// Reads a plan from `text`; `path` is for messages.
    ///
    /// # Errors
    /// [`PlanError`], with the line and the field.
    pub fn parse(path: &Path, text: &str) -> Result<Plan, PlanError> {
        let malformed = |line, what: String| PlanError::Malformed { path: path.to_owned(), line, what };
        let written: Written = toml::from_str(text).map_err(|error| {
            let (line, what) = line_and_words(text, &error);
            malformed(line, what)
        })?;
        let line_of = |field: &str| line_of(text, field);
        if written.version != VERSION {
            let what = format!("`version = {}`: this simulator reads plans of version {VERSION}", written.version);
            return Err(malformed(line_of("version").unwrap_or(1), what));
        }
        for (field, ms) in [
            ("form_ms", written.form_ms),
            ("ask_ms", written.ask_ms),
            ("ending.live_ms", written.ending.live_ms),
            ("ending.quiet_ms", written.ending.quiet_ms),
        ] {
            if ms > LONGEST_MS {
                let what = format!("`{field} = {ms}`: must be at most {LONGEST_MS}, a day");
                return Err(malformed(line_of(field).unwrap_or(1), what));
            }
        }
        let impossible = |source: BadValue| {
            let line = line_of(&format!("world.{}", source.field));
            PlanError::Impossible { path: path.to_owned(), line, source }
        };
        written.world.check().map_err(impossible)?;
        written.world.check_sources().map_err(|error| match error {
            law::Error::Value(source) => impossible(source),
            law::Error::File(source) => {
                let of_law = matches!(&written.world.law, Law::Histogram { file, .. } | Law::Recorded { file } if *file == source.path);
                let line = line_of(if of_law { "world.law.file" } else { "world.arrivals.file" });
                PlanError::Source { path: path.to_owned(), line, source: Box::new(source) }
            }
        })?;
        for (what, named, most) in
            [("nodes", &written.ending.nodes, written.world.nodes), ("pods", &written.ending.pods, written.world.pods)]
        {
            if let Some(none) = named.iter().find(|k| **k >= most) {
                let line = line_of(&format!("ending.{what}")).unwrap_or(1);
                return Err(malformed(line, format!("`ending.{what}` names {none}: there are 0 to {}", most - 1)));
            }
        }
        let mut faults = Vec::new();
        for (k, table) in written.fault.into_iter().enumerate() {
            let at = line_at(text, table.span().start);
            let fault = planned(table.into_inner(), &written.world);
            faults.push(fault.map_err(|what| malformed(at, format!("fault {}: {what}", k + 1)))?);
        }
        faults.sort_by_key(|planned| planned.at_ms);
        let Written { version, scenario, commit, form_ms, ask_ms, ending, world, .. } = written;
        Ok(Plan { version, scenario, commit, form_ms, ask_ms, ending, world, faults })
    }
}

/// The line of `text` that has the byte `at`, as an editor counts.
pub fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Where `text`, which is TOML, is wrong, and how: with what is written there, which names the field.
pub fn line_and_words(text: &str, error: &toml::de::Error) -> (usize, String) {
    let line = line_at(text, error.span().map_or(0, |span| span.start));
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    let mut words = error.message().trim().replace('\n', ", ");
    for (rust, people) in
        [("usize", "a whole number"), ("u64", "a whole number"), ("u32", "a whole number"), ("f64", "a number")]
    {
        words = words.replace(&format!("expected {rust}"), &format!("expected {people}"));
    }
    (line, if written.is_empty() { words } else { format!("`{written}`: {words}") })
}

/// The line of `text`, which is TOML, where the value of `path` is written, as in `world.server.slots`; none where it is
/// not.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let (mut table, mut at) = (table.get_ref(), None);
    for name in path.split('.') {
        let value = at.map_or(Some(table), |value: &toml::Spanned<toml::de::DeValue<'_>>| value.get_ref().as_table());
        table = value?;
        at = Some(table.get(name)?);
    }
    at.map(|value| line_at(text, value.span().start))
}

fn planned(mut table: toml::Table, world: &Config) -> Result<Planned, String> {
    let at_ms = table.remove("at_ms").ok_or("missing field `at_ms`")?;
    let at_ms = at_ms.as_integer().and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms <= LONGEST_MS);
    let at_ms = at_ms.ok_or("`at_ms` must be a whole number of milliseconds, a day at most")?;
    let fault: Fault = table.try_into().map_err(|error: toml::de::Error| error.message().trim().replace('\n', ", "))?;
    if fault.lasts_ms() > LONGEST_MS {
        return Err(format!("`for_ms = {}`: must be a day at most", fault.lasts_ms()));
    }
    match fault.problem(world) {
        Some(problem) => Err(format!("{}: {problem}", fault.kind())),
        None => Ok(Planned { at_ms, fault }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Trick;
    use crate::rng::Share;

    fn plan() -> Plan {
        Plan::new("test", Config { nodes: 6, ..Config::default() }, 20_000)
            .with(500, Fault::Partition { group: vec![0, 1], for_ms: 3000 })
            .with(200, Fault::NodeCrash { node: 2, for_ms: 900, clock_back: true })
            .with(700, Fault::Loss { share: Share::millionths(50_000), for_ms: 10 })
            .with(900, Fault::Hostile { node: 1, trick: Trick::HugeRows, count: 3 })
    }

    /// A plan that did not survive being written would replay something else.
    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let text = plan().to_toml();
        assert_eq!(Plan::parse(Path::new("p"), &text).unwrap(), plan(), "{text}");
    }

    /// Whoever edits a plan by hand is told where and what, in one line.
    #[test]
    fn what_is_wrong_is_named_with_its_line_and_field() {
        let good = plan().to_toml();
        for (from, to, says) in [
            ("node = 2", "node = 17", "there is no node 17".to_owned()),
            ("node = 2", "nod = 2", "`nod`".to_owned()),
            ("kind = \"node-crash\"", "kind = \"node-crush\"", "`node-crush`".to_owned()),
            ("pods = 8", "pods = 0", "pods = `0`".to_owned()),
            ("version = 1", "version = 9", "`version = 9`".to_owned()),
            ("load = 0.8", "load = 1.5", "load = `1.5`".to_owned()),
            ("load = 0.8", "lode = 0.8", "`lode`".to_owned()),
            ("load = 0.8", "load = \"much\"", "expected".to_owned()),
            ("at_ms = 200", "at_ms = -200", "`at_ms`".to_owned()),
            ("share = 0.05", "share = 1.05", "1.05".to_owned()),
            ("slots = 1", "slots = 0", "world.server.slots = `0`".to_owned()),
            ("small_ms = 5.0", "small_ms = 0.0", "world.law.small_ms = `0`".to_owned()),
            ("kind = \"poisson\"", "kind = \"recorded\"\nfile = \"no.csv\"", "no.csv: No such file".to_owned()),
            ("quiet_ms = 30000", "quiet_ms = 86400001", "`ending.quiet_ms = 86400001`".to_owned()),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            let bad = good.replacen(from, to, 1);
            let error = Plan::parse(Path::new("p.toml"), &bad).unwrap_err().to_string();
            assert!(error.contains(&says) && !error.contains('\n'), "{to}: {error}");
            assert!(error.starts_with("p.toml"), "{error}");
            let written = 1 + bad.lines().position(|line| Some(line) == to.lines().last()).unwrap();
            let line: usize = error.split([' ', ':']).nth(2).unwrap().parse().unwrap();
            // A fault's is where the fault begins.
            let off = if bad.lines().take(written).any(|line| line == "[[fault]]") { 4 } else { 0 };
            assert!(written - line <= off, "not line {written}: {error}");
        }
    }
}
