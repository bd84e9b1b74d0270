//! Reads the log of one worker and sends on what it says; ends when the worker does, or nobody listens.

use dunlin_proto::{
    ApiError,
    internal::v1::{
        LogPosition, ReadWorkerLogsRequest, ReadWorkerLogsResponse, worker_log_service_client::WorkerLogServiceClient,
    },
    v1,
};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::super::fanout::PATIENCE;
use crate::upstream::Secured;

/// What a reader has to say.
#[derive(Debug)]
pub(super) enum Event {
    /// A line.
    Line(v1::LogLine),
    /// Lines that are missing.
    Gap(v1::LogGap),
    /// This worker has looked at everything up to here. The first time it has sent what it had; more may come.
    Position(String, LogPosition),
    /// This worker did not answer.
    Unreachable(String),
    /// This worker has no more to say.
    Ended(String),
}

/// One worker to read.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) worker: String,
    pub(super) question: ReadWorkerLogsRequest,
    /// Whether to say that it can't be reached; a follower says it once each time.
    pub(super) report_failure: bool,
    pub(super) send: mpsc::Sender<Event>,
}

impl Reader {
    /// Reads to the end.
    pub(super) async fn run(self, client: Result<WorkerLogServiceClient<Secured>, ApiError>) {
        let last = match self.read(client).await {
            Ok(()) => Event::Ended(self.worker.clone()),
            Err(error) => {
                tracing::debug!(worker = self.worker, %error, "the worker's log can't be read");
                let worker = self.worker.clone();
                if self.report_failure { Event::Unreachable(worker) } else { Event::Ended(worker) }
            }
        };
        // Whoever asked may have left.
        let _ = self.send.send(last).await;
    }

    async fn read(&self, client: Result<WorkerLogServiceClient<Secured>, ApiError>) -> Result<(), ApiError> {
        let mut client = client?;
        let opened = tokio::time::timeout(PATIENCE, client.read_worker_logs(self.question.clone())).await;
        let mut responses = opened.map_err(|_| ApiError::internal())??.into_inner();
        while self.pass(&mut responses).await? {}
        Ok(())
    }

    /// Sends on what comes next; false at the end.
    async fn pass(&self, responses: &mut Streaming<ReadWorkerLogsResponse>) -> Result<bool, ApiError> {
        let Some(ReadWorkerLogsResponse { line, gap, position }) = responses.message().await? else { return Ok(false) };
        // The name under which the worker is known, so that what comes after can be asked for.
        let worker = || self.worker.clone();
        let line = line.map(|line| Event::Line(v1::LogLine { worker: worker(), ..line }));
        let gap = gap.map(|gap| Event::Gap(v1::LogGap { worker: worker(), ..gap }));
        let position = position.map(|position| Event::Position(worker(), position));
        for event in [line, gap, position].into_iter().flatten() {
            if self.send.send(event).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
