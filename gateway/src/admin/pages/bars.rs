//! A picture of amounts over time, drawn as SVG: a bar an hour or a day, the newest at the right. Pure; no style but classes.

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 168.0;
/// Where the bars begin; their scale stands before.
const LEFT: f64 = 64.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 144.0;
/// Where the times are written.
const TIMES: f64 = 162.0;

/// Bars with a scale.
#[derive(Debug, Clone, Default)]
pub(super) struct Bars {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) label_x: f64,
    pub(super) times_y: f64,
    pub(super) bar_width: String,
    pub(super) bars: Vec<Bar>,
    pub(super) rules: Vec<Rule>,
    /// What it shows, in words.
    pub(super) summary: String,
}

/// An hour or a day.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) title: String,
    /// Its time, where that is written below it.
    pub(super) label: Option<String>,
    pub(super) middle: String,
}

/// A line with an amount.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) y: String,
    pub(super) text_y: String,
    pub(super) label: String,
}

/// An amount in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// Short, for below the bar.
    pub(super) label: String,
    /// In words.
    pub(super) title: String,
    pub(super) amount: u64,
}

impl Bars {
    /// Draws points in the order of time.
    pub(super) fn new(points: &[Point], summary: String) -> Self {
        let most = nice(points.iter().map(|point| point.amount).max().unwrap_or_default());
        let step = (WIDTH - LEFT) / points.len().max(1) as f64;
        // About six labels, and the last one never beyond the edge.
        let every = points.len().div_ceil(6).max(1);
        let bar = |(place, point): (usize, &Point)| {
            let (x, y) = (LEFT + step * place as f64, height_of(point.amount, most));
            let label = place.is_multiple_of(every).then(|| point.label.clone());
            // What is not nothing is seen.
            let height = if point.amount == 0 { 0.0 } else { (BOTTOM - y).max(1.5) };
            Bar {
                x: number(x + 1.0),
                y: number(BOTTOM - height),
                height: number(height),
                title: point.title.clone(),
                label,
                middle: number(x + step / 2.0),
            }
        };
        Self {
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            label_x: LEFT - 8.0,
            times_y: TIMES,
            bar_width: number((step - 2.0).max(1.0)),
            bars: points.iter().enumerate().map(bar).collect(),
            rules: [0, most / 2, most].map(|amount| rule(amount, most)).into(),
            summary,
        }
    }
}

fn height_of(amount: u64, most: u64) -> f64 {
    BOTTOM - amount as f64 / most.max(1) as f64 * (BOTTOM - TOP)
}

fn rule(amount: u64, most: u64) -> Rule {
    let y = height_of(amount, most);
    Rule { y: number(y), text_y: number(y + 4.0), label: short(amount) }
}

/// The next even number with one figure that matters, at which a scale may end.
fn nice(most: u64) -> u64 {
    let power = 10_u64.saturating_pow(most.max(1).ilog10());
    [2, 4, 6, 8, 10, 20]
        .map(|figure: u64| figure.saturating_mul(power))
        .into_iter()
        .find(|end| *end >= most)
        .unwrap_or(most)
}

/// A number for a scale: `1200`, `15k`, `2.5M`.
fn short(amount: u64) -> String {
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

/// A coordinate, to a tenth.
fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_within_the_picture_and_nothing_has_no_height() {
        let amounts = [0, 1, 7, 1_000, 123_456_789];
        let points: Vec<_> = amounts
            .iter()
            .cycle()
            .take(30)
            .map(|amount| Point { label: "1".into(), title: "x".into(), amount: *amount })
            .collect();
        let bars = Bars::new(&points, String::new());
        assert_eq!((bars.bars.len(), bars.bars[0].height.as_str()), (30, "0.0"));
        let width: f64 = bars.bar_width.parse().unwrap();
        for bar in &bars.bars {
            let [x, y, height] = [&bar.x, &bar.y, &bar.height].map(|text| text.parse::<f64>().unwrap());
            assert!(x >= LEFT && x + width <= WIDTH + 0.2 && y >= TOP - 0.1 && y + height <= BOTTOM + 0.1, "{bar:?}");
        }
        assert!(bars.bars[1].height != "0.0" && bars.bars.iter().filter(|bar| bar.label.is_some()).count() <= 6);
        assert!(Bars::new(&[], String::new()).bars.is_empty());
    }

    #[test]
    fn scales_end_at_even_numbers() {
        for (most, end) in [(0, 2), (1, 2), (2, 2), (3, 4), (9, 10), (10, 20), (11, 20), (99, 100), (123_456, 200_000)]
        {
            assert_eq!(nice(most), end, "{most}");
        }
        assert_eq!(["9999", "15k", "2.5M"], [9_999, 15_000, 2_500_000].map(short).each_ref().map(String::as_str));
    }
}
