//! How recent calls went over time: calls by version, what failed and what started cold, times and CPU, in equal spans, as pictures
//! and as a table. Pure: now is an argument. It is made of records, of which one may stand for many calls.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::{
    format,
    plot::{self, Ink, Marks, Picture, Plot, Series},
};
use crate::admin::model::{Invocation, Time};

/// The spans that time is divided into, in seconds.
const STEPS: [u64; 14] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 10_800, 43_200, 86_400];
/// The most spans of a picture, and the fewest of one that goes back as far as there are calls.
const SPANS: u64 = 40;
const FEWEST: u64 = 20;
/// Versions that have a colour of their own; older ones share the last.
const VERSIONS: [Ink; 4] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth];

/// Pictures, and the same numbers as a table.
#[derive(Debug, Clone, Default)]
pub(super) struct OverTime {
    pub(super) plots: Vec<Plot>,
    /// How long each span is, in words.
    pub(super) step: String,
    /// Spans with calls.
    pub(super) rows: Vec<Row>,
}

/// A span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) time: String,
    pub(super) calls: u64,
    pub(super) versions: String,
    pub(super) failed: u64,
    pub(super) cold: u64,
    pub(super) median: String,
    pub(super) p99: String,
    pub(super) cpu: String,
}

/// What happened in a span.
#[derive(Debug, Clone, Default)]
struct Span {
    versions: BTreeMap<u32, u64>,
    calls: u64,
    failed: u64,
    cold: u64,
    cpu_us: u64,
    /// How long calls took, and how many each value stands for.
    times: Vec<(u64, u64)>,
}

impl Span {
    fn add(&mut self, call: &Invocation) {
        let weight = u64::from(call.weight.max(1));
        let counted = |is: bool| if is { weight } else { 0 };
        *self.versions.entry(call.version).or_default() += weight;
        self.calls += weight;
        self.failed += counted(!call.is_ok());
        self.cold += counted(call.receipt.start_us > 0);
        self.cpu_us = self.cpu_us.saturating_add(call.receipt.cpu_us.saturating_mul(weight));
        self.times.push((call.total_us(), weight));
    }

    /// The smallest time that is not under `percent` percent of all; the times are sorted.
    fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.calls.saturating_mul(percent)).div_ceil(100);
        let mut sum = 0_u64;
        let reaches = |&&(_, weight): &&(u64, u64)| {
            sum = sum.saturating_add(weight);
            sum >= rank
        };
        self.times.iter().find(reaches).map(|(time, _)| *time)
    }

    fn cpu(&self) -> Option<u64> {
        self.cpu_us.checked_div(self.calls)
    }
}

/// Spans of equal length, the oldest first.
#[derive(Debug)]
struct Spans {
    step: u64,
    first: u64,
    spans: Vec<Span>,
}

impl Spans {
    fn of(calls: &[Invocation], since: Option<SystemTime>, now: SystemTime) -> Option<Self> {
        let known = calls.iter().filter_map(|call| Some((seconds(call.start_time?.at()), call)));
        let known: Vec<_> = known.filter(|(time, _)| since.is_none_or(|since| *time >= seconds(since))).collect();
        let newest = known.iter().map(|(time, _)| *time).max()?.max(seconds(now));
        let oldest = since.map_or_else(|| known.iter().map(|(time, _)| *time).min(), |since| Some(seconds(since)))?;
        let step = step(newest.saturating_sub(oldest));
        // A few fat bars say less than many thin ones; before a moment that is asked for, nothing is known.
        let wide = (newest / step).saturating_sub(FEWEST - 1);
        let first = if since.is_some() { oldest / step } else { (oldest / step).min(wide) };
        let count = usize::try_from((newest / step).saturating_sub(first)).ok()?.min(2 * SPANS as usize) + 1;
        let mut spans = vec![Span::default(); count];
        for (time, call) in known {
            let place = usize::try_from((time / step).saturating_sub(first)).ok();
            if let Some(span) = place.and_then(|place| spans.get_mut(place)) {
                span.add(call);
            }
        }
        spans.iter_mut().for_each(|span| span.times.sort_unstable());
        Some(Self { step, first, spans })
    }

