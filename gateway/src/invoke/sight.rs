//! What is known of a request by the time that it is refused, for whoever asks later why it was. What becomes of it is
//! `records`' business.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{GatewayId, InvocationId, Namespace},
};
use http::{HeaderMap, HeaderValue, Method, Response, Uri, Version};
use tokio::time::Instant;

use super::{cached::Cached, routed::Routed, target::Called, trace};
use crate::{
    auth::{CallerIdentity, Takes},
    error,
    records::{Caller, Phase, Phases, Refusal, Traced},
    routes::{
        Function, Table,
        host::{self, HostTarget},
        path,
        router::Rule,
    },
    traces::{Traces, protocol_of},
};

/// What is known of a request so far.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) id: InvocationId,
    pub(super) accepted: Instant,
    /// The caller's own `X-Request-Id`; may be empty.
    pub(super) request_id: String,
    method: Method,
    uri: Uri,
    pub(super) address: Option<IpAddr>,
    /// Whom it was for, where there is no function.
    namespace: Option<Namespace>,
    function: Option<Arc<Function>>,
    /// The route that took it.
    routed: Option<Arc<Routed>>,
    /// The one that refuses it by itself.
    refusing: Option<Arc<str>>,
    caller: Caller,
    /// Which credentials would do, where it is refused for having none of them.
    pub(super) takes: Option<Takes>,
    /// Whatever goes wrong from here on is noted elsewhere.
    pub(super) passed_on: bool,
    /// What was done with it so far, where traces are taken.
    pub(super) phases: Option<Box<Phases>>,
    /// What is being done with it.
    pub(super) doing: Phase,
    /// What it says of its trace, where traces are taken.
    traceparent: Option<HeaderValue>,
    state: Option<Arc<str>>,
    protocol: u8,
    /// Its caller used TLS.
    pub(super) secure: bool,
}

impl Sight {
    /// That of a request that has just been accepted.
    pub(super) fn new(id: InvocationId, method: &Method, uri: &Uri, request_id: String) -> Self {
        Self {
            id,
            accepted: Instant::now(),
            request_id,
            method: method.clone(),
            uri: uri.clone(),
            address: None,
            namespace: None,
            function: None,
            routed: None,
            refusing: None,
            caller: Caller::Anybody,
            takes: None,
            passed_on: false,
            phases: None,
            doing: Phase::Route,
            traceparent: None,
            state: None,
            protocol: 0,
            secure: false,
        }
    }

    /// Notes from here on what is done with it and how long that takes, where traces are taken; otherwise no clock is read.
    pub(super) fn traced(self, traces: bool, headers: &HeaderMap, version: Version) -> Self {
        if !traces {
            return self;
        }
        let (traceparent, state) = (trace::sent(headers).cloned(), trace::state(headers));
        Self { phases: Some(Box::default()), traceparent, state, protocol: protocol_of(version), ..self }
    }

    /// This has been done with it.
    pub(super) fn done(&mut self, phase: Phase) {
        if let Some(phases) = &mut self.phases {
            phases.end(phase, self.accepted.elapsed());
        }
    }

    /// The stored answers have been looked at.
    pub(super) fn looked_up(&mut self, found: Option<Cached>) {
        self.done(Phase::Cache);
        if let Some(phases) = &mut self.phases {
            phases.cached = found.map(Cached::as_str);
        }
    }

    /// It is for this function.
    pub(super) fn called(&mut self, function: &Arc<Function>, route: Option<&Arc<Routed>>) {
        self.function = Some(function.clone());
        self.routed = route.cloned();
    }

    /// A route refuses it by itself.
    pub(super) fn answered_by(&mut self, rule: &Rule) {
        self.namespace = Some(rule.name.namespace.clone());
        self.refusing = Some(rule.label.clone());
    }

    /// It is for nothing that there is: notes whose it would be.
    pub(super) fn lost(&mut self, authority: &str, domain: Option<&str>, table: &Table) {
        self.namespace = tenant(self.uri.path(), authority, domain, table);
    }

    /// Who calls is refused, and is asked for what is needed; whoever looks at a preview is a developer, and knows.
    pub(super) fn ask(&mut self, called: &Called) {
        self.takes = (!called.choice.is_preview()).then(|| called.takes());
    }

    /// Somebody calls who is refused for what it has already used.
    pub(super) fn known(&mut self, identity: Option<&CallerIdentity>) {
        self.caller = Caller::of(identity);
    }

    /// What its caller is told of a failure.
    pub(super) fn refused(&self, failure: &ApiError) -> Response<Bytes> {
        let mut response = error::response(failure, &self.id.to_string());
        if let Some(takes) = self.takes.as_ref().filter(|_| failure.code == ErrorCode::Unauthenticated) {
            takes.challenge(response.headers_mut());
        }
        response
    }

    /// The refusal that it comes to.
    pub(super) fn refusal(&self, gateway: &GatewayId, error: &ApiError, traces: &Traces) -> Refusal {
        let took = self.accepted.elapsed();
        let named = self.function.as_ref().map(|function| &function.name);
        let (trace, traced) = self.trace(traces, took);
        Refusal {
            id: self.id,
            namespace: named.map(|name| name.namespace.clone()).or_else(|| self.namespace.clone()),
            function: named.map(|name| name.function.clone()),
            route: self.refusing.clone().or_else(|| self.routed.as_ref().map(|route| route.label())),
            caller: self.caller.clone(),
            address: self.address,
            start_time: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            method: self.method.to_string(),
            path: short(self.uri.path()),
            gateway: gateway.clone(),
            code: error.code,
            error: error.message.clone(),
            hint: error.hint.clone().unwrap_or_default(),
            request_id: self.request_id.clone(),
            trace,
            traced,
        }
    }

