//! A scheduler in a temporary folder with everything that talks to it.

mod gateway;
mod worker;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Digest,
    internal::v1::{artifact_service_client::ArtifactServiceClient, sync_service_client::SyncServiceClient},
    metadata::{AttachSecret, ClusterSecret},
    v1::{
        self, alias_service_client::AliasServiceClient, cluster_service_client::ClusterServiceClient,
        create_version_response::Event, domain_service_client::DomainServiceClient,
        function_service_client::FunctionServiceClient, key_service_client::KeyServiceClient,
        namespace_service_client::NamespaceServiceClient, plan_service_client::PlanServiceClient,
        release_service_client::ReleaseServiceClient, route_service_client::RouteServiceClient,
        token_service_client::TokenServiceClient, upload_artifact_request::Part,
        usage_service_client::UsageServiceClient,
    },
};
use dunlin_scheduler::{Config, Scheduler};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Status, service::interceptor::InterceptedService, transport::Channel};

pub(crate) use self::{
    gateway::{SimGateway, hello as gateway_hello},
    worker::{SimWorker, hello as worker_hello},
};

pub(crate) type Link = InterceptedService<Channel, AttachSecret>;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The first eight bytes of a component (its magic and version).
pub(crate) const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";

/// Does what a text in the artifact says: `slow` waits until it is let go on, `refuse` is refused, `crash` crashes, `command` is a command.
const COMPILER: &str = r#"#!/bin/sh
engine=$(cat "$0.engine")
if [ "$2" = --fingerprint ]; then echo "{\"ok\":{\"fingerprint\":\"$engine\"}}"; exit; fi
echo compiled >> "$0.log"
if grep -qa slow "$3"; then until [ -e "$0.go" ]; do sleep 0.05; done; fi
if grep -qa refuse "$3"; then
  echo '{"error":{"code":"invalid_artifact","message":"it imports acme:db/sql, which is not offered","hint":"leave it out"}}'; exit 1
fi
if grep -qa crash "$3"; then kill -SEGV $$; fi
{ echo "$engine"; cat "$3"; } > "$5"
size=$(wc -c < "$5")
kind=http-0.2
if grep -qa command "$3"; then kind=command; fi
echo "{\"ok\":{\"kind\":\"$kind\",\"imports\":[\"wasi:cli/stdout@0.2.0\"],\"fingerprint\":\"$engine\",\"size\":$size}}"
"#;

/// A running scheduler.
pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) address: String,
    shutdown: Shutdown,
    serving: JoinSet<anyhow::Result<()>>,
}

