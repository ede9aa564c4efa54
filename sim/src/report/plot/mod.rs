//! Plots of rows, as SVG text that needs no font file and no script.
//!
//! Each policy looks the same in all plots of a document, lines are named at their ends, and the recipe stands at the
//! foot. Where single runs are among the rows, a band or a whisker shows from the lowest to the highest seed: a
//! difference inside it is none.

mod all;
mod axis;
mod bars;
mod lines;
mod page;
#[cfg(test)]
mod tests;

use axis::{Axis, nines_of};
use bars::Bar;
use lines::{HEIGHT, Line, Lines};
use page::{CROWD, Look, Page, UNKNOWN, looks};

use super::compare::{averages, policies};
use super::{Document, Metric, PodLine, Row, Timeline, Unit};

pub use all::plot_all;

/// Draws rows of one document.
#[derive(Clone, Debug)]
pub struct Plots {
    recipe: String,
    curve_at: Vec<f64>,
    looks: Vec<(String, Look)>,
}

impl Plots {
    /// With the looks of all its policies, and its recipe.
    pub fn of(document: &Document) -> Plots {
        let looks = looks(policies(&document.rows).into_iter());
        Plots { recipe: document.recipe(), curve_at: document.curve_at.clone(), looks }
    }

    /// A figure against the load, a line for each policy. Latencies are on a logarithmic axis.
    pub fn by_load(&self, rows: &[Row], metric: Metric, title: &str) -> String {
        let across = Axis::at(rows.iter().map(|row| row.load), false, |load| load.to_string());
        let words = "load, as a share of what all slots can do";
        self.lines(rows, metric, title, |row| row.load, across, words)
    }

    /// A figure against the number of nodes, a line for each policy.
    pub fn by_nodes(&self, rows: &[Row], metric: Metric, title: &str) -> String {
        let across = Axis::at(rows.iter().map(|row| row.nodes as f64), true, |nodes| nodes.to_string());
        self.lines(rows, metric, title, |row| row.nodes as f64, across, "nodes, logarithmic")
    }

    /// A figure against what each node sends, a line for each policy: what news is worth. For rows that differ in nothing but
    /// the budget.
    pub fn by_bytes(&self, rows: &[Row], metric: Metric, title: &str) -> String {
        let across = Axis::at(rows.iter().map(|row| row.bytes_per_node_s), true, |bytes| format!("{:.0}", bytes / 1e3));
        self.lines(rows, metric, title, |row| row.bytes_per_node_s, across, "kB/s that each node sends, logarithmic")
    }

    fn lines(
        &self,
        rows: &[Row],
        metric: Metric,
        title: &str,
        at: fn(&Row) -> f64,
        across: Axis,
        across_words: &str,
    ) -> String {
        let drawn = |value: f64| value.is_finite() && (metric.unit != Unit::Ms || value > 0.0);
        let rows: Vec<_> = rows.iter().filter(|row| drawn((metric.of)(row))).cloned().collect();
        let values = rows.iter().map(metric.of);
        let up = match metric.unit {
            Unit::Ms => Axis::logarithmic(values, metric.unit),
            _ => Axis::from_zero(values, metric.unit),
        };
        let means = averages(&rows);
        let line = |policy: &str| {
            let mut of_policy: Vec<_> = means.iter().filter(|row| row.policy == policy).collect();
            of_policy.sort_by(|a, b| at(a).total_cmp(&at(b)));
            let band = of_policy.iter().filter_map(|row| {
                let (low, high) = seeds_of(&rows, row, metric)?;
                Some((at(row), low, high))
            });
            Line {
                name: Some(policy.to_owned()),
                look: self.look(policy),
                band: band.collect(),
                points: of_policy.iter().map(|row| (at(row), (metric.of)(row))).collect(),
            }
        };
        let mut lines: Vec<_> = policies(&means).into_iter().map(line).collect();
        let seeds =
            lines.iter().any(|line| !line.band.is_empty()).then_some("; bands: from the lowest to the highest seed");
        let upwards = [metric.words, up.scale(), seeds.unwrap_or_default()].concat();
        // Through the gaps of a dashed line the solid ones below it are seen.
        lines.sort_by_key(|line| line.look.dash.is_some());
        Lines { across, across_words: across_words.to_owned(), up, lines, dots: true, event: None }
            .draw(&self.page(title, &upwards, HEIGHT))
    }

