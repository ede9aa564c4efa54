//! Bars from the left, a policy each, with its figure at the end: lengths from zero, so that they may be compared.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, label};
use super::page::{Drawing, Drawn, GRID, INK, Look, MARGIN, Page, TOP, Words, text, width_of};
use crate::report::Unit;

/// A bar with the gap below it.
const PITCH: i32 = 30;
const THICK: i32 = 18;
/// Below the bars: the labels of the ticks.
const AXIS: i32 = 30;
/// Right of the longest bar: its figure.
const FIGURE: i32 = 130;

/// One policy's.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) value: f64,
    /// What the seeds made of it, lowest and highest.
    pub(super) range: Option<(f64, f64)>,
    /// Behind the figure.
    pub(super) remark: String,
}

/// The height of a chart with so many bars.
pub(super) fn height(bars: usize) -> i32 {
    bars as i32 * PITCH + AXIS
}

pub(super) fn draw(page: &Page<'_>, bars: &[Bar], unit: Unit) -> String {
    page.draw(|area, foot| paint(area, foot, bars, unit))
}

fn paint(area: &Drawing<'_>, foot: i32, bars: &[Bar], unit: Unit) -> Drawn {
    let left = MARGIN + bars.iter().map(|bar| width_of(&bar.name)).max().unwrap_or(0) + 10;
    let right = area.dim_in_pixel().0 as i32 - MARGIN - FIGURE;
    let highest = bars.iter().flat_map(|bar| [bar.value, bar.range.map_or(0.0, |range| range.1)]);
    let axis = Axis::from_zero(highest, unit);
    let across = |value: f64| left + (axis.share(value) * f64::from(right - left)).round() as i32;
    for (at, name) in axis.ticks() {
        let line = [(across(*at), TOP), (across(*at), foot - AXIS)];
        area.draw(&PathElement::new(line, GRID.stroke_width(1)))?;
        text(area, name, (across(*at), foot - AXIS / 2), Words::new(15).anchored(HPos::Center))?;
    }
    for (place, bar) in bars.iter().enumerate() {
        let y = TOP + place as i32 * PITCH + PITCH / 2;
        text(area, &bar.name, (left - 8, y), Words::new(15).anchored(HPos::Right))?;
        if !bar.value.is_finite() {
            text(area, "nothing served", (left + 6, y), Words::new(15).soft())?;
            continue;
        }
        let colour = if bar.look.dash.is_some() { pale(bar.look.colour) } else { bar.look.colour };
        area.draw(&Rectangle::new([(left, y - THICK / 2), (across(bar.value), y + THICK / 2)], colour.filled()))?;
        let end = across(bar.range.map_or(bar.value, |range| range.1.max(bar.value)));
        if let Some((low, high)) = bar.range {
            whisker(area, (across(low), across(high)), y)?;
        }
        text(area, &format!("{} {}", label(bar.value, unit), bar.remark), (end + 8, y), Words::new(15))?;
    }
    Ok(())
}

/// What a dashed line is among lines.
fn pale(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let [red, green, blue] = [red, green, blue].map(|part| 0xFF - (0xFF - part) / 2);
    RGBColor(red, green, blue)
}

/// From the lowest to the highest seed.
fn whisker(area: &Drawing<'_>, (low, high): (i32, i32), y: i32) -> Drawn {
    area.draw(&PathElement::new([(low, y), (high, y)], INK.stroke_width(1)))?;
    for x in [low, high] {
        area.draw(&PathElement::new([(x, y - 4), (x, y + 4)], INK.stroke_width(1)))?;
    }
    Ok(())
}
