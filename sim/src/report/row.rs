//! One line of a report, and what its columns mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::figure;

/// What one policy made of one load: under one seed, or on average over several.
///
/// A figure that a run does not have (the news age of a policy that listens to no news) is NaN here, null in JSON,
/// empty in CSV and `-` in a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Who picked.
    pub policy: String,
    /// Offered work, as a share of what all slots can do.
    pub load: f64,
    /// Callers.
    pub nodes: usize,
    /// Pods.
    pub pods: usize,
    /// None for an average over seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Requests that were measured, errors among them; in an average, their sum over the seeds.
    #[serde(default)]
    pub requests: u64,
    /// Requests that failed, or that were refused to the caller; summed like `requests`: an average hides the one.
    #[serde(default)]
    pub errors: u64,
    /// Mean latency of served requests, ms.
    #[serde(with = "figure")]
    pub mean_ms: f64,
    /// Median latency, ms. All percentiles are by nearest rank; an average over seeds is the mean of the percentiles.
    #[serde(with = "figure")]
    pub p50_ms: f64,
    /// 99th percentile, ms.
    #[serde(with = "figure")]
    pub p99_ms: f64,
    /// 99.9th percentile, ms.
    #[serde(with = "figure")]
    pub p999_ms: f64,
    /// 99th percentile of the requests that cost no more than the mean, ms: over all, p99 is at least the service time
    /// of a large one.
    #[serde(with = "figure", default = "figure::none")]
    pub small_p99_ms: f64,
    /// Mean of latency less service, ms: what a policy can do something about.
    #[serde(with = "figure")]
    pub wait_ms: f64,
    /// Mean busy share of all slots, 0 to 1.
    #[serde(with = "figure")]
    pub utilisation: f64,
    /// How unevenly the pods were busy: the coefficient of variation over the pods in windows of a second, its mean.
    #[serde(with = "figure", default = "figure::none")]
    pub utilisation_cv: f64,
    /// What each node sent, bytes/s with all overhead.
    #[serde(with = "figure")]
    pub bytes_per_node_s: f64,
    /// Mean news age of what a pick knew, ms.
    #[serde(with = "figure")]
    pub age_ms: f64,
    /// Figures that only some runs have, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "figure::named")]
    pub more: BTreeMap<String, f64>,
    /// Latencies in ms at the shares of [`Document::curve_at`](super::Document::curve_at).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "figure::list")]
    pub curve_ms: Vec<f64>,
    /// The hash of all that happened, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl Row {
    /// A row without figures yet.
    pub fn new(policy: impl Into<String>, load: f64, nodes: usize, pods: usize, seed: Option<u64>) -> Row {
        Row {
            policy: policy.into(),
            load,
            nodes,
            pods,
            seed,
            requests: 0,
            errors: 0,
            mean_ms: f64::NAN,
            p50_ms: f64::NAN,
            p99_ms: f64::NAN,
            p999_ms: f64::NAN,
            small_p99_ms: f64::NAN,
            wait_ms: f64::NAN,
            utilisation: f64::NAN,
            utilisation_cv: f64::NAN,
            bytes_per_node_s: f64::NAN,
            age_ms: f64::NAN,
            more: BTreeMap::new(),
            curve_ms: Vec::new(),
            trace: None,
        }
    }
}

/// What a figure counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// 0 to 1.
    Share,
    /// A number that is nothing but one.
    Plain,
    /// Bytes per second.
    BytesPerS,
}

/// One figure of a [`Row`]: its field in JSON and CSV, its words in a plot, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As in JSON.
    pub field: &'static str,
    /// As on an axis.
    pub words: &'static str,
    /// What it counts in.
    pub unit: Unit,
    /// Reads it.
    pub of: fn(&Row) -> f64,
    pub(super) at: fn(&mut Row) -> &mut f64,
}

macro_rules! metrics {
    ($($name:ident $field:ident $words:literal $unit:ident;)*) => {
        impl Metric {
            $(#[doc = concat!("[`Row::", stringify!($field), "`].")]
            pub const $name: Metric = Metric {
                field: stringify!($field),
                words: $words,
                unit: Unit::$unit,
                of: |row| row.$field,
                at: |row| &mut row.$field,
            };)*

            /// All of them, in the order of a row.
            pub const ALL: &'static [Metric] = &[$(Metric::$name),*];
        }
    };
}

metrics! {
    MEAN mean_ms "mean latency" Ms;
    P50 p50_ms "p50 latency" Ms;
    P99 p99_ms "p99 latency" Ms;
    P999 p999_ms "p99.9 latency" Ms;
    SMALL_P99 small_p99_ms "p99 latency of small requests" Ms;
    WAIT wait_ms "mean wait" Ms;
    UTILISATION utilisation "utilisation" Share;
    SPREAD utilisation_cv "spread of utilisation over pods" Plain;
    BYTES bytes_per_node_s "gossip sent by each node" BytesPerS;
    AGE age_ms "news age" Ms;
}
