//! How people sign in at the dashboard through an issuer of tokens (OpenID Connect Core 1.0, 3.1), as an operator sets it.
//! What the issuer says about itself is not looked at here.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::oidc::{OidcConfig, OidcPurpose};

/// Where an issuer sends browsers back to, below the dashboard's address.
const CALLBACK: &str = "/sign-in/callback";

/// Signing in at the dashboard through an issuer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignInConfig {
    /// What the button calls the issuer. Default: its host.
    pub name: Option<String>,
    /// The dashboard's `client_id` at the issuer, which its ID tokens have as `aud`. Default: `audience`.
    pub client_id: Option<String>,
    /// The file of the client's secret, which nobody else may read. Default none: a public client, which PKCE alone protects.
    pub client_secret_file: Option<PathBuf>,
    /// Scopes to ask for beside `openid`. Default none.
    pub scopes: Vec<String>,
    /// The dashboard's address as browsers have it, such as `https://faas.example.com:8081`. The issuer has to know
    /// `{public_url}/sign-in/callback` as redirect URI. Default: the address of `admin`, where that is loopback.
    pub public_url: Option<String>,
}

impl SignInConfig {
    /// The redirect URI, of an administration listener at this address.
    #[must_use]
    pub fn redirect(&self, admin: SocketAddr, tls: bool) -> String {
        let own = || format!("{}://{admin}", if tls { "https" } else { "http" });
        let base = self.public_url.clone().unwrap_or_else(own);
        format!("{}{CALLBACK}", base.trim_end_matches('/'))
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// An issuer of tokens for calls, a client id of the cluster's own, a scope or an address that is none.
    pub(super) fn validate(&self, oidc: &OidcConfig, admin: SocketAddr) -> anyhow::Result<()> {
        let issuer = &oidc.issuer;
        ensure!(
            oidc.purpose == OidcPurpose::Administration,
            "oidc: sign_in of issuer {issuer} needs purpose = \"administration\""
        );
        for scope in &self.scopes {
            ensure!(
                is_scope(scope),
                "oidc: {scope:?} in sign_in.scopes of issuer {issuer} is no scope; name one in each text"
            );
        }
        match &self.public_url {
            Some(url) => check_address(url).with_context(|| format!("oidc: sign_in.public_url of issuer {issuer}")),
            None => {
                let known = admin.ip().is_loopback();
                ensure!(
                    known,
                    "oidc: sign_in of issuer {issuer} needs public_url, the dashboard's address as browsers have it"
                );
                Ok(())
            }
        }
    }
}

/// A scope token (RFC 6749 3.3).
fn is_scope(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    !text.is_empty() && text.bytes().all(inside)
}

/// An origin alone: HTTPS, or HTTP on this machine.
fn check_address(text: &str) -> anyhow::Result<()> {
    let url = Url::parse(text).with_context(|| format!("{text:?} is no URL"))?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let secure = url.scheme() == "https" || (here && url.scheme() == "http");
    ensure!(secure, "{text:?} must begin with https:// (http:// on loopback alone)");
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    ensure!(plain && url.password().is_none(), "{text:?} must be scheme, host and port alone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oidc(sign_in: SignInConfig) -> OidcConfig {
        OidcConfig {
            issuer: "https://id.example.com".into(),
            audience: "dunlin".into(),
            sign_in: Some(sign_in),
            ..OidcConfig::default()
        }
    }

    fn check(sign_in: &SignInConfig, admin: &str) -> Result<(), String> {
        sign_in.validate(&oidc(sign_in.clone()), admin.parse().unwrap()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_dashboard_beyond_loopback_says_where_it_is() {
        assert!(check(&SignInConfig::default(), "127.0.0.1:8081").is_ok());
        assert!(check(&SignInConfig::default(), "0.0.0.0:8081").unwrap_err().contains("needs public_url"));
        let at =
            |url: &str| check(&SignInConfig { public_url: Some(url.into()), ..SignInConfig::default() }, "0.0.0.0:1");
        for good in
            ["https://faas.example.com", "https://faas.example.com:8081/", "http://127.0.0.1:1", "http://[::1]:1"]
        {
            assert_eq!(at(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("faas.example.com", "no URL"),
            ("http://faas.example.com", "https://"),
            ("ftp://127.0.0.1", "https://"),
            ("https://faas.example.com/dunlin", "alone"),
            ("https://faas.example.com/?a", "alone"),
            ("https://me@faas.example.com/", "alone"),
            ("https://faas.example.com/#a", "alone"),
        ] {
            assert!(at(bad).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn scopes_and_purpose_are_checked() {
        for bad in ["", "a b", "a\"", "ä"] {
            let config = SignInConfig { scopes: vec!["groups".into(), bad.into()], ..SignInConfig::default() };
            assert!(check(&config, "127.0.0.1:1").unwrap_err().contains("no scope"), "{bad:?}");
        }
        let calls = OidcConfig { purpose: OidcPurpose::Call, ..oidc(SignInConfig::default()) };
        let error = SignInConfig::default().validate(&calls, "127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("administration"));
    }

    #[test]
    fn the_redirect_uri_is_the_configurations() {
        let (own, given) = (
            SignInConfig::default(),
            SignInConfig { public_url: Some("https://a.b/".into()), ..SignInConfig::default() },
        );
        let admin = "127.0.0.1:8081".parse().unwrap();
        assert_eq!(own.redirect(admin, false), "http://127.0.0.1:8081/sign-in/callback");
        assert_eq!(own.redirect(admin, true), "https://127.0.0.1:8081/sign-in/callback");
        assert_eq!(given.redirect(admin, false), "https://a.b/sign-in/callback");
    }
}
