//! `dunlin deploy` of an app: all its functions are built and looked at first, then versions are made without calls, and one step gives
//! them their calls and makes the routes what the manifest says. What fails before that step has changed nothing that anybody calls.

use std::collections::BTreeSet;

use dunlin_proto::{
    ErrorCode,
    ids::{AppId, RequestId},
    names::{AppName, FunctionRef, RouteName},
    v1,
};
use serde_json::json;

use super::DeployArgs;
use crate::{
    artifact::Artifact,
    client::{Client, answer, retrying},
    commands::traffic::warn_of,
    deploy::{self, Deployed},
    exit::{Exit, Failure},
    output::{Output, printable},
    progress::Progress,
    project::{Project, Projects},
    session::{FunctionArg, Session},
    view::{
        app::{DEPLOYED, DeployedFunctionView},
        release::{DIFFERENCES, DifferenceView, ReleaseView},
        rollout::RolloutView,
    },
};

/// A function on its way.
struct Part {
    name: FunctionRef,
    /// What makes the version.
    request: v1::CreateVersionRequest,
    /// The function as it was; nothing where it is new.
    before: Option<v1::Function>,
    /// What a deploy would change.
    preview: v1::DeployPreview,
    /// The version that was made; nothing where the one that has the calls is the same.
    made: Option<v1::Version>,
}

impl Part {
    fn bare(&self) -> String {
        self.name.function.to_string()
    }

    /// Whether one version has all calls and a new one would be no other.
    fn is_unchanged(&self) -> bool {
        let whole = self.before.as_ref().is_some_and(|before| before.traffic.len() == 1);
        whole && self.preview.differences.iter().all(|difference| difference.field == "traffic")
    }

    /// Whether somebody calls it already.
    fn is_called(&self) -> bool {
        self.before.as_ref().is_some_and(|before| !before.traffic.is_empty())
    }

    /// Whether its calls move to a new version.
    fn moves(&self) -> bool {
        self.is_called() && self.made.is_some()
    }

    fn version(&self) -> u32 {
        self.made.as_ref().map_or(0, |made| made.number)
    }

    fn target(&self) -> v1::AppFunction {
        v1::AppFunction { function: self.bare(), version: self.version() }
    }
}

/// What the deploy is about.
struct Deploy<'a> {
    args: &'a DeployArgs,
    client: Client,
    app: AppName,
    /// All routes; nothing where the manifest is not about any.
    routes: Option<Vec<v1::Route>>,
    output: Output,
}

/// Runs it.
pub(super) async fn run(args: &DeployArgs, projects: Projects, session: &Session) -> Result<(), Failure> {
    check(args)?;
    let output = session.output;
    let artifacts = artifacts(args, &projects.functions, output).await?;
    let client = session.connect().await?;
    let namespace = client.target().namespace.clone();
    let declared = projects.app.is_some();
    let app = projects.app.or_else(|| first(&projects.functions));
    let app = AppName { namespace, app: app.ok_or_else(|| Failure::usage("the manifest has no function"))? };
    let routes = declared.then(|| projects.routes.into_iter().map(|route| in_namespace(route, &app)).collect());
    let routes = routes.map(|routes: Result<Vec<_>, _>| routes).transpose()?;
    let deploy = Deploy { args, client, app, routes, output };
    deploy.run(projects.functions, artifacts).await
}

/// One function alone is called after itself.
fn first(functions: &[Project]) -> Option<AppId> {
    functions.first().and_then(|project| project.manifest.name.as_str().parse().ok())
}

fn in_namespace(route: v1::Route, app: &AppName) -> Result<v1::Route, Failure> {
    let name = route.name.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let name = RouteName { namespace: app.namespace.clone(), route: name };
    Ok(v1::Route { name: name.to_string(), ..route })
}

/// What is said of one function can't be said of all.
fn check(args: &DeployArgs) -> Result<(), Failure> {
    let flags = [
        ("--name", args.name.is_some()),
        ("--env", !args.env.is_empty()),
        ("--allow-host", !args.allow_hosts.is_empty()),
        ("--public", args.public),
        ("--private", args.private),
    ];
    let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let message = format!("{flag} is about one function, and the manifest is deployed as a whole");
    Err(Failure::usage(message).hint("write it into the manifest, or deploy one function alone: --only NAME"))
}

