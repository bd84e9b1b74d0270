//! An issuer that people sign in at: what it says about itself (OpenID Connect Discovery 1.0), where browsers are sent, and
//! the exchange of a code for an ID token (RFC 6749 4.1.3). What it answers is not believed here, only read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use dunlin_proto::{ApiError, ErrorCode};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};
use url::{Url, form_urlencoded};

use super::pending::Pending;
use crate::{
    auth::jwks::fetch,
    config::{OidcConfig, SignInConfig},
};

/// How old what an issuer says about itself may be.
const FRESH: Duration = Duration::from_secs(300);
/// How long an issuer that failed is left alone.
const PAUSE: Duration = Duration::from_secs(5);
/// Codes that are exchanged at once; each of them costs a request that anybody can cause.
const EXCHANGES: usize = 32;
/// The longest secret of a client, in bytes.
const MAX_SECRET: usize = 1_024;

/// An issuer, and this dashboard as its client.
pub(super) struct Provider {
    pub(super) config: OidcConfig,
    pub(super) name: String,
    pub(super) client_id: String,
    pub(super) redirect: String,
    pub(super) secret: Option<String>,
    scope: String,
    client: reqwest::Client,
    known: Mutex<Option<Known>>,
    exchanges: Semaphore,
}

/// Without the secret.
impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}

/// What asking the issuer about itself brought, and when; nothing where it failed.
#[derive(Debug)]
struct Known {
    at: Instant,
    metadata: Option<Arc<Metadata>>,
}

/// What an issuer says about itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    /// Absent with issuers that have PKCE but don't say so.
    code_challenge_methods_supported: Option<Vec<String>>,
    /// Whether it says who it is when it sends a browser back (RFC 9207 3).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

/// What a token endpoint answers (RFC 6749 5).
#[derive(Deserialize)]
struct Exchanged {
    id_token: Option<String>,
    error: Option<String>,
}

impl Provider {
    /// An issuer through which people sign in; nothing is asked of it yet.
    pub(super) fn new(config: &OidcConfig, sign_in: &SignInConfig, redirect: String) -> anyhow::Result<Self> {
        let host = || Url::parse(&config.issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
        let scopes = std::iter::once("openid").chain(sign_in.scopes.iter().map(String::as_str));
        Ok(Self {
            config: config.clone(),
            name: sign_in.name.clone().or_else(host).unwrap_or_else(|| config.issuer.clone()),
            client_id: config.client_id().unwrap_or_default().to_owned(),
            redirect,
            secret: sign_in.client_secret_file.as_deref().map(secret).transpose()?,
            scope: scopes.collect::<Vec<_>>().join(" "),
            client: fetch::client(config.allow_private).context("prepare to ask issuers")?,
            known: Mutex::default(),
            exchanges: Semaphore::new(EXCHANGES),
        })
    }

    /// What the issuer says about itself: asked once for all that wait, and left alone for a while where that failed.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, ApiError> {
        let mut known = self.known.lock().await;
        if let Some(Known { at, metadata }) = &*known
            && at.elapsed() < if metadata.is_some() { FRESH } else { PAUSE }
        {
            return metadata.clone().ok_or_else(|| self.unreachable());
        }
        let found = self.discover().await.map(Arc::new);
        let metadata = found.as_ref().ok().cloned();
        *known = Some(Known { at: Instant::now(), metadata });
        found.map_err(|error| self.failed(&error))
    }

    async fn discover(&self) -> anyhow::Result<Metadata> {
        let found: Metadata = fetch::document(&self.client, &self.config, &self.config.discovery_url()).await?;
        ensure!(found.issuer == self.config.issuer, "the discovery document is of issuer {}", found.issuer);
        if let Some(methods) = &found.code_challenge_methods_supported {
            ensure!(methods.iter().any(|method| method == "S256"), "the issuer has no PKCE with S256");
        }
        let authorization = fetch::screened(&found.authorization_endpoint, &self.config)?;
        ensure!(authorization.fragment().is_none(), "{authorization} has a fragment");
        fetch::screened(&found.token_endpoint, &self.config)?;
        Ok(found)
    }

