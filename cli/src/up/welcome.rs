//! What `dunlin up` does once it serves, as any operator would: it signs in, deploys the sample, remembers the context and
//! says where everything is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ids::RequestId,
    names::{FunctionRef, NamespaceRef},
    v1,
};
use serde_json::json;

use super::SCHEDULER;
use crate::{
    artifact::Artifact,
    client::{Client, answer},
    context::{Context, Contexts, Target, default_namespace},
    deploy,
    exit::{Exit, Failure},
    output::{Output, Style},
    progress::Progress,
    session::own_name,
    view::function::FunctionView,
};

/// The function that is there from the start.
const SAMPLE: &[u8] = include_bytes!("../../assets/sample.wasm");
const SAMPLE_NAME: &str = "hello";

/// Whom this process names in its tokens; versions of the sample that it made are its own to replace.
const SUBJECT: &str = "dunlin-up";

/// How long its tokens are valid, and how often they are renewed.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// How long the roles may take to know each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a running cluster is.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// The address of functions.
    pub(crate) functions: String,
    /// The address of administration, by the name of its certificate where it has one.
    pub(crate) admin: String,
    pub(crate) data_dir: PathBuf,
    /// The file that encrypts the scheduler's keys, where it is named.
    pub(crate) storage_key: Option<PathBuf>,
}

impl Host {
    /// Greets whoever started it.
    ///
    /// # Errors
    /// The token can't be made, or standard output is gone. That the sample can't be deployed is only told.
    pub(crate) async fn welcome(self, context: String, sample: bool, output: Output) -> Result<(), Failure> {
        let token = self.token()?;
        let in_use = self.remember(&context, &token, output);
        let client = match self.client(&context, &token).await {
            // By its name it may be reached from elsewhere only, or by those alone who trust who signed it.
            Err(failure) if self.admin.starts_with("https://") => {
                output.warn("warning: this machine cannot reach the API by the name of its certificate");
                output.failure(&failure);
                return self.greet(&context, in_use, &token, None, output);
            }
            connected => connected?,
        };
        let sample = if sample { sample_function(&client).await } else { Ok(None) };
        let sample = sample.unwrap_or_else(|failure| {
            output.warn("warning: the sample function could not be deployed");
            output.failure(&failure);
            None
        });
        let called = match &sample {
            Some(sample) => first_call(&client, sample).await,
            None => None,
        };
        self.greet(&context, in_use, &token, sample.as_ref().zip(called), output)
    }

    /// Renews the context's token until the end.
    pub(crate) async fn renew(self, context: String, output: Output, shutdown: Shutdown) {
        loop {
            tokio::select! { () = shutdown.begun() => return, () = tokio::time::sleep(RENEWAL) => {} }
            match self.token() {
                Ok(token) => drop(self.remember(&context, &token, output)),
                Err(failure) => output.failure(&failure),
            }
        }
    }

    fn token(&self) -> Result<String, Failure> {
        let (data_dir, storage_key) = (self.data_dir.join(SCHEDULER), self.storage_key.clone());
        let config = dunlin_scheduler::Config { data_dir, storage_key, ..dunlin_scheduler::Config::default() };
        Ok(dunlin_scheduler::operator_token(&config, SUBJECT, LIFETIME)?)
    }

    /// Writes the context, and says whether it is the one in use. Somebody who uses another cluster goes on with that.
    fn remember(&self, name: &str, token: &str, output: Output) -> bool {
        let context = Context { url: self.admin.clone(), token: Some(token.to_owned()), namespace: None };
        let saved = Contexts::load().and_then(|mut contexts| {
            contexts.contexts.insert(name.to_owned(), context);
            let in_use = contexts.current.get_or_insert_with(|| name.to_owned()) == name;
            contexts.save().map(|()| in_use)
        });
        saved.unwrap_or_else(|failure| {
            output.failure(&failure);
            false
        })
    }

    /// Connects, and waits until the gateway knows the cluster's keys and the scheduler.
    async fn client(&self, context: &str, token: &str) -> Result<Client, Failure> {
        let target = Target {
            context: Some(context.to_owned()),
            url: self.admin.clone(),
            token: Some(token.to_owned()),
            namespace: default_namespace()?,
        };
        let client = Client::connect(target).await?;
        let ready = async {
            let mut wait = Duration::from_millis(5);
            while let Err(failure) = answer(client.cluster().get_cluster(v1::GetClusterRequest {}).await) {
                if !matches!(failure.exit, Exit::Unreachable | Exit::NotAuthorised) {
                    return Err(failure);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(200));
            }
            Ok(())
        };
        let late = |_| Failure::new(Exit::Unreachable, format!("the cluster was not ready within {PATIENCE:?}"));
        tokio::time::timeout(PATIENCE, ready).await.map_err(late)??;
        Ok(client)
    }

    fn greet(
        &self,
        context: &str,
        in_use: bool,
        token: &str,
        sample: Option<(&FunctionView, FirstCall)>,
        output: Output,
    ) -> Result<(), Failure> {
        if output.is_json() {
            return output.json_line(&json!({
                "functions_url": self.functions, "dashboard_url": self.admin, "token": token, "context": context,
                "data_dir": self.data_dir, "sample_url": sample.as_ref().map(|(sample, _)| sample.url()),
                "sample_status": sample.as_ref().map(|(_, called)| called.status),
            }));
        }
        if output.quiet {
            return Ok(());
        }
        let facts = Facts { functions: &self.functions, dashboard: &self.admin, token, data: &self.data_dir };
        let sample = sample.as_ref().map(|(sample, called)| (sample.url(), *called)).filter(|(url, _)| !url.is_empty());
        output.text(&greeting(&facts, context, in_use, sample, &own_name(), Style::of_stdout()))
    }
}

