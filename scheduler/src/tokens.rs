//! Tokens that the cluster issues (JWT, RFC 7519, signed by EdDSA, RFC 8037). Verifying them is the gateways' work: they get
//! the public key with their configuration.

use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Digest, Namespace},
    names::{VersionName, preview_audience},
    trust::{Identity, JOIN_AUDIENCE, Role},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use crate::{keyring::Keyring, model::Time};

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

/// What a token is good for. No token is good for two things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The administration API.
    Administration(Vec<Grant>),
    /// Calling the private functions of one namespace, with scopes.
    Call(Namespace, Vec<String>),
    /// Looking at one version.
    Preview(VersionName),
    /// Becoming a process of the cluster of this authority, in this role and, if it says one, by this name; once.
    Join(Role, Option<String>, Digest),
}

/// What a join token grants to whoever shows it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinGrant {
    /// The token's own id, which is used up.
    pub(crate) id: String,
    /// When nobody can use it any more.
    pub(crate) expire_time: Time,
    role: Role,
    name: Option<String>,
}

impl JoinGrant {
    #[cfg(test)]
    pub(crate) fn new(id: &str, role: Role, name: Option<&str>, expire_time: Time) -> Self {
        Self { id: id.to_owned(), expire_time, role, name: name.map(str::to_owned) }
    }

    /// Who the process becomes, which wants to be called so.
    ///
    /// # Errors
    /// The token is for another name, or it is none.
    pub(crate) fn identity(&self, wanted: &str) -> Result<Identity, ApiError> {
        if let Some(name) = self.name.as_ref().filter(|name| *name != wanted) {
            let message = format!("the join token is for the {} {name}, not {wanted}", self.role);
            let error = ApiError::new(ErrorCode::PermissionDenied, message);
            return Err(error.hint(format!("join as {name}, or {}", self.another())));
        }
        Identity::new(self.role, wanted).map_err(|error| ApiError::invalid("id", error))
    }

    /// Whether it may take the place of the process that has the name.
    pub(crate) fn replaces(&self) -> bool {
        self.name.is_some()
    }

    /// How to get another one.
    pub(crate) fn another(&self) -> String {
        format!("make a new join token with: dunlin join-token create {}", self.role)
    }
}

#[derive(Deserialize)]
struct JoinClaims {
    jti: String,
    exp: i64,
    /// Empty in other tokens, which are told by their audience.
    #[serde(default)]
    role: String,
    #[serde(default)]
    name: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// SHA-256 of the authority's certificate, by which whoever joins knows the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
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
    pub(crate) fn open(keys: &Keyring) -> anyhow::Result<Self> {
        let pkcs8 = keys.key("token.pk8")?;
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
            Purpose::Preview(version) => (preview_audience(version), None, None),
            Purpose::Join(..) => (JOIN_AUDIENCE.to_owned(), None, None),
        };
        let (role, name, authority) = match purpose {
            Purpose::Join(role, name, authority) => (Some(role.as_str()), name.as_deref(), Some(authority.to_string())),
            Purpose::Administration(_) | Purpose::Call(..) | Purpose::Preview(_) => (None, None, None),
        };
        let iat = now.0.div_euclid(1_000_000);
        let exp = now.after(lifetime.min(MAX_LIFETIME)).0.div_euclid(1_000_000);
        let jti = uuid::Uuid::now_v7().to_string();
        let claims =
            Claims { iss: ISSUER, aud, sub: subject, iat, nbf: iat, exp, jti, grants, scope, role, name, authority };
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key).context("sign the token")?;
        Ok((token, exp))
    }

    /// What a join token of this cluster grants; whether it has been used is not known here.
    ///
    /// # Errors
    /// It is none, has expired, or is another cluster's.
    pub(crate) fn verify_join(&self, token: &str) -> Result<JoinGrant, ApiError> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[JOIN_AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.leeway = 0;
        let key = DecodingKey::from_ed_der(&self.public_key);
        let claims = jsonwebtoken::decode::<JoinClaims>(token.trim(), &key, &validation);
        let JoinClaims { jti, exp, role, name } = claims.map_err(|error| refusal(error.kind()))?.claims;
        let role = role.parse().map_err(|_| refusal(&ErrorKind::InvalidToken))?;
        Ok(JoinGrant { id: jti, expire_time: Time(exp.saturating_mul(1_000_000)), role, name })
    }
}

