//! Style, script and mark of the pages: embedded, from no other host, known to browsers by their digests.

use std::sync::LazyLock;

use axum::{
    extract::{Path, Query},
    response::{IntoResponse, Response},
};
use dunlin_proto::{ApiError, ids::Digest};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use crate::admin::fault::Fault;

/// The mark. Pages have it within them: a picture of its own is a document of its own to a browser, which waits for it.
pub(crate) const MARK: &str = include_str!("../../../assets/mark.svg");

struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    etag: String,
}

impl Asset {
    /// What tells it from others of its name.
    fn version(&self) -> &str {
        self.etag.get(1..17).unwrap_or_default()
    }
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    let asset = |name, content_type, bytes: &'static [u8]| Asset {
        name,
        content_type,
        bytes,
        etag: format!("\"{}\"", Digest::of(bytes).hex()),
    };
    [
        asset("dunlin.css", "text/css; charset=utf-8", include_bytes!("../../../assets/dunlin.css")),
        asset("dunlin.js", "text/javascript; charset=utf-8", include_bytes!("../../../assets/dunlin.js")),
        asset("mark.svg", "image/svg+xml", MARK.as_bytes()),
    ]
});

/// Where an asset is, by what is in it: a browser asks once for each.
pub(crate) fn href(name: &str) -> String {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    found.map_or_else(|| format!("/assets/{name}"), |asset| format!("/assets/{name}?v={}", asset.version()))
}

/// By what an asset is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    v: String,
}

/// Serves an asset; a browser that has it is told so, and one that asked for exactly this need not ask again (RFC 8246).
pub(super) async fn file(
    Path(name): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let asset = found.ok_or_else(|| ApiError::not_found(format!("/assets/{name}")))?;
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|etag| etag.as_bytes() == asset.etag.as_bytes());
    let kept = if which.v == asset.version() { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [(header::ETAG, asset.etag.as_str()), (header::CACHE_CONTROL, kept)];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    Ok((common, [(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response())
}
