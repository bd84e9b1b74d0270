//! The spans of a request that was refused before any function ran: the gateway's, and its parts up to the one that refused it. A pure
//! function. The root of one that was refused by the caller's fault is no error (OpenTelemetry's conventions for HTTP servers, "Status");
//! the part that refused it is in any case.

use super::spans::{FIRST_PHASE, Place, Span, Value, by, cut, description, method, piece, protocol, stated};
use crate::records::{Phase, Refusal};

/// The spans of a request that was refused.
pub(super) fn of(refusal: &Refusal) -> Vec<Span> {
    let mut spans = vec![root(refusal)];
    spans.extend(parts(refusal));
    stated(spans, refusal.traced.state.as_ref())
}

/// Whether it was refused by no fault of the caller's.
pub(super) fn failed(refusal: &Refusal) -> bool {
    refusal.code.http_status() >= 500
}

fn root(refusal: &Refusal) -> Span {
    let traced = &refusal.traced;
    let began = refusal.start_time;
    Span {
        trace: refusal.trace,
        id: traced.span,
        parent: traced.parent,
        name: name(refusal),
        place: Place::Gateway,
        start: began,
        end: began.checked_add(refusal.took).unwrap_or(began),
        attributes: attributes(refusal),
        error: failed(refusal).then(|| description(&refusal.error)),
        retried: None,
        is_root: true,
        state: None,
    }
}

/// The method and whatever has few values: the route's path, otherwise the function, otherwise nothing.
fn name(refusal: &Refusal) -> String {
    let method = method(&refusal.method).unwrap_or("HTTP");
    match (&refusal.traced.route, &refusal.function) {
        (Some(path), _) => format!("{method} {path}"),
        (None, Some(function)) => format!("{method} {function}"),
        (None, None) => method.to_owned(),
    }
}

fn attributes(refusal: &Refusal) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(cut(text));
    let Refusal { traced, code, namespace, function, .. } = refusal;
    let mut attributes = vec![
        ("http.request.method", text(method(&refusal.method).unwrap_or("_OTHER"))),
        ("url.path", text(&refusal.path)),
        ("url.scheme", text(if traced.secure { "https" } else { "http" })),
        ("network.protocol.version", text(protocol(traced.protocol))),
        ("http.response.status_code", Value::Number(code.http_status().into())),
        ("error.type", text(code.as_str())),
        ("faas.invocation_id", Value::Text(refusal.id.to_string())),
        ("faas.trigger", text("http")),
        ("dunlin.gateway", text(refusal.gateway.as_str())),
        ("dunlin.outcome", text(code.as_str())),
        ("dunlin.refused", Value::Truth(true)),
    ];
    let function = namespace.as_ref().zip(function.as_ref());
    let name = function.map(|(namespace, function)| format!("namespaces/{namespace}/functions/{function}"));
    attributes.extend(name.map(|name| ("faas.name", Value::Text(cut(&name)))));
    attributes.extend(traced.route.as_deref().map(|path| ("http.route", text(path))));
    attributes
}

/// What the gateway did with it, one after the other.
fn parts(refusal: &Refusal) -> Vec<Span> {
    let Some(phases) = &refusal.traced.phases else { return Vec::new() };
    let root = (refusal.trace, refusal.traced.span, refusal.start_time);
    let numbered = (FIRST_PHASE..).zip(phases.parts());
    let part = |(number, (phase, from, to)): (u64, (Phase, _, _))| {
        let (refused, whole) = (phases.refused == Some(phase), piece(root, number, phase.as_str(), (from, to - from)));
        let mut attributes = of_phase(refusal, phase);
        attributes.extend(refused.then(|| ("error.type", Value::Text(refusal.code.as_str().to_owned()))));
        Span { attributes, error: refused.then(|| description(&refusal.error)), ..whole }
    };
    numbered.map(part).collect()
}

fn of_phase(refusal: &Refusal, phase: Phase) -> Vec<(&'static str, Value)> {
    let said = match phase {
        Phase::Route => refusal.traced.route.as_deref().map(|path| ("http.route", cut(path))),
        Phase::Authenticate => by(&refusal.caller),
        Phase::Limits | Phase::Validate | Phase::Cache | Phase::Admit => None,
    };
    said.map(|(name, text)| (name, Value::Text(text))).into_iter().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use dunlin_proto::ErrorCode;

    use super::*;
    use crate::records::{Phases, Traced, a_refusal};

    /// A request that was refused in this part, 30 us after its beginning.
    pub(in crate::traces) fn refusal(code: ErrorCode, phase: Phase) -> Refusal {
        let mut phases = Phases::default();
        if phase != Phase::Route {
            phases.end(Phase::Route, Duration::from_micros(10));
        }
        phases.refuse(phase, Duration::from_micros(30));
        let traced = Traced { span: 7, parent: 9, protocol: 1, phases: Some(Box::new(phases)), ..Traced::default() };
        let took = Duration::from_micros(40);
        Refusal { trace: 5, traced, code, took, error: "not that".into(), ..a_refusal("pay", 1) }
    }

    /// Name, parent, from where to where in microseconds, and what went wrong.
    fn told(refusal: &Refusal) -> Vec<(String, u64, u128, u128, Option<String>)> {
        let since = |time: SystemTime| time.duration_since(refusal.start_time).unwrap().as_micros();
        let spans = of(refusal).into_iter();
        spans.map(|span| (span.name, span.parent, since(span.start), since(span.end), span.error)).collect()
    }

    #[test]
    fn the_part_that_refused_a_request_is_an_error_and_the_whole_where_the_caller_could_not_help_it() {
        let not = || Some("not that".to_owned());
        for (code, phase, root) in [
            (ErrorCode::Unauthenticated, Phase::Authenticate, None),
            (ErrorCode::PermissionDenied, Phase::Authenticate, None),
            (ErrorCode::TooManyRequests, Phase::Limits, None),
            (ErrorCode::PayloadTooLarge, Phase::Validate, None),
            (ErrorCode::Unavailable, Phase::Admit, not()),
        ] {
            let expected = [
                ("GET pay".to_owned(), 9, 0, 40, root),
                ("route".to_owned(), 7, 0, 10, None),
                (phase.as_str().to_owned(), 7, 10, 30, not()),
            ];
            assert_eq!(told(&refusal(code, phase)), expected, "{code:?}");
            let root = of(&refusal(code, phase)).remove(0);
            let status = Value::Number(code.http_status().into());
            assert!(root.attributes.contains(&("http.response.status_code", status)), "{code:?}");
            assert!(root.attributes.contains(&("error.type", Value::Text(code.as_str().to_owned()))), "{code:?}");
        }
    }

    #[test]
    fn what_leads_to_nothing_has_no_name_that_its_caller_made() {
        let lost = Refusal { function: None, path: "/x".repeat(900), ..refusal(ErrorCode::NotFound, Phase::Route) };
        let expected =
            [("GET".to_owned(), 9, 0, 40, None), ("route".to_owned(), 7, 0, 30, Some("not that".to_owned()))];
        assert_eq!(told(&lost), expected);
        let root = of(&lost).remove(0);
        assert!(root.attributes.iter().all(|(name, _)| *name != "faas.name"));
        assert!(root.attributes.iter().all(|(_, value)| !matches!(value, Value::Text(text) if text.len() > 256)));
    }
}
