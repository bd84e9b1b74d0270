//! One request of a caller, from its head to its answer's: the steps of `Functions::answer`, in their order.
//!
//! What a head may hold is in `invoke/head.rs`, whom it is for in `invoke/target.rs`, what a route makes of it in `invoke/routed.rs`,
//! which version it goes to in `invoke/choice.rs`, what stored answers do for it in `invoke/cached.rs`, whom a function lets in in
//! `invoke/authorizer.rs`, what a route lets pass in `invoke/validated.rs`, what authorities of certificates are told in
//! `invoke/challenge.rs`, what is kept of a request that is refused in `invoke/sight.rs`, how one is traced that a stored answer was for
//! in `invoke/stored.rs`, what the function gets in `invoke/passing.rs`, which headers pass in `invoke/headers.rs`. How an invocation
//! runs is `dispatch`'s.

mod authorizer;
mod body;
mod cached;
mod challenge;
mod choice;
mod compress;
mod head;
pub(crate) mod headers;
mod link;
mod origin;
mod passing;
mod preview;
mod redirect;
mod routed;
mod sight;
mod stored;
mod target;
mod trace;
mod validated;

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use dunlin_proto::{ApiError, ErrorCode, ids::InvocationId, names::FunctionRef};
use http::{HeaderMap, HeaderValue, Request, Response, Version, header, request::Parts};
use http_body::Body;
use http_body_util::Full;
use tower::ServiceExt;

use crate::{
    Context,
    auth::Caller,
    dispatch::{
        CalledBy, Invocation, RequestBody,
        request::{Patience, too_large},
    },
    edge::{Lingering, Peer},
    error, limits,
    metrics::Asking as Counting,
    records::{self, Phase},
    routes::Version as FunctionVersion,
};
use authorizer::Asking;
pub(crate) use cached::Cached;
use cached::{Ask, Asked, Plan};
use choice::{Chosen, Known};
use head::Named;
use origin::Origin;
use passing::Passing;
use routed::Routed;
use sight::Sight;
use target::{Called, Sees, Target};

/// How the media types of gRPC begin.
const GRPC: &[u8] = b"application/grpc";

/// The listener of functions. Each connection has a clone, which counts its own references: for each request all threads would else
/// write the same number, and wait for each other.
#[derive(Debug)]
#[expect(clippy::redundant_allocation, reason = "the outer one counts for one connection alone")]
pub(crate) struct Functions(Arc<Arc<Context>>);

impl Clone for Functions {
    fn clone(&self) -> Self {
        Self(Arc::new(Arc::clone(&self.0)))
    }
}

/// A request that is for a function. It is large, and on the heap nobody moves it from hand to hand.
#[derive(Debug)]
struct Coming {
    parts: Parts,
    body: Lingering,
    called: Called,
    /// The host that its caller named.
    authority: String,
    origin: Origin,
}

