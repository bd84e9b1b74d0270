//! The simulated FunctionService.

use std::pin::Pin;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Digest,
    v1::{
        self, create_version_response::Event, function_service_server::FunctionService, upload_artifact_request::Part,
    },
};
use futures::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{Fake, ago};

type Answer<T> = Result<Response<T>, Status>;

impl Fake {
    fn function(&self, name: &str) -> Result<v1::Function, Status> {
        let found = self.state().functions.get(name).cloned();
        found.ok_or_else(|| ApiError::not_found(format!("function {name}")).into())
    }

    /// Makes the version, once for each request id.
    fn create(&self, request: &v1::CreateVersionRequest) -> Result<v1::Version, Status> {
        let mut state = self.state();
        state.created.push(request.clone());
        if state.unavailable > 0 {
            state.unavailable -= 1;
            return Err(ApiError::new(ErrorCode::Unavailable, "the scheduler is away").into());
        }
        if let Some(refusal) = state.refusal.take() {
            return Err(refusal.into());
        }
        let size = state.artifacts.get(&request.artifact_digest).map(|bytes| bytes.len() as u64);
        let size = size.ok_or_else(|| Status::from(ApiError::not_found("artifact")))?;
        let versions = state.versions.entry(request.parent.clone()).or_default();
        let number = versions.len() as u32 + 1;
        let version = v1::Version {
            name: format!("{}/versions/{number}", request.parent),
            number,
            artifact_digest: request.artifact_digest.clone(),
            artifact_size_bytes: size,
            kind: v1::FunctionKind::Http02.into(),
            spec: request.spec.clone(),
            create_time: ago(300),
            creator: "zoe".into(),
            note: request.note.clone(),
            compiled_size_bytes: 92_058,
            ..Default::default()
        };
        versions.insert(0, version.clone());
        let function = state.functions.entry(request.parent.clone()).or_insert_with(|| v1::Function {
            name: request.parent.clone(),
            uid: "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b".into(),
            create_time: ago(10_800),
            urls: vec![format!(
                "http://127.0.0.1:8080/{}/",
                request.parent.replace("namespaces/", "").replace("functions/", "")
            )],
            ..Default::default()
        });
        function.public = request.public.unwrap_or(function.public);
        function.description = request.description.clone().unwrap_or(function.description.clone());
        function.latest_version = number;
        function.update_time = ago(300);
        if !request.hold_traffic {
            function.traffic = vec![v1::TrafficTarget { version: number, percent: 100 }];
        }
        Ok(version)
    }
}

#[tonic::async_trait]
impl FunctionService for Fake {
    type CreateVersionStream = Pin<Box<dyn Stream<Item = Result<v1::CreateVersionResponse, Status>> + Send>>;

    async fn list_functions(&self, request: Request<v1::ListFunctionsRequest>) -> Answer<v1::ListFunctionsResponse> {
        let request = request.into_inner();
        let state = self.state();
        // Pages of two, so that the command has to turn them.
        let mut names = state.functions.iter().filter(|(name, _)| name.starts_with(&format!("{}/", request.parent)));
        let after = names.by_ref().skip_while(|(name, _)| **name <= request.page_token);
        let mut page: Vec<_> = after.map(|(_, function)| function.clone()).take(3).collect();
        let more = page.len() == 3;
        page.truncate(2);
        let next_page_token = if more { page[1].name.clone() } else { String::new() };
        Ok(Response::new(v1::ListFunctionsResponse { functions: page, next_page_token }))
    }

    async fn get_function(&self, request: Request<v1::GetFunctionRequest>) -> Answer<v1::GetFunctionResponse> {
        let function = self.function(&request.into_inner().name)?;
        Ok(Response::new(v1::GetFunctionResponse { function: Some(function) }))
    }

    async fn update_function(&self, request: Request<v1::UpdateFunctionRequest>) -> Answer<v1::UpdateFunctionResponse> {
        let v1::UpdateFunctionRequest { function, update_mask } = request.into_inner();
        let wanted = function.unwrap_or_default();
        let mut function = self.function(&wanted.name)?;
        if update_mask.unwrap_or_default().paths != ["disabled"] {
            return Err(Status::unimplemented("no command changes anything else"));
        }
        function.disabled = wanted.disabled;
        self.state().functions.insert(wanted.name, function.clone());
        Ok(Response::new(v1::UpdateFunctionResponse { function: Some(function), ..Default::default() }))
    }

