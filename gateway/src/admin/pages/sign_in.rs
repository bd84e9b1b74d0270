//! Signing in with a token, and out. The token is checked, set as the session's cookie, and never in an address.

use std::time::SystemTime;

use askama::Template;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use dunlin_proto::{ApiError, ErrorCode};
use http::{Extensions, HeaderMap, Method, StatusCode, header};
use serde::Deserialize;

use super::{Page, Problem, escaped, render, view};
use crate::{
    admin::{app::App, fault::Fault, params::Query, session},
    auth::Offer,
};

/// The page to sign in at.
#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    next: String,
    /// Whether a form was sent after the session had ended.
    ended: bool,
    error: Option<Problem>,
    choices: Vec<Choice>,
}

/// A way to sign in through an issuer.
#[derive(Debug)]
struct Choice {
    name: String,
    path: String,
}

impl SignIn {
    fn new(app: &App, next: &str, error: Option<&ApiError>) -> Self {
        let choice = |offer: Offer| Choice {
            path: format!("/sign-in/issuer?issuer={}&next={}", escaped(&offer.issuer), escaped(next)),
            name: view::visible(&offer.name),
        };
        let choices = app.context().sign_ins.offers().into_iter().map(choice).collect();
        Self { next: next.to_owned(), ended: false, error: error.map(Problem::from), choices }
    }
}

/// Where to go afterwards.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Next {
    next: String,
    /// Not empty where a form was sent after the session had ended.
    ended: String,
}

/// Shows the form.
pub(super) async fn form(State(app): State<App>, Query(Next { next, ended }): Query<Next>) -> Page {
    render(&SignIn { ended: !ended.is_empty(), ..SignIn::new(&app, own_path(&next), None) })
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
    let verified = async {
        session::fits(token)?;
        app.context().verifier.administration(token).await
    };
    match verified.await {
        Ok(who) => {
            who.at(session::origin(&app, &extensions)).note("session.begin", None, false);
            let cookie = session::begin(token, &who, SystemTime::now(), app.context().config.admin_tls());
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
        }
        Err(error) if matches!(error.code, ErrorCode::Unauthenticated | ErrorCode::InvalidArgument) => {
            refuse(&app, next, &error)
        }
        Err(error) => Err(Fault(error)),
    }
}

/// The page again, with what was wrong.
pub(super) fn refuse(app: &App, next: &str, error: &ApiError) -> Page {
    let mut response = render(&SignIn::new(app, next, Some(error)))?;
    *response.status_mut() = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    Ok(response)
}

/// Ends the session.
pub(super) async fn end(headers: HeaderMap) -> Result<Response, Fault> {
    session::from_here(&Method::POST, &headers)?;
    Ok((AppendHeaders(session::end().map(|cookie| (header::SET_COOKIE, cookie))), Redirect::to("/sign-in"))
        .into_response())
}

/// A path of this site; anything else, such as another site's address, becomes the beginning.
pub(super) fn own_path(next: &str) -> &str {
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
