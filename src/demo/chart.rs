//! The charts of the report, as SVG text. Colours are written as fixed values that the report's style sheet knows by
//! heart and replaces, so that one drawing serves a light and a dark page.

use std::time::Duration;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::figures::{Phase, ms, quantile};
use super::plan::PLIMSOLL;

type Drawing<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (920, 340);

/// Text and grid; `report.css` gives them their real colours.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);

/// Plimsoll's own colour, then those of the others in the order they were played.
const OURS: RGBColor = RGBColor(0x0B, 0x72, 0x85);
const OTHERS: [RGBColor; 5] = [
    RGBColor(0xE8, 0x59, 0x0C),
    RGBColor(0x70, 0x48, 0xE8),
    RGBColor(0x86, 0x8E, 0x96),
    RGBColor(0xC2, 0x25, 0x5C),
    RGBColor(0x5C, 0x94, 0x0D),
];

/// Where percentiles stand on an axis of nines: half, one nine, two nines, three.
const NINES: [(f64, &str); 6] =
    [(0.0, "0"), (0.301, "p50"), (1.0, "p90"), (1.301, "p95"), (2.0, "p99"), (3.0, "p99.9")];

/// As far as the axis goes: a run has too few requests for more.
const MOST_NINES: f64 = 3.3;

/// Latencies worth a line on a logarithmic axis.
const LATENCY_TICKS: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4];

/// The colour of each phase.
pub(super) fn colours(phases: &[Phase]) -> Vec<RGBColor> {
    let mut others = OTHERS.into_iter().cycle();
    let colour = |phase: &Phase| if phase.policy == PLIMSOLL { Some(OURS) } else { others.next() };
    phases.iter().filter_map(colour).collect()
}

pub(super) fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// Latency by percentile: both axes are logarithmic, because what matters are the last few.
pub(super) fn percentiles(phases: &[Phase]) -> Result<String, Box<dyn std::error::Error>> {
    let lines: Vec<_> = phases.iter().map(|phase| percentile_line(&phase.latencies)).collect();
    let (low, high) = log_bounds(lines.iter().flatten().map(|point| point.1));
    let nines = Axis { low: 0.0, high: MOST_NINES, log: false, ticks: NINES.map(|(at, _)| at).to_vec() };
    let latency = Axis { low, high, log: true, ticks: LATENCY_TICKS.to_vec() };
    draw(|area| {
        let mut chart = frame(area, nines, latency, &nines_label, &milliseconds)?;
        for (line, colour) in lines.into_iter().zip(colours(phases)) {
            chart.draw_series(LineSeries::new(line, colour.stroke_width(3)))?;
        }
        Ok(())
    })
}

/// p99 of the requests that arrived in each second: what a caller would have seen at that moment.
pub(super) fn over_time(phases: &[Phase]) -> Result<String, Box<dyn std::error::Error>> {
    let seconds = phases.iter().map(|phase| phase.seconds.len()).max().unwrap_or(1);
    let highest = phases.iter().flat_map(|phase| phase.seconds.iter().flatten()).fold(1.0_f64, |a, b| a.max(*b));
    draw(|area| {
        let (time, latency) = (Axis::linear(seconds as f64), Axis::linear(highest * 1.05));
        let mut chart = frame(area, time, latency, &|at| format!("{at} s"), &milliseconds)?;
        for (phase, colour) in phases.iter().zip(colours(phases)) {
            let seconds = phase.seconds.iter().enumerate();
            let points = seconds.filter_map(|(second, p99)| p99.map(|p99| (second as f64 + 0.5, p99)));
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        Ok(())
    })
}

/// Busy share by pod, a bar for each policy.
pub(super) fn busy_shares(phases: &[Phase]) -> Result<String, Box<dyn std::error::Error>> {
    let pods: Vec<_> = phases.first().map_or(Vec::new(), |phase| phase.pods.iter().map(|pod| &pod.name).collect());
    // Thirty-two names are as many as the width holds.
    let step = pods.len().div_ceil(32).max(1);
    let middles = (0..pods.len()).step_by(step).map(|pod| pod as f64 + 0.5).collect();
    let across = Axis { ticks: middles, ..Axis::linear(pods.len().max(1) as f64) };
    let name = |at: f64| pods.get(at as usize).map_or(String::new(), ToString::to_string);
    draw(|area| {
        let mut chart = frame(area, across, Axis::linear(1.0), &name, &|share| format!("{:.0} %", share * 100.0))?;
        let width = 0.7 / phases.len() as f64;
        for (place, (phase, colour)) in phases.iter().zip(colours(phases)).enumerate() {
            chart.draw_series(phase.pods.iter().enumerate().map(|(pod, share)| {
                let left = pod as f64 + 0.15 + width * place as f64;
                Rectangle::new([(left, 0.0), (left + width * 0.9, share.busy_share.min(1.0))], colour.filled())
            }))?;
        }
        Ok(())
    })
}

/// An axis whose ticks are chosen, not computed: plotters' own logarithmic ticks cannot be named.
#[derive(Debug, Clone)]
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From zero to `high`, with some five round ticks.
    fn linear(high: f64) -> Self {
        let rough = high / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|of| of * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let ticks = (0..=10).map(|index| f64::from(index) * step).collect();
        Self { low: 0.0, high, log: false, ticks }
    }

    fn share(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.ln() } else { value };
        (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.share(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        // A hair above the end is still the end: a last tick of 0.6000000000000001 is one.
        self.ticks.iter().copied().filter(|tick| (-1e-9..=1.0 + 1e-9).contains(&self.share(*tick))).collect()
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

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Both axes with their labels, horizontal lines only.
fn frame<'a, 'b>(
    area: &'a Drawing<'b>,
    across: Axis,
    up: Axis,
    across_label: &dyn Fn(f64) -> String,
    up_label: &dyn Fn(f64) -> String,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(34)
        .y_label_area_size(72)
        .build_cartesian_2d(across, up)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .x_label_formatter(&|at| across_label(*at))
        .y_label_formatter(&|at| up_label(*at))
        .draw()?;
    Ok(chart)
}

fn draw(paint: impl FnOnce(&Drawing<'_>) -> Drawn) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// From the fastest to the highest percentile that the number of samples supports: beyond it there is one sample.
fn percentile_line(sorted: &[Duration]) -> Vec<(f64, f64)> {
    let most = (sorted.len().max(1) as f64).log10().min(MOST_NINES);
    let steps = (0..=200).map(|step| most * f64::from(step) / 200.0);
    steps.filter_map(|nines| Some((nines, ms(quantile(sorted, 1.0 - 10_f64.powf(-nines))?)))).collect()
}

/// Bounds of a logarithmic axis with some air, on ticks where there are any.
fn log_bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let below = LATENCY_TICKS.into_iter().rev().find(|tick| *tick <= low);
    let above = LATENCY_TICKS.into_iter().find(|tick| *tick >= high);
    (below.unwrap_or(1.0), above.unwrap_or(high * 1.2))
}

fn nines_label(at: f64) -> String {
    NINES.iter().find(|(nines, _)| (nines - at).abs() < 1e-6).map_or(String::new(), |(_, label)| (*label).to_owned())
}

fn milliseconds(latency: f64) -> String {
    format!("{latency:.0} ms")
}
