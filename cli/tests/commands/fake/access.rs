//! The simulated NamespaceService, TokenService, KeyService and ClusterService.

use dunlin_proto::{
    ApiError, ErrorCode,
    v1::{
        self, cluster_service_server::ClusterService, key_service_server::KeyService,
        namespace_service_server::NamespaceService, token_service_server::TokenService,
    },
};
use tonic::{Request, Response, Status};

use super::{Fake, ago};

type Answer<T> = Result<Response<T>, Status>;

fn namespace(id: &str) -> v1::Namespace {
    v1::Namespace {
        name: format!("namespaces/{id}"),
        description: "for tests".into(),
        create_time: ago(300),
        function_count: 2,
        max_concurrency: None,
        rate: None,
        log_retention: None,
        log_bytes: None,
        quota: None,
        quota_usage: None,
    }
}

#[tonic::async_trait]
impl NamespaceService for Fake {
    async fn create_namespace(
        &self,
        request: Request<v1::CreateNamespaceRequest>,
    ) -> Answer<v1::CreateNamespaceResponse> {
        let id = request.into_inner().namespace_id;
        if id == "taken" {
            return Err(ApiError::new(ErrorCode::AlreadyExists, "namespace taken exists").into());
        }
        Ok(Response::new(v1::CreateNamespaceResponse { namespace: Some(namespace(&id)) }))
    }

    async fn get_namespace(&self, request: Request<v1::GetNamespaceRequest>) -> Answer<v1::GetNamespaceResponse> {
        let name = request.into_inner().name;
        let found = namespace(name.strip_prefix("namespaces/").unwrap_or_default());
        Ok(Response::new(v1::GetNamespaceResponse { namespace: Some(found) }))
    }

    async fn list_namespaces(&self, _: Request<v1::ListNamespacesRequest>) -> Answer<v1::ListNamespacesResponse> {
        let namespaces = vec![namespace("default"), namespace("shop")];
        Ok(Response::new(v1::ListNamespacesResponse { namespaces, next_page_token: String::new() }))
    }

    async fn update_namespace(
        &self,
        request: Request<v1::UpdateNamespaceRequest>,
    ) -> Answer<v1::UpdateNamespaceResponse> {
        Ok(Response::new(v1::UpdateNamespaceResponse { namespace: request.into_inner().namespace }))
    }

    async fn delete_namespace(
        &self,
        request: Request<v1::DeleteNamespaceRequest>,
    ) -> Answer<v1::DeleteNamespaceResponse> {
        self.state().deleted.push(request.into_inner().name);
        Ok(Response::new(v1::DeleteNamespaceResponse {}))
    }

    async fn set_webhook(&self, request: Request<v1::SetWebhookRequest>) -> Answer<v1::SetWebhookResponse> {
        let v1::SetWebhookRequest { name, url } = request.into_inner();
        let is_new = self.state().webhook.is_none();
        let webhook = v1::Webhook { name, url, creator: "zoe".into(), create_time: ago(300), ..Default::default() };
        self.state().webhook = Some(webhook.clone());
        let secret = if is_new { "whsec_aGVsbG8=".to_owned() } else { String::new() };
        Ok(Response::new(v1::SetWebhookResponse { webhook: Some(webhook), secret }))
    }

    async fn get_webhook(&self, request: Request<v1::GetWebhookRequest>) -> Answer<v1::GetWebhookResponse> {
        let (name, webhook) = (request.into_inner().name, self.state().webhook.clone());
        let webhook = webhook.ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        let taken = !webhook.url.contains("down");
        let delivery = v1::WebhookDelivery {
            id: "event-1".into(),
            r#type: "dev.dunlin.test".into(),
            subject: name,
            event_time: ago(300),
            state: if taken { v1::DeliveryState::Delivered } else { v1::DeliveryState::Pending }.into(),
            tries: 1,
            next_time: (!taken).then_some(prost_types::Timestamp { seconds: 86_400, nanos: 0 }),
            status: if taken { 204 } else { 503 },
            error: if taken { String::new() } else { "the receiver answered 503".into() },
            ..Default::default()
        };
        Ok(Response::new(v1::GetWebhookResponse {
            webhook: Some(webhook),
            pending: u64::from(!taken),
            last_failure: (!taken).then(|| delivery.clone()),
            deliveries: vec![delivery],
        }))
    }

    async fn rotate_webhook_secret(
        &self,
        _: Request<v1::RotateWebhookSecretRequest>,
    ) -> Answer<v1::RotateWebhookSecretResponse> {
        let (webhook, secret) = (self.state().webhook.clone(), "whsec_bmV3".to_owned());
        Ok(Response::new(v1::RotateWebhookSecretResponse { webhook, secret }))
    }

    async fn test_webhook(&self, _: Request<v1::TestWebhookRequest>) -> Answer<v1::TestWebhookResponse> {
        Ok(Response::new(v1::TestWebhookResponse { id: "event-1".into() }))
    }

    async fn delete_webhook(&self, _: Request<v1::DeleteWebhookRequest>) -> Answer<v1::DeleteWebhookResponse> {
        self.state().webhook = None;
        Ok(Response::new(v1::DeleteWebhookResponse {}))
    }
}

