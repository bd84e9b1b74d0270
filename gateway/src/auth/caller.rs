//! The checks themselves: tokens for administration, tokens and keys for calls.

use std::{sync::Arc, time::SystemTime};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, Namespace},
    names::{VersionName, preview_audience},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use smallvec::SmallVec;

use super::{
    Caller, CallerIdentity, Inner, Introduction, Principal, Role, Takes,
    cache::Verified,
    claims::{self, ClaimError, Standard},
    introduction,
    jwks::Issuer,
    key,
    token::{self, Unverified},
};
use crate::config::{OidcAlgorithm, OidcPurpose};

/// The issuer of the cluster's own tokens.
const CLUSTER: &str = "dunlin";
const ADMINISTRATION: &str = "dunlin-admin";
const CALLS: &str = "dunlin:";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

fn refuse(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, why.to_string())
}

impl Inner {
    pub(super) async fn administration(&self, token: &str, now: SystemTime) -> Result<Arc<Principal>, ApiError> {
        self.by_administration(token, now).await.map(|verified| verified.principal.clone())
    }

    /// A token for administration, verified.
    pub(super) async fn by_administration(&self, token: &str, now: SystemTime) -> Result<Arc<Verified>, ApiError> {
        if token.starts_with(key::PREFIX) {
            let error = refuse("a key is for calling functions, not for administration");
            return Err(error.hint("use an administration token: dunlin token create"));
        }
        self.verify(OidcPurpose::Administration, token, now).await
    }

    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        (namespace, function): (&Namespace, &FunctionName),
        takes: &Takes,
        now: SystemTime,
    ) -> Result<Caller, ApiError> {
        let (credential, consumed) = credential(headers, takes)?;
        let mut caller = match credential {
            Credential::Key(text) => self.by_key(text, namespace, function, now)?,
            Credential::Token(text) => self.by_token(text, namespace, now).await?,
        };
        caller.introduction.consumed = consumed;
        Ok(caller)
    }

    fn by_key(
        &self,
        text: &str,
        namespace: &Namespace,
        function: &FunctionName,
        now: SystemTime,
    ) -> Result<Caller, ApiError> {
        let table = self.table.load();
        let (id, key) = key::check(text, &table, now).map_err(refuse)?;
        if key.namespace != *namespace {
            return Err(elsewhere());
        }
        if !key.functions.is_empty() && !key.functions.contains(function) {
            let message = format!("the key is not for the function {function}");
            return Err(ApiError::new(ErrorCode::PermissionDenied, message));
        }
        let introduction = Introduction { key: Some(id.clone()), ..Introduction::default() };
        Ok(Caller { identity: CallerIdentity::Key(id), plan: key.plan.clone(), introduction })
    }

    async fn by_token(&self, text: &str, namespace: &Namespace, now: SystemTime) -> Result<Caller, ApiError> {
        let verified = self.verify(OidcPurpose::Call, text, now).await?;
        if !verified.callable.contains(namespace) {
            return Err(elsewhere());
        }
        let introduction = Introduction { handed_on: verified.handed_on.clone(), ..Introduction::default() };
        Ok(Caller { identity: CallerIdentity::Token(verified), plan: None, introduction })
    }

    /// The one case in which a token for administration counts where functions are called: it never gets to the function.
    pub(super) async fn developer(
        &self,
        headers: &HeaderMap,
        namespace: &Namespace,
        now: SystemTime,
    ) -> Result<Caller, ApiError> {
        let missing = || {
            refuse("a version's own address is for developers, and the request has no token of one")
                .hint("send Authorization: Bearer with a token of: dunlin token create --role developer")
        };
        let authorization = only(headers, &header::AUTHORIZATION)?.ok_or_else(missing)?;
        let token = bearer(text(authorization)?).ok_or_else(missing)?;
        let verified = self.by_administration(token, now).await?;
        verified.principal.require(namespace, Role::Developer)?;
        let introduction = Introduction { consumed: consumed(headers), ..Introduction::default() };
        Ok(Caller { identity: CallerIdentity::Token(verified), plan: None, introduction })
    }

    /// A link's token is good for one version, and nothing else. It is not remembered: links are followed rarely.
    pub(super) fn link(&self, text: &str, version: &VersionName, now: SystemTime) -> Result<Caller, ApiError> {
        let renew = |error: ApiError| error.hint("ask for a new link: dunlin preview");
        let token = token::parse(text).map_err(refuse)?;
        if claims::issuer(&token.claims).map_err(refuse)? != CLUSTER {
            return Err(renew(refuse("the link was not made by this cluster")));
        }
        self.check_cluster_signature(&token).map_err(renew)?;
        let standard = claims::standard(&token.claims, now).map_err(|error| renew(refuse(error)))?;
        if standard.audience != [preview_audience(version)] {
            let error = ApiError::new(ErrorCode::PermissionDenied, "the link is valid, but not for this version");
            return Err(renew(error));
        }
        let verified = Arc::new(verified(token, standard, Vec::new(), Vec::new()));
        let introduction = Introduction::default();
        Ok(Caller { identity: CallerIdentity::Token(verified), plan: None, introduction })
    }

    /// Verifies a token, or remembers having done so.
    async fn verify(&self, purpose: OidcPurpose, text: &str, now: SystemTime) -> Result<Arc<Verified>, ApiError> {
        let key = self.cache.key(purpose, text);
        if let Some(remembered) = self.cache.get(&key, now) {
            return remembered;
        }
        let generation = self.cache.generation();
        match Box::pin(self.verify_anew(purpose, text, now)).await {
            Ok(verified) => {
                let verified = Arc::new(verified);
                self.cache.put(key, verified.clone(), (generation, text.len()), now);
                Ok(verified)
            }
            Err(error) => {
                self.cache.put_failure(key, error.clone(), now);
                Err(error)
            }
        }
    }

    async fn verify_anew(&self, purpose: OidcPurpose, text: &str, now: SystemTime) -> Result<Verified, ApiError> {
        let token = token::parse(text).map_err(refuse)?;
        let issuer = claims::issuer(&token.claims).map_err(refuse)?;
        if issuer == CLUSTER {
            self.check_cluster_signature(&token)?;
            let standard = claims::standard(&token.claims, now).map_err(refuse)?;
            return of_cluster(purpose, token, standard);
        }
        let of_issuer = |known: &&Issuer| known.config.issuer == issuer && known.config.purpose == purpose;
        let known =
            self.issuers.iter().find(of_issuer).ok_or_else(|| refuse("the token's issuer is not trusted here"))?;
        self.check_issuer_signature(known, &token).await?;
        let standard = claims::standard(&token.claims, now).map_err(refuse)?;
        of_issuer_claims(known, token, standard)
    }

    /// The cluster signs by EdDSA and nothing else.
    fn check_cluster_signature(&self, token: &Unverified<'_>) -> Result<(), ApiError> {
        let table = self.table.load();
        let key = token.kid.as_deref().and_then(|kid| table.token_keys.get(kid));
        let key = key.ok_or_else(|| refuse("the token is signed by a key that is not known here"))?;
        check_signature(token, "EdDSA", Algorithm::EdDSA, &DecodingKey::from_ed_der(key))
    }

    async fn check_issuer_signature(&self, issuer: &Issuer, token: &Unverified<'_>) -> Result<(), ApiError> {
        // The list is the operator's; the token only says which of its entries it means.
        let named = |algorithm: &&OidcAlgorithm| format!("{algorithm:?}") == token.alg;
        let algorithm = issuer.config.algorithms.iter().find(named).copied();
        let algorithm = algorithm.ok_or_else(|| refuse("the token's algorithm is not accepted"))?;
        let found = issuer.key(token.kid.as_deref()).await;
        if found.changed {
            self.cache.forget();
        }
        if let Some(failure) = found.failure {
            return Err(failure);
        }
        let key = found.key.filter(|key| key.fits(algorithm));
        let key = key.ok_or_else(|| refuse("the token is signed by a key that is not known here"))?;
        check_signature(token, &token.alg, library_algorithm(algorithm), &key.key)
    }
}

