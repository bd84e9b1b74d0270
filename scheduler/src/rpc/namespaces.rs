//! `NamespaceService`; what it does with webhooks is in `webhooks.rs`.

use dunlin_proto::{
    ApiError,
    ids::{Digest, Namespace},
    limit::LimitId,
    model::{Quota, Rate, Retention, concurrency, retention_age, retention_bytes},
    names::NamespaceRef,
    v1::{self, namespace_service_server::NamespaceService},
};
use prost_types::FieldMask;
use tonic::{Request, Response, Status};

use super::{Desk, convert, functions::beyond, name, page, plans::quota_usage, request_id, text};
use crate::{
    config::RetentionConfig,
    model::{NamespaceRecord, Time},
    store::{NamespaceChange, RequestKey, Scope},
};

/// The fields that the mask names.
fn change(
    namespace: &v1::Namespace,
    mask: Option<FieldMask>,
    allowed: &RetentionConfig,
) -> Result<NamespaceChange, ApiError> {
    let paths = mask.unwrap_or_default().paths;
    if paths.is_empty() {
        let message =
            "update_mask must name what to change: description, max_concurrency, rate, quota, log_retention, log_bytes";
        return Err(ApiError::invalid("update_mask", message));
    }
    let mut change = NamespaceChange::default();
    for path in paths {
        match path.as_str() {
            "description" => {
                change.description = Some(text("namespace.description", namespace.description.clone(), 1024)?);
            }
            "max_concurrency" => {
                change.max_concurrency = Some(concurrency("namespace.max_concurrency", namespace.max_concurrency)?);
            }
            "rate" => {
                let rate = namespace.rate.map(|rate| Rate::from_wire("namespace.rate", rate));
                change.rate = Some(rate.transpose()?);
            }
            "quota" => {
                let quota = namespace.quota.map(|quota| Quota::from_wire("namespace.quota", quota));
                change.quota = Some(quota.transpose()?);
            }
            "log_retention" => {
                let most = allowed.max_age();
                change.log_retention = Some(retention_age("namespace.log_retention", namespace.log_retention, most)?);
            }
            "log_bytes" => {
                let most = allowed.max_log_bytes;
                change.log_bytes = Some(retention_bytes("namespace.log_bytes", namespace.log_bytes, most)?);
            }
            other => {
                let other: String = other.chars().take(80).collect();
                let may = "description, max_concurrency, rate, quota, log_retention and log_bytes";
                let message = format!("update_mask names {other:?}; it may name {may}");
                return Err(ApiError::invalid("update_mask", message));
            }
        }
    }
    Ok(change)
}

#[tonic::async_trait]
impl NamespaceService for Desk {
    async fn create_namespace(
        &self,
        request: Request<v1::CreateNamespaceRequest>,
    ) -> Result<Response<v1::CreateNamespaceResponse>, Status> {
        let store = self.store(&request)?;
        let request = request.into_inner();
        let namespace: Namespace = name("namespace_id", &request.namespace_id)?;
        let description = text("description", request.description, 1024)?;
        let max_concurrency = concurrency("max_concurrency", request.max_concurrency)?;
        let rate = request.rate.map(|rate| Rate::from_wire("rate", rate)).transpose()?;
        let quota = request.quota.map(|quota| Quota::from_wire("quota", quota)).transpose()?;
        let app = self.app()?;
        let allowed = &app.allowed.retention;
        let retention = Retention {
            age: retention_age("log_retention", request.log_retention, allowed.max_age())?,
            log_bytes: retention_bytes("log_bytes", request.log_bytes, allowed.max_log_bytes)?,
        };
        let kept = if retention.is_set() { format!("{retention:?} ") } else { String::new() };
        let bounds = quota.map(|quota| format!("{quota:?} ")).unwrap_or_default();
        let payload = format!("{namespace} {max_concurrency:?} {rate:?} {bounds}{kept}{description}");
        let payload = Digest::of(payload.as_bytes());
        let key = |id| RequestKey { scope: Scope::Cluster, method: "CreateNamespace", id, payload };
        let key = request_id(&request.request_id)?.map(key);
        let (name, create_time) = (namespace, Time::now());
        let new = NamespaceRecord { name, description, create_time, max_concurrency, rate, quota, retention };
        let created = store.namespace_create(&new, key.as_ref()).await?;
        app.config_changed().await;
        let count = app.store.function_count(&created.name).await?;
        let namespace = Some(convert::namespace(&created, count));
        Ok(Response::new(v1::CreateNamespaceResponse { namespace }))
    }

