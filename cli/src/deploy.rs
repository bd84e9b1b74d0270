//! Deploys an artifact through the public API: upload by digest, then a version by request id, so that both can be
//! repeated when the cluster was away. Used by `dunlin deploy` and for the sample of `dunlin up`.

use bytes::Bytes;
use dunlin_proto::{
    ErrorCode, MAX_CHUNK_BYTES,
    names::{FunctionRef, NamespaceRef},
    v1::{self, create_version_response::Event, upload_artifact_request::Part},
};
use futures::{StreamExt, stream};

use crate::{
    artifact::Artifact,
    client::{Client, answer, failure, retrying},
    exit::{Exit, Failure},
    progress::Progress,
};

/// What came of a deploy.
pub(crate) enum Deployed {
    /// The version.
    Version(Box<v1::Version>),
    /// What a deploy would change, where it was only asked for that.
    Preview(v1::DeployPreview),
}

/// Uploads an artifact, unless the namespace has it, and makes it the function's next version, or finds out what that would change.
///
/// # Errors
/// What the cluster says, or that it can't be reached for longer.
pub(crate) async fn deploy(
    client: &Client,
    function: &FunctionRef,
    artifact: &Artifact,
    request: v1::CreateVersionRequest,
    progress: &mut Progress,
) -> Result<Deployed, Failure> {
    send(client, function, artifact, progress).await?;
    make(client, function, request, progress).await
}

/// Uploads an artifact, unless the function's namespace has it.
///
/// # Errors
/// What the cluster says, or that it can't be reached for longer.
pub(crate) async fn send(
    client: &Client,
    function: &FunctionRef,
    artifact: &Artifact,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let parent = NamespaceRef { namespace: function.namespace.clone() }.to_string();
    progress.upload(artifact.bytes.len() as u64);
    let uploaded = {
        let progress = &*progress;
        retrying(|why| progress.note(why), || upload(client, &parent, artifact, progress)).await
    };
    let uploaded = uploaded.map_err(|error| name_namespace(error, function))?;
    if uploaded.already_present {
        progress.note("the cluster has this file already");
    }
    Ok(())
}

/// Makes of what has been uploaded the function's next version, or finds out what that would change.
///
/// # Errors
/// What the cluster says, or that it can't be reached for longer.
pub(crate) async fn make(
    client: &Client,
    function: &FunctionRef,
    request: v1::CreateVersionRequest,
    progress: &mut Progress,
) -> Result<Deployed, Failure> {
    let mut left = 5_u32;
    loop {
        match create(client, request.clone(), progress).await {
            Err(failure) if failure.exit == Exit::Unreachable && left > 1 => {
                left -= 1;
                progress.note("the cluster cannot take it now; trying again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            made => return made.map_err(|error| name_namespace(error, function)),
        }
    }
}

/// Sends the file in chunks. The answer may come before the end, where the namespace has the file.
async fn upload(
    client: &Client,
    parent: &str,
    artifact: &Artifact,
    progress: &Progress,
) -> Result<v1::UploadArtifactResponse, Failure> {
    let start = v1::ArtifactStart {
        parent: parent.to_owned(),
        digest: artifact.digest.to_string(),
        size_bytes: artifact.bytes.len() as u64,
    };
    let sent = progress.sent();
    let chunks = stream::iter(chunks(&artifact.bytes)).inspect(move |chunk| sent(chunk.len() as u64));
    let parts = stream::iter([Part::Start(start)]).chain(chunks.map(Part::Chunk));
    let messages = parts.map(|part| v1::UploadArtifactRequest { part: Some(part) });
    answer(client.functions().upload_artifact(messages).await)
}

fn chunks(bytes: &Bytes) -> Vec<Bytes> {
    let starts = (0..bytes.len()).step_by(MAX_CHUNK_BYTES);
    starts.map(|start| bytes.slice(start..bytes.len().min(start + MAX_CHUNK_BYTES))).collect()
}

/// Makes the version, telling each stage.
async fn create(
    client: &Client,
    request: v1::CreateVersionRequest,
    progress: &mut Progress,
) -> Result<Deployed, Failure> {
    let mut events = answer(client.functions().create_version(request).await)?;
    while let Some(message) = events.message().await.map_err(failure)? {
        match message.event {
            Some(Event::Progress(stage)) => progress.step(&stage_text(&stage)),
            Some(Event::Capabilities(changes)) => capability_lines(&changes).for_each(|line| progress.note(&line)),
            Some(Event::Version(version)) => return Ok(Deployed::Version(Box::new(version))),
            Some(Event::Preview(preview)) => return Ok(Deployed::Preview(preview)),
            None => {}
        }
    }
    Err(Failure::new(Exit::Unreachable, "the cluster ended the deploy without saying how")
        .hint("try again: a repeated deploy of the same file is harmless"))
}

/// What a stage is called, in the cluster's words or ours.
fn stage_text(progress: &v1::DeployProgress) -> String {
    let stage = match progress.stage() {
        v1::DeployStage::Queued => "waiting for a compiler",
        v1::DeployStage::Compiling => "compiling",
        v1::DeployStage::Storing => "storing",
        v1::DeployStage::Placing => "placing on workers",
        v1::DeployStage::Activating => "activating",
        v1::DeployStage::Unspecified => "working",
    };
    if progress.message.is_empty() { stage.to_owned() } else { progress.message.clone() }
}

/// How the version differs from the one before it, a line each.
fn capability_lines(changes: &v1::CapabilityChanges) -> impl Iterator<Item = String> {
    let kinds = [
        ("may now reach", &changes.added_outbound_hosts),
        ("may no longer reach", &changes.removed_outbound_hosts),
        ("now imports", &changes.added_imports),
        ("no longer imports", &changes.removed_imports),
    ];
    let lines = kinds.into_iter().filter(|(_, which)| !which.is_empty());
    lines.map(|(what, which)| format!("it {what} {}", which.join(", ")))
}

/// Says how to make the namespace, where that is what is missing.
fn name_namespace(failure: Failure, function: &FunctionRef) -> Failure {
    if failure.code() != Some(ErrorCode::NotFound) {
        return failure;
    }
    failure.hint(format!("if the namespace is missing, make it with: dunlin namespace create {}", function.namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_no_larger_than_allowed_and_whole_together() {
        let bytes = Bytes::from(vec![7; 2 * MAX_CHUNK_BYTES + 1]);
        let parts = chunks(&bytes);
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 1]);
        assert_eq!(parts.concat(), bytes);
        assert!(chunks(&Bytes::new()).is_empty());
    }

    #[test]
    fn what_differs_is_said_in_a_line_each() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let changes = v1::CapabilityChanges {
            added_outbound_hosts: list("https://a.example http://b.example"),
            removed_imports: list("wasi:random/random@0.2.6"),
            ..Default::default()
        };
        let lines: Vec<_> = capability_lines(&changes).collect();
        assert_eq!(
            lines,
            ["it may now reach https://a.example, http://b.example", "it no longer imports wasi:random/random@0.2.6"]
        );
    }

    #[test]
    fn stages_have_names_and_messages() {
        let progress = |stage: v1::DeployStage, message: &str| v1::DeployProgress {
            stage: stage.into(),
            message: message.to_owned(),
        };
        assert_eq!(stage_text(&progress(v1::DeployStage::Compiling, "")), "compiling");
        assert_eq!(stage_text(&progress(v1::DeployStage::Placing, "no worker")), "no worker");
    }
}
