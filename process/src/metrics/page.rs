//! The text that Prometheus reads: its own format, version 0.0.4, and OpenMetrics 1.0, which has exemplars. Which one is the
//! reader's choice. The libraries for it tie exemplars to histograms with locks and write only one of both formats.
//!
//! It knows how a sample is spelled, not what it means; label values may be anything, and come out as what they are.

use std::{fmt::Write, time::Duration};

use super::count::Readout;

/// Nanoseconds of a second.
const NANOS_PER_SECOND: f64 = 1e9;

/// How a page is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a reader with this `Accept` header wants: OpenMetrics where it names it.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let named = accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("application/openmetrics-text"));
        if named { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of metric a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often something was how large.
    Histogram,
}

/// A number, in base units: seconds, bytes, or just a count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// Anything else.
    Real(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Whole(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Whole(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Whole(count as u64)
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        Self::Whole(holds.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// In seconds.
impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Real(duration.as_secs_f64())
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(count) => write!(f, "{count}"),
            Self::Real(number) if number.is_nan() => f.write_str("NaN"),
            Self::Real(number) if number.is_infinite() => f.write_str(if *number > 0.0 { "+Inf" } else { "-Inf" }),
            Self::Real(number) => write!(f, "{number}"),
        }
    }
}

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a str);

/// The answer to a scrape while it is written.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
}