fn refusal(kind: &ErrorKind) -> ApiError {
    let message = match kind {
        ErrorKind::ExpiredSignature => "the join token has expired",
        ErrorKind::InvalidSignature => "the join token was made by another cluster",
        ErrorKind::InvalidAudience => "the token is no join token but one for people or callers",
        _ => "the text is no join token",
    };
    let error = ApiError::new(ErrorCode::Unauthenticated, message);
    error.hint("make a new join token with: dunlin join-token create worker")
}

#[cfg(test)]
mod tests {
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
        let signer = TokenSigner::open(&Keyring::open(folder.path(), None).unwrap()).unwrap();
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
        let signer = TokenSigner::open(&Keyring::open(folder.path(), None).unwrap()).unwrap();
        let purpose = Purpose::Call("shop".parse().unwrap(), vec!["read".into(), "write".into()]);
        let (token, _) = signer.mint("till", &purpose, Duration::from_secs(1_000_000), Time::now()).unwrap();
        let claims = verify(&signer, &token, "dunlin:shop").unwrap();
        assert_eq!(claims["scope"], "read write");
        assert!(claims.get("grants").is_none());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 24 * 3600);
        let other = tempfile::tempdir().unwrap();
        assert!(
            verify(&TokenSigner::open(&Keyring::open(other.path(), None).unwrap()).unwrap(), &token, "dunlin:shop")
                .is_err()
        );
    }

    #[test]
    fn t47_a_join_token_is_good_for_what_it_says_and_for_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let signer = TokenSigner::open(&Keyring::open(folder.path(), None).unwrap()).unwrap();
        let minute = Duration::from_secs(60);
        let mint = |purpose: &Purpose, now| signer.mint("zoe", purpose, minute, now).unwrap().0;
        let named = Purpose::Join(Role::Worker, Some("w-1".into()), Digest::of(b"ca"));
        let grant = signer.verify_join(&mint(&named, Time::now())).unwrap();
        assert_eq!(grant.identity("w-1").unwrap().to_string(), "spiffe://dunlin/worker/w-1");
        assert_eq!(grant.identity("w-2").unwrap_err().code, ErrorCode::PermissionDenied);
        let open = Purpose::Join(Role::Gateway, None, Digest::of(b"ca"));
        let grant = signer.verify_join(&mint(&open, Time::now())).unwrap();
        assert!(grant.identity("g-2").is_ok() && grant.identity("G").is_err() && !grant.replaces());
        let expired = mint(&open, Time(Time::now().0 - 61_000_000));
        let people = mint(&Purpose::Administration(vec![Grant::OPERATOR]), Time::now());
        let other = tempfile::tempdir().unwrap();
        let other = TokenSigner::open(&Keyring::open(other.path(), None).unwrap())
            .unwrap()
            .mint("zoe", &open, minute, Time::now())
            .unwrap()
            .0;
        for (token, words) in [
            (expired.as_str(), "expired"),
            (people.as_str(), "people"),
            (other.as_str(), "another cluster"),
            ("", "no join token"),
            ("a.b.c", "no join token"),
        ] {
            let error = signer.verify_join(token).unwrap_err();
            assert_eq!(error.code, ErrorCode::Unauthenticated);
            assert!(error.message.contains(words) && error.hint.is_some(), "{token}: {error}");
        }
        assert!(verify(&signer, &mint(&open, Time::now()), "dunlin-admin").is_err());
    }
}
