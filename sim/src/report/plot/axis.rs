//! Axes whose ticks and labels are chosen here: plotters' own have no units and, on a logarithmic axis, no say in which.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::report::Unit;

/// As many ticks as an axis bears.
const MOST_TICKS: usize = 9;
/// The percentiles that have a name on an axis.
const PERCENTILES: [(f64, &str); 8] = [
    (0.05, "p5"),
    (0.5, "p50"),
    (0.9, "p90"),
    (0.95, "p95"),
    (0.99, "p99"),
    (0.995, "p99.5"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
];

/// From a lowest to a highest value.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to a little above the highest value.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>, unit: Unit) -> Axis {
        let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let high = if high > 0.0 { high * 1.05 } else { 1.0 };
        let power = 10_f64.powf((high / 5.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= high / 5.0);
        let step = step.unwrap_or(10.0 * power);
        let ticks = (0..=5).map(|index| f64::from(index) * step).filter(|tick| *tick <= high);
        Axis { low: 0.0, high, log: false, ticks: ticks.map(|tick| (tick, label(tick, unit))).collect() }
    }

    /// Logarithmic, around the values; those that are not above zero have no place on it.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, unit: Unit) -> Axis {
        let values = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            values.fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low / 1.15, high * 1.15) } else { (1.0, 10.0) };
        let within = |steps: &[f64]| -> Vec<f64> {
            let powers = low.log10().floor() as i32..=high.log10().floor() as i32;
            let ticks = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
            ticks.filter(|tick| (low..=high).contains(tick)).collect()
        };
        let steps: [&[f64]; 4] =
            [&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0]];
        let ticks = steps.into_iter().map(within).find(|ticks| ticks.len() <= MOST_TICKS).unwrap_or_default();
        Axis { low, high, log: true, ticks: ticks.into_iter().map(|tick| (tick, label(tick, unit))).collect() }
    }

    /// With ticks at the values themselves: the loads or sizes that were played.
    pub(super) fn at(values: impl Iterator<Item = f64>, log: bool, name: impl Fn(f64) -> String) -> Axis {
        let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (first, last) = (values.first().copied().unwrap_or(1.0), values.last().copied().unwrap_or(1.0));
        let (low, high) = match (first < last, log) {
            (true, true) => (first / (last / first).powf(0.03), last),
            (true, false) => (first - (last - first) * 0.03, last),
            (false, _) => (first * 0.9, first * 1.1),
        };
        let mut axis = Axis { low, high, log, ticks: Vec::new() };
        for value in values.into_iter().rev() {
            // The last one is named first: it is the one that is looked for. A name takes some twentieth of the axis.
            if axis.ticks.last().is_none_or(|(right, _)| axis.share(*right) - axis.share(value) > 0.06) {
                axis.ticks.push((value, name(value)));
            }
        }
        axis
    }

    /// Percentiles up to `most` nines, each decade of rarer requests as wide as the one before.
    pub(super) fn nines(most: f64) -> Axis {
        let ticks = PERCENTILES.iter().map(|(share, name)| (nines_of(*share), (*name).to_owned()));
        Axis { low: 0.0, high: most, log: false, ticks: ticks.filter(|(at, _)| *at <= most).collect() }
    }

    /// Seconds, from the first to the last.
    pub(super) fn seconds(from: f64, to: f64) -> Axis {
        let mut axis = Axis::from_zero([(to - from) / 1.05].into_iter(), Unit::Plain);
        let start = (from / 5.0).ceil() * 5.0;
        axis.ticks.iter_mut().for_each(|(at, name)| {
            *at += start;
            *name = format!("{} s", trimmed(*at));
        });
        axis.ticks.retain(|(at, _)| *at <= to);
        Axis { low: from, high: to, ..axis }
    }

    /// Where on the axis a value is, 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    }

    /// The values that have a label, and it.
    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// The label of a tick.
    pub(super) fn label(&self, value: f64) -> String {
        self.ticks.iter().find(|(at, _)| *at == value).map_or(String::new(), |(_, name)| name.clone())
    }

    /// Whether it is logarithmic, which a reader must be told.
    pub(super) fn scale(&self) -> &'static str {
        if self.log { ", logarithmic" } else { "" }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.share(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

/// A value with its unit, in the prefix that makes it short.
pub(super) fn label(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{} %", trimmed(value * 100.0)),
        Unit::Plain => trimmed(value),
        _ if value == 0.0 => "0".to_owned(),
        Unit::Ms if value < 0.1 => format!("{} µs", trimmed(value * 1e3)),
        Unit::Ms if value < 1e3 => format!("{} ms", trimmed(value)),
        Unit::Ms => format!("{} s", trimmed(value / 1e3)),
        Unit::BytesPerS if value < 1e3 => format!("{} B/s", trimmed(value)),
        Unit::BytesPerS if value < 1e6 => format!("{} kB/s", trimmed(value / 1e3)),
        Unit::BytesPerS => format!("{} MB/s", trimmed(value / 1e6)),
    }
}

/// Three figures, without the zeros that say nothing.
fn trimmed(value: f64) -> String {
    let places = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How many nines a share in [0, 1) is: 0.9 is one, 0.99 two.
pub(super) fn nines_of(share: f64) -> f64 {
    -(1.0 - share).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.ticks().iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_few_and_have_units() {
        assert_eq!(names(&Axis::from_zero([87.0].into_iter(), Unit::Ms)), ["0", "20 ms", "40 ms", "60 ms", "80 ms"]);
        assert_eq!(names(&Axis::from_zero([0.93].into_iter(), Unit::Share)), ["0 %", "20 %", "40 %", "60 %", "80 %"]);
        let wide = Axis::logarithmic([0.05, 2500.0].into_iter(), Unit::Ms);
        assert_eq!(names(&wide), ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s"]);
        let narrow = Axis::logarithmic([190.0, 320.0].into_iter(), Unit::Ms);
        assert_eq!(names(&narrow), ["200 ms", "250 ms", "300 ms"]);
    }

    /// A figure that is not there, or zero on a logarithmic axis, must not stretch it to nothing.
    #[test]
    fn what_has_no_place_does_not_move_the_ends() {
        let axis = Axis::logarithmic([f64::NAN, 0.0, 100.0, f64::INFINITY, 200.0].into_iter(), Unit::Ms);
        assert!(axis.share(100.0) > 0.0 && axis.share(200.0) < 1.0, "{axis:?}");
        for nothing in [Axis::logarithmic([].into_iter(), Unit::Ms), Axis::from_zero([].into_iter(), Unit::Ms)] {
            assert!(!nothing.ticks().is_empty() && nothing.share(1.0).is_finite(), "{nothing:?}");
        }
    }

    #[test]
    fn a_single_value_and_close_values_still_make_an_axis() {
        let one = Axis::at([0.85].into_iter(), false, |load| load.to_string());
        assert_eq!((names(&one), (one.share(0.85) * 100.0).round()), (vec!["0.85"], 50.0));
        let close = Axis::at([0.5, 0.85, 0.851, 0.95].into_iter(), false, |load| load.to_string());
        assert_eq!(names(&close), ["0.95", "0.851", "0.5"]);
    }
}
