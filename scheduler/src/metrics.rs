//! What the scheduler tells Prometheus: the cluster as it sees it, its decisions, deploys, and how its database does.
//!
//! How numbers become text is `dunlin_process::metrics`'s. The view of the cluster is read at a scrape; what happens is counted
//! where it happens. Nothing is labelled by tenant, function, worker or gateway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dunlin_process::metrics::{
    Kind, Metrics, Page,
    count::{Counters, Histogram, TASKS, WAITS},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    app::App,
    cluster::{Cluster, HeldState},
    error::Error,
    lending::Lost,
    store::Store,
};

/// How often the database is asked whether it answers.
const PROBE: Duration = Duration::from_secs(5);

/// How a deploy ended, in the order of its counters.
const OUTCOMES: [&str; 3] = ["succeeded", "refused", "failed"];

/// What happens to deploys.
#[derive(Debug)]
pub(crate) struct DeployCounts {
    outcomes: Counters<{ OUTCOMES.len() }>,
    took: Histogram,
}

impl Default for DeployCounts {
    fn default() -> Self {
        Self { outcomes: Counters::default(), took: Histogram::new(TASKS) }
    }
}

impl DeployCounts {
    /// A deploy has ended after so long. Where its artifact or request was wrong, the platform did what it should.
    pub(crate) fn ended<T>(&self, outcome: &Result<T, Error>, took: Duration) {
        let index = match outcome {
            Ok(_) => 0,
            Err(Error::Api(error)) if error.code.http_status() < 500 => 1,
            Err(_) => 2,
        };
        self.outcomes.add(index, 1);
        self.took.observe(took);
    }
}

/// How the database does.
#[derive(Debug)]
pub(crate) struct Probe {
    took: Histogram,
    /// Answers, then failures.
    answers: Counters<2>,
    up: AtomicBool,
}

impl Default for Probe {
    fn default() -> Self {
        Self { took: Histogram::new(WAITS), answers: Counters::default(), up: AtomicBool::new(true) }
    }
}

impl Probe {
    /// Asks the database again and again; who calls it ends it.
    pub(crate) async fn run(&self, store: &Store) {
        loop {
            let began = Instant::now();
            let answered = store.probe().await;
            self.took.observe(began.elapsed());
            self.answers.add(usize::from(answered.is_err()), 1);
            self.up.store(answered.is_ok(), Ordering::Relaxed);
            tokio::time::sleep(PROBE).await;
        }
    }

    fn write(&self, page: &mut Page) {
        let up = self.up.load(Ordering::Relaxed);
        page.gauge("dunlin_scheduler_database_up", "Whether the database answered the last question.", up);
        let help =
            "Time that the database took for a question of the smallest kind, waiting for a connection included.";
        page.histogram("dunlin_scheduler_database_probe_duration_seconds", help, &self.took.read());
        let help = "Such questions that the database did not answer.";
        page.counter("dunlin_scheduler_database_probe_failures_total", help, self.answers.get(1));
    }
}

/// Tells a process's metrics what the scheduler counts and knows, once its database is there.
pub(crate) fn register(metrics: &Metrics, app: watch::Receiver<Option<Arc<App>>>) {
    metrics.add(move |page| {
        let app = app.borrow().clone();
        page.gauge("dunlin_scheduler_ready", "Whether the scheduler has its database.", app.is_some());
        if let Some(app) = app {
            write(page, &app);
        }
    });
}