#[tonic::async_trait]
impl TokenService for Fake {
    async fn create_token(&self, request: Request<v1::CreateTokenRequest>) -> Answer<v1::CreateTokenResponse> {
        self.state().tokens.push(request.into_inner());
        Ok(Response::new(v1::CreateTokenResponse { token: "a.new.token".into(), expire_time: ago(0) }))
    }

    async fn get_identity(&self, _: Request<v1::GetIdentityRequest>) -> Answer<v1::GetIdentityResponse> {
        let grant = |namespace: &str, role: v1::Role| v1::RoleGrant { namespace: namespace.into(), role: role.into() };
        Ok(Response::new(v1::GetIdentityResponse {
            subject: "zoe".into(),
            issuer: "dunlin".into(),
            grants: vec![grant("shop", v1::Role::Developer), grant("", v1::Role::Operator)],
            expire_time: ago(0),
            issue_time: ago(300),
            token_id: "0198c5b2".into(),
            address: "127.0.0.1".into(),
        }))
    }
}

#[tonic::async_trait]
impl KeyService for Fake {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Answer<v1::CreateKeyResponse> {
        let request = request.into_inner();
        let key = v1::Key {
            name: format!("{}/keys/abcDEF123456", request.parent),
            display_name: request.display_name,
            functions: request.functions,
            create_time: ago(300),
            creator: "zoe".into(),
            prefix: "dk_abcDEF123456".into(),
            plan: request.plan,
            ..Default::default()
        };
        self.state().keys.push(key.clone());
        Ok(Response::new(v1::CreateKeyResponse { key: Some(key), secret: "dk_secret".into() }))
    }

    async fn list_keys(&self, _: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        Ok(Response::new(v1::ListKeysResponse { keys: self.state().keys.clone(), next_page_token: String::new() }))
    }

    async fn revoke_key(&self, request: Request<v1::RevokeKeyRequest>) -> Answer<v1::RevokeKeyResponse> {
        let name = request.into_inner().name;
        let mut state = self.state();
        let key = state.keys.iter_mut().find(|key| key.name == name);
        let key = key.ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        key.revoke_time = ago(0);
        Ok(Response::new(v1::RevokeKeyResponse { key: Some(key.clone()) }))
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Answer<v1::UpdateKeyResponse> {
        let v1::UpdateKeyRequest { name, plan } = request.into_inner();
        let mut state = self.state();
        let key = state.keys.iter_mut().find(|key| key.name == name);
        let key = key.ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        key.plan = plan;
        Ok(Response::new(v1::UpdateKeyResponse { key: Some(key.clone()) }))
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Answer<v1::RotateKeyResponse> {
        let v1::RotateKeyRequest { name, overlap, finish } = request.into_inner();
        let mut state = self.state();
        let key = state.keys.iter_mut().find(|key| key.name == name);
        let key = key.ok_or_else(|| Status::from(ApiError::not_found(&name)))?;
        let overlap = overlap.map_or(86_400, |overlap| u64::try_from(overlap.seconds).unwrap_or_default());
        let end = std::time::SystemTime::now() + std::time::Duration::from_secs(overlap);
        key.old_secret_expire_time = (!finish && overlap > 0).then(|| end.into());
        let secret = if finish { String::new() } else { "dk_new".to_owned() };
        Ok(Response::new(v1::RotateKeyResponse { key: Some(key.clone()), secret }))
    }

    async fn get_key_usage(&self, request: Request<v1::GetKeyUsageRequest>) -> Answer<v1::GetKeyUsageResponse> {
        let name = request.into_inner().name;
        let key = self.state().keys.iter().find(|key| key.name == name).cloned();
        let plan = key.ok_or_else(|| Status::from(ApiError::not_found(&name)))?.plan;
        let quota = v1::QuotaLimit { requests: 100, period: v1::QuotaPeriod::Day.into(), on_unknown: 0 };
        let quota = (!plan.is_empty()).then_some(quota);
        Ok(Response::new(v1::GetKeyUsageResponse { plan, quota, used: 42, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ClusterService for Fake {
    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Answer<v1::GetClusterResponse> {
        Ok(Response::new(v1::GetClusterResponse {
            software_version: env!("CARGO_PKG_VERSION").into(),
            workers: self.state().workers.clone(),
            ..Default::default()
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        let request = request.into_inner();
        let token = format!("join.{}.{}", request.role().as_str_name(), request.process_id);
        Ok(Response::new(v1::CreateJoinTokenResponse { token, expire_time: ago(0) }))
    }

    async fn list_workers(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersResponse> {
        let workers = self.state().workers.clone();
        Ok(Response::new(v1::ListWorkersResponse { workers, next_page_token: String::new() }))
    }

    async fn drain_worker(&self, request: Request<v1::DrainWorkerRequest>) -> Answer<v1::DrainWorkerResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        let worker = state.workers.iter_mut().find(|worker| worker.name == request.name);
        let worker = worker.ok_or_else(|| Status::from(ApiError::not_found(&request.name)))?;
        worker.set_state(if request.resume { v1::WorkerState::Ready } else { v1::WorkerState::Draining });
        Ok(Response::new(v1::DrainWorkerResponse { worker: Some(worker.clone()) }))
    }
}