    /// Latency by percentile, a line for each policy. The rows are of one load and shape, with curves.
    pub fn percentiles(&self, rows: &[Row], title: &str) -> String {
        let means: Vec<_> = averages(rows).into_iter().filter(|row| !row.curve_ms.is_empty()).collect();
        // Up to where ten requests of a run are still slower: what lies beyond is one request's luck. So is the fastest.
        let fewest = rows.iter().filter(|row| !row.curve_ms.is_empty()).map(|row| row.requests).min().unwrap_or(0);
        let nines: Vec<_> = self.curve_at.iter().map(|share| nines_of(*share)).collect();
        let most = nines.iter().copied().filter(|nines| *nines <= (fewest as f64 / 10.0).log10()).fold(1.0, f64::max);
        let line = |row: &Row| {
            let points = nines.iter().copied().zip(row.curve_ms.iter().copied());
            let points = points.filter(|(nines, ms)| (f64::MIN_POSITIVE..=most).contains(nines) && *ms > 0.0).collect();
            Line { name: Some(row.policy.clone()), look: self.look(&row.policy), points, band: Vec::new() }
        };
        let mut lines: Vec<_> = means.iter().map(line).collect();
        lines.sort_by_key(|line| line.look.dash.is_some());
        let up = Axis::logarithmic(lines.iter().flat_map(|line| &line.points).map(|(_, ms)| *ms), Unit::Ms);
        let across_words = "share of requests that are faster, by the rarity of the rest".to_owned();
        let page = self.page(title, "latency, logarithmic", HEIGHT);
        Lines { across: Axis::nines(most), across_words, up, lines, dots: false, event: None }.draw(&page)
    }

    /// A figure of each policy as a bar, with its ratio to `base` or to the first. The rows are of one load and shape.
    pub fn bars(&self, rows: &[Row], metric: Metric, base: Option<&str>, title: &str) -> String {
        let means = averages(rows);
        let base = base.or(policies(&means).first().copied()).unwrap_or_default();
        let over = means.iter().find(|row| row.policy == base).map_or(f64::NAN, metric.of);
        let bar = |row: &Row| {
            let (value, ratio) = ((metric.of)(row), (metric.of)(row) / over);
            let compared = row.policy != base && ratio.is_finite();
            let remark = if compared { format!("(× {ratio:.2})") } else { String::new() };
            Bar {
                name: row.policy.clone(),
                look: self.look(&row.policy),
                value,
                range: seeds_of(rows, row, metric),
                remark,
            }
        };
        let bars: Vec<_> = means.iter().map(bar).collect();
        let seeds =
            bars.iter().any(|bar| bar.range.is_some()).then_some("; whiskers: from the lowest to the highest seed");
        let upwards = format!("{} (× over {base}){}", metric.words, seeds.unwrap_or_default());
        bars::draw(&self.page(title, &upwards, bars::height(bars.len())), &bars, metric.unit)
    }

    /// Each pod over time, around an event: the pods it is about stand out and are named, the rest are a grey crowd.
    pub fn over_time(&self, timeline: &Timeline, title: &str) -> String {
        let marked = looks(timeline.pods.iter().filter(|pod| pod.marked).map(|pod| pod.name.as_str()));
        let line = |pod: &PodLine| {
            let middle = |k: usize| timeline.from_s + timeline.window_s * (k as f64 + 0.5);
            let points = pod.values.iter().enumerate().map(|(k, value)| (middle(k), *value));
            let look = marked.iter().find(|(name, _)| pod.marked && *name == pod.name).map(|(_, look)| *look);
            let points = points.filter(|(_, value)| value.is_finite()).collect();
            Line { name: look.map(|_| pod.name.clone()), look: look.unwrap_or(CROWD), points, band: Vec::new() }
        };
        let mut lines: Vec<_> = timeline.pods.iter().map(line).collect();
        lines.sort_by_key(|line| line.name.is_some());
        let up = Axis::from_zero(lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value), timeline.unit);
        let windows = timeline.pods.iter().map(|pod| pod.values.len()).max().unwrap_or(0).max(1);
        let across = Axis::seconds(timeline.from_s, timeline.from_s + timeline.window_s * windows as f64);
        let event = Some((timeline.event_s, timeline.event.clone()));
        let upwards = format!("{} of each pod, {}", timeline.words, timeline.policy);
        let page = self.page(title, &upwards, HEIGHT);
        Lines { across, across_words: "time".to_owned(), up, lines, dots: false, event }.draw(&page)
    }

    fn page<'a>(&'a self, title: &'a str, upwards: &'a str, height: i32) -> Page<'a> {
        Page { title, upwards, recipe: &self.recipe, height }
    }

    fn look(&self, policy: &str) -> Look {
        self.looks.iter().find(|(name, _)| name == policy).map_or(UNKNOWN, |(_, look)| *look)
    }
}

/// The lowest and the highest of a figure among the seeds of an averaged row; none when there are not several.
fn seeds_of(rows: &[Row], mean: &Row, metric: Metric) -> Option<(f64, f64)> {
    let same =
        |row: &&Row| (&row.policy, row.load, row.nodes, row.pods) == (&mean.policy, mean.load, mean.nodes, mean.pods);
    let values: Vec<_> = rows.iter().filter(|row| row.seed.is_some()).filter(same).map(metric.of).collect();
    let (low, high) =
        values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    (values.len() > 1 && low <= high).then_some((low, high))
}
