//! What rows say beside each other: averages over seeds, ratios, and the load that each policy reaches at equal p99.

use std::collections::BTreeMap;

use super::{Metric, Row};

/// The averages over the seeds, by policy, load, nodes and pods: sorted by load, nodes and pods, then policies in the
/// order in which they first come. Rows that are averages already are left out.
pub fn mean_of(rows: &[Row]) -> Vec<Row> {
    let order = policies(rows);
    let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.seed.is_some()) {
        groups.entry(place(row, &order)).or_default().push(row);
    }
    groups.into_values().map(|group| mean(&group)).collect()
}

/// The averages among the rows; where there are none, those made of the rows.
pub(super) fn averages(rows: &[Row]) -> Vec<Row> {
    let given: Vec<_> = rows.iter().filter(|row| row.seed.is_none()).cloned().collect();
    if given.is_empty() { mean_of(rows) } else { given }
}

/// Policies in the order in which they first come: as they were asked for.
pub(super) fn policies(rows: &[Row]) -> Vec<&str> {
    let mut names = Vec::new();
    for row in rows {
        if !names.contains(&row.policy.as_str()) {
            names.push(row.policy.as_str());
        }
    }
    names
}

/// Where a row belongs among others. A load is positive, so the order of its bits is its own.
pub(super) fn place(row: &Row, policies: &[&str]) -> (u64, usize, usize, Option<usize>) {
    let policy = policies.iter().position(|name| *name == row.policy);
    (row.load.to_bits(), row.nodes, row.pods, policy)
}

fn mean(group: &[&Row]) -> Row {
    let first = group[0];
    let count = group.len() as f64;
    let mut row = Row::new(first.policy.clone(), first.load, first.nodes, first.pods, None);
    row.requests = group.iter().map(|row| row.requests).sum();
    row.errors = group.iter().map(|row| row.errors).sum();
    for metric in Metric::ALL {
        *(metric.at)(&mut row) = group.iter().map(|row| (metric.of)(row)).sum::<f64>() / count;
    }
    for name in first.more.keys().filter(|name| group.iter().all(|row| row.more.contains_key(*name))) {
        row.more.insert(name.clone(), group.iter().map(|row| row.more[name]).sum::<f64>() / count);
    }
    if group.iter().all(|row| row.curve_ms.len() == first.curve_ms.len()) {
        let at = |k| group.iter().map(|row| row.curve_ms[k]).sum::<f64>() / count;
        row.curve_ms = (0..first.curve_ms.len()).map(at).collect();
    }
    row
}

/// One policy's figures over another's at the same load: below 1 is less.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Whose figures.
    pub policy: String,
    /// Over whose.
    pub over: String,
    /// At which load.
    pub load: f64,
    /// Mean latency over mean latency.
    pub mean: f64,
    /// p99 over p99.
    pub p99: f64,
    /// Mean wait over mean wait.
    pub wait: f64,
}

/// Each row over the row of `base` (the first policy where none is named) at the same load, nodes, pods and seed, in the
/// rows' order. A row without such a counterpart has no ratio.
pub fn ratios(rows: &[Row], base: Option<&str>) -> Vec<Ratio> {
    let Some(base) = base.or(policies(rows).first().copied()) else { return Vec::new() };
    rows.iter()
        .filter_map(|row| ratio(row, rows.iter().find(|other| other.policy == base && same(row, other))?))
        .collect()
}

fn same(one: &Row, other: &Row) -> bool {
    (one.load, one.nodes, one.pods, one.seed) == (other.load, other.nodes, other.pods, other.seed)
}

fn ratio(row: &Row, over: &Row) -> Option<Ratio> {
    Some(Ratio {
        policy: row.policy.clone(),
        over: over.policy.clone(),
        load: row.load,
        mean: row.mean_ms / over.mean_ms,
        p99: row.p99_ms / over.p99_ms,
        wait: row.wait_ms / over.wait_ms,
    })
}

/// How far a policy's p99 stays within a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// Not even at this load, the lowest that was played.
    Below(f64),
    /// Up to this load.
    At(f64),
    /// Still at this load, the highest that was played.
    Beyond(f64),
}

