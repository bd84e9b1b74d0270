//! The dashboard: pages rendered here, of the same data and by the same rules as the JSON endpoints.
//!
//! Every page works without scripts and by keyboard; the script adds what is live, and copying. Changes are POSTs of forms
//! that come from this very origin (`session.rs`). Whatever came from outside reaches a page as escaped text only.

mod actions;
mod apps;
mod assets;
mod audit;
mod certificates;
mod chart;
mod curl;
mod domains;
mod early;
mod format;
mod function;
mod health;
mod invocation;
mod issuer;
mod keys;
mod live;
mod logs;
mod over_time;
mod overview;
mod places;
mod plot;
mod releases;
mod rollout;
mod routes;
mod session;
mod shell;
mod sign_in;
mod stats;
mod testing;
mod traffic;
mod usage;
mod view;
mod webhooks;
mod why;
mod worker;

use askama::Template;
use axum::{
    body::Body,
    response::{Html, IntoResponse, Redirect, Response},
};
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{FunctionName, Namespace},
    v1,
};
use http::{HeaderValue, Method, StatusCode, header};

pub use places::{Least, PLACES, Place};

pub(super) use format::{bytes, micros};
pub(super) use places::router;
pub(super) use view::short;

use super::{app::App, fault::Fault};
use crate::{auth::Principal, error};

/// What a handler of a page answers.
type Page = Result<Response, Fault>;

