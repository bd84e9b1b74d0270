//! Routes whose callers a function lets in: what it is asked is in `authorizer/question.rs`, what it may answer in
//! `authorizer/verdict.rs`, where a request has its credential in `authorizer/credential.rs`.
//!
//! Decided here: a verdict counts for one credential at one route and one version of the function, never for longer than the
//! route says; whatever fails lets nobody in and is forgotten at once. The function is called as any other, under its own limits
//! and with records of its own, but by name: no route leads to it, so that it can't have to authorize itself.

pub(super) mod credential;
mod question;
mod verdict;

use std::{sync::Arc, time::Duration};

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Digest, InvocationId, VersionKey},
    names::FunctionRef,
    route::{Authorizer, CredentialSource},
};
use http::{HeaderMap, Uri, request::Parts};
use http_body_util::{BodyExt, Limited};
use moka::{Expiry, future::Cache};
use tokio::time::Instant;

use super::{
    choice::{Choice, Known},
    origin::Origin,
};
use crate::{
    Context,
    auth::{
        Caller, CallerIdentity, Introduction,
        introduction::{CLAIMS, PRINCIPAL},
    },
    dispatch::{Introduced, Invocation},
    records::Came,
    routes::{Function, Version, router::Rule},
};
use verdict::{Ruling, Verdict};

/// The memory that verdicts take.
const MAX_BYTES: u64 = 16 << 20;
/// What one takes beside its texts.
const OVERHEAD: u32 = 256;
/// The longest answer of an authorizer.
const MAX_ANSWER: usize = 16 << 10;

/// What a verdict counts for: never the credential itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Case {
    rule: Option<Digest>,
    version: VersionKey,
    credential: Digest,
}

/// The verdicts that still count. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Verdicts(Cache<Case, Ruling>);

/// A verdict lives for as long as it counts.
struct ForItsTime;

impl Expiry<Case, Ruling> for ForItsTime {
    #[allow(clippy::disallowed_types, reason = "the trait's signature; the value is not looked at")]
    fn expire_after_create(&self, _: &Case, ruling: &Ruling, _: std::time::Instant) -> Option<Duration> {
        Some(ruling.ttl)
    }
}

impl Default for Verdicts {
    fn default() -> Self {
        let weigher = |_: &Case, ruling: &Ruling| OVERHEAD.saturating_add(ruling.size());
        Self(Cache::builder().max_capacity(MAX_BYTES).weigher(weigher).expire_after(ForItsTime).build())
    }
}

impl Verdicts {
    /// The verdict on a case: one that counts, or what `ask` brings. Of many callers with one credential, one asks; but what
    /// counts for a single request is for nobody else.
    async fn get<F>(&self, case: Case, ask: impl Fn() -> F) -> Result<Ruling, ApiError>
    where
        F: Future<Output = Result<Ruling, ApiError>>,
    {
        let mut asked = false;
        let first = async {
            asked = true;
            ask().await
        };
        let ruling = self.0.try_get_with(case, first).await.map_err(|error| (*error).clone())?;
        if ruling.ttl.is_zero() && !asked { ask().await } else { Ok(ruling) }
    }
}

/// A request whose caller is to be let in or not.
pub(super) struct Asking<'a> {
    pub(super) context: &'a Context,
    pub(super) rule: &'a Rule,
    pub(super) authorizer: &'a Authorizer,
    pub(super) parts: &'a Parts,
    pub(super) origin: Origin,
    pub(super) authority: &'a str,
    pub(super) id: InvocationId,
}