    async fn get_namespace(
        &self,
        request: Request<v1::GetNamespaceRequest>,
    ) -> Result<Response<v1::GetNamespaceResponse>, Status> {
        let target: NamespaceRef = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        let found = app.store.namespace_fetch(&target.namespace).await?;
        let count = app.store.function_count(&target.namespace).await?;
        let quota_usage = quota_usage(&app, &LimitId::Namespace(target.namespace), found.quota).await?;
        let namespace = Some(v1::Namespace { quota_usage, ..convert::namespace(&found, count) });
        Ok(Response::new(v1::GetNamespaceResponse { namespace }))
    }

    async fn list_namespaces(
        &self,
        request: Request<v1::ListNamespacesRequest>,
    ) -> Result<Response<v1::ListNamespacesResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size)?;
        let after: String = page::read("namespaces", &request.page_token)?.unwrap_or_default();
        let app = self.app()?;
        let found = app.store.namespace_list(&after, beyond(size)).await?;
        let (found, next_page_token) = page::cut("namespaces", found, size, |namespace| namespace.name.to_string());
        let mut namespaces = Vec::with_capacity(found.len());
        for namespace in found {
            let count = app.store.function_count(&namespace.name).await?;
            namespaces.push(convert::namespace(&namespace, count));
        }
        Ok(Response::new(v1::ListNamespacesResponse { namespaces, next_page_token }))
    }

    async fn update_namespace(
        &self,
        request: Request<v1::UpdateNamespaceRequest>,
    ) -> Result<Response<v1::UpdateNamespaceResponse>, Status> {
        let store = self.store(&request)?;
        let v1::UpdateNamespaceRequest { namespace, update_mask } = request.into_inner();
        let namespace = namespace.unwrap_or_default();
        let target: NamespaceRef = name("namespace.name", &namespace.name)?;
        let app = self.app()?;
        let change = change(&namespace, update_mask, &app.allowed.retention)?;
        let changed = store.namespace_update(&target.namespace, &change).await?;
        app.config_changed().await;
        tracing::info!(namespace = %changed.name, max_concurrency = changed.max_concurrency, "a namespace has changed");
        let count = app.store.function_count(&changed.name).await?;
        Ok(Response::new(v1::UpdateNamespaceResponse { namespace: Some(convert::namespace(&changed, count)) }))
    }

    async fn delete_namespace(
        &self,
        request: Request<v1::DeleteNamespaceRequest>,
    ) -> Result<Response<v1::DeleteNamespaceResponse>, Status> {
        let target: NamespaceRef = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        self.store(&request)?.namespace_delete(&target.namespace).await?;
        app.config_changed().await;
        app.budgets.changed(&target.namespace).await;
        Ok(Response::new(v1::DeleteNamespaceResponse {}))
    }

    async fn set_webhook(
        &self,
        request: Request<v1::SetWebhookRequest>,
    ) -> Result<Response<v1::SetWebhookResponse>, Status> {
        self.webhook_set(request).await
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::GetWebhookResponse>, Status> {
        self.webhook_get(request).await
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<v1::RotateWebhookSecretRequest>,
    ) -> Result<Response<v1::RotateWebhookSecretResponse>, Status> {
        self.webhook_rotate(request).await
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        self.webhook_test(request).await
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<v1::DeleteWebhookResponse>, Status> {
        self.webhook_delete(request).await
    }
}