impl Reach {
    /// The load it names.
    pub fn load(self) -> f64 {
        match self {
            Reach::Below(load) | Reach::At(load) | Reach::Beyond(load) => load,
        }
    }
}

/// The load up to which a policy's p99 is within `bound_ms`, by linear interpolation between the loads that were played.
/// None when the policy is not among the rows. The rows are of one shape of fleet, averaged or of one seed.
pub fn load_at(rows: &[Row], policy: &str, bound_ms: f64) -> Option<Reach> {
    let mut grid: Vec<_> = rows.iter().filter(|row| row.policy == policy).map(|row| (row.load, row.p99_ms)).collect();
    grid.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (grid.first()?, grid.last()?);
    // A p99 of nothing served is within no bound.
    let within = |p99: f64| p99 <= bound_ms;
    if !within(first.1) {
        return Some(Reach::Below(first.0));
    }
    let Some(crossing) = grid.windows(2).find(|pair| !within(pair[1].1)) else {
        return Some(if last.1 == bound_ms { Reach::At(last.0) } else { Reach::Beyond(last.0) });
    };
    let ((low, below), (high, above)) = (crossing[0], crossing[1]);
    let share = if above.is_finite() { (bound_ms - below) / (above - below) } else { 0.0 };
    Some(Reach::At(low + share * (high - low)))
}

/// What one policy carries more than another at equal p99.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EqualP99 {
    /// The p99 that both keep, ms.
    pub bound_ms: f64,
    /// How far the one goes.
    pub ours: Reach,
    /// How far the other goes.
    pub theirs: Reach,
    /// By how much more the slots are used: 0.4 is +40 %. At least so much where `ours` is [`Reach::Beyond`].
    pub gain: f64,
}

