//! What becomes of a route's requests: a function is called, or the gateway answers itself.

use serde::{Deserialize, Serialize};

use super::{pattern::PathPattern, template::PathTemplate};
use crate::{
    error::ApiError,
    ids::{AliasId, FunctionName},
    v1,
};

/// The largest body of an answer without a function, in bytes: every gateway keeps all of them.
const MAX_BODY: usize = 16 << 10;
/// The statuses of redirects (RFC 9110 15.4) that say where to go.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
const TEXT: &str = "text/plain; charset=utf-8";

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteTarget {
    /// A function of the namespace is called.
    Function {
        /// Its bare name.
        function: FunctionName,
        /// One of its aliases; nothing means its own traffic.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alias: Option<AliasId>,
        /// The path that it sees; nothing means the caller's.
        rewrite: Option<PathTemplate>,
    },
    /// The gateway answers.
    Response(StaticResponse),
    /// The gateway sends the caller elsewhere.
    Redirect(Redirect),
}

/// An answer without a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticResponse {
    /// From 200 to 599.
    pub status: u16,
    /// Empty where there is no body.
    pub content_type: String,
    /// What is sent.
    pub body: Vec<u8>,
}

/// An answer that sends the caller elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// Where.
    pub location: PathTemplate,
    /// One of five.
    pub status: u16,
}

impl RouteTarget {
    /// The function that is called.
    #[must_use]
    pub fn function(&self) -> Option<&FunctionName> {
        match self {
            Self::Function { function, .. } => Some(function),
            Self::Response(_) | Self::Redirect(_) => None,
        }
    }

    /// The alias under which it is called; nothing means its own traffic.
    #[must_use]
    pub fn alias(&self) -> Option<&AliasId> {
        match self {
            Self::Function { alias, .. } => alias.as_ref(),
            Self::Response(_) | Self::Redirect(_) => None,
        }
    }

    /// Checks what was sent, for the paths of a pattern.
    pub(super) fn read(wire: Option<v1::route::Target>, path: &PathPattern) -> Result<Self, ApiError> {
        match wire {
            Some(v1::route::Target::Function(target)) => function(&target, path),
            Some(v1::route::Target::Response(response)) => static_response(response).map(Self::Response),
            Some(v1::route::Target::Redirect(wire)) => redirect(&wire, path).map(Self::Redirect),
            None => Err(ApiError::invalid("route.target", "the route has no target")
                .hint("name a function, a response or a redirect")),
        }
    }

    /// The message.
    pub(super) fn to_wire(&self) -> v1::route::Target {
        match self {
            Self::Function { function, alias, rewrite } => v1::route::Target::Function(v1::FunctionTarget {
                function: function.to_string(),
                alias: alias.as_ref().map(ToString::to_string).unwrap_or_default(),
                rewrite: rewrite.as_ref().map(ToString::to_string).unwrap_or_default(),
            }),
            Self::Response(response) => v1::route::Target::Response(v1::StaticResponse {
                status: response.status.into(),
                content_type: response.content_type.clone(),
                body: response.body.clone().into(),
            }),
            Self::Redirect(Redirect { location, status }) => {
                v1::route::Target::Redirect(v1::Redirect { location: location.to_string(), status: (*status).into() })
            }
        }
    }
}

fn template(field: &str, text: &str) -> Result<PathTemplate, ApiError> {
    text.parse().map_err(|reason: String| wrong(field, text, &reason))
}

fn wrong(field: &str, text: &str, reason: &str) -> ApiError {
    let shown: String = text.chars().take(120).collect();
    ApiError::invalid(field, format!("{field} {shown:?}: {reason}"))
}

fn function(wire: &v1::FunctionTarget, path: &PathPattern) -> Result<RouteTarget, ApiError> {
    const REWRITE: &str = "route.function.rewrite";
    let function: FunctionName =
        wire.function.parse().map_err(|error| ApiError::invalid("route.function.function", error))?;
    let alias = alias(&wire.alias)?;
    if wire.rewrite.is_empty() {
        return Ok(RouteTarget::Function { function, alias, rewrite: None });
    }
    let rewrite = template(REWRITE, &wire.rewrite)?;
    rewrite.check_path(path).map_err(|reason| wrong(REWRITE, &wire.rewrite, &reason))?;
    Ok(RouteTarget::Function { function, alias, rewrite: Some(rewrite) })
}

/// The alias that is named; a function's own traffic has one spelling here.
fn alias(text: &str) -> Result<Option<AliasId>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let alias: AliasId = text.parse().map_err(|error| ApiError::invalid("route.function.alias", error))?;
    Ok(Some(alias).filter(|alias| !alias.is_live()))
}

fn static_response(wire: v1::StaticResponse) -> Result<StaticResponse, ApiError> {
    let status = if wire.status == 0 { 200 } else { wire.status };
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
    let status = status.ok_or_else(|| {
        ApiError::invalid(
            "route.response.status",
            format!("status is {} but must lie between 200 and 599", wire.status),
        )
    })?;
    if wire.body.len() > MAX_BODY {
        let message = format!("the body has {} bytes but may have {MAX_BODY} at most", wire.body.len());
        return Err(ApiError::invalid("route.response.body", message).hint("larger answers need a function"));
    }
    // Neither has a body (RFC 9110 15.3.5, 15.4.5).
    if matches!(status, 204 | 205 | 304) && !wire.body.is_empty() {
        return Err(ApiError::invalid("route.response.body", format!("an answer of status {status} has no body")));
    }
    let default = if wire.body.is_empty() { "" } else { TEXT };
    let content_type = if wire.content_type.is_empty() { default.to_owned() } else { wire.content_type };
    let plain = content_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if !plain || content_type.len() > 256 {
        return Err(ApiError::invalid("route.response.content_type", "content_type must be such as text/plain"));
    }
    Ok(StaticResponse { status, content_type, body: wire.body.into() })
}

fn redirect(wire: &v1::Redirect, path: &PathPattern) -> Result<Redirect, ApiError> {
    const LOCATION: &str = "route.redirect.location";
    let location = template(LOCATION, &wire.location)?;
    location.check_location(path).map_err(|reason| wrong(LOCATION, &wire.location, &reason))?;
    let status = if wire.status == 0 { 308 } else { wire.status };
    let status = u16::try_from(status).ok().filter(|status| REDIRECTS.contains(status));
    let status = status.ok_or_else(|| {
        let message = format!("status is {} but must be 301, 302, 303, 307 or 308", wire.status);
        ApiError::invalid("route.redirect.status", message)
    })?;
    Ok(Redirect { location, status })
}
