//! The requests of each function: how many, how they were answered, how long that took. A function's counters are looked up at
//! its first call and lie beside it from then on; counting is a few atomic additions.
//!
//! So many functions have counters of their own, and the others share some: whoever deploys function after function can make
//! neither this process nor a Prometheus run out of memory. What a deleted function has counted moves to the others' counters when
//! its place is needed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use dunlin_process::metrics::{
    Kind, Page,
    count::{CALLS, Counters, Histogram},
};
use dunlin_proto::names::FunctionRef;
use tokio::time::Instant;

use super::Counted;
use crate::{records::Record, routes::Function};

/// Functions with counters of their own.
const MOST: usize = 1_000;
/// Namespace and name of the others.
const OTHER: &str = "_other";
/// What a caller gets, by the first digit of its status. A caller that left gets nothing.
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of a function.
#[derive(Debug)]
pub(crate) struct Calls {
    statuses: Counters<{ STATUSES.len() }>,
    cold: Counters<1>,
    duration: Histogram,
    all: Counted,
}

impl Calls {
    fn new(all: Counted) -> Self {
        Self { statuses: Counters::default(), cold: Counters::default(), duration: Histogram::new(CALLS), all }
    }

    /// An invocation has ended.
    pub(crate) fn ended(&self, record: &Record) {
        if !record.worker.is_empty() && !record.receipt.start.is_zero() {
            self.cold.add(0, 1);
        }
        self.all.ended(record);
    }

    /// The spans of an invocation are on their way to the collector: its trace is one that can be found.
    pub(crate) fn traced(&self, record: &Record) {
        if record.came.traced.exported {
            self.duration.exemplify(record.lasted(), record.came.trace);
        }
    }

    /// Takes over what another function has counted.
    fn absorb(&self, other: &Self) {
        (0..STATUSES.len()).for_each(|status| self.statuses.add(status, other.statuses.get(status)));
        self.cold.add(0, other.cold.get(0));
        self.duration.absorb(&other.duration.read());
    }
}

/// A request until it is answered. Dropped before, its caller has left.
#[derive(Debug)]
pub(crate) struct Asking {
    calls: Arc<Calls>,
    since: Instant,
    status: u16,
}

impl Asking {
    /// A request of a function that came at this time.
    pub(crate) fn begin(calls: Arc<Calls>, since: Instant) -> Self {
        Self { calls, since, status: 0 }
    }

    /// It is answered.
    pub(crate) fn answered(mut self, status: u16) {
        self.status = status;
        self.calls.duration.observe(self.since.elapsed());
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.calls.statuses.add(usize::from(self.status / 100), 1);
    }
}

/// The counters of all functions. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Series(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    named: Mutex<BTreeMap<FunctionRef, Arc<Calls>>>,
    other: Arc<Calls>,
    all: Counted,
}

impl Series {
    /// Nothing is counted yet; what all calls count goes to `all`, too.
    pub(crate) fn new(all: Counted) -> Self {
        Self(Arc::new(Inner { named: Mutex::default(), other: Arc::new(Calls::new(all.clone())), all }))
    }

    /// A function's counters.
    pub(crate) fn of<'a>(&self, function: &'a Function) -> &'a Arc<Calls> {
        function.quota.usage.calls.get_or_init(|| self.find(&function.name))
    }

    fn find(&self, name: &FunctionRef) -> Arc<Calls> {
        let mut named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = named.get(name) {
            return calls.clone();
        }
        if named.len() >= MOST {
            named.retain(|_, calls| self.is_needed(calls));
        }
        if named.len() >= MOST {
            return self.0.other.clone();
        }
        let calls = Arc::new(Calls::new(self.0.all.clone()));
        named.insert(name.clone(), calls.clone());
        calls
    }

    /// Whether somebody may still count with it; what nobody does goes to the others' counters.
    fn is_needed(&self, calls: &Arc<Calls>) -> bool {
        let needed = Arc::strong_count(calls) > 1;
        if !needed {
            self.0.other.absorb(calls);
        }
        needed
    }

    /// Everything counted, with the others' last.
    fn all(&self) -> Vec<(Option<FunctionRef>, Arc<Calls>)> {
        let named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
        let named = named.iter().map(|(name, calls)| (Some(name.clone()), calls.clone()));
        named.chain([(None, self.0.other.clone())]).collect()
    }

    pub(super) fn write(&self, page: &mut Page) {
        let all: Vec<_> = self.all().into_iter().map(|(name, calls)| (labels(name.as_ref()), calls)).collect();
        let help =
            "Requests of a function, by the first digit of the answer's status; none where the caller left before.";
        let mut family = page.family(Kind::Counter, "dunlin_gateway_requests_total", help);
        for ([namespace, function], calls) in &all {
            for (index, status) in STATUSES.iter().enumerate() {
                let count = calls.statuses.get(index);
                // What every function has is shown from the start, so that rates begin at 0.
                if count > 0 || matches!(*status, "2xx" | "5xx") {
                    let labels = [("namespace", &**namespace), ("function", &**function), ("status", *status)];
                    family.add(&labels, count);
                }
            }
        }
        let help = "Time from a request's head to that of its answer.";
        let mut family = page.family(Kind::Histogram, "dunlin_gateway_request_duration_seconds", help);
        for ([namespace, function], calls) in &all {
            family.spread(&[("namespace", namespace), ("function", function)], &calls.duration.read());
        }
        let help = "Invocations for which no sandbox was ready.";
        let mut family = page.family(Kind::Counter, "dunlin_gateway_cold_starts_total", help);
        for ([namespace, function], calls) in &all {
            family.add(&[("namespace", namespace), ("function", function)], calls.cold.get(0));
        }
    }
}