    /// The time of each span: of the day, and of the year where a day is one.
    fn times(&self, whole: bool) -> Vec<String> {
        let time = |place: usize| {
            let seconds = self.first.saturating_add(place as u64).saturating_mul(self.step);
            let text = Time::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).for_people();
            let (from, count) = match (whole, self.step) {
                (true, _) => (0, 19),
                (false, 43_200..) => (5, 5),
                (false, 60..) => (11, 5),
                (false, _) => (11, 8),
            };
            text.chars().skip(from).take(count).collect()
        };
        (0..self.spans.len()).map(time).collect()
    }

    fn values(&self, of: impl Fn(&Span) -> Option<u64>) -> Vec<Option<u64>> {
        self.spans.iter().map(of).collect()
    }

    fn sum(&self, of: impl Fn(&Span) -> u64) -> u64 {
        self.spans.iter().map(of).fold(0, u64::saturating_add)
    }

    /// A series for each of the newest versions, and one for all older ones.
    fn by_version(&self) -> Vec<Series> {
        let mut versions: Vec<u32> = self.spans.iter().flat_map(|span| span.versions.keys().copied()).collect();
        versions.sort_unstable_by(|one, other| other.cmp(one));
        versions.dedup();
        let last = if versions.len() > VERSIONS.len() { VERSIONS.len() - 1 } else { VERSIONS.len() };
        let oldest_own = versions.iter().take(last).min().copied().unwrap_or_default();
        let own = versions.iter().take(last).map(|version| (format!("v{version}"), *version, *version));
        let older = versions.get(last).map(|next| (format!("v{next} and older"), 0, oldest_own.saturating_sub(1)));
        let series = |((name, from, to), ink): ((String, u32, u32), Ink)| Series {
            ink,
            name,
            values: self.values(|span| Some(span.versions.range(from..=to).map(|(_, calls)| *calls).sum())),
        };
        own.chain(older).zip(VERSIONS).map(series).collect()
    }

    fn plot(&self, id: &'static str, title: &'static str, picture: &Picture<'_>, summary: String) -> Plot {
        let legend = picture.series.iter().map(|series| (series.ink.class(), series.name.clone())).collect();
        Plot { id, title, summary, legend, drawing: picture.drawing() }
    }

    fn rows(&self) -> Vec<Row> {
        let known = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), format::micros);
        let row = |(span, time): (&Span, String)| Row {
            time,
            calls: span.calls,
            versions: span
                .versions
                .iter()
                .rev()
                .map(|(version, calls)| format!("v{version} {calls}"))
                .collect::<Vec<_>>()
                .join(", "),
            failed: span.failed,
            cold: span.cold,
            median: known(span.percentile(50)),
            p99: known(span.percentile(99)),
            cpu: known(span.cpu()),
        };
        let rows = self.spans.iter().zip(self.times(true)).filter(|(span, _)| span.calls > 0);
        rows.rev().map(row).collect()
    }
}

impl OverTime {
    /// How a function's calls went, from the oldest of these to now; they may be the newest of more.
    pub(super) fn of_function(calls: &[Invocation], are_all: bool, now: SystemTime) -> Self {
        let oldest = calls.iter().filter_map(|call| Some(call.start_time?.at())).min();
        let Some(spans) = Spans::of(calls, oldest.filter(|_| !are_all), now) else { return Self::default() };
        let plots = vec![calls_plot(&spans), trouble_plot(&spans), latency_plot(&spans), cpu_plot(&spans)];
        Self { plots, step: words(spans.step), rows: spans.rows() }
    }

    /// How a namespace's calls went since a moment.
    pub(super) fn of_namespace(calls: &[Invocation], since: SystemTime, now: SystemTime) -> Self {
        let Some(spans) = Spans::of(calls, Some(since), now) else { return Self::default() };
        Self { plots: vec![outcomes_plot(&spans), latency_plot(&spans)], step: words(spans.step), rows: spans.rows() }
    }
}

