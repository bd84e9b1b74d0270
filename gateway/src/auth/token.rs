//! JWTs before their signature is checked (RFC 7519, RFC 7515, RFC 8725): strict about everything that parsers disagree on.
//!
//! Nothing in a token chooses a key but `kid`, an opaque name of 64 characters at most, and nothing chooses an algorithm.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The longest token, in bytes.
const MAX_BYTES: usize = 8 << 10;
/// The longest `kid`, in characters.
const MAX_KID: usize = 64;
/// Members of a header that would have us fetch keys, trust foreign ones or process what follows differently.
const REFUSED_HEADERS: [&str; 10] = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty", "epk"];

/// Why a token can't even be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the token has more than 8192 bytes")]
    TooLong,
    #[error("the token is not a signed JWT: it must have three parts with dots between")]
    Parts,
    #[error("the token is not base64url without padding")]
    Encoding,
    #[error("the token's header is not a JSON object with unique members")]
    Header,
    #[error("the token's claims are not a JSON object with unique members")]
    Claims,
    #[error("the token's header has a member that is not accepted here: {0}")]
    HeaderMember(&'static str),
    #[error("the token's header has no text alg")]
    Algorithm,
    #[error("the token's kid is not a text of 64 characters at most")]
    KeyId,
}

/// A token whose signature has not been checked.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    /// What the token says its algorithm is; only ever compared.
    pub(super) alg: String,
    /// The name of the key.
    pub(super) kid: Option<String>,
    /// The claims.
    pub(super) claims: Map<String, Value>,
    /// What was signed.
    pub(super) signed: &'a str,
    /// The signature, in base64url.
    pub(super) signature: &'a str,
}

/// Takes a token apart.
pub(super) fn parse(text: &str) -> Result<Unverified<'_>, TokenError> {
    if text.len() > MAX_BYTES {
        return Err(TokenError::TooLong);
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Parts)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Parts)?;
    if header.is_empty() || claims.is_empty() || signature.is_empty() || claims.contains('.') {
        return Err(TokenError::Parts);
    }
    let decode = |part| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Encoding);
    decode(signature)?;
    let header = object(&decode(header)?).ok_or(TokenError::Header)?;
    let claims = object(&decode(claims)?).ok_or(TokenError::Claims)?;
    if let Some(member) = REFUSED_HEADERS.into_iter().find(|member| header.contains_key(*member)) {
        return Err(TokenError::HeaderMember(member));
    }
    let alg = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Algorithm)?.to_owned();
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.chars().count() <= MAX_KID => Some(kid.clone()),
        Some(_) => return Err(TokenError::KeyId),
    };
    Ok(Unverified { alg, kid, claims, signed, signature })
}

/// Reads a JSON object whose members are unique, at every depth.
pub(super) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(json) {
        Ok(Strict(Value::Object(members))) => Some(members),
        _ => None,
    }
}

/// A JSON value in which no object has two members of one name.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = access.next_entry::<String, Strict>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member appears twice"));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: &str, claims: &str) -> String {
        let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
        format!("{}.{}.{}", encode(header), encode(claims), encode("signature"))
    }

    #[test]
    fn t40_headers_that_change_the_rules_are_refused() {
        for (header, error) in [
            (r#"{"alg":"EdDSA","crit":["exp"]}"#, TokenError::HeaderMember("crit")),
            (r#"{"alg":"EdDSA","b64":false}"#, TokenError::HeaderMember("b64")),
            (r#"{"alg":"EdDSA","jwk":{"kty":"OKP"}}"#, TokenError::HeaderMember("jwk")),
            (r#"{"alg":"EdDSA","jku":"https://evil.example"}"#, TokenError::HeaderMember("jku")),
            (r#"{"alg":"EdDSA","x5u":"https://evil.example"}"#, TokenError::HeaderMember("x5u")),
            (r#"{"alg":"EdDSA","x5c":["MII"]}"#, TokenError::HeaderMember("x5c")),
            (r#"{"alg":"dir","enc":"A256GCM"}"#, TokenError::HeaderMember("enc")),
            (r#"{"alg":"EdDSA","cty":"JWT"}"#, TokenError::HeaderMember("cty")),
            (r#"{"alg":"EdDSA","zip":"DEF"}"#, TokenError::HeaderMember("zip")),
            (r#"{"typ":"JWT"}"#, TokenError::Algorithm),
            (r#"{"alg":7}"#, TokenError::Algorithm),
            (r#"{"alg":["EdDSA"]}"#, TokenError::Algorithm),
            (r#"{"alg":"EdDSA","alg":"none"}"#, TokenError::Header),
            (r#"["EdDSA"]"#, TokenError::Header),
            (r#"{"alg":"EdDSA""#, TokenError::Header),
            (r#"{"alg":"EdDSA"} x"#, TokenError::Header),
            (r#"{"alg":"EdDSA","kid":7}"#, TokenError::KeyId),
            (r#"{"alg":"EdDSA","kid":null}"#, TokenError::KeyId),
        ] {
            assert_eq!(parse(&text(header, "{}")).unwrap_err(), error, "{header}");
        }
    }

    #[test]
    fn t41_a_key_id_is_an_opaque_name() {
        for kid in ["../../dev/null", "' OR 1=1 --", "\u{0}", "https://evil.example/k"] {
            let header = serde_json::json!({"alg": "EdDSA", "kid": kid}).to_string();
            assert_eq!(parse(&text(&header, "{}")).unwrap().kid.as_deref(), Some(kid));
        }
        let header = serde_json::json!({"alg": "EdDSA", "kid": "k".repeat(65)}).to_string();
        assert_eq!(parse(&text(&header, "{}")).unwrap_err(), TokenError::KeyId);
    }

    #[test]
    fn t42_claims_have_unique_members_at_every_depth() {
        for claims in [r#"{"a":1,"a":2}"#, r#"{"g":[{"role":"viewer","role":"admin"}]}"#, "[]", "null", "", "{", "{}{}"]
        {
            assert!(
                matches!(parse(&text(r#"{"alg":"x"}"#, claims)), Err(TokenError::Claims | TokenError::Parts)),
                "{claims}"
            );
        }
        assert!(parse(&text(r#"{"alg":"x"}"#, r#"{"a":{"b":1},"c":{"b":[null,true,1.5]}}"#)).is_ok());
    }

    #[test]
    fn t40_only_three_parts_of_base64url_are_a_token() {
        let good = text(r#"{"alg":"x"}"#, "{}");
        assert!(parse(&good).is_ok());
        let (signed, _) = good.rsplit_once('.').unwrap();
        for (bad, error) in [
            (String::new(), TokenError::Parts),
            ("a".to_owned(), TokenError::Parts),
            ("..".to_owned(), TokenError::Parts),
            (signed.to_owned(), TokenError::Parts),
            (format!("{signed}."), TokenError::Parts),
            (format!("{good}.x"), TokenError::Parts),
            (format!("{good}.x.y"), TokenError::Parts),
            (format!("{good}="), TokenError::Encoding),
            (format!("{good}\n"), TokenError::Encoding),
            (format!(" {good}"), TokenError::Encoding),
            (format!("{signed}.+/+/"), TokenError::Encoding),
            ("x".repeat(8193), TokenError::TooLong),
        ] {
            assert_eq!(parse(&bad).unwrap_err(), error, "{bad:.40}");
        }
    }
}
