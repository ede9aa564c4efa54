//! What a fleet must keep to, in words that a script can check: `plimsoll.p99 <= 1.1 * redis.p99`.

use std::fmt;
use std::str::FromStr;

use crate::policy::Policy;
use crate::report::{Metric, Row};

/// One figure within a bound, at every load.
#[derive(Clone, Debug)]
pub struct Requirement {
    text: String,
    left: Side,
    at_most: bool,
    right: Side,
}

/// `factor * policy.metric`, or a number.
#[derive(Clone, Copy, Debug)]
struct Side {
    factor: f64,
    figure: Option<(Policy, Metric)>,
}

/// It is no requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {problem}; write POLICY.FIGURE <= 1.1 * POLICY.FIGURE, or a number after <= or >=")]
pub struct Unclear {
    text: String,
    problem: String,
}

impl FromStr for Requirement {
    type Err = Unclear;

    fn from_str(text: &str) -> Result<Requirement, Unclear> {
        let unclear = |problem: String| Unclear { text: text.to_owned(), problem };
        let parts = text.split_once("<=").map(|parts| (parts, true));
        let parts = parts.or_else(|| text.split_once(">=").map(|parts| (parts, false)));
        let ((left, right), at_most) = parts.ok_or_else(|| unclear("has neither <= nor >=".into()))?;
        let (left, right) = (side(left).map_err(unclear)?, side(right).map_err(unclear)?);
        if left.figure.is_none() && right.figure.is_none() {
            return Err(unclear("compares two numbers".into()));
        }
        Ok(Requirement { text: text.to_owned(), left, at_most, right })
    }
}

fn side(text: &str) -> Result<Side, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(factor) = number(text) {
        return Ok(Side { factor, figure: None });
    }
    let (factor, figure) = text.split_once('*').unwrap_or(("1", text));
    let factor = number(factor).ok_or_else(|| format!("`{}` is no number", factor.trim()))?;
    let (policy, name) = figure.trim().split_once('.').ok_or_else(|| format!("`{}` is no figure", figure.trim()))?;
    let policy = policy.parse().map_err(|unknown: crate::policy::UnknownPolicy| unknown.to_string())?;
    let metric =
        Metric::ALL.iter().find(|metric| metric.field == name || metric.field.strip_suffix("_ms") == Some(name));
    let metric = metric.ok_or_else(|| {
        let names: Vec<_> = Metric::ALL.iter().map(|metric| metric.field).collect();
        format!("`{name}` is no figure; take one of {}", names.join(", "))
    })?;
    Ok(Side { factor, figure: Some((policy, *metric)) })
}

impl Side {
    /// Its value among the rows of one load; none if there is none.
    fn value(&self, rows: &[Row]) -> Option<f64> {
        let figure = match self.figure {
            None => 1.0,
            Some((policy, metric)) => rows.iter().find(|row| row.policy == policy.name()).map(metric.of)?,
        };
        Some(self.factor * figure).filter(|value| value.is_finite())
    }
}

impl Requirement {
    /// The policies that it speaks of.
    pub fn policies(&self) -> impl Iterator<Item = Policy> {
        [self.left, self.right].into_iter().filter_map(|side| side.figure.map(|(policy, _)| policy))
    }

    /// Where it is broken among `rows`, which are averages or of one seed: a line for each load. A figure that is not
    /// there keeps to nothing.
    pub fn broken(&self, rows: &[Row]) -> Vec<String> {
        let by_load = rows.chunk_by(|a, b| (a.load, a.nodes, a.pods) == (b.load, b.nodes, b.pods));
        by_load.filter_map(|rows| self.broken_at(rows)).collect()
    }

    fn broken_at(&self, rows: &[Row]) -> Option<String> {
        let (left, right) = (self.left.value(rows), self.right.value(rows));
        let holds =
            left.zip(right).is_some_and(|(left, right)| if self.at_most { left <= right } else { left >= right });
        let shown = |value: Option<f64>| value.map_or("nothing".to_owned(), |value| format!("{value:.3}"));
        (!holds).then(|| format!("{self} does not hold at load {}: {} and {}", rows[0].load, shown(left), shown(right)))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &str, load: f64, p99_ms: f64) -> Row {
        Row { p99_ms, ..Row::new(policy, load, 4, 8, None) }
    }

    /// A requirement that passes where it should not lets a bad release out.
    #[test]
    fn it_is_checked_at_every_load() {
        let rows = [
            row("redis", 0.5, 180.0),
            row("plimsoll", 0.5, 181.0),
            row("redis", 0.9, 200.0),
            row("plimsoll", 0.9, 230.0),
        ];
        let broken = |text: &str| text.parse::<Requirement>().unwrap().broken(&rows);
        assert_eq!(broken("plimsoll.p99 <= 1.2 * redis.p99"), [""; 0]);
        assert_eq!(
            broken("plimsoll.p99 <= 1.1 * redis.p99"),
            ["plimsoll.p99 <= 1.1 * redis.p99 does not hold at load 0.9: 230.000 and 220.000"]
        );
        assert_eq!(broken("plimsoll.p99_ms<=200").len(), 1);
        assert_eq!(broken("redis.p99 >= 150"), [""; 0]);
        assert_eq!(broken("redis.mean <= 150").len(), 2, "a figure that is not there keeps to nothing");
        assert_eq!(broken("random.p99 <= 1e9").len(), 2, "nor does a policy");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, says) in [
            ("plimsoll.p99", "neither"),
            ("1 <= 2", "two numbers"),
            ("plimsol.p99 <= 2", "`plimsol` is no policy"),
            ("plimsoll.p98 <= 2", "`p98` is no figure; take one of mean_ms"),
            ("plimsoll <= 2", "`plimsoll` is no figure"),
            ("x * plimsoll.p99 <= 2", "`x` is no number"),
        ] {
            let error = text.parse::<Requirement>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}`")) && error.contains(says), "{error}");
        }
    }
}
