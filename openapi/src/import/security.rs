//! Who may call an operation, as far as a route can say it.

use std::collections::BTreeSet;

use dunlin_proto::v1::RouteAuth;

use crate::at::{At, Malformed};

/// The header of keys.
pub(crate) const KEY_HEADER: &str = "x-api-key";

/// A credential of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential {
    Token,
    Key,
}

/// Who may call, and with which scopes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Access {
    pub(super) auth: RouteAuth,
    /// Those that tokens need, all of them.
    pub(super) scopes: Vec<String>,
}

/// What `security` of an operation, or else of the document, says. Without one the function's own policy holds, so that nothing
/// becomes public because nothing was said.
pub(super) fn access(operation: &At<'_>, root: &At<'_>) -> Result<Access, Malformed> {
    let Some(security) = operation.get("security").or_else(|| root.get("security")) else {
        return Ok(Access::default());
    };
    let public = || Access { auth: RouteAuth::Public, scopes: Vec::new() };
    let (mut token, mut key) = (None, false);
    for alternative in &security.items()? {
        let schemes = alternative.fields()?;
        let [(name, listed)] = schemes.as_slice() else {
            if schemes.is_empty() {
                return Ok(public());
            }
            return Err(alternative
                .wrong("a route can't want several credentials at once")
                .hint("make them alternatives"));
        };
        let scopes = scopes(listed)?;
        match credential(name, listed, root)? {
            Credential::Key if !scopes.is_empty() => return Err(listed.wrong("keys have no scopes")),
            Credential::Key => key = true,
            Credential::Token if token.as_ref().is_some_and(|known| *known != scopes) => {
                return Err(listed
                    .wrong("a route can't choose between lists of scopes")
                    .hint("give all alternatives with tokens the same scopes"));
            }
            Credential::Token => token = Some(scopes),
        }
    }
    let auth = match (&token, key) {
        (None, false) => return Ok(public()),
        (None, true) => RouteAuth::Key,
        (Some(_), false) => RouteAuth::Jwt,
        (Some(_), true) => RouteAuth::Private,
    };
    Ok(Access { auth, scopes: token.unwrap_or_default().into_iter().collect() })
}

fn scopes(listed: &At<'_>) -> Result<BTreeSet<String>, Malformed> {
    listed.items()?.iter().map(|scope| scope.text().map(str::to_owned)).collect()
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
