//! A deploy, from the uploaded artifact to a version that has the traffic. The work belongs to a task of the scheduler and
//! not to the call: a client that vanishes ends nothing, and one that repeats its request joins the work or finds its
//! result. Until the version's row is written there is nothing; from then on the rest is finished even after a restart.

mod preview;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode,
    audit::Author,
    ids::{Digest, RequestId, VersionNumber, WorkerId},
    model::VersionSpec,
    names::FunctionRef,
};
use tokio::{sync::watch, time::Instant};

pub(crate) use self::preview::Preview;
use self::preview::followed;
use crate::{
    capabilities::Changes,
    cluster::{HeldState, WorkerView},
    codes::{Codes, Step},
    error::Error,
    metrics::DeployCounts,
    model::{Kind, Policy, VersionRecord, with_canary},
    reconcile::Board,
    store::{NewVersion, RequestKey, Scope},
    trials::Trials,
};

/// How long workers may take to load a version.
const PLACING: Duration = Duration::from_secs(30);

/// How long every worker that shall hold it may say that it can't, before that is believed.
const FAILING: Duration = Duration::from_secs(4);

/// How often it looks while it waits.
const LOOK: Duration = Duration::from_millis(100);

/// What a deploy asks for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Deploy {
    #[serde(serialize_with = "as_text")]
    pub(crate) function: FunctionRef,
    pub(crate) artifact: Digest,
    pub(crate) spec: VersionSpec,
    pub(crate) public: Option<bool>,
    /// Whether automatic addresses are served although routes name the function; absent leaves it.
    pub(crate) direct: Option<bool>,
    pub(crate) description: Option<String>,
    pub(crate) note: String,
    pub(crate) hold_traffic: bool,
    /// It may reach more than the versions that have the traffic.
    pub(crate) allow_new_capabilities: bool,
    /// How many percent of the traffic it gets; absent, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canary: Option<u32>,
    /// Nothing is deployed; it is said what would be changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dry_run: bool,
    /// It is done once a worker has the version, also where that gets no traffic.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) load: bool,
    /// Who asks; the same request of another person is the same request.
    #[serde(skip)]
    pub(crate) creator: String,
    /// What the audit log says of who asks.
    #[serde(skip)]
    pub(crate) author: Author,
}

fn as_text<S: serde::Serializer>(value: &FunctionRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The stages of a deploy, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Queued,
    Compiling,
    Storing,
    Placing,
    Activating,
}

/// How far a deploy has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The stages entered, each with a message for people.
    pub(crate) stages: Vec<(Stage, String)>,
    /// What it may reach and imports, against the versions that have the traffic.
    pub(crate) changes: Option<Changes>,
    /// How it ended.
    pub(crate) outcome: Option<Result<Outcome, ApiError>>,
}

/// What came of a deploy.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It was made.
    Version(Box<VersionRecord>),
    /// It was only asked what it would change.
    Preview(Preview),
}

type Running = HashMap<(Scope, RequestId), (Digest, watch::Receiver<Progress>)>;

/// All deploys.
#[derive(Debug)]
pub(crate) struct Deploys {
    codes: Codes,
    board: Arc<Board>,
    trials: Trials,
    shutdown: Shutdown,
    /// The ones with a request id that run now, so that a repeated request joins them.
    running: Mutex<Running>,
    counted: DeployCounts,
}

impl Deploys {
    /// Ready for deploys.
    pub(crate) fn new(codes: Codes, board: Arc<Board>, trials: Trials, shutdown: Shutdown) -> Arc<Self> {
        let (running, counted) = (Mutex::default(), DeployCounts::default());
        Arc::new(Self { codes, board, trials, shutdown, running, counted })
    }

