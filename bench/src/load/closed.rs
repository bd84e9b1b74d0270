//! A closed loop: each caller sends its next call when it has the answer to the last.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use serde_json::Value;
use smol::{LocalExecutor, Timer};

use crate::{
    client::{Connection, Request},
    process::{Cpu, Watched},
    report::Report,
};

/// Keeps `connections` calls in flight.
///
/// # Errors
/// A call had no answer, or a process has gone.
pub fn closed(
    request: Request,
    connections: usize,
    [warm_up, seconds]: [Duration; 2],
    processes: &[Watched],
) -> anyhow::Result<Value> {
    let report = Rc::new(RefCell::new(Report::new()?));
    let local = LocalExecutor::new();
    let (request, begin) = (Rc::new(request), Instant::now() + warm_up);
    let end = begin + seconds;
    smol::block_on(local.run(async {
        let callers: Vec<_> =
            (0..connections).map(|_| local.spawn(caller(request.clone(), report.clone(), [begin, end]))).collect();
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
        if !connection.is_open() {
            connection = Connection::open(&request).await?;
        }
        let status = connection.exchange(&request).await?;
        let now = Instant::now();
        if now >= begin && now < end {
            report.borrow_mut().answered(status, now - sent);
        }
    }
}