    /// The trace of a request that is refused after so long, and what its spans need.
    fn trace(&self, traces: &Traces, took: Duration) -> (u128, Traced) {
        if !traces.is_on() {
            return Default::default();
        }
        let named = self.function.as_ref().map(|function| &function.name.namespace);
        let random = rand::random::<(u128, u64)>();
        let mut trace = trace::of_sent(self.traceparent.as_ref(), random);
        let traced = trace.refused(traces, named.or(self.namespace.as_ref()), random.1);
        let mut phases = self.phases.clone().unwrap_or_default();
        phases.refuse(self.doing, took);
        let route = self.routed.as_ref().filter(|_| self.phases.is_some()).map(|route| route.pattern());
        let (secure, protocol) = (self.secure, self.protocol);
        let state = self.state.clone().filter(|_| trace.inherited);
        (trace.id, Traced { secure, protocol, route, state, phases: Some(phases), ..traced })
    }
}

/// The longest path that is kept of a request that was refused, in bytes.
const MAX_PATH: usize = 512;

fn short(path: &str) -> String {
    path.get(..path.floor_char_boundary(MAX_PATH)).unwrap_or_default().to_owned()
}

/// The namespace whose address a request has: by the host of a function or of a domain, or by the path. Nothing where there
/// is no such namespace, so that no caller can make one up.
fn tenant(path: &str, authority: &str, domain: Option<&str>, table: &Table) -> Option<Namespace> {
    let host = host::canonical(authority).unwrap_or_default();
    if let Some(owner) = table.router.owner(&host) {
        return Some(owner.clone());
    }
    let by_host = domain.map(|domain| host::target(&host, domain));
    let name = match by_host {
        Some(HostTarget::Function { namespace, .. }) => namespace.into(),
        _ => path::name(path.strip_prefix('/')?.split('/').next()?),
    };
    name.parse().ok().filter(|namespace| table.namespaces.contains(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_request_is_follows_from_host_and_path_where_there_is_such_a_namespace() {
        let namespaces = Arc::new(["shop".parse().unwrap()].into());
        let table = Table { namespaces, ..Table::default() };
        for (authority, path, expected) in [
            ("h", "/shop/nothing", Some("shop")),
            ("h", "/shop", Some("shop")),
            ("h", "/sho%70/nothing", Some("shop")),
            ("h", "/bank/pay", None),
            ("h", "/", None),
            ("h", "/..", None),
            ("pay--shop.fn.example", "/x", Some("shop")),
            ("pay--bank.fn.example", "/shop/x", None),
        ] {
            let found = tenant(path, authority, Some("fn.example"), &table);
            assert_eq!(found.as_ref().map(Namespace::as_str), expected, "{authority}{path}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_without_traces_notes_no_times() {
        let new = |traces| {
            let sight = Sight::new(InvocationId::new(), &Method::GET, &Uri::default(), String::new());
            sight.traced(traces, &HeaderMap::new(), Version::HTTP_11)
        };
        let mut sight = new(false);
        sight.done(Phase::Route);
        assert_eq!(sight.phases, None);
        let mut sight = new(true);
        tokio::time::advance(std::time::Duration::from_millis(2)).await;
        sight.looked_up(Some(Cached::Miss));
        let phases = sight.phases.unwrap();
        assert_eq!((phases.over().as_millis(), phases.cached), (2, Some("miss")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_a_part_of_its_callers_trace_and_says_what_refused_it() {
        let tracing = crate::TracingConfig {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            ratio: 0.0,
            callers_per_second: 1,
            ..crate::TracingConfig::default()
        };
        let (traces, ..) = Traces::open(&crate::Config { tracing, ..crate::Config::default() }).unwrap();
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let refused = |traces: &Traces, sent: Option<&str>| {
            let sent = sent.map(|text| (http::HeaderName::from_static("traceparent"), text.parse().unwrap()));
            let headers = HeaderMap::from_iter(sent);
            let sight = Sight::new(InvocationId::new(), &Method::GET, &Uri::default(), String::new());
            let mut sight = sight.traced(traces.is_on(), &headers, Version::HTTP_11);
            sight.done(Phase::Route);
            sight.doing = Phase::Authenticate;
            sight.refusal(
                &"g".parse().unwrap(),
                &ApiError::new(dunlin_proto::ErrorCode::Unauthenticated, "who?"),
                traces,
            )
        };
        let first = refused(&traces, Some(sent));
        assert_eq!(
            (first.trace, first.traced.parent),
            (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331)
        );
        assert!(first.traced.sampled && first.traced.span != 0);
        let phases = first.traced.phases.unwrap();
        assert_eq!((phases.refused, phases.parts().count()), (Some(Phase::Authenticate), 2));
        assert!(!refused(&traces, Some(sent)).traced.sampled, "one a second is enough");
        let own = refused(&traces, None);
        assert!(own.trace != 0 && own.traced.parent == 0 && !own.traced.sampled);
        let off = refused(&Traces::default(), Some(sent));
        assert_eq!((off.trace, off.traced), (0, Traced::default()));
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(short("/a"), "/a");
        assert_eq!(short(&"ü".repeat(400)).len(), MAX_PATH);
    }
}
