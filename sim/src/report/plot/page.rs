//! What every plot has: a page of its own colour, so that it reads on a dark site too, a title, what is drawn upwards, and
//! the recipe at the foot.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) type Drawing<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn Error>>;

/// From the page's edge to anything.
pub(super) const MARGIN: i32 = 24;
/// Where the chart begins, below the title.
pub(super) const TOP: i32 = 84;

const WIDTH: i32 = 960;
const LINE: i32 = 14;
/// Letters of the recipe in one line.
const COLUMNS: usize = 160;

const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
pub(super) const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
pub(super) const SOFT: RGBColor = RGBColor(0x59, 0x63, 0x6E);
pub(super) const GRID: RGBColor = RGBColor(0xE2, 0xE5, 0xE9);

/// How a policy is drawn, the same in every plot of a document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    pub(super) dash: Option<&'static str>,
    pub(super) width: u32,
}

/// Ours.
const OURS: Look = Look { colour: RGBColor(0x00, 0x72, 0xB2), dash: None, width: 4 };
/// Okabe and Ito's colours, which the colour-blind tell apart (<https://jfly.uni-koeln.de/color/>), but for the yellow,
/// which white swallows. Who comes after them has them again, dashed.
const OTHERS: [RGBColor; 5] = [
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];
/// How those are dashed the second and the third time.
const AGAIN: [Option<&str>; 3] = [None, Some("8 4"), Some("3 3")];
/// What no balancer can have: grey, each with its own dash.
const LIMITS: [&str; 3] = ["2 4", "7 4", "12 3 2 3"];

/// A pod among many.
pub(super) const CROWD: Look = Look { colour: RGBColor(0xB6, 0xBD, 0xC5), dash: None, width: 1 };
/// A policy that is not in the document.
pub(super) const UNKNOWN: Look = Look { colour: SOFT, dash: None, width: 2 };

/// The looks of policies, in their order. A dashed colour is by a hair not the one that it repeats: see [`dashed`].
pub(super) fn looks<'a>(policies: impl Iterator<Item = &'a str>) -> Vec<(String, Look)> {
    let (mut others, mut limits) = (0, 0);
    let mut look = |policy: &str| match policy {
        "plimsoll" => OURS,
        "least_work" | "least_count" | "central_queue" => {
            let kind = limits % LIMITS.len();
            limits += 1;
            Look { colour: beside(SOFT, kind + 1), dash: Some(LIMITS[kind]), width: 2 }
        }
        _ => {
            let round = others / OTHERS.len() % AGAIN.len();
            let colour = beside(OTHERS[others % OTHERS.len()], round);
            others += 1;
            Look { colour, dash: AGAIN[round], width: 2 }
        }
    };
    policies.map(|policy| (policy.to_owned(), look(policy))).collect()
}

/// A colour that no eye tells from this one.
fn beside(RGBColor(red, green, blue): RGBColor, by: usize) -> RGBColor {
    RGBColor(red, green, blue + by as u8)
}

/// Dashes the lines that are to be dashed, by their colours: plotters would make each dash a line of its own, which is ten
/// times the text, with ends on whole pixels.
fn dashed(svg: &str) -> String {
    let again = (1..AGAIN.len()).flat_map(|round| OTHERS.map(|colour| (beside(colour, round), AGAIN[round])));
    let limits = LIMITS.iter().enumerate().map(|(kind, dash)| (beside(SOFT, kind + 1), Some(*dash)));
    again.chain(limits).filter_map(|(colour, dash)| Some((colour, dash?))).fold(
        svg.to_owned(),
        |svg, (colour, dash)| {
            let stroke = format!("stroke=\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2);
            svg.replace(&stroke, &format!("{stroke} stroke-dasharray=\"{dash}\""))
        },
    )
}

/// The words around a chart.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    /// What is drawn upwards, with its unit or scale.
    pub(super) upwards: &'a str,
    pub(super) recipe: &'a str,
    /// Of the chart with its axes, in pixels.
    pub(super) height: i32,
}

