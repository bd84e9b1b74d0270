//! `dunlin build`: runs the manifest's build commands and says which file each made.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    artifact::Artifact,
    exit::Failure,
    output::Output,
    project::{Project, Projects},
    units,
};

/// Arguments of `dunlin build`.
#[derive(Args)]
pub(crate) struct BuildArgs {
    /// Folder of the functions, or their manifest
    #[arg(default_value = ".")]
    path: PathBuf,
}

/// Runs it.
pub(crate) async fn run(args: BuildArgs, output: Output) -> Result<(), Failure> {
    let projects = Projects::load(&args.path)?;
    let mut built = Vec::new();
    for project in &projects.functions {
        built.push(one(project, output).await?);
    }
    match built.as_slice() {
        _ if !output.is_json() => Ok(()),
        [only] => output.json(only),
        all => output.json(&all),
    }
}

/// Builds one function; says what came out.
async fn one(project: &Project, output: Output) -> Result<Value, Failure> {
    let name = &project.manifest.name;
    if project.manifest.build.is_none() {
        output.note(format!("the manifest has no [build] command for {name}, so there is nothing to run"));
    }
    project.build(output).await?;
    let source = project.source();
    let artifact = Artifact::load(&source)?;
    if !output.is_json() {
        output.note(format!("built {}", units::size(artifact.bytes.len() as u64)));
        output.text(&format!("{}\n", source.display()))?;
    }
    let (digest, size) = (artifact.digest.to_string(), artifact.bytes.len());
    Ok(json!({ "function": name.as_str(), "file": source, "artifact_digest": digest, "artifact_size_bytes": size }))
}
