//! `FunctionService`: functions, versions, uploads, deploys.

use std::pin::Pin;

use dunlin_proto::{
    ApiError,
    audit::Author,
    ids::{Digest, VersionNumber},
    limit::LimitId,
    metadata,
    names::{FunctionRef, NamespaceRef, VersionName},
    v1::{self, create_version_response::Event, function_service_server::FunctionService},
};
use futures::Stream;
use prost_types::FieldMask;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::{Desk, aliases::shares, author, convert, name, page, plans::quota_usage, request_id, text, upload};
use crate::{
    deploy::{Deploy, Outcome, Progress, Stage},
    error::Error,
    store::{FunctionChange, RequestKey, Scope},
};

#[tonic::async_trait]
impl FunctionService for Desk {
    async fn list_functions(
        &self,
        request: Request<v1::ListFunctionsRequest>,
    ) -> Result<Response<v1::ListFunctionsResponse>, Status> {
        let request = request.into_inner();
        let namespace = name::<NamespaceRef>("parent", &request.parent)?.namespace;
        let (size, list) = (page::size(request.page_size)?, format!("functions/{namespace}"));
        let after: String = page::read(&list, &request.page_token)?.unwrap_or_default();
        let found = self.app()?.store.function_list(&namespace, &after, beyond(size)).await?;
        let (found, next_page_token) = page::cut(&list, found, size, |function| function.name.to_string());
        let functions = found.iter().map(convert::function).collect();
        Ok(Response::new(v1::ListFunctionsResponse { functions, next_page_token }))
    }

    async fn get_function(
        &self,
        request: Request<v1::GetFunctionRequest>,
    ) -> Result<Response<v1::GetFunctionResponse>, Status> {
        let function = name("name", &request.get_ref().name)?;
        let app = self.app()?;
        let found = app.store.function_fetch(&function).await?;
        let owner = LimitId::Function(found.uid);
        let quota = app.catalog.current().quota(&owner);
        let quota_usage = quota_usage(&app, &owner, quota).await?;
        let function = Some(v1::Function { quota_usage, ..convert::function(&found) });
        Ok(Response::new(v1::GetFunctionResponse { function }))
    }

    async fn update_function(
        &self,
        request: Request<v1::UpdateFunctionRequest>,
    ) -> Result<Response<v1::UpdateFunctionResponse>, Status> {
        let store = self.store(&request)?;
        let v1::UpdateFunctionRequest { function, update_mask } = request.into_inner();
        let function = function.ok_or_else(|| ApiError::invalid("function", "function is missing"))?;
        let target = name("function.name", &function.name)?;
        let change = change(&function, update_mask)?;
        let app = self.app()?;
        let updated = store.function_update(&target, &function.etag, &change).await?;
        // What callers get at once is waited for.
        let lagging_gateways = if change.traffic.is_some() || change.disabled.is_some() {
            app.config_acknowledged().await
        } else {
            app.config_changed().await;
            Vec::new()
        };
        let function = Some(convert::function(&updated));
        Ok(Response::new(v1::UpdateFunctionResponse { function, lagging_gateways }))
    }

    async fn delete_function(
        &self,
        request: Request<v1::DeleteFunctionRequest>,
    ) -> Result<Response<v1::DeleteFunctionResponse>, Status> {
        let store = self.store(&request)?;
        let request = request.into_inner();
        let app = self.app()?;
        store.function_delete(&name("name", &request.name)?, &request.etag).await?;
        let lagging_gateways = app.config_acknowledged().await;
        Ok(Response::new(v1::DeleteFunctionResponse { lagging_gateways }))
    }

