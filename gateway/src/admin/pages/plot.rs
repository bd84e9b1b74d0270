//! Pictures of values over time, drawn by `plotters` as SVG: bars or lines with a scale. Pure: values and times go in, markup comes
//! out. Nothing is written in it but numbers and times, so that no name from outside can get there.
//!
//! Each series has a colour that stands for one of the style sheet's, which depend on light and dark: rules for `.plot` replace it, as
//! they do the font.

use std::ops::Range;

use plotters::{
    chart::ChartContext,
    coord::{
        Shift,
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
        types::RangedCoordf64,
    },
    prelude::*,
};

/// The size of a picture, in its own units.
pub(super) const WIDTH: u32 = 520;
pub(super) const HEIGHT: u32 = 180;
/// What the scales take of it.
const LEFT: u32 = 58;
const BOTTOM: u32 = 24;
/// Times that are written below it.
const MOST_TIMES: usize = 5;
/// Stands for the colour of rules, and for that of text.
const RULE: RGBColor = RGBColor(0, 0, 1);
const TEXT: RGBColor = RGBColor(0, 0, 2);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes = Cartesian2d<Scale, Scale>;
type Context<'a, 't> = ChartContext<'a, SVGBackend<'t>, Axes>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A scale with labels at chosen points. `plotters` has one, but not for numbers that are not whole.
struct Scale {
    inner: RangedCoordf64,
    points: Vec<f64>,
}

impl Scale {
    fn new(range: Range<f64>, points: Vec<f64>) -> Self {
        Self { inner: range.into(), points }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.inner.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.points.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.inner.range()
    }
}

/// A colour of the style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    First,
    Second,
    Third,
    Fourth,
    Failed,
}

impl Ink {
    /// The class that has it in a legend.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::First => "s0",
            Self::Second => "s1",
            Self::Third => "s2",
            Self::Fourth => "s3",
            Self::Failed => "failed",
        }
    }

    /// What stands for it in a picture.
    fn stand_in(self) -> RGBColor {
        match self {
            Self::First => RGBColor(0, 0, 16),
            Self::Second => RGBColor(0, 0, 17),
            Self::Third => RGBColor(0, 0, 18),
            Self::Fourth => RGBColor(0, 0, 19),
            Self::Failed => RGBColor(0, 0, 20),
        }
    }
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// Bars of all series on one another.
    Stacked,
    /// Bars of all series beside one another.
    Beside,
    /// Lines on a scale of powers of ten.
    Lines,
}

/// Values in the order of time.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) ink: Ink,
    /// As the legend has it.
    pub(super) name: String,
    /// One for each time; nothing where none is known.
    pub(super) values: Vec<Option<u64>>,
}

/// A picture with what a page says of it.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    /// The ids of its elements begin so.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it shows, in words.
    pub(super) summary: String,
    pub(super) legend: Vec<(&'static str, String)>,
    /// What is within its `svg` element.
    pub(super) drawing: String,
}

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture<'p> {
    pub(super) marks: Marks,
    pub(super) series: &'p [Series],
    /// The time of each place, short.
    pub(super) times: &'p [String],
    /// How a value is written at the scale.
    pub(super) label: fn(u64) -> String,
}

