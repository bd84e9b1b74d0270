//! What a namespace used: by function, and hour by hour or day by day, with its budget.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use askama::Template;
use axum::extract::State;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Namespace,
    names::{BudgetName, NamespaceRef},
    v1,
};
use serde::Deserialize;

use super::{
    Page, format,
    plot::{self, Ink, Marks, Picture, Plot, Series},
    render,
    shell::{Section, Shell},
};
use crate::{
    admin::{
        app::App,
        model::{Budget, BudgetState, Time, Usage},
        params::{Named, Query},
        session::Visitor,
    },
    auth::Principal,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The time that the page shows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Window {
    days: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "usage.html")]
struct UsagePage {
    shell: Shell,
    namespace: String,
    /// Whether the last 30 days are shown; otherwise, the last 24 hours.
    month: bool,
    chart: Chart,
    rows: Vec<Row>,
    total: Row,
    budget: Vec<Bound>,
    command: String,
    csv: String,
}

/// Calls over time, as a picture and as a table.
#[derive(Debug)]
struct Chart {
    plot: Plot,
    rows: Vec<(String, u64)>,
}

/// What a function used.
#[derive(Debug, Default)]
struct Row {
    function: String,
    calls: u64,
    cpu: String,
    memory: String,
    bytes_in: String,
    bytes_out: String,
}

/// A bound of the budget.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) text: String,
    pub(super) class: &'static str,
    pub(super) note: &'static str,
}

impl Bound {
    /// Whether there is something to warn of.
    pub(super) fn worries(&self) -> bool {
        self.class != "ok"
    }
}

/// Shows it.
pub(super) async fn page(
    State(app): State<App>,
    Visitor(who): Visitor,
    Named(parent): Named<NamespaceRef>,
    Query(window): Query<Window>,
) -> Page {
    let month = window.days.as_deref() == Some("30");
    let (now, namespace) = (SystemTime::now(), parent.namespace.to_string());
    let span = if month { DAY * 30 } else { HOUR * 24 };
    let from = now.checked_sub(span - HOUR).unwrap_or(SystemTime::UNIX_EPOCH);
    let by = |group: v1::UsageGroup| v1::ListUsageRequest {
        parent: parent.to_string(),
        from: Some(from.into()),
        group_by: vec![group.into()],
        ..Default::default()
    };
    let (functions, hours, budget, shell) = tokio::join!(
        app.usage_export(&who, by(v1::UsageGroup::Function)),
        app.usage_export(&who, by(v1::UsageGroup::Hour)),
        budget(&app, &who, &parent.namespace),
        Shell::new(&app, &who, Some(&parent.namespace), Section::Usage),
    );
    let functions: Vec<Usage> = functions?.into_iter().map(Usage::from).collect();
    let hours: Vec<Usage> = hours?.into_iter().map(Usage::from).collect();
    let since = if month { Time::from(from).rfc3339() } else { "24h".to_owned() };
    render(&UsagePage {
        shell,
        month,
        chart: chart(&hours, from, now, if month { DAY } else { HOUR }),
        total: row("All", &functions),
        rows: functions.iter().map(|usage| row(usage.function.as_deref().unwrap_or("–"), [usage])).collect(),
        budget: budget?,
        command: format!("dunlin usage --since {since} --namespace {namespace}"),
        csv: format!("/api/v1/namespaces/{namespace}/usage.csv"),
        namespace,
    })
}

/// The bounds of the namespace's budget; none where it has no budget.
pub(super) async fn budget(app: &App, who: &Principal, namespace: &Namespace) -> Result<Vec<Bound>, ApiError> {
    let name = BudgetName { namespace: namespace.clone() }.to_string();
    match app.budget_get(who, v1::GetBudgetRequest { name }).await {
        Err(error) if error.code == ErrorCode::NotFound => Ok(Vec::new()),
        found => found.map(|found| bounds(&found.into())),
    }
}

fn bounds(budget: &Budget) -> Vec<Bound> {
    let bounds = [(&budget.calls, "calls"), (&budget.cpu_seconds, "CPU seconds")];
    let bounds = bounds.into_iter().filter_map(|(bound, what)| Some((bound.as_ref()?, what)));
    let shown = bounds.map(|(bound, what)| {
        let when = if bound.period == crate::admin::model::QuotaPeriod::Day { "today" } else { "this month" };
        let text = format!("{} of {} {what} {when}", bound.used, bound.amount);
        let (class, note) = match bound.state {
            BudgetState::Ok => ("ok", "within the budget"),
            BudgetState::Warning => ("warn", "much of it is used"),
            BudgetState::UsedUp if budget.enforce => ("bad", "used up: calls are refused"),
            BudgetState::UsedUp => ("bad", "used up"),
        };
        Bound { text, class, note }
    });
    shown.collect()
}

