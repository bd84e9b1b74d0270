//! `ArtifactService` of a worker: gives what is in its cache to other workers, which trust nothing of it but the seal.

use std::{pin::Pin, sync::Arc};

use dunlin_proto::{
    ApiError, ErrorCode, MAX_CHUNK_BYTES,
    internal::v1::{FetchCodeRequest, FetchCodeResponse, artifact_service_server::ArtifactService},
};
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status};

use super::{Artifacts, inspect, is_key};

/// Workers that are served at a time: the first duty is to callers.
const MOST: usize = 8;

/// Serves the cache. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct CodeService {
    artifacts: Arc<Artifacts>,
    places: Arc<Semaphore>,
}

impl CodeService {
    pub(crate) fn new(artifacts: Arc<Artifacts>) -> Self {
        Self { artifacts, places: Arc::new(Semaphore::new(MOST)) }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let busy = |_| ApiError::new(ErrorCode::Unavailable, format!("{MOST} workers are being served already"));
        self.places.clone().try_acquire_owned().map_err(busy)
    }
}

#[tonic::async_trait]
impl ArtifactService for CodeService {
    type FetchCodeStream = Pin<Box<dyn Stream<Item = Result<FetchCodeResponse, Status>> + Send>>;

    async fn fetch_code(&self, request: Request<FetchCodeRequest>) -> Result<Response<Self::FetchCodeStream>, Status> {
        let key = request.into_inner().key;
        if !is_key(&key) {
            return Err(ApiError::invalid("key", "key must have 64 hexadecimal digits").into());
        }
        let place = self.place()?;
        let path = self.artifacts.folder.join(&key);
        let opened =
            tokio::task::spawn_blocking(move || inspect::open(&path)).await.map_err(|_| ApiError::internal())?;
        let file = opened.map_err(|_| ApiError::not_found(format!("compiled code {key}")))?;
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), MAX_CHUNK_BYTES).map(move |chunk| {
            // Kept until the last byte is read.
            let _ = &place;
            chunk.map(|chunk| FetchCodeResponse { chunk }).map_err(|error| Status::data_loss(error.to_string()))
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}