    /// Where a browser is sent to begin (RFC 6749 4.1.1, RFC 7636 4.3).
    pub(super) fn address(&self, metadata: &Metadata, pending: &Pending) -> Result<String, ApiError> {
        let mut url = Url::parse(&metadata.authorization_endpoint).map_err(|_| ApiError::internal())?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("scope", &self.scope)
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", &pending.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok(url.into())
    }

    /// Gets the ID token for a code.
    pub(super) async fn exchange(&self, metadata: &Metadata, code: &str, verifier: &str) -> Result<String, ApiError> {
        let busy = || ApiError::new(ErrorCode::Unavailable, "too many people sign in at this moment");
        let _turn = self.exchanges.try_acquire().map_err(|_| busy().retry_after(Duration::from_secs(2)))?;
        let (form, authorization) = (self.form(code, verifier), self.authorization()?);
        let url = &metadata.token_endpoint;
        let asked = fetch::post(&self.client, &self.config, url, authorization, form).await;
        let (status, body) = asked.map_err(|error| self.failed(&error))?;
        let answer: Exchanged = serde_json::from_slice(&body).map_err(|_| self.unusable(status, "no JSON"))?;
        match (status.is_success(), answer) {
            (true, Exchanged { id_token: Some(token), .. }) => Ok(token),
            (true, _) => Err(self.unusable(status, "no ID token")),
            (false, Exchanged { error: Some(error), .. }) if error == "invalid_grant" => Err(self.stale()),
            (false, Exchanged { error, .. }) => {
                Err(self.unusable(status, &error.as_deref().map_or_else(|| "no reason".to_owned(), code_of)))
            }
        }
    }

    fn form(&self, code: &str, verifier: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("code_verifier", verifier);
        if self.secret.is_none() {
            form.append_pair("client_id", &self.client_id);
        }
        form.finish()
    }

    /// The method `client_secret_basic` (RFC 6749 2.3.1): both are encoded as in a form before they are joined.
    fn authorization(&self) -> Result<Option<HeaderValue>, ApiError> {
        let Some(secret) = &self.secret else { return Ok(None) };
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = BASE64_STANDARD.encode(format!("{}:{}", encoded(&self.client_id), encoded(secret)));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| ApiError::internal())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn stale(&self) -> ApiError {
        let message = format!(
            "the issuer {} does not accept the code that it gave: it is good once, and not for long",
            self.name
        );
        ApiError::new(ErrorCode::Unauthenticated, message).hint("sign in once more")
    }

    fn failed(&self, error: &anyhow::Error) -> ApiError {
        tracing::warn!(
            issuer = self.config.issuer,
            error = format!("{error:#}"),
            "cannot ask an issuer to sign somebody in"
        );
        self.unreachable()
    }

    fn unreachable(&self) -> ApiError {
        ApiError::new(ErrorCode::Unavailable, format!("the issuer {} can't be asked at the moment", self.name))
            .hint("try again in a minute, or sign in with a token; the log of the gateway has the cause")
            .retry_after(PAUSE)
    }

    fn unusable(&self, status: StatusCode, what: &str) -> ApiError {
        tracing::warn!(issuer = self.config.issuer, %status, what, "an issuer did not give the token of a sign-in");
        ApiError::new(ErrorCode::Unavailable, format!("the issuer {} did not give a token: {what}", self.name))
            .hint("ask an operator: the dashboard's client at the issuer may be set up wrongly")
    }
}

/// An error's code (RFC 6749 5.2), as far as it can be shown: whoever sends a browser here chooses it.
pub(super) fn code_of(error: &str) -> String {
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    error.chars().filter(plain).take(64).collect()
}