fn row<'a>(function: &str, lines: impl IntoIterator<Item = &'a Usage>) -> Row {
    let (mut calls, mut cpu, mut memory, mut bytes) = (0_u64, 0_u64, 0_u64, (0_u64, 0_u64));
    for line in lines {
        calls = calls.saturating_add(line.invocations);
        cpu = cpu.saturating_add(line.cpu_us);
        memory = memory.saturating_add(line.memory_byte_seconds);
        bytes = (bytes.0.saturating_add(line.bytes_in), bytes.1.saturating_add(line.bytes_out));
    }
    Row {
        function: function.to_owned(),
        calls,
        cpu: format::micros(cpu),
        memory: format!("{} s", format::bytes(memory)),
        bytes_in: format::bytes(bytes.0),
        bytes_out: format::bytes(bytes.1),
    }
}

/// Calls in each hour or day from one moment to another, those without any among them.
fn chart(hours: &[Usage], from: SystemTime, to: SystemTime, step: Duration) -> Chart {
    let place = |time: SystemTime| {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        seconds.checked_div(step.as_secs()).unwrap_or_default()
    };
    let mut calls: BTreeMap<u64, u64> = (place(from)..=place(to)).map(|place| (place, 0)).collect();
    for usage in hours {
        if let Some(sum) = usage.hour.and_then(|hour| calls.get_mut(&place(hour.at()))) {
            *sum = sum.saturating_add(usage.invocations);
        }
    }
    let (times, rows): (Vec<_>, Vec<_>) = calls.into_iter().map(|(place, calls)| named(place, step, calls)).unzip();
    let values = rows.iter().map(|(_, calls)| Some(*calls)).collect();
    let series = [Series { ink: Ink::First, name: "calls".to_owned(), values }];
    let picture = Picture { marks: Marks::Stacked, series: &series, times: &times, label: plot::short };
    let each = if step == DAY { "day" } else { "hour" };
    let total = rows.iter().map(|(_, calls)| calls).sum::<u64>();
    let summary = format!("Calls by {each} of UTC, {total} in all");
    let plot = Plot { id: "usage", title: "Calls", summary, legend: Vec::new(), drawing: picture.drawing() };
    Chart { plot, rows }
}

/// A time as a picture has it, and as a table has it with the calls in it.
fn named(place: u64, step: Duration, calls: u64) -> (String, (String, u64)) {
    let time = Time::from(SystemTime::UNIX_EPOCH + Duration::from_secs(place.saturating_mul(step.as_secs())));
    let text = time.for_people();
    let words = |from: usize, count: usize| text.chars().skip(from).take(count).collect::<String>();
    match step == DAY {
        true => (words(5, 5), (words(0, 10), calls)),
        false => (words(11, 5), (words(0, 16), calls)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(seconds: i64, invocations: u64) -> Usage {
        let hour = Some(prost_types::Timestamp { seconds, nanos: 0 });
        v1::Usage { hour, invocations, ..Default::default() }.into()
    }

    #[test]
    fn every_hour_and_every_day_has_a_bar() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let hours = [used(86_400, 3), used(90_000, 4), used(172_800, 5), used(0, 100)];
        let chart = chart(&hours, at(86_400 + 10), at(172_800 + 10), HOUR);
        assert_eq!((chart.rows.len(), chart.plot.summary.as_str()), (25, "Calls by hour of UTC, 12 in all"));
        assert_eq!(chart.rows[1], ("1970-01-02 01:00".to_owned(), 4));
        assert_eq!((chart.plot.drawing.matches("<rect").count(), chart.plot.drawing.contains("\n00:00\n")), (3, true));
        let daily = super::chart(&hours, at(86_400 + 10), at(172_800 + 10), DAY);
        assert_eq!((daily.rows.len(), &daily.rows[0]), (2, &("1970-01-02".to_owned(), 7)));
        assert!(daily.plot.drawing.contains("\n01-02\n"), "{}", daily.plot.drawing);
    }
}
