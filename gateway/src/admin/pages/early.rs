//! Pages that begin before all is known that they show: while processes are still asked, a browser gets ready and fetches what the page
//! needs. What decides on the status, such as whether there is such a function, is to be known before; what goes wrong later is said
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

/// Where the beginning ends, which is the same for all pages but for the title.
const HEAD: &str = "</head>";

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
    let head = after(&text_of(&Early { title })?, false).to_owned();
    let rest = whole.map(move |whole| {
        let text = whole.unwrap_or_else(|Fault(error)| {
            tracing::error!(request_id, %error, "a page could not be ended");
            error_text(&error, error.code.http_status(), &request_id, "/")
        });
        after(&text, true).to_owned()
    });
    let parts = stream::iter([head]).chain(stream::once(Box::pin(rest)));
    let body = Body::from_stream(parts.map(Ok::<_, std::convert::Infallible>));
    Ok(([(header::CACHE_CONTROL, "no-store")], Html(body)).into_response())
}

/// What stands after the head, or up to its end.
fn after(page: &str, after: bool) -> &str {
    let end = page.find(HEAD).map_or(page.len(), |begin| begin + HEAD.len());
    let (head, rest) = page.split_at_checked(end).unwrap_or((page, ""));
    if after { rest } else { head }
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
        let (head, rest) = text(Ok("<html><head><title>x</title></head>\n<body>all</body>")).await;
        assert!(head.starts_with("<!doctype html>") && head.ends_with("</head>"), "{head}");
        assert!(head.contains("<title>pay &#60;1&#62; · Dunlin</title>"), "{head}");
        assert_eq!(rest, "\n<body>all</body>");
    }

    #[tokio::test]
    async fn what_goes_wrong_meanwhile_is_said_in_place_of_the_rest() {
        let (_, rest) = text(Err(ApiError::new(ErrorCode::Unavailable, "the scheduler is away"))).await;
        assert!(rest.contains("<body>") && rest.contains("The scheduler is away.") && rest.contains("0198"), "{rest}");
    }
}
