//! Uploads, who may use them, and code that is damaged or of an engine of before.

use std::fs;

use dunlin_proto::{
    ErrorCode, MAX_CHUNK_BYTES,
    ids::Digest,
    internal::v1::FetchCodeRequest,
    seal,
    v1::{self, UploadArtifactRequest},
};

use crate::harness::{Cluster, HEAD, SimGateway, SimWorker, chunk, create, refused, start, worker_hello};

const TILL: &str = "namespaces/default/functions/till";

#[tokio::test]
async fn an_upload_is_read_once_for_each_namespace() {
    let cluster = Cluster::start().await;
    cluster.namespace("other").await;
    let digest = cluster.upload("default", "hello").await;
    let body = [HEAD, b"hello"].concat();
    // There already: answered after the first message, whatever follows.
    let again = cluster.send_upload(vec![start("default", digest, body.len() as u64)]).await.unwrap();
    assert!(again.already_present && again.size_bytes == body.len() as u64);
    // t46: for another namespace it is not there, and can't be used.
    let error = cluster.deploy(create("namespaces/other/functions/till", digest)).await.1.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let error = cluster.send_upload(vec![start("other", digest, body.len() as u64)]).await.unwrap_err();
    assert!(error.message.contains("after 0 of 13 bytes"), "{error}");
    let other = cluster.send_upload(vec![start("other", digest, body.len() as u64), chunk(&body)]).await.unwrap();
    assert!(!other.already_present);
}

#[tokio::test]
async fn an_upload_out_of_order_or_bounds_is_refused() {
    let cluster = Cluster::start().await;
    let digest = Digest::of(b"hello");
    let code = |parts: Vec<UploadArtifactRequest>| async {
        let error = cluster.send_upload(parts).await.unwrap_err();
        (error.code, error.field.unwrap_or_default())
    };
    use ErrorCode::InvalidArgument as Invalid;
    assert_eq!(code(vec![]).await, (Invalid, "start".into()));
    assert_eq!(code(vec![chunk(b"hello")]).await, (Invalid, "start".into()));
    assert_eq!(code(vec![UploadArtifactRequest { part: None }]).await, (Invalid, "part".into()));
    assert_eq!(code(vec![start("default", digest, 5), start("default", digest, 5)]).await, (Invalid, "start".into()));
    assert_eq!(code(vec![start("default", digest, 5), chunk(b"jello")]).await, (Invalid, "start.digest".into()));
    assert_eq!(code(vec![start("default", digest, 5), chunk(b"hello!")]).await, (Invalid, "chunk".into()));
    assert_eq!(code(vec![start("default", digest, 5), chunk(b"hel")]).await, (Invalid, "chunk".into()));
    assert_eq!(code(vec![start("../x", digest, 5)]).await, (Invalid, "start.parent".into()));
    let large = vec![0; MAX_CHUNK_BYTES + 1];
    assert_eq!(code(vec![start("default", digest, 1 << 20), chunk(&large)]).await, (Invalid, "chunk".into()));
    assert_eq!(code(vec![start("nowhere", digest, 5)]).await.0, ErrorCode::NotFound);
    // 100 MB: refused at the first message, without reading one byte.
    assert_eq!(code(vec![start("default", digest, 100_000_000)]).await.0, ErrorCode::PayloadTooLarge);
    // The compiler may have a folder there for as long as it is asked what it compiles for.
    let left = |cluster: &Cluster| fs::read_dir(cluster.config.data_dir.join("unfinished")).unwrap().count();
    cluster.eventually("nothing is left of what was refused", async |cluster| left(cluster) == 0).await;
}

#[tokio::test]
async fn t23_damaged_code_is_compiled_anew_when_it_is_fetched() {
    let cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    cluster.deployed(TILL, "hello").await;
    let code = worker.held()[0].code.clone().unwrap();
    let stored = cluster.config.data_dir.join("objects/code").join(&code.key);
    let whole = fs::read(&stored).unwrap();
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    for damage in [Some(flipped), Some(whole[..4].to_vec()), None] {
        match damage {
            Some(bytes) => fs::write(&stored, bytes).unwrap(),
            None => fs::remove_file(&stored).unwrap(),
        }
        let fetched = fetch(&cluster, &code.key).await.unwrap();
        seal::verify_body(&code, &fetched).unwrap();
    }
    assert_eq!(cluster.compiled(), 4);
    refused(fetch(&cluster, &"0".repeat(64)).await, ErrorCode::NotFound);
    refused(fetch(&cluster, "../../keys/code.pk8").await, ErrorCode::InvalidArgument);
}

async fn fetch(cluster: &Cluster, key: &str) -> Result<Vec<u8>, tonic::Status> {
    let mut chunks = cluster.codes().fetch_code(FetchCodeRequest { key: key.into() }).await?.into_inner();
    let mut body = vec![];
    while let Some(chunk) = chunks.message().await? {
        body.extend_from_slice(&chunk.chunk);
    }
    Ok(body)
}

#[tokio::test]
async fn a_lost_artifact_is_asked_for_again() {
    let cluster = Cluster::start().await;
    let digest = cluster.upload("default", "hello").await;
    fs::write(cluster.config.data_dir.join("objects/artifacts").join(digest.hex()), b"damaged").unwrap();
    let error = cluster.deploy(create(TILL, digest)).await.1.unwrap_err();
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert!(error.hint.unwrap().contains("upload it again"));
    cluster.upload("default", "hello").await;
    cluster.deploy(create(TILL, digest)).await.1.unwrap();
}

#[tokio::test]
async fn code_whose_artifact_is_lost_too_says_so_until_it_is_uploaded_again() {
    let cluster = Cluster::start().await;
    let worker = SimWorker::join(&cluster, "w1").await;
    cluster.deployed(TILL, "hello").await;
    let code = worker.held()[0].code.clone().unwrap();
    let objects = cluster.config.data_dir.join("objects");
    fs::remove_file(objects.join("code").join(&code.key)).unwrap();
    fs::remove_file(objects.join("artifacts").join(&code.artifact)).unwrap();
    for _ in 0..2 {
        let error = refused(fetch(&cluster, &code.key).await, ErrorCode::FailedPrecondition);
        assert!(error.message.contains(&code.artifact) && error.message.contains("missing"), "{error}");
        assert!(error.hint.unwrap().contains("upload it again"));
    }
    cluster.upload("default", "hello").await;
    seal::verify_body(&code, &fetch(&cluster, &code.key).await.unwrap()).unwrap();
}

#[tokio::test]
async fn an_upgrade_compiles_for_the_new_engine_while_old_workers_go_on() {
    let mut cluster = Cluster::start().await;
    let old = SimWorker::join(&cluster, "old").await;
    cluster.deployed(TILL, "hello").await;
    fs::write(cluster.compiler_file("engine"), "engine-2").unwrap();
    cluster.restart().await;
    let gateway = SimGateway::connect(&cluster, "g1").await;
    let _new =
        SimWorker::join_with(&cluster, worker_hello("new", "1", "engine-2")).await.unwrap_or_else(|e| panic!("{e}"));
    gateway.eventually(&cluster, "both have it", |g| g.endpoints(1) == ["new/0", "old/0"]).await;
    assert_eq!(old.held()[0].code.as_ref().unwrap().fingerprint, "engine-1");
    assert_eq!(cluster.compiled(), 2);
    let version = v1::GetVersionRequest { name: format!("{TILL}/versions/1") };
    assert!(cluster.functions().get_version(version).await.is_ok());
}