/// Reads a client's secret of a file that nobody else may read.
fn secret(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let read = || format!("read the client's secret {name}");
    let mode = fs::metadata(path).with_context(read)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        bail!(
            "the client's secret {name} can be read by every user of this machine (mode {mode:04o}); run: chmod 600 {name}"
        );
    }
    let text = fs::read_to_string(path).with_context(read)?;
    let text = text.trim();
    let good = (1..=MAX_SECRET).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(good, "the client's secret {name} must be 1 to {MAX_SECRET} visible ASCII characters in one line");
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(secret: Option<&str>) -> Provider {
        let sign_in = SignInConfig { scopes: vec!["groups".into()], ..SignInConfig::default() };
        let config = OidcConfig {
            issuer: "https://id.example.com/realms/a".into(),
            audience: "dash board".into(),
            sign_in: Some(sign_in.clone()),
            ..OidcConfig::default()
        };
        let made = Provider::new(&config, &sign_in, "https://faas.example.com/sign-in/callback".into()).unwrap();
        Provider { secret: secret.map(str::to_owned), ..made }
    }

    #[test]
    fn a_client_with_a_secret_proves_itself_by_header_and_another_names_itself() {
        let with = provider(Some("a:b%c+"));
        let header = with.authorization().unwrap().unwrap();
        let text = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(BASE64_STANDARD.decode(text).unwrap(), b"dash+board:a%3Ab%25c%2B");
        assert!(header.is_sensitive() && !with.form("c", "v").contains("client_id"));
        let without = provider(None);
        assert!(without.authorization().unwrap().is_none() && without.form("c", "v").contains("client_id=dash+board"));
        assert_eq!(without.name, "id.example.com");
    }

    #[test]
    fn a_browser_is_sent_with_all_that_the_answer_is_compared_to() {
        let metadata = Metadata {
            issuer: String::new(),
            authorization_endpoint: "https://id.example.com/auth?tenant=a".into(),
            token_endpoint: String::new(),
            code_challenge_methods_supported: None,
            authorization_response_iss_parameter_supported: false,
        };
        let pending = Pending::new("i", "/", std::time::UNIX_EPOCH);
        let address = Url::parse(&provider(None).address(&metadata, &pending).unwrap()).unwrap();
        let pairs: Vec<(String, String)> = address.query_pairs().into_owned().collect();
        for (name, value) in [
            ("tenant", "a"),
            ("response_type", "code"),
            ("client_id", "dash board"),
            ("redirect_uri", "https://faas.example.com/sign-in/callback"),
            ("scope", "openid groups"),
            ("state", &pending.state),
            ("nonce", &pending.nonce),
            ("code_challenge", &pending.challenge()),
            ("code_challenge_method", "S256"),
        ] {
            assert!(pairs.contains(&(name.to_owned(), value.to_owned())), "{name}");
        }
        assert_eq!(pairs.len(), 9, "and nothing else, the verifier above all");
    }

    #[test]
    fn a_secret_is_a_private_file_with_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |text: &str, mode| {
            fs::write(file.path(), text).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            secret(file.path()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(check("hush\n", 0o600).as_deref(), Ok("hush"));
        assert!(check("hush", 0o644).unwrap_err().contains("chmod 600"));
        for bad in ["", "\n", "two\nlines", "spa ce", &"x".repeat(MAX_SECRET + 1)] {
            let error = check(bad, 0o600).unwrap_err();
            assert!(error.contains("one line") && !error.contains("spa ce"), "{error}");
        }
        assert!(secret(Path::new("/nowhere/secret")).is_err());
    }

    #[tokio::test]
    async fn an_issuer_that_hangs_is_not_waited_for_for_ever() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let config = OidcConfig { issuer: url.clone(), allow_private: true, ..OidcConfig::default() };
        let provider = Provider::new(&config, &SignInConfig::default(), String::new()).unwrap();
        let metadata = Metadata {
            issuer: url.clone(),
            authorization_endpoint: url.clone(),
            token_endpoint: url,
            code_challenge_methods_supported: None,
            authorization_response_iss_parameter_supported: false,
        };
        // Time passes at once where everybody waits.
        tokio::time::pause();
        let error = provider.exchange(&metadata, "code", "verifier").await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
        let (one, other) = tokio::join!(provider.metadata(), provider.metadata());
        assert!(one.unwrap_err().is_unavailable() && other.unwrap_err().is_unavailable());
    }

    #[test]
    fn errors_of_others_are_shown_as_codes() {
        assert_eq!(code_of("access_denied"), "access_denied");
        assert_eq!(code_of("<script>\u{1b}[1m ü"), "script1m");
        assert_eq!(code_of(&"x".repeat(1_000)).len(), 64);
    }
}
