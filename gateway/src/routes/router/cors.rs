//! What a route's policy says to browsers (Fetch, 3.2): answers to preflights, and the headers of all other answers.

use std::sync::Arc;

use bytes::Bytes;
use dunlin_proto::{
    ApiError, ErrorCode,
    route::{CorsPolicy, OriginPattern},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::Rule;

/// The method that a preflight asks for; nothing where the request is none.
pub(crate) fn asked<'h>(method: &Method, headers: &'h HeaderMap) -> Option<&'h str> {
    let preflight = *method == Method::OPTIONS && headers.contains_key(header::ORIGIN);
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| preflight)?;
    asked.to_str().ok()
}

/// The origin of a request, where the policy lets its pages call.
fn allowed<'h>(policy: &CorsPolicy, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let text = origin.to_str().ok()?;
    policy.allow_origins.iter().any(|pattern| pattern.matches(text)).then_some(origin)
}

/// Whether every answer is the same for all origins, so that caches need not tell them apart.
fn for_all(policy: &CorsPolicy) -> bool {
    policy.allow_origins.contains(&OriginPattern::Any)
}

/// Answers a preflight for a route.
///
/// # Errors
/// `PermissionDenied` where pages of the origin may not call it.
pub(crate) fn preflight(
    rule: &Rule,
    policy: &CorsPolicy,
    asked: &str,
    headers: &HeaderMap,
) -> Result<Response<Bytes>, ApiError> {
    if allowed(policy, headers).is_none() {
        let message = format!("pages of this origin may not call the route {}", rule.name.route);
        let hint = "whoever owns the route allows origins with: dunlin route add --cors-origin";
        return Err(ApiError::new(ErrorCode::PermissionDenied, message).hint(hint));
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    grant(policy, headers, out);
    out.append(header::VARY, HeaderValue::from_static("access-control-request-method, access-control-request-headers"));
    let methods: Vec<_> = match (policy.allow_methods.as_slice(), rule.spec.methods.is_empty()) {
        ([], true) => vec![asked],
        ([], false) => rule.spec.methods.iter().map(String::as_str).collect(),
        (methods, _) => methods.iter().map(String::as_str).collect(),
    };
    set(out, header::ACCESS_CONTROL_ALLOW_METHODS, &methods.join(", "));
    let requested = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    if policy.allow_headers.iter().any(|name| name == "*") {
        // The star itself would leave out `authorization`, and all where credentials are sent.
        out.extend(requested.map(|names| (header::ACCESS_CONTROL_ALLOW_HEADERS, names)));
    } else if !policy.allow_headers.is_empty() {
        set(out, header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.allow_headers.join(", "));
    }
    if let Some(age) = policy.max_age {
        out.insert(header::ACCESS_CONTROL_MAX_AGE, age.as_secs().into());
    }
    Ok(response)
}

/// Of routes that have a path, the one whose policy speaks where none of them takes the request: the first that admits its origin, or else
/// the first that has a policy.
pub(crate) fn speaker<'r>(rules: &'r [Arc<Rule>], request: &HeaderMap) -> Option<&'r CorsPolicy> {
    let policies = || rules.iter().filter_map(|rule| rule.spec.cors.as_ref());
    let admits = |policy: &&CorsPolicy| for_all(policy) || allowed(policy, request).is_some();
    policies().find(admits).or_else(|| policies().next())
}

/// Sets on an answer what the policy says of a request, in the place of what a function says.
pub(crate) fn apply(policy: &CorsPolicy, request: &HeaderMap, answer: &mut HeaderMap) {
    let own: Vec<_> = answer.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    for name in own {
        answer.remove(name);
    }
    grant(policy, request, answer);
    if !policy.expose_headers.is_empty() && answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        set(answer, header::ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose_headers.join(", "));
    }
}

