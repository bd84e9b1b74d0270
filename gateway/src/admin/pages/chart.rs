//! The last calls as SVG: a bar a call, its height by the logarithm of its time, each a link to its call. Pure; no style but classes.
//! Links are why it is drawn here: `plotters`, which draws what goes over time (`plot.rs`), has none.

use super::format;
use crate::admin::model::Invocation;

/// Calls that a chart shows.
const CALLS: usize = 60;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 150.0;
/// Where the bars begin; their scale stands before.
const LEFT: f64 = 52.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 144.0;

/// The times of the last calls, the newest at the right.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) label_x: f64,
    pub(super) bar_width: String,
    pub(super) bars: Vec<Bar>,
    pub(super) rules: Vec<Rule>,
    /// What it shows, in words.
    pub(super) summary: String,
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) class: &'static str,
    pub(super) title: String,
    pub(super) href: String,
}

/// A line with a time.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) y: String,
    pub(super) text_y: String,
    pub(super) label: String,
}

impl Chart {
    /// Draws the calls, which come the newest first; `href` is where each is described.
    pub(super) fn new(calls: &[Invocation], href: impl Fn(&Invocation) -> String) -> Self {
        let calls: Vec<_> = calls.iter().take(CALLS).collect();
        if calls.is_empty() {
            return Self::default();
        }
        // Calls that never reached a worker took no time; they have a place, but no say in the scale.
        let times = || calls.iter().map(|call| call.total_us()).filter(|time| *time > 0);
        let (least, most) = (times().min().unwrap_or(1), times().max().unwrap_or(1));
        let scale = Scale::around(least, most);
        let step = (WIDTH - LEFT) / CALLS as f64;
        let bar = |(place, call): (usize, &&Invocation)| {
            let y = scale.y(call.total_us());
            Bar {
                x: number(WIDTH - step * (place + 1) as f64 + 1.0),
                y: number(y),
                height: number((BOTTOM - y).max(1.0)),
                class: if call.is_ok() { "ok" } else { "bad" },
                title: format!("{} {}: {}", call.method, format::micros(call.total_us()), call.outcome),
                href: href(call),
            }
        };
        let failed = calls.iter().filter(|call| !call.is_ok()).count();
        Self {
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            label_x: LEFT - 8.0,
            bar_width: number(step - 2.0),
            bars: calls.iter().enumerate().map(bar).collect(),
            rules: scale.rules(),
            summary: match calls.len() {
                1 => format!("Time of the last call, {}; {failed} failed", format::micros(most)),
                count => format!(
                    "Times of the last {count} calls, from {} to {}; {failed} failed",
                    format::micros(least),
                    format::micros(most)
                ),
            },
        }
    }
}

/// A logarithmic scale between two powers of ten, in microseconds.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn around(least: u64, most: u64) -> Self {
        let low = (least as f64).log10().floor();
        Self { low, high: (most as f64).log10().ceil().max(low + 1.0) }
    }

    fn y(&self, micros: u64) -> f64 {
        let part = ((micros.max(1) as f64).log10() - self.low) / (self.high - self.low);
        BOTTOM - part.max(0.0) * (BOTTOM - TOP)
    }

    /// A line at each power of ten.
    fn rules(&self) -> Vec<Rule> {
        let powers = (self.low as u32)..=(self.high as u32);
        let rule = |power| {
            let micros = 10_u64.saturating_pow(power);
            let y = self.y(micros);
            Rule { y: number(y), text_y: number(y + 4.0), label: format::micros(micros) }
        };
        powers.map(rule).collect()
    }
}

/// A coordinate, to a tenth.
fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// A coloured part of a bar.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) class: &'static str,
    pub(super) title: &'static str,
    pub(super) text: String,
    pub(super) x: String,
    pub(super) width: String,
}

/// Where the time of a call went, in percent of the whole.
pub(super) fn timeline(call: &Invocation) -> Vec<Part> {
    let receipt = &call.receipt;
    let whole = receipt.total_us().max(1) as f64;
    let mut before = 0.0;
    let parts = [
        ("t-queue", "Waiting", receipt.queue_us),
        ("t-start", "Preparing a sandbox", receipt.start_us),
        ("t-run", "Running", receipt.run_us),
    ];
    let part = |(class, title, micros): (&'static str, &'static str, u64)| {
        let width = micros as f64 * 100.0 / whole;
        let x = before;
        before += width;
        Part { class, title, text: format::micros(micros), x: format!("{x:.3}"), width: format!("{width:.3}") }
    };
    parts.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use dunlin_proto::v1;

    use super::*;

    fn call(micros: i32) -> Invocation {
        let run = Some(prost_types::Duration { seconds: 0, nanos: micros * 1_000 });
        let queue = Some(prost_types::Duration { seconds: 0, nanos: micros * 250 });
        let receipt = Some(v1::Receipt { run, queue, ..Default::default() });
        Invocation::from(v1::Invocation { outcome: "ok".into(), receipt, ..Default::default() })
    }

    #[test]
    fn bars_stay_within_the_picture() {
        let calls: Vec<_> = [0, 1, 10, 999, 123_456, 1_700_000].iter().cycle().take(100).map(|us| call(*us)).collect();
        let chart = Chart::new(&calls, |_| "/x".into());
        assert_eq!(chart.bars.len(), CALLS);
        for bar in &chart.bars {
            let (x, y, height): (f64, f64, f64) =
                (bar.x.parse().unwrap(), bar.y.parse().unwrap(), bar.height.parse().unwrap());
            assert!((LEFT - 0.1..WIDTH).contains(&x) && y >= TOP - 0.1 && y + height <= BOTTOM + 1.1, "{bar:?}");
        }
        assert!(chart.summary.contains("60 calls"));
        assert!(Chart::new(&[], |_| String::new()).bars.is_empty());
    }

    #[test]
    fn a_timeline_fills_the_whole() {
        let parts = timeline(&call(4_000));
        let ends: Vec<_> = parts.iter().map(|part| (part.x.as_str(), part.width.as_str())).collect();
        assert_eq!(ends, [("0.000", "20.000"), ("20.000", "0.000"), ("20.000", "80.000")]);
    }
}
