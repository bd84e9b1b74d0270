//! How receivers are reached: HTTPS, bounded in time, without redirects, and not at private addresses unless the operator allows
//! it, since a tenant's URL must not become a way into the network. What is answered beside the status is not read.

use std::time::Duration;

use dunlin_process::addresses::{Screened, is_public};
use dunlin_proto::ApiError;
use http::{StatusCode, header};
use reqwest::{Client, Response, Url};

use super::event::MEDIA_TYPE;
use crate::config::WebhooksConfig;

/// A URL has no more bytes.
const MOST_URL: usize = 2_048;
/// A receiver answers within that.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is posted.
pub(super) struct Message<'m> {
    pub(super) id: &'m str,
    /// In seconds since 1970.
    pub(super) timestamp: i64,
    pub(super) signature: String,
    pub(super) body: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver has it.
    Taken(u16),
    /// The receiver wants nothing any more.
    Gone(u16),
    /// It did not work.
    Failed(Failure),
}

/// Why a receiver did not take a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// 0 where there was no answer.
    pub(super) status: u16,
    pub(super) error: String,
    /// So long the receiver does not want to be asked.
    pub(super) wait: Duration,
}

impl Failure {
    pub(super) fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }
}

/// Reaches receivers. Clones share connections.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    http: Client,
    allow_private: bool,
}

impl Sender {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// The system's authorities can't be read.
    pub(super) fn new(config: &WebhooksConfig) -> reqwest::Result<Self> {
        let allow_private = config.allow_private;
        let builder = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("dunlin/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Screened { allow_private });
        Ok(Self { http: builder.build()?, allow_private })
    }

    /// The URL as it is kept, where events may go there.
    ///
    /// # Errors
    /// `InvalidArgument` where they may not.
    pub(super) fn check(&self, text: &str) -> Result<Url, ApiError> {
        checked(text, self.allow_private).map_err(|(message, hint)| ApiError::invalid("url", message).hint(hint))
    }

    /// Posts a message once.
    pub(super) async fn post(&self, url: &str, message: Message<'_>) -> Answer {
        // What the operator allows may have changed since it was set.
        let url = match checked(url, self.allow_private) {
            Ok(url) => url,
            Err((error, _)) => return Answer::Failed(Failure::new(error)),
        };
        let request = self.http.post(url).header(header::CONTENT_TYPE, MEDIA_TYPE);
        let request = request.header("webhook-id", message.id).header("webhook-timestamp", message.timestamp);
        let request = request.header("webhook-signature", message.signature).body(message.body);
        match request.send().await {
            Ok(response) => answer(&response),
            Err(error) => Answer::Failed(Failure::new(reason(error))),
        }
    }
}

fn answer(response: &Response) -> Answer {
    let status = response.status();
    let code = status.as_u16();
    if status.is_success() {
        return Answer::Taken(code);
    }
    if status == StatusCode::GONE {
        return Answer::Gone(code);
    }
    let note = if status.is_redirection() { "; redirects are not followed" } else { "" };
    let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = Duration::from_secs(wait.unwrap_or_default());
    Answer::Failed(Failure { status: code, error: format!("the receiver answered {status}{note}"), wait })
}

/// Why there was no answer, without the URL, which may have something secret in it.
fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("the receiver did not answer within {} s", PATIENCE.as_secs());
    }
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

/// A URL to which events may go; otherwise, what is wrong with it, and what to do.
fn checked(text: &str, allow_private: bool) -> Result<Url, (&'static str, &'static str)> {
    let usual = "one is https://example.com/dunlin";
    if text.len() > MOST_URL {
        return Err(("url has too many bytes; 2,048 are allowed", usual));
    }
    let url = Url::parse(text).map_err(|_| ("url is no URL", usual))?;
    if url.scheme() != "https" && !(allow_private && url.scheme() == "http") {
        return Err(("url must begin with https://", usual));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("url must not have a user or password in it", "receivers know events by their signature"));
    }
    if url.fragment().is_some() {
        return Err(("url must not have a fragment (#)", usual));
    }
    // An address in the URL itself is not resolved, so it is screened here.
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    if address.is_ok_and(|address| !allow_private && !is_public(address)) {
        return Err(("url has a private address", "an operator can allow them: webhooks.allow_private"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_screened() {
        let fits = |url: &str, allow| checked(url, allow).is_ok();
        assert!(fits("https://example.com/dunlin?a=b", false) && fits("http://127.0.0.1:1/x", true));
        for url in [
            "",
            "example.com",
            "http://example.com/",
            "ftp://example.com/",
            "https://",
            "https://ada@example.com/",
            "https://ada:secret@example.com/",
            "https://example.com/#a",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://2130706433/",
            "https://0x7f.1/",
            &format!("https://example.com/{}", "a".repeat(2_048)),
        ] {
            assert!(!fits(url, false), "{url}");
        }
    }

    #[tokio::test]
    async fn names_of_private_addresses_lead_nowhere() {
        let sender = Sender::new(&WebhooksConfig::default()).unwrap();
        let message = Message { id: "a", timestamp: 1, signature: String::new(), body: String::new() };
        let Answer::Failed(failure) = sender.post("https://localhost:1/secret", message).await else { panic!() };
        assert!(failure.error.contains("localhost has no public address"), "{failure:?}");
        assert!(!failure.error.contains("/secret"), "{failure:?}");
    }
}
