//! `WorkerLogService`: unpacks the question, streams the lines, follows on. Whoever asks may read the namespace: the gateway
//! has checked.

use std::{path::PathBuf, sync::Arc};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError,
    internal::v1::{ReadWorkerLogsRequest, ReadWorkerLogsResponse, worker_log_service_server::WorkerLogService},
    v1,
};
use tokio::sync::{
    Semaphore,
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Logs,
    line::Line,
    read::{self, Found, Query},
};

/// Readers of files at a time; the others wait.
const READERS: usize = 4;
/// Lines that wait for the network.
const WAITING_LINES: usize = 64;

type Lines = mpsc::Sender<Result<ReadWorkerLogsResponse, Status>>;

/// Serves the logs of this worker.
#[derive(Debug)]
pub(crate) struct LogService {
    logs: Arc<Logs>,
    worker: Arc<str>,
    readers: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl LogService {
    /// A service whose streams end when `shutdown` begins.
    pub(crate) fn new(logs: Arc<Logs>, worker: &str, shutdown: Shutdown) -> Self {
        Self { logs, worker: worker.into(), readers: Arc::new(Semaphore::new(READERS)), shutdown }
    }
}

#[tonic::async_trait]
impl WorkerLogService for LogService {
    type ReadWorkerLogsStream = ReceiverStream<Result<ReadWorkerLogsResponse, Status>>;

    async fn read_worker_logs(
        &self,
        request: Request<ReadWorkerLogsRequest>,
    ) -> Result<Response<Self::ReadWorkerLogsStream>, Status> {
        let query = request.into_inner().query.ok_or_else(|| ApiError::invalid("query", "query is missing"))?;
        let query = Query::try_from(query)?;
        // Before the files are read, so that no line falls between.
        let live = query.follow.then(|| self.logs.tenant(&query.scope.namespace).follow());
        let found = find(self.readers.clone(), self.logs.folder.clone(), query.clone()).await?;
        let (sender, receiver) = mpsc::channel(WAITING_LINES);
        let answer = Answer { query, worker: self.worker.clone(), sender };
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn(async move {
            tokio::select! { () = answer.send(found, live) => {}, () = shutdown.begun() => {} }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn find(readers: Arc<Semaphore>, folder: PathBuf, query: Query) -> Result<Found, ApiError> {
    let _turn = readers.acquire_owned().await.map_err(|_| ApiError::internal())?;
    let found = tokio::task::spawn_blocking(move || read::find(&folder, &query)).await;
    found.map_err(std::io::Error::other).flatten().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "could not read logs");
        ApiError::internal()
    })
}

/// An answer under way.
#[derive(Debug)]
struct Answer {
    query: Query,
    worker: Arc<str>,
    sender: Lines,
}

impl Answer {
    async fn send(self, found: Found, live: Option<broadcast::Receiver<Arc<Line>>>) {
        for line in &found.lines {
            if !self.line(line).await {
                return;
            }
        }
        if let Some(live) = live {
            self.follow(live, found.last).await;
        }
    }

    async fn follow(self, mut live: broadcast::Receiver<Arc<Line>>, seen: u64) {
        loop {
            let next = tokio::select! { next = live.recv() => next, () = self.sender.closed() => return };
            let sent = match next {
                Ok(line) if line.time <= seen || !self.query.matches(&line) => true,
                Ok(line) => self.line(&line).await,
                Err(RecvError::Lagged(missed)) => self.gap(missed).await,
                Err(RecvError::Closed) => return,
            };
            if !sent {
                return;
            }
        }
    }

    async fn line(&self, line: &Line) -> bool {
        self.wire(line.to_wire(&self.query.scope.namespace, &self.worker)).await
    }

    /// Says that the reader was too slow. The lines themselves are in the files.
    async fn gap(&self, missed: u64) -> bool {
        let text =
            format!("[dunlin] {missed} lines of the namespace came faster than they were read and are not shown");
        let line = v1::LogLine {
            time: Some(std::time::SystemTime::now().into()),
            stream: v1::LogStream::Stderr.into(),
            text,
            worker: self.worker.to_string(),
            ..v1::LogLine::default()
        };
        self.wire(line).await
    }

    async fn wire(&self, line: v1::LogLine) -> bool {
        self.sender.send(Ok(ReadWorkerLogsResponse { line: Some(line) })).await.is_ok()
    }
}
