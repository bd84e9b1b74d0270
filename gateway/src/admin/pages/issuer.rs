//! Signing in through an issuer: the way there, and the way back. What is believed of an answer is decided in `auth/sign_in.rs`.

use std::time::SystemTime;

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{AppendHeaders, IntoResponse, Redirect},
};
use http::{Extensions, HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;

use super::{
    Page, render,
    sign_in::{own_path, refuse},
    view,
};
use crate::{
    admin::{app::App, fault::Fault, session},
    auth::{Answer, Finished, SignedIn},
};

/// The longest path that is come back to, in bytes: it is part of a cookie.
const MAX_NEXT: usize = 1_024;

/// Through whom to sign in, and where to go afterwards.
#[derive(Debug, Deserialize)]
pub(super) struct Chosen {
    issuer: String,
    #[serde(default)]
    next: String,
}

/// The page behind a sign-in. It is a page and not a redirect, since the session's cookie is strict: a browser sends it along
/// only where a page of this site leads.
#[derive(Debug, Template)]
#[template(path = "signed_in.html")]
struct Welcome<'a> {
    next: &'a str,
    subject: String,
}

/// Sends the browser to the issuer.
pub(super) async fn begin(
    State(app): State<App>,
    headers: HeaderMap,
    chosen: Result<Query<Chosen>, QueryRejection>,
) -> Page {
    session::from_here(&Method::GET, &headers)?;
    let Query(Chosen { issuer, next }) = chosen.map_err(Fault::from)?;
    let next = if next.len() <= MAX_NEXT { own_path(&next) } else { "/" };
    match app.context().sign_ins.begin(&issuer, next, SystemTime::now()).await {
        Ok(begun) => {
            let cookie = session::begin_pending(&begun);
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&begun.address)).into_response())
        }
        Err(error) => refuse(&app, next, &error),
    }
}

/// Takes the browser back from the issuer, and begins a session.
pub(super) async fn finish(
    State(app): State<App>,
    extensions: Extensions,
    headers: HeaderMap,
    answer: Result<Query<Answer>, QueryRejection>,
) -> Page {
    session::from_here(&Method::GET, &headers)?;
    let Query(answer) = answer.map_err(Fault::from)?;
    let (kept, now) = (session::pending(&headers), SystemTime::now());
    let secure = kept.as_ref().is_some_and(|(_, secure)| *secure);
    let kept = kept.as_ref().map(|(text, secure)| (text.as_str(), *secure));
    let context = app.context();
    let Finished { next, outcome } = context.sign_ins.finish(&context.verifier, kept, answer, now).await;
    let next = next.as_deref().map_or("/", own_path);
    let mut response = match outcome.and_then(|done| session::fits(&done.token).map(|()| done)) {
        Ok(done) => welcome(&app, &extensions, &done, next, secure)?,
        Err(error) => refuse(&app, next, &error)?,
    };
    if let Ok(over) = HeaderValue::try_from(session::end_pending(secure)) {
        response.headers_mut().append(header::SET_COOKIE, over);
    }
    Ok(response)
}

fn welcome(app: &App, extensions: &Extensions, done: &SignedIn, next: &str, secure: bool) -> Page {
    done.who.at(session::origin(app, extensions)).note("session.begin", None, false);
    let secure = secure || app.context().config.admin_tls();
    let cookie = session::begin(&done.token, &done.who, SystemTime::now(), secure);
    let page = render(&Welcome { next, subject: view::visible(&done.who.subject) })?;
    Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), page).into_response())
}
