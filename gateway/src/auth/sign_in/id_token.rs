//! What an ID token must say beside what every token must (OpenID Connect Core 1.0, 3.1.3.7): that it is the answer to this
//! very sign-in. Signature and times are checked before.

use dunlin_proto::{ApiError, ErrorCode};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

/// What was asked for.
#[derive(Debug)]
pub(in crate::auth) struct Asked<'a> {
    /// Of whom.
    pub(super) issuer: &'a str,
    /// By whom.
    pub(super) client: &'a str,
    /// In which sign-in.
    pub(super) nonce: &'a str,
}

impl Asked<'_> {
    /// Checks that a valid token of this issuer answers it.
    pub(in crate::auth) fn check(&self, issuer: &str, claims: &Map<String, Value>) -> Result<(), ApiError> {
        let refuse = |why: &str| Err(ApiError::new(ErrorCode::Unauthenticated, why));
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let (for_us, several) = match claims.get("aud") {
            Some(Value::String(audience)) => (audience == self.client, false),
            Some(Value::Array(all)) => (all.iter().any(|one| one == self.client), all.len() > 1),
            _ => (false, false),
        };
        if issuer != self.issuer {
            return refuse("the token is of another issuer than the one that was asked");
        }
        if !for_us {
            return refuse("the token's audience is another one");
        }
        if (several || claims.contains_key("azp")) && text("azp") != self.client {
            return refuse("the token was issued to another client");
        }
        if !claims.contains_key("iat") {
            return refuse("the token's iat is missing");
        }
        let same: bool = text("nonce").as_bytes().ct_eq(self.nonce.as_bytes()).into();
        if same { Ok(()) } else { refuse("the token belongs to another sign-in: its nonce is another one") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn t42_an_id_token_answers_one_sign_in_of_one_client() {
        let asked = Asked { issuer: "https://id.example.com", client: "dunlin", nonce: "n" };
        let check = |changes: Value| {
            let mut claims = json!({"aud": "dunlin", "nonce": "n", "iat": 1}).as_object().unwrap().clone();
            for (name, value) in changes.as_object().unwrap() {
                claims.insert(name.clone(), value.clone());
            }
            claims.retain(|_, value| !value.is_null());
            asked.check("https://id.example.com", &claims).map_err(|error| error.message)
        };
        for good in [
            json!({}),
            json!({"aud": ["dunlin"]}),
            json!({"azp": "dunlin"}),
            json!({"aud": ["other", "dunlin"], "azp": "dunlin"}),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        for (bad, why) in [
            (json!({"nonce": "m"}), "nonce"),
            (json!({"nonce": null}), "nonce"),
            (json!({"nonce": ""}), "nonce"),
            (json!({"nonce": ["n"]}), "nonce"),
            (json!({"aud": "other"}), "audience"),
            (json!({"aud": null}), "audience"),
            (json!({"aud": {"dunlin": 1}}), "audience"),
            (json!({"azp": "other"}), "another client"),
            (json!({"azp": 7}), "another client"),
            (json!({"aud": ["other", "dunlin"]}), "another client"),
            (json!({"iat": null}), "iat"),
        ] {
            assert!(check(bad.clone()).unwrap_err().contains(why), "{bad}");
        }
        let claims = json!({"aud": "dunlin", "nonce": "n", "iat": 1}).as_object().unwrap().clone();
        assert!(asked.check("dunlin", &claims).unwrap_err().message.contains("another issuer"));
    }
}
