//! A call through a route whose answers are stored: what is answered without the function, what the function is asked
//! otherwise, and what becomes of its answer.
//!
//! Rules, and what is stored, are `crate::cache`'s. Callers have been let in before; what the route changes of an answer is
//! changed afterwards, of stored ones as well.

use std::sync::Arc;

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{InvocationId, VersionKey},
};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout_at};

use super::{AnswerBody, choice, routed::Routed};
use crate::{
    cache::{
        self, Address, Cache, CacheStatus, Change, Draft, Found, Fwd, Owner, Place, Recorder, Stored,
        flight::{Lead, Next, Part},
        rules::{Verdict, Wishes},
    },
    dispatch::ResponseBody,
    error::{self, REQUEST_ID},
    metrics::Counted,
};

/// How often a request waits for others that go before it asks itself.
const ROUNDS: usize = 8;
/// Headers of requests that stored answers are not for.
const APART: [HeaderName; 4] = [header::RANGE, header::IF_RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];
/// Statuses for which a stale answer may stand in (RFC 5861 4).
const FAILED: [u16; 4] = [500, 502, 503, 504];

/// What a caller asks for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) cache: &'a Cache,
    pub(super) counted: &'a Counted,
    pub(super) routed: &'a Routed,
    pub(super) version: VersionKey,
    pub(super) parts: &'a Parts,
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    /// The request has a body.
    pub(super) has_body: bool,
    /// The caller had to say who it is.
    pub(super) credentialed: bool,
    pub(super) id: InvocationId,
    pub(super) deadline: Instant,
}

/// What is done about it: an answer, a call of the function, or both. Neither means a call that has nothing to do with this.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) answer: Option<Response<AnswerBody>>,
    pub(super) ask: Option<Ask>,
}

/// What became of a request on a route that stores answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cached {
    /// A stored answer was its answer.
    Hit,
    /// So it was, and a new one is asked for.
    Stale,
    /// The function is asked, whether a stored answer may be used again.
    Revalidated,
    /// Nothing was stored for it.
    Miss,
    /// It is not for stored answers.
    Bypass,
}

impl Cached {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Hit, Self::Stale, Self::Revalidated, Self::Miss, Self::Bypass];

    /// Its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl Plan {
    /// What becomes of the request, where stored answers have to do with it.
    pub(super) fn cached(&self) -> Option<Cached> {
        match (&self.answer, &self.ask) {
            (None, None) => None,
            (Some(_), Some(_)) => Some(Cached::Stale),
            // Nothing was stored for a caller who wanted nothing else.
            (Some(answer), None) if answer.status() == StatusCode::GATEWAY_TIMEOUT => Some(Cached::Miss),
            (Some(_), None) => Some(Cached::Hit),
            (None, Some(ask)) => ask.cached(),
        }
    }
}

/// A call of the function, and what becomes of its answer.
#[derive(Debug)]
pub(super) struct Ask {
    cache: Cache,
    id: InvocationId,
    purpose: Purpose,
    /// What the caller is told; nothing on routes that store nothing.
    status: Option<CacheStatus>,
}

#[derive(Debug)]
enum Purpose {
    /// The answer is for this caller alone.
    Pass,
    /// The request changes what is at an address.
    Change(Box<Change>),
    /// The answer may be for others, too.
    Store(Box<Storing>),
}

#[derive(Debug)]
struct Storing {
    place: Place,
    request: HeaderMap,
    wishes: Wishes,
    credentialed: bool,
    /// A stored answer that is to be confirmed.
    known: Option<Arc<Stored>>,
    /// Others wait.
    lead: Option<Lead>,
}

impl Ask {
    fn cached(&self) -> Option<Cached> {
        Some(match &self.purpose {
            Purpose::Change(_) => return None,
            Purpose::Pass => Cached::Bypass,
            Purpose::Store(storing) if storing.known.is_some() => Cached::Revalidated,
            Purpose::Store(_) => Cached::Miss,
        })
    }
}

