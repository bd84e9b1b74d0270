//! Sends spans to a collector by OTLP over HTTP, in batches. A collector that is away, slow or refuses costs spans, which are
//! counted, and nothing else.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::{Client, StatusCode, Url};
use tokio::{sync::mpsc, time::sleep};

use super::{
    Counted,
    otlp::{self, Identity},
    spans,
};
use crate::{config::Config, records::Record};

/// Records that are sent together.
const BATCH: usize = 256;
/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a batch is sent at the most.
const TRIES: u32 = 4;
/// The pause before the second try; each following one is twice as long, and part of it is random.
const PAUSE: Duration = Duration::from_millis(500);
/// No longer answer of a collector is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Sends what it is given.
#[derive(Debug)]
pub(crate) struct Exporter {
    client: Client,
    url: Url,
    identity: Identity,
    waiting: mpsc::Receiver<Arc<Record>>,
    counted: Arc<Counted>,
    /// The last batch was lost: what follows is no news.
    away: bool,
}

/// Why a try failed.
#[derive(Debug)]
enum Failure {
    /// It may go better later.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Exporter {
    /// One that sends to this URL.
    ///
    /// # Errors
    /// The file of headers can't be used.
    pub(super) fn new(
        url: Url,
        config: &Config,
        waiting: mpsc::Receiver<Arc<Record>>,
        counted: Arc<Counted>,
    ) -> anyhow::Result<Self> {
        let mut headers = config.tracing.headers_file.as_deref().map(read).transpose()?.unwrap_or_default();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.default_headers(headers).build().context("make a client for the collector of traces")?;
        let service = config.tracing.service_name.clone();
        let identity = Identity { service, gateway: config.name.to_string(), address: config.domain.clone() };
        Ok(Self { client, url, identity, waiting, counted, away: false })
    }

    /// Runs until `shutdown`, and tries once to send what is here by then.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                received = self.waiting.recv_many(&mut batch, BATCH) => if received == 0 { return },
                () = shutdown.begun(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            }
            if batch.len() < BATCH && !shutdown.has_begun() {
                tokio::select! { () = sleep(GATHER) => {}, () = shutdown.begun() => {} }
                while batch.len() < BATCH
                    && let Ok(record) = self.waiting.try_recv()
                {
                    batch.push(record);
                }
            }
            self.send(&mut batch, &shutdown).await;
        }
    }

    async fn send(&mut self, batch: &mut Vec<Arc<Record>>, shutdown: &Shutdown) {
        let spans: Vec<_> = batch.drain(..).flat_map(|record| spans::of(&record)).collect();
        let count = spans.len();
        let body = Bytes::from(otlp::request(spans, &self.identity).encode_to_vec());
        match self.tried(&body, shutdown).await {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.counted.exported(count - rejected);
                self.counted.dropped(rejected);
                if std::mem::take(&mut self.away) {
                    tracing::info!(url = %self.url, "the collector takes traces again");
                }
            }
            Err(Failure::Passing(error) | Failure::Final(error)) => {
                self.counted.dropped(count);
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(url = %self.url, error, "traces are lost: the collector does not take them");
                }
            }
        }
    }

    /// Sends a batch, again where that may help; how many spans the collector did not want.
    async fn tried(&self, body: &Bytes, shutdown: &Shutdown) -> Result<usize, Failure> {
        let mut tries = 1;
        loop {
            match self.sent(body.clone()).await {
                Err(Failure::Passing(_)) if tries < TRIES && !shutdown.has_begun() => {}
                ended => return ended,
            }
            tokio::select! { () = sleep(pause(tries, rand::random_range(0.5..1.0))) => {}, () = shutdown.begun() => {} }
            tries += 1;
        }
    }

    async fn sent(&self, body: Bytes) -> Result<usize, Failure> {
        let asked = self.client.post(self.url.clone()).body(body).send().await;
        let mut answer = asked.map_err(|error| Failure::Passing(format!("{:#}", anyhow::Error::new(error))))?;
        let status = answer.status();
        if !status.is_success() {
            let why = format!("it answered {status}");
            return Err(if may_pass(status) { Failure::Passing(why) } else { Failure::Final(why) });
        }
        let mut told = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            told.extend_from_slice(&chunk);
            if told.len() > MAX_ANSWER {
                return Ok(0);
            }
        }
        Ok(rejected(&told))
    }
}

/// How long to wait after so many tries; `part` is a random part of the whole.
fn pause(tries: u32, part: f64) -> Duration {
    PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).mul_f64(part)
}

/// Whether a collector means that the same may be sent again (OTLP 1.10, "Retryable Response Codes").
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Spans that an answer says were not taken.
fn rejected(answer: &[u8]) -> usize {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.and_then(|partial| usize::try_from(partial.rejected_spans).ok()).unwrap_or(0)
}

/// The headers of a file. Errors name lines, never what they say.
fn read(path: &Path) -> anyhow::Result<HeaderMap> {
    let name = || format!("read tracing.headers_file {}", path.display());
    let mode = fs::metadata(path).with_context(name)?.mode() & 0o777;
    ensure!(mode & 0o077 == 0, "{} can be read by others (mode {mode:04o}): chmod 600 it", path.display());
    headers(&fs::read_to_string(path).with_context(name)?).with_context(name)
}

fn headers(text: &str) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wanted = || format!("line {number} must be \"name: value\"");
        let (name, value) = line.split_once(':').with_context(wanted)?;
        let name: HeaderName = name.trim().parse().ok().with_context(wanted)?;
        let mut value = HeaderValue::from_str(value.trim()).ok().with_context(wanted)?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    #[test]
    fn pauses_grow_and_are_not_all_alike() {
        let millis = [1, 2, 3].map(|tries| (pause(tries, 0.5).as_millis(), pause(tries, 1.0).as_millis()));
        assert_eq!(millis, [(250, 500), (500, 1_000), (1_000, 2_000)]);
    }

    #[test]
    fn what_a_collector_did_not_want_is_read_from_its_answer() {
        let partial = |rejected_spans| ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess { rejected_spans, ..Default::default() }),
        };
        for (answer, expected) in [(partial(3).encode_to_vec(), 3), (partial(-1).encode_to_vec(), 0)] {
            assert_eq!(rejected(&answer), expected);
        }
        assert_eq!((rejected(b""), rejected(b"nonsense")), (0, 0));
    }

    #[test]
    fn headers_are_secret_and_errors_say_only_where() {
        let read = headers("authorization: Bearer abc\n\nx-tenant: 7\n").unwrap();
        assert!(read["authorization"].is_sensitive() && read["x-tenant"] == "7");
        let error = format!("{:#}", headers("x: 1\nBearer abc").unwrap_err());
        assert!(error.contains("line 2") && !error.contains("abc"), "{error}");
    }
}
