//! A scheduler that keeps everything in memory and knows just enough to be administered.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use dunlin_proto::{
    ApiError, ErrorCode,
    internal::v1::{
        self as internal, audit_note_service_server::AuditNoteServiceServer,
        idempotency_service_server::IdempotencyServiceServer, sync_service_server::SyncService,
    },
    metadata::{self, ClusterSecret},
    v1::{
        self, alias_service_server::AliasServiceServer, audit_service_server::AuditServiceServer,
        cluster_service_server::*, domain_service_server::*, function_service_server::*, key_service_server::*,
        namespace_service_server::*, plan_service_server::*, release_service_server::*, route_service_server::*,
        token_service_server::*, usage_service_server::*,
    },
};
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming, transport::server::Router};

use super::data::State;

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    state: Arc<Mutex<State>>,
    token_key: (String, Vec<u8>),
    /// Where another gateway has its records.
    beside: SocketAddr,
}

impl Scheduler {
    pub(crate) fn new(state: State, token_key: (String, Vec<u8>), beside: SocketAddr) -> Self {
        Self { state: Arc::new(Mutex::new(state)), token_key, beside }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn add_to(self, mut server: tonic::transport::Server, secret: &ClusterSecret) -> Router {
        let require = || secret.require();
        server
            .add_service(FunctionServiceServer::with_interceptor(self.clone(), require()))
            .add_service(AliasServiceServer::with_interceptor(self.clone(), require()))
            .add_service(NamespaceServiceServer::with_interceptor(self.clone(), require()))
            .add_service(TokenServiceServer::with_interceptor(self.clone(), require()))
            .add_service(KeyServiceServer::with_interceptor(self.clone(), require()))
            .add_service(PlanServiceServer::with_interceptor(self.clone(), require()))
            .add_service(UsageServiceServer::with_interceptor(self.clone(), require()))
            .add_service(ReleaseServiceServer::with_interceptor(self.clone(), require()))
            .add_service(RouteServiceServer::with_interceptor(self.clone(), require()))
            .add_service(DomainServiceServer::with_interceptor(self.clone(), require()))
            .add_service(ClusterServiceServer::with_interceptor(self.clone(), require()))
            .add_service(AuditServiceServer::with_interceptor(self.clone(), require()))
            .add_service(AuditNoteServiceServer::with_interceptor(self.clone(), require()))
            .add_service(IdempotencyServiceServer::with_interceptor(self.clone(), require()))
            .add_service(internal::sync_service_server::SyncServiceServer::with_interceptor(self, require()))
    }

    /// Notes a call and opens its message.
    pub(super) fn open<T>(&self, method: &'static str, request: Request<T>) -> T {
        let actor = metadata::actor(&request);
        self.state().calls.push((method, actor));
        self.state().authors.push((method, metadata::author(&request)));
        request.into_inner()
    }
}

pub(super) fn missing(name: &str) -> Status {
    ApiError::not_found(name).hint("deploy it").into()
}

pub(super) fn under(name: &str, parent: &str) -> bool {
    name.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

#[tonic::async_trait]
impl FunctionService for Scheduler {
    type CreateVersionStream = Events<v1::CreateVersionResponse>;

    async fn list_functions(
        &self,
        request: Request<v1::ListFunctionsRequest>,
    ) -> Result<Response<v1::ListFunctionsResponse>, Status> {
        let request = self.open("ListFunctions", request);
        let state = self.state();
        let after = |name: &str| format!("{}/functions/{}", request.parent, request.page_token).as_str() < name;
        let all = state.functions.values().filter(|f| under(&f.name, &request.parent) && after(&f.name));
        let size = request.page_size.max(1) as usize;
        let mut functions: Vec<_> = all.take(size + 1).cloned().collect();
        let more = functions.len() > size;
        functions.truncate(size);
        let last = functions.last().filter(|_| more).map(|f| f.name.rsplit('/').next().unwrap().to_owned());
        let next_page_token = last.unwrap_or_default();
        Ok(Response::new(v1::ListFunctionsResponse { functions, next_page_token }))
    }

    async fn get_function(
        &self,
        request: Request<v1::GetFunctionRequest>,
    ) -> Result<Response<v1::GetFunctionResponse>, Status> {
        let v1::GetFunctionRequest { name } = self.open("GetFunction", request);
        let function = self.state().functions.get(&name).cloned().ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::GetFunctionResponse { function: Some(function) }))
    }