/// The sample, deployed where it is missing or was an older one of ours.
async fn sample_function(client: &Client) -> Result<Option<FunctionView>, Failure> {
    let namespace = default_namespace()?;
    let function = SAMPLE_NAME.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let name = FunctionRef { namespace, function };
    let artifact = Artifact::of(Bytes::from_static(SAMPLE));
    if is_stale(client, &name, &artifact).await? {
        make_namespace(client, &name).await?;
        let request = v1::CreateVersionRequest {
            parent: name.to_string(),
            artifact_digest: artifact.digest.to_string(),
            request_id: RequestId::new().to_string(),
            public: Some(true),
            description: Some("The sample that comes with Dunlin: it greets, and tells what it was asked".to_owned()),
            note: format!("sample of dunlin {}", env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let mut progress = Progress::new(Output { quiet: true, ..Output::default() });
        deploy::deploy(client, &name, &artifact, request, &mut progress).await?;
    }
    let found = answer(client.functions().get_function(v1::GetFunctionRequest { name: name.to_string() }).await)?;
    Ok(found.function.map(FunctionView::from))
}

/// How the sample answered its first call.
#[derive(Debug, Clone, Copy)]
struct FirstCall {
    status: u32,
    took: Duration,
}

/// Calls the sample once, through everything that a caller's request passes but the door. A failure shows in the status.
async fn first_call(client: &Client, sample: &FunctionView) -> Option<FirstCall> {
    let begin = tokio::time::Instant::now();
    let request = v1::InvokeRequest { name: sample.resource.clone(), ..Default::default() };
    let answered = answer(client.invocations().invoke(request).await).ok()?;
    Some(FirstCall { status: answered.status, took: begin.elapsed() })
}

/// Whether there is no such function, or its newest version is a sample of ours that this command no longer brings.
async fn is_stale(client: &Client, name: &FunctionRef, artifact: &Artifact) -> Result<bool, Failure> {
    let request = v1::ListVersionsRequest { parent: name.to_string(), page_size: 1, page_token: String::new() };
    match answer(client.functions().list_versions(request).await) {
        Err(failure) if failure.exit == Exit::NotFound => Ok(true),
        listed => {
            let ours = |version: &v1::Version| version.creator == SUBJECT;
            let other = |version: &v1::Version| version.artifact_digest != artifact.digest.to_string();
            Ok(listed?.versions.first().is_none_or(|newest| ours(newest) && other(newest)))
        }
    }
}

async fn make_namespace(client: &Client, function: &FunctionRef) -> Result<(), Failure> {
    let name = NamespaceRef { namespace: function.namespace.clone() }.to_string();
    match answer(client.namespaces().get_namespace(v1::GetNamespaceRequest { name }).await) {
        Err(failure) if failure.exit == Exit::NotFound => {}
        found => return found.map(drop),
    }
    let request = v1::CreateNamespaceRequest {
        max_concurrency: None,
        rate: None,
        quota: None,
        log_retention: None,
        log_bytes: None,
        namespace_id: function.namespace.to_string(),
        description: "For whoever names no other".to_owned(),
        request_id: RequestId::new().to_string(),
    };
    answer(client.namespaces().create_namespace(request).await).map(drop)
}

/// What the greeting tells.
struct Facts<'a> {
    functions: &'a str,
    dashboard: &'a str,
    token: &'a str,
    data: &'a Path,
}

fn greeting(
    facts: &Facts,
    context: &str,
    in_use: bool,
    sample: Option<(&str, FirstCall)>,
    dunlin: &str,
    style: Style,
) -> String {
    let chosen = if in_use { String::new() } else { format!("; use it with: {dunlin} context use {context}") };
    let mut text = format!(
        "{}\n\n  functions  {}\n  dashboard  {}  (sign in with the token; the gRPC API is here too)\n  token      {}\n  \
         data       {}\n  context    {context}{chosen}\n",
        style.strong("Dunlin is up. Ctrl-C stops it."),
        facts.functions,
        facts.dashboard,
        facts.token,
        facts.data.display(),
    );
    if let Some((url, FirstCall { status, took })) = sample {
        text.push_str(&format!(
            "\nThe sample function has answered its first call with {status} after {:.1} ms. Call it, as anybody and as a caller with a token:\n\n  curl {url}\n  \
             curl -H \"Authorization: Bearer $({dunlin} token create --call)\" {url}\n",
            took.as_secs_f64() * 1e3,
        ));
    }
    text + &format!("\nDeploy your own:\n\n  {dunlin} new -t rust mine && {dunlin} deploy mine\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_has_lines_to_paste() {
        let facts = Facts { functions: "http://f", dashboard: "http://d", token: "a.b.c", data: Path::new("/data") };
        let called = FirstCall { status: 200, took: Duration::from_micros(2_500) };
        let text = greeting(&facts, "local", true, Some(("http://f/default/hello/", called)), "dunlin", Style::PLAIN);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
        assert_eq!(
            lines,
            [
                "curl http://f/default/hello/",
                "curl -H \"Authorization: Bearer $(dunlin token create --call)\" http://f/default/hello/"
            ]
        );
        for part in ["with 200 after 2.5 ms", "http://f\n", "http://d ", "a.b.c\n", "/data\n", "local\n"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let other = greeting(&facts, "local", false, None, "./dunlin", Style::PLAIN);
        assert!(other.contains("./dunlin context use local") && !other.contains("curl"), "{other}");
    }
}