impl Asking<'_> {
    /// Lets the caller in, or not.
    ///
    /// # Errors
    /// `Unauthenticated` and `PermissionDenied` where it may not; `FunctionFailed` and `Unavailable` where nobody can say.
    pub(super) async fn caller(self) -> Result<Caller, ApiError> {
        let credential = credential::find(&self.authorizer.credential, self.parts)?;
        let function = self.function()?;
        let digest = Digest::of(credential.as_bytes());
        let version = self.version(&function, &digest)?;
        // Apart, so that calls which ask nobody carry no room for it.
        let ask = || Box::pin(self.ask(&function, &version, &credential));
        let ruling = if self.authorizer.ttl.is_zero() {
            ask().await?
        } else {
            let case = Case { rule: self.rule.digest(), version: version.key, credential: digest };
            self.context.verdicts.get(case, ask).await?
        };
        self.admit(ruling.verdict)
    }

    fn function(&self) -> Result<Arc<Function>, ApiError> {
        let namespace = self.rule.name.namespace.as_str();
        let found = self.context.routes.load().function(namespace, self.authorizer.function.as_str()).cloned();
        let missing = || self.failed(&ApiError::not_found(format!("function {}", self.authorizer.function)));
        let function = found.ok_or_else(missing)?;
        function.check_enabled().map_err(|error| self.failed(&error))?;
        Ok(function)
    }

    /// The version that is asked: where traffic is divided, the same one for a credential.
    fn version(&self, function: &Function, credential: &Digest) -> Result<Arc<Version>, ApiError> {
        let (by, subject) = (self.authorizer.function.clone(), Some(credential.hex()));
        let identity = CallerIdentity::Authorized { by, subject };
        let (nothing, secure) = (HeaderMap::new(), self.origin.scheme == "https");
        let known = Known { identity: Some(&identity), headers: &nothing, secure, id: self.id };
        let chosen = Choice::of(function, None).and_then(|choice| choice.settle(function, known));
        chosen.map(|chosen| chosen.version).map_err(|error| self.failed(&error))
    }

    async fn ask(
        &self,
        function: &Arc<Function>,
        version: &Arc<Version>,
        credential: &str,
    ) -> Result<Ruling, ApiError> {
        let answered = self.call(function.clone(), version.clone(), credential).await;
        let (status, body) = answered.map_err(|error| self.failed(&error))?;
        verdict::read(status, &body, self.authorizer.ttl).map_err(|why| {
            let FunctionRef { namespace, function } = &function.name;
            tracing::info!(%namespace, %function, route = %self.rule.name.route, why, "an authorizer's answer says nothing");
            self.failed(&ApiError::new(ErrorCode::FunctionFailed, why))
        })
    }

    /// The function's whole answer.
    async fn call(
        &self,
        function: Arc<Function>,
        version: Arc<Version>,
        credential: &str,
    ) -> Result<(u16, bytes::Bytes), ApiError> {
        function.quota.limits.admit(&self.context.borrowing).await?;
        let invocation = Invocation {
            id: InvocationId::new(),
            request: question::request(self, credential)?,
            introduced: Introduced::default(),
            base_path: String::new(),
            scheme: self.origin.scheme,
            authority: self.authority.to_owned(),
            remote_address: self.origin.address,
            // It leads from the call that waits to this one.
            request_id: self.id.to_string(),
            called_by: None,
            at_once: None,
            came: Came { route: Some(self.rule.label.clone()), address: Some(self.origin.address), ..Came::default() },
            told: None,
            shown: false,
            accepted: Instant::now(),
            function,
            version,
        };
        let (head, body) = self.context.dispatcher.invoke(invocation).await?.into_parts();
        let whole = Limited::new(body, MAX_ANSWER).collect().await;
        let whole = whole.map_err(|error| match error.downcast::<ApiError>() {
            Ok(error) => *error,
            Err(_) => ApiError::new(ErrorCode::ResponseTooLarge, "an authorizer's answer may have 16 KiB at most"),
        })?;
        Ok((head.status.as_u16(), whole.to_bytes()))
    }

    /// Nobody is let in by an authorizer that fails, and callers learn no more of it than that.
    fn failed(&self, cause: &ApiError) -> ApiError {
        let busy = matches!(cause.code, ErrorCode::Unavailable | ErrorCode::TooManyRequests | ErrorCode::WorkerLost);
        let code = if busy { ErrorCode::Unavailable } else { ErrorCode::FunctionFailed };
        let route = &self.rule.name.route;
        let message = format!("the authorizer of the route {route} failed ({}), so nobody is let in", cause.code);
        let hint = format!("its invocations and log say why: dunlin invocations {}", self.authorizer.function);
        ApiError { retry_after: cause.retry_after, ..ApiError::new(code, message).hint(hint) }
    }

    fn admit(&self, verdict: Verdict) -> Result<Caller, ApiError> {
        let route = &self.rule.name.route;
        let refused = |code, what| ApiError::new(code, format!("the authorizer of the route {route} {what}"));
        match verdict {
            Verdict::Unknown => Err(refused(ErrorCode::Unauthenticated, "does not accept the credential")),
            Verdict::Refused => Err(refused(ErrorCode::PermissionDenied, "does not let this caller in")),
            Verdict::Admitted { principal, claims } => {
                let by = self.authorizer.function.clone();
                let subject = principal.as_ref().and_then(|text| text.to_str().ok()).map(str::to_owned);
                let named = principal.map(|value| (PRINCIPAL, value)).into_iter();
                let handed_on = named.chain(claims.map(|value| (CLAIMS, value))).collect();
                let identity = CallerIdentity::Authorized { by, subject };
                let source = Some(self.authorizer.credential.clone());
                let introduction = Introduction { handed_on, source, ..Introduction::default() };
                Ok(Caller { identity, plan: None, introduction })
            }
        }
    }
}

/// Takes a credential away that the gateway has used.
pub(super) fn consume(source: &CredentialSource, headers: &mut HeaderMap, uri: Uri) -> Result<Uri, ApiError> {
    credential::remove(source, headers);
    credential::without(source, uri)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use dunlin_proto::ids::{FunctionUid, VersionNumber};

    use super::*;

    fn ruling(ttl: u64) -> Ruling {
        Ruling { verdict: Verdict::Refused, ttl: Duration::from_secs(ttl) }
    }

    #[tokio::test]
    async fn of_many_with_one_credential_one_asks_and_a_failure_is_forgotten() {
        let (verdicts, asked) = (Verdicts::default(), AtomicU32::new(0));
        let version = VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST };
        let case = |credential: &str| Case { rule: None, version, credential: Digest::of(credential.as_bytes()) };
        let ask = |answer: Result<Ruling, ApiError>| {
            let asked = &asked;
            move || {
                let answer = answer.clone();
                async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    answer
                }
            }
        };
        let many = (0..20).map(|_| verdicts.get(case("a"), ask(Err(ApiError::internal()))));
        assert!(futures::future::join_all(many).await.iter().all(Result::is_err));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let many = (0..20).map(|_| verdicts.get(case("a"), ask(Ok(ruling(60)))));
        assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        verdicts.get(case("b"), ask(Ok(ruling(60)))).await.unwrap();
        verdicts.get(case("a"), ask(Ok(ruling(60)))).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3, "another credential is another case");
        let many = (0..20).map(|_| verdicts.get(case("c"), ask(Ok(ruling(0)))));
        assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Relaxed), 23, "a verdict for one request is for no other");
    }
}