    async fn update_function(
        &self,
        request: Request<v1::UpdateFunctionRequest>,
    ) -> Result<Response<v1::UpdateFunctionResponse>, Status> {
        let request = self.open("UpdateFunction", request);
        let new = request.function.unwrap();
        let mut state = self.state();
        let function = state.functions.get_mut(&new.name).ok_or_else(|| missing(&new.name))?;
        for path in request.update_mask.unwrap_or_default().paths {
            match path.as_str() {
                "description" => function.description.clone_from(&new.description),
                "public" => function.public = new.public,
                "disabled" => function.disabled = new.disabled,
                "traffic" if new.traffic.iter().map(|t| t.percent).sum::<u32>() == 100 => {
                    function.traffic.clone_from(&new.traffic);
                }
                field => return Err(ApiError::invalid(field, "it can't be so").into()),
            }
        }
        Ok(Response::new(v1::UpdateFunctionResponse { function: Some(function.clone()), ..Default::default() }))
    }

    async fn delete_function(
        &self,
        request: Request<v1::DeleteFunctionRequest>,
    ) -> Result<Response<v1::DeleteFunctionResponse>, Status> {
        let v1::DeleteFunctionRequest { name, .. } = self.open("DeleteFunction", request);
        self.state().functions.remove(&name).ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::DeleteFunctionResponse::default()))
    }

    async fn rollback_function(
        &self,
        request: Request<v1::RollbackFunctionRequest>,
    ) -> Result<Response<v1::RollbackFunctionResponse>, Status> {
        let v1::RollbackFunctionRequest { name, version, .. } = self.open("RollbackFunction", request);
        let mut state = self.state();
        let function = state.functions.get_mut(&name).ok_or_else(|| missing(&name))?;
        let version = if version == 0 { 1 } else { version };
        if version > function.latest_version {
            return Err(missing(&format!("{name}/versions/{version}")));
        }
        function.traffic = vec![v1::TrafficTarget { version, percent: 100 }];
        Ok(Response::new(v1::RollbackFunctionResponse {
            function: Some(function.clone()),
            version,
            ..Default::default()
        }))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Result<Response<v1::UploadArtifactResponse>, Status> {
        let mut messages = self.open("UploadArtifact", request);
        let first = messages.message().await?.and_then(|message| message.part);
        let Some(v1::upload_artifact_request::Part::Start(start)) = first else {
            return Err(ApiError::invalid("start", "no start").into());
        };
        while self.state().stalled {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let mut read = 0;
        while let Some(message) = messages.message().await? {
            if let Some(v1::upload_artifact_request::Part::Chunk(chunk)) = message.part {
                read += chunk.len();
            }
        }
        let v1::ArtifactStart { digest, size_bytes, .. } = start;
        // A call that is cancelled looks like one that has ended: only the size tells.
        if read > 0 && read as u64 != size_bytes {
            return Err(ApiError::invalid("chunk", "the upload is not whole").into());
        }
        self.state().uploaded += read;
        Ok(Response::new(v1::UploadArtifactResponse { digest, size_bytes, already_present: read == 0 }))
    }

    async fn create_version(
        &self,
        request: Request<v1::CreateVersionRequest>,
    ) -> Result<Response<Self::CreateVersionStream>, Status> {
        use v1::create_version_response::Event;
        let request = self.open("CreateVersion", request);
        let progress = v1::DeployProgress { stage: v1::DeployStage::Compiling.into(), message: "compiling".into() };
        let version = v1::Version { name: format!("{}/versions/9", request.parent), number: 9, ..Default::default() };
        let events = [Event::Progress(progress), Event::Version(version)];
        let events = events.map(|event| Ok(v1::CreateVersionResponse { event: Some(event) }));
        Ok(Response::new(stream::iter(events).boxed()))
    }

    async fn get_version(
        &self,
        request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let v1::GetVersionRequest { name } = self.open("GetVersion", request);
        let state = self.state();
        let found = state.versions.values().flatten().find(|version| version.name == name);
        Ok(Response::new(v1::GetVersionResponse { version: Some(found.cloned().ok_or_else(|| missing(&name))?) }))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let v1::ListVersionsRequest { parent, .. } = self.open("ListVersions", request);
        let versions = self.state().versions.get(&parent).cloned().ok_or_else(|| missing(&parent))?;
        Ok(Response::new(v1::ListVersionsResponse { versions, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl NamespaceService for Scheduler {
    async fn create_namespace(
        &self,
        request: Request<v1::CreateNamespaceRequest>,
    ) -> Result<Response<v1::CreateNamespaceResponse>, Status> {
        let request = self.open("CreateNamespace", request);
        let mut state = self.state();
        if state.namespaces.contains_key(&format!("namespaces/{}", request.namespace_id)) {
            return Err(ApiError::new(ErrorCode::AlreadyExists, "the namespace is there already").into());
        }
        let namespace = Some(state.add_namespace(&request.namespace_id, &request.description));
        Ok(Response::new(v1::CreateNamespaceResponse { namespace }))
    }

    async fn get_namespace(
        &self,
        request: Request<v1::GetNamespaceRequest>,
    ) -> Result<Response<v1::GetNamespaceResponse>, Status> {
        let v1::GetNamespaceRequest { name } = self.open("GetNamespace", request);
        let namespace = self.state().namespaces.get(&name).cloned().ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::GetNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn list_namespaces(
        &self,
        request: Request<v1::ListNamespacesRequest>,
    ) -> Result<Response<v1::ListNamespacesResponse>, Status> {
        self.open("ListNamespaces", request);
        let namespaces = self.state().namespaces.values().cloned().collect();
        Ok(Response::new(v1::ListNamespacesResponse { namespaces, ..Default::default() }))
    }

    async fn update_namespace(
        &self,
        request: Request<v1::UpdateNamespaceRequest>,
    ) -> Result<Response<v1::UpdateNamespaceResponse>, Status> {
        let v1::UpdateNamespaceRequest { namespace, .. } = self.open("UpdateNamespace", request);
        let changed = namespace.unwrap_or_default();
        let mut state = self.state();
        let namespace = state.namespaces.get_mut(&changed.name).ok_or_else(|| missing(&changed.name))?;
        namespace.max_concurrency = changed.max_concurrency;
        namespace.rate = changed.rate;
        (namespace.log_retention, namespace.log_bytes) = (changed.log_retention, changed.log_bytes);
        Ok(Response::new(v1::UpdateNamespaceResponse { namespace: Some(namespace.clone()) }))
    }

    async fn delete_namespace(
        &self,
        request: Request<v1::DeleteNamespaceRequest>,
    ) -> Result<Response<v1::DeleteNamespaceResponse>, Status> {
        let v1::DeleteNamespaceRequest { name } = self.open("DeleteNamespace", request);
        let mut state = self.state();
        if state.functions.keys().any(|function| under(function, &name)) {
            return Err(ApiError::new(ErrorCode::FailedPrecondition, "the namespace has functions").into());
        }
        state.namespaces.remove(&name).ok_or_else(|| missing(&name))?;
        Ok(Response::new(v1::DeleteNamespaceResponse {}))
    }

    async fn set_webhook(
        &self,
        request: Request<v1::SetWebhookRequest>,
    ) -> Result<Response<v1::SetWebhookResponse>, Status> {
        let v1::SetWebhookRequest { name, url } = self.open("SetWebhook", request);
        let webhook = Some(v1::Webhook { name, url, ..Default::default() });
        Ok(Response::new(v1::SetWebhookResponse { webhook, secret: "whsec_aGVsbG8=".to_owned() }))
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::GetWebhookResponse>, Status> {
        let name = self.open("GetWebhook", request).name;
        Ok(Response::new(super::webhooks::shown(name)))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::RotateWebhookSecretResponse>, Status> {
        let name = self.open("RotateWebhookSecret", request).name;
        let webhook = Some(v1::Webhook { name, ..Default::default() });
        Ok(Response::new(v1::RotateWebhookSecretResponse { webhook, secret: "whsec_aGVsbG8=".to_owned() }))
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        self.open("TestWebhook", request);
        Ok(Response::new(v1::TestWebhookResponse { id: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".to_owned() }))
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<v1::DeleteWebhookResponse>, Status> {
        Err(missing(&self.open("DeleteWebhook", request).name))
    }
}

#[tonic::async_trait]
impl TokenService for Scheduler {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let request = self.open("CreateToken", request);
        if request.scopes.iter().any(String::is_empty) {
            return Err(ApiError::invalid("scopes", "a scope is empty").into());
        }
        Ok(Response::new(v1::CreateTokenResponse { token: "a.b.c".to_owned(), expire_time: None }))
    }

    async fn get_identity(
        &self,
        request: Request<v1::GetIdentityRequest>,
    ) -> Result<Response<v1::GetIdentityResponse>, Status> {
        self.open("GetIdentity", request);
        Err(Status::unimplemented("the gateway knows"))
    }
}

#[tonic::async_trait]
impl KeyService for Scheduler {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let request = self.open("CreateKey", request);
        if let Some(bad) =
            request.functions.iter().find(|name| name.parse::<dunlin_proto::ids::FunctionName>().is_err())
        {
            return Err(ApiError::invalid("functions", format!("{bad:?} is no function")).into());
        }
        let mut state = self.state();
        let id = format!("newKEY{:06}", state.keys.len());
        let key = v1::Key {
            name: format!("{}/keys/{id}", request.parent),
            display_name: request.display_name,
            functions: request.functions,
            create_time: Some(super::data::ago(0)),
            prefix: format!("dk_{id}"),
            ..Default::default()
        };
        state.keys.insert(0, key.clone());
        let secret = format!("dk_{id}_aVeryLongSecretThatIsShownOnceAndNeverAgain00_abc123");
        Ok(Response::new(v1::CreateKeyResponse { key: Some(key), secret }))
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let v1::ListKeysRequest { parent, .. } = self.open("ListKeys", request);
        let keys = self.state().keys.iter().filter(|key| under(&key.name, &parent)).cloned().collect();
        Ok(Response::new(v1::ListKeysResponse { keys, ..Default::default() }))
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let v1::RevokeKeyRequest { name } = self.open("RevokeKey", request);
        let mut state = self.state();
        let key = state.keys.iter_mut().find(|key| key.name == name).ok_or_else(|| missing(&name))?;
        key.revoke_time = Some(super::data::ago(0));
        Ok(Response::new(v1::RevokeKeyResponse { key: Some(key.clone()) }))
    }

    async fn update_key(
        &self,
        request: Request<v1::UpdateKeyRequest>,
    ) -> Result<Response<v1::UpdateKeyResponse>, Status> {
        let v1::UpdateKeyRequest { name, plan } = self.open("UpdateKey", request);
        let mut state = self.state();
        let key = state.keys.iter_mut().find(|key| key.name == name).ok_or_else(|| missing(&name))?;
        key.plan = plan;
        Ok(Response::new(v1::UpdateKeyResponse { key: Some(key.clone()) }))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let v1::RotateKeyRequest { name, finish, .. } = self.open("RotateKey", request);
        let mut state = self.state();
        let key = state.keys.iter_mut().find(|key| key.name == name).ok_or_else(|| missing(&name))?;
        key.old_secret_expire_time = (!finish).then(|| super::data::ago(0));
        let secret = if finish { String::new() } else { format!("{}_aNewSecret", key.prefix) };
        Ok(Response::new(v1::RotateKeyResponse { key: Some(key.clone()), secret }))
    }

    async fn get_key_usage(
        &self,
        request: Request<v1::GetKeyUsageRequest>,
    ) -> Result<Response<v1::GetKeyUsageResponse>, Status> {
        let v1::GetKeyUsageRequest { name } = self.open("GetKeyUsage", request);
        let known = self.state().keys.iter().any(|key| key.name == name);
        let usage = v1::GetKeyUsageResponse { plan: "basic".to_owned(), used: 7, ..Default::default() };
        if known { Ok(Response::new(usage)) } else { Err(missing(&name)) }
    }
}

#[tonic::async_trait]
impl ClusterService for Scheduler {
    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        self.open("GetCluster", request);
        let state = self.state();
        let gateway = |name: &str| v1::Gateway { name: format!("gateways/{name}"), ..Default::default() };
        Ok(Response::new(v1::GetClusterResponse {
            software_version: "0.1.0".to_owned(),
            namespace_count: state.namespaces.len() as u32,
            function_count: state.functions.len() as u32,
            gateways: vec![gateway("gateway"), gateway("gateway-2")],
            workers: state.workers.clone(),
            wanted_workers: 2,
            config_version: 41,
            store: "sqlite".to_owned(),
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        self.open("CreateJoinToken", request);
        Ok(Response::new(v1::CreateJoinTokenResponse {
            token: "join.token".into(),
            expire_time: Some(super::data::ago(0)),
        }))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        self.open("ListWorkers", request);
        let workers = self.state().workers.clone();
        Ok(Response::new(v1::ListWorkersResponse { workers, ..Default::default() }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let v1::DrainWorkerRequest { name, resume } = self.open("DrainWorker", request);
        let mut state = self.state();
        let worker = state.workers.iter_mut().find(|worker| worker.name == name).ok_or_else(|| missing(&name))?;
        worker.set_state(if resume { v1::WorkerState::Ready } else { v1::WorkerState::Draining });
        Ok(Response::new(v1::DrainWorkerResponse { worker: Some(worker.clone()) }))
    }
}

#[tonic::async_trait]
impl SyncService for Scheduler {
    type SyncWorkerStream = Events<internal::SyncWorkerResponse>;
    type SyncGatewayStream = Events<internal::SyncGatewayResponse>;

    async fn sync_worker(
        &self,
        _: Request<Streaming<internal::SyncWorkerRequest>>,
    ) -> Result<Response<Self::SyncWorkerStream>, Status> {
        Err(Status::unimplemented("no worker comes here"))
    }

    async fn sync_gateway(
        &self,
        request: Request<Streaming<internal::SyncGatewayRequest>>,
    ) -> Result<Response<Self::SyncGatewayStream>, Status> {
        use internal::sync_gateway_response::Update;
        let (id, public_key) = self.token_key.clone();
        let snapshot = internal::ConfigSnapshot {
            version: 41,
            token_keys: vec![internal::TokenKey { id, public_key: public_key.into() }],
            namespaces: self.state().namespaces.keys().map(|name| name["namespaces/".len()..].to_owned()).collect(),
            ..Default::default()
        };
        let peer = |name: &str, address: String| internal::GatewayPeer { gateway: name.to_owned(), address };
        let placements = internal::Placements {
            epoch: 1,
            sequence: 1,
            gateways: vec![
                peer("gateway", "127.0.0.1:9".to_owned()),
                peer("gateway-2", self.beside.to_string()),
                peer("gateway-3", "127.0.0.1:1".to_owned()),
            ],
            ..Default::default()
        };
        let updates = [Update::Config(snapshot), Update::Placements(placements)];
        let updates = updates.map(|update| Ok(internal::SyncGatewayResponse { update: Some(update) }));
        // The stream lasts as long as the gateway's own.
        let up = request.into_inner().filter_map(|_| async { None });
        Ok(Response::new(stream::iter(updates).chain(up).boxed()))
    }

    async fn report_usage(
        &self,
        _: Request<internal::ReportUsageRequest>,
    ) -> Result<Response<internal::ReportUsageResponse>, Status> {
        Ok(Response::new(internal::ReportUsageResponse {}))
    }

    async fn borrow_quota(
        &self,
        _: Request<internal::BorrowQuotaRequest>,
    ) -> Result<Response<internal::BorrowQuotaResponse>, Status> {
        Err(Status::unimplemented("nothing is limited here"))
    }

    async fn admit(&self, _: Request<internal::AdmitRequest>) -> Result<Response<internal::AdmitResponse>, Status> {
        Err(Status::unimplemented("nothing is limited here"))
    }

    async fn activate(
        &self,
        _: Request<internal::ActivateRequest>,
    ) -> Result<Response<internal::ActivateResponse>, Status> {
        Ok(Response::new(internal::ActivateResponse {}))
    }
}
