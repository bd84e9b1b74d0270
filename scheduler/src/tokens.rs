//! Tokens that the cluster issues (JWT, RFC 7519, signed by EdDSA, RFC 8037). Verifying them is the gateways' work: they get
//! the public key with their configuration.

use std::{path::Path, time::Duration};

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use dunlin_proto::ids::{Digest, Namespace};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::{model::Time, signing::open_key};

/// The longest life of a token.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The issuer that tokens name.
const ISSUER: &str = "dunlin";

/// A role that an administration token grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Grant {
    /// Absent for `operator`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<Namespace>,
    pub(crate) role: &'static str,
}

impl Grant {
    /// Everything in the cluster.
    pub(crate) const OPERATOR: Self = Self { namespace: None, role: "operator" };
}

/// What a token is good for. No token is good for both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The administration API.
    Administration(Vec<Grant>),
    /// Calling the private functions of one namespace, with scopes.
    Call(Namespace, Vec<String>),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: String,
    sub: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grants: Option<&'a [Grant]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Signs tokens.
pub(crate) struct TokenSigner {
    key: EncodingKey,
    id: String,
    public_key: Vec<u8>,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Reads the key from `keys/token.pk8`, or makes it.
    pub(crate) fn open(keys: &Path) -> anyhow::Result<Self> {
        let pkcs8 = open_key(&keys.join("token.pk8"))?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).context("read the token signing key")?;
        let public_key = pair.public_key().as_ref().to_vec();
        let id = Digest::of(&public_key).hex().chars().take(16).collect();
        Ok(Self { key: EncodingKey::from_ed_der(&pkcs8), id, public_key })
    }

    /// The `kid` of its tokens.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The public key, 32 bytes.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// A token for `subject`, and the second when it ends. `lifetime` is cut to [`MAX_LIFETIME`].
    pub(crate) fn mint(
        &self,
        subject: &str,
        purpose: &Purpose,
        lifetime: Duration,
        now: Time,
    ) -> anyhow::Result<(String, i64)> {
        let (aud, grants, scope) = match purpose {
            Purpose::Administration(grants) => ("dunlin-admin".to_owned(), Some(grants.as_slice()), None),
            Purpose::Call(namespace, scopes) => (format!("dunlin:{namespace}"), None, Some(scopes.join(" "))),
        };
        let iat = now.0.div_euclid(1_000_000);
        let exp = now.after(lifetime.min(MAX_LIFETIME)).0.div_euclid(1_000_000);
        let jti = uuid::Uuid::now_v7().to_string();
        let claims = Claims { iss: ISSUER, aud, sub: subject, iat, nbf: iat, exp, jti, grants, scope };
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key).context("sign the token")?;
        Ok((token, exp))
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::{Value, json};

    use super::*;

    fn verify(signer: &TokenSigner, token: &str, audience: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["dunlin"]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        let key = DecodingKey::from_ed_der(signer.public_key());
        jsonwebtoken::decode::<Value>(token, &key, &validation).map(|data| data.claims)
    }

    #[test]
    fn a_token_says_what_the_gateway_expects() {
        let folder = tempfile::tempdir().unwrap();
        let signer = TokenSigner::open(folder.path()).unwrap();
        let shop: Namespace = "shop".parse().unwrap();
        let developer = Grant { namespace: Some(shop.clone()), role: "developer" };
        let purpose = Purpose::Administration(vec![developer, Grant::OPERATOR]);
        let (token, exp) = signer.mint("zoe", &purpose, Duration::from_secs(600), Time::now()).unwrap();
        let claims = verify(&signer, &token, "dunlin-admin").unwrap();
        assert_eq!(claims["grants"], json!([{"namespace": "shop", "role": "developer"}, {"role": "operator"}]));
        assert_eq!((&claims["sub"], &claims["exp"]), (&json!("zoe"), &json!(exp)));
        assert_eq!(exp - claims["iat"].as_i64().unwrap(), 600);
        assert!(claims.get("scope").is_none());
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.kid.as_deref(), header.alg), (Some(signer.id()), Algorithm::EdDSA));
        assert!(verify(&signer, &token, "dunlin:shop").is_err(), "t42: an administration token calls nothing");
    }

    #[test]
    fn a_call_token_is_for_one_namespace_and_no_token_lives_longer_than_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let signer = TokenSigner::open(folder.path()).unwrap();
        let purpose = Purpose::Call("shop".parse().unwrap(), vec!["read".into(), "write".into()]);
        let (token, _) = signer.mint("till", &purpose, Duration::from_secs(1_000_000), Time::now()).unwrap();
        let claims = verify(&signer, &token, "dunlin:shop").unwrap();
        assert_eq!(claims["scope"], "read write");
        assert!(claims.get("grants").is_none());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 24 * 3600);
        let other = tempfile::tempdir().unwrap();
        assert!(verify(&TokenSigner::open(other.path()).unwrap(), &token, "dunlin:shop").is_err());
    }
}
