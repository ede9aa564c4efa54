//! A chart of lines, each with its name at its end: no legend to look up.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::page::{Drawing, Drawn, GRID, INK, Look, MARGIN, Page, SOFT, TOP, Words, text, width_of};

/// Of the chart with its axes, in pixels.
pub(super) const HEIGHT: i32 = 400;
/// From one name to the next, at least.
const NAME_HEIGHT: i32 = 18;
/// From the chart to the sample of a line beside its name.
const LEAD: i32 = 20;
/// The length of that sample.
const SAMPLE: i32 = 22;
/// What the axes take at the left and below.
const AXES: (i32, i32) = (72, 52);

/// One line.
pub(super) struct Line {
    /// None for one of a crowd.
    pub(super) name: Option<String>,
    pub(super) look: Look,
    /// From left to right.
    pub(super) points: Vec<(f64, f64)>,
    /// The lowest and the highest at some of the points: what the seeds made of it.
    pub(super) band: Vec<(f64, f64, f64)>,
}

/// See the module's description.
pub(super) struct Lines {
    pub(super) across: Axis,
    /// What is drawn across, with its unit or scale.
    pub(super) across_words: String,
    pub(super) up: Axis,
    pub(super) lines: Vec<Line>,
    /// Whether points are marked: they are few, and what is between them was not played.
    pub(super) dots: bool,
    /// A moment, and what happened then.
    pub(super) event: Option<(f64, String)>,
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

impl Lines {
    pub(super) fn draw(self, page: &Page<'_>) -> String {
        page.draw(|area, foot| self.paint(area, foot))
    }

    fn paint(&self, area: &Drawing<'_>, foot: i32) -> Drawn {
        let (width, height) = area.dim_in_pixel();
        let names = self.lines.iter().filter_map(|line| line.name.as_deref()).map(width_of).max();
        let right = width as i32 - MARGIN - names.map_or(0, |names| LEAD + SAMPLE + 6 + names);
        let mut chart = ChartBuilder::on(area)
            .margin_left(MARGIN - 10)
            .margin_top(TOP)
            .margin_right(width as i32 - right)
            .margin_bottom(height as i32 - foot + AXES.1 - 34)
            .x_label_area_size(34)
            .y_label_area_size(AXES.0)
            .build_cartesian_2d(self.across.clone(), self.up.clone())?;
        self.mesh(&mut chart)?;
        text(area, &self.across_words, (right, foot - 10), Words::new(15).soft().anchored(HPos::Right))?;
        for line in &self.lines {
            self.line(&mut chart, line)?;
        }
        self.happened(&chart, area, foot - AXES.1)?;
        self.names(&chart, area, right, foot - AXES.1)
    }

    fn mesh(&self, chart: &mut Chart<'_, '_>) -> Drawn {
        let ink = ("sans-serif", 15).into_font().color(&INK);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(SOFT)
            .label_style(ink)
            .x_label_formatter(&|at| self.across.label(*at))
            .y_label_formatter(&|at| self.up.label(*at))
            .draw()?;
        Ok(())
    }

    fn line(&self, chart: &mut Chart<'_, '_>, line: &Line) -> Drawn {
        let Look { colour, width, .. } = line.look;
        let low = line.band.iter().map(|(at, low, _)| (*at, *low));
        let high = line.band.iter().rev().map(|(at, _, high)| (*at, *high));
        chart.draw_series([Polygon::new(low.chain(high).collect::<Vec<_>>(), colour.mix(0.15).filled())])?;
        let points = line.points.iter().copied();
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?;
        if self.dots {
            chart.draw_series(points.map(|point| Circle::new(point, width as i32 / 2 + 2, colour.filled())))?;
        }
        Ok(())
    }

    /// A line down at the event, with its words above, on the side that has room.
    fn happened(&self, chart: &Chart<'_, '_>, area: &Drawing<'_>, bottom: i32) -> Drawn {
        let Some((at, words)) = &self.event else { return Ok(()) };
        let (x, _) = chart.backend_coord(&(*at, self.up.range().start));
        area.draw(&PathElement::new([(x, TOP), (x, bottom)], INK.stroke_width(1)))?;
        let (left, side) = if self.across.share(*at) < 0.6 { (x + 6, HPos::Left) } else { (x - 6, HPos::Right) };
        text(area, words, (left, TOP - 8), Words::new(15).anchored(side))
    }

    /// Each name beside the end of its line, pushed apart where ends are close.
    fn names(&self, chart: &Chart<'_, '_>, area: &Drawing<'_>, right: i32, bottom: i32) -> Drawn {
        let end = |line: &Line| Some((line.name.clone()?, line.look, chart.backend_coord(line.points.last()?)));
        let mut ends: Vec<_> = self.lines.iter().filter_map(end).collect();
        ends.sort_by_key(|(_, _, (_, y))| *y);
        let wanted: Vec<_> = ends.iter().map(|(_, _, (_, y))| *y).collect();
        for ((name, look, from), y) in ends.into_iter().zip(apart(&wanted, TOP + 4, bottom - 4)) {
            let sample = [(right + LEAD, y), (right + LEAD + SAMPLE, y)];
            area.draw(&PathElement::new([from, sample[0]], look.colour.mix(0.5).stroke_width(1)))?;
            area.draw(&PathElement::new(sample, look.colour.stroke_width(look.width)))?;
            text(area, &name, (sample[1].0 + 6, y), Words::new(15))?;
        }
        Ok(())
    }
}

/// Heights at least a name apart and as near as may be to those wanted, which ascend; from the bottom up where there is
/// not room for all.
fn apart(wanted: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut heights = wanted.to_vec();
    let mut least = top;
    for height in &mut heights {
        *height = (*height).max(least);
        least = *height + NAME_HEIGHT;
    }
    let mut most = bottom;
    for height in heights.iter_mut().rev() {
        *height = (*height).min(most);
        most = *height - NAME_HEIGHT;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two names on top of each other read as neither: most policies end within a few pixels.
    #[test]
    fn names_never_lie_on_each_other() {
        assert_eq!(apart(&[100, 101, 300], 0, 400), [100, 118, 300]);
        assert_eq!(apart(&[395, 396, 397], 0, 400), [364, 382, 400]);
        assert_eq!(apart(&[-5, 0], 0, 400), [0, 18]);
        assert_eq!(apart(&[], 0, 400), [0_i32; 0]);
    }
}