    async fn delete_function(&self, request: Request<v1::DeleteFunctionRequest>) -> Answer<v1::DeleteFunctionResponse> {
        let name = request.into_inner().name;
        self.function(&name)?;
        let mut state = self.state();
        state.functions.remove(&name);
        state.deleted.push(name);
        Ok(Response::new(v1::DeleteFunctionResponse::default()))
    }

    async fn rollback_function(
        &self,
        request: Request<v1::RollbackFunctionRequest>,
    ) -> Answer<v1::RollbackFunctionResponse> {
        let request = request.into_inner();
        let mut function = self.function(&request.name)?;
        let version = if request.version == 0 { function.latest_version - 1 } else { request.version };
        function.traffic = vec![v1::TrafficTarget { version, percent: 100 }];
        let mut state = self.state();
        state.functions.insert(request.name.clone(), function.clone());
        state.rollbacks.push(request);
        Ok(Response::new(v1::RollbackFunctionResponse { function: Some(function), version, ..Default::default() }))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Answer<v1::UploadArtifactResponse> {
        let mut stream = request.into_inner();
        let Some(Part::Start(start)) = stream.message().await?.and_then(|message| message.part) else {
            return Err(ApiError::invalid("part", "the first message must be start").into());
        };
        let answer = |already_present| {
            let (digest, size_bytes) = (start.digest.clone(), start.size_bytes);
            Ok(Response::new(v1::UploadArtifactResponse { digest, size_bytes, already_present }))
        };
        if self.state().artifacts.contains_key(&start.digest) {
            return answer(true);
        }
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(ApiError::invalid("part", "it must be a chunk").into());
            };
            let mut state = self.state();
            state.largest_chunk = state.largest_chunk.max(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        if Digest::of(&bytes).to_string() != start.digest || bytes.len() as u64 != start.size_bytes {
            return Err(ApiError::invalid("digest", "the bytes are others").into());
        }
        self.state().artifacts.insert(start.digest.clone(), bytes);
        answer(false)
    }

    async fn create_version(&self, request: Request<v1::CreateVersionRequest>) -> Answer<Self::CreateVersionStream> {
        let request = request.into_inner();
        if request.dry_run {
            let known = self.state().previews.get(&request.parent).cloned().map(Event::Preview);
            let event = Some(known.unwrap_or_else(preview));
            let events = stream::iter([Ok(v1::CreateVersionResponse { event })]);
            return Ok(Response::new(Box::pin(events)));
        }
        let version = self.create(&request)?;
        let stages = [v1::DeployStage::Compiling, v1::DeployStage::Placing]
            .map(|stage| Event::Progress(v1::DeployProgress { stage: stage.into(), message: String::new() }));
        let events = stages.into_iter().chain([Event::Version(version)]);
        let events = events.map(|event| Ok(v1::CreateVersionResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(stream::iter(events.collect::<Vec<_>>()))))
    }

    async fn get_version(&self, _: Request<v1::GetVersionRequest>) -> Answer<v1::GetVersionResponse> {
        Err(Status::unimplemented("no command asks for one version"))
    }

    async fn list_versions(&self, request: Request<v1::ListVersionsRequest>) -> Answer<v1::ListVersionsResponse> {
        let parent = request.into_inner().parent;
        self.function(&parent)?;
        let versions = self.state().versions.get(&parent).cloned().unwrap_or_default();
        Ok(Response::new(v1::ListVersionsResponse { versions, next_page_token: String::new() }))
    }
}

/// What a deploy would change.
fn preview() -> Event {
    let difference = v1::Difference {
        subject: "functions/hello".to_owned(),
        field: "traffic".to_owned(),
        before: "v2=100".to_owned(),
        after: "v3=100".to_owned(),
    };
    Event::Preview(v1::DeployPreview {
        version: 3,
        differences: vec![difference],
        needs_allow_new_capabilities: true,
        ..Default::default()
    })
}