impl Page {
    /// An empty one.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// Begins a family. Its samples follow at once, and no other source has the same name; `help` is a sentence.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // There, a counter's name and that of its samples differ.
        let family = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Prometheus => name,
        };
        self.text.push_str("# HELP ");
        self.text.push_str(family);
        self.text.push(' ');
        escape(&mut self.text, help, self.format == Format::OpenMetrics);
        // Writing to a text never fails.
        let _ = write!(self.text, "\n# TYPE {family} {word}\n");
        Family { page: self, name }
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &str, value: impl Into<Value>) {
        self.family(Kind::Counter, name, help).add(&[], value);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Into<Value>) {
        self.family(Kind::Gauge, name, help).add(&[], value);
    }

    /// A histogram without labels.
    pub fn histogram(&mut self, name: &'static str, help: &str, readout: &Readout) {
        self.family(Kind::Histogram, name, help).spread(&[], readout);
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn sample(&mut self, (name, suffix): (&str, &str), labels: &[Label<'_>], more: Option<Label<'_>>) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (label, value) in labels.iter().copied().chain(more) {
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            before = ',';
        }
        self.text.push_str(if before == ',' { "} " } else { " " });
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// Adds a sample, with labels that no other sample of it has.
    pub fn add(&mut self, labels: &[Label<'_>], value: impl Into<Value>) {
        self.page.sample((self.name, ""), labels, None);
        let _ = writeln!(self.page.text, "{}", value.into());
    }

    /// Adds a histogram, with labels that no other one of it has.
    pub fn spread(&mut self, labels: &[Label<'_>], readout: &Readout) {
        let mut count = 0;
        for (bucket, exemplar) in &readout.buckets {
            count += bucket.count;
            let most = bucket.most.map_or_else(|| "+Inf".to_owned(), limit);
            self.page.sample((self.name, "_bucket"), labels, Some(("le", &most)));
            let _ = write!(self.page.text, "{count}");
            if let (Format::OpenMetrics, Some(seen)) = (self.page.format, exemplar) {
                let (value, at) = (seen.value.as_secs_f64(), seen.at.as_secs_f64());
                let _ = write!(self.page.text, " # {{trace_id=\"{:032x}\"}} {value} {at:.3}", seen.trace);
            }
            self.page.text.push('\n');
        }
        self.page.sample((self.name, "_sum"), labels, None);
        let _ = writeln!(self.page.text, "{}", Value::from(readout.sum));
        self.page.sample((self.name, "_count"), labels, None);
        let _ = writeln!(self.page.text, "{count}");
    }
}

/// A limit of a bucket in seconds. Its text is the bucket's name, in both formats that of OpenMetrics: a decimal number.
fn limit(nanos: u64) -> String {
    let text = (nanos as f64 / NANOS_PER_SECOND).to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// Writes text so that it stays on its line, and where `quotes` is set, in its quotes.
fn escape(into: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if quotes => into.push_str("\\\""),
            other => into.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::count::Histogram;

    #[test]
    fn both_formats_say_the_same_in_their_own_words() {
        let write = |format| {
            let mut page = Page::new(format);
            let mut family = page.family(Kind::Counter, "a_total", "Calls of \"a\\b\".");
            family.add(&[("x", "1"), ("y", "")], 3_u64);
            family.add(&[("x", "2"), ("y", "z")], 0.5);
            page.gauge("b_seconds", "How long.", Duration::from_millis(1500));
            page.finish()
        };
        let prometheus = "# HELP a_total Calls of \"a\\\\b\".\n# TYPE a_total counter\na_total{x=\"1\",y=\"\"} 3\n\
                          a_total{x=\"2\",y=\"z\"} 0.5\n# HELP b_seconds How long.\n# TYPE b_seconds gauge\nb_seconds 1.5\n";
        assert_eq!(write(Format::Prometheus), prometheus);
        let open = "# HELP a Calls of \\\"a\\\\b\\\".\n# TYPE a counter\na_total{x=\"1\",y=\"\"} 3\n\
                    a_total{x=\"2\",y=\"z\"} 0.5\n# HELP b_seconds How long.\n# TYPE b_seconds gauge\nb_seconds 1.5\n# EOF\n";
        assert_eq!(write(Format::OpenMetrics), open);
    }

    #[test]
    fn a_value_that_tries_to_be_markup_stays_a_value() {
        let mut page = Page::new(Format::Prometheus);
        let mut family = page.family(Kind::Gauge, "a", "A.");
        for value in ["\"} 1\nb 2\n", "\\", "\\\"", "<script>{}", "é\u{202e}"] {
            family.add(&[("x", value)], 1_u64);
        }
        let text = page.finish();
        let lines: Vec<_> = text.lines().skip(2).collect();
        let wanted = [
            "a{x=\"\\\"} 1\\nb 2\\n\"} 1",
            "a{x=\"\\\\\"} 1",
            "a{x=\"\\\\\\\"\"} 1",
            "a{x=\"<script>{}\"} 1",
            "a{x=\"é\u{202e}\"} 1",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        let numbers =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-7, 1e21].map(|real| Value::Real(real).to_string());
        assert_eq!(numbers, ["NaN", "+Inf", "-Inf", "0.0000001", "1000000000000000000000"]);
        assert_eq!(Value::from(true).to_string(), "1");
    }

    #[test]
    fn a_histogram_counts_upwards_and_shows_exemplars_where_they_can_be_read() {
        let histogram = Histogram::new(&[500_000, 1_000_000_000]);
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_micros(501));
        histogram.exemplify(Duration::from_micros(501), 0xab);
        histogram.observe(Duration::from_secs(2));
        let write = |format| {
            let mut page = Page::new(format);
            page.histogram("a_seconds", "A.", &histogram.read());
            page.finish()
        };
        let text = write(Format::Prometheus);
        let wanted = "a_seconds_bucket{le=\"0.0005\"} 1\na_seconds_bucket{le=\"1.0\"} 2\na_seconds_bucket{le=\"+Inf\"} 3\n\
                      a_seconds_sum 2.001001\na_seconds_count 3\n";
        assert!(text.ends_with(wanted), "{text}");
        let text = write(Format::OpenMetrics);
        let exemplar = format!("le=\"1.0\"}} 2 # {{trace_id=\"{:032x}\"}} 0.000501 ", 0xab);
        assert!(text.contains(&exemplar), "{text}");
    }

    #[test]
    fn limits_of_buckets_are_decimal_numbers() {
        let limits = [50_000, 250_000_000, 1_000_000_000, 300_000_000_000].map(limit);
        assert_eq!(limits, ["0.00005", "0.25", "1.0", "300.0"]);
    }

    #[test]
    fn who_names_openmetrics_gets_it() {
        for (accept, format) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/plain;version=0.0.4"), Format::Prometheus),
            (Some("Application/OpenMetrics-Text;version=1.0.0,text/plain;q=0.5"), Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