/// Decides what is done about a request, and counts it.
pub(super) async fn plan(asked: Asked<'_>) -> Plan {
    let counted = asked.counted;
    let plan = decide(asked).await;
    if let Some(what) = plan.cached() {
        counted.cached(what);
    }
    plan
}

async fn decide(asked: Asked<'_>) -> Plan {
    let method = &asked.parts.method;
    let stores = asked.routed.stores();
    let told = |fwd| stores.then(|| CacheStatus::forwarded(fwd));
    if !method.is_safe() && asked.routed.is_among_stored() {
        let purpose = Purpose::Change(Box::new(asked.change()));
        return asked.asking(purpose, told(Fwd::Method));
    }
    if !stores {
        return Plan::default();
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return asked.asking(Purpose::Pass, told(Fwd::Method));
    }
    if asked.has_body || APART.iter().any(|name| asked.parts.headers.contains_key(name)) {
        return asked.asking(Purpose::Pass, told(Fwd::Bypass));
    }
    asked.look().await
}

impl Asked<'_> {
    fn address(&self) -> Address {
        let uri = &self.parts.uri;
        let namespace = self.routed.namespace();
        Address::new(namespace, self.scheme, self.authority, self.routed.path_of(uri.path()), uri.query())
    }

    fn change(&self) -> Change {
        let (path, query) = (self.parts.uri.path(), self.parts.uri.query());
        Change {
            namespace: self.routed.namespace().clone(),
            scheme: self.scheme.to_owned(),
            authority: self.authority.to_owned(),
            base: self.routed.base(),
            path: self.routed.path_of(path).to_owned(),
            query: query.map(str::to_owned),
        }
    }

    fn asking(&self, purpose: Purpose, status: Option<CacheStatus>) -> Plan {
        let ask = Ask { cache: self.cache.clone(), id: self.id, purpose, status };
        Plan { answer: None, ask: Some(ask) }
    }

    /// Looks for a stored answer; waits, where another request is on its way to the function already.
    async fn look(self) -> Plan {
        let (headers, wishes) = (&self.parts.headers, Wishes::of(&self.parts.headers));
        let owner = Owner { version: self.version, rule: self.routed.rule().clone() };
        let address = self.address();
        let mut waited = None;
        let mut round = 0;
        loop {
            let now = Instant::now();
            let (fwd, known) = match self.cache.find(&address, &owner, headers) {
                Found::Answer(stored) => match stored.terms().verdict(stored.here(now), &wishes) {
                    Verdict::Use => return self.answered(&stored, waited, now),
                    Verdict::UseAndRefresh => return self.refreshing((address, owner), wishes, stored, now),
                    Verdict::AskStale => (Fwd::Stale, Some(stored)),
                    Verdict::AskWanted => (Fwd::Request, Some(stored)),
                },
                Found::Others => (Fwd::VaryMiss, None),
                Found::Nothing => (Fwd::UriMiss, None),
            };
            let status = Some(CacheStatus::forwarded(fwd));
            if wishes.only_if_cached {
                return Plan { answer: Some(nothing_stored(self.id)), ask: None };
            }
            if self.parts.method == Method::HEAD {
                return self.asking(Purpose::Pass, status);
            }
            let credentialed = self.credentialed;
            let storing = |address, owner, wishes, lead| {
                let place = self.cache.place(address, owner);
                let request = headers.clone();
                Purpose::Store(Box::new(Storing { place, request, wishes, credentialed, known, lead }))
            };
            // Who wants it so, or what nobody else may get, is nothing to wait for.
            if fwd == Fwd::Request || wishes.no_cache || wishes.no_store || round == ROUNDS {
                return self.asking(storing(address, owner, wishes, None), status);
            }
            round += 1;
            match self.cache.join((address.clone(), self.version)) {
                // On the heap: who finds something at once does not carry it about.
                Part::Follow(others) => match Box::pin(timeout_at(self.deadline, others.next())).await {
                    Ok(Next::Look) => waited = Some(fwd),
                    Ok(Next::Go) | Err(_) => return self.asking(storing(address, owner, wishes, None), status),
                },
                // Another one may have come back just before.
                Part::Lead(lead) => match self.cache.find(&address, &owner, headers) {
                    Found::Answer(stored) if stored.terms().verdict(stored.here(now), &wishes) == Verdict::Use => {
                        return self.answered(&stored, Some(fwd), now);
                    }
                    _ => return self.asking(storing(address, owner, wishes, Some(lead)), status),
                },
            }
        }
    }

    /// Answers with what is stored; `waited` where another request has brought it.
    fn answered(&self, stored: &Stored, waited: Option<Fwd>, now: Instant) -> Plan {
        let status = CacheStatus { fwd: waited, collapsed: waited.is_some(), ..CacheStatus::default() };
        let answer = answer(stored, &self.parts.method, &self.parts.headers, (self.id, now), status);
        Plan { answer: Some(answer), ask: None }
    }

    /// Answers with what is stored, and asks for a new answer beside, unless somebody does so already.
    fn refreshing(
        &self,
        (address, owner): (Address, Owner),
        wishes: Wishes,
        stored: Arc<Stored>,
        now: Instant,
    ) -> Plan {
        let plan = self.answered(&stored, None, now);
        let Part::Lead(lead) = self.cache.join((address.clone(), self.version)) else { return plan };
        let place = self.cache.place(address, owner);
        let request = self.parts.headers.clone();
        let credentialed = self.credentialed;
        let storing = Storing { place, request, wishes, credentialed, known: Some(stored), lead: Some(lead) };
        Plan { ask: self.asking(Purpose::Store(Box::new(storing)), None).ask, ..plan }
    }
}