fn calls_plot(spans: &Spans) -> Plot {
    let (series, times) = (spans.by_version(), spans.times(false));
    let picture = Picture { marks: Marks::Stacked, series: &series, times: &times, label: plot::short };
    let by = series.iter().map(|series| format!("{} {}", series.name, series.values.iter().flatten().sum::<u64>()));
    let by = by.collect::<Vec<_>>().join(", ");
    let summary = format!("{}, by version: {by}", calls(spans.sum(|span| span.calls)));
    spans.plot("calls", "Calls by version", &picture, summary)
}

fn outcomes_plot(spans: &Spans) -> Plot {
    let well = |span: &Span| Some(span.calls.saturating_sub(span.failed));
    let series = [
        Series { ink: Ink::Failed, name: "failed".into(), values: spans.values(|span| Some(span.failed)) },
        Series { ink: Ink::First, name: "went well".into(), values: spans.values(well) },
    ];
    let times = spans.times(false);
    let picture = Picture { marks: Marks::Stacked, series: &series, times: &times, label: plot::short };
    let summary = format!("{}, {} failed", calls(spans.sum(|span| span.calls)), spans.sum(|span| span.failed));
    spans.plot("outcomes", "Calls", &picture, summary)
}

fn trouble_plot(spans: &Spans) -> Plot {
    let series = [
        Series { ink: Ink::Failed, name: "failed".into(), values: spans.values(|span| Some(span.failed)) },
        Series { ink: Ink::Third, name: "started cold".into(), values: spans.values(|span| Some(span.cold)) },
    ];
    let times = spans.times(false);
    let picture = Picture { marks: Marks::Beside, series: &series, times: &times, label: plot::short };
    let (failed, cold) = (spans.sum(|span| span.failed), spans.sum(|span| span.cold));
    spans.plot(
        "trouble",
        "Failures and cold starts",
        &picture,
        format!("{} failed, {cold} started cold", calls(failed)),
    )
}

fn latency_plot(spans: &Spans) -> Plot {
    let series = [
        Series { ink: Ink::Second, name: "99th percentile".into(), values: spans.values(|span| span.percentile(99)) },
        Series { ink: Ink::First, name: "median".into(), values: spans.values(|span| span.percentile(50)) },
    ];
    let times = spans.times(false);
    let picture = Picture { marks: Marks::Lines, series: &series, times: &times, label: format::micros };
    let worst = |percent| spans.spans.iter().filter_map(|span| span.percentile(percent)).max().unwrap_or_default();
    let (median, p99) = (format::micros(worst(50)), format::micros(worst(99)));
    spans.plot("latency", "Latency", &picture, format!("the median up to {median}, the 99th percentile up to {p99}"))
}

fn cpu_plot(spans: &Spans) -> Plot {
    let series = [Series { ink: Ink::Fourth, name: "CPU a call, in the mean".into(), values: spans.values(Span::cpu) }];
    let times = spans.times(false);
    let picture = Picture { marks: Marks::Beside, series: &series, times: &times, label: format::micros };
    let total = format::micros(spans.sum(|span| span.cpu_us));
    spans.plot("cpu", "CPU", &picture, format!("{total} of CPU in all"))
}

/// What pictures are of, where there were more calls than were read: how many these are, and since when.
pub(super) fn newest_of_more(calls: &[Invocation], now: SystemTime) -> String {
    let oldest = calls.iter().filter_map(|call| call.start_time).min_by_key(|time| time.at());
    let since = oldest.map(|time| format!(", since {}", moment(time, now))).unwrap_or_default();
    format!("the last {} calls on record{since}", calls.len())
}

/// The time of day, and the day where it was not within the last one.
fn moment(time: Time, now: SystemTime) -> String {
    let is_recent = time.age(now).is_none_or(|age| age < Duration::from_secs(86_400));
    let day = if is_recent { 11 } else { 0 };
    time.for_people().chars().skip(day).take(19 - day).collect()
}

