//! `dunlin deploy`: builds a function, uploads it and makes it the next version. What it does with an app is in `deploy/app.rs`.

mod app;

use std::path::{Path, PathBuf};

use clap::Args;
use dunlin_proto::{
    ids::{FunctionName, RequestId},
    names::FunctionRef,
    v1,
};
use serde_json::json;

use super::{rollout::check_steps, versions::function};
use crate::{
    artifact::Artifact,
    deploy::{self, Deployed},
    exit::Failure,
    output::{Output, Style, printable},
    progress::Progress,
    project::Projects,
    session::{FunctionArg, Session, own_name},
    view::{
        function::FunctionView,
        release::{DIFFERENCES, PreviewView},
        version::VersionView,
    },
};

/// Arguments of `dunlin deploy`.
#[derive(Args)]
pub(crate) struct DeployArgs {
    /// Folder of the function, its manifest, or a .wasm file
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Run the manifest's [build] command first; this is the default
    #[arg(long, overrides_with = "no_build")]
    build: bool,
    /// Deploy the file as it is
    #[arg(long)]
    no_build: bool,
    /// Name of the function; by default the manifest's, or that of the file
    #[arg(long)]
    name: Option<FunctionName>,
    /// Let anybody call it
    #[arg(long, overrides_with = "private")]
    public: bool,
    /// Let only callers with a token or key of the namespace call it
    #[arg(long)]
    private: bool,
    /// An environment variable, over the manifest's; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// A host that it may call, beside the manifest's, such as https://api.example.com; may be repeated
    #[arg(long = "allow-host", value_name = "HOST")]
    allow_hosts: Vec<String>,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
    /// Leave the traffic where it is, until dunlin promote or dunlin traffic set
    #[arg(long)]
    no_traffic: bool,
    /// It may reach more than the version before
    #[arg(long)]
    allow_new_capabilities: bool,
    /// Give the new version only so many percent of the traffic, from 1 to 99
    #[arg(long, value_name = "PERCENT", conflicts_with = "no_traffic", value_parser = clap::value_parser!(u32).range(1..=99))]
    canary: Option<u32>,
    /// Move the calls step by step, as long as the new versions are no worse: percentages, one after another, such as 5,25,50
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', conflicts_with_all = ["no_traffic", "canary"],
        value_parser = clap::value_parser!(u32).range(1..=99))]
    steps: Vec<u32>,
    /// Deploy this function of the manifest alone, and no routes
    #[arg(long, value_name = "NAME")]
    only: Option<FunctionName>,
    /// Show what a deploy would change, and change nothing; the file is uploaded and checked
    #[arg(long)]
    dry_run: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must have the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What is to be deployed, as this machine knows it.
struct Plan {
    name: FunctionName,
    file: PathBuf,
    description: Option<String>,
    public: Option<bool>,
    direct: Option<bool>,
    spec: v1::VersionSpec,
}

/// Runs it.
pub(crate) async fn run(args: DeployArgs, session: &Session) -> Result<(), Failure> {
    check_steps(&args.steps)?;
    let output = session.output;
    let plan = if is_artifact(&args.path) {
        bare(&args)?
    } else {
        let projects = Projects::load(&args.path)?;
        let projects = args.only.iter().try_fold(projects, Projects::only)?;
        if projects.app.is_some() || !args.steps.is_empty() {
            return app::run(&args, projects, session).await;
        }
        project(&args, projects, output).await?
    };
    let plan = with_flags(&args, plan);
    let artifact = Artifact::load(&plan.file)?;
    let client = session.connect().await?;
    let name = FunctionArg::bare(plan.name.clone()).in_target(client.target());
    let request = request(&args, plan, &name, &artifact);
    let mut progress = Progress::new(output);
    let deployed = deploy::deploy(&client, &name, &artifact, request, &mut progress).await?;
    progress.end();
    let version = match deployed {
        Deployed::Version(version) => *version,
        Deployed::Preview(preview) => return preview_of(preview, output),
    };
    let function = function(&client, &name).await?;
    let percent = Some(function.percent_of(version.number));
    report(&function, &VersionView { traffic_percent: percent, ..VersionView::from(version) }, output)
}

/// The flags count before the manifest.
fn with_flags(args: &DeployArgs, mut plan: Plan) -> Plan {
    plan.spec.environment.extend(args.env.iter().cloned());
    plan.spec.allowed_outbound_hosts.extend(args.allow_hosts.iter().cloned());
    if let Some(name) = &args.name {
        plan.name = name.clone();
    }
    if args.public || args.private {
        plan.public = Some(args.public);
    }
    plan
}

/// Whether this is a WebAssembly file and not a project.
fn is_artifact(path: &Path) -> bool {
    !path.is_dir() && path.extension().is_none_or(|extension| extension != "toml")
}

