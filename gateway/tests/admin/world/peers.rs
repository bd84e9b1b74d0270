//! A worker's log and another gateway's records, as their internal listeners give them.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use dunlin_proto::{
    ids::InvocationId,
    internal::v1::{self as internal, invocation_record_service_server::*, worker_log_service_server::*},
    metadata::ClusterSecret,
    model::to_wire_duration,
    v1,
};
use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, transport::server::Router};

use super::data::{EVIL, ago};

/// What lies beside the gateway under test.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    pub(crate) lines: Arc<Mutex<Vec<v1::LogLine>>>,
    pub(crate) records: Arc<Mutex<Vec<v1::Invocation>>>,
    /// From which call on a search has looked at all lines, the first time that it comes there.
    pub(crate) searched_from: Arc<Mutex<Option<String>>>,
    /// The same, every time.
    pub(crate) stuck_at: Arc<Mutex<Option<String>>>,
    news: broadcast::Sender<v1::LogLine>,
}

/// A line that `checkout` wrote so many seconds ago.
pub(crate) fn line(seconds: u64, text: &str) -> v1::LogLine {
    v1::LogLine {
        time: Some(ago(seconds)),
        function: "namespaces/shop/functions/checkout".to_owned(),
        version: 4,
        invocation: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".to_owned(),
        stream: v1::LogStream::Stdout.into(),
        text: text.to_owned(),
        worker: "worker-1".to_owned(),
        ..Default::default()
    }
}

impl Default for Peers {
    fn default() -> Self {
        let stderr = v1::LogLine { stream: v1::LogStream::Stderr.into(), ..line(40, "the bank said no: card expired") };
        let lines = vec![
            line(90, "order 7301: 3 items, 48.20 EUR"),
            line(89, "order 7301: paid"),
            v1::LogLine { function: "namespaces/shop/functions/search".to_owned(), ..line(70, EVIL) },
            stderr,
            line(39, "order 7302: refused \u{1b}[31mred\u{1b}[0m \u{202e}gnp.exe"),
            v1::LogLine { dropped_bytes: 4_096, ..line(12, "order 7303: 1 item, 9.90 EUR") },
            line(11, "order 7303: paid"),
        ];
        let number = |(number, line)| v1::LogLine { boot: 1, sequence: number, ..line };
        Self {
            lines: Arc::new(Mutex::new((1..).zip(lines).map(number).collect())),
            records: Arc::new(Mutex::new((0..300).map(record).collect())),
            searched_from: Arc::default(),
            stuck_at: Arc::default(),
            news: broadcast::channel(64).0,
        }
    }
}

/// A record of the sample; the higher the number, the older.
fn record(number: u64) -> v1::Invocation {
    let functions = ["checkout", "price", "price", "search", "checkout", "stock", "price"];
    let function = functions[number as usize % functions.len()];
    let at = SystemTime::now() - Duration::from_millis(number * number * 37 + 1_500);
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &[number as u8; 10]).into_uuid();
    let (outcome, status, error) = match number % 23 {
        4 => ("function_failed", 502, "trap: wasm `unreachable` instruction executed <b>"),
        11 => ("cancelled", 0, ""),
        17 => ("deadline_exceeded", 504, "the function did not answer within 10 s"),
        _ => ("ok", 200, ""),
    };
    let wave = (number * 7_919) % 1_000;
    let run = 180
        + wave
            * if status == 504 {
                9_900
            } else if number.is_multiple_of(9) {
                40
            } else {
                2
            };
    let micros = |micros| Some(to_wire_duration(Duration::from_micros(micros)));
    v1::Invocation {
        name: format!("namespaces/shop/functions/{function}/invocations/{id}"),
        version: if function == "checkout" { 4 } else { 1 },
        start_time: Some(at.into()),
        method: if function == "checkout" { "POST" } else { "GET" }.to_owned(),
        path: ["/", "/orders", "/p/41?", "/find/a-very-long-path/that/goes/on/and/on/for-quite-some-time", EVIL]
            [number as usize % 5]
            .to_owned(),
        status,
        gateway: "gateway-2".to_owned(),
        worker: if number.is_multiple_of(3) { "worker-2" } else { "worker-1" }.to_owned(),
        outcome: outcome.to_owned(),
        error: error.to_owned(),
        receipt: Some(v1::Receipt {
            queue: micros(20 + wave / 4),
            start: micros(if number.is_multiple_of(9) { 2_400 } else { 0 }),
            run: micros(run),
            cpu: micros(run * 2 / 3),
            peak_memory_bytes: 1_310_720 + wave * 4_096,
            bytes_in: wave,
            bytes_out: 300 + wave * 11,
            reused: number.is_multiple_of(2),
            ..Default::default()
        }),
        request_id: if number == 2 { "order-7303".to_owned() } else { String::new() },
        ..Default::default()
    }
}

