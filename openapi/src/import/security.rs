//! Who may call an operation, as far as a route can say it.

use std::collections::BTreeSet;

use dunlin_proto::v1::RouteAuth;

use crate::at::{At, Malformed};

/// The header of keys.
pub(crate) const KEY_HEADER: &str = "x-api-key";

/// A credential of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Credential {
    Token,
    Key,
}

/// What `security` of an operation, or else of the document, says. Without one the function's own policy holds, so that nothing
/// becomes public because nothing was said.
pub(super) fn auth(operation: &At<'_>, root: &At<'_>) -> Result<RouteAuth, Malformed> {
    let Some(security) = operation.get("security").or_else(|| root.get("security")) else {
        return Ok(RouteAuth::Unspecified);
    };
    let alternatives = security.items()?;
    let mut credentials = BTreeSet::new();
    for alternative in &alternatives {
        let schemes = alternative.fields()?;
        let [(name, scopes)] = schemes.as_slice() else {
            if schemes.is_empty() {
                return Ok(RouteAuth::Public);
            }
            return Err(alternative
                .wrong("a route can't want several credentials at once")
                .hint("make them alternatives"));
        };
        if !scopes.items()?.is_empty() {
            return Err(scopes
                .wrong("a route can't require scopes")
                .hint("leave the list empty, and check them in the function"));
        }
        credentials.insert(credential(name, scopes, root)?);
    }
    Ok(match credentials.into_iter().collect::<Vec<_>>().as_slice() {
        [] => RouteAuth::Public,
        [Credential::Token] => RouteAuth::Jwt,
        // Whoever may call with a key may with a token as well.
        _ => RouteAuth::Private,
    })
}

fn credential(name: &str, used: &At<'_>, root: &At<'_>) -> Result<Credential, Malformed> {
    let schemes = root.get("components").and_then(|components| components.get("securitySchemes"));
    let scheme = schemes.and_then(|schemes| schemes.get(name));
    let scheme =
        scheme.ok_or_else(|| used.wrong("there is no such scheme under /components/securitySchemes"))?.resolved()?;
    let is = |key: &str, wanted: &str| {
        scheme.get(key).and_then(|at| at.value.as_str()).is_some_and(|text| text.eq_ignore_ascii_case(wanted))
    };
    match scheme.need("type")?.text()? {
        "http" if is("scheme", "bearer") => Ok(Credential::Token),
        "openIdConnect" | "oauth2" => Ok(Credential::Token),
        "apiKey" if is("in", "header") && is("name", KEY_HEADER) => Ok(Credential::Key),
        "apiKey" => Err(scheme.wrong("keys are taken in one header").hint("in: header, name: X-Api-Key")),
        other => {
            let shown: String = other.chars().take(20).collect();
            let error = scheme.wrong(format!("callers can't be authenticated by {shown} in this way"));
            Err(error.hint("tokens (http with bearer, openIdConnect) and keys (apiKey) are taken"))
        }
    }
}
