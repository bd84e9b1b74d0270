//! `WorkerLogService`: unpacks the question, streams the lines, follows on, and searches for as long as it may. Whoever asks may read
//! the namespace: the gateway has checked.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError,
    ids::InvocationId,
    internal::v1::{
        ReadWorkerLogsRequest, ReadWorkerLogsResponse, SearchWorkerLogsRequest, SearchWorkerLogsResponse,
        worker_log_service_server::WorkerLogService,
    },
    model::from_wire_duration,
    v1::ReadLogsRequest,
};
use tokio::{
    sync::{
        Semaphore,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Logs,
    line::{Entry, Position},
    read::{Chunk, Query, Reading},
    search::{Found, Search},
    track::Item,
};

/// Readers of files at a time; the others wait.
const READERS: usize = 4;
/// Lines that wait for the network.
const WAITING_LINES: usize = 64;
/// Entries that a follower is not told of one by one, since they do not match.
const UNSAID_ENTRIES: u32 = 256;
/// Calls that a search finds at the most.
const MOST_FOUND: u32 = 10_000;
/// How long a search goes on at the most.
const MOST_PATIENCE: Duration = Duration::from_secs(10);

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
        let ReadWorkerLogsRequest { query, after, invocations } = request.into_inner();
        let query = self.query(query)?.of(&invocations)?;
        // Before the files are read, so that no line falls between.
        let live = query.follow.then(|| self.logs.tenant(&query.scope.namespace).follow());
        let limit = (after.is_some() && !query.follow).then_some(query.lines);
        let reading = self.reading(query, after.map(Position::from)).await?;
        let (sender, receiver) = mpsc::channel(WAITING_LINES);
        let answer = Answer { reading, worker: self.worker.clone(), readers: self.readers.clone(), sender, limit };
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn(async move {
            tokio::select! { () = answer.run(live) => {}, () = shutdown.begun() => {} }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn search_worker_logs(
        &self,
        request: Request<SearchWorkerLogsRequest>,
    ) -> Result<Response<SearchWorkerLogsResponse>, Status> {
        let SearchWorkerLogsRequest { query, before, most, patience } = request.into_inner();
        let query = self.query(query)?;
        let before = (!before.is_empty()).then(|| before.parse::<InvocationId>()).transpose();
        let before = before.map_err(|error| ApiError::invalid("before", error))?;
        let (folder, most) = (self.logs.folder.clone(), most.min(MOST_FOUND) as usize);
        let search = blocking(&self.readers, move || Search::new(&folder, query, before, most)).await?;
        let until = Instant::now() + from_wire_duration(patience).min(MOST_PATIENCE);
        let Found { invocations, complete_from } = self.searched(search, until).await?;
        let bytes = |id: InvocationId| id.uuid().as_bytes().to_vec().into();
        let invocations = invocations.into_iter().map(bytes).collect();
        Ok(Response::new(SearchWorkerLogsResponse {
            invocations,
            complete_from: complete_from.map(bytes).unwrap_or_default(),
        }))
    }
}

impl LogService {
    /// What is asked for, as far back as lines are kept.
    fn query(&self, wire: Option<ReadLogsRequest>) -> Result<Query, ApiError> {
        let query = Query::try_from(wire.ok_or_else(|| ApiError::invalid("query", "query is missing"))?)?;
        Ok(match SystemTime::now().checked_sub(self.logs.max_age(&query.scope.namespace)) {
            Some(oldest) => query.not_before(oldest),
            None => query,
        })
    }

    /// Searches file by file, each in turn with others: the first one in any case, so that whoever asks again gets on.
    async fn searched(&self, mut search: Search, until: Instant) -> Result<Found, ApiError> {
        while search.has_more() {
            search = blocking(&self.readers, move || search.step().map(|()| search)).await?;
            if Instant::now() >= until {
                break;
            }
        }
        Ok(search.found())
    }

    /// A reader that stands where the answer begins.
    async fn reading(&self, query: Query, after: Option<Position>) -> Result<Reading, ApiError> {
        let (folder, boot) = (self.logs.folder.clone(), self.logs.boot);
        match after {
            // From a start that this folder knows nothing of: it is not the folder that the reader knew.
            Some(place) if place.boot > boot => {
                Ok(Reading::after(&folder, query, boot, Position { boot: 1, sequence: 0 }))
            }
            Some(place) => Ok(Reading::after(&folder, query, boot, place)),
            None => blocking(&self.readers, move || Reading::last(&folder, query, boot)).await,
        }
    }
}

/// Reads files, in turn with others.
async fn blocking<A: Send + 'static>(
    readers: &Arc<Semaphore>,
    read: impl FnOnce() -> io::Result<A> + Send + 'static,
) -> Result<A, ApiError> {
    let _turn = readers.clone().acquire_owned().await.map_err(|_| ApiError::internal())?;
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(io::Error::other).flatten().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "could not read logs");
        ApiError::internal()
    })
}