impl Page<'_> {
    /// Draws the page, hands the whole of it with the y of the chart's lower end to `paint`, and gives the SVG.
    pub(super) fn draw(&self, paint: impl FnOnce(&Drawing<'_>, i32) -> Drawn) -> String {
        let recipe = wrapped(self.recipe, COLUMNS);
        let foot = TOP + self.height;
        let height = foot + 14 + LINE * recipe.len() as i32 + 12;
        let mut svg = String::new();
        self.try_draw(&mut svg, &recipe, foot, height, paint).expect("drawing into a string cannot fail");
        let described = format!("role=\"img\">\n<title>{}</title>", escaped(self.title));
        dashed(&svg.replacen('>', &format!(" {described}"), 1))
    }

    fn try_draw(
        &self,
        svg: &mut String,
        recipe: &[String],
        foot: i32,
        height: i32,
        paint: impl FnOnce(&Drawing<'_>, i32) -> Drawn,
    ) -> Drawn {
        let area = SVGBackend::with_string(svg, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&PAPER)?;
        text(&area, self.title, (MARGIN, 30), Words::new(22).bold())?;
        text(&area, self.upwards, (MARGIN, 56), Words::new(16).soft())?;
        paint(&area, foot)?;
        for (place, line) in recipe.iter().enumerate() {
            text(&area, line, (MARGIN, foot + 20 + LINE * place as i32), Words::new(12).soft())?;
        }
        area.present()?;
        Ok(())
    }
}

/// How a text is set.
#[derive(Clone, Copy)]
pub(super) struct Words {
    size: i32,
    colour: RGBColor,
    bold: bool,
    side: HPos,
}

impl Words {
    /// In plotters' size, which is 1.24 of the pixels.
    pub(super) fn new(size: i32) -> Words {
        Words { size, colour: INK, bold: false, side: HPos::Left }
    }

    pub(super) fn soft(self) -> Words {
        Words { colour: SOFT, ..self }
    }

    pub(super) fn bold(self) -> Words {
        Words { bold: true, ..self }
    }

    /// Which end of the text the point is at.
    pub(super) fn anchored(self, side: HPos) -> Words {
        Words { side, ..self }
    }
}

/// Writes a text whose middle height is at the point.
pub(super) fn text(area: &Drawing<'_>, words: &str, at: (i32, i32), set: Words) -> Drawn {
    let style = if set.bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = FontDesc::new(FontFamily::SansSerif, f64::from(set.size), style);
    let style = TextStyle::from(font).color(&set.colour).pos(Pos::new(set.side, VPos::Center));
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok(area.draw_text(&words, &style, at)?)
}

/// About how wide a text of plotters' size 15 is: no font is at hand to measure it, so rather too wide.
pub(super) fn width_of(words: &str) -> i32 {
    words.chars().count() as i32 * 7
}

/// Lines of at most so many letters, broken after spaces and, in the long lists that commands have, after commas.
fn wrapped(words: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in words.split_inclusive([' ', ',']) {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() || line.chars().count() + piece.trim_end().chars().count() <= columns {
            line.push_str(piece);
        } else {
            lines.push(piece.to_owned());
        }
    }
    lines
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two policies that look the same make a plot useless. Thirteen are compared at once.
    #[test]
    fn thirteen_policies_look_different() {
        let names = ["plimsoll", "least_work", "least_count", "central_queue"];
        let others: Vec<_> = (0..10).map(|k| format!("policy-{k}")).collect();
        let looks = looks(names.into_iter().chain(others.iter().map(String::as_str)));
        for (place, (name, look)) in looks.iter().enumerate() {
            assert!(looks[..place].iter().all(|(_, other)| other != look), "{name} looks like another");
        }
        let grey = |(_, look): &(String, Look)| look.dash.is_some() && look.colour.0 == SOFT.0;
        assert!(looks[1..4].iter().all(grey), "what no balancer can have is grey: {looks:?}");
    }

    #[test]
    fn a_long_recipe_is_broken_at_spaces_and_commas() {
        assert_eq!(wrapped("cargo sim compare --load 0.5,0.7", 12), ["cargo sim ", "compare ", "--load 0.5,", "0.7"]);
        assert_eq!(wrapped("", 12), [""]);
    }
}