/// What is stored, as the answer to a request.
fn answer(
    stored: &Stored,
    method: &Method,
    request: &HeaderMap,
    (id, now): (InvocationId, Instant),
    status: CacheStatus,
) -> Response<AnswerBody> {
    let mut response = stored.response(method, request, now).map(|body| AnswerBody::Own(Full::new(body)));
    let headers = response.headers_mut();
    CacheStatus { ttl: Some(stored.terms().ttl(stored.here(now))), ..status }.append(headers);
    if let Some(id) = super::headers::value(id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Whoever takes only what is stored gets nothing else (RFC 9111 5.2.1.7).
fn nothing_stored(id: InvocationId) -> Response<AnswerBody> {
    let error = ApiError::new(ErrorCode::NotFound, "nothing is stored that answers the request")
        .hint("without Cache-Control: only-if-cached, the function is asked");
    let mut response = error::response(&error, &id.to_string()).map(|body| AnswerBody::Own(Full::new(body)));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response
}

/// Whether a caller has said who it is. A cookie may do so, unless it is the one that only divides callers over versions.
fn is_credentialed(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName| headers.contains_key(name);
    has(header::AUTHORIZATION) || has(HeaderName::from_static("x-api-key")) || choice::has_other_cookie(headers)
}

impl Ask {
    /// The method by which the function is called.
    pub(super) fn method(&self, own: &Method) -> Method {
        if matches!(self.purpose, Purpose::Store(_)) { Method::GET } else { own.clone() }
    }

    /// Changes what the function gets: it is asked for the whole answer, or to confirm the one that is stored.
    pub(super) fn to_function(&self, passed: &mut HeaderMap) {
        if let Purpose::Store(storing) = &self.purpose {
            cache::ask(passed, storing.known.as_ref().and_then(|known| known.headers()));
        }
    }

    /// The caller's answer.
    pub(super) fn answered(
        self,
        answered: Result<Response<ResponseBody>, ApiError>,
        shutdown: &Shutdown,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let Self { cache, id, purpose, status } = self;
        match purpose {
            Purpose::Pass => Ok(said(answered?.map(function), status)),
            Purpose::Change(change) => {
                let response = answered?;
                if response.status().is_success() || response.status().is_redirection() {
                    change.forget(&cache, response.headers());
                }
                Ok(said(response.map(function), status))
            }
            Purpose::Store(storing) => {
                let status = status.unwrap_or(CacheStatus::forwarded(Fwd::Stale));
                storing.answered(answered, (&cache, id, status), shutdown)
            }
        }
    }
}

fn function(body: ResponseBody) -> AnswerBody {
    AnswerBody::Function(Box::new(body))
}

fn said(mut response: Response<AnswerBody>, status: Option<CacheStatus>) -> Response<AnswerBody> {
    if let Some(status) = status {
        status.append(response.headers_mut());
    }
    response
}

impl Storing {
    fn answered(
        self,
        answered: Result<Response<ResponseBody>, ApiError>,
        (cache, id, status): (&Cache, InvocationId, CacheStatus),
        shutdown: &Shutdown,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let code = answered.as_ref().map_or_else(|error| error.code.http_status(), |answer| answer.status().as_u16());
        if let Some(known) = self.known.as_ref().filter(|_| FAILED.contains(&code))
            && known.terms().stands_in(known.here(Instant::now()), &self.wishes)
        {
            let status = CacheStatus { fwd_status: Some(code), detail: Some("stale-if-error"), ..status };
            return Ok(answer(known, &Method::GET, &self.request, (id, Instant::now()), status));
        }
        let response = answered?;
        Ok(match self.known.clone() {
            Some(known) if response.status() == StatusCode::NOT_MODIFIED && known.headers().is_some() => {
                self.confirmed(&known, response.headers(), (cache, id, status))
            }
            _ => self.brought(response, cache, status, shutdown),
        })
    }

    /// The function says that what is stored has not changed.
    fn confirmed(
        self,
        known: &Stored,
        said: &HeaderMap,
        (cache, id, status): (&Cache, InvocationId, CacheStatus),
    ) -> Response<AnswerBody> {
        if !known.is_confirmed_by(said) {
            // It was asked about this one and says that it is good, but of which one it speaks is not clear.
            cache.forget(self.place.address());
            let status = CacheStatus { fwd_status: Some(304), ..status };
            return answer(known, &Method::GET, &self.request, (id, Instant::now()), status);
        }
        let draft = self.draft(known.status(), &known.renewed(said));
        let stored = draft.map(|draft| cache.store(draft, known.body()));
        if stored.is_none() {
            cache.forget(self.place.address());
        }
        let status = CacheStatus { fwd_status: Some(304), stored: stored.is_some(), ..status };
        answer(stored.as_deref().unwrap_or(known), &Method::GET, &self.request, (id, Instant::now()), status)
    }

    /// The function has a new answer.
    fn brought(
        mut self,
        response: Response<ResponseBody>,
        cache: &Cache,
        mut status: CacheStatus,
        shutdown: &Shutdown,
    ) -> Response<AnswerBody> {
        let (mut head, body) = response.into_parts();
        let has = head.status == StatusCode::OK && cache::is_known(&self.request, &head.headers);
        let body = match self.draft(head.status, &head.headers) {
            Some(draft) => {
                (status.stored, status.ttl) = (true, Some(draft.ttl()));
                let lead = self.lead.take().and_then(|lead| lead.records(draft.is_fresh()));
                AnswerBody::Recorded(Box::new(Recorder::new(body, cache.clone(), draft, lead)))
            }
            None => {
                if self.known.is_some() {
                    cache.forget(self.place.address());
                }
                if let Some(lead) = self.lead.take() {
                    lead.goes_alone();
                }
                function(body)
            }
        };
        status.append(&mut head.headers);
        if has {
            // The caller has it; others may want it.
            shutdown.spawn(read(Ok(Response::new(body))));
            return cache::not_modified(head.headers).map(|body| AnswerBody::Own(Full::new(body)));
        }
        Response::from_parts(head, body)
    }

    fn draft(&self, status: StatusCode, headers: &HeaderMap) -> Option<Draft> {
        let request = (&self.request, &self.wishes, self.credentialed || is_credentialed(&self.request));
        Draft::new(&self.place, request, status, headers)
    }
}

/// Reads an answer that nobody waits for to its end, which its invocation's deadline bounds.
pub(super) async fn read(answered: Result<Response<AnswerBody>, ApiError>) {
    let Ok(mut body) = answered.map(Response::into_body) else { return };
    while let Some(Ok(_)) = body.frame().await {}
}