/// The loads that two policies reach within a p99, and the gain between them. None when a policy is not among the rows,
/// when the other's load is not known ([`Reach::At`]), or when the one keeps the bound at no load.
pub fn equal_p99(rows: &[Row], ours: &str, theirs: &str, bound_ms: f64) -> Option<EqualP99> {
    let (ours, theirs) = (load_at(rows, ours, bound_ms)?, load_at(rows, theirs, bound_ms)?);
    match (ours, theirs) {
        (Reach::At(load) | Reach::Beyond(load), Reach::At(other)) => {
            Some(EqualP99 { bound_ms, ours, theirs, gain: load / other - 1.0 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &str, load: f64, seed: Option<u64>, mean: f64, p99: f64) -> Row {
        Row { mean_ms: mean, p99_ms: p99, wait_ms: mean - 1.0, ..Row::new(policy, load, 4, 8, seed) }
    }

    /// Policies come as they were asked for, which is not the alphabet's order; loads come sorted; one request in error
    /// under one seed of two must not be averaged to nothing.
    #[test]
    fn averages_are_by_load_then_by_policy_as_asked_for() {
        let mut rows = vec![
            row("redis", 0.9, Some(1), 10.0, 100.0),
            row("plimsoll", 0.9, Some(1), 12.0, 90.0),
            row("redis", 0.5, Some(1), 3.0, 30.0),
            row("redis", 0.9, Some(2), 20.0, 150.0),
        ];
        rows[0].errors = 1;
        rows[0].curve_ms = vec![1.0, 5.0];
        rows[3].curve_ms = vec![3.0, 6.0];
        rows[0].more.insert("at_once".into(), 0.5);
        rows[3].more.insert("at_once".into(), 1.0);
        let means = mean_of(&rows);
        let seen: Vec<_> = means.iter().map(|row| (row.policy.as_str(), row.load, row.mean_ms, row.p99_ms)).collect();
        assert_eq!(seen, [("redis", 0.5, 3.0, 30.0), ("redis", 0.9, 15.0, 125.0), ("plimsoll", 0.9, 12.0, 90.0)]);
        assert_eq!((means[1].errors, means[1].seed, means[1].wait_ms), (1, None, 14.0));
        assert_eq!((means[1].curve_ms.as_slice(), means[1].more["at_once"]), (&[2.0, 5.5][..], 0.75));
        assert!(means[1].age_ms.is_nan(), "a figure that no seed has is none");
        assert_eq!(mean_of(&means), [], "averages are not averaged again");
    }

    #[test]
    fn ratios_are_to_the_first_policy_or_to_the_named_one() {
        let rows =
            [row("rr", 0.5, None, 20.0, 100.0), row("rr", 0.9, None, 50.0, 400.0), row("ours", 0.9, None, 25.0, 124.0)];
        let of = |base| {
            ratios(&rows, base).into_iter().map(|ratio| (ratio.policy, ratio.mean, ratio.p99)).collect::<Vec<_>>()
        };
        assert_eq!(of(None), [("rr".into(), 1.0, 1.0), ("rr".into(), 1.0, 1.0), ("ours".into(), 0.5, 0.31)]);
        assert_eq!(of(Some("ours")), [("rr".into(), 2.0, 400.0 / 124.0), ("ours".into(), 1.0, 1.0)]);
        assert_eq!(ratios(&rows, None)[2].wait, 24.0 / 49.0);
        assert_eq!(of(Some("nobody")), []);
    }

    /// Within 200 ms round robin goes from 100 ms at 0.5 a third of the way to 400 ms at 0.8: 0.6. Ours goes from 150 ms
    /// at 0.8 half of the way to 250 ms at 0.88: 0.84, which is 40 % more.
    #[test]
    fn at_equal_p99_loads_are_interpolated() {
        let rr = [(0.5, 100.0), (0.8, 400.0)].map(|(load, p99)| row("rr", load, None, 1.0, p99));
        let ours = [(0.88, 250.0), (0.5, 80.0), (0.8, 150.0)].map(|(load, p99)| row("ours", load, None, 1.0, p99));
        let rows = [&rr[..], &ours[..]].concat();
        let close = |reach: Option<Reach>, load: f64| {
            assert!(matches!(reach, Some(Reach::At(at)) if (at - load).abs() < 1e-12), "{reach:?}, not {load}");
        };
        close(load_at(&rows, "rr", 200.0), 0.6);
        close(load_at(&rows, "ours", 200.0), 0.84);
        let equal = equal_p99(&rows, "ours", "rr", 200.0).unwrap();
        assert!((equal.gain - 0.4).abs() < 1e-12, "{equal:?}");
    }

    /// What was not played is not guessed: a bound that a policy never breaks is a floor of its load, one that it never
    /// keeps says nothing, and a load at which nothing was served breaks every bound.
    #[test]
    fn loads_beyond_the_grid_are_not_made_up() {
        let rows = [
            row("rr", 0.5, None, 1.0, 100.0),
            row("rr", 0.8, None, 1.0, 400.0),
            row("ours", 0.5, None, 1.0, 50.0),
            row("ours", 0.8, None, 1.0, 90.0),
            row("dead", 0.5, None, 1.0, 50.0),
            row("dead", 0.8, None, 1.0, f64::NAN),
        ];
        assert_eq!(load_at(&rows, "rr", 99.0), Some(Reach::Below(0.5)));
        assert_eq!(load_at(&rows, "rr", 400.0), Some(Reach::At(0.8)));
        assert_eq!(load_at(&rows, "ours", 100.0), Some(Reach::Beyond(0.8)));
        assert_eq!(load_at(&rows, "dead", 100.0), Some(Reach::At(0.5)));
        assert_eq!(load_at(&rows, "nobody", 100.0), None);
        let equal = equal_p99(&rows, "ours", "rr", 100.0).unwrap();
        assert_eq!((equal.ours, equal.theirs), (Reach::Beyond(0.8), Reach::At(0.5)));
        assert!((equal.gain - 0.6).abs() < 1e-12);
        assert_eq!(equal_p99(&rows, "rr", "ours", 100.0), None, "how far ours goes is not known");
        assert_eq!(equal_p99(&rows, "ours", "rr", 60.0), None, "round robin keeps 60 ms nowhere");
    }
}
