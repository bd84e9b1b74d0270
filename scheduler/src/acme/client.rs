//! How the authority is reached: HTTPS, bounded in time and size, without redirects. What is asked and answered is the
//! library's business; here it is only noted when the authority wants to be asked again.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::RETRY_AFTER};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};

use crate::{config::AcmeConfig, model::Time};

/// A question takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// An answer has no more bytes.
const MAX_BYTES: usize = 1 << 20;
/// An authority is not waited for any longer, whatever it says.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reaches one authority. Clones share what it wants.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Before which moment it does not want to be asked.
    wanted: Arc<AtomicI64>,
}

impl Client {
    /// A client of this authority.
    ///
    /// # Errors
    /// The file of authorities can't be read.
    pub(super) fn new(config: &AcmeConfig) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder()
            .timeout(PATIENCE)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("dunlin/", env!("CARGO_PKG_VERSION")));
        let builder = match &config.ca_file {
            Some(file) => builder.tls_certs_only(authorities(file)?),
            None => builder,
        };
        Ok(Self { http: builder.build().context("set up the client of acme.directory")?, wanted: Arc::default() })
    }

    /// Before which moment the authority does not want to be asked; nothing where it has not said so.
    pub(super) fn wanted(&self) -> Option<Time> {
        Some(Time(self.wanted.load(Ordering::Relaxed))).filter(|wanted| *wanted > Time::now())
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> anyhow::Result<BytesResponse> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.context("read the question")?.to_bytes();
        let request = self.http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let mut answer = request.send().await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            bytes.extend_from_slice(&chunk);
            ensure!(bytes.len() <= MAX_BYTES, "the authority's answer has more than {MAX_BYTES} bytes");
        }
        let mut head = Response::new(());
        *head.status_mut() = answer.status();
        *head.headers_mut() = std::mem::take(answer.headers_mut());
        if head.status() == 429 || head.status() == 503 {
            let until = retry_after(head.headers(), Time::now());
            self.wanted.store(until.map_or(0, |until| until.0), Ordering::Relaxed);
        }
        Ok(BytesResponse { parts: head.into_parts().0, body: Box::new(Bytes::from(bytes)) })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let asked = self.clone().ask(request);
        Box::pin(async move { asked.await.map_err(|error| instant_acme::Error::Other(format!("{error:#}").into())) })
    }
}

fn authorities(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let pem = std::fs::read(file).with_context(|| format!("read acme.ca_file {}", file.display()))?;
    let read = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    ensure!(!read.is_empty(), "acme.ca_file {} holds no certificate (PEM blocks BEGIN CERTIFICATE)", file.display());
    Ok(read)
}

/// When it wants to be asked again (RFC 9110 10.2.3).
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Time> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now.wall()).ok()?,
    };
    Some(now.after(pause.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_ask_again_is_read_as_seconds_or_date_and_bounded() {
        let now = Time(1_800_000_000_000_000);
        for (text, seconds) in [
            ("120", Some(120)),
            ("99999999999", Some(7 * 24 * 3600)),
            ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
            ("Fri, 15 Jan 2021 08:01:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            let expected = seconds.map(|seconds| now.after(Duration::from_secs(seconds)));
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
