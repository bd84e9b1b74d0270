//! What a function gets to know of whoever calls it: headers that only the gateway sets. Which credentials it does not get is
//! said here, too; taking them away is `invoke/passing.rs`'s.

use std::{fmt::Write, sync::Arc};

use dunlin_proto::{names::KeyId, route::CredentialSource};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use smallvec::SmallVec;

/// Whom a token or an authorizer names.
pub(crate) const PRINCIPAL: HeaderName = HeaderName::from_static("dunlin-principal");
/// What else they say, as a JSON object in ASCII.
pub(crate) const CLAIMS: HeaderName = HeaderName::from_static("dunlin-claims");
/// The id of the key that was used.
const KEY: HeaderName = HeaderName::from_static("dunlin-key");
/// The most that is handed on of claims, as JSON.
pub(crate) const MAX_CLAIMS: usize = 4 << 10;

/// What a function gets to know of a caller, and what not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Introduction {
    /// The headers that held credentials of the platform.
    pub(crate) consumed: SmallVec<[HeaderName; 2]>,
    /// Where an authorizer's credential was.
    pub(crate) source: Option<CredentialSource>,
    /// The key that was used.
    pub(crate) key: Option<KeyId>,
    /// Headers that say who it is, where no key does.
    pub(crate) handed_on: Arc<[(HeaderName, HeaderValue)]>,
}

impl Introduction {
    /// Puts what is known of a caller in the place of what it says of itself.
    pub(crate) fn replace(&self, headers: &mut HeaderMap) {
        // Hardly anybody says anything, and to see that takes less than to look for each.
        if headers.keys().any(|name| name.as_str().starts_with("dunlin-")) {
            for name in [PRINCIPAL, CLAIMS, KEY] {
                headers.remove(name);
            }
        }
        self.name_key(headers);
        headers.extend(self.handed_on.iter().cloned());
    }

    /// Names the key that was used, in headers in which the caller says nothing of itself.
    pub(crate) fn name_key(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.key.as_ref().and_then(|key| HeaderValue::from_str(key.as_str()).ok()) {
            headers.insert(KEY, id);
        }
    }
}

/// What is told of the bearer of a token; what no header can have is left out.
pub(super) fn of_token(subject: &str, claims_of_token: &Map<String, Value>) -> Arc<[(HeaderName, HeaderValue)]> {
    // Bytes beyond ASCII mean different things to different readers (RFC 9110 5.5).
    let subject = HeaderValue::from_str(subject).ok().filter(|_| subject.is_ascii());
    let subject = subject.map(|subject| (PRINCIPAL, subject));
    subject.into_iter().chain(claims(claims_of_token).map(|claims| (CLAIMS, claims))).collect()
}

/// Claims as a header; nothing where they are too long.
pub(crate) fn claims(claims: &Map<String, Value>) -> Option<HeaderValue> {
    let json = ascii(&serde_json::to_string(claims).ok()?);
    HeaderValue::from_str(&json).ok().filter(|value| value.len() <= MAX_CLAIMS)
}

/// The same JSON without characters that a header can't have: they stand within strings alone (RFC 8259 7).
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // A string takes everything.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("no object: {value}") };
        map
    }

    #[test]
    fn claims_become_one_line_of_ascii() {
        let of = |value| claims(&map(value)).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            of(json!({"name": ["Zoë\n🦤\u{7f}", 1]})).unwrap(),
            r#"{"name":["Zo\u00eb\n\ud83e\udda4\u007f",1]}"#
        );
        assert_eq!(of(json!({"a": "x".repeat(MAX_CLAIMS)})), None);
    }

    #[test]
    fn what_a_caller_says_of_itself_is_gone() {
        let mut headers = HeaderMap::new();
        for name in [PRINCIPAL, CLAIMS, KEY] {
            headers.append(name.clone(), HeaderValue::from_static("root"));
            headers.append(name, HeaderValue::from_static("root"));
        }
        Introduction::default().replace(&mut headers);
        assert!(headers.is_empty());
        let handed_on = of_token("zoe", &map(json!({"sub": "zoe"})));
        Introduction { handed_on, ..Introduction::default() }.replace(&mut headers);
        assert_eq!(
            (&headers[PRINCIPAL], &headers[CLAIMS], headers.len()),
            (&"zoe".parse().unwrap(), &r#"{"sub":"zoe"}"#.parse().unwrap(), 2)
        );
        assert!(of_token("zo\u{eb}", &Map::new()).iter().all(|(name, _)| *name != PRINCIPAL));
    }
}
