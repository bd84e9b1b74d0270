//! What verified claims must say (RFC 7519 4.1) and what they grant. Pure: time is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dunlin_proto::ids::Namespace;
use serde_json::{Map, Value};

use super::{Grant, Role};

/// How far the clocks of issuer and gateway may differ, in seconds.
const LEEWAY: u64 = 30;
/// The longest life of a token, in seconds.
const MAX_LIFETIME: u64 = 24 * 3600;
/// The longest subject, in characters.
const MAX_SUBJECT: usize = 256;
/// What is kept of a token's id, in characters.
const MAX_ID: usize = 128;
/// 9999-12-31; nothing that a calendar knows lies beyond.
const MAX_TIME: u64 = 253_402_300_799;

/// Why claims are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClaimError {
    #[error("the token's {0} is missing")]
    Missing(&'static str),
    #[error("the token's {0} has the wrong type")]
    Type(&'static str),
    #[error("the token's {0} is out of range")]
    Range(&'static str),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is valid for more than 24 hours")]
    TooLong,
    #[error("the token's audience is another one")]
    Audience,
    #[error("the token's grants are malformed")]
    Grants,
}

/// The claims that every token has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audience: Vec<String>,
    pub(super) expires: SystemTime,
    /// Nothing where it does not say.
    pub(super) issued: Option<SystemTime>,
    /// Empty where there is none.
    pub(super) id: String,
}

type Claims = Map<String, Value>;

fn text(claims: &Claims, name: &'static str) -> Result<String, ClaimError> {
    match claims.get(name) {
        None => Err(ClaimError::Missing(name)),
        Some(Value::String(text)) if text.is_empty() => Err(ClaimError::Missing(name)),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(ClaimError::Type(name)),
    }
}

/// A time in whole seconds; texts and fractions are refused, since parsers disagree on them.
fn time(claims: &Claims, name: &'static str) -> Result<Option<u64>, ClaimError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(ClaimError::Type(name)) };
    let seconds = number.as_u64().filter(|seconds| *seconds <= MAX_TIME);
    seconds.map(Some).ok_or(ClaimError::Range(name))
}

fn audience(claims: &Claims) -> Result<Vec<String>, ClaimError> {
    let texts = match claims.get("aud") {
        None => return Err(ClaimError::Missing("aud")),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(ClaimError::Type("aud"))?
        }
        Some(_) => return Err(ClaimError::Type("aud")),
    };
    if texts.is_empty() { Err(ClaimError::Missing("aud")) } else { Ok(texts) }
}

/// The issuer that claims name; it only selects which keys are asked.
pub(super) fn issuer(claims: &Claims) -> Result<String, ClaimError> {
    text(claims, "iss")
}

/// Checks the claims that every token has.
pub(super) fn standard(claims: &Claims, now: SystemTime) -> Result<Standard, ClaimError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let exp = time(claims, "exp")?.ok_or(ClaimError::Missing("exp"))?;
    let (nbf, iat) = (time(claims, "nbf")?, time(claims, "iat")?);
    if exp + LEEWAY <= now {
        return Err(ClaimError::Expired);
    }
    if nbf.max(iat).is_some_and(|begin| begin > now + LEEWAY) {
        return Err(ClaimError::NotYet);
    }
    let begin = iat.unwrap_or(now + LEEWAY);
    if exp.saturating_sub(begin) > MAX_LIFETIME {
        return Err(ClaimError::TooLong);
    }
    let subject = text(claims, "sub")?;
    if subject.chars().count() > MAX_SUBJECT || subject.chars().any(char::is_control) {
        return Err(ClaimError::Range("sub"));
    }
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let (expires, issued) = (at(exp), iat.map(at));
    let id = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
    let id = id.chars().filter(|letter| !letter.is_control()).take(MAX_ID).collect();
    Ok(Standard { issuer: issuer(claims)?, subject, audience: audience(claims)?, expires, issued, id })
}

/// The grants in a claim: objects `{"namespace": "shop", "role": "developer"}`, or texts `shop:developer` and `operator`.
pub(super) fn grants(claims: &Claims, claim: &str) -> Result<Vec<Grant>, ClaimError> {
    let Some(value) = claims.get(claim) else { return Ok(Vec::new()) };
    let Value::Array(values) = value else { return Err(ClaimError::Grants) };
    values.iter().map(|value| grant(value).ok_or(ClaimError::Grants)).collect()
}

fn grant(value: &Value) -> Option<Grant> {
    let (namespace, role) = match value {
        Value::String(text) => match text.split_once(':') {
            Some((namespace, role)) => (Some(namespace), role),
            None => (None, text.as_str()),
        },
        Value::Object(members) => {
            let namespace = members.get("namespace").map(|name| name.as_str().ok_or(())).transpose().ok()?;
            (namespace, members.get("role")?.as_str()?)
        }
        _ => return None,
    };
    match (namespace, role) {
        (None | Some(""), "operator") => Some(Grant { namespace: None, role: Role::Operator }),
        (Some(namespace), role) => {
            Some(Grant { namespace: Some(namespace.parse().ok()?), role: namespace_role(role)? })
        }
        (None, _) => None,
    }
}