fn calls(count: u64) -> String {
    format!("{count} call{}", if count == 1 { "" } else { "s" })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The shortest step that makes few enough spans of a time.
fn step(span: u64) -> u64 {
    STEPS.into_iter().find(|step| span / step < SPANS).unwrap_or_else(|| span / SPANS + 1)
}

/// A step in words.
fn words(step: u64) -> String {
    match step {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        0 | 2..60 => format!("{step} s"),
        61..3_600 => format!("{} min", step / 60),
        _ => format!("{} h", step / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::v1;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn call(seconds: u64, version: u32, outcome: &str, millis: i32, weight: u32) -> Invocation {
        let run = Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
        let start_time = Some(at(seconds).into());
        let receipt = Some(v1::Receipt { run, cpu: run, start: run.filter(|_| version == 1), ..Default::default() });
        v1::Invocation { version, outcome: outcome.into(), start_time, receipt, weight, ..Default::default() }.into()
    }

    #[test]
    fn calls_are_counted_for_what_they_stand_for_in_spans_of_equal_length() {
        let calls = [call(1_000, 1, "ok", 1, 1), call(1_001, 2, "trap", 3, 10), call(1_030, 2, "ok", 5, 1)];
        let spans = Spans::of(&calls, None, at(1_060)).unwrap();
        assert_eq!((spans.step, spans.spans.len()), (2, 31));
        assert_eq!(
            (spans.sum(|span| span.calls), spans.sum(|span| span.failed), spans.sum(|span| span.cold)),
            (12, 10, 1)
        );
        let first = &spans.spans[0];
        // Of eleven, the sixth took what the ten took.
        assert_eq!((first.percentile(50).unwrap(), first.percentile(1).unwrap()), (3_000, 2_000));
        let over = OverTime::of_function(&calls, true, at(1_060));
        assert_eq!((over.plots.len(), over.rows.len(), over.step.as_str()), (4, 2, "2 s"));
        assert_eq!(
            (over.rows[1].versions.as_str(), over.rows[1].time.as_str()),
            ("v2 10, v1 1", "1970-01-01 00:16:40")
        );
        assert_eq!(over.plots[0].summary, "12 calls, by version: v2 11, v1 1");
        assert!(OverTime::of_function(&[], true, at(0)).plots.is_empty());
    }

    #[test]
    fn what_lies_before_the_oldest_call_is_nothing_only_where_that_is_known() {
        let calls = [call(1_000, 1, "ok", 1, 1), call(1_004, 1, "ok", 1, 1)];
        let spans = |since| Spans::of(&calls, since, at(1_004)).unwrap().spans.len();
        assert_eq!((spans(None), spans(Some(at(1_000)))), (20, 5));
    }

    #[test]
    fn where_there_were_more_calls_it_is_said_how_many_are_shown_and_since_when() {
        let calls = [call(1_004, 1, "ok", 1, 1), call(1_000, 1, "ok", 1, 1)];
        assert_eq!(newest_of_more(&calls, at(1_010)), "the last 2 calls on record, since 00:16:40");
        let later = newest_of_more(&calls, at(200_000));
        assert_eq!(later, "the last 2 calls on record, since 1970-01-01 00:16:40");
    }

    #[test]
    fn old_versions_share_a_colour() {
        let calls: Vec<_> = (1..=7).map(|version| call(1_000, version, "ok", 1, 1)).collect();
        let series = Spans::of(&calls, None, at(1_000)).unwrap().by_version();
        let names: Vec<_> =
            series.iter().map(|series| (series.name.as_str(), series.values.iter().flatten().sum::<u64>())).collect();
        assert_eq!(names, [("v7", 1), ("v6", 1), ("v5", 1), ("v4 and older", 4)]);
    }

    #[test]
    fn a_namespace_is_shown_since_a_moment_and_however_long_ago_there_are_few_spans() {
        let calls = [call(10, 1, "ok", 1, 1), call(100_000, 1, "internal", 1, 1)];
        let over = OverTime::of_namespace(&calls, at(97_000), at(100_600));
        assert_eq!((over.plots[0].summary.as_str(), over.step.as_str()), ("1 call, 1 failed", "2 min"));
        for span in [0, 39, 40, 3_600, 86_400, 86_400 * 30, u64::from(u32::MAX)] {
            assert!(span / step(span) < SPANS + 1, "{span}");
        }
        // A clock that goes back, or wild times, are no reason to fail.
        let wild = [call(5_000_000_000, 1, "ok", 1, 1), call(0, 1, "ok", 1, 1)];
        assert!(Spans::of(&wild, None, at(100)).unwrap().spans.len() <= 81);
    }
}