/// An answer under way.
#[derive(Debug)]
struct Answer {
    reading: Reading,
    worker: Arc<str>,
    readers: Arc<Semaphore>,
    sender: Lines,
    /// Lines that may still be sent, where that is bounded.
    limit: Option<usize>,
}

/// Why an answer does not go on as it did.
enum Turn {
    /// Lines came faster than they were read. They are in the files.
    Behind,
    Over,
}

impl Answer {
    /// First what the files hold, then what comes; and the files again where the reader fell behind.
    async fn run(mut self, mut live: Option<broadcast::Receiver<Arc<Entry>>>) {
        loop {
            match self.history().await {
                Ok(true) => {}
                Ok(false) => return,
                // Nobody may be there to be told.
                Err(error) => return drop(self.sender.send(Err(error.into())).await),
            }
            let Some(live) = &mut live else { return };
            if matches!(self.follow(live).await, Turn::Over) {
                return;
            }
        }
    }

    /// Sends what the files hold; says whether there is someone who wants more.
    async fn history(&mut self) -> Result<bool, ApiError> {
        loop {
            let chunk = self.chunk().await?;
            if !self.items(chunk.items).await {
                return Ok(false);
            }
            if !chunk.more {
                break;
            }
        }
        let last = self.reading.settle();
        Ok(self.items(last).await && self.position().await)
    }

    async fn chunk(&mut self) -> Result<Chunk, ApiError> {
        let mut reading = self.reading.clone();
        let (chunk, reading) = blocking(&self.readers, move || Ok((reading.chunk()?, reading))).await?;
        self.reading = reading;
        Ok(chunk)
    }

    async fn follow(&mut self, live: &mut broadcast::Receiver<Arc<Entry>>) -> Turn {
        let mut unsaid = 0;
        loop {
            let next = tokio::select! { next = live.recv() => next, () = self.sender.closed() => return Turn::Over };
            let items = match next {
                Ok(entry) => self.reading.step(&entry),
                Err(RecvError::Lagged(_)) => return Turn::Behind,
                Err(RecvError::Closed) => return Turn::Over,
            };
            unsaid = if items.is_empty() { unsaid + 1 } else { 0 };
            let due = unsaid >= UNSAID_ENTRIES;
            unsaid %= UNSAID_ENTRIES;
            if !self.items(items).await || due && !self.position().await {
                return Turn::Over;
            }
        }
    }

    /// Says whether more may be sent.
    async fn items(&mut self, items: Vec<Item>) -> bool {
        for item in items {
            let response = match item {
                Item::Line(line) if self.may_send() => ReadWorkerLogsResponse {
                    line: Some(line.to_wire(&self.reading.query.scope.namespace, &self.worker)),
                    ..ReadWorkerLogsResponse::default()
                },
                Item::Line(_) => return false,
                Item::Gap(gap) => {
                    ReadWorkerLogsResponse { gap: Some(gap.to_wire(&self.worker)), ..ReadWorkerLogsResponse::default() }
                }
            };
            if self.sender.send(Ok(response)).await.is_err() {
                return false;
            }
        }
        true
    }

    fn may_send(&mut self) -> bool {
        let left = self.limit.map(|limit| limit.checked_sub(1));
        self.limit = left.flatten();
        left != Some(None)
    }

    /// Says up to where everything has been looked at.
    async fn position(&self) -> bool {
        let position = Some(self.reading.position().into());
        let response = ReadWorkerLogsResponse { position, ..ReadWorkerLogsResponse::default() };
        self.sender.send(Ok(response)).await.is_ok()
    }
}