    async fn rollback_function(
        &self,
        request: Request<v1::RollbackFunctionRequest>,
    ) -> Result<Response<v1::RollbackFunctionResponse>, Status> {
        let (actor, store) = (metadata::actor(&request), self.store(&request)?);
        let v1::RollbackFunctionRequest { name: function, version, reason, request_id: id } = request.into_inner();
        let function: FunctionRef = name("name", &function)?;
        let reason = text("reason", reason, 1024)?;
        let version = (version > 0).then(|| VersionNumber::try_from(version)).transpose();
        let version = version.map_err(|error| ApiError::invalid("version", error))?;
        let payload = Digest::of(format!("{function} {version:?} {reason}").as_bytes());
        let scope = Scope::Namespace(function.namespace.clone());
        let key = request_id(&id)?.map(|id| RequestKey { scope, method: "RollbackFunction", id, payload });
        let app = self.app()?;
        let (rolled, version) = store.function_roll_back(&function, version, key.as_ref(), &reason).await?;
        let lagging_gateways = app.config_acknowledged().await;
        tracing::info!(namespace = %function.namespace, function = %function.function, version = version.get(), actor, reason, "rolled back");
        let function = Some(convert::function(&rolled));
        Ok(Response::new(v1::RollbackFunctionResponse { function, version: version.get(), lagging_gateways }))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Result<Response<v1::UploadArtifactResponse>, Status> {
        let store = self.store(&request)?;
        Ok(Response::new(upload::receive(self, &store, request.into_inner()).await?))
    }

    type CreateVersionStream = Pin<Box<dyn Stream<Item = Result<v1::CreateVersionResponse, Status>> + Send>>;

    async fn create_version(
        &self,
        request: Request<v1::CreateVersionRequest>,
    ) -> Result<Response<Self::CreateVersionStream>, Status> {
        let author = author(&request);
        let request = request.into_inner();
        let id = request_id(&request.request_id)?;
        let progress = self.app()?.deploys.begin(deploy(request, author)?, id)?;
        Ok(Response::new(Box::pin(events(progress))))
    }

    async fn get_version(
        &self,
        request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let version: VersionName = name("name", &request.get_ref().name)?;
        let version = Some(convert::version(&self.app()?.store.version_fetch(&version).await?));
        Ok(Response::new(v1::GetVersionResponse { version }))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let request = request.into_inner();
        let function: FunctionRef = name("parent", &request.parent)?;
        let (size, list) = (page::size(request.page_size)?, format!("versions/{function}"));
        let before = page::read(&list, &request.page_token)?.unwrap_or(i64::MAX);
        let found = self.app()?.store.version_list(&function, before, beyond(size)).await?;
        let (found, next_page_token) = page::cut(&list, found, size, |version| i64::from(version.number.get()));
        let versions = found.iter().map(convert::version).collect();
        Ok(Response::new(v1::ListVersionsResponse { versions, next_page_token }))
    }
}

/// One entry more than the page has tells whether there is another page.
pub(super) fn beyond(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}

/// The fields that the mask names.
fn change(function: &v1::Function, mask: Option<FieldMask>) -> Result<FunctionChange, ApiError> {
    let paths = mask.unwrap_or_default().paths;
    if paths.is_empty() {
        let message = "update_mask must name what to change: description, public, traffic, direct, disabled";
        return Err(ApiError::invalid("update_mask", message));
    }
    let mut change = FunctionChange::default();
    for path in paths {
        match path.as_str() {
            "description" => {
                change.description = Some(text("function.description", function.description.clone(), 1024)?);
            }
            "public" => change.public = Some(function.public),
            "direct" => change.direct = Some(function.direct),
            "disabled" => change.disabled = Some(function.disabled),
            "traffic" => change.traffic = Some(shares("function.traffic", &function.traffic)?),
            other => {
                let other: String = other.chars().take(80).collect();
                let message = format!(
                    "update_mask names {other:?}; it may name description, public, traffic, direct and disabled"
                );
                return Err(ApiError::invalid("update_mask", message));
            }
        }
    }
    Ok(change)
}

fn deploy(request: v1::CreateVersionRequest, author: Author) -> Result<Deploy, ApiError> {
    let canary = canary(request.canary_percent, request.hold_traffic)?;
    if request.load && !request.hold_traffic {
        return Err(ApiError::invalid("load", "load belongs to hold_traffic: a version with traffic is loaded anyway"));
    }
    let description = request.description.map(|description| text("description", description, 1024)).transpose()?;
    Ok(Deploy {
        function: name("parent", &request.parent)?,
        artifact: name("artifact_digest", &request.artifact_digest)?,
        spec: request.spec.unwrap_or_default().try_into()?,
        public: request.public,
        direct: request.direct,
        description,
        note: text("note", request.note, 1024)?,
        hold_traffic: request.hold_traffic,
        allow_new_capabilities: request.allow_new_capabilities,
        canary,
        dry_run: request.dry_run,
        load: request.load,
        creator: author.subject.clone(),
        author,
    })
}

/// How many percent of the traffic a new version gets.
pub(super) fn canary(percent: Option<u32>, hold_traffic: bool) -> Result<Option<u32>, ApiError> {
    let wrong = |message: String| Err(ApiError::invalid("canary_percent", message));
    match percent {
        Some(_) if hold_traffic => wrong("a version gets a part of the traffic, or none: not both".to_owned()),
        Some(percent) if !(1..=99).contains(&percent) => {
            wrong(format!("canary_percent is {percent} but must lie between 1 and 99"))
        }
        percent => Ok(percent),
    }
}

/// Every stage once, then how it ended.
fn events(
    mut progress: watch::Receiver<Progress>,
) -> impl Stream<Item = Result<v1::CreateVersionResponse, Status>> + Send {
    async_stream::stream! {
        let (mut told, mut shown) = (0, false);
        loop {
            let now = progress.borrow_and_update().clone();
            if let Some(changes) = now.changes.filter(|_| !shown) {
                shown = true;
                yield Ok(v1::CreateVersionResponse { event: Some(Event::Capabilities(changes.to_wire())) });
            }
            for (stage, message) in now.stages.into_iter().skip(told) {
                told += 1;
                let progress = v1::DeployProgress { stage: to_wire(stage).into(), message };
                yield Ok(v1::CreateVersionResponse { event: Some(Event::Progress(progress)) });
            }
            match now.outcome {
                Some(Ok(outcome)) => {
                    let event = match outcome {
                        Outcome::Version(version) => Event::Version(convert::version(&version)),
                        Outcome::Preview(preview) => Event::Preview(convert::preview(preview)),
                    };
                    yield Ok(v1::CreateVersionResponse { event: Some(event) });
                    return;
                }
                Some(Err(error)) => {
                    yield Err(error.into());
                    return;
                }
                None => {}
            }
            if progress.changed().await.is_err() {
                yield Err(Error::from(ApiError::internal()).into());
                return;
            }
        }
    }
}

fn to_wire(stage: Stage) -> v1::DeployStage {
    match stage {
        Stage::Queued => v1::DeployStage::Queued,
        Stage::Compiling => v1::DeployStage::Compiling,
        Stage::Storing => v1::DeployStage::Storing,
        Stage::Placing => v1::DeployStage::Placing,
        Stage::Activating => v1::DeployStage::Activating,
    }
}
