//! Asking an issuer over HTTPS, for its keys and what else it says: bounded in time and size, without redirects, and not from private addresses unless the
//! operator allows it, since an issuer's URL must not become a way into the network.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Error, ensure};
use dunlin_process::addresses::{Screened, is_public};
use http::{HeaderValue, StatusCode, header};
use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, Response, Url};
use serde::{Deserialize, de::DeserializeOwned};

use super::trouble::Trouble;
use crate::config::OidcConfig;

/// A fetch takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A document has no more bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// An answer to a form has no more bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

pub(in crate::auth) fn client(allow_private: bool) -> reqwest::Result<Client> {
    Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Screened { allow_private })
        .build()
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys of an issuer, by its discovery document where no URL is configured.
pub(super) async fn keys(client: &Client, config: &OidcConfig) -> anyhow::Result<JwkSet> {
    let url = match &config.jwks_url {
        Some(url) => url.clone(),
        None => {
            let found: Discovery = document(client, config, &config.discovery_url()).await?;
            let other = || format!("the discovery document is of issuer {}", found.issuer);
            ensure!(found.issuer == config.issuer, Error::new(Trouble::NotKeys).context(other()));
            found.jwks_uri
        }
    };
    document(client, config, &url).await
}

/// Fetches a document of an issuer.
pub(in crate::auth) async fn document<T: DeserializeOwned>(
    client: &Client,
    config: &OidcConfig,
    url: &str,
) -> anyhow::Result<T> {
    let url = screened(url, config)?;
    let response = client.get(url.clone()).send().await.with_context(|| format!("fetch {url}"))?;
    let (status, refused) = (response.status(), || Error::new(Trouble::Refused));
    ensure!(status.is_success(), refused().context(format!("{url} answered {status}")));
    let body = read(response, &url, MAX_BYTES).await?;
    serde_json::from_slice(&body).with_context(|| format!("read JSON of {url}"))
}

/// Sends a form to an issuer; what it answers, errors included.
pub(in crate::auth) async fn post(
    client: &Client,
    config: &OidcConfig,
    url: &str,
    authorization: Option<HeaderValue>,
    form: String,
) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let url = screened(url, config)?;
    let request = client.post(url.clone()).header(header::ACCEPT, "application/json").body(form);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = match authorization {
        Some(value) => request.header(header::AUTHORIZATION, value),
        None => request,
    };
    let response = request.send().await.with_context(|| format!("ask {url}"))?;
    Ok((response.status(), read(response, &url, MAX_ANSWER_BYTES).await?))
}

async fn read(mut response: Response, url: &Url, most: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.with_context(|| format!("read {url}"))? {
        body.extend_from_slice(&chunk);
        let much = || Error::new(Trouble::TooLarge).context(format!("{url} has more than {most} bytes"));
        ensure!(body.len() <= most, much());
    }
    Ok(body)
}

/// Reads a URL that an issuer or the operator named.
pub(in crate::auth) fn screened(url: &str, config: &OidcConfig) -> anyhow::Result<Url> {
    let url = Url::parse(url).with_context(|| format!("read URL {url:?}"))?;
    screen(&url, config.allow_private)?;
    Ok(url)
}

/// An address in the URL itself is not resolved, so it is screened here.
fn screen(url: &Url, allow_private: bool) -> anyhow::Result<()> {
    let host = url.host_str().with_context(|| format!("{url} has no host"))?;
    let refused = |why: Trouble, what: &str| Err(Error::new(why).context(format!("{url} {what}")));
    if url.scheme() != "https" && !(allow_private && url.scheme() == "http") {
        return refused(Trouble::Insecure, "must be https");
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if !allow_private && !is_public(address) => refused(Trouble::Private, "has a private address"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_screened() {
        let screened = |url: &str, allow| screen(&Url::parse(url).unwrap(), allow).is_ok();
        assert!(screened("https://id.example.com/keys", false));
        for url in
            ["http://id.example.com/", "https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0x7f.1/"]
        {
            assert!(!screened(url, false), "{url}");
        }
        assert!(screened("http://127.0.0.1:1/keys", true) && !screened("ftp://127.0.0.1/", true));
    }
}
