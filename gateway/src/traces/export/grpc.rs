//! A batch of spans on its way by OTLP over gRPC, and what its answer means. Nothing is connected before there is something to send.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http::{HeaderMap, Uri, uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use reqwest::Url;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Request, Status,
    client::Grpc as Caller,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::{Failure, MAX_ANSWER, PATIENCE, rejected};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The method that takes spans (opentelemetry-proto, `trace_service.proto`).
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How long a silent connection is trusted before it is asked for a sign of life, and how long for that.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// The port of `https://` where a URL names none.
const HTTPS: u16 = 443;
/// Bytes of what a collector says that are told on.
const MAX_MESSAGE: usize = 200;

/// A collector that speaks gRPC.
#[derive(Debug)]
pub(super) struct Grpc {
    channel: Channel,
    metadata: MetadataMap,
}

impl Grpc {
    /// One at this URL, which gets these headers.
    ///
    /// # Errors
    /// By TLS, no authority of certificates is trusted.
    pub(super) fn new(url: &Url, headers: HeaderMap) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_string()).context("read tracing.endpoint")?;
        let endpoint = endpoint
            .user_agent(concat!("dunlin-gateway/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1);
        let channel = if url.scheme() == "https" {
            let config = Arc::new(tls()?);
            endpoint.connect_with_connector_lazy(tower::service_fn(move |uri| open(uri, config.clone())))
        } else {
            endpoint.connect_lazy()
        };
        Ok(Self { channel, metadata: MetadataMap::from_headers(headers) })
    }

    /// Sends a batch once; how many spans of it the collector did not want.
    pub(super) async fn sent(&self, batch: &ExportTraceServiceRequest) -> Result<usize, Failure> {
        match timeout(PATIENCE, self.asked(batch)).await {
            Ok(answered) => answered.map(rejected).map_err(|status| failure(&status)),
            Err(_) => Err(Failure::Passing(format!("it did not answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn asked(&self, batch: &ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
        let mut request = Request::new(batch.clone());
        *request.metadata_mut() = self.metadata.clone();
        let mut caller = Caller::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        caller.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<ExportTraceServiceRequest, ExportTraceServiceResponse>::default();
        Ok(caller.unary(request, PathAndQuery::from_static(METHOD), codec).await?.into_inner())
    }
}

/// What an error comes to. One of the connection may pass, and of a collector's those of the list (OTLP 1.10, "Failures").
fn failure(status: &Status) -> Failure {
    let said = status.message();
    let said = said.get(..said.floor_char_boundary(MAX_MESSAGE)).unwrap_or_default();
    if let Some(cause) = std::error::Error::source(status) {
        return Failure::Passing(chain(said, cause));
    }
    let why = format!("it answered {:?}: {said}", status.code());
    if may_pass(status) { Failure::Passing(why) } else { Failure::Final(why) }
}

/// An error and what caused it, once each.
fn chain(said: &str, cause: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(cause), |error| error.source()).map(ToString::to_string);
    let mut parts = vec![said.to_owned()];
    parts.extend(causes);
    parts.dedup();
    parts.join(": ")
}

fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // Only who says when to come back will have room again.
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        _ => false,
    }
}

async fn open(uri: Uri, config: Arc<ClientConfig>) -> Result<TokioIo<TlsStream<TcpStream>>, BoxError> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(TlsConnector::from(config).connect(ServerName::try_from(host)?, stream).await?))
}

/// Whom to trust is the system's word: its own authorities, or those of the file that `SSL_CERT_FILE` names.
fn tls() -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    anyhow::ensure!(
        trusted > 0,
        "tracing.endpoint is https, but this system trusts no authority of certificates; name a file of some with SSL_CERT_FILE"
    );
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().context("set up TLS to the collector of traces")?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn passes(status: &Status) -> bool {
        matches!(failure(status), Failure::Passing(_))
    }

    #[test]
    fn what_a_collector_can_not_do_now_it_is_asked_again() {
        for (code, expected) in [
            (Code::Unavailable, true),
            (Code::DeadlineExceeded, true),
            (Code::InvalidArgument, false),
            (Code::Unauthenticated, false),
            (Code::Unimplemented, false),
            (Code::ResourceExhausted, false),
        ] {
            assert_eq!(passes(&Status::new(code, "why")), expected, "{code:?}");
        }
        let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        assert!(passes(&Status::with_error_details(Code::ResourceExhausted, "full", later)));
        assert!(passes(&Status::from_error(Box::new(std::io::Error::other("reset")))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
        let collector = Grpc::new(&url, HeaderMap::new()).unwrap();
        let failed = collector.sent(&ExportTraceServiceRequest::default()).await.unwrap_err();
        assert!(matches!(failed, Failure::Passing(_)), "{failed:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_that_may_pass() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let collector = Grpc::new(&url, HeaderMap::new()).unwrap();
        let failed = collector.sent(&ExportTraceServiceRequest::default()).await.unwrap_err();
        assert!(matches!(&failed, Failure::Passing(why) if why.contains("refused")), "{failed:?}");
    }
}
