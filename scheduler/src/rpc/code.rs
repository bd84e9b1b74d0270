//! `ArtifactService`: compiled code for workers.

use std::pin::Pin;

use dunlin_proto::{
    ApiError, MAX_CHUNK_BYTES,
    internal::v1::{FetchCodeRequest, FetchCodeResponse, artifact_service_server::ArtifactService},
};
use futures::{Stream, StreamExt};
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status};

use super::Desk;
use crate::error::Error;

#[tonic::async_trait]
impl ArtifactService for Desk {
    type FetchCodeStream = Pin<Box<dyn Stream<Item = Result<FetchCodeResponse, Status>> + Send>>;

    async fn fetch_code(&self, request: Request<FetchCodeRequest>) -> Result<Response<Self::FetchCodeStream>, Status> {
        let key = request.into_inner().key;
        if key.len() != 64 || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ApiError::invalid("key", "key must have 64 hexadecimal digits").into());
        }
        let (_, file) = self.app()?.codes.open(&key).await?;
        let chunks = ReaderStream::with_capacity(file, MAX_CHUNK_BYTES)
            .map(|chunk| chunk.map(|chunk| FetchCodeResponse { chunk }).map_err(|error| Error::from(error).into()));
        Ok(Response::new(Box::pin(chunks)))
    }
}
