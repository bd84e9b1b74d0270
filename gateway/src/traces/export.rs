//! Sends spans to a collector by OTLP, in batches. A collector that is away, slow or refuses costs spans, which are counted, and
//! nothing else. How a batch travels is in `export/http.rs` and `export/grpc.rs`.

mod grpc;
mod headers;
mod http;

use std::{sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use reqwest::Url;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Counted, Source,
    otlp::{self, Identity},
};
use crate::config::{Config, TracingProtocol};

/// Traces that are sent together.
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
    collector: Collector,
    url: Url,
    identity: Identity,
    waiting: mpsc::Receiver<Source>,
    counted: Arc<Counted>,
    /// The last batch was lost: what follows is no news.
    away: bool,
}

/// Who takes spans.
#[derive(Debug)]
enum Collector {
    Http(http::Http),
    Grpc(grpc::Grpc),
}

impl Collector {
    async fn sent(&self, batch: &ExportTraceServiceRequest) -> Result<usize, Failure> {
        match self {
            Self::Http(collector) => collector.sent(batch).await,
            Self::Grpc(collector) => collector.sent(batch).await,
        }
    }
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
    /// The file of headers can't be used, or nobody can be trusted by TLS.
    pub(super) fn new(
        url: Url,
        config: &Config,
        waiting: mpsc::Receiver<Source>,
        counted: Arc<Counted>,
    ) -> anyhow::Result<Self> {
        let headers = config.tracing.headers_file.as_deref().map(headers::read).transpose()?.unwrap_or_default();
        let collector = match config.tracing.protocol {
            TracingProtocol::Http => Collector::Http(http::Http::new(url.clone(), headers)?),
            TracingProtocol::Grpc => Collector::Grpc(grpc::Grpc::new(&url, headers)?),
        };
        let service = config.tracing.service_name.clone();
        let identity = Identity { service, gateway: config.name.to_string(), address: config.domain.clone() };
        Ok(Self { collector, url, identity, waiting, counted, away: false })
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
                    && let Ok(source) = self.waiting.try_recv()
                {
                    batch.push(source);
                }
            }
            self.send(&mut batch, &shutdown).await;
        }
    }

    async fn send(&mut self, batch: &mut Vec<Source>, shutdown: &Shutdown) {
        let spans: Vec<_> = batch.drain(..).flat_map(|source| source.spans()).collect();
        let count = spans.len();
        let request = otlp::request(spans, &self.identity);
        match self.tried(&request, shutdown).await {
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
    async fn tried(&self, batch: &ExportTraceServiceRequest, shutdown: &Shutdown) -> Result<usize, Failure> {
        let mut tries = 1;
        loop {
            match self.collector.sent(batch).await {
                Err(Failure::Passing(_)) if tries < TRIES && !shutdown.has_begun() => {}
                ended => return ended,
            }
            tokio::select! { () = sleep(pause(tries, rand::random_range(0.5..1.0))) => {}, () = shutdown.begun() => {} }
            tries += 1;
        }
    }
}

/// How long to wait after so many tries; `part` is a random part of the whole.
fn pause(tries: u32, part: f64) -> Duration {
    PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).mul_f64(part)
}

/// Spans that an answer says were not taken.
fn rejected(answer: ExportTraceServiceResponse) -> usize {
    answer.partial_success.and_then(|partial| usize::try_from(partial.rejected_spans).ok()).unwrap_or(0)
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
        assert_eq!((rejected(partial(3)), rejected(partial(-1)), rejected(Default::default())), (3, 0, 0));
    }
}
