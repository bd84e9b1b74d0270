//! Tells the scheduler once a second what was used. A report is repeated as it was until it is answered, and the scheduler counts each
//! once: a process that is killed loses a second at the most, and a lost answer counts nothing twice.

use std::time::Duration;

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{ids::GatewayId, internal::v1::ReportUsageRequest};
use tonic::{Code, Status};

use super::{Metering, outbox::Outbox, seconds};
use crate::upstream::Scheduler;

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a process that ends waits for it.
const LAST: Duration = Duration::from_millis(1_500);

/// Reports what was used.
#[derive(Debug)]
pub(crate) struct Reporter {
    metering: Metering,
    gateway: GatewayId,
    scheduler: Scheduler,
    /// Tells reports of this process from those of an earlier one.
    boot: u64,
    outbox: Outbox,
    /// Whether the last report failed.
    failing: bool,
}

impl Reporter {
    /// Reports in the name of this gateway.
    pub(crate) fn new(metering: Metering, gateway: GatewayId, scheduler: Scheduler) -> Self {
        let (boot, outbox) = (rand::random(), Outbox::default());
        Self { metering, gateway, scheduler, boot, outbox, failing: false }
    }

    /// Reports until `shutdown`, and then what is left.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.has_begun() {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.begun() => break,
            }
            tokio::select! {
                () = self.report() => {}
                // What was on its way is sent again as it was.
                () = shutdown.begun() => {}
            }
        }
        if tokio::time::timeout(LAST, self.report()).await.is_err() || self.outbox.next().is_some() {
            tracing::warn!("what invocations used last could not be reported; it is not counted");
        }
    }

    /// Reports all that there is, as long as it is answered.
    async fn report(&mut self) {
        // Off by a second at the most at the change of an hour.
        let now = seconds();
        self.metering.drain(&mut self.outbox, now - now.rem_euclid(3_600));
        while let Some((sequence, deltas)) = self.outbox.next() {
            let request = ReportUsageRequest { gateway: self.gateway.to_string(), boot: self.boot, sequence, deltas };
            match tokio::time::timeout(PATIENCE, self.scheduler.sync().report_usage(request)).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => return self.failed(&status),
                Err(_) => return self.failed(&Status::unavailable(format!("no answer within {PATIENCE:?}"))),
            }
            self.failing = false;
            self.outbox.answered();
        }
    }

    /// Says once why what is counted waits. That the scheduler is away is said where its stream ends.
    fn failed(&mut self, status: &Status) {
        let said = std::mem::replace(&mut self.failing, true);
        match (said, status.code()) {
            (true, _) => {}
            (false, Code::Unavailable) => tracing::info!(error = %status, "usage can't be reported now; it waits"),
            (false, _) => tracing::warn!(error = %status, "usage can't be reported; it waits"),
        }
    }
}
