//! An open loop: calls leave at times that were fixed before the first one, whatever comes back, and their latency counts
//! from the time when they were due. Rates change in steps.
//!
//! What is in flight is bounded by the connections, so that the client survives a server that is ten times too slow: a call
//! that finds none free is counted as skipped and costs next to nothing.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use smol::{LocalExecutor, Timer, future};

use super::series::Series;
use crate::{
    client::{Connection, Request},
    process::{Cpu, Used, Watched},
    report::Report,
};

/// How long calls may take after the last one was due.
const PATIENCE: Duration = Duration::from_secs(40);
/// Calls that are sent before answers are looked at, where the client is behind its schedule.
const BATCH: usize = 32;

/// A rate that holds for a while, `RATE:SECONDS`.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Calls a second.
    rate: f64,
    /// How long.
    seconds: f64,
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rate, seconds) = text.split_once(':').context("it must be RATE:SECONDS")?;
        let step = Self { rate: rate.parse()?, seconds: seconds.parse()? };
        ensure!(step.rate > 0.0 && step.seconds > 0.0, "rate and seconds must be more than 0");
        Ok(step)
    }
}

/// What is called, and when.
pub struct Open {
    /// The call.
    pub request: Request,
    /// One after the other.
    pub steps: Vec<Step>,
    /// Calls in flight at the most.
    pub connections: usize,
    /// Width of a window of the time series.
    pub window: Duration,
    /// Whose CPU time is read.
    pub processes: Vec<Watched>,
}

/// What the calls share.
struct Shared {
    request: Request,
    idle: RefCell<Vec<Connection>>,
    in_flight: Cell<usize>,
    most: usize,
    reports: RefCell<Vec<Report>>,
    series: RefCell<Series>,
}

/// Sends calls at random times (a Poisson process) that are the same in every run; one report for each step, and a series.
///
/// # Errors
/// A process has gone.
pub fn open(Open { request, steps, connections, window, processes }: Open) -> anyhow::Result<Value> {
    let reports = steps.iter().map(|_| Report::new()).collect::<Result<_, _>>()?;
    let shared = Rc::new(Shared {
        request,
        idle: RefCell::default(),
        in_flight: Cell::new(0),
        most: connections,
        reports: RefCell::new(reports),
        series: RefCell::new(Series::new(window)),
    });
    let local = LocalExecutor::new();
    let used = smol::block_on(local.run(send_all(&local, &shared, &steps, &processes)))?;
    let reports = shared.reports.borrow();
    let each = steps.iter().zip(reports.iter()).zip(&used).map(|((step, report), used)| {
        let mut json = report.json(Duration::from_secs_f64(step.seconds), used);
        json["offered_per_second"] = json!(step.rate);
        json
    });
    Ok(json!({ "steps": each.collect::<Vec<_>>(), "series": shared.series.borrow().json() }))
}

async fn send_all<'a>(
    local: &LocalExecutor<'a>,
    shared: &Rc<Shared>,
    steps: &[Step],
    processes: &[Watched],
) -> anyhow::Result<Vec<Vec<Used>>> {
    let mut random = fastrand::Rng::with_seed(1);
    let begin = Instant::now();
    let (mut at, mut end, mut used) = (begin, begin, Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let cpu = Cpu::read(processes)?;
        end += Duration::from_secs_f64(step.seconds);
        let mut behind = 0;
        while at < end {
            wait_until(at, &mut behind).await;
            start(local, shared, number, at, begin);
            at += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / step.rate);
        }
        at = end;
        used.push(cpu.since()?);
    }
    let patience = Instant::now() + PATIENCE;
    while shared.in_flight.get() > 0 && Instant::now() < patience {
        Timer::after(Duration::from_millis(5)).await;
    }
    Ok(used)
}

/// Waits for the time of the next call. Where it has passed already, answers get their turn after every [`BATCH`] calls.
async fn wait_until(at: Instant, behind: &mut usize) {
    *behind += 1;
    if at > Instant::now() {
        *behind = 0;
        Timer::at(at).await;
    } else if *behind >= BATCH {
        *behind = 0;
        future::yield_now().await;
    }
}

/// Begins one call that was due at `at`, unless too many are in flight.
fn start<'a>(local: &LocalExecutor<'a>, shared: &Rc<Shared>, step: usize, at: Instant, begin: Instant) {
    let window = shared.series.borrow_mut().due(at - begin);
    if shared.in_flight.get() >= shared.most {
        shared.series.borrow_mut().skipped(window);
        shared.reports.borrow_mut()[step].skipped();
        return;
    }
    shared.in_flight.set(shared.in_flight.get() + 1);
    let shared = shared.clone();
    let call = async move {
        let outcome = call(&shared).await;
        shared.in_flight.set(shared.in_flight.get() - 1);
        let (report, after) = (&mut shared.reports.borrow_mut()[step], at.elapsed());
        match outcome {
            Ok(status) => {
                report.answered(status, after);
                let mut series = shared.series.borrow_mut();
                series.answered(window, status, after);
                if status == 200 {
                    series.done(begin.elapsed());
                }
            }
            Err(error) => {
                report.failed(&error);
                shared.series.borrow_mut().failed(window);
            }
        }
    };
    local.spawn(call).detach();
}

/// The connection that was used last, of those that are open still.
async fn idle(shared: &Shared) -> Option<Connection> {
    loop {
        let connection = shared.idle.borrow_mut().pop()?;
        if !connection.is_stale().await {
            return Some(connection);
        }
    }
}

async fn call(shared: &Shared) -> anyhow::Result<u16> {
    let mut connection = match idle(shared).await {
        Some(connection) => connection,
        None => Connection::open(&shared.request).await?,
    };
    let status = connection.exchange(&shared.request).await?;
    if connection.is_open() {
        shared.idle.borrow_mut().push(connection);
    }
    Ok(status)
}
