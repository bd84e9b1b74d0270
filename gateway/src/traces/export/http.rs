//! A batch of spans on its way by OTLP over HTTP, and what its answer means.

use anyhow::Context;
use http::{HeaderMap, HeaderValue, header};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use reqwest::{Client, StatusCode, Url};

use super::{Failure, MAX_ANSWER, PATIENCE, rejected};

/// A collector that speaks HTTP.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    url: Url,
}

impl Http {
    /// One at this URL, which gets these headers.
    ///
    /// # Errors
    /// There can be no client.
    pub(super) fn new(url: Url, mut headers: HeaderMap) -> anyhow::Result<Self> {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.default_headers(headers).build().context("make a client for the collector of traces")?;
        Ok(Self { client, url })
    }

    /// Sends a batch once; how many spans of it the collector did not want.
    pub(super) async fn sent(&self, batch: &ExportTraceServiceRequest) -> Result<usize, Failure> {
        let asked = self.client.post(self.url.clone()).body(batch.encode_to_vec()).send().await;
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
        Ok(ExportTraceServiceResponse::decode(&told[..]).map_or(0, rejected))
    }
}

/// Whether a collector means that the same may be sent again (OTLP 1.10, "Retryable Response Codes").
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
