//! Whether a verified token says what a route demands (`dunlin_proto::route::TokenRule`). Pure; that the token is genuine, valid and
//! for the namespace has been found out before.

use std::collections::BTreeSet;

use dunlin_proto::{ApiError, ErrorCode, error::Violation, route::TokenRule};
use serde_json::{Map, Value};

use super::Verified;
use crate::error::SCOPE;

/// The names under which issuers put scopes: the standard's (RFC 8693 4.2, RFC 9068 2.2.3), and one that is as common.
const SCOPES: [&str; 2] = ["scope", "scp"];

impl Verified {
    /// Requires what a route demands of tokens.
    ///
    /// # Errors
    /// `PermissionDenied`, with what is missing; never with what the token says instead.
    pub(crate) fn require(&self, rule: &TokenRule) -> Result<(), ApiError> {
        let denied = |message: String| Err(ApiError::new(ErrorCode::PermissionDenied, message));
        if !rule.issuers.is_empty() && !rule.issuers.contains(&self.principal.issuer) {
            return denied("the route does not take tokens of this issuer".to_owned());
        }
        if !rule.audiences.is_empty() && !has_one(self.claims.get("aud"), &rule.audiences) {
            return denied("the route does not take tokens for this audience".to_owned());
        }
        if let Some(scope) = rule.scopes.iter().find(|scope| !has_scope(&self.claims, scope)) {
            let message = rule.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let needed = Violation { field: SCOPE.to_owned(), message };
            return denied(format!("the token lacks the scope {scope}"))
                .map_err(|error| error.violations(vec![needed]));
        }
        match rule.claims.iter().find(|(name, values)| !has_one(self.claims.get(name.as_str()), values)) {
            Some((name, _)) => {
                denied(format!("the token's claim {name} is missing, or has a value that the route does not take"))
            }
            None => Ok(()),
        }
    }
}

fn has_scope(claims: &Map<String, Value>, wanted: &str) -> bool {
    SCOPES.iter().filter_map(|name| claims.get(*name)).any(|value| match value {
        Value::String(text) => text.split(' ').any(|scope| scope == wanted),
        Value::Array(scopes) => scopes.iter().any(|scope| scope.as_str() == Some(wanted)),
        _ => false,
    })
}

/// Whether a claim is one of these, or a list that has one.
fn has_one(claim: Option<&Value>, wanted: &BTreeSet<String>) -> bool {
    match claim {
        Some(Value::Array(values)) => values.iter().any(|value| is_one(value, wanted)),
        Some(value) => is_one(value, wanted),
        None => false,
    }
}

fn is_one(value: &Value, wanted: &BTreeSet<String>) -> bool {
    match value {
        Value::String(text) => wanted.contains(text),
        Value::Number(_) | Value::Bool(_) => wanted.contains(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use dunlin_proto::v1;
    use serde_json::json;

    use super::*;
    use crate::auth::Principal;

    fn refused(issuer: &str, claims: Value, rule: &TokenRule) -> Option<ApiError> {
        let Value::Object(claims) = claims else { panic!("no claims") };
        let (subject, issuer, expires) = ("zoe".to_owned(), issuer.to_owned(), SystemTime::now());
        let (token_id, origin) = (String::new(), crate::auth::Origin::default());
        let (issued, grants) = (None, Vec::new());
        let principal = Arc::new(Principal { subject, issuer, expires, issued, grants, token_id, origin });
        Verified { principal, callable: Vec::new(), handed_on: Arc::default(), claims }.require(rule).err()
    }

    fn rule(scopes: &[&str], claims: &[(&str, &[&str])]) -> TokenRule {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        let claims = claims.iter().map(|(name, values)| ((*name).to_owned(), texts(values))).collect();
        TokenRule { scopes: texts(scopes), claims, ..TokenRule::default() }
    }

    #[test]
    fn all_scopes_are_needed_wherever_the_issuer_puts_them() {
        let both = rule(&["orders:read", "orders:write"], &[]);
        for good in [
            json!({"scope": "orders:write x orders:read"}),
            json!({"scope": ["orders:read", "orders:write"]}),
            json!({"scp": ["orders:read", "orders:write", 7]}),
            json!({"scp": "orders:read", "scope": "orders:write"}),
        ] {
            assert_eq!(refused("i", good.clone(), &both), None, "{good}");
        }
        for bad in [
            json!({}),
            json!({"scope": "orders:read"}),
            json!({"scope": "orders:read orders:writer"}),
            json!({"scope": "orders:read,orders:write"}),
            json!({"scope": "ORDERS:READ ORDERS:WRITE"}),
            json!({"scope": {"orders:read": true, "orders:write": true}}),
            json!({"scopes": "orders:read orders:write"}),
        ] {
            let error = refused("i", bad.clone(), &both).unwrap();
            assert_eq!(error.code, ErrorCode::PermissionDenied);
            assert_eq!(error.violations[0].message, "orders:read orders:write", "{bad}");
        }
    }

    #[test]
    fn a_claim_has_one_of_its_values() {
        let wanted = rule(&[], &[("department", &["sales", "7", "true"]), ("https://x.example/r", &["owner"])]);
        let with = |department: Value| json!({"department": department, "https://x.example/r": ["clerk", "owner"]});
        for good in [json!("sales"), json!(["it", "sales"]), json!(7), json!(true)] {
            assert_eq!(refused("i", with(good.clone()), &wanted), None, "{good}");
        }
        for bad in [json!("Sales"), json!([]), json!(null), json!([["sales"]]), json!({"sales": 1}), json!(7.5)] {
            assert!(refused("i", with(bad.clone()), &wanted).unwrap().violations.is_empty(), "{bad}");
        }
        assert!(refused("i", json!({"department": "sales"}), &wanted).is_some());
    }

    #[test]
    fn issuer_and_audience_may_be_some_of_those_that_are_trusted() {
        let wire = v1::TokenRule {
            issuers: vec!["https://id.example".into()],
            audiences: vec!["shop".into(), "till".into()],
            ..v1::TokenRule::default()
        };
        let route = v1::Route {
            path: "/x".into(),
            auth: v1::RouteAuth::Jwt.into(),
            token: Some(wire),
            target: Some(v1::route::Target::Function(v1::FunctionTarget {
                function: "pay".into(),
                ..Default::default()
            })),
            ..v1::Route::default()
        };
        let rule = dunlin_proto::route::RouteSpec::try_from(route).unwrap().token.unwrap();
        assert_eq!(refused("https://id.example", json!({"aud": ["x", "till"]}), &rule), None);
        assert_eq!(refused("https://id.example", json!({"aud": "shop"}), &rule), None);
        for (issuer, audience) in [("https://id.example/", "shop"), ("dunlin", "shop"), ("https://id.example", "sho")] {
            assert!(refused(issuer, json!({"aud": audience}), &rule).is_some(), "{issuer} {audience}");
        }
    }
}
