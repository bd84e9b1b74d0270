//! Asking an issuer over HTTPS, for its keys and what else it says: bounded in time and size, without redirects, and not from private addresses unless the
//! operator allows it, since an issuer's URL must not become a way into the network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use http::{HeaderValue, StatusCode, header};
use jsonwebtoken::jwk::JwkSet;
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::config::OidcConfig;

/// A fetch takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A document has no more bytes.
const MAX_BYTES: usize = 1 << 20;
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
            ensure!(found.issuer == config.issuer, "the discovery document is of issuer {}", found.issuer);
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
    ensure!(response.status().is_success(), "{url} answered {}", response.status());
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
        ensure!(body.len() <= most, "{url} has more than {most} bytes");
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
    if url.scheme() != "https" && !(allow_private && url.scheme() == "http") {
        bail!("{url} must be https");
    }
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if !allow_private && !is_public(address) => bail!("{url} has a private address"),
        _ => Ok(()),
    }
}

/// Resolves names as the system does, and drops the addresses that are not public.
#[derive(Debug, Clone, Copy)]
struct Screened {
    allow_private: bool,
}

impl Resolve for Screened {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public = move |address: &SocketAddr| allow_private || is_public(address.ip());
            let allowed: Vec<_> = found.filter(public).collect();
            if allowed.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public Internet (the registries of RFC 6890), in all spellings of IPv4 in IPv6.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_public_v4(mapped),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 0 && c == 0);
    !(special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Only global unicast, without documentation, benchmarking, 6to4, Teredo and NAT64 (which embed IPv4 addresses).
    let [first, second, ..] = address.segments();
    let global = (0x2000..0x4000).contains(&first);
    global && first != 0x2002 && !(first == 0x2001 && (second < 0x0200 || second == 0x0db8)) && first != 0x3fff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t60_private_addresses_are_told_in_all_spellings() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

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