impl Picture<'_> {
    /// Draws it; what can't be drawn is left out, since the page has the numbers too.
    pub(super) fn drawing(&self) -> String {
        let mut text = String::new();
        if let Err(error) = self.draw(&mut text) {
            tracing::error!(%error, "a picture can't be drawn");
            return String::new();
        }
        let inner = text.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
        inner.map(|(inner, _)| inner.trim().to_owned()).unwrap_or_default()
    }

    fn draw(&self, text: &mut String) -> Drawn<()> {
        let area = SVGBackend::with_string(text, (WIDTH, HEIGHT)).into_drawing_area();
        let mut context = self.axes(&area)?;
        match self.marks {
            Marks::Stacked => self.stack(&mut context)?,
            Marks::Beside => self.beside(&mut context)?,
            Marks::Lines => self.lines(&mut context)?,
        }
        drop(context);
        area.present()
    }

    fn axes<'t>(&self, area: &Area<'t>) -> Drawn<Context<'t, 't>> {
        let count = self.times.len();
        let points = self.scale();
        let (low, high) = (points.first().copied().unwrap_or_default(), points.last().copied().unwrap_or(1.0));
        let every = count.div_ceil(MOST_TIMES).max(1);
        let times = (0..count).step_by(every).map(|place| place as f64 + 0.5).collect();
        let mut builder = ChartBuilder::on(area);
        builder.margin_top(8).margin_right(10).x_label_area_size(BOTTOM).y_label_area_size(LEFT);
        let x = Scale::new(0.0..count.max(1) as f64, times);
        let mut context = builder.build_cartesian_2d(x, Scale::new(low..high, points))?;
        let time = |x: &f64| self.times.get(*x as usize).cloned().unwrap_or_default();
        let value = |y: &f64| (self.label)(self.value(*y));
        let mut mesh = context.configure_mesh();
        mesh.disable_x_mesh().bold_line_style(RULE).axis_style(RULE).set_all_tick_mark_size(4);
        mesh.label_style(("sans-serif", 15).into_font().color(&TEXT));
        mesh.x_label_formatter(&time).y_label_formatter(&value).draw()?;
        Ok(context)
    }

    /// Where a value lies.
    fn place(&self, value: u64) -> f64 {
        if self.marks == Marks::Lines { (value.max(1) as f64).log10() } else { value as f64 }
    }

    /// The value that lies there.
    fn value(&self, place: f64) -> u64 {
        if self.marks == Marks::Lines { 10_f64.powf(place).round() as u64 } else { place.round() as u64 }
    }

    /// Where the scale has its labels, from its low end to its high one.
    fn scale(&self) -> Vec<f64> {
        let values = || self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        if self.marks == Marks::Lines {
            let low = self.place(values().min().unwrap_or(1)).floor();
            let high = self.place(values().max().unwrap_or(10)).ceil().max(low + 1.0);
            return (low as u32..=high as u32).map(f64::from).collect();
        }
        let most = match self.marks {
            Marks::Stacked => (0..self.times.len()).map(|place| self.sum(place)).max(),
            Marks::Beside | Marks::Lines => values().max(),
        };
        let most = even(most.unwrap_or_default());
        [0, most / 2, most].map(|value| value as f64).into()
    }

    fn sum(&self, place: usize) -> u64 {
        self.series.iter().filter_map(|series| series.values.get(place).copied().flatten()).fold(0, u64::saturating_add)
    }

    fn stack(&self, context: &mut Context<'_, '_>) -> Drawn<()> {
        let mut below = vec![0_u64; self.times.len()];
        for series in self.series {
            let mut bars = Vec::new();
            for (place, (from, value)) in below.iter_mut().zip(&series.values).enumerate() {
                let to = from.saturating_add(value.unwrap_or_default());
                bars.push(bar((place as f64, 0.1, 0.8), (*from, to), series.ink));
                *from = to;
            }
            context.draw_series(bars.into_iter().flatten())?;
        }
        Ok(())
    }

    fn beside(&self, context: &mut Context<'_, '_>) -> Drawn<()> {
        let width = 0.8 / self.series.len().max(1) as f64;
        for (number, series) in self.series.iter().enumerate() {
            let from = 0.1 + width * number as f64;
            let values = series.values.iter().enumerate();
            let bars =
                values.map(|(place, value)| bar((place as f64, from, width), (0, value.unwrap_or(0)), series.ink));
            context.draw_series(bars.flatten())?;
        }
        Ok(())
    }

    fn lines(&self, context: &mut Context<'_, '_>) -> Drawn<()> {
        for series in self.series {
            let point = |(place, value): (usize, &Option<u64>)| Some((place as f64 + 0.5, self.place((*value)?)));
            let points: Vec<_> = series.values.iter().enumerate().map(point).collect();
            let style = series.ink.stand_in().stroke_width(2);
            // A time without calls is a gap.
            for line in points.split(Option::is_none) {
                context.draw_series(LineSeries::new(line.iter().flatten().copied(), style))?;
            }
            let dots = points.into_iter().flatten().map(|point| Circle::new(point, 3, series.ink.stand_in().filled()));
            context.draw_series(dots)?;
        }
        Ok(())
    }
}

