//! Uploads pass through the gateway: whole, broken off, and no faster than the scheduler takes them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dunlin_proto::{
    ids::Digest,
    v1::{
        self, ArtifactStart, UploadArtifactRequest, function_service_client::FunctionServiceClient,
        upload_artifact_request::Part,
    },
};
use futures::{Stream, StreamExt, stream};
use tonic::{Code, Request, Response, Status};

use super::world::World;

const CHUNK: usize = 256 << 10;

fn start(size_bytes: u64) -> UploadArtifactRequest {
    let digest = Digest::of(b"x").to_string();
    let start = ArtifactStart { parent: "namespaces/shop".to_owned(), digest, size_bytes };
    UploadArtifactRequest { part: Some(Part::Start(start)) }
}

fn chunk(bytes: usize) -> UploadArtifactRequest {
    UploadArtifactRequest { part: Some(Part::Chunk(vec![7; bytes].into())) }
}

async fn upload(
    world: &World,
    messages: impl Stream<Item = UploadArtifactRequest> + Send + 'static,
) -> Result<Response<v1::UploadArtifactResponse>, Status> {
    let mut request = Request::new(messages);
    let token = world.tokens.with(&[("shop", "developer")]);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    FunctionServiceClient::new(world.channel().await).upload_artifact(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_arrives_whole() {
    let world = World::new().await;
    let messages = [start(2 * CHUNK as u64 + 1), chunk(CHUNK), chunk(CHUNK), chunk(1)];
    let answer = upload(&world, stream::iter(messages)).await.unwrap().into_inner();
    assert!(!answer.already_present);
    assert_eq!(world.scheduler.state().uploaded, 2 * CHUNK + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_upload_is_refused_and_never_looks_whole() {
    let world = World::new().await;
    let mut start_elsewhere = start(1);
    if let Some(Part::Start(start)) = &mut start_elsewhere.part {
        start.parent = "namespaces/bank".to_owned();
    }
    for (what, messages, code) in [
        ("nothing", vec![], Code::InvalidArgument),
        ("no start", vec![chunk(1)], Code::InvalidArgument),
        ("a second start", vec![start(9), start(9)], Code::InvalidArgument),
        ("a chunk that is too large", vec![start(1 << 20), chunk(CHUNK + 1)], Code::InvalidArgument),
        ("less than announced", vec![start(3), chunk(2)], Code::InvalidArgument),
        ("more than announced", vec![start(3), chunk(4)], Code::InvalidArgument),
        ("a file that is too large", vec![start(100 << 20)], Code::OutOfRange),
        ("a foreign namespace", vec![start_elsewhere, chunk(1)], Code::NotFound),
    ] {
        let refused = upload(&world, stream::iter(messages)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused:?}");
    }
    assert_eq!(world.scheduler.state().uploaded, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_read_no_faster_than_the_scheduler_takes_it() {
    let world = World::new().await;
    world.scheduler.state().stalled = true;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let chunks = 160;
    let body = stream::iter(0..chunks).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        chunk(CHUNK)
    });
    let messages = stream::iter([start((chunks * CHUNK) as u64)]).chain(body);
    let scheduler = world.scheduler.clone();
    let seen = sent.clone();
    let release = async move {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let held_back = seen.load(Ordering::Relaxed);
        scheduler.state().stalled = false;
        held_back
    };
    let (answer, held_back) = tokio::join!(upload(&world, messages), release);
    answer.unwrap();
    // 40 MiB were offered; only what fits into windows and buffers on the way was taken.
    assert!(held_back < 40, "{held_back} chunks were taken while nobody read them");
    assert_eq!(world.scheduler.state().uploaded, chunks * CHUNK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_its_client_breaks_off_is_not_an_artifact() {
    let world = World::new().await;
    let messages = stream::iter([start(3 * CHUNK as u64), chunk(CHUNK)]).chain(stream::pending());
    let broken = tokio::time::timeout(Duration::from_millis(500), upload(&world, messages)).await;
    assert!(broken.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.scheduler.state().uploaded, 0);
}