impl Functions {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self(Arc::new(context))
    }

    /// Answers a request. Whatever goes wrong on our side is an answer, too.
    pub(crate) fn serve(
        &self,
        request: Request<Lingering>,
        peer: Peer,
    ) -> impl Future<Output = Response<AnswerBody>> + Send + use<> {
        let functions = Self(Arc::clone(&self.0));
        async move { functions.served(request, peer).await }
    }

    async fn served(&self, request: Request<Lingering>, peer: Peer) -> Response<AnswerBody> {
        let (id, version) = (InvocationId::new(), request.version());
        let callers_own = headers::request_id(request.headers());
        let sight = Sight::new(id, request.method(), request.uri(), callers_own);
        let mut sight = sight.traced(self.0.traces.is_on(), request.headers(), version);
        let mut response = match self.answer(request, &peer, &mut sight).await {
            Ok(response) => response,
            Err(failure) => {
                self.0.counted.failed(&failure);
                self.note(&sight, &failure);
                let mut response = own(sight.refused(&failure));
                // Who can't be understood may mean something else by what follows.
                if failure.code == ErrorCode::InvalidArgument && failure.violations.is_empty() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        headers::name_request(response.headers_mut(), headers::value(id), &sight.request_id);
        if version == Version::HTTP_2 {
            response.headers_mut().remove(header::CONNECTION);
        }
        response
    }

    /// Notes a request that is refused here.
    fn note(&self, sight: &Sight, failure: &ApiError) {
        if !sight.passed_on {
            self.0.records.refuse(sight.refusal(&self.0.config.name, failure, &self.0.traces));
        }
    }

    async fn answer(
        &self,
        request: Request<Lingering>,
        peer: &Peer,
        sight: &mut Sight,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let (context, id) = (&*self.0, sight.id);
        let (parts, body) = request.into_parts();
        // Canonicalise: what follows sees one host and one path, or nothing.
        let Named { authority, host } = head::check(&parts, peer, &context.config.limits).inspect_err(|_| {
            sight.lost(head::named(&parts), context.config.domain.as_deref(), &context.routes.load());
        })?;
        if let Some(answer) = challenge::answer(&parts, &authority, &context.issued) {
            return Ok(own(answer));
        }
        let origin = Origin::of(&parts.headers, peer, &context.config.proxies);
        (sight.address, sight.secure) = (Some(origin.address), origin.scheme == "https");
        // Route.
        let called = {
            let table = context.routes.load();
            let heard = context.routes.heard();
            let found = target::find(&parts, &host, &context.config, &table);
            let found = if let Ok(Target::Own(_)) = found { found } else { heard.check().and(found) };
            match found.inspect_err(|_| sight.lost(&authority, context.config.domain.as_deref(), &table))? {
                Target::Own(path) => return target::own(&path, &table, heard.is_stale()).map(own),
                Target::Answer(answer) => {
                    if let Some((failure, rule)) = answer.refusal(origin.address) {
                        sight.lost(&authority, context.config.domain.as_deref(), &table);
                        rule.into_iter().for_each(|rule| sight.answered_by(rule));
                        self.note(sight, &failure);
                    }
                    let encodings = answer.compresses().then(|| compress::Wanted::of(&parts.method, &parts.headers));
                    let response = own(answer.into_response(&parts, origin.address, id));
                    return compressed(response, encodings).await;
                }
                Target::Function(called) => called,
            }
        };
        sight.called(&called.function, called.route.as_ref());
        sight.done(Phase::Route);
        let Some(route) = called.route.clone() else {
            return self.counted(Box::new(Coming { parts, body, called, authority, origin }), sight).await;
        };
        // What a route says about answers.
        let encodings = route.compresses().then(|| compress::Wanted::of(&parts.method, &parts.headers));
        let sent = if route.has_policy() { parts.headers.clone() } else { HeaderMap::new() };
        let answered = self.counted(Box::new(Coming { parts, body, called, authority, origin }), sight).await;
        let mut response = match answered {
            Err(failure) if route.has_policy() => {
                context.counted.failed(&failure);
                self.note(sight, &failure);
                own(sight.refused(&failure))
            }
            answered => answered?,
        };
        route.to_caller(&sent, response.headers_mut());
        if encodings.is_none() {
            return Ok(response);
        }
        compressed(response, encodings).await
    }

    /// Calls a function, and counts it.
    async fn counted(&self, coming: Box<Coming>, sight: &mut Sight) -> Result<Response<AnswerBody>, ApiError> {
        let calls = self.0.dispatcher.series().of(&coming.called.function).clone();
        let counting = Counting::begin(calls, sight.accepted);
        let answered = self.call(coming, sight).await;
        counting.answered(match &answered {
            Ok(response) => response.status().as_u16(),
            Err(failure) => failure.code.http_status(),
        });
        answered
    }

    /// Calls a function.
    async fn call(&self, coming: Box<Coming>, sight: &mut Sight) -> Result<Response<AnswerBody>, ApiError> {
        let (context, id) = (&*self.0, sight.id);
        let Coming { mut parts, body, called, authority, origin } = *coming;
        sight.doing = Phase::Authenticate;
        called.route.as_ref().map_or(Ok(()), |route| route.check_address(origin.address))?;
        // Room for it: who is refused here costs nothing more. What is stored needs none.
        if !called.route.as_ref().is_some_and(|route| route.stores()) {
            context.dispatcher.has_room(&called.function).inspect_err(|_| sight.doing = Phase::Admit)?;
        }
        // Authenticate.
        let caller =
            self.caller(&called, &parts, (origin, &authority, id)).await.inspect_err(|_| sight.ask(&called))?;
        if caller.is_some() {
            sight.done(Phase::Authenticate);
        }
        let Called { function, choice, mut sees, route, parameters } = called;
        let preview = choice.is_preview();
        if preview {
            // Who has followed a link to a version goes on with a cookie; the function sees neither.
            let (base_path, path_and_query) = sees.of(&parts.uri, route.as_deref())?;
            if let Some(answer) = link::settled(&parts, &base_path, origin.scheme, caller.as_ref())? {
                return Ok(own(answer));
            }
            let path_and_query = link::consume(&mut parts.headers, path_and_query)?;
            sees = Sees::Below { base_path, path_and_query };
        }
        // How often it may be called.
        sight.doing = Phase::Limits;
        let plan = caller.as_ref().and_then(|caller| caller.plan.as_deref());
        let identity = caller.as_ref().map(|caller| &caller.identity);
        let admitted = limits::admit(plan, &function.quota.limits, &context.borrowing).await;
        admitted.inspect_err(|_| sight.known(identity))?;
        sight.done(Phase::Limits);
        sight.doing = Phase::Validate;
        // Choose a version; it is kept to, whatever becomes of the call.
        let known = Known { identity, headers: &parts.headers, secure: origin.scheme == "https", id };
        let Chosen { version, cookie } = choice.settle(&function, known)?;
        if preview {
            preview::check(&version, &function.name, context.config.preview_age, SystemTime::now())?;
        }
        // Limits of the version, as far as the head tells, and what the route takes.
        if body.size_hint().lower() > version.request_body_bytes {
            return Err(too_large(version.request_body_bytes));
        }
        let credentialed = caller.is_some();
        let apart = caller.map(Caller::apart).map(|(identity, known, at_once)| (Some(identity), known, at_once));
        let (identity, introduction, at_once) = apart.unwrap_or_default();
        let routed = route.as_deref().map(|route| (route, &parameters));
        let body = validated::passed(routed, &parts, body, &context.config.limits).await?;
        if route.as_ref().is_some_and(|route| route.checker().is_some()) {
            sight.done(Phase::Validate);
        }
        // Answers that depend on the caller are stored by what is known of it, not by what it says.
        if route.as_ref().is_some_and(|route| route.stores()) {
            introduction.replace(&mut parts.headers);
        }
        let stored = (!body.is_end_stream(), credentialed, origin.scheme, &*authority);
        let plan = self.plan(route.as_deref(), &version, &parts, stored, sight).await;
        // Most of what is known by now is of use only to the function, or to a trace.
        let plan = match plan {
            Plan { answer: Some(it), ask: None } if !context.traces.is_on() => return Ok(with_cookie(it, cookie)),
            plan => plan,
        };
        let passing = Box::new(Passing {
            id,
            function,
            version,
            sees,
            route,
            parameters,
            authority,
            origin,
            introduction,
            caller: records::Caller::of(identity.as_ref()),
            called_by: (!preview).then_some(CalledBy { identity, address: origin.address }),
            at_once,
            phases: None,
        });
        Ok(with_cookie(self.run(passing, parts, body, plan, sight).await?, cookie))
    }

    /// What is done about a request that has been let in, as far as stored answers go.
    async fn plan(
        &self,
        route: Option<&Routed>,
        version: &FunctionVersion,
        parts: &Parts,
        (has_body, credentialed, scheme, authority): (bool, bool, &str, &str),
        sight: &mut Sight,
    ) -> Plan {
        let Some(routed) = route else { return Plan::default() };
        let asked = Asked {
            cache: &self.0.cache,
            counted: &self.0.counted,
            routed,
            version: version.key,
            parts,
            scheme,
            authority,
            has_body,
            credentialed,
            id: sight.id,
            deadline: sight.accepted + version.timeout,
        };
        let plan = cached::plan(asked).await;
        if routed.stores() {
            sight.looked_up(plan.cached());
        }
        plan
    }

    /// Answers such a request: with what is stored, or by the function.
    async fn run(
        &self,
        mut passing: Box<Passing>,
        parts: Parts,
        body: RequestBody,
        Plan { answer, ask }: Plan,
        sight: &mut Sight,
    ) -> Result<Response<AnswerBody>, ApiError> {
        let (context, accepted) = (&*self.0, sight.accepted);
        let answer = match answer {
            Some(answer) if ask.is_none() => {
                passing.phases = sight.phases.take();
                stored::trace(*passing, &parts, accepted, answer.status(), context);
                return Ok(answer);
            }
            answer => answer,
        };
        // A new answer that is asked for beside is a call of its own.
        if answer.is_some() {
            passing.id = InvocationId::new();
        }
        passing.phases = sight.phases.take();
        let invocation = passing.invocation(parts, body, ask.as_ref(), accepted, &context.traces)?;
        // Most of what a request's task needs is for this; on the heap, what is answered otherwise does not carry it about.
        let calling = Box::pin(dispatch(Arc::clone(&self.0), invocation, ask));
        sight.passed_on = true;
        match answer {
            Some(answer) => {
                context.shutdown.spawn(async move { cached::read(calling.await).await });
                Ok(answer)
            }
            None => calling.await,
        }
    }

    /// Authenticates whoever calls; nothing where anybody may.
    async fn caller(
        &self,
        called: &Called,
        parts: &Parts,
        (origin, authority, id): (Origin, &str, InvocationId),
    ) -> Result<Option<Caller>, ApiError> {
        let context = &*self.0;
        let (function, route) = (&called.function, called.route.as_ref());
        let FunctionRef { namespace, function: name } = &function.name;
        if let Some(number) = called.choice.previewed() {
            if let Some(token) = link::token(parts) {
                return context.verifier.link(&token, &function.name.version(number)).map(Some);
            }
            return context.verifier.developer(&parts.headers, namespace).await.map(Some);
        }
        if let Some((rule, authorizer)) = route.and_then(|route| route.authorizer()) {
            let asking = Asking { context, rule, authorizer, parts, origin, authority, id };
            return Box::pin(asking.caller()).await.map(Some);
        }
        if route.map_or(function.public, |route| route.is_public(function.public)) {
            return Ok(None);
        }
        let caller = context.verifier.caller(&parts.headers, (namespace, name), &called.takes()).await?;
        route.map_or(Ok(()), |route| route.check_caller(&caller.identity))?;
        Ok(Some(caller))
    }
}

/// Calls the function, and does with its answer what there is to be done.
async fn dispatch(
    context: Arc<Context>,
    invocation: Invocation,
    ask: Option<Ask>,
) -> Result<Response<AnswerBody>, ApiError> {
    let (id, method, version) = (invocation.id, invocation.request.method().clone(), invocation.request.version());
    let answered = context.dispatcher.invoke(invocation).await;
    let answered = answered.map(|response| headers::to_caller(response, &method, version, id));
    match ask {
        Some(ask) => ask.answered(answered, &context.shutdown),
        None => Ok(answered?.map(|body| AnswerBody::Function(Box::new(body)))),
    }
}

fn with_cookie(mut response: Response<AnswerBody>, cookie: Option<HeaderValue>) -> Response<AnswerBody> {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Compresses an answer for a caller that wants it so, where its route asks for it.
async fn compressed(
    response: Response<AnswerBody>,
    wanted: Option<compress::Wanted>,
) -> Result<Response<AnswerBody>, ApiError> {
    match wanted {
        Some(wanted) => Box::pin(compress::compress(response, wanted)).await,
        None => Ok(response),
    }
}

fn own(response: Response<Bytes>) -> Response<AnswerBody> {
    response.map(|body| AnswerBody::Own(Full::new(body)))
}

/// Answers a request of the administration listener: the same limits of heads, then the router's business.
pub(crate) async fn administration(
    router: axum::Router,
    mut request: Request<Lingering>,
    peer: Peer,
    context: Arc<Context>,
) -> Response<axum::body::Body> {
    if let Err(failure) = head::check_administration(&mut request, &peer, &context.config.limits) {
        let id = InvocationId::new().to_string();
        let mut response = error::response(&failure, &id).map(axum::body::Body::from);
        if request.version() != Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        return response;
    }
    request.extensions_mut().insert(peer);
    let rpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|text| text.as_bytes().starts_with(GRPC));
    let patience = Patience::from(&context.config.limits);
    let request = request.map(|body| match rpc {
        // Its streams may pause for as long as they like.
        true => axum::body::Body::new(body),
        false => axum::body::Body::new(RequestBody::incoming(body, patience)),
    });
    let Ok(response) = router.oneshot(request).await;
    response
}

pub(crate) use authorizer::Verdicts;
pub(crate) use body::AnswerBody;
pub(crate) use redirect::redirect;
pub(crate) use trace::{traced, traced_as};

/// A request that can't be understood.
fn bad_request(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidArgument, why.to_string())
}
