//! The two ways to load a server. A closed loop finds its ceiling; an open loop finds what callers see below and above it,
//! since their arrivals do not wait for answers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use smol::{LocalExecutor, Timer};

use crate::{
    client::{Connection, Request},
    process::{Cpu, Watched},
    report::Report,
};

/// Keeps `connections` calls in flight.
pub fn closed(
    request: Request,
    connections: usize,
    [warm_up, seconds]: [Duration; 2],
    processes: &[Watched],
) -> anyhow::Result<serde_json::Value> {
    let report = Rc::new(RefCell::new(Report::new()?));
    let local = LocalExecutor::new();
    let (request, begin) = (Rc::new(request), Instant::now() + warm_up);
    let end = begin + seconds;
    smol::block_on(local.run(async {
        let callers: Vec<_> = (0..connections)
            .map(|_| local.spawn(caller(request.clone(), report.clone(), [begin, end])))
            .collect();
        Timer::at(begin).await;
        let cpu = Cpu::read(processes)?;
        Timer::at(end).await;
        let used = cpu.since()?;
        for caller in callers {
            caller.await?;
        }
        let json = report.borrow().json(seconds, &used);
        Ok(json)
    }))
}

async fn caller(request: Rc<Request>, report: Rc<RefCell<Report>>, [begin, end]: [Instant; 2]) -> anyhow::Result<()> {
    let mut connection = Connection::open(&request).await?;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(());
        }
        let status = connection.exchange(&request).await?;
        let now = Instant::now();
        if now >= begin && now < end {
            report.borrow_mut().answered(status, now - sent);
        }
    }
}

/// What the calls of an open loop share.
struct Open {
    request: Request,
    idle: RefCell<Vec<Connection>>,
    open: Cell<usize>,
    most: usize,
    report: RefCell<Report>,
}

/// Sends `rate` calls a second at random times (a Poisson process), on as many connections as that takes.
pub fn open(
    request: Request,
    rate: f64,
    most: usize,
    [warm_up, seconds]: [Duration; 2],
    processes: &[Watched],
) -> anyhow::Result<serde_json::Value> {
    let shared = Rc::new(Open {
        request,
        idle: RefCell::default(),
        open: Cell::new(0),
        most,
        report: RefCell::new(Report::new()?),
    });
    let local = LocalExecutor::new();
    // The same schedule in every run.
    let mut random = fastrand::Rng::with_seed(1);
    smol::block_on(local.run(async {
        let mut at = Instant::now();
        let begin = at + warm_up;
        let end = begin + seconds;
        let (mut cpu, mut calls) = (None, Vec::new());
        while at < end {
            Timer::at(at).await;
            if at >= begin && cpu.is_none() {
                cpu = Some(Cpu::read(processes)?);
            }
            calls.push(local.spawn(call(shared.clone(), at, at >= begin)));
            calls.retain(|call| !call.is_finished());
            at += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        }
        let used = match cpu {
            Some(cpu) => cpu.since()?,
            None => Vec::new(),
        };
        for call in calls {
            call.await;
        }
        let json = shared.report.borrow().json(seconds, &used);
        Ok(json)
    }))
}

/// One call that was due at `at`.
async fn call(shared: Rc<Open>, at: Instant, counts: bool) {
    let idle = shared.idle.borrow_mut().pop();
    let outcome = match idle {
        Some(connection) => exchange(&shared, connection).await,
        None if shared.open.get() >= shared.most => Err(anyhow::anyhow!("no free connection")),
        None => {
            shared.open.set(shared.open.get() + 1);
            match Connection::open(&shared.request).await {
                Ok(connection) => exchange(&shared, connection).await,
                Err(error) => {
                    shared.open.set(shared.open.get() - 1);
                    Err(error)
                }
            }
        }
    };
    if counts {
        let mut report = shared.report.borrow_mut();
        match outcome {
            Ok(status) => report.answered(status, at.elapsed()),
            Err(error) => report.failed(&error),
        }
    }
}

async fn exchange(shared: &Open, mut connection: Connection) -> anyhow::Result<u16> {
    let status = connection.exchange(&shared.request).await;
    match &status {
        Ok(_) => shared.idle.borrow_mut().push(connection),
        Err(_) => shared.open.set(shared.open.get() - 1),
    }
    status
}
