//! Issuers of tokens beside the cluster itself (OpenID Connect Discovery 1.0, RFC 7517), as an operator names them.

use std::{collections::HashSet, net::SocketAddr};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::SignInConfig;

/// An issuer whose tokens are trusted, for one purpose.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcConfig {
    /// The `iss` of its tokens, to the letter.
    pub issuer: String,
    /// The `aud` that its tokens must have. Must not be one of the cluster's own (`dunlin-admin`, `dunlin:...`).
    pub audience: String,
    /// What its tokens are for. Default `administration`.
    pub purpose: OidcPurpose,
    /// Where its keys are. Default: what `{issuer}/.well-known/openid-configuration` says.
    pub jwks_url: Option<String>,
    /// The algorithms of its tokens, of one family. Default RS256.
    pub algorithms: Vec<OidcAlgorithm>,
    /// The claim that holds grants: objects as in the cluster's tokens, or texts such as `shop:developer` and
    /// `operator`. Default `dunlin_grants`. For administration.
    pub grants_claim: String,
    /// Namespaces whose functions its tokens may call. For calls.
    pub namespaces: Vec<String>,
    /// The claim that names such a namespace, or several. For calls. Default none.
    pub namespace_claim: Option<String>,
    /// Whether the issuer may have a loopback or private address, and plain HTTP there. Default false.
    pub allow_private: bool,
    /// Signing in at the dashboard through it. For administration. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignInConfig>,
}

/// What an issuer's tokens are for. No token is good for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum OidcPurpose {
    /// The API, the dashboard and its endpoints.
    #[default]
    Administration,
    /// Private functions.
    Call,
}

/// Algorithms of tokens (RFC 7518 3.1, RFC 8037); the ones with a shared secret are none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the registry")]
pub enum OidcAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl OidcAlgorithm {
    /// Keys of one family fit algorithms of that family only.
    #[must_use]
    pub fn family(self) -> &'static str {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => "RSA",
            Self::ES256 | Self::ES384 => "EC",
            Self::EdDSA => "Ed25519",
        }
    }
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            purpose: OidcPurpose::Administration,
            jwks_url: None,
            algorithms: vec![OidcAlgorithm::RS256],
            grants_claim: "dunlin_grants".to_owned(),
            namespaces: Vec::new(),
            namespace_claim: None,
            allow_private: false,
            sign_in: None,
        }
    }
}

impl OidcConfig {
    /// Where its keys are found out.
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'))
    }

    /// The `aud` of its ID tokens, where people sign in through it.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.sign_in.as_ref().map(|sign_in| sign_in.client_id.as_deref().unwrap_or(&self.audience))
    }

    fn validate(&self, admin: SocketAddr) -> anyhow::Result<()> {
        let Self { issuer, audience, .. } = self;
        for url in [Some(issuer), self.jwks_url.as_ref()].into_iter().flatten() {
            let secure = url.starts_with("https://") || (self.allow_private && url.starts_with("http://"));
            ensure!(secure, "oidc: {url:?} must begin with https:// (http:// needs allow_private = true)");
        }
        ensure!(!audience.is_empty(), "oidc: issuer {issuer} needs an audience");
        for audience in [Some(audience.as_str()), self.client_id()].into_iter().flatten() {
            ensure!(
                audience != "dunlin-admin" && !audience.starts_with("dunlin:"),
                "oidc: audience {audience:?} of issuer {issuer} belongs to the cluster's own tokens; choose another"
            );
        }
        ensure!(self.client_id() != Some(""), "oidc: sign_in.client_id of issuer {issuer} must not be empty");
        let families: HashSet<_> = self.algorithms.iter().map(|algorithm| algorithm.family()).collect();
        ensure!(families.len() == 1, "oidc: algorithms of issuer {issuer} must be of one family, RSA, EC or Ed25519");
        for namespace in &self.namespaces {
            namespace.parse::<dunlin_proto::ids::Namespace>()?;
        }
        self.sign_in.as_ref().map_or(Ok(()), |sign_in| sign_in.validate(self, admin))
    }
}

pub(super) fn validate(issuers: &[OidcConfig], admin: SocketAddr) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for oidc in issuers {
        oidc.validate(admin)?;
        ensure!(oidc.issuer != "dunlin", "oidc: issuer \"dunlin\" is the cluster itself");
        let again = format!("oidc: issuer {} appears twice for the same purpose", oidc.issuer);
        ensure!(seen.insert((&oidc.issuer, oidc.purpose)), again);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oidc() -> OidcConfig {
        OidcConfig { issuer: "https://id.example.com".into(), audience: "dunlin".into(), ..OidcConfig::default() }
    }

    fn validate(issuers: &[OidcConfig]) -> anyhow::Result<()> {
        super::validate(issuers, "127.0.0.1:8081".parse().unwrap())
    }

    fn client(id: &str) -> Option<SignInConfig> {
        Some(SignInConfig { client_id: Some(id.to_owned()), ..SignInConfig::default() })
    }

    #[test]
    fn a_bad_issuer_is_named() {
        validate(&[oidc()]).unwrap();
        type Change = fn(&mut OidcConfig);
        let changes: [(&str, Change); 9] = [
            ("https://", |o| o.issuer = "http://id.example.com".into()),
            ("https://", |o| o.jwks_url = Some("ftp://x".into())),
            ("audience", |o| o.audience = String::new()),
            ("belongs to the cluster", |o| o.audience = "dunlin-admin".into()),
            ("belongs to the cluster", |o| o.audience = "dunlin:shop".into()),
            ("belongs to the cluster", |o| o.sign_in = client("dunlin-admin")),
            ("must not be empty", |o| o.sign_in = client("")),
            ("one family", |o| o.algorithms.push(OidcAlgorithm::ES256)),
            ("one family", |o| o.algorithms.clear()),
        ];
        for (part, change) in changes {
            let mut changed = oidc();
            change(&mut changed);
            let error = validate(&[changed]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(validate(&[oidc(), oidc()]).is_err());
        assert!(validate(&[oidc(), OidcConfig { purpose: OidcPurpose::Call, ..oidc() }]).is_ok());
    }
}
