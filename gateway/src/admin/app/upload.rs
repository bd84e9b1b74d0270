//! Uploads pass through: what a client sends goes on to the scheduler as fast as that takes it, and no faster is read.

use std::sync::{Arc, Mutex, PoisonError};

use dunlin_proto::{
    ApiError, ErrorCode, MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES,
    ids::Digest,
    names::NamespaceRef,
    v1::{self, upload_artifact_request::Part},
};
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;

use super::{App, from_scheduler, name, on_behalf};
use crate::{admin::access::Operation, auth::Principal};

type Message = v1::UploadArtifactRequest;

impl App {
    /// Uploads an artifact from a client's stream.
    pub(crate) async fn artifact_upload(
        &self,
        who: &Principal,
        mut messages: impl Stream<Item = Result<Message, ApiError>> + Send + Unpin + 'static,
    ) -> Result<v1::UploadArtifactResponse, ApiError> {
        let first = messages.next().await.transpose()?;
        let start = first.and_then(|message| message.part).and_then(|part| match part {
            Part::Start(start) => Some(start),
            Part::Chunk(_) => None,
        });
        let start = start.ok_or_else(|| ApiError::invalid("start", "the first message of an upload must be start"))?;
        let NamespaceRef { namespace } = name("start.parent", &start.parent)?;
        Operation::UploadArtifact.allow_in(who, &namespace)?;
        check(&start)?;
        let (body, broken) = pass(start, messages);
        let mut client = self.functions();
        // A client that breaks off takes the call to the scheduler with it: half an artifact is no artifact.
        tokio::select! {
            answer = client.upload_artifact(on_behalf(who, body)) => {
                answer.map(tonic::Response::into_inner).map_err(|status| from_scheduler(&status))
            }
            Ok(error) = broken => Err(error),
        }
    }
}

/// Refuses at once what can't become an artifact.
fn check(start: &v1::ArtifactStart) -> Result<(), ApiError> {
    name::<Digest>("start.digest", &start.digest)?;
    if start.size_bytes > MAX_ARTIFACT_BYTES {
        let message = format!("the artifact has {} bytes but may have {MAX_ARTIFACT_BYTES} at most", start.size_bytes);
        let error = ApiError::new(ErrorCode::PayloadTooLarge, message).hint("strip debug information from it");
        return Err(ApiError { field: Some("start.size_bytes".to_owned()), ..error });
    }
    Ok(())
}

/// The stream for the scheduler, and what broke the client's stream, if anything does.
fn pass(
    start: v1::ArtifactStart,
    messages: impl Stream<Item = Result<Message, ApiError>> + Send + Unpin + 'static,
) -> (impl Stream<Item = Message> + Send + 'static, oneshot::Receiver<ApiError>) {
    let (tell, broken) = oneshot::channel();
    let size = start.size_bytes;
    // A client that goes away ends its stream like one that is done.
    let messages = messages.map(Some).chain(futures::stream::iter([None]));
    let first = Message { part: Some(Part::Start(start)) };
    let tell = Arc::new(Mutex::new(Some(tell)));
    let rest = messages.scan(0, move |sent, message| {
        let checked = match message {
            Some(message) => message.and_then(|message| checked(message, sent, size)).map(Some),
            None => ended(*sent, size).map(|()| None),
        };
        let tell = tell.clone();
        async move {
            match checked {
                Ok(message) => message,
                Err(error) => {
                    let tell = tell.lock().unwrap_or_else(PoisonError::into_inner).take();
                    // Nobody listens any more where the scheduler has answered already.
                    let _ = tell.map(|tell| tell.send(error));
                    // The end of the stream would look like the end of the artifact.
                    std::future::pending().await
                }
            }
        }
    });
    (futures::stream::iter([first]).chain(rest), broken)
}

/// Lets a stream end that was whole; one that brought nothing is for the scheduler, which may have the artifact.
fn ended(sent: u64, size: u64) -> Result<(), ApiError> {
    if sent == 0 || sent == size {
        return Ok(());
    }
    Err(ApiError::invalid("chunk", format!("the upload ended after {sent} of {size} bytes")))
}

/// Passes a chunk that is one, and within what was announced.
fn checked(message: Message, sent: &mut u64, size: u64) -> Result<Message, ApiError> {
    let Some(Part::Chunk(chunk)) = &message.part else {
        return Err(ApiError::invalid("chunk", "every message after the first must be a chunk"));
    };
    if chunk.len() > MAX_CHUNK_BYTES {
        let message = format!("a chunk has {} bytes but may have {MAX_CHUNK_BYTES} at most", chunk.len());
        return Err(ApiError::invalid("chunk", message));
    }
    *sent += chunk.len() as u64;
    if *sent > size {
        return Err(ApiError::invalid("chunk", format!("more than the announced {size} bytes were sent")));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize) -> Result<Message, ApiError> {
        Ok(Message { part: Some(Part::Chunk(vec![0; bytes].into())) })
    }

    fn start(size_bytes: u64) -> v1::ArtifactStart {
        v1::ArtifactStart { parent: "namespaces/shop".into(), digest: Digest::of(b"").to_string(), size_bytes }
    }

    #[tokio::test]
    async fn chunks_pass_and_a_whole_upload_ends() {
        let (body, mut broken) = pass(start(3), futures::stream::iter([chunk(2), chunk(1)]));
        assert_eq!(body.count().await, 3);
        assert!(broken.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_upload_never_looks_like_a_whole_one() {
        let gone = Err(ApiError::new(ErrorCode::Cancelled, "gone"));
        let twice = Ok(Message { part: Some(Part::Start(start(3))) });
        let bad = [vec![gone], vec![twice], vec![chunk(MAX_CHUNK_BYTES + 1)], vec![chunk(4)], vec![chunk(1)]];
        for messages in bad {
            let passed = if messages == [chunk(1)] { 2 } else { 1 };
            let (body, broken) = pass(start(3), futures::stream::iter(messages));
            let mut body = Box::pin(body);
            for _ in 0..passed {
                assert!(body.next().await.is_some());
            }
            let waited = tokio::time::timeout(std::time::Duration::from_secs(60), body.next()).await;
            assert!(waited.is_err());
            assert!(broken.await.is_ok());
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_sent() {
        assert_eq!(check(&start(MAX_ARTIFACT_BYTES + 1)).unwrap_err().code, ErrorCode::PayloadTooLarge);
        assert!(check(&start(MAX_ARTIFACT_BYTES)).is_ok());
        let bad = v1::ArtifactStart { digest: "md5:1".into(), ..start(1) };
        assert_eq!(check(&bad).unwrap_err().field.as_deref(), Some("start.digest"));
    }
}
