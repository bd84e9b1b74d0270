//! `dunlin build`: runs the manifest's build command and says which file it made.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::{artifact::Artifact, exit::Failure, output::Output, project::Project, units};

/// Arguments of `dunlin build`.
#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Folder of the function, or its manifest
    #[arg(default_value = ".")]
    path: PathBuf,
}

/// Runs it.
pub(crate) async fn run(args: BuildArgs, output: Output) -> Result<(), Failure> {
    let project = Project::load(&args.path)?;
    if project.manifest.build.is_none() {
        output.note("the manifest has no [build] command, so there is nothing to run");
    }
    project.build(output).await?;
    let source = project.source();
    let artifact = Artifact::load(&source)?;
    if output.is_json() {
        return output.json(&json!({
            "file": source, "artifact_digest": artifact.digest.to_string(), "artifact_size_bytes": artifact.bytes.len(),
        }));
    }
    output.note(format!("built {}", units::size(artifact.bytes.len() as u64)));
    output.text(&format!("{}\n", source.display()))
}