impl Cluster {
    /// Starts one on SQLite.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts one with another configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let compiler = folder.path().join("compiler");
        fs::write(&compiler, COMPILER).unwrap();
        fs::write(folder.path().join("compiler.engine"), "engine-1").unwrap();
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: folder.path().join("data"),
            cluster_secret: Some(secret),
            // Read by a shell and not executed: a file that was just written may still be open in another test's child.
            compiler: Some("/bin/sh".into()),
            compiler_args: vec![compiler.display().to_string()],
            ..Config::default()
        };
        change(&mut config);
        let mut cluster =
            Self { folder, config, address: String::new(), shutdown: Shutdown::default(), serving: JoinSet::new() };
        cluster.serve().await;
        cluster
    }

    async fn serve(&mut self) {
        let scheduler = Scheduler::bind(self.config.clone()).await.unwrap();
        let listen = scheduler.addresses().internal;
        (self.address, self.config.listen) = (format!("http://{listen}"), listen);
        self.shutdown = Shutdown::default();
        self.serving.spawn(scheduler.serve(self.shutdown.clone()));
        // The port is bound, so this waits for the state and not for the listener.
        if self.config.database.is_none() && self.config.cluster_secret.is_some() {
            self.eventually("the state is open", async |cluster| {
                cluster.clusters().get_cluster(v1::GetClusterRequest {}).await.is_ok()
            })
            .await;
        }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.begin();
        self.serving.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Ends it, and starts it again on the same port and folder.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.serve().await;
    }

    /// Starts it again after [`Cluster::stop`].
    pub(crate) async fn restart_stopped(&mut self) {
        self.serve().await;
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(self.address.clone()).unwrap().connect_lazy()
    }

    pub(crate) fn link(&self) -> Link {
        InterceptedService::new(self.channel(), ClusterSecret::from_text(SECRET).unwrap().attach())
    }

    pub(crate) fn functions(&self) -> FunctionServiceClient<Link> {
        FunctionServiceClient::new(self.link())
    }

    pub(crate) fn namespaces(&self) -> NamespaceServiceClient<Link> {
        NamespaceServiceClient::new(self.link())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Link> {
        KeyServiceClient::new(self.link())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Link> {
        TokenServiceClient::new(self.link())
    }

    pub(crate) fn plans(&self) -> PlanServiceClient<Link> {
        PlanServiceClient::new(self.link())
    }

    pub(crate) fn usage(&self) -> UsageServiceClient<Link> {
        UsageServiceClient::new(self.link())
    }

    pub(crate) fn routes(&self) -> RouteServiceClient<Link> {
        RouteServiceClient::new(self.link())
    }

    pub(crate) fn releases(&self) -> ReleaseServiceClient<Link> {
        ReleaseServiceClient::new(self.link())
    }

    pub(crate) fn aliases(&self) -> AliasServiceClient<Link> {
        AliasServiceClient::new(self.link())
    }

    pub(crate) fn domains(&self) -> DomainServiceClient<Link> {
        DomainServiceClient::new(self.link())
    }

    pub(crate) fn clusters(&self) -> ClusterServiceClient<Link> {
        ClusterServiceClient::new(self.link())
    }

    pub(crate) fn sync(&self) -> SyncServiceClient<Link> {
        SyncServiceClient::new(self.link())
    }

    pub(crate) fn codes(&self) -> ArtifactServiceClient<Link> {
        ArtifactServiceClient::new(self.link())
    }

    pub(crate) fn compiler_file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("compiler.{suffix}"))
    }

    /// How many artifacts have been compiled.
    pub(crate) fn compiled(&self) -> usize {
        fs::read_to_string(self.compiler_file("log")).map_or(0, |log| log.lines().count())
    }

    pub(crate) async fn namespace(&self, id: &str) {
        let request = v1::CreateNamespaceRequest { namespace_id: id.into(), ..Default::default() };
        self.namespaces().create_namespace(request).await.unwrap();
    }

    /// Uploads an artifact that holds `text`.
    pub(crate) async fn upload(&self, namespace: &str, text: &str) -> Digest {
        let body = [HEAD, text.as_bytes()].concat();
        let digest = Digest::of(&body);
        let parts = [start(namespace, digest, body.len() as u64), chunk(&body)];
        self.send_upload(parts.into()).await.unwrap();
        digest
    }

    pub(crate) async fn send_upload(
        &self,
        parts: Vec<v1::UploadArtifactRequest>,
    ) -> Result<v1::UploadArtifactResponse, ApiError> {
        let sent = self.functions().upload_artifact(tokio_stream::iter(parts)).await;
        sent.map(tonic::Response::into_inner).map_err(ApiError::from)
    }

    /// Deploys what has been uploaded: the stages, and how it ended.
    pub(crate) async fn deploy(
        &self,
        request: v1::CreateVersionRequest,
    ) -> (Vec<v1::DeployStage>, Result<v1::Version, ApiError>) {
        let mut events = match self.functions().create_version(request).await {
            Ok(events) => events.into_inner(),
            Err(error) => return (vec![], Err(error.into())),
        };
        let mut stages = vec![];
        loop {
            match events.message().await {
                Ok(Some(v1::CreateVersionResponse { event: Some(Event::Progress(progress)) })) => {
                    stages.push(progress.stage())
                }
                Ok(Some(v1::CreateVersionResponse { event: Some(Event::Version(version)) })) => {
                    return (stages, Ok(version));
                }
                Ok(Some(v1::CreateVersionResponse { event: Some(Event::Capabilities(_)) })) => {}
                Ok(other) => panic!("the stream ended with {other:?}"),
                Err(error) => return (stages, Err(error.into())),
            }
        }
    }

    /// Uploads and deploys; the version.
    pub(crate) async fn deployed(&self, parent: &str, text: &str) -> v1::Version {
        let namespace = parent.split('/').nth(1).unwrap();
        let digest = self.upload(namespace, text).await;
        self.deploy(create(parent, digest)).await.1.unwrap()
    }

    pub(crate) async fn function(&self, name: &str) -> v1::Function {
        let request = v1::GetFunctionRequest { name: name.into() };
        self.functions().get_function(request).await.unwrap().into_inner().function.unwrap()
    }

    /// Waits until something is so, 30 s at the most; says how long that took.
    pub(crate) async fn eventually(&self, what: &str, mut so: impl AsyncFnMut(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !so(self).await {
            assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }
}

pub(crate) fn start(namespace: &str, digest: Digest, size_bytes: u64) -> v1::UploadArtifactRequest {
    let start = v1::ArtifactStart { parent: format!("namespaces/{namespace}"), digest: digest.to_string(), size_bytes };
    v1::UploadArtifactRequest { part: Some(Part::Start(start)) }
}

pub(crate) fn chunk(bytes: &[u8]) -> v1::UploadArtifactRequest {
    v1::UploadArtifactRequest { part: Some(Part::Chunk(bytes.to_vec().into())) }
}

pub(crate) fn create(parent: &str, digest: Digest) -> v1::CreateVersionRequest {
    v1::CreateVersionRequest { parent: parent.into(), artifact_digest: digest.to_string(), ..Default::default() }
}

pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// What was refused must be refused with this code, and say so.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: ErrorCode) -> ApiError {
    let error = ApiError::from(result.expect_err("it must be refused"));
    assert_eq!(error.code, code, "{error:?}");
    error
}