fn labels(name: Option<&FunctionRef>) -> [String; 2] {
    match name {
        Some(FunctionRef { namespace, function }) => [namespace.to_string(), function.to_string()],
        None => [OTHER, OTHER].map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_process::metrics::Format;

    use super::*;
    use crate::records::a_record;

    fn name(number: usize) -> FunctionRef {
        format!("namespaces/shop/functions/f{number}").parse().unwrap()
    }

    fn text(series: &Series) -> String {
        let mut page = Page::new(Format::Prometheus);
        series.write(&mut page);
        page.finish()
    }

    fn ask(calls: &Arc<Calls>, status: u16) {
        Asking::begin(calls.clone(), Instant::now()).answered(status);
    }

    #[test]
    fn counts_match_calls() {
        let series = Series::new(Counted::default());
        let calls = series.find(&name(1));
        [200, 204, 404, 503].into_iter().for_each(|status| ask(&calls, status));
        drop(Asking::begin(calls.clone(), Instant::now()));
        let text = text(&series);
        for (status, count) in [("2xx", 2), ("4xx", 1), ("5xx", 1), ("none", 1)] {
            let line = format!(
                "dunlin_gateway_requests_total{{namespace=\"shop\",function=\"f1\",status=\"{status}\"}} {count}\n"
            );
            assert!(text.contains(&line), "{text}");
        }
        assert!(!text.contains("3xx"), "what nobody got has no series: {text}");
        assert!(text.contains("duration_seconds_count{namespace=\"shop\",function=\"f1\"} 4\n"), "{text}");
    }

    #[test]
    fn a_hostile_number_of_functions_makes_a_bounded_number_of_series() {
        let series = Series::new(Counted::default());
        let held: Vec<_> = (0..MOST + 500).map(|number| series.find(&name(number))).collect();
        held.iter().for_each(|calls| ask(calls, 200));
        let text = text(&series);
        let lines =
            text.lines().filter(|line| line.starts_with("dunlin_gateway_request_duration_seconds_count")).count();
        assert_eq!(lines, MOST + 1);
        let other = "dunlin_gateway_requests_total{namespace=\"_other\",function=\"_other\",status=\"2xx\"} 500\n";
        assert!(text.contains(other), "what has no series is counted all the same");
        assert!("_other".parse::<dunlin_proto::ids::FunctionName>().is_err(), "no function can have its name");
    }

    #[test]
    fn deleted_functions_make_room_and_nothing_is_lost() {
        let series = Series::new(Counted::default());
        for number in 0..MOST {
            ask(&series.find(&name(number)), 200);
        }
        let late = series.find(&name(MOST));
        ask(&late, 200);
        let text = text(&series);
        let sum: u64 = text
            .lines()
            .filter(|line| line.starts_with("dunlin_gateway_requests_total"))
            .map(|line| line.split(' ').next_back().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, MOST as u64 + 1);
        assert!(text.contains(&format!("function=\"f{MOST}\",status=\"2xx\"}} 1\n")), "{text}");
        assert!(Arc::ptr_eq(&late, &series.find(&name(MOST))));
    }

    #[test]
    fn only_a_trace_that_is_exported_is_an_exemplar() {
        let series = Series::new(Counted::default());
        let calls = series.find(&name(1));
        let mut record = a_record("shop", "f1");
        (record.came.trace, record.came.traced.lasted) = (0x7b, Duration::from_millis(40));
        let mut shown = |exported| {
            record.came.traced.exported = exported;
            calls.duration.observe(record.lasted());
            calls.traced(&record);
            let mut page = Page::new(Format::OpenMetrics);
            series.write(&mut page);
            page.finish().contains(&format!(" # {{trace_id=\"{:032x}\"}} 0.04 ", 0x7b))
        };
        assert!(!shown(false) && shown(true));
    }
}
