//! Brings compiled code from the scheduler into the cache: into a nameless corner first, under its key only once every byte
//! has been checked.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use aws_lc_rs::digest;
use dunlin_proto::{
    internal::v1::{CompiledCode, FetchCodeRequest, FetchCodeResponse},
    seal::SealError,
};
use tokio::{fs::File, io::AsyncWriteExt, time::timeout};
use tonic::Streaming;

use super::{ArtifactError, CodeClient, inspect::Trusted};

/// How long the scheduler may take for the first bytes: it may have to compile the code anew.
const FIRST_BYTES: Duration = Duration::from_secs(300);
/// How long it may take from one chunk to the next.
const NEXT_BYTES: Duration = Duration::from_secs(30);

/// Fetches the code that `code` describes to `path`, which must be in `folder`.
pub(super) async fn fetch(
    mut client: CodeClient,
    folder: &Path,
    path: &Path,
    code: &CompiledCode,
) -> Result<Trusted, ArtifactError> {
    let request = client.fetch_code(FetchCodeRequest { key: code.key.clone() });
    let answer = timeout(FIRST_BYTES, request).await.map_err(|_| ArtifactError::Silent(FIRST_BYTES))?;
    let mut chunks = answer.map_err(|status| ArtifactError::Fetch(Box::new(status)))?.into_inner();
    // Removes itself unless it is kept; mode 0600.
    let unfinished = tempfile::Builder::new().prefix(".fetch-").tempfile_in(folder)?;
    let mut file = File::from_std(unfinished.reopen()?);
    receive(&mut chunks, &mut file, code).await?;
    file.flush().await?;
    unfinished.as_file().set_permissions(fs::Permissions::from_mode(0o400))?;
    let kept = unfinished.persist(path).map_err(|error| io::Error::from(error).into());
    // Its identity only now, since its new name changes it.
    kept.and_then(|file| Ok(Trusted::new(&file.metadata()?, code)))
}

/// Writes the chunks while they are no more than promised, and checks that they are what was sealed.
async fn receive(
    chunks: &mut Streaming<FetchCodeResponse>,
    file: &mut File,
    code: &CompiledCode,
) -> Result<(), ArtifactError> {
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut received, mut patience) = (0, FIRST_BYTES);
    while let Some(chunk) = next(chunks, patience).await? {
        received += chunk.len() as u64;
        if received > code.size_bytes {
            return Err(SealError::Body.into());
        }
        context.update(&chunk);
        file.write_all(&chunk).await?;
        patience = NEXT_BYTES;
    }
    let whole = received == code.size_bytes && hex::encode(context.finish()) == code.body_sha256;
    whole.then_some(()).ok_or(SealError::Body.into())
}

async fn next(
    chunks: &mut Streaming<FetchCodeResponse>,
    patience: Duration,
) -> Result<Option<bytes::Bytes>, ArtifactError> {
    let message = timeout(patience, chunks.message()).await.map_err(|_| ArtifactError::Silent(patience))?;
    let message = message.map_err(|status| ArtifactError::Fetch(Box::new(status)))?;
    Ok(message.map(|message| message.chunk))
}
