//! Reads the log of one worker and sends on what it says; ends when the worker does, or nobody listens.

use std::time::Duration;

use dunlin_proto::{
    ApiError,
    internal::v1::{ReadWorkerLogsRequest, ReadWorkerLogsResponse, worker_log_service_client::WorkerLogServiceClient},
    v1,
};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::super::fanout::PATIENCE;
use crate::upstream::Secured;

/// A worker that has sent nothing for so long has sent what it had.
const QUIET: Duration = Duration::from_millis(200);

/// What a reader has to say.
#[derive(Debug)]
pub(super) enum Event {
    /// A line.
    Line(v1::LogLine),
    /// This worker has sent what it had; more may come.
    CaughtUp(String),
    /// This worker did not answer.
    Unreachable(String),
    /// This worker has no more to say.
    Ended(String),
}

/// One worker to read.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) worker: String,
    pub(super) request: v1::ReadLogsRequest,
    /// Whether to say that it can't be reached; a follower says it once.
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
                let reachable_before = !self.report_failure;
                let worker = self.worker.clone();
                if reachable_before { Event::Ended(worker) } else { Event::Unreachable(worker) }
            }
        };
        // Whoever asked may have left.
        let _ = self.send.send(last).await;
    }

    async fn read(&self, client: Result<WorkerLogServiceClient<Secured>, ApiError>) -> Result<(), ApiError> {
        let query = ReadWorkerLogsRequest { query: Some(self.request.clone()) };
        let mut client = client?;
        let opened = tokio::time::timeout(PATIENCE, client.read_worker_logs(query)).await;
        let mut lines = opened.map_err(|_| ApiError::internal())??.into_inner();
        // A follower's stream has no end that would say so.
        while self.request.follow
            && let Ok(line) = tokio::time::timeout(QUIET, self.pass(&mut lines)).await
        {
            if !line? {
                return Ok(());
            }
        }
        if self.request.follow {
            let _ = self.send.send(Event::CaughtUp(self.worker.clone())).await;
        }
        while self.pass(&mut lines).await? {}
        Ok(())
    }

    /// Sends on the next line; false at the end. What a timeout interrupts is only the wait for a message: a place in
    /// the queue is taken first.
    async fn pass(&self, lines: &mut Streaming<ReadWorkerLogsResponse>) -> Result<bool, ApiError> {
        let Ok(place) = self.send.reserve().await else { return Ok(false) };
        let Some(message) = lines.message().await? else { return Ok(false) };
        if let Some(mut line) = message.line {
            // The name under which the worker is known, so that what comes after its last line can be asked for.
            line.worker.clone_from(&self.worker);
            place.send(Event::Line(line));
        }
        Ok(true)
    }
}