fn write(page: &mut Page, app: &App) {
    let now = Instant::now();
    let help = "Workers that the load of the cluster asks for.";
    page.gauge("dunlin_scheduler_workers_wanted", help, app.board.wanted_workers());
    View::of(&app.board.cluster(), now).write(page);
    app.freed.write(page);
    let help = "Time that it took to decide where every version runs; the count is that of decisions.";
    page.histogram("dunlin_scheduler_placement_decision_duration_seconds", help, &app.board.decisions().read());
    let placements = app.board.placements().borrow().clone();
    let (sequence, versions) = placements.map_or((0, 0), |placed| (placed.sequence, placed.versions.len()));
    let help = "Changes of where versions run that were told to gateways.";
    page.counter("dunlin_scheduler_placement_changes_total", help, sequence);
    page.gauge("dunlin_scheduler_versions_placed", "Versions that are ready on a worker at least.", versions);
    let catalog = app.catalog.current();
    page.gauge("dunlin_scheduler_configuration_version", "Version of the configuration.", catalog.version);
    page.gauge("dunlin_scheduler_functions", "Functions of all namespaces.", catalog.functions.len());
    deploys(page, app);
    let (lent, holders, awaited) = app.lending.census();
    page.gauge(
        "dunlin_scheduler_limits_lent",
        "Limits of calls in a time that gateways have asked for shares of.",
        lent,
    );
    let help = "Gateways that may hold shares of limits.";
    page.gauge("dunlin_scheduler_limit_holders", help, holders);
    let help = "Of these, those that have not said yet what they hold since the scheduler began.";
    page.gauge("dunlin_scheduler_limit_holders_awaited", help, awaited);
    lost_shares(page, app.lending.lost());
    app.probe.write(page);
    app.webhooks.write(page);
}

fn lost_shares(page: &mut Page, lost: Lost) {
    let help = "Gateways that were not heard for so long that their shares of limits were lent again; cut off and alive, they go on \
                with them.";
    page.counter("dunlin_scheduler_limit_holders_lost_total", help, lost.gateways);
    let help = "Shares of limits that were lent again because their gateway was not heard: by as much, calls may exceed a limit.";
    let mut family = page.family(Kind::Counter, "dunlin_scheduler_limit_shares_lost_total", help);
    for (kind, shares) in [("rate", lost.rates), ("concurrency", lost.at_once)] {
        family.add(&[("kind", kind)], shares);
    }
}

fn deploys(page: &mut Page, app: &App) {
    let counted = app.deploys.counted();
    let help = "Deploys that have ended, by their outcome: refused where the artifact or the request was wrong.";
    let mut family = page.family(Kind::Counter, "dunlin_scheduler_deploys_total", help);
    for (index, outcome) in OUTCOMES.iter().enumerate() {
        family.add(&[("outcome", outcome)], counted.outcomes.get(index));
    }
    let help = "Time from a deploy's request to its end.";
    page.histogram("dunlin_scheduler_deploy_duration_seconds", help, &counted.took.read());
    let (running, waiting) = app.codes.workshop.queue.now();
    page.gauge("dunlin_scheduler_compilers_running", "Compilers that run.", running);
    page.gauge("dunlin_scheduler_compilers_waiting", "Artifacts that wait for a compiler.", waiting);
}

/// The cluster in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct View {
    accepting: u64,
    drained: u64,
    leaving: u64,
    lost: u64,
    gateways: usize,
    assigned: u64,
    ready: u64,
    loading: u64,
    failed: u64,
    capacity: u64,
    in_flight: u64,
    queued: u64,
}

impl View {
    fn of(cluster: &Cluster, now: Instant) -> Self {
        let mut view = Self { gateways: cluster.gateways().len(), ..Self::default() };
        for (id, worker) in cluster.workers() {
            let state = if worker.is_silent(now) {
                &mut view.lost
            } else if cluster.is_drained(id) {
                &mut view.drained
            } else if worker.report.as_ref().is_some_and(|report| report.leaving) {
                &mut view.leaving
            } else {
                &mut view.accepting
            };
            *state += 1;
            if worker.is_silent(now) {
                continue;
            }
            view.capacity += u64::from(worker.capacity());
            view.assigned += worker.assignment.borrow().versions.len() as u64;
            for (_, held) in worker.held() {
                let state = match held.state {
                    HeldState::Ready => &mut view.ready,
                    HeldState::Loading => &mut view.loading,
                    HeldState::Failed(_) => &mut view.failed,
                };
                *state += 1;
                view.in_flight += u64::from(held.in_flight);
                view.queued += u64::from(held.queued);
            }
        }
        view
    }

