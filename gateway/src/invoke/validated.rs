//! A request against what its route takes, before anything is spent on it: everything that is wrong is said at once.
//!
//! What is wrong is `dunlin-openapi`'s to know; here is what of the request it sees. A body is read to its end only where its
//! schema has to be checked, and only as far as it may be long.

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use dunlin_openapi::{Checker, Given, Media};
use dunlin_proto::{ApiError, ErrorCode, error::Violation};
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;

use super::routed::Routed;
use crate::{
    config::LimitsConfig,
    dispatch::{RequestBody, request::Patience},
    edge::Lingering,
    routes::router::Parameters,
};

/// The largest body that is checked, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Larger ones are checked beside the network's thread.
const SMALL: usize = 32 << 10;

/// Lets a request pass with its body, or says what is wrong with it. Nothing is spent on what is not checked.
///
/// # Errors
/// `InvalidArgument` with the violations, `UnsupportedMediaType`, `PayloadTooLarge`, or what befell the body.
pub(super) async fn passed(
    routed: Option<(&Routed, &Parameters)>,
    parts: &Parts,
    body: Lingering,
    limits: &LimitsConfig,
) -> Result<RequestBody, ApiError> {
    let body = RequestBody::incoming(body, Patience::from(limits));
    match routed.and_then(|routed| Some((routed, routed.0.checker()?))) {
        Some((routed, checker)) => Box::pin(check(routed, checker, parts, body)).await,
        None => Ok(body),
    }
}

async fn check(
    (routed, parameters): (&Routed, &Parameters),
    checker: &Arc<Checker>,
    parts: &Parts,
    body: RequestBody,
) -> Result<RequestBody, ApiError> {
    let path = routed.named(parameters);
    let path: Vec<_> = path.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
    let mut violations = checker.parameters(&Given { path: &path, query: parts.uri.query(), headers: &parts.headers });
    if body.is_end_stream() {
        violations.extend(checker.without_body());
        return refused(routed, violations).map(|()| body);
    }
    let Some(media) = checker.media(&parts.headers)? else { return refused(routed, violations).map(|()| body) };
    let bytes = whole(body).await?;
    let violations = with_body(checker, media, bytes.clone(), violations).await?;
    refused(routed, violations).map(|()| RequestBody::whole(bytes))
}

async fn with_body(
    checker: &Arc<Checker>,
    media: Media,
    bytes: Bytes,
    mut violations: Vec<Violation>,
) -> Result<Vec<Violation>, ApiError> {
    if bytes.is_empty() {
        violations.extend(checker.without_body());
        return Ok(violations);
    }
    if bytes.len() <= SMALL {
        checker.body(media, &bytes, &mut violations);
        return Ok(violations);
    }
    let checker = checker.clone();
    let checked = tokio::task::spawn_blocking(move || {
        checker.body(media, &bytes, &mut violations);
        violations
    });
    checked.await.map_err(|_| ApiError::internal())
}

/// The whole body.
async fn whole(mut body: RequestBody) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn too_large() -> ApiError {
    let message = format!("the request's body has more than {MAX_BODY} bytes, the most that a route checks");
    ApiError::new(ErrorCode::PayloadTooLarge, message)
        .hint("a media type without a schema in the route's validation is not checked")
}

fn refused(routed: &Routed, violations: Vec<Violation>) -> Result<(), ApiError> {
    let Some(first) = violations.first() else { return Ok(()) };
    let more = match violations.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let route = &routed.rule().name.route;
    let message = format!("the request is not what the route {route} takes: {}: {}{more}", first.field, first.message);
    Err(ApiError::invalid(&first.field, message).violations(violations))
}