impl Peers {
    /// One that has nothing.
    pub(crate) fn idle() -> Self {
        Self {
            lines: Arc::default(),
            records: Arc::default(),
            searched_from: Arc::default(),
            stuck_at: Arc::default(),
            news: broadcast::channel(1).0,
        }
    }

    pub(crate) fn add_to(self, mut server: tonic::transport::Server, secret: &ClusterSecret) -> Router {
        server
            .add_service(WorkerLogServiceServer::with_interceptor(self.clone(), secret.require()))
            .add_service(InvocationRecordServiceServer::with_interceptor(self, secret.require()))
    }

    /// A guest writes a line.
    pub(crate) fn write(&self, line: v1::LogLine) {
        let mut lines = self.lines.lock().unwrap();
        let line = v1::LogLine { boot: 1, sequence: lines.len() as u64 + 1, ..line };
        lines.push(line.clone());
        let _ = self.news.send(line);
    }
}

fn wanted(query: &v1::ReadLogsRequest, line: &v1::LogLine) -> bool {
    let after = |since: &prost_types::Timestamp| {
        line.time.is_some_and(|time| (time.seconds, time.nanos) >= (since.seconds, since.nanos))
    };
    line.function.starts_with(&query.parent)
        && query.since.as_ref().is_none_or(after)
        && line.text.contains(&query.search)
        && (query.request_id.is_empty() || line.invocation == query.request_id)
}

#[tonic::async_trait]
impl WorkerLogService for Peers {
    type ReadWorkerLogsStream = Pin<Box<dyn Stream<Item = Result<internal::ReadWorkerLogsResponse, Status>> + Send>>;

    async fn read_worker_logs(
        &self,
        request: Request<internal::ReadWorkerLogsRequest>,
    ) -> Result<Response<Self::ReadWorkerLogsStream>, Status> {
        let internal::ReadWorkerLogsRequest { query, after, invocations } = request.into_inner();
        let query = query.unwrap();
        let mut lines = self.lines.lock().unwrap().clone();
        let news = self.news.subscribe();
        let last = internal::LogPosition { boot: 1, sequence: lines.len() as u64 };
        lines.retain(|line| {
            wanted(&query, line)
                && (invocations.is_empty() || invocations.contains(&line.invocation))
                && after.is_none_or(|after| (line.boot, line.sequence) > (after.boot, after.sequence))
        });
        let cut = if after.is_none() { lines.len().saturating_sub(query.lines as usize) } else { 0 };
        let old = lines.split_off(cut).into_iter().map(of_line);
        let position = internal::ReadWorkerLogsResponse { position: Some(last), ..Default::default() };
        let old = stream::iter(old.chain([position]));
        let follow = query.follow;
        let new = tokio_stream::wrappers::BroadcastStream::new(news).filter_map(move |line| {
            let line = line.ok().filter(|line| wanted(&query, line)).map(of_line);
            async move { line }
        });
        let responses = if follow { old.chain(new).boxed() } else { old.boxed() };
        Ok(Response::new(responses.map(Ok).boxed()))
    }