    fn write(&self, page: &mut Page) {
        let help = "Workers, by their state: only accepting ones get versions.";
        let mut family = page.family(Kind::Gauge, "dunlin_scheduler_workers", help);
        for (state, count) in
            [("accepting", self.accepting), ("drained", self.drained), ("leaving", self.leaving), ("lost", self.lost)]
        {
            family.add(&[("state", state)], count);
        }
        page.gauge("dunlin_scheduler_gateways", "Gateways that are connected.", self.gateways);
        let help = "Invocations that the workers may run at once, all together.";
        page.gauge("dunlin_scheduler_workers_capacity", help, self.capacity);
        let help = "Versions that workers shall hold, each counted on each of its workers.";
        page.gauge("dunlin_scheduler_versions_assigned", help, self.assigned);
        let help = "Versions that workers hold, each counted on each of its workers, by their state.";
        let mut family = page.family(Kind::Gauge, "dunlin_scheduler_versions_held", help);
        for (state, count) in [("ready", self.ready), ("loading", self.loading), ("failed", self.failed)] {
            family.add(&[("state", state)], count);
        }
        let help = "Invocations that run on workers, as they said last.";
        page.gauge("dunlin_scheduler_invocations_in_flight", help, self.in_flight);
        let help = "Invocations that wait on workers, as they said last.";
        page.gauge("dunlin_scheduler_invocations_queued", help, self.queued);
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        ApiError, ErrorCode,
        ids::{FunctionUid, VersionKey, VersionNumber},
    };

    use super::*;
    use crate::{
        cluster::{EndpointSpec, Held, WorkerHello, WorkerReport},
        model::Time,
    };

    /// A worker that has reported these states.
    fn join(cluster: &mut Cluster, name: &str, states: &[HeldState], now: Instant) {
        let endpoint = EndpointSpec {
            id: format!("{name}/0"),
            address: "127.0.0.1:9".into(),
            fingerprint: "e".into(),
            capacity: 10,
        };
        let hello = WorkerHello {
            worker: name.parse().unwrap(),
            incarnation: "1".into(),
            software_version: "1".into(),
            endpoints: vec![endpoint],
            zone: String::new(),
        };
        let held = |state: &HeldState| {
            let key = VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST };
            let held = Held {
                state: state.clone(),
                in_flight: 2,
                queued: 1,
                prepared: 0,
                queue_delay: Duration::ZERO,
                reuse_refusal: None,
            };
            (key, held)
        };
        let report = WorkerReport { versions: states.iter().map(held).collect(), ..WorkerReport::default() };
        let (session, _) = cluster.worker_join(hello, now, Time(0)).unwrap();
        cluster.worker_report(&name.parse().unwrap(), session, report, now, Time(0)).unwrap();
    }

    #[test]
    fn the_cluster_is_counted_as_placement_sees_it() {
        let (mut cluster, now) = (Cluster::default(), Instant::now());
        join(&mut cluster, "old", &[HeldState::Ready], now);
        let later = now + Duration::from_secs(60);
        join(&mut cluster, "a", &[HeldState::Ready, HeldState::Loading], later);
        join(&mut cluster, "b", &[HeldState::Ready, HeldState::Failed("x".into())], later);
        cluster.set_drained(&"b".parse().unwrap(), true);
        let wanted = View {
            accepting: 1,
            drained: 1,
            lost: 1,
            ready: 2,
            loading: 1,
            failed: 1,
            capacity: 20,
            in_flight: 8,
            queued: 4,
            ..View::default()
        };
        assert_eq!(View::of(&cluster, later), wanted);
    }

    #[test]
    fn who_is_to_blame_for_a_deploy_is_told_apart() {
        let counts = DeployCounts::default();
        let second = Duration::from_secs(1);
        counts.ended(&Ok(()), second);
        for code in [ErrorCode::InvalidArtifact, ErrorCode::NotFound, ErrorCode::Unavailable] {
            counts.ended::<()>(&Err(ApiError::new(code, "x").into()), second);
        }
        counts.ended::<()>(&Err(Error::Lost("x".to_owned())), second);
        assert_eq!([0, 1, 2].map(|index| counts.outcomes.get(index)), [1, 2, 2]);
        assert_eq!(counts.took.read().count(), 5);
    }
}