/// A file without a manifest.
fn bare(args: &DeployArgs) -> Result<Plan, Failure> {
    if args.only.is_some() || !args.steps.is_empty() {
        let message = "--only and --steps need a manifest, and this is a file";
        return Err(
            Failure::usage(message).hint("of one function: dunlin deploy --no-traffic, then dunlin rollout start")
        );
    }
    let stem = args.path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase().replace(['_', '.', ' '], "-");
    let name = args.name.clone().map_or_else(|| stem.parse(), Ok).map_err(|error| {
        Failure::usage(format!("the file's name cannot be the function's: {error}")).hint("name it with --name")
    })?;
    let (description, public, direct) = (None, None, None);
    Ok(Plan { name, file: args.path.clone(), description, public, direct, spec: v1::VersionSpec::default() })
}

async fn project(args: &DeployArgs, projects: Projects, output: Output) -> Result<Plan, Failure> {
    // A manifest has one function at least.
    let project =
        projects.functions.into_iter().next().ok_or_else(|| Failure::usage("the manifest has no function"))?;
    let file = project.ready(!args.no_build, output).await?;
    let manifest = project.manifest;
    Ok(Plan {
        name: manifest.name,
        file,
        description: manifest.description,
        public: manifest.public,
        direct: manifest.direct,
        spec: manifest.spec,
    })
}

fn request(args: &DeployArgs, plan: Plan, name: &FunctionRef, artifact: &Artifact) -> v1::CreateVersionRequest {
    v1::CreateVersionRequest {
        parent: name.to_string(),
        artifact_digest: artifact.digest.to_string(),
        spec: Some(plan.spec),
        request_id: RequestId::new().to_string(),
        public: plan.public,
        direct: plan.direct,
        description: plan.description,
        note: args.note.clone(),
        hold_traffic: args.no_traffic,
        allow_new_capabilities: args.allow_new_capabilities,
        canary_percent: args.canary,
        dry_run: args.dry_run,
        load: false,
    }
}

/// Says what a deploy would change.
fn preview_of(preview: v1::DeployPreview, output: Output) -> Result<(), Failure> {
    let view = PreviewView::from(preview);
    if output.is_json() {
        return output.json(&view);
    }
    output.list(&view.differences, DIFFERENCES, "a deploy would change nothing but make another version")?;
    if view.needs_allow_new_capabilities {
        output.warn(
            "a deploy is refused without --allow-new-capabilities: the version may reach more than the one before",
        );
    }
    output.note(format!("nothing has been changed; a deploy would make version {}", view.version));
    Ok(())
}

/// Says what is there now, and how to call it.
fn report(function: &FunctionView, version: &VersionView, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({ "function": function, "version": version }));
    }
    let style = Style::of_stderr();
    let traffic = match version.traffic_percent {
        Some(percent @ 1..) => format!("with {percent}% of the traffic"),
        _ => "without traffic".to_owned(),
    };
    let name = printable(&format!("{}/{}", function.namespace, function.name)).into_owned();
    output.note(format!("{} {name} version {} {traffic}", style.good("deployed"), version.version));
    if let Some(pending) = version.pending_text(function) {
        output.note(format!("the function becomes {pending}"));
    }
    if !version.reuse_refusal.is_empty() {
        let why = printable(&version.reuse_refusal);
        output.warn(format!("{} every call gets a fresh sandbox: {why}", style.caution("reuse is off:")));
    }
    if version.traffic_percent.unwrap_or_default() == 0
        && let Some(url) = version.preview_urls.first()
    {
        let token = format!("{} -n {} token create --role developer", own_name(), function.namespace);
        let url = printable(url);
        output.note(format!("look at it: curl -H \"Authorization: Bearer $({token})\" {url}"));
        return output.text(&format!("{url}\n"));
    }
    let url = printable(function.url());
    if url.is_empty() {
        return Ok(());
    }
    let call = if function.public {
        format!("curl {url}")
    } else {
        let token = format!("{} -n {} token create --call", own_name(), function.namespace);
        format!("curl -H \"Authorization: Bearer $({token})\" {url}")
    };
    output.note(format!("call it: {call}"));
    output.text(&format!("{url}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(path: &str, name: Option<&str>) -> DeployArgs {
        DeployArgs {
            path: path.into(),
            build: false,
            no_build: false,
            name: name.map(|name| name.parse().unwrap()),
            public: false,
            private: false,
            env: vec![],
            allow_hosts: vec![],
            note: String::new(),
            no_traffic: false,
            allow_new_capabilities: false,
            canary: None,
            steps: vec![],
            only: None,
            dry_run: false,
        }
    }

    #[test]
    fn a_bare_file_names_its_function() {
        for (path, name) in [("hello.wasm", "hello"), ("dist/Check_Out.wasm", "check-out"), ("a.b.wasm", "a-b")] {
            assert_eq!(bare(&args(path, None)).unwrap().name.as_str(), name);
        }
        assert!(bare(&args("7.wasm", None)).is_err());
        assert_eq!(bare(&args("7.wasm", Some("seven"))).unwrap().name.as_str(), "seven");
    }

    #[test]
    fn variables_have_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("A").is_err());
    }
}
