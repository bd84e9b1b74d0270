//! Every URL of a list once: all at the same moment, or so many at a time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use serde_json::Value;
use smol::LocalExecutor;

use crate::{
    client::{Connection, Request},
    process::{Cpu, Watched},
    report::Report,
};

/// Connections that are opened before the first call. Servers do not wait long for the first request on one, so others are
/// opened when they are used.
const OPENED_BEFORE: usize = 1000;

/// What is called, and how much of it at a time.
pub struct Once {
    /// All of them on one host.
    pub requests: Vec<Request>,
    /// Calls in flight; the connections of the first thousand are open before a call is sent.
    pub in_flight: usize,
    /// Whose CPU time is read.
    pub processes: Vec<Watched>,
}

/// What the callers share.
struct Shared {
    requests: Vec<Request>,
    next: Cell<usize>,
    report: RefCell<Report>,
}

/// Calls all of them.
///
/// # Errors
/// The server can't be reached, or a process has gone.
pub fn once(Once { requests, in_flight, processes }: Once) -> anyhow::Result<Value> {
    let local = LocalExecutor::new();
    smol::block_on(local.run(async {
        let mut connections = Vec::new();
        for (number, request) in requests.iter().take(in_flight).enumerate() {
            connections.push(if number < OPENED_BEFORE { Some(Connection::open(request).await?) } else { None });
        }
        let shared = Rc::new(Shared { requests, next: Cell::new(0), report: RefCell::new(Report::new()?) });
        let (cpu, begun) = (Cpu::read(&processes)?, Instant::now());
        let callers: Vec<_> =
            connections.into_iter().map(|connection| local.spawn(caller(shared.clone(), connection))).collect();
        for caller in callers {
            caller.await;
        }
        let (took, used) = (begun.elapsed(), cpu.since()?);
        let json = shared.report.borrow().json(took, &used);
        Ok(json)
    }))
}

async fn caller(shared: Rc<Shared>, mut connection: Option<Connection>) {
    loop {
        let next = shared.next.get();
        let Some(request) = shared.requests.get(next) else { return };
        shared.next.set(next + 1);
        let sent = Instant::now();
        let outcome = call(&mut connection, request).await;
        let mut report = shared.report.borrow_mut();
        match outcome {
            Ok(status) => report.answered(status, sent.elapsed()),
            Err(error) => report.failed(&error),
        }
    }
}

async fn call(kept: &mut Option<Connection>, request: &Request) -> anyhow::Result<u16> {
    let mut connection = match kept.take() {
        Some(connection) if connection.is_open() => connection,
        _ => Connection::open(request).await?,
    };
    let status = connection.exchange(request).await?;
    *kept = Some(connection);
    Ok(status)
}
