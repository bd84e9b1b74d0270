//! Where traces go and which are taken. Reading it opens nothing; what is done by it is in `traces`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::duration;

/// Traces of invocations, exported by OTLP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// The collector's URL: `http://127.0.0.1:4318` for OTLP over HTTP, where `/v1/traces` is appended, or `http://127.0.0.1:4317`
    /// for gRPC. Default none: there are no traces.
    pub endpoint: Option<String>,
    /// What the collector speaks: `http/protobuf` or `grpc`. Default `http/protobuf`.
    pub protocol: TracingProtocol,
    /// A file of mode 0600 with headers for the collector, such as credentials: one `name: value` a line. Default none.
    pub headers_file: Option<PathBuf>,
    /// The part of invocations whose trace is taken, from 0 to 1. Default 0.01.
    pub ratio: f64,
    /// Traces that are taken in a second at the most, for whatever reason. Default 100.
    pub most_per_second: u32,
    /// Of these, traces that callers of one namespace get by the `sampled` flag of their `traceparent`. Default 10.
    pub callers_per_second: u32,
    /// An invocation that takes this long is traced afterwards; failures are anyway. Default 1s.
    #[serde(with = "duration")]
    pub slow: Duration,
    /// The `service.name` of this gateway's spans. Default `dunlin-gateway`.
    pub service_name: String,
    /// Somebody in this process watches traces come, `dunlin up --trace`. No file says it.
    #[serde(skip)]
    pub watched: bool,
}

/// How spans travel, as `OTEL_EXPORTER_OTLP_PROTOCOL` spells it (OpenTelemetry, "Protocol Exporter").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TracingProtocol {
    /// OTLP over HTTP, in binary.
    #[default]
    #[serde(rename = "http/protobuf")]
    Http,
    /// OTLP over gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

impl TracingProtocol {
    /// What is appended to the endpoint, and an example of one.
    fn path_and_example(self) -> (&'static str, &'static str) {
        match self {
            Self::Http => ("/v1/traces", "http://127.0.0.1:4318"),
            Self::Grpc => ("/", "http://127.0.0.1:4317"),
        }
    }
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: TracingProtocol::default(),
            headers_file: None,
            ratio: 0.01,
            most_per_second: 100,
            callers_per_second: 10,
            slow: Duration::from_secs(1),
            service_name: "dunlin-gateway".to_owned(),
            watched: false,
        }
    }
}

impl TracingConfig {
    /// The URL that spans are sent to; nothing where there are no traces.
    ///
    /// # Errors
    /// The endpoint is no URL of HTTP.
    pub(crate) fn url(&self) -> anyhow::Result<Option<Url>> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let (path, example) = self.protocol.path_and_example();
        let hint = || format!("tracing.endpoint {endpoint:?} must be a URL such as {example}");
        let url = Url::parse(&format!("{}{path}", endpoint.trim_end_matches('/'))).with_context(hint)?;
        ensure!(matches!(url.scheme(), "http" | "https"), hint());
        let has_path = url.path() != "/" || url.query().is_some();
        ensure!(self.protocol == TracingProtocol::Http || !has_path, "{}, without a path: gRPC has its own", hint());
        let named = !url.username().is_empty() || url.password().is_some();
        ensure!(!named, "tracing.endpoint must have no credentials in it; they belong into tracing.headers_file");
        Ok(Some(url))
    }

    /// # Errors
    /// The endpoint is no URL, or the ratio is none.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        self.url()?;
        ensure!((0.0..=1.0).contains(&self.ratio), "tracing.ratio {} must be from 0 to 1", self.ratio);
        ensure!(!self.service_name.is_empty(), "tracing.service_name must not be empty");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_url_without_credentials() {
        let url = |text: &str| TracingConfig { endpoint: Some(text.to_owned()), ..TracingConfig::default() }.url();
        for good in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/"] {
            assert_eq!(url(good).unwrap().unwrap().as_str(), "http://127.0.0.1:4318/v1/traces");
        }
        for bad in ["", "collector", "ftp://collector", "http://zoe:secret@collector"] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert!(TracingConfig::default().url().unwrap().is_none());
    }

    #[test]
    fn by_grpc_an_endpoint_has_no_path() {
        let of = |text: &str| {
            toml::from_str::<TracingConfig>(&format!("protocol = \"grpc\"\nendpoint = {text:?}")).unwrap().url()
        };
        assert_eq!(of("https://collector:4317").unwrap().unwrap().as_str(), "https://collector:4317/");
        assert!(of("http://collector:4317/v1/traces").unwrap_err().to_string().contains("without a path"));
        let unknown = toml::from_str::<TracingConfig>("protocol = \"http/json\"").unwrap_err().to_string();
        assert!(unknown.contains("http/protobuf") && unknown.contains("grpc"), "{unknown}");
    }

    #[test]
    fn a_ratio_is_from_nothing_to_all() {
        for (ratio, good) in [(0.0, true), (1.0, true), (-0.1, false), (1.1, false), (f64::NAN, false)] {
            let config = TracingConfig { ratio, ..TracingConfig::default() };
            assert_eq!(config.validate().is_ok(), good, "{ratio}");
        }
    }
}