/// A valid credential, but of another namespace.
fn elsewhere() -> ApiError {
    ApiError::new(ErrorCode::PermissionDenied, "the credential is valid, but not for this namespace")
        .hint("use a key or token of the namespace that the function belongs to")
}

fn check_signature(
    token: &Unverified<'_>,
    name: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
) -> Result<(), ApiError> {
    if token.alg != name {
        return Err(refuse("the token's algorithm is not accepted"));
    }
    let holds = crypto::verify(token.signature, token.signed.as_bytes(), key, algorithm);
    if holds.unwrap_or(false) { Ok(()) } else { Err(refuse("the token's signature does not hold")) }
}

fn library_algorithm(algorithm: OidcAlgorithm) -> Algorithm {
    match algorithm {
        OidcAlgorithm::RS256 => Algorithm::RS256,
        OidcAlgorithm::RS384 => Algorithm::RS384,
        OidcAlgorithm::RS512 => Algorithm::RS512,
        OidcAlgorithm::PS256 => Algorithm::PS256,
        OidcAlgorithm::PS384 => Algorithm::PS384,
        OidcAlgorithm::PS512 => Algorithm::PS512,
        OidcAlgorithm::ES256 => Algorithm::ES256,
        OidcAlgorithm::ES384 => Algorithm::ES384,
        OidcAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// What a token of the cluster is for is its one audience.
fn of_cluster(purpose: OidcPurpose, token: Unverified<'_>, standard: Standard) -> Result<Verified, ApiError> {
    let [audience] = standard.audience.as_slice() else { return Err(refuse(ClaimError::Audience)) };
    let (grants, callable) = match purpose {
        OidcPurpose::Administration if audience == ADMINISTRATION => {
            (claims::grants(&token.claims, "grants").map_err(refuse)?, Vec::new())
        }
        OidcPurpose::Call => {
            let namespace = audience.strip_prefix(CALLS).and_then(|name| name.parse().ok());
            let wrong = || refuse(ClaimError::Audience).hint("an administration token does not call functions");
            (Vec::new(), vec![namespace.ok_or_else(wrong)?])
        }
        OidcPurpose::Administration => {
            return Err(refuse(ClaimError::Audience).hint("a token for calls does not administer"));
        }
    };
    Ok(verified(token, standard, grants, callable))
}

fn of_issuer_claims(issuer: &Issuer, token: Unverified<'_>, standard: Standard) -> Result<Verified, ApiError> {
    let config = &issuer.config;
    let ours = |audience: &String| *audience == config.audience || Some(audience.as_str()) == config.client_id();
    if !standard.audience.iter().any(ours) {
        return Err(refuse(ClaimError::Audience));
    }
    if config.purpose == OidcPurpose::Administration {
        let grants = claims::grants(&token.claims, &config.grants_claim).map_err(refuse)?;
        return Ok(verified(token, standard, grants, Vec::new()));
    }
    let mut callable: Vec<_> = config.namespaces.iter().filter_map(|name| name.parse().ok()).collect();
    if let Some(claim) = &config.namespace_claim {
        callable.extend(claims::namespaces(&token.claims, claim));
    }
    Ok(verified(token, standard, Vec::new(), callable))
}

fn verified(
    token: Unverified<'_>,
    standard: Standard,
    grants: Vec<super::Grant>,
    callable: Vec<Namespace>,
) -> Verified {
    let Standard { issuer, subject, expires, issued, id, .. } = standard;
    let handed_on = introduction::of_token(&subject, &token.claims);
    let (token_id, origin) = (id, super::Origin::default());
    let principal = Principal { subject, issuer, expires, issued, grants, token_id, origin };
    Verified { principal: Arc::new(principal), callable, handed_on, claims: token.claims }
}

/// What a caller sent to prove itself.
enum Credential<'a> {
    Key(&'a str),
    Token(&'a str),
}

/// Headers that hold credentials of the platform.
type Consumed = SmallVec<[HeaderName; 2]>;

/// Finds the one credential of a request, and what holds credentials. `X-Api-Key` goes first, so that a function can have
/// `Authorization` for itself.
fn credential<'h>(headers: &'h HeaderMap, takes: &Takes) -> Result<(Credential<'h>, Consumed), ApiError> {
    let missing = || takes.missing();
    if let Some(key) = only(headers, &API_KEY)? {
        return Ok((Credential::Key(text(key)?), consumed(headers)));
    }
    let authorization = only(headers, &header::AUTHORIZATION)?.ok_or_else(missing)?;
    let bearer = bearer(text(authorization)?).ok_or_else(missing)?;
    let of_key = bearer.starts_with(key::PREFIX);
    let credential = if of_key { Credential::Key(bearer) } else { Credential::Token(bearer) };
    Ok((credential, Consumed::from_iter([header::AUTHORIZATION])))
}

fn text(value: &HeaderValue) -> Result<&str, ApiError> {
    value.to_str().map_err(|_| refuse("the credential is not ASCII text"))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(refuse(format!("the request has more than one {name}"))),
        (value, None) => Ok(value),
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 2.1); the scheme has no case (RFC 9110 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then_some(token.trim_matches(' ')).filter(|token| !token.is_empty())
}

/// The headers of a private function's request that hold credentials of the platform, evaluated or not: each of them is
/// one that somebody else could use.
fn consumed(headers: &HeaderMap) -> Consumed {
    let mut consumed = Consumed::new();
    if headers.contains_key(&API_KEY) {
        consumed.push(API_KEY);
    }
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if authorization.is_some_and(|text| bearer(text).is_some()) {
        consumed.push(header::AUTHORIZATION);
    }
    consumed
}

#[cfg(test)]
mod tests;