fn grant(policy: &CorsPolicy, request: &HeaderMap, answer: &mut HeaderMap) {
    if for_all(policy) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return;
    }
    answer.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = allowed(policy, request) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if policy.allow_credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{route::RouteSpec, v1};

    use super::*;

    fn rule(change: impl FnOnce(&mut v1::CorsPolicy)) -> Rule {
        let mut cors = v1::CorsPolicy { allow_origins: vec!["https://app.example".into()], ..Default::default() };
        change(&mut cors);
        let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
        let methods = vec!["DELETE".into(), "GET".into()];
        let route = v1::Route { path: "/x".into(), target, methods, cors: Some(cors), ..Default::default() };
        Rule::new("namespaces/shop/routes/x".parse().unwrap(), RouteSpec::try_from(route).unwrap()).unwrap()
    }

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn answered(rule: &Rule, origin: &str) -> Result<HeaderMap, ApiError> {
        let headers = map(&[("origin", origin), ("access-control-request-headers", "x-a, authorization")]);
        preflight(rule, rule.spec.cors.as_ref().unwrap(), "DELETE", &headers).map(|answer| answer.headers().clone())
    }

    #[test]
    fn a_preflight_names_methods_headers_and_origin() {
        let headers = answered(&rule(|_| {}), "https://app.example").unwrap();
        assert_eq!(headers["access-control-allow-origin"], "https://app.example");
        assert_eq!(headers["access-control-allow-methods"], "DELETE, GET");
        assert!(
            !headers.contains_key("access-control-allow-headers") && !headers.contains_key("access-control-max-age")
        );
        assert_eq!(headers.get_all("vary").iter().count(), 2);
        let full = rule(|cors| {
            cors.allow_methods = vec!["PATCH".into()];
            cors.allow_headers = vec!["*".into()];
            cors.allow_credentials = true;
            cors.max_age = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        });
        let headers = answered(&full, "https://app.example").unwrap();
        assert_eq!(headers["access-control-allow-methods"], "PATCH");
        assert_eq!(headers["access-control-allow-headers"], "x-a, authorization");
        assert_eq!(
            (&headers["access-control-allow-credentials"], &headers["access-control-max-age"]),
            (&"true".parse().unwrap(), &"60".parse().unwrap())
        );
        assert_eq!(answered(&full, "https://evil.example").unwrap_err().code, ErrorCode::PermissionDenied);
        let any = rule(|cors| cors.allow_origins = vec!["*".into()]);
        assert_eq!(answered(&any, "https://evil.example").unwrap()["access-control-allow-origin"], "*");
    }

    #[test]
    fn where_no_route_takes_a_request_one_that_knows_its_origin_speaks() {
        let of = |origin: &str| Arc::new(rule(|cors| cors.allow_origins = vec![origin.to_owned()]));
        let silent = Arc::new(rule(|_| {}));
        let mut without = Rule::new(silent.name.clone(), silent.spec.clone()).unwrap();
        without.spec.cors = None;
        let rules = [Arc::new(without), of("https://a.example"), of("https://b.example")];
        let speaks = |rules: &[Arc<Rule>], origin: &str| {
            speaker(rules, &map(&[("origin", origin)])).map(|policy| policy.allow_origins[0].to_string())
        };
        for (origin, expected) in [
            ("https://b.example", "https://b.example"),
            ("https://a.example", "https://a.example"),
            ("https://evil.example", "https://a.example"),
        ] {
            assert_eq!(speaks(&rules, origin).as_deref(), Some(expected), "{origin}");
        }
        assert_eq!(speaks(&rules[..1], "https://a.example"), None);
        let any = [of("https://a.example"), of("*")];
        assert_eq!(speaks(&any, "https://evil.example").as_deref(), Some("*"));
    }

    #[test]
    fn only_a_question_of_a_browser_is_a_preflight() {
        let headers = map(&[("origin", "https://a"), ("access-control-request-method", "PUT")]);
        assert_eq!(asked(&Method::OPTIONS, &headers), Some("PUT"));
        assert_eq!(asked(&Method::GET, &headers), None);
        assert_eq!(asked(&Method::OPTIONS, &map(&[("origin", "https://a")])), None);
    }

    #[test]
    fn the_policy_stands_in_the_place_of_what_a_function_says() {
        let rule = rule(|cors| cors.expose_headers = vec!["x-total".into()]);
        let policy = rule.spec.cors.as_ref().unwrap();
        let answer = |origin: &[(&'static str, &str)]| {
            let mut answer = map(&[
                ("access-control-allow-origin", "*"),
                ("access-control-allow-credentials", "true"),
                ("vary", "accept"),
            ]);
            apply(policy, &map(origin), &mut answer);
            answer
        };
        let given = answer(&[("origin", "https://app.example")]);
        assert_eq!(given["access-control-allow-origin"], "https://app.example");
        assert_eq!(given["access-control-expose-headers"], "x-total");
        assert_eq!(given.get_all("vary").iter().collect::<Vec<_>>(), ["accept", "origin"]);
        for origin in [&[("origin", "https://evil.example")][..], &[]] {
            let given = answer(origin);
            assert_eq!(given.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["vary"], "{origin:?}");
        }
    }
}
