//! Receives an artifact. Size and digest come first, so that what is too large, or there already, is never sent.

use std::time::Duration;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Digest,
    names::NamespaceRef,
    v1::{ArtifactStart, UploadArtifactRequest, UploadArtifactResponse, upload_artifact_request::Part},
};
use tonic::Streaming;

use super::{Desk, name};
use crate::{error::Error, store::Store};

/// How long a client may be silent within an upload.
const SILENCE: Duration = Duration::from_secs(30);

pub(super) async fn receive(
    desk: &Desk,
    store: &Store,
    mut parts: Streaming<UploadArtifactRequest>,
) -> Result<UploadArtifactResponse, Error> {
    let app = desk.app()?;
    let Some(Part::Start(start)) = next(&mut parts).await? else {
        return Err(ApiError::invalid("start", "the first message of an upload must have start").into());
    };
    let ArtifactStart { parent, digest, size_bytes } = start;
    let namespace = name::<NamespaceRef>("start.parent", &parent)?.namespace;
    let digest: Digest = name("start.digest", &digest)?;
    app.store.namespace_fetch(&namespace).await?;
    let answer = |size_bytes, already_present| UploadArtifactResponse {
        digest: digest.to_string(),
        size_bytes,
        already_present,
    };
    if let Some(size) = app.store.artifact_use(&namespace, &digest).await? {
        return Ok(answer(size, true));
    }
    let artifacts = &app.codes.workshop.artifacts;
    let mut upload = artifacts.upload(digest, size_bytes).await?;
    while let Some(part) = next(&mut parts).await? {
        let Part::Chunk(chunk) = part else {
            return Err(ApiError::invalid("start", "only the first message of an upload may have start").into());
        };
        upload.write(&chunk).await?;
    }
    let _held = artifacts.hold().await;
    upload.finish(artifacts).await?;
    store.artifact_create(&namespace, &digest, size_bytes).await?;
    Ok(answer(size_bytes, false))
}

/// The next part; nothing at the end.
async fn next(parts: &mut Streaming<UploadArtifactRequest>) -> Result<Option<Part>, ApiError> {
    let slow = |_| {
        ApiError::new(ErrorCode::RequestTimeout, format!("the upload stood still for {SILENCE:?}"))
            .hint("repeat the upload")
    };
    let Some(message) = tokio::time::timeout(SILENCE, parts.message()).await.map_err(slow)?? else { return Ok(None) };
    message.part.map(Some).ok_or_else(|| ApiError::invalid("part", "a message of an upload must have start or chunk"))
}