/// Builds everything before anything travels.
async fn artifacts(args: &DeployArgs, functions: &[Project], output: Output) -> Result<Vec<Artifact>, Failure> {
    let mut found = Vec::new();
    for project in functions {
        output.note(format!("function {}", project.manifest.name));
        found.push(Artifact::load(&project.ready(!args.no_build, output).await?)?);
    }
    Ok(found)
}

impl Deploy<'_> {
    async fn run(&self, projects: Vec<Project>, artifacts: Vec<Artifact>) -> Result<(), Failure> {
        let mut progress = Progress::new(self.output);
        let mut parts = Vec::new();
        for (project, artifact) in projects.into_iter().zip(artifacts) {
            parts.push(self.look(project, artifact, &mut progress).await?);
        }
        self.check_capabilities(&parts)?;
        let routes = self.differences_of_routes(&parts).await?;
        if self.args.dry_run {
            progress.end();
            return self.preview(parts, routes);
        }
        for part in parts.iter_mut().filter(|part| !part.is_unchanged()) {
            progress.note(&format!("function {}", part.name.function));
            part.made = self.make(part, &mut progress).await?;
        }
        progress.end();
        self.activate(&parts, !routes.is_empty()).await
    }

    /// Uploads the file, and finds out what a deploy would change.
    async fn look(&self, project: Project, artifact: Artifact, progress: &mut Progress) -> Result<Part, Failure> {
        let manifest = project.manifest;
        let name = FunctionArg::bare(manifest.name).in_target(self.client.target());
        progress.note(&format!("function {}", name.function));
        let request = v1::CreateVersionRequest {
            parent: name.to_string(),
            artifact_digest: artifact.digest.to_string(),
            spec: Some(manifest.spec),
            request_id: RequestId::new().to_string(),
            public: manifest.public,
            direct: manifest.direct,
            description: manifest.description,
            note: self.args.note.clone(),
            hold_traffic: self.args.no_traffic || !self.args.steps.is_empty(),
            allow_new_capabilities: self.args.allow_new_capabilities,
            canary_percent: self.args.canary,
            ..Default::default()
        };
        deploy::send(&self.client, &name, &artifact, progress).await?;
        let asked = v1::CreateVersionRequest { dry_run: true, ..request.clone() };
        let preview = match deploy::make(&self.client, &name, asked, progress).await? {
            Deployed::Preview(preview) => preview,
            Deployed::Version(_) => return Err(not_understood()),
        };
        let before = self.function(&name).await?;
        Ok(Part { name, request, before, preview, made: None })
    }

    /// The function, where it is there.
    async fn function(&self, name: &FunctionRef) -> Result<Option<v1::Function>, Failure> {
        let request = v1::GetFunctionRequest { name: name.to_string() };
        match answer(self.client.functions().get_function(request).await) {
            Err(failure) if failure.code() == Some(ErrorCode::NotFound) => Ok(None),
            found => Ok(found?.function),
        }
    }

    /// Refuses what nobody has said to be meant, before anything is made.
    fn check_capabilities(&self, parts: &[Part]) -> Result<(), Failure> {
        if self.args.allow_new_capabilities || self.args.dry_run {
            return Ok(());
        }
        let wider = parts.iter().filter(|part| part.preview.needs_allow_new_capabilities && part.is_called());
        let wider: Vec<_> = wider.map(Part::bare).collect();
        if wider.is_empty() {
            return Ok(());
        }
        let message = format!("new versions may reach more than those that have the calls: {}", wider.join(", "));
        Err(Failure::new(Exit::Refused, message)
            .hint("if that is meant, deploy with --allow-new-capabilities; nothing has been deployed"))
    }

    /// What changes of the routes, all of which are checked by that.
    async fn differences_of_routes(&self, parts: &[Part]) -> Result<Vec<v1::Difference>, Failure> {
        let Some(routes) = &self.routes else { return Ok(Vec::new()) };
        let functions = parts.iter().map(|part| v1::AppFunction { function: part.bare(), version: 0 }).collect();
        let request = v1::ActivateAppRequest {
            name: self.app.to_string(),
            functions,
            routes: routes.clone(),
            validate_only: true,
            ..Default::default()
        };
        Ok(self.ask(request).await?.differences)
    }

    async fn ask(&self, request: v1::ActivateAppRequest) -> Result<v1::ActivateAppResponse, Failure> {
        let again = |why: &str| self.output.note(why);
        retrying(again, || async { answer(self.client.releases().activate_app(request.clone()).await) }).await
    }

    /// Whether the routes stay as they are: what is called by them has a part of the calls at most.
    fn leaves_routes(&self) -> bool {
        self.args.no_traffic || self.args.canary.is_some()
    }

    fn preview(&self, parts: Vec<Part>, routes: Vec<v1::Difference>) -> Result<(), Failure> {
        let wider = parts.iter().filter(|part| part.preview.needs_allow_new_capabilities).map(Part::bare);
        let wider: Vec<_> = wider.collect();
        let changed = parts.into_iter().filter(|part| !part.is_unchanged());
        let differences = changed.flat_map(|part| part.preview.differences);
        let routes = routes.into_iter().filter(|_| !self.leaves_routes());
        let differences: Vec<_> = differences.chain(routes).map(DifferenceView::from).collect();
        if self.output.is_json() {
            let (app, wider) = (self.app.app.as_str(), &wider);
            return self.output.json(&json!({
                "app": app, "differences": differences, "needs_allow_new_capabilities": wider,
            }));
        }
        self.output.list(&differences, DIFFERENCES, "a deploy would change nothing")?;
        if !wider.is_empty() {
            let names = wider.join(", ");
            self.output.warn(format!(
                "a deploy is refused without --allow-new-capabilities: new versions may reach more than those before: {names}"
            ));
        }
        self.output.note("nothing has been changed");
        Ok(())
    }

    /// Makes the version without calls.
    async fn make(&self, part: &Part, progress: &mut Progress) -> Result<Option<v1::Version>, Failure> {
        let request = v1::CreateVersionRequest {
            hold_traffic: true,
            load: !self.args.no_traffic,
            canary_percent: None,
            ..part.request.clone()
        };
        match deploy::make(&self.client, &part.name, request, progress).await {
            Ok(Deployed::Version(version)) => Ok(Some(*version)),
            Ok(Deployed::Preview(_)) => Err(not_understood()),
            Err(failure) => Err(failure.hint("no function has got a new version's calls, and no route was changed")),
        }
    }

    /// Gives the versions their calls.
    async fn activate(&self, parts: &[Part], routes_differ: bool) -> Result<(), Failure> {
        if self.leaves_routes() && routes_differ {
            let when = "once the new versions have all calls, apply them with: dunlin deploy";
            self.output.warn(format!("the routes are still as they were; {when}"));
        }
        let targets = |of: &dyn Fn(&&Part) -> bool| parts.iter().filter(of).map(Part::target).collect::<Vec<_>>();
        if self.args.no_traffic {
            self.say_held(parts);
            return self.report(parts, v1::ActivateAppResponse::default(), None);
        }
        if self.args.steps.is_empty() || !parts.iter().any(Part::moves) {
            let routes = self.routes.clone().filter(|_| !self.leaves_routes());
            let activated = self.give(targets(&|_| true), routes).await?;
            return self.report(parts, activated, None);
        }
        // What nobody calls yet has nothing to be compared with, and routes to it may come with the last step.
        let new = targets(&|part| !part.is_called());
        let activated = if new.is_empty() { Default::default() } else { self.give(new, None).await? };
        let rollout = self.roll_out(parts, routes_differ).await?;
        self.report(parts, activated, Some(&rollout))
    }

    fn say_held(&self, parts: &[Part]) {
        let made: Vec<_> = parts.iter().filter(|part| part.made.is_some()).map(Part::bare).collect();
        if !made.is_empty() {
            let names = made.join(" ");
            self.output
                .note(format!("new versions without calls; move some to them with: dunlin rollout start {names}"));
        }
    }

    /// Activates versions; the routes stay as they are where none are given.
    async fn give(
        &self,
        functions: Vec<v1::AppFunction>,
        routes: Option<Vec<v1::Route>>,
    ) -> Result<v1::ActivateAppResponse, Failure> {
        let request = v1::ActivateAppRequest {
            name: self.app.to_string(),
            functions,
            keep_routes: routes.is_none(),
            routes: routes.unwrap_or_default(),
            canary_percent: self.args.canary,
            validate_only: false,
        };
        self.ask(request).await
    }

    /// Moves the calls of all functions that somebody calls in one rollout, which changes the routes with its last step.
    async fn roll_out(&self, parts: &[Part], routes_differ: bool) -> Result<RolloutView, Failure> {
        let moving = parts.iter().filter(|part| part.moves());
        let mut targets =
            moving.map(|part| v1::RolloutTarget { function: part.name.to_string(), version: part.version() });
        let v1::RolloutTarget { function, version } = targets.next().unwrap_or_default();
        let (others, steps) = (targets.collect(), self.args.steps.clone());
        let routes = self.routes.clone().filter(|_| routes_differ);
        let app = routes.as_ref().map(|_| self.app.app.to_string()).unwrap_or_default();
        let routes = routes.unwrap_or_default();
        let request = v1::StartRolloutRequest { function, version, others, steps, app, routes, ..Default::default() };
        let done = answer(self.client.aliases().start_rollout(request).await)?;
        Ok(RolloutView::from(done.rollout.unwrap_or_default()).with_lagging(done.lagging_gateways))
    }

    /// The functions that routes called before and that the manifest does not know any more.
    fn left<'d>(&self, parts: &[Part], differences: &'d [DifferenceView]) -> BTreeSet<&'d str> {
        let calls = |route: &v1::Route, name: &str| match &route.target {
            Some(v1::route::Target::Function(target)) => target.function == name,
            _ => false,
        };
        let known = |name: &str| {
            let routed = self.routes.iter().flatten().any(|route| calls(route, name));
            routed || parts.iter().any(|part| part.name.function.as_str() == name)
        };
        let before = differences.iter().filter(|it| it.subject.starts_with("routes/") && it.field == "target");
        before.filter_map(|it| called(&it.before)).filter(|name| !known(name)).collect()
    }

    /// Says what is there now.
    fn report(
        &self,
        parts: &[Part],
        activated: v1::ActivateAppResponse,
        rollout: Option<&RolloutView>,
    ) -> Result<(), Failure> {
        let view = |part: &Part| DeployedFunctionView::new(&part.name, part.before.as_ref(), part.made.as_ref());
        let functions: Vec<_> = parts.iter().map(view).collect();
        let release = activated.release.as_ref().map(ReleaseView::from);
        let differences: Vec<_> = activated.differences.into_iter().map(DifferenceView::from).collect();
        if self.output.is_json() {
            return self.output.json(&json!({
                "app": self.app.app.as_str(), "functions": functions, "differences": differences, "release": release,
                "rollout": rollout, "lagging_gateways": activated.lagging_gateways,
            }));
        }
        let app = &self.app.app;
        match (&release, rollout) {
            (_, Some(rollout)) => {
                self.output.note(printable(&rollout.summary()));
                if !rollout.app.is_empty() {
                    self.output.note("the routes change once the new versions have all calls");
                }
            }
            (Some(release), None) if differences.is_empty() => {
                self.output.note(format!("app {app} is as its manifest says: release {}", release.number));
            }
            (Some(release), None) => self.output.note(format!("deployed app {app}: release {}", release.number)),
            (None, None) => {}
        }
        for name in self.left(parts, &differences) {
            self.output
                .note(format!("no route of the app leads to {name} any more; it stays until: dunlin delete {name}"));
        }
        warn_of(&activated.lagging_gateways, self.output);
        self.output.list(&functions, DEPLOYED, "the app has no functions")
    }
}

/// The function that a route called, as its target is told.
fn called(target: &str) -> Option<&str> {
    target.strip_prefix("function ")?.split([':', ' ']).next()
}

fn not_understood() -> Failure {
    Failure::new(Exit::Failed, "the cluster answered something else than it was asked for")
        .hint("update the cluster to the version of this command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_of_a_target_is_found() {
        for (target, name) in [
            ("function mail", Some("mail")),
            ("function mail:beta as /x", Some("mail")),
            ("function mail as /x", Some("mail")),
            ("307 to /function", None),
            ("", None),
        ] {
            assert_eq!(called(target), name, "{target}");
        }
    }
}