    /// How deploys ended.
    pub(crate) fn counted(&self) -> &DeployCounts {
        &self.counted
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a deploy, or joins the one that the same request began.
    ///
    /// # Errors
    /// The request id belongs to another request.
    pub(crate) fn begin(
        self: &Arc<Self>,
        deploy: Deploy,
        request: Option<RequestId>,
    ) -> Result<watch::Receiver<Progress>, ApiError> {
        let payload = serde_json::to_vec(&deploy).map_err(|_| ApiError::internal())?;
        let scope = Scope::Namespace(deploy.function.namespace.clone());
        let payload = Digest::of(&payload);
        let key = request.map(|id| RequestKey { scope, method: "CreateVersion", id, payload });
        let (sender, receiver) = watch::channel(Progress::default());
        if let Some(key) = &key {
            let mut running = self.running();
            if let Some((payload, progress)) = running.get(&(key.scope.clone(), key.id)) {
                return if *payload == key.payload { Ok(progress.clone()) } else { Err(key.reused()) };
            }
            running.insert((key.scope.clone(), key.id), (key.payload, receiver.clone()));
        }
        let deploys = self.clone();
        self.shutdown.spawn(async move {
            let began = Instant::now();
            let outcome = tokio::select! {
                outcome = deploys.ended(&deploy, key.as_ref(), &sender) => {
                    deploys.counted.ended(&outcome, began.elapsed());
                    outcome.map_err(Error::into_api)
                }
                () = deploys.shutdown.begun() => Err(stopping()),
            };
            if let Some(key) = key {
                deploys.running().remove(&(key.scope, key.id));
            }
            sender.send_modify(|progress| progress.outcome = Some(outcome));
        });
        Ok(receiver)
    }

    async fn ended(
        &self,
        deploy: &Deploy,
        request: Option<&RequestKey>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Outcome, Error> {
        if deploy.dry_run {
            return self.preview(deploy, progress).await.map(Outcome::Preview);
        }
        self.run(deploy, request, progress).await.map(|version| Outcome::Version(Box::new(version)))
    }

    /// Checks and compiles as a deploy does, and stops before there is anything of it.
    async fn preview(&self, deploy: &Deploy, progress: &watch::Sender<Progress>) -> Result<Preview, Error> {
        let new = self.compile(deploy, progress).await?;
        let function = match self.codes.store.function_fetch(&deploy.function).await.map_err(Error::into_api) {
            Err(error) if error.code == ErrorCode::NotFound => None,
            record => Some(record?),
        };
        let before = self.with_traffic(&deploy.function).await?;
        let changes = progress.borrow().changes.clone().unwrap_or_default();
        Ok(Preview::of(&new, function.as_ref(), followed(&before), changes))
    }

    async fn run(
        &self,
        deploy: &Deploy,
        request: Option<&RequestKey>,
        progress: &watch::Sender<Progress>,
    ) -> Result<VersionRecord, Error> {
        let store = &self.codes.store;
        if let Some(request) = request
            && let Some(number) = store.request_find(request).await?
        {
            let version = store.version_fetch(&deploy.function.version(number)).await?;
            return self.finish_as(deploy, version, progress).await;
        }
        let new = self.compile(deploy, progress).await?;
        let version = store.by(deploy.author.clone()).version_create(&new, request).await?;
        self.codes.catalog.refresh_core().await;
        tracing::info!(
            namespace = %version.function.namespace, function = %version.function.function,
            version = version.number.get(), creator = version.creator, "a version was made"
        );
        self.finish_as(deploy, version, progress).await
    }

    async fn compile(&self, deploy: &Deploy, progress: &watch::Sender<Progress>) -> Result<NewVersion, Error> {
        let namespace = &deploy.function.namespace;
        self.codes.store.namespace_fetch(namespace).await?;
        let Some(artifact_size) = self.codes.store.artifact_use(namespace, &deploy.artifact).await? else {
            let error = ApiError::not_found(format!("artifact {} in namespace {namespace}", deploy.artifact));
            return Err(error.hint("upload it first, with UploadArtifact or dunlin deploy").into());
        };
        self.check_canary(deploy).await?;
        let step = |step| match step {
            Step::Queued => enter(progress, Stage::Queued, "waiting for a free compiler"),
            Step::Compiling => enter(progress, Stage::Compiling, "checking and compiling"),
            Step::Storing => enter(progress, Stage::Storing, "storing the compiled code"),
        };
        let compiled = self.codes.ensure(namespace, &deploy.artifact, step).await?;
        check_reuse(&deploy.spec, compiled.kind)?;
        let capabilities = self.check_capabilities(deploy, &compiled.imports, progress).await?;
        Ok(NewVersion {
            function: deploy.function.clone(),
            artifact: deploy.artifact,
            artifact_size,
            kind: compiled.kind,
            spec: deploy.spec.clone(),
            imports: compiled.imports,
            capabilities,
            creator: deploy.creator.clone(),
            note: deploy.note.clone(),
            compiled_size: compiled.code.size,
            activation: !deploy.hold_traffic,
            canary: deploy.canary,
            policy: Policy { public: deploy.public, direct: deploy.direct },
            description: deploy.description.clone(),
        })
    }

    /// Shows how the version differs in what it may reach, and refuses what nobody has said to be meant.
    async fn check_capabilities(
        &self,
        deploy: &Deploy,
        imports: &[String],
        progress: &watch::Sender<Progress>,
    ) -> Result<Changes, Error> {
        let before = self.with_traffic(&deploy.function).await?;
        let changes = Changes::between(&before, &deploy.spec.allowed_outbound_hosts, imports)?;
        if before.is_empty() {
            return Ok(changes);
        }
        if !changes.is_empty() {
            tracing::info!(function = %deploy.function, creator = deploy.creator, ?changes, "a version differs in what it may reach");
            progress.send_modify(|progress| progress.changes = Some(changes.clone()));
        }
        if !deploy.allow_new_capabilities && !deploy.dry_run {
            changes.check(&deploy.function)?;
        }
        Ok(changes)
    }

    /// The versions that get a function's calls; none for a new function.
    async fn with_traffic(&self, function: &FunctionRef) -> Result<Vec<VersionRecord>, Error> {
        let store = &self.codes.store;
        let record = match store.function_fetch(function).await.map_err(Error::into_api) {
            Err(error) if error.code == ErrorCode::NotFound => return Ok(Vec::new()),
            record => record?,
        };
        let mut versions = Vec::new();
        for share in &record.traffic {
            versions.push(store.version_fetch(&function.version(share.0)).await?);
        }
        Ok(versions)
    }

    /// Refuses a canary for which there is no place, before anything is compiled.
    async fn check_canary(&self, deploy: &Deploy) -> Result<(), Error> {
        let Some(percent) = deploy.canary else { return Ok(()) };
        match self.codes.store.function_fetch(&deploy.function).await {
            Ok(known) => with_canary(&deploy.function, &known.traffic, VersionNumber::FIRST, percent).map(drop)?,
            // It is about to be made.
            Err(Error::Api(error)) if error.code == ErrorCode::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// From the version's row to what the deploy asks for.
    async fn finish_as(
        &self,
        deploy: &Deploy,
        version: VersionRecord,
        progress: &watch::Sender<Progress>,
    ) -> Result<VersionRecord, Error> {
        if !deploy.load || version.activation {
            return self.finish(version, &deploy.author, progress).await;
        }
        self.load(&version, progress).await?;
        self.codes.store.version_fetch(&version.name()).await
    }

    /// Waits until a worker has a version and has tried whether its sandboxes can be used again, where that is asked for.
    async fn load(&self, version: &VersionRecord, progress: &watch::Sender<Progress>) -> Result<(), Error> {
        enter(progress, Stage::Placing, "waiting until a worker has loaded it");
        self.wait_ready(version, progress).await?;
        if version.reuses() {
            enter(progress, Stage::Placing, "trying whether its sandboxes can be used again");
            self.trials.settle(version).await?;
        }
        Ok(())
    }

    /// From the version's row to the traffic.
    async fn finish(
        &self,
        version: VersionRecord,
        author: &Author,
        progress: &watch::Sender<Progress>,
    ) -> Result<VersionRecord, Error> {
        if !version.activation {
            return Ok(version);
        }
        let loaded = self.load(&version, progress).await;
        if let Err(Error::Api(error)) = &loaded
            && error.code == ErrorCode::FailedPrecondition
        {
            // No worker can load it: it stays without traffic, and a restart does not try again.
            self.codes.store.version_hold(version.key(), &version.name()).await?;
        }
        loaded?;
        self.activate(&version, author, progress).await?;
        self.codes.store.version_fetch(&version.name()).await
    }

    /// Gives a version its traffic, and waits until gateways know.
    async fn activate(
        &self,
        version: &VersionRecord,
        author: &Author,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Error> {
        enter(progress, Stage::Activating, "sending the traffic to it");
        let activated = self.codes.store.by(author.clone()).version_activate(&version.name()).await;
        if let Err(Error::Api(error)) = &activated
            && error.code == ErrorCode::FailedPrecondition
        {
            // There is no part of the traffic for it: it stays without any, and a restart does not try again.
            self.codes.store.version_hold(version.key(), &version.name()).await?;
        }
        activated?;
        self.codes.catalog.refresh_core().await;
        let lagging = self.board.lagging(&self.codes.catalog).await;
        if !lagging.is_empty() {
            let message = format!("gateways that have not said that they know: {}", lagging.join(", "));
            enter(progress, Stage::Activating, &message);
        }
        Ok(())
    }

    /// Waits until the gateways have been told of a worker that has it ready.
    async fn wait_ready(&self, version: &VersionRecord, progress: &watch::Sender<Progress>) -> Result<(), ApiError> {
        let (key, mut placements) = (version.key(), self.board.placements());
        let began = Instant::now();
        let mut failing_since = None;
        loop {
            let ready = placements.borrow_and_update().as_ref().is_some_and(|now| now.versions.contains_key(&key));
            if ready {
                return Ok(());
            }
            let now = Instant::now();
            if self.board.has_settled(now) && !self.board.cluster().any_accepts(now) {
                enter(progress, Stage::Placing, "no worker is connected: it is loaded when one joins");
                return Ok(());
            }
            let failure = self.failure(version);
            let failing = failure.is_some().then(|| *failing_since.get_or_insert(now));
            failing_since = failing;
            if let (Some(failure), Some(since)) = (failure, failing)
                && now.saturating_duration_since(since) >= FAILING
            {
                return Err(cannot_load(version, &failure));
            }
            if now.saturating_duration_since(began) >= PLACING {
                return Err(too_slow(version));
            }
            self.board.activate(key);
            // Cancel-safe: both only wake.
            tokio::select! { _ = placements.changed() => {}, () = tokio::time::sleep(LOOK) => {} }
        }
    }

    /// What the workers say that shall hold it, where none of them can.
    fn failure(&self, version: &VersionRecord) -> Option<String> {
        let (key, cluster) = (version.key(), self.board.cluster());
        let loads = |worker: &&WorkerView| {
            worker.assignment.borrow().versions.get(&key).is_some_and(|assigned| !assigned.standby)
        };
        let holders = cluster.workers().values().filter(loads);
        let mut failures: BTreeSet<(WorkerId, String)> = BTreeSet::new();
        for worker in holders {
            let held = worker.report.as_ref()?.versions.get(&key)?;
            let HeldState::Failed(error) = &held.state else { return None };
            failures.insert((worker.hello.worker.clone(), error.clone()));
        }
        failures.pop_first().map(|(worker, error)| format!("{worker}: {error}"))
    }

    /// Finishes what an earlier run of the scheduler left unfinished.
    pub(crate) fn resume(self: &Arc<Self>) {
        let catalog = self.codes.catalog.current();
        for (_, version) in catalog.versions().filter(|(_, version)| version.activation) {
            let (deploys, version) = (self.clone(), VersionRecord::clone(version));
            self.shutdown.spawn(async move {
                let name = version.name();
                let (progress, _) = watch::channel(Progress::default());
                // Whoever asked for it is not remembered.
                let platform = Author::default();
                let finished = tokio::select! {
                    finished = deploys.finish(version, &platform, &progress) => finished,
                    () = deploys.shutdown.begun() => return,
                };
                match finished {
                    Ok(_) => tracing::info!(version = %name, "finished a deploy of before the restart"),
                    Err(error) => {
                        let cause = format!("{:#}", anyhow::Error::new(error));
                        tracing::warn!(version = %name, cause, "a deploy of before the restart is not finished");
                    }
                }
            });
        }
    }
}

fn enter(progress: &watch::Sender<Progress>, stage: Stage, message: &str) {
    progress.send_modify(|progress| progress.stages.push((stage, message.to_owned())));
}

/// A command can't serve a second call: its `run` is the end of its program.
fn check_reuse(spec: &VersionSpec, kind: Kind) -> Result<(), ApiError> {
    if spec.reuse.is_none() || kind != Kind::Command {
        return Ok(());
    }
    let message = "spec.reuse asks for sandboxes to be used again, but this artifact is a WASI command: its `run` is the end \
                   of its program, so each call needs a new one";
    Err(ApiError::invalid("spec.reuse", message)
        .hint("leave reuse out, or build the function as a wasi:http component"))
}

fn stopping() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the scheduler is stopping")
        .hint("repeat the request with the same request id")
        .retry_after(Duration::from_secs(2))
}

fn cannot_load(version: &VersionRecord, failure: &str) -> ApiError {
    let message = format!("version {} was made, but no worker can load it: {failure}", version.number);
    ApiError::new(ErrorCode::FailedPrecondition, message).hint("traffic stays where it was")
}

fn too_slow(version: &VersionRecord) -> ApiError {
    let message = format!("version {} was made, but no worker has loaded it within {PLACING:?}", version.number);
    ApiError::new(ErrorCode::Unavailable, message)
        .hint("traffic stays where it was; repeat the request with the same request id to go on waiting")
        .retry_after(Duration::from_secs(5))
}
