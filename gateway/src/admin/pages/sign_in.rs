//! Signing in with a token, and out. The token is checked, set as the session's cookie, and never in an address.

use std::time::SystemTime;

use askama::Template;
use axum::{
    Form,
    extract::{Query, State, rejection::FormRejection},
    response::{IntoResponse, Redirect, Response},
};
use dunlin_proto::{ApiError, ErrorCode};
use http::{Extensions, HeaderMap, Method, StatusCode, header};
use serde::Deserialize;

use super::{Page, Problem, render};
use crate::admin::{app::App, fault::Fault, session};

/// The page to sign in at.
#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    next: String,
    error: Option<Problem>,
}

/// Where to go afterwards.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
}

/// Shows the form.
pub(super) async fn form(Query(Next { next }): Query<Next>) -> Page {
    render(&SignIn { next: own_path(&next).to_owned(), error: None })
}

/// What the form sends.
#[derive(Deserialize)]
pub(super) struct Sent {
    token: String,
    #[serde(default)]
    next: String,
}

/// Begins a session.
pub(super) async fn begin(
    State(app): State<App>,
    extensions: Extensions,
    headers: HeaderMap,
    sent: Result<Form<Sent>, FormRejection>,
) -> Page {
    session::from_here(&Method::POST, &headers)?;
    let Form(Sent { token, next }) = sent.map_err(Fault::from)?;
    let next = own_path(&next);
    let token = token.trim();
    match app.context().verifier.administration(token).await {
        Ok(who) => {
            who.at(session::origin(&app, &extensions)).note("session.begin", None, false);
            let cookie = session::begin(token, &who, SystemTime::now(), app.context().config.admin_tls());
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
        }
        Err(error) => refuse(next, error),
    }
}

fn refuse(next: &str, error: ApiError) -> Page {
    if error.code != ErrorCode::Unauthenticated {
        return Err(Fault(error));
    }
    let mut response = render(&SignIn { next: next.to_owned(), error: Some((&error).into()) })?;
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    Ok(response)
}

/// Ends the session.
pub(super) async fn end(headers: HeaderMap) -> Result<Response, Fault> {
    session::from_here(&Method::POST, &headers)?;
    Ok(([(header::SET_COOKIE, session::end())], Redirect::to("/sign-in")).into_response())
}

/// A path of this site; anything else, such as another site's address, becomes the beginning.
fn own_path(next: &str) -> &str {
    let own = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\t', '\n', '\r']);
    if own && next.is_ascii() { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t49_signing_in_leads_nowhere_else() {
        assert_eq!(own_path("/namespaces/shop?x=y"), "/namespaces/shop?x=y");
        for other in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/ü"] {
            assert_eq!(own_path(other), "/", "{other:?}");
        }
    }
}
