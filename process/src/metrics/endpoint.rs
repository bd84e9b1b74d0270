//! The port on which a process answers scrapes: `GET /metrics` over HTTP/1.1, and nothing else. It knows no credentials, so it
//! stays on loopback unless somebody says otherwise.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{Format, Metrics};
use crate::{listen, shutdown::Shutdown};

/// Connections that are answered at once; whoever comes then waits.
const CONNECTIONS: usize = 16;
/// How long a request's head may take, and how long a connection rests between two: more than a usual scrape interval.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a connection lives at the most, so that no reader keeps its place for ever.
const LIFE: Duration = Duration::from_secs(3600);

/// Where a process answers scrapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where metrics are served without a credential, as `/metrics` in clear text; loopback only unless `allow_remote`. Default none.
    pub listen: Option<SocketAddr>,
    /// Whether `listen` may be an address that others reach: whoever reaches it reads names of functions and how often they are
    /// called. Default false.
    pub allow_remote: bool,
}

impl MetricsConfig {
    /// Checks what types can't say.
    ///
    /// # Errors
    /// An address beyond loopback that nobody has allowed.
    pub fn validate(&self) -> anyhow::Result<()> {
        let Some(address) = self.listen else { return Ok(()) };
        let own = address.ip().to_canonical().is_loopback();
        ensure!(
            own || self.allow_remote,
            "metrics.listen {address} is not on loopback, and everybody who reaches it could read it; choose 127.0.0.1, or \
             set metrics.allow_remote = true where the network keeps strangers out"
        );
        Ok(())
    }

    /// Opens the port, where there is to be one.
    ///
    /// # Errors
    /// As [`Self::validate`]; the address is taken or not one of this machine.
    pub fn bind(&self) -> anyhow::Result<Option<Serving>> {
        self.validate()?;
        let Some(address) = self.listen else { return Ok(None) };
        let listener = listen::listen(address)
            .with_context(|| format!("serve metrics on {address}; choose another address with metrics.listen"))?;
        let address = listener.local_addr().context("read the address of metrics.listen")?;
        Ok(Some(Serving { listener, address }))
    }
}

/// An open port for scrapes.
#[derive(Debug)]
pub struct Serving {
    listener: TcpListener,
    address: SocketAddr,
}

impl Serving {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers scrapes until `shutdown` begins.
    pub async fn run(self, metrics: Metrics, shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        tracing::info!(address = %self.address, "serving metrics");
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.begun() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    listen::pause(&error).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (metrics, end) = (metrics.clone(), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    _ = tokio::time::timeout(LIFE, converse(stream, metrics)) => {}
                    () = end.begun() => {}
                }
                drop(place);
            });
        }
    }
}

/// Answers what comes on a connection. Whatever is wrong with it ends it.
async fn converse(stream: TcpStream, metrics: Metrics) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn answer<B>(request: &Request<B>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "There is only /metrics here.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "Metrics can only be read.\n");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    let mut page = Response::new(Full::new(Bytes::from(metrics.render(format))));
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    page
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn config(listen: &str, allow_remote: bool) -> MetricsConfig {
        MetricsConfig { listen: Some(listen.parse().unwrap()), allow_remote }
    }

    #[test]
    fn it_stays_on_loopback_unless_somebody_says_otherwise() {
        for (listen, remote, right) in [
            ("127.0.0.1:1", false, true),
            ("[::1]:1", false, true),
            ("[::ffff:127.0.0.1]:1", false, true),
            ("0.0.0.0:1", false, false),
            ("[::]:1", false, false),
            ("10.0.0.1:1", false, false),
            ("10.0.0.1:1", true, true),
        ] {
            let checked = config(listen, remote).validate();
            assert_eq!(checked.is_ok(), right, "{listen} {remote}");
            assert!(right || checked.unwrap_err().to_string().contains("metrics.allow_remote = true"));
        }
        assert!(MetricsConfig::default().validate().is_ok());
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_answers_scrapes_and_nothing_else() {
        let (metrics, shutdown) = (Metrics::of_process("1"), Shutdown::default());
        let serving = config("127.0.0.1:0", false).bind().unwrap().unwrap();
        let address = serving.address();
        shutdown.spawn(serving.run(metrics, shutdown.clone()));
        let page = ask(address, "GET /metrics HTTP/1.1").await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/plain; version=0.0.4"), "{page}");
        assert!(page.contains("\ndunlin_build_info{version=\"1\"} 1\n"), "{page}");
        let page = ask(address, "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text").await;
        assert!(page.contains("application/openmetrics-text; version=1.0.0") && page.ends_with("# EOF\n"), "{page}");
        assert!(ask(address, "GET / HTTP/1.1").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1").await.starts_with("HTTP/1.1 405"));
        shutdown.begin();
        assert!(shutdown.finish(Duration::from_secs(20)).await);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_setting() {
        let held = config("127.0.0.1:0", false).bind().unwrap().unwrap();
        let again = config(&held.address().to_string(), false).bind().unwrap_err();
        assert!(format!("{again:#}").contains("metrics.listen"), "{again:#}");
        assert!(MetricsConfig::default().bind().unwrap().is_none());
    }
}
