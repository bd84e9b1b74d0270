//! A request on its way to its function, once it is clear which version takes it.
//!
//! Which headers pass is `headers.rs`'s business, how the invocation runs `dispatch`'s.

use std::sync::Arc;

use dunlin_proto::{ApiError, ids::InvocationId};
use http::{Request, request::Parts};
use tokio::time::Instant;

use super::{authorizer, cached::Ask, headers, origin::Origin, routed::Routed, target::Sees, trace};
use crate::{
    auth::Introduction,
    dispatch::{CalledBy, Introduced, Invocation, RequestBody},
    limits::CallerSlots,
    records::{Caller, Came, Phases, Traced},
    routes::{Function, Version, router::Parameters},
    traces::{Traces, protocol_of},
};

/// What is known of a call beside what its caller sent.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) id: InvocationId,
    pub(super) function: Arc<Function>,
    pub(super) version: Arc<Version>,
    pub(super) sees: Sees,
    pub(super) route: Option<Arc<Routed>>,
    /// The parameters that its path has.
    pub(super) parameters: Parameters,
    pub(super) authority: String,
    pub(super) origin: Origin,
    /// What the function gets to know of the caller.
    pub(super) introduction: Introduction,
    /// Who called, for the record.
    pub(super) caller: Caller,
    /// Who calls, where that says something about the version.
    pub(super) called_by: Option<CalledBy>,
    /// What its caller's key may have at once.
    pub(super) at_once: Option<Arc<CallerSlots>>,
    /// What was done with it so far.
    pub(super) phases: Option<Box<Phases>>,
}

impl Passing {
    /// The call, ready to run; with `ask`, what it brings may be stored.
    pub(super) fn invocation(
        self,
        mut parts: Parts,
        body: RequestBody,
        ask: Option<&Ask>,
        accepted: Instant,
        traces: &Traces,
    ) -> Result<Invocation, ApiError> {
        let Self {
            id,
            function,
            version,
            sees,
            route,
            parameters,
            authority,
            origin,
            introduction,
            caller,
            called_by,
            at_once,
            phases,
        } = self;
        let (base_path, path_and_query) = sees.of(&parts.uri, route.as_deref())?;
        let path_and_query = match &introduction.source {
            Some(source) => authorizer::consume(source, &mut parts.headers, path_and_query)?,
            None => path_and_query,
        };
        let request_id = headers::request_id(&parts.headers);
        let random = rand::random::<(u128, u64)>();
        let mut trace = trace::parent(&parts.headers, random);
        let mut traced = trace.joined(traces, &function.name.namespace, random.1);
        if traces.is_on() {
            let (secure, protocol) = (origin.scheme == "https", protocol_of(parts.version));
            let route = route.as_ref().map(|route| route.pattern());
            let state = trace.inherited.then(|| trace::state(&parts.headers)).flatten();
            traced = Traced { secure, protocol, route, state, phases, ..traced };
        }
        let mut passed = headers::to_function(parts.headers, &introduction.consumed, origin, &authority, id, &trace);
        if let Some(route) = &route {
            route.to_function(&mut passed);
        }
        let came = Came {
            traced,
            route: route.map(|route| route.label()),
            caller,
            address: Some(origin.address),
            trace: trace.id,
            ..Came::default()
        };
        introduction.name_key(&mut passed);
        if let Some(ask) = ask {
            ask.to_function(&mut passed);
        }
        let mut request = Request::new(body);
        *request.method_mut() = ask.map_or_else(|| parts.method.clone(), |ask| ask.method(&parts.method));
        *request.version_mut() = parts.version;
        *request.uri_mut() = path_and_query;
        *request.headers_mut() = passed;
        Ok(Invocation {
            id,
            function,
            version,
            request,
            introduced: Introduced { parameters, caller: introduction.handed_on },
            base_path,
            scheme: origin.scheme,
            authority,
            remote_address: origin.address,
            request_id,
            called_by,
            at_once,
            came,
            told: None,
            shown: false,
            accepted,
        })
    }
}