/// There is no page about what happened in a namespace that is not there. Where nobody can say so now, it is shown what there is.
async fn must_exist(app: &App, who: &Principal, namespace: &Namespace) -> Result<(), ApiError> {
    let request = v1::GetNamespaceRequest { name: format!("namespaces/{namespace}") };
    match app.namespace_get(who, request).await {
        Err(error) if error.code == ErrorCode::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// There is no page about a function that is not there, unless calls of it are on record still.
async fn must_have_been(
    app: &App,
    who: &Principal,
    namespace: &Namespace,
    function: &FunctionName,
) -> Result<(), ApiError> {
    let name = format!("namespaces/{namespace}/functions/{function}");
    let missing = match app.function_get(who, v1::GetFunctionRequest { name: name.clone() }).await {
        Err(error) if error.code == ErrorCode::NotFound => error,
        _ => return Ok(()),
    };
    let request = v1::ListInvocationsRequest { parent: name, page_size: 1, ..Default::default() };
    match app.invocation_list(who, request).await {
        Ok(list) if list.invocations.is_empty() => Err(missing),
        _ => Ok(()),
    }
}

/// A template as an answer. Pages hold what only their reader may see, so nobody keeps them.
fn render(template: &impl Template) -> Page {
    Ok(([(header::CACHE_CONTROL, "no-store")], Html(text_of(template)?)).into_response())
}

fn text_of(template: &impl Template) -> Result<String, Fault> {
    template.render().map_err(|error| {
        tracing::error!(%error, "a page can't be rendered");
        Fault(ApiError::internal())
    })
}

/// Where somebody without a session is sent; a POST loses its form, which is said there.
pub(super) fn to_sign_in(method: &Method, path: &str) -> Response {
    let is_form = *method == Method::POST;
    let next = if is_form { page_of(path) } else { path };
    let next = if next == "/" { String::new() } else { format!("next={}", escaped(next)) };
    let query = match (is_form, next.as_str()) {
        (true, "") => "?ended=true".to_owned(),
        (true, next) => format!("?ended=true&{next}"),
        (false, "") => String::new(),
        (false, next) => format!("?{next}"),
    };
    Redirect::to(&format!("/sign-in{query}")).into_response()
}

/// The page that has a form, by the path that the form is sent to: the nearest one above it.
fn page_of(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let above: Vec<_> = ends.filter_map(|end| path.get(..end)).collect();
    above.into_iter().rev().find(|path| is_page(path)).unwrap_or("/")
}

fn is_page(path: &str) -> bool {
    let path: Vec<_> = path.split('/').collect();
    let fits = |pattern: &str| {
        let pattern: Vec<_> = pattern.split('/').collect();
        let same = |(one, other): (&&str, &&str)| if one.starts_with('{') { !other.is_empty() } else { one == other };
        pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
    };
    let mut shown = PLACES.iter().filter(|place| place.method == "get" && place.least != Least::Anybody);
    shown.any(|place| fits(place.path))
}

/// Text as a value in a query.
fn escaped(text: &str) -> String {
    encoded(text, b"-._~/")
}

/// Text as a part of a URL (RFC 3986 2.1), in which letters, digits and these bytes stand for themselves.
fn encoded(text: &str, themselves: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || themselves.contains(&byte);
    text.bytes().fold(String::new(), |mut out, byte| {
        match plain(byte) {
            true => out.push(byte.into()),
            false => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// An error as a page.
#[derive(Debug, Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    title: &'static str,
    status: u16,
    error: Problem,
    request_id: &'a str,
    /// The page that a form was on.
    back: &'a str,
}

/// An error within a page.
#[derive(Debug, Clone)]
struct Problem {
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        // A flag without its command says nothing here.
        let hint = error.hint.as_deref().filter(|hint| !hint.contains("--") || hint.contains("dunlin "));
        Self { code: error.code.as_str(), message: sentence(&error.message), hint: hint.map(sentence) }
    }
}

/// A message as a sentence: it stands alone on a page. One that begins with a name leaves it as it is.
fn sentence(text: &str) -> String {
    let text = view::visible(text);
    if text.split_whitespace().next().is_some_and(|word| word.contains(['/', '_'])) {
        return format!("{text}.");
    }
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// Writes an error as a page, with the headers that belong to its status.
pub(super) fn error(error: &ApiError, request_id: &str, method: &Method, path: &str) -> Response {
    let (mut parts, _) = error::response(error, request_id).into_parts();
    let back = if *method == Method::POST { page_of(path) } else { "/" };
    let text = error_text(error, parts.status.as_u16(), request_id, back);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Response::from_parts(parts, Body::from(text))
}

fn error_text(error: &ApiError, status: u16, request_id: &str, back: &str) -> String {
    let title = match StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR) {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::SERVICE_UNAVAILABLE => "Not reachable at the moment",
        status if status.is_server_error() => "Something went wrong",
        _ => "That did not work",
    };
    let page = ErrorPage { title, status, error: error.into(), request_id, back };
    page.render().unwrap_or_else(|_| title.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_no_session_comes_back_after_signing_in() {
        let to = |method, path| to_sign_in(&method, path).headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!(to(Method::GET, "/"), "/sign-in");
        assert_eq!(to(Method::GET, "/namespaces/a?b=c&d"), "/sign-in?next=/namespaces/a%3Fb%3Dc%26d");
        assert_eq!(to(Method::POST, "/namespaces/a/keys"), "/sign-in?ended=true&next=/namespaces/a/keys");
        assert_eq!(to(Method::POST, "/other"), "/sign-in?ended=true");
    }

    #[test]
    fn a_form_leads_back_to_the_page_that_it_is_on() {
        for (form, page) in [
            ("/namespaces/a/functions/b/traffic", "/namespaces/a/functions/b"),
            ("/namespaces/a/functions/b/test", "/namespaces/a/functions/b/test"),
            ("/namespaces/a/keys/c/revoke?x=/y", "/namespaces/a/keys"),
            ("/namespaces/a/cache/purge", "/namespaces/a"),
            ("/workers/w/drain", "/workers/w"),
            ("//evil.example", "/"),
            ("/nothing", "/"),
        ] {
            assert_eq!(page_of(form), page);
        }
    }

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("the role admin is needed"), "The role admin is needed.");
        assert_eq!(sentence("\u{1b}[1m"), "␛[1m.");
        assert_eq!(sentence("workers/nope was not found"), "workers/nope was not found.");
    }

    #[test]
    fn a_flag_without_its_command_is_no_hint_of_a_page() {
        let hint = |text: &str| Problem::from(&ApiError::internal().hint(text)).hint;
        assert_eq!(hint("name a namespace: --namespace"), None);
        assert_eq!(hint("run dunlin key list --namespace shop").unwrap(), "Run dunlin key list --namespace shop.");
    }
}
