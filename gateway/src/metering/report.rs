//! Tells the scheduler once a second what was used. A report is repeated as it was until it is answered, and the scheduler counts each
//! once; what is not answered is on disk within a second, for the next process to repeat (`kept`): a process that is killed loses a
//! second at the most, whether or not the scheduler is there, and a lost answer counts nothing twice.

use std::{path::PathBuf, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{ids::GatewayId, internal::v1::ReportUsageRequest};
use tonic::{Code, Status};

use super::{Metering, kept::Kept, outbox::Outbox, seconds};
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
    scheduler: Scheduler,
    outbox: Outbox,
    kept: Kept,
    /// Whether the file has not what the outbox had when it was last asked.
    unkept: bool,
    /// Whether the last report failed.
    failing: bool,
}

impl Reporter {
    /// Reports in the name of this gateway, and before that what its last process could not: that is in the file.
    pub(crate) fn new(metering: Metering, gateway: &GatewayId, scheduler: Scheduler, file: PathBuf) -> Self {
        let (kept, earlier) = Kept::open(file);
        if !earlier.is_empty() {
            tracing::info!(reports = earlier.len(), "usage that was not reported before is reported now");
        }
        let outbox = Outbox::new(gateway.to_string(), rand::random(), earlier);
        Self { metering, scheduler, outbox, kept, unkept: false, failing: false }
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
        let in_time = tokio::time::timeout(LAST, self.report()).await.is_ok();
        if in_time && self.outbox.first().is_none() {
            return;
        }
        match self.keep().await {
            true => tracing::info!("what invocations used last could not be reported; the next start does so"),
            false => tracing::warn!("what invocations used last could not be reported; it is not counted"),
        }
    }

    /// Reports all that there is, as long as it is answered.
    async fn report(&mut self) {
        self.drain();
        loop {
            if self.outbox.make() && self.kept.is_there() && !self.keep().await {
                // It may divide among reports otherwise what is sent from now on, and would count some of it again.
                self.kept.remove().await;
            }
            let Some(report) = self.outbox.first().cloned() else { break };
            if let Err(status) = self.send(report).await {
                self.failed(&status);
                self.keep().await;
                return;
            }
            self.failing = false;
            self.outbox.answered();
        }
        if self.kept.is_there() {
            self.kept.remove().await;
            self.unkept = false;
        }
    }

    fn drain(&mut self) {
        // Off by a second at the most at the change of an hour.
        let now = seconds();
        self.metering.drain(&mut self.outbox, now - now.rem_euclid(3_600));
    }

    /// Sends a report. What comes while its answer is waited for is kept meanwhile.
    async fn send(&mut self, report: ReportUsageRequest) -> Result<(), Status> {
        let mut scheduler = self.scheduler.sync();
        let late = |_| Status::unavailable(format!("no answer within {PATIENCE:?}"));
        let answer = async { tokio::time::timeout(PATIENCE, scheduler.report_usage(report)).await.map_err(late)? };
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map(drop),
                () = tokio::time::sleep(EVERY) => {
                    self.drain();
                    self.keep().await;
                }
            }
        }
    }

    /// Keeps on disk what has not been answered, where it is not there already. Says whether it is.
    async fn keep(&mut self) -> bool {
        if !self.unkept && !self.outbox.has_news() {
            return true;
        }
        let reports = self.outbox.copied();
        self.unkept = true;
        self.unkept = !self.kept.write(reports).await;
        !self.unkept
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
