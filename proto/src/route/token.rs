//! What a route demands of a caller's token. Whether a token has it is the gateway's to find out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{error::ApiError, v1};

/// The most entries of each list.
const MOST: usize = 20;
/// The longest text, in bytes.
const LONGEST: usize = 256;

/// What a token must say beside what every token for the namespace must.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRule {
    /// One of these issued it; empty means any that is trusted.
    pub issuers: BTreeSet<String>,
    /// It is for one of these; empty means that this is not looked at.
    pub audiences: BTreeSet<String>,
    /// It has all of these.
    pub scopes: BTreeSet<String>,
    /// It has all of these claims, each with one of its values.
    pub claims: BTreeMap<String, BTreeSet<String>>,
}

impl TokenRule {
    pub(super) fn read(wire: v1::TokenRule) -> Result<Self, ApiError> {
        let rule = Self {
            issuers: texts("route.token.issuers", wire.issuers)?,
            audiences: texts("route.token.audiences", wire.audiences)?,
            scopes: texts("route.token.scopes", wire.scopes)?,
            claims: claims(wire.claims)?,
        };
        if let Some(bad) = rule.scopes.iter().find(|scope| !is_scope(scope)) {
            let message =
                format!("{bad:?} is no scope: visible ASCII characters without spaces, quotes and backslashes");
            return Err(ApiError::invalid("route.token.scopes", message));
        }
        if rule == Self::default() {
            let error = ApiError::invalid("route.token", "the rule for tokens demands nothing");
            return Err(error.hint("say issuers, audiences, scopes or claims, or leave it out"));
        }
        Ok(rule)
    }
}

/// A scope-token (RFC 6749 3.3).
fn is_scope(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

fn texts(field: &str, texts: Vec<String>) -> Result<BTreeSet<String>, ApiError> {
    if texts.len() > MOST {
        return Err(ApiError::invalid(field, format!("{field} may have {MOST} entries at most")));
    }
    texts.into_iter().map(|text| checked(field, text)).collect()
}

fn checked(field: &str, text: String) -> Result<String, ApiError> {
    if (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(ApiError::invalid(field, format!("texts in {field} have 1 to {LONGEST} bytes and no control characters")))
}

fn claims(wire: Vec<v1::ClaimRule>) -> Result<BTreeMap<String, BTreeSet<String>>, ApiError> {
    let field = "route.token.claims";
    if wire.len() > MOST {
        return Err(ApiError::invalid(field, format!("{field} may have {MOST} entries at most")));
    }
    let mut claims = BTreeMap::new();
    for v1::ClaimRule { name, values } in wire {
        let (name, values) = (checked(field, name)?, texts(field, values)?);
        if values.is_empty() {
            let error = ApiError::invalid(field, format!("the claim {name:?} must have one of no values"));
            return Err(error.hint("name the values that it may have"));
        }
        if claims.insert(name.clone(), values).is_some() {
            return Err(ApiError::invalid(field, format!("the claim {name:?} is there twice")));
        }
    }
    Ok(claims)
}

impl From<&TokenRule> for v1::TokenRule {
    fn from(rule: &TokenRule) -> Self {
        let list = |texts: &BTreeSet<String>| texts.iter().cloned().collect();
        let claim =
            |(name, values): (&String, &BTreeSet<String>)| v1::ClaimRule { name: name.clone(), values: list(values) };
        Self {
            issuers: list(&rule.issuers),
            audiences: list(&rule.audiences),
            scopes: list(&rule.scopes),
            claims: rule.claims.iter().map(claim).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_comes_back_as_it_was_and_nonsense_is_refused() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let claim = |name: &str, values: &[&str]| v1::ClaimRule { name: name.to_owned(), values: list(values) };
        let wire = v1::TokenRule {
            issuers: list(&["https://id.example"]),
            audiences: list(&["shop"]),
            scopes: list(&["orders:read", "orders:write"]),
            claims: vec![claim("https://example.com/roles", &["clerk", "owner"])],
        };
        assert_eq!(v1::TokenRule::from(&TokenRule::read(wire.clone()).unwrap()), wire);
        let refused = |change: &dyn Fn(&mut v1::TokenRule)| {
            let mut changed = wire.clone();
            change(&mut changed);
            TokenRule::read(changed).unwrap_err().field.unwrap()
        };
        assert_eq!(refused(&|rule| *rule = v1::TokenRule::default()), "route.token");
        for scope in ["", "a b", "a\"b", "a\\b", "ä"] {
            assert_eq!(refused(&|rule| rule.scopes.push(scope.to_owned())), "route.token.scopes", "{scope:?}");
        }
        assert_eq!(refused(&|rule| rule.issuers = vec!["x".into(); 21]), "route.token.issuers");
        assert_eq!(refused(&|rule| rule.audiences.push("x".repeat(257))), "route.token.audiences");
        for bad in [claim("", &["x"]), claim("x", &[]), claim("https://example.com/roles", &["x"]), claim("x", &["\n"])]
        {
            assert_eq!(refused(&|rule| rule.claims.push(bad.clone())), "route.token.claims", "{bad:?}");
        }
    }
}
