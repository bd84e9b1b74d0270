//! Pages that begin before all is known that they show: while processes are still asked, a browser shows the bar at their top and fetches
//! what they need. What decides on the status, such as whether there is such a function, is to be known before; what goes wrong later is said
//! in place of the rest.

use std::future::Future;

use askama::Template;
use axum::{
    body::Body,
    response::{Html, IntoResponse},
};
use futures::{FutureExt, StreamExt, stream};
use http::header;

use super::{Page, error_text, text_of};
use crate::admin::fault::Fault;

/// Where the beginning ends, which is the same for all pages but for the title: behind the name in the bar (`bar.html`).
const BEGINNING: &str = "Dunlin</a>";
/// Where a page without a bar begins.
const BODY: &str = "<body>";
/// What ends a bar that was begun before such a page.
const END_OF_BAR: &str = "</div></header>";

#[derive(Debug, Template)]
#[template(path = "early.html")]
struct Early<'a> {
    title: &'a str,
}

/// Begins a page at once, and ends it with the rest of a whole one.
pub(super) fn begun(
    title: &str,
    request_id: String,
    whole: impl Future<Output = Result<String, Fault>> + Send + 'static,
) -> Page {
    let head = text_of(&Early { title })?;
    let head = divided(&head).map_or(&*head, |(beginning, _)| beginning).to_owned();
    let ending = whole.map(move |whole| {
        let text = whole.unwrap_or_else(|Fault(error)| {
            tracing::error!(request_id, %error, "a page could not be ended");
            error_text(&error, error.code.http_status(), &request_id, "/")
        });
        rest(&text)
    });
    let parts = stream::iter([head]).chain(stream::once(Box::pin(ending)));
    let body = Body::from_stream(parts.map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CACHE_CONTROL, "no-store")], Html(body)).into_response())
}

/// A page's beginning, and its rest.
fn divided(page: &str) -> Option<(&str, &str)> {
    page.split_at_checked(page.find(BEGINNING)? + BEGINNING.len())
}

/// What is missing of a page of which the beginning has been sent.
fn rest(page: &str) -> String {
    match (divided(page), page.split_once(BODY)) {
        (Some((_, rest)), _) => rest.to_owned(),
        (None, Some((_, body))) => [END_OF_BAR, body].concat(),
        (None, None) => [END_OF_BAR, page].concat(),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{ApiError, ErrorCode};

    use super::*;

    async fn text(whole: Result<&'static str, ApiError>) -> (String, String) {
        let (send, ended) = tokio::sync::oneshot::channel();
        let page = begun("pay <1>", "0198".to_owned(), async move { ended.await.unwrap() }).map_err(|_| "no page");
        let mut parts = page.unwrap().into_body().into_data_stream();
        let mut next = async || String::from_utf8(parts.next().await.unwrap().unwrap().to_vec()).unwrap();
        let head = next().await;
        send.send(whole.map(str::to_owned).map_err(Fault)).unwrap();
        (head, next().await)
    }

    #[tokio::test]
    async fn the_head_comes_first_and_the_rest_once_it_is_known() {
        let (head, rest) = text(Ok("<html><head><title>x</title></head>\n<body><a>Dunlin</a>\n all</body>")).await;
        assert!(head.starts_with("<!doctype html>") && head.ends_with("</span>Dunlin</a>"), "{head}");
        assert!(head.contains("<title>pay &#60;1&#62; · Dunlin</title>"), "{head}");
        assert_eq!(rest, "\n all</body>");
    }

    #[tokio::test]
    async fn what_goes_wrong_meanwhile_is_said_in_place_of_the_rest() {
        let (_, rest) = text(Err(ApiError::new(ErrorCode::Unavailable, "the scheduler is away"))).await;
        assert!(
            rest.starts_with("</div></header>")
                && !rest.contains("<body>")
                && rest.contains("The scheduler is away.")
                && rest.contains("0198"),
            "{rest}"
        );
    }
}