/// A bar at a place, from a part of it on and so wide; none where there is nothing.
fn bar((place, from, width): (f64, f64, f64), (low, high): (u64, u64), ink: Ink) -> Option<Rectangle<(f64, f64)>> {
    let left = place + from;
    let corners = [(left, high as f64), (left + width, low as f64)];
    (high > low).then(|| Rectangle::new(corners, ink.stand_in().filled()))
}

/// The next even number with one figure that matters, at which a scale may end.
fn even(most: u64) -> u64 {
    let power = 10_u64.saturating_pow(most.max(1).ilog10());
    let ends = [2, 4, 6, 8, 10, 20].map(|figure: u64| figure.saturating_mul(power));
    ends.into_iter().find(|end| *end >= most).unwrap_or(most)
}

/// A number for a scale: `1200`, `15k`, `2.5M`.
pub(super) fn short(amount: u64) -> String {
    let scaled = |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match amount {
        0..10_000 => amount.to_string(),
        10_000..1_000_000 => scaled(amount as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => scaled(amount as f64 / 1e6, "M"),
        _ => scaled(amount as f64 / 1e9, "G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(marks: Marks, values: &[&[Option<u64>]]) -> String {
        let inks = [Ink::First, Ink::Failed];
        let series = |(values, ink): (&&[Option<u64>], Ink)| Series { ink, name: "x".into(), values: values.to_vec() };
        let series: Vec<_> = values.iter().zip(inks).map(series).collect();
        let times: Vec<_> = (0..values[0].len()).map(|place| format!("12:{place:02}")).collect();
        Picture { marks, series: &series, times: &times, label: short }.drawing()
    }

    #[test]
    fn bars_are_drawn_for_what_there_is_in_the_colours_of_the_style_sheet() {
        let text = drawn(Marks::Stacked, &[&[Some(1), None, Some(3)], &[Some(2), Some(0), Some(1)]]);
        assert_eq!((text.matches("<rect").count(), text.matches("fill=\"#000010\"").count()), (4, 2), "{text}");
        assert_eq!(text.matches("fill=\"#000014\"").count(), 2);
        assert!(!text.contains("style=") && !text.contains("<svg") && !text.contains("</svg"), "{text}");
        for label in ["12:00", "12:02", "0", "2", "4"] {
            assert!(text.contains(&format!(">\n{label}\n<")), "{label}: {text}");
        }
    }

    #[test]
    fn lines_have_gaps_where_nothing_is_known() {
        let text = drawn(Marks::Lines, &[&[Some(100), Some(250_000), None, Some(7)]]);
        assert_eq!((text.matches("<circle").count(), text.contains("NaN")), (3, false), "{text}");
        assert!(text.contains(">\n1000k\n<") || text.contains(">\n1M\n<"), "{text}");
    }

    #[test]
    fn nothing_at_all_and_far_too_much_are_drawn_too() {
        for marks in [Marks::Stacked, Marks::Beside, Marks::Lines] {
            for values in [&[][..], &[None], &[Some(0)], &[Some(u64::MAX), Some(u64::MAX)]] {
                let text = drawn(marks, &[values, values]);
                assert!(text.contains("<line") && !text.contains("NaN") && !text.contains("inf"), "{marks:?}: {text}");
            }
        }
    }

    #[test]
    fn scales_end_at_even_numbers() {
        for (most, end) in [(0, 2), (1, 2), (3, 4), (9, 10), (10, 20), (11, 20), (99, 100), (123_456, 200_000)] {
            assert_eq!(even(most), end, "{most}");
        }
        assert_eq!(["9999", "15k", "2.5M"], [9_999, 15_000, 2_500_000].map(short).each_ref().map(String::as_str));
    }
}