    async fn search_worker_logs(
        &self,
        request: Request<internal::SearchWorkerLogsRequest>,
    ) -> Result<Response<internal::SearchWorkerLogsResponse>, Status> {
        let internal::SearchWorkerLogsRequest { query, before, .. } = request.into_inner();
        let query = query.unwrap();
        let lines = self.lines.lock().unwrap();
        let of = lines.iter().filter(|line| wanted(&query, line)).map(|line| line.invocation.as_str());
        let from = self.searched_from.lock().unwrap().clone().filter(|from| before.is_empty() || *from < before);
        let from = self.stuck_at.lock().unwrap().clone().or(from);
        let is_asked_for = |id: &&str| {
            (before.is_empty() || *id < before.as_str()) && from.as_ref().is_none_or(|from| *id >= from.as_str())
        };
        let mut ids: Vec<_> = of.filter(is_asked_for).map(|id| id.parse::<InvocationId>().unwrap()).collect();
        ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        ids.dedup();
        let bytes = |id: InvocationId| id.uuid().as_bytes().to_vec().into();
        Ok(Response::new(internal::SearchWorkerLogsResponse {
            invocations: ids.into_iter().map(bytes).collect(),
            complete_from: from.map(|from| bytes(from.parse().unwrap())).unwrap_or_default(),
        }))
    }
}

fn of_line(line: v1::LogLine) -> internal::ReadWorkerLogsResponse {
    internal::ReadWorkerLogsResponse { line: Some(line), ..Default::default() }
}

#[tonic::async_trait]
impl InvocationRecordService for Peers {
    async fn list_records(
        &self,
        request: Request<internal::ListRecordsRequest>,
    ) -> Result<Response<internal::ListRecordsResponse>, Status> {
        let internal::ListRecordsRequest { query, id, ids, of_nobody } = request.into_inner();
        let query = query.unwrap();
        let size = if id.is_empty() { query.page_size as usize } else { usize::MAX };
        let of = |record: &&v1::Invocation| {
            let own = record.name.rsplit('/').next().unwrap();
            let collection = if of_nobody { "invocations/" } else { &format!("{}/", query.parent) };
            record.name.starts_with(collection)
                && (id.is_empty() || own == id)
                && (ids.is_empty() || ids.iter().any(|id| id == own))
                && (query.request_id.is_empty() || [own, &record.request_id].contains(&query.request_id.as_str()))
                && !query.refused
                && (query.status.is_empty() || record.status.to_string() == query.status)
                && (!query.failed_only || record.outcome != "ok" || record.status >= 500)
                && (query.page_token.is_empty() || own < query.page_token.as_str())
        };
        let invocations = self.records.lock().unwrap().iter().filter(of).take(size).cloned().collect();
        Ok(Response::new(internal::ListRecordsResponse { invocations, ..Default::default() }))
    }

    async fn find_statuses(
        &self,
        request: Request<internal::FindStatusesRequest>,
    ) -> Result<Response<internal::FindStatusesResponse>, Status> {
        let asked = request.into_inner().invocations;
        let of = |record: &v1::Invocation| {
            let id: InvocationId = record.name.rsplit('/').next().unwrap().parse().unwrap();
            let invocation = asked.iter().find(|asked| asked[..] == id.uuid().as_bytes()[..])?.clone();
            Some(internal::CallStatus { invocation, status: record.status })
        };
        let calls = self.records.lock().unwrap().iter().filter_map(of).collect();
        Ok(Response::new(internal::FindStatusesResponse { calls }))
    }

    async fn summarize_records(
        &self,
        request: Request<internal::SummarizeRecordsRequest>,
    ) -> Result<Response<internal::SummarizeRecordsResponse>, Status> {
        let here = format!("{}/", request.into_inner().function);
        let mut counts = std::collections::BTreeMap::<String, u64>::new();
        for record in self.records.lock().unwrap().iter().filter(|record| record.name.starts_with(&here)) {
            *counts.entry(record.outcome.clone()).or_default() += 1;
        }
        let count = |(outcome, count)| v1::OutcomeCount { outcome, count, ..Default::default() };
        let outcomes = counts.into_iter().map(count).collect();
        Ok(Response::new(internal::SummarizeRecordsResponse { outcomes, ..Default::default() }))
    }
}