fn namespace_role(text: &str) -> Option<Role> {
    [Role::Viewer, Role::Developer, Role::Admin].into_iter().find(|role| role.to_string() == text)
}

/// The namespaces that a claim names, as a text or several; what is no namespace's name is left out.
pub(super) fn namespaces(claims: &Claims, claim: &str) -> Vec<Namespace> {
    let texts = match claims.get(claim) {
        Some(Value::String(text)) => vec![text.as_str()],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn check(changes: &[(&str, Value)]) -> Result<Standard, ClaimError> {
        let good =
            json!({"iss": "dunlin", "sub": "zoe", "aud": "dunlin-admin", "exp": NOW + 600, "iat": NOW, "nbf": NOW});
        let Value::Object(mut claims) = good else { unreachable!() };
        for (name, value) in changes {
            if *value == json!("REMOVE") {
                claims.remove(*name)
            } else {
                claims.insert((*name).to_owned(), value.clone())
            };
        }
        standard(&claims, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn t42_every_claim_is_checked() {
        use ClaimError::*;
        assert!(check(&[]).is_ok());
        let gone = || json!("REMOVE");
        for (name, value, error) in [
            ("exp", gone(), Missing("exp")),
            ("exp", json!(NOW - 30), Expired),
            ("exp", json!(0), Expired),
            ("exp", json!(-1), Range("exp")),
            ("exp", json!(1.5), Range("exp")),
            ("exp", json!(1e300), Range("exp")),
            ("exp", json!(u64::MAX), Range("exp")),
            ("exp", json!((NOW + 600).to_string()), Type("exp")),
            ("exp", json!(null), Type("exp")),
            ("exp", json!([NOW + 600]), Type("exp")),
            ("exp", json!(true), Type("exp")),
            ("exp", json!(NOW + 24 * 3600 + 1), TooLong),
            ("nbf", json!(NOW + 31), NotYet),
            ("nbf", json!((NOW).to_string()), Type("nbf")),
            ("nbf", json!(-5), Range("nbf")),
            ("iat", json!(NOW + 31), NotYet),
            ("iat", json!("now"), Type("iat")),
            ("iat", json!(NOW - 24 * 3600), TooLong),
            ("sub", gone(), Missing("sub")),
            ("sub", json!(""), Missing("sub")),
            ("sub", json!(7), Type("sub")),
            ("sub", json!("a\nb"), Range("sub")),
            ("sub", json!("x".repeat(257)), Range("sub")),
            ("iss", gone(), Missing("iss")),
            ("iss", json!(["dunlin"]), Type("iss")),
            ("aud", gone(), Missing("aud")),
            ("aud", json!([]), Missing("aud")),
            ("aud", json!([1]), Type("aud")),
            ("aud", json!({"a": 1}), Type("aud")),
        ] {
            assert_eq!(check(&[(name, value.clone())]), Err(error), "{name} {value}");
        }
    }

    #[test]
    fn t42_clocks_may_differ_by_half_a_minute() {
        assert!(check(&[("exp", json!(NOW - 29))]).is_ok());
        assert!(check(&[("nbf", json!(NOW + 30)), ("iat", json!(NOW + 30))]).is_ok());
        // Without iat the life counts from now, at the most.
        assert!(check(&[("iat", json!("REMOVE")), ("exp", json!(NOW + 24 * 3600))]).is_ok());
        assert_eq!(check(&[("iat", json!("REMOVE")), ("exp", json!(NOW + 25 * 3600))]), Err(ClaimError::TooLong));
    }

    #[test]
    fn grants_are_objects_or_texts_and_nothing_else() {
        let of = |value: Value| grants(json!({"g": value}).as_object().unwrap(), "g");
        let shop = Grant { namespace: Some("shop".parse().unwrap()), role: Role::Developer };
        let operator = Grant { namespace: None, role: Role::Operator };
        assert_eq!(
            of(json!([{"namespace": "shop", "role": "developer"}, {"role": "operator"}])),
            Ok(vec![shop.clone(), operator.clone()])
        );
        assert_eq!(of(json!(["shop:developer", "operator"])), Ok(vec![shop, operator]));
        assert_eq!(grants(&Map::new(), "g"), Ok(vec![]));
        for bad in [
            json!("operator"),
            json!([{"namespace": "shop", "role": "operator"}]),
            json!(["shop:operator"]),
            json!(["admin"]),
            json!([{"role": "admin"}]),
            json!([{"namespace": 7, "role": "operator"}]),
            json!([{"namespace": null, "role": "operator"}]),
            json!(["../x:admin"]),
            json!(["shop:Admin"]),
            json!([7]),
        ] {
            assert_eq!(of(bad.clone()), Err(ClaimError::Grants), "{bad}");
        }
    }
}
